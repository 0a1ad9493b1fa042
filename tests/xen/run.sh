#!/usr/bin/env bash
# Boots real Xen 4.17 with a Debian domain 0, a PV and a PVH guest under QEMU's emulation,
# on any machine, and runs xenlane's programs end to end there.
#
#   tests/xen/run.sh [--scenario NAME ...] [--oxenstored] [--keep] [--shell]
#
#   --scenario NAME   only this one, repeatable; --list shows the names
#   --oxenstored      with the OCaml xenstored in place of the C one
#   --keep            leaves the folder of the run with all its logs after success too
#   --shell           a shell in domain 0 in place of the scenarios; Ctrl-A X ends QEMU
#   --build DIR       where bin/ with the programs is (default: build/release, built if needed)
#   --time-limit S    ends the machine after S seconds (default 480)
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
programs=(xenlane xenlane-host xenlane-guest)
scenarios=()
build=
keep=0
shell=0
oxenstored=0
time_limit_s=480

usage() { sed -n '5,15s/^# \{0,1\}//p' "$xen_tests/run.sh"; }

while (($# > 0)); do
  case $1 in
    --scenario) scenarios+=("${2:?--scenario needs a name}") && shift ;;
    --list)
      python3 "$xen_tests/suite/main.py" --list
      exit
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
qemu=
follower=
stop_machine() {
  [[ -z $follower ]] || kill "$follower" 2>/dev/null || true
  [[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
  [[ -z $qemu ]] || wait "$qemu" 2>/dev/null || true
  qemu=
}
clean_up() {
  end_job
  stop_machine
  [[ -z ${half_made:-} ]] || rm -rf -- "$half_made"
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
  local key
  key=$(image_key)
  images=$cache/$key
  [[ ! -d $images ]] || return 0
  ((EUID == 0)) || {
    echo "${0##*/}: debootstrap has to be root to make the images; run this as root once" >&2
    exit 2
  }
  half_made=$images.part.$$
  mkdir -p "$half_made"
  say "making the images (a few minutes, once)"
  run_logged "$cache/images.log" build_images "$half_made"
  mv "$half_made" "$images"
  half_made=
  say "made in $SECONDS s"
}

# The folder that domain 0 sees as /xen-test: the suite, xenlane, the guests' images; and the logs.
lay_out() {
  work=$(mktemp -d "${TMPDIR:-/tmp}/xenlane-xen.XXXXXX")
  mkdir -p "$work"/{logs,guest,programs}
  cp -r "$xen_tests/suite" "$work/"
  local program laid="$work/overlay"
  for program in "${programs[@]}"; do
    mkdir -p "$work/stripped"
    strip -o "$work/stripped/$program" "$build/bin/$program"
  done
  copy_with_libraries "$laid" "$work"/stripped/xenlane{,-guest}
  mkdir -p "$laid/guest"
  cp "$xen_tests"/guest/{services,exchange,guest.toml} "$laid/guest/"
  pack "$laid" "$work/overlay.gz"
  # The kernel unpacks one archive after another.
  cat "$images/guest-base.gz" "$work/overlay.gz" >"$work/guest/initrd.gz"
  cp "$images/vmlinux" "$work/guest/"
  # Domain 0 has its own C library; of the others it takes ours.
  copy_with_libraries "$work/programs" "$work"/stripped/xenlane{,-host}
  mkdir -p "$work/programs/flat"
  find "$work/programs/lib" -name '*.so*' -exec mv -t "$work/programs/flat" {} +
  rm -rf "$work"/programs/{lib,lib64} "$work"/programs/flat/{ld-linux*,libc.so*,libm.so*,libxen*}
  mv "$work/programs/flat" "$work/programs/lib"
  rm -rf "$laid" "$work/overlay.gz" "$work/stripped"
  echo "${scenarios[*]}" >"$work/arguments"
  : >"$work/logs/results"
  ((shell == 0)) || touch "$work/shell"
  ((oxenstored == 0)) || touch "$work/oxenstored"
}

boot() {
  local serial=(-serial "file:$work/logs/serial.log")
  ((shell == 0)) || serial=(-serial mon:stdio)
  # Without smap and smep domain 0 would live no longer than a page fault, and without rdtscp a PVH
  # guest does not start: QEMU's emulation of the three is not good enough for Xen. Without
  # eager-fpu Xen leaves a domain's vector registers in the processor until another uses them, and
  # QEMU 7.2 does not tell it of AVX instructions that do: copied memory is silently altered.
  exec qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max,-smap,-smep,-rdtscp \
    -smp 2 -m 2560 -nographic -nodefaults -no-reboot -monitor none "${serial[@]}" \
    -kernel "$images/xen.elf" \
    -append "console=com1 com1=115200,8n1 dom0_mem=1536M,max:1536M dom0_max_vcpus=2 conring_size=4M
      loglvl=all guest_loglvl=all spec-ctrl=eager-fpu" \
    -initrd "$images/vmlinux console=hvc0 quiet mitigations=off,$images/dom0-initrd.gz" \
    -drive "file=$images/dom0.img,format=raw,if=virtio,cache=unsafe,snapshot=on" \
    -virtfs "local,path=$work,mount_tag=xen-test,security_model=none"
}

run_suite() {
  boot </dev/null >"$work/logs/qemu.log" 2>&1 &
  qemu=$!
  tail --pid="$qemu" -n +1 -f "$work/logs/results" &
  follower=$!
  local begin=$SECONDS
  while kill -0 "$qemu" 2>/dev/null; do
    if ((SECONDS - begin > time_limit_s)); then
      say "the machine is ended after $time_limit_s s"
      break
    fi
    sleep 0.5
  done
  stop_machine
  wait "$follower" 2>/dev/null || true
}

require_packages "${machine_packages[@]}"
build_programs
make_images
lay_out
if ((shell == 1)); then
  # In the foreground, for the terminal's sake.
  (boot) || true
  exit 0
fi
say "booting Xen; logs: $work/logs"
run_suite
# The suite's last line; without it the machine died or the time was up.
if [[ $(tail -n 1 "$work/logs/results") =~ ^[1-9][0-9]*\ passed,\ 0\ failed$ ]]; then
  say "done in $(elapsed)"
  ((keep == 1)) || rm -rf -- "$work"
  exit 0
fi
if ! grep -qE '^[0-9]+ passed, [0-9]+ failed$' "$work/logs/results"; then
  tail -n 15 "$work"/logs/{serial,suite}.log >&2 || true
  passed=$(grep -c '^ok ' "$work/logs/results" || true)
  echo "$passed passed, 1 failed"
fi
say "FAILED after $(elapsed); logs: $work/logs"
exit 1
