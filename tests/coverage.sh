#!/usr/bin/env bash
# Says which lines of the product the tests run, in a build of its own (build/coverage): all tests
# labelled fast and e2e, the replay of the fuzz corpora among them, and a few simulated worlds.
#
# Prints a table with a line for each file, then what each folder has in total. Two folders together
# have to reach 90 % of their lines: bridge and transport, without transport/xensim. The totals of
# host and guest are for information: a process that is killed, as its broker kills a worker, leaves
# no counts, so that workers count where the simulator runs them and where a test stops one.
# build/coverage/lines.txt names the lines that were not run.
#
#   tests/coverage.sh
#
# Exit code 0: there are 90 %; 1: there are not, or a test failed; 2: packages are missing.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

build=$root/build/coverage
percent_min=90
# The simulator's seeds. Each runs in a process of its own that comes to its end: the processes of
# a campaign leave without writing down what they ran.
seeds=60

if (($# > 0)); then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi

build_all() {
  local begin=$SECONDS
  mkdir -p "$build"
  say "coverage: building (log: build/coverage/test-build.log)"
  run_logged "$build/test-configure.log" cmake --preset coverage || exit 1
  run_logged "$build/test-build.log" cmake --build --preset coverage || exit 1
  say "coverage: built in $((SECONDS - begin)) s"
  "$root/tests/coverage_notes.py" "$build" >"$build/notes.log" || exit 1
  # Counts of an earlier run, and of listing the tests, are none of this run's.
  find "$build" -name '*.gcda' -delete
}

# Two tests run the tool as another user. It may add to the counts only if their files are there and
# everybody's; else it complains on stderr, where those tests read.
open_counts_of_tool() {
  (umask 0 && "$build/bin/xenlane" --version >"$build/tool.log")
}

# run_tests LABEL JOBS
run_tests() {
  local log=$build/test-$1.log
  say "coverage: running the $1 tests"
  run_logged "$log" ctest --preset coverage --no-tests=error -L "^$1\$" -j "$2" || exit 1
  sed -n '/ tests passed, /p' "$log"
}

simulate() {
  say "coverage: simulating $seeds worlds"
  seq "$seeds" >"$build/seeds"
  run_logged "$build/simulation.log" \
    xargs --arg-file "$build/seeds" --max-procs 2 --max-args 1 "$build/bin/xenlane-sim" --seed ||
    exit 1
}

count_lines() {
  say "coverage: counting lines"
  run_logged "$build/gcovr.log" gcovr --root "$root" --object-directory "$build" -j 2 \
    --filter "$root/(bridge|transport|host|guest)/" --exclude "$root/transport/xensim/" \
    --csv "$build/lines.csv" --txt "$build/lines.txt" "$build" || exit 1
}

# From gcovr's CSV, whose first fields are file, lines, lines run. Fails below percent_min.
print_table() {
  awk -F, -v percent_min="$percent_min" '
    function show(name, all, run) {
      printf "    %-40s %5d of %5d lines  %5.1f %%\n", name, run, all, all ? 100 * run / all : 0
    }
    NR == 1 { next }
    {
      show($1, $2, $3)
      folder = $1
      sub("/.*", "", folder)
      lines[folder] += $2
      lines_run[folder] += $3
    }
    END {
      print ""
      for (i = split("bridge transport host guest", folders, " "); i > 0; --i) {
        folder = folders[5 - i]
        show(folder, lines[folder], lines_run[folder])
      }
      all = lines["bridge"] + lines["transport"]
      run = lines_run["bridge"] + lines_run["transport"]
      show("bridge and transport", all, run)
      exit !(all > 0 && 100 * run >= percent_min * all)
    }' "$build/lines.csv"
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  require_packages "${build_packages[@]}" "${test_packages[@]}" "${coverage_packages[@]}"
  trap end_job EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  lock_builds "$build"
  cd "$root"
  build_all
  open_counts_of_tool
  run_tests fast 2
  run_tests e2e 1
  simulate
  count_lines
  print_table ||
    fail "less than $percent_min % of bridge and transport; build/coverage/lines.txt has the lines"
  say "coverage: took $(elapsed)"
}

main
