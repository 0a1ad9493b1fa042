# shellcheck shell=bash disable=SC2034 # the lists are for whoever sources this
# What demo.sh, test.sh and the scripts in tests share: the lists of packages, short messages, and
# running a long command with its output in a log. Sourced, never run.

# Debian 12 packages to build everything.
build_packages=(
  g++ cmake ninja-build
  libboost1.81-dev libxen-dev libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev
  libzstd-dev libpugixml-dev libxxhash-dev libssl-dev
  libgtest-dev libgmock-dev
  socat
)
# What the tests drive besides: xenstore-write and its like, Debian's own vchan-socket-proxy, and
# what draws the plots of xenlane bench, and programs that use channels without knowing of them.
test_packages=(xenstore-utils xen-utils-4.17 gnuplot-nox qemu-guest-agent openssh-server
  openssh-client rsync postgresql redis-server redis-tools nginx-light wrk curl)
# What the benchmarks of single steps need besides.
bench_packages=(libbenchmark-dev)
# What the fuzz targets need besides: clang and its sanitizers' and libFuzzer's libraries.
fuzz_packages=(clang-14 libclang-rt-14-dev)
# What reads the counts of tests/coverage.sh.
coverage_packages=(gcovr)

say() { printf '==> %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# The process group of the command that run_job is waiting for.
job=

# Runs a command in a process group of its own, so that whatever ends the script can end all of it.
run_job() {
  set -m
  "$@" </dev/null 9>&- &
  job=$!
  set +m
  local status=0
  wait "$job" || status=$?
  job=
  return "$status"
}

end_job() {
  [[ -n $job ]] || return 0
  kill -TERM -- "-$job" 2>/dev/null || true
  wait "$job" 2>/dev/null || true
  job=
}

# Quiet while all is well: run_logged LOG COMMAND... shows the log's end when the command fails.
run_logged() {
  local log=$1 status=0
  shift
  run_job "$@" >"$log" 2>&1 || status=$?
  ((status == 0)) && return 0
  tail -n 60 "$log" >&2
  printf '%s: failed (exit code %d): %s\nthe whole log: %s\n' "${0##*/}" "$status" "$*" "$log" >&2
  return "$status"
}

# Two builds at once in one folder ruin each other: waits until no other script is at it.
lock_builds() {
  mkdir -p "$1"
  exec 9>"$1/.lock"
  flock -n 9 && return 0
  say "waiting for another demo.sh or test.sh to finish with $1"
  flock 9
}

unlock_builds() {
  exec 9>&-
}

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Installs those of the given packages that are missing; exits with 2 when that cannot be done.
require_packages() {
  local package missing=() absent=() as_root=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "${0##*/}: this is no Debian system; install what these Debian 12 packages hold: $*" >&2
    exit 2
  fi
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      echo "${0##*/}: packages are missing; run this as root, then try again:" >&2
      echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
      exit 2
    fi
    as_root=(sudo -n)
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  # A foreign archive that does not answer need not matter: what counts is whether the packages
  # can be had.
  run_logged "$log" "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update ||
    say "apt-get update failed; trying with the lists that are there"
  for package in "${missing[@]}"; do
    [[ -n $(apt-cache madison "$package" 2>/dev/null) ]] || absent+=("$package")
  done
  if ((${#absent[@]} > 0)); then
    rm -f "$log"
    local release
    release=$(. /etc/os-release && echo "$PRETTY_NAME")
    echo "${0##*/}: $release, with the archives that are configured here, has no package" \
      "${absent[*]}; xenlane is built on Debian 12" >&2
    exit 2
  fi
  run_logged "$log" "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y \
    --no-install-recommends "${missing[@]}" || exit 2
  rm -f "$log"
}

# The sanitizers of GCC 12 and clang 14 know address layouts of at most 28 random bits; newer
# kernels use 32, and then a program now and then dies before main. Sets what goes in front of it.
steady=()
steady_addresses() {
  local bits
  bits=$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)
  ((bits > 28)) || return 0
  if setarch -R true 2>/dev/null; then
    steady=(setarch -R)
  else
    say "warning: vm.mmap_rnd_bits is $bits and setarch -R is not permitted; sanitizers may crash"
  fi
}

# Seconds since the script started, for people.
elapsed() {
  printf '%d min %02d s' $((SECONDS / 60)) $((SECONDS % 60))
}
