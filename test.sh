#!/usr/bin/env bash
# Builds everything and runs the tests in eight passes:
#
#   release   the tests labelled fast and e2e
#   sim       2,000 simulations with fresh seeds (tests/sim)
#   bench     xenlane bench on the simulated Xen, held against tests/bench/budgets.toml
#   xen       the programs of the release pass on real Xen, under emulation (tests/xen)
#   fuzz      every fuzz target for a while (tests/fuzz)
#   mutants   planted bugs, each of which a test must notice: a third of them, with the next commit
#             the next third (tests/mutants)
#   asan      the tests labelled fast and slow, and a third of those labelled e2e, with
#             AddressSanitizer and UndefinedBehaviorSanitizer
#   tsan      the tests labelled fast that have threads, with ThreadSanitizer
#
#   ./test.sh           all of them; exit code 0: all passed; 1: not; 2: packages are missing
#   ./test.sh --fast    the release pass alone, with the tests labelled slow
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

passes=(release sim bench xen fuzz mutants asan tsan)
slow_pass=asan # the slow tests run once, where most would show
case ${1:-} in
  --fast) passes=(release) slow_pass=release ;;
  '') ;;
  *)
    sed -n '2,16s/^# \{0,1\}//p' "$root/test.sh" >&2
    exit 2
    ;;
esac

trap end_job EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

failures=()

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

# Passes that run what the release pass has built. Without it that one has failed, and said so.
run_xen_pass() {
  [[ -x $root/build/release/bin/xenlane-host ]] || return 0
  run_job "$root/tests/xen/run.sh" --rounds 12 --build "$root/build/release" || failures+=(xen)
}

run_sim_pass() {
  local program=$root/build/release/bin/xenlane-sim
  [[ -x $program ]] || return 0
  say "sim: running 2000 seeds"
  run_job "$program" --seeds 2000 || failures+=(sim)
}

run_bench_pass() {
  [[ -x $root/build/release/bin/bench_plain ]] || return 0
  say "bench: measuring both lanes"
  run_job "$root/tests/bench/lanes.sh" --sizes 64,64K --rounds 3 --time 0.1 \
    --check "$root/tests/bench/budgets.toml" || failures+=(bench)
}

# Which third of what takes long is run: with the next commit it is the next one.
third() {
  echo $(($(git rev-list --count HEAD 2>/dev/null || echo 0) % 3))
}

run_mutants_pass() {
  run_job "$root/tests/mutants/run.sh" --third "$(third)" || failures+=(mutants)
}

run_pass() {
  local pass=$1 begin=$SECONDS targets=(all)
  [[ $pass != asan ]] || targets=(fast_tests slow_tests e2e_tests)
  [[ $pass != tsan ]] || targets=(fast_tests)
  mkdir -p "$root/build/$pass"
  steady=()
  [[ $pass == release ]] || steady_addresses
  say "$pass: building (log: build/$pass/test-build.log)"
  if ! run_logged "$root/build/$pass/test-configure.log" cmake --preset "$pass" ||
    ! run_logged "$root/build/$pass/test-build.log" \
      "${steady[@]}" cmake --build --preset "$pass" --target "${targets[@]}"; then
    failures+=("$pass/build")
    return 0
  fi
  say "$pass: built in $((SECONDS - begin)) s"
  ctest_part "$pass" fast -L '^fast$' -j2
  [[ $pass != "$slow_pass" ]] || ctest_part "$pass" slow -L '^slow$' -j2
  case $pass in
    release) ctest_part "$pass" e2e -L '^e2e$' -j2 ;;
    asan) ctest_part "$pass" e2e -L '^e2e$' -j2 -I "$(($(third) + 1)),,3" ;;
  esac
  say "$pass: took $((SECONDS - begin)) s"
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  local pass
  require_packages "${build_packages[@]}" "${test_packages[@]}" \
    "${bench_packages[@]}" "${fuzz_packages[@]}"
  lock_builds "$root/build"
  cd "$root"
  for pass in "${passes[@]}"; do
    case $pass in
      xen) run_xen_pass ;;
      sim) run_sim_pass ;;
      bench) run_bench_pass ;;
      fuzz) run_job "$root/tests/fuzz/run.sh" --seconds 10 || failures+=(fuzz) ;;
      mutants) run_mutants_pass ;;
      *) run_pass "$pass" ;;
    esac
  done
  if ((${#failures[@]} > 0)); then
    say "FAILED after $(elapsed): ${failures[*]}"
    exit 1
  fi
  say "all passed in $(elapsed): ${passes[*]}"
  exit 0
}

main
