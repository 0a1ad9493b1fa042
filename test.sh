#!/usr/bin/env bash
# Builds everything and runs the tests in four passes:
#
#   release   every test
#   xen       the programs of that pass on real Xen, under emulation (tests/xen)
#   asan      every test, with AddressSanitizer and UndefinedBehaviorSanitizer
#   tsan      the tests labelled fast, with ThreadSanitizer
#
#   ./test.sh           all four; exit code 0: all passed; 1: not; 2: packages are missing
#   ./test.sh --fast    the release pass alone
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

passes=(release xen asan tsan)
case ${1:-} in
  --fast) passes=(release) ;;
  '') ;;
  *)
    sed -n '2,10s/^# \{0,1\}//p' "$root/test.sh" >&2
    exit 2
    ;;
esac

trap end_job EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

failures=()

# GCC 12's sanitizers know address layouts of at most 28 random bits; newer kernels use 32, and then
# a program now and then dies before main.
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

# ctest_part PASS NAME CTEST_ARGUMENTS...: the summary on stdout, all the rest in a log.
ctest_part() {
  local pass=$1 name=$2 log=$root/build/$1/test-$2.log status=0
  shift 2
  say "$pass: running the $name tests"
  run_job "${steady[@]}" ctest --preset "$pass" --no-tests=error "$@" >"$log" 2>&1 || status=$?
  if ((status == 0)); then
    sed -n '/ tests passed, /,$p' "$log"
    return 0
  fi
  grep -vE '^ +Start |  Passed  ' "$log" | tail -n 200 || true
  say "$pass: the $name tests FAILED (exit code $status); the whole log: $log"
  failures+=("$pass/$name")
}

run_xen_pass() {
  # Without them the release pass has failed, and said so.
  [[ -x $root/build/release/bin/xenlane-host ]] || return 0
  run_job "$root/tests/xen/run.sh" --build "$root/build/release" || failures+=(xen)
}

run_pass() {
  local pass=$1 begin=$SECONDS target=all
  [[ $pass != tsan ]] || target=fast_tests
  mkdir -p "$root/build/$pass"
  steady=()
  [[ $pass == release ]] || steady_addresses
  say "$pass: building (log: build/$pass/test-build.log)"
  if ! run_logged "$root/build/$pass/test-configure.log" cmake --preset "$pass" ||
    ! run_logged "$root/build/$pass/test-build.log" \
      "${steady[@]}" cmake --build --preset "$pass" --target "$target"; then
    failures+=("$pass/build")
    return 0
  fi
  say "$pass: built in $((SECONDS - begin)) s"
  ctest_part "$pass" fast -L '^fast$' -j2
  [[ $pass == tsan ]] || ctest_part "$pass" e2e -LE '^fast$' -j1
  say "$pass: took $((SECONDS - begin)) s"
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  local pass
  require_packages "${build_packages[@]}" "${test_packages[@]}" \
    "${bench_packages[@]}"
  lock_builds "$root/build"
  cd "$root"
  for pass in "${passes[@]}"; do
    if [[ $pass == xen ]]; then run_xen_pass; else run_pass "$pass"; fi
  done
  if ((${#failures[@]} > 0)); then
    say "FAILED after $(elapsed): ${failures[*]}"
    exit 1
  fi
  say "all passed in $(elapsed): ${passes[*]}"
  exit 0
}

main
