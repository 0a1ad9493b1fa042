#!/usr/bin/env bash
# Builds everything and runs the tests, in passes:
#
#   release   the tests labelled fast and e2e
#   sim       2,000 simulations with fresh seeds (tests/sim)
#   bench     xenlane bench on the simulated Xen, held against tests/bench/budgets.toml
#   xen       the programs of the release pass on real Xen, under emulation (tests/xen)
#
# and what takes longest in turns, one with each commit:
#
#   turn 0    asan: the tests labelled fast and slow, with AddressSanitizer and
#             UndefinedBehaviorSanitizer
#   turn 1    asan: half of the tests labelled e2e, at its next turn the other half
#             tsan: the tests labelled fast that have threads, with ThreadSanitizer
#   turn 2    fuzz: every fuzz target for a while (tests/fuzz)
#             mutants: planted bugs, each of which a test must notice: a third of them, at its
#             next turn the next third (tests/mutants)
#
#   ./test.sh            exit code 0: all passed; 1: not; 2: packages are missing
#   ./test.sh --turn N   with the turn 0, 1 or 2, whichever commit this is
#   ./test.sh --whole    with all turns, all of e2e and all planted bugs
#   ./test.sh --fast     the release pass alone, with the tests labelled slow
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

usage() {
  sed -n '2,22s/^# \{0,1\}//p' "$root/test.sh" >&2
  exit 2
}

commits=$(git -C "$root" rev-list --count HEAD 2>/dev/null || echo 0)
turn=$((commits % 3))
later=$((commits / 3)) # counts the turns of each kind
case ${1:-} in
  --turn)
    [[ ${2:-} == [012] ]] || usage
    turn=$2
    ;;
  --whole) turn=whole ;;
  --fast) turn=none ;;
  '') ;;
  *) usage ;;
esac

trap end_job EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

failures=()

# failed NAME LOG PATTERN: its lines with that, or its last ones, are said again in the end.
failed() {
  failures+=("$1")
  { grep -E "$3" "$2" || cat "$2"; } | sed "s|^ *|  $1: |" | tail -n 15 \
    >>"$root/build/test-failures"
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
  failed "$pass/$name" "$log" '^\s+[0-9]+ - .*\((Failed|Timeout|SEGFAULT|.*Exception.*|Not Run)\)'
}

# script_part NAME COMMAND...: what it says goes to stdout and into a log.
script_part() {
  local name=$1 log=$root/build/test-$1.log status=0 tee
  shift
  exec 8> >(exec tee "$log")
  tee=$!
  run_job "$@" >&8 8>&- || status=$?
  exec 8>&-
  wait "$tee" || true
  ((status == 0)) || failed "$name" "$log" 'FAILED|BROKEN|SURVIVED|ERROR|failed'
}

# Passes that run what the release pass has built. Without it that one has failed, and said so.
run_xen_pass() {
  [[ -x $root/build/release/bin/xenlane-host ]] || return 0
  script_part xen "$root/tests/xen/run.sh" --rounds 12 --build "$root/build/release"
}

run_sim_pass() {
  local program=$root/build/release/bin/xenlane-sim
  [[ -x $program ]] || return 0
  say "sim: running 2000 seeds"
  script_part sim "$program" --seeds 2000
  ctest_part release sim -L '^sim$'
}

run_bench_pass() {
  [[ -x $root/build/release/bin/bench_plain ]] || return 0
  say "bench: measuring both lanes"
  script_part bench "$root/tests/bench/lanes.sh" --sizes 64,64K --rounds 3 --time 0.1 \
    --check "$root/tests/bench/budgets.toml"
}

run_mutants_pass() {
  local part=(--third "$((later % 3))")
  [[ $turn != whole ]] || part=()
  script_part mutants "$root/tests/mutants/run.sh" "${part[@]}"
}

# build_pass PASS TARGET...
build_pass() {
  local pass=$1 begin=$SECONDS
  shift
  mkdir -p "$root/build/$pass"
  steady=()
  [[ $pass == release ]] || steady_addresses
  say "$pass: building (log: build/$pass/test-build.log)"
  if ! run_logged "$root/build/$pass/test-configure.log" cmake --preset "$pass" ||
    ! run_logged "$root/build/$pass/test-build.log" \
      "${steady[@]}" cmake --build --preset "$pass" --target "$@"; then
    failures+=("$pass/build")
    return 1
  fi
  say "$pass: built in $((SECONDS - begin)) s"
}

run_release_pass() {
  build_pass release all || return 0
  ctest_part release fast -L '^fast$' -j2
  [[ $turn != none ]] || ctest_part release slow -L '^(slow|sim)$' -j2
  ctest_part release e2e -L '^e2e$' -j2
}

run_asan_pass() {
  local half=(-I "$((later % 2 + 1)),,2")
  [[ $turn != whole ]] || half=()
  if [[ $turn != 1 ]]; then
    build_pass asan fast_tests slow_tests || return 0
    ctest_part asan fast -L '^fast$' -j2
    ctest_part asan slow -L '^slow$' -j2
  fi
  if [[ $turn != 0 ]]; then
    build_pass asan e2e_tests || return 0
    ctest_part asan e2e -L '^e2e$' -j2 "${half[@]}"
  fi
}

run_tsan_pass() {
  build_pass tsan fast_tests || return 0
  ctest_part tsan fast -L '^fast$' -j2
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  local pass passes=(release sim bench xen)
  case $turn in
    none) passes=(release) ;;
    0) passes+=(asan) ;;
    1) passes+=(asan tsan) ;;
    2) passes+=(fuzz mutants) ;;
    whole) passes+=(fuzz mutants asan tsan) ;;
  esac
  require_packages "${build_packages[@]}" "${test_packages[@]}" \
    "${bench_packages[@]}" "${fuzz_packages[@]}"
  lock_builds "$root/build"
  cd "$root"
  : >"$root/build/test-failures"
  [[ $turn == none ]] || say "passes: ${passes[*]} (turn $turn)"
  for pass in "${passes[@]}"; do
    local begin=$SECONDS
    case $pass in
      release) run_release_pass ;;
      sim) run_sim_pass ;;
      bench) run_bench_pass ;;
      xen) run_xen_pass ;;
      fuzz) script_part fuzz "$root/tests/fuzz/run.sh" --seconds 10 ;;
      mutants) run_mutants_pass ;;
      asan) run_asan_pass ;;
      tsan) run_tsan_pass ;;
    esac
    say "$pass: took $((SECONDS - begin)) s"
  done
  if ((${#failures[@]} > 0)); then
    cat "$root/build/test-failures"
    say "FAILED after $(elapsed): ${failures[*]}"
    exit 1
  fi
  say "all passed in $(elapsed): ${passes[*]}"
  exit 0
}

main
