#!/usr/bin/env bash
# Boots real Xen 4.17 with a Debian domain 0, a PV and a PVH guest under QEMU's emulation,
# on any machine, and runs xenlane's programs end to end there.
#
#   tests/xen/run.sh [--scenario NAME ...] [--oxenstored] [--keep] [--shell]
#
#   --scenario NAME   only this one, repeatable; --list shows the names
#   --rounds N        how often guests are destroyed and daemons killed (default 20),
#                     2 at least: each guest's turn comes
#   --oxenstored      with the OCaml xenstored in place of the C one
#   --keep            leaves the folder of the run with all its logs after success too
#   --shell           a shell in domain 0 in place of the scenarios; Ctrl-A X ends QEMU
#   --build DIR       where bin/ with the programs is (default: build/release, built if needed)
#   --time-limit S    ends the machines after S seconds (default 1800)
#
# Exit code 0: all passed; 1: not; 2: something is missing. Images are kept in
# $XDG_CACHE_HOME/xenlane-xen (default ~/.cache).
set -euo pipefail

xen_tests=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$xen_tests/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"
# shellcheck source=tests/xen/images.sh
source "$xen_tests/images.sh"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/xenlane-xen
programs=(xenlane xenlane-host xenlane-guest xen-console-setup resume_probe vchan_loop await_link
  bench_paths bench_plain)
scenarios=()
build=
keep=0
shell=0
oxenstored=0
time_limit_s=1800
rounds=20
machine_mib=2560

usage() { sed -n '5,17s/^# \{0,1\}//p' "$xen_tests/run.sh"; }

while (($# > 0)); do
  case $1 in
    --scenario) scenarios+=("${2:?--scenario needs a name}") && shift ;;
    --list)
      python3 "$xen_tests/suite/main.py" --list
      exit
      ;;
    --rounds)
      [[ ${2:-} =~ ^([2-9]|[1-9][0-9]+)$ ]] || { usage >&2 && exit 2; }
      rounds=$2
      shift
      ;;
    --oxenstored) oxenstored=1 ;;
    --keep) keep=1 ;;
    --shell) shell=1 ;;
    --build) build=$(realpath "${2:?--build needs a folder}") && shift ;;
    --time-limit) time_limit_s=${2:?--time-limit needs seconds} && shift ;;
    --help)
      usage
      exit
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done

work=
machines=()
stop_machines() {
  ((${#machines[@]} > 0)) || return 0
  kill "${machines[@]}" 2>/dev/null || true
  wait "${machines[@]}" 2>/dev/null || true
  machines=()
}
clean_up() {
  end_job
  stop_machines
  [[ -z ${half_made:-} ]] || rm -rf -- "$half_made"
  [[ -z $work || $keep == 1 ]] || rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

build_programs() {
  [[ -z $build ]] || return 0
  build=$root/build/release
  mkdir -p "$build"
  say "building ${programs[*]} (minutes the first time)"
  cd "$root"
  run_logged "$build/xen-configure.log" cmake --preset release
  run_logged "$build/xen-build.log" nice cmake --build --preset release --target "${programs[@]}"
}

# Sets images to the folder that has them. Made beside it and moved, so that it is whole or absent.
make_images() {
  local key begin=$SECONDS
  [[ -n $(kernel_package) && -n $image_mirror ]] || {
    echo "${0##*/}: apt-get knows no Debian archive with linux-image-amd64; try apt-get update" >&2
    exit 2
  }
  key=$(image_key)
  images=$cache/$key
  [[ ! -d $images ]] || return 0
  ((EUID == 0)) || {
    echo "${0##*/}: debootstrap has to be root to make the images; run this as root once" >&2
    exit 2
  }
  half_made=$images.part.$$
  mkdir -p "$half_made"
  say "making the images (a minute or two, once)"
  run_logged "$cache/images.log" build_images "$half_made"
  mv "$half_made" "$images"
  half_made=
  say "made in $((SECONDS - begin)) s"
}

# lay_out_channels FOLDER: what the guest with systemd has besides: the guest's side as it is
# installed, agents, and their units.
lay_out_channels() {
  local laid=$1 unit
  DESTDIR=$laid run_logged "$work/install.log" \
    cmake --install "$build" --prefix / --component guest --strip
  copy_with_libraries "$laid" "$work/stripped/await_link"
  copy_with_libraries "$laid" "$work/stripped/xen-console-setup"
  rm "$laid/bin/xen-console-setup"
  mkdir -p "$laid/guest"
  cp "$xen_tests/guest/channels/cloud-agent" "$laid/guest/"
  mkdir -p "$laid/etc/systemd/system"
  cp -r "$xen_tests"/guest/channels/*.{service,service.d,target} "$laid/etc/systemd/system/"
  for unit in "$laid"/etc/systemd/system/*.service; do
    run_logged "$work/install.log" systemctl --root="$laid" enable "${unit##*/}"
  done
  pack "$laid" "$work/channels.cpio"
}

# The folder that domain 0 sees as /xen-test: the suite, xenlane, the guests' parts, what is to be
# done, and the logs.
lay_out() {
  work=$(mktemp -d "${TMPDIR:-/tmp}/xenlane-xen.XXXXXX")
  mkdir -p "$work"/{logs,guest,programs,queue,taken}
  ((shell == 0)) || mkdir "$work/logs/1"
  cp -r "$xen_tests/suite" "$work/"
  local program laid="$work/overlay"
  for program in "${programs[@]}"; do
    mkdir -p "$work/stripped"
    strip -o "$work/stripped/$program" "$build/bin/$program"
  done
  copy_with_libraries "$laid" \
    "$work"/stripped/{xenlane,xenlane-guest,resume_probe,vchan_loop,bench_paths,bench_plain}
  mkdir -p "$laid/guest"
  cp "$xen_tests/guest/init" "$laid/"
  cp "$xen_tests"/guest/{services,exchange,dialogue,trickle,guest.toml} "$laid/guest/"
  # A real text, to see how well texts pack; both domains have it.
  find /usr/share/common-licenses -type f -print0 | LC_ALL=C sort -z |
    xargs -0 cat >"$work/guest/text"
  cp "$work/guest/text" "$laid/guest/"
  pack "$laid" "$work/overlay.cpio"
  lay_out_channels "$work/channels"
  # The kernel unpacks one archive after another.
  cat "$images/guest-base.cpio" "$work/overlay.cpio" >"$work/guest/initrd.cpio"
  cat "$work/guest/initrd.cpio" "$images/guest-systemd.cpio" "$work/channels.cpio" \
    >"$work/guest/channels.cpio"
  cp "$images/vmlinux" "$work/guest/"
  # Domain 0 has its own C library; of the others it takes ours.
  copy_with_libraries "$work/programs" \
    "$work"/stripped/{xenlane,xenlane-host,vchan_loop,bench_paths,bench_plain}
  mkdir -p "$work/programs/flat"
  find "$work/programs/lib" -name '*.so*' -exec mv -t "$work/programs/flat" {} +
  rm -rf "$work"/programs/{lib,lib64} "$work"/programs/flat/{ld-linux*,libc.so*,libm.so*,libxen*}
  mv "$work/programs/flat" "$work/programs/lib"
  rm -rf "$laid" "$work"/{channels,overlay.cpio,channels.cpio,stripped}
  local number=10 scenario
  for scenario in "${scenarios[@]}"; do
    touch "$work/queue/$((number++)) $scenario"
  done
  ((shell == 0)) || touch "$work/shell"
  echo "$rounds" >"$work/rounds"
  ((oxenstored == 0)) || touch "$work/oxenstored"
}

# boot N: becomes the N-th machine.
boot() {
  local logs=$work/logs/$1 kernel serial
  serial=(-serial "file:$logs/serial.log")
  ((shell == 0)) || serial=(-serial mon:stdio)
  kernel="$images/vmlinux console=hvc0 quiet mitigations=off xen-test=$1"
  # Without smap and smep domain 0 would live no longer than a page fault, and without rdtscp a PVH
  # guest does not start: QEMU's emulation of the three is not good enough for Xen. Without
  # eager-fpu Xen leaves a domain's vector registers in the processor until another uses them, and
  # QEMU 7.2 does not tell it of AVX instructions that do: copied memory is silently altered. With a
  # second processor, whose interrupts come at any moment, PVH guests do not live long. With
  # fsgsbase a PV kernel reads a register at each context switch that Xen has to emulate.
  exec qemu-system-x86_64 -machine q35 -accel tcg,thread=multi \
    -cpu max,-smap,-smep,-rdtscp,-fsgsbase -smp 1 -m "$machine_mib" \
    -nographic -nodefaults -no-reboot -monitor none "${serial[@]}" \
    -kernel "$images/xen.elf" \
    -append "console=com1 com1=115200,8n1 dom0_mem=1536M,max:1536M dom0_max_vcpus=1 conring_size=4M
      loglvl=all guest_loglvl=all spec-ctrl=eager-fpu" \
    -initrd "$kernel,$images/dom0-initrd.cpio" \
    -drive "file=$images/dom0.img,format=raw,if=virtio,cache=unsafe,snapshot=on" \
    -virtfs "local,path=$work,mount_tag=xen-test,security_model=none"
}

# How many at the same time: as many as there are processors and memory for, and work.
machines_at_once() {
  local count free_mib
  free_mib=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
  count=$(nproc)
  ((count <= free_mib / (machine_mib + 256))) || count=$((free_mib / (machine_mib + 256)))
  ((count <= 4)) || count=4
  ((count <= ${#scenarios[@]})) || count=${#scenarios[@]}
  ((count >= 1)) || count=1
  echo "$count"
}

# What the machines have said since the last call.
declare -A shown=()
show_results() {
  local results machine lines
  for results in "$work"/logs/*/results; do
    machine=$(basename "$(dirname "$results")")
    lines=$(wc -l <"$results")
    ((lines > ${shown[$machine]:-0})) || continue
    sed -n "$((${shown[$machine]:-0} + 1)),${lines}s/^/[$machine] /p" "$results"
    shown[$machine]=$lines
  done
}

# How long a machine may use no processor at all. One whose domains only wait still uses some.
stall_s=30
stalls_max=4
stalls=0
declare -A ticks=() ticks_at=()

# QEMU 7.2 may lose the timer's interrupt while Xen sleeps: then nothing ever wakes it again. Such a
# machine is ended, and another takes over what it was at.
replace_stalled() {
  local index pid now at
  for index in "${!machines[@]}"; do
    pid=${machines[index]}
    now=$(awk '{ print $14 + $15 }' "/proc/$pid/stat" 2>/dev/null) || continue
    if ((now > ${ticks[$pid]:--3} + 2)); then
      ticks[$pid]=$now ticks_at[$pid]=$SECONDS
    elif ((SECONDS - ticks_at[$pid] >= stall_s && stalls < stalls_max)); then
      stalls=$((stalls + 1))
      kill -KILL "$pid" 2>/dev/null || true
      wait "$pid" 2>/dev/null || true
      at=$(cat "$work/logs/$((index + 1))/at" 2>/dev/null || true)
      say "again, the emulator has stopped: machine $((index + 1)), ${at:-start}"
      touch "$work/logs/$((index + 1))/stopped"
      [[ -z $at || ! -e $work/taken/$at ]] || mv "$work/taken/$at" "$work/queue/"
      start_machine
    fi
  done
}

start_machine() {
  local number=$((${#machines[@]} + 1))
  mkdir -p "$work/logs/$number"
  : >"$work/logs/$number/results"
  boot "$number" </dev/null >"$work/logs/$number/qemu.log" 2>&1 &
  machines+=($!)
}

some_alive() {
  local machine
  for machine in "${machines[@]}"; do
    ! kill -0 "$machine" 2>/dev/null || return 0
  done
  return 1
}

run_suite() {
  local begin=$SECONDS number count
  count=$(machines_at_once)
  say "booting Xen, $count at a time for ${#scenarios[@]} scenarios; logs: $work/logs"
  for ((number = 1; number <= count; ++number)); do start_machine; done
  while some_alive; do
    show_results
    replace_stalled
    if ((SECONDS - begin > time_limit_s)); then
      say "the time is up after $time_limit_s s"
      break
    fi
    sleep 0.5
  done
  stop_machines
  show_results
}

# True when every scenario has passed and every machine has come to its end.
sum_up() {
  local passed failed logs left expected=${#scenarios[@]}
  passed=$(cat "$work"/logs/*/results | grep -c '^ok ' || true)
  failed=$(cat "$work"/logs/*/results | grep -c '^FAILED ' || true)
  for logs in "$work"/logs/[0-9]*; do
    if [[ -e $logs/stopped ]]; then  # what it had finished counts
      expected=$((expected + $(grep -c '^ok     start' "$logs/results" || true)))
      continue
    fi
    expected=$((expected + 1))  # its start
    [[ ! -e $logs/done ]] || continue
    echo "machine ${logs##*/} did not come to its end:" >&2
    tail -n 15 "$logs"/{serial,suite}.log >&2 || true
    failed=$((failed + 1))
  done
  for left in "$work"/queue/*; do
    [[ ! -e $left ]] || failed=$((failed + 1))
  done
  echo "$passed passed, $failed failed"
  ((failed == 0 && passed == expected))
}

require_packages "${machine_packages[@]}"
if ((${#scenarios[@]} == 0)); then
  names=$(python3 "$xen_tests/suite/main.py" --list)
  mapfile -t scenarios <<<"$names"
fi
build_programs
make_images
lay_out
if ((shell == 1)); then
  # In the foreground, for the terminal's sake.
  (boot 1) || true
  exit 0
fi
run_suite
if sum_up; then
  say "done in $(elapsed)"
  exit 0
fi
keep=1
say "FAILED after $(elapsed); logs: $work/logs"
exit 1
