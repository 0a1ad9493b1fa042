#!/usr/bin/env bash
# Plants bugs, one at a time, and sees whether the tests notice.
#
# Each NN-name.patch beside this script is a bug of a kind that has happened to somebody. Its first
# lines say which (class, source), the program that must be built to notice it (build) and which of
# its tests should (test, a --gtest_filter). They are applied to a copy of the tree in
# build/mutants, never to the tree itself.
#
#   tests/mutants/run.sh                 all of them
#   tests/mutants/run.sh NAME...         some, by number or a part of the name
#   tests/mutants/run.sh --third K       every third of them, beginning with the K-th of 0, 1, 2
#   tests/mutants/run.sh --list [NAME...]  only say what they are
#
# Exit code 0: every bug was noticed; 1: one was not, or a patch does not apply or build any more,
# or a test fails without any bug; 2: wrong usage.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

work=$root/build/mutants
tree=$work/tree
build=$work/build
pristine=$work/pristine # the files that a mutant's build may change, as they were before
programs=$work/programs # the built tests, each under its mutant's name
logs=$work/logs
# A bug may well show as a test that never ends. One that waits for something gives up before.
timeout_s=30
patience_s=5
# Tests that run while the next bug is being built: most wait more than they compute.
jobs_max=2

# field PATCH NAME: the value of one of the first lines.
field() {
  sed -n "/^\$/q; s/^$2: //p" "$1"
}

list_only=
third=
names=()
while (($# > 0)); do
  argument=$1
  shift
  case $argument in
    --list) list_only=yes ;;
    --third)
      [[ ${1:-} == [012] ]] || fail "--third needs 0, 1 or 2"
      third=$1
      shift
      ;;
    -*)
      sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
    *) names+=("$argument") ;;
  esac
done

patches=()
for patch in "$here"/*.patch; do
  name=$(basename "$patch" .patch)
  ((${#names[@]} > 0)) || patches+=("$patch")
  for wanted in "${names[@]}"; do
    [[ $name == *"$wanted"* ]] || continue
    patches+=("$patch")
    break
  done
done
((${#patches[@]} > 0)) || fail "no such mutant: ${names[*]}"
if [[ -n $third ]]; then
  all=("${patches[@]}")
  patches=()
  for ((number = third; number < ${#all[@]}; number += 3)); do patches+=("${all[number]}"); done
fi

if [[ -n $list_only ]]; then
  for patch in "${patches[@]}"; do
    printf '%-32s %s (%s)\n' "$(basename "$patch" .patch)" "$(field "$patch" class)" \
      "$(field "$patch" source)"
  done
  exit 0
fi

# One line for each test program that runs, those begun first at the head: its process, its mutant.
running=()

end_all() {
  local entry pid
  end_job
  for entry in "${running[@]}"; do
    read -r pid _ <<<"$entry"
    kill -TERM "$pid" 2>/dev/null || true
  done
}
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The tracked files and those about to be, with their times, so that a second run builds only what
# has changed since.
copy_tree() {
  mkdir -p "$tree" "$logs"
  git -C "$root" ls-files -z --cached --others --exclude-standard |
    (cd "$root" && tar --create --null --files-from=- --ignore-failed-read 2>/dev/null) |
    tar --extract --directory "$tree"
}

# build_targets LOG TARGET...
build_targets() {
  local log=$1
  shift
  run_job cmake --build "$build" --target "$@" >"$log" 2>&1
}

# start_tests PROGRAM FILTER MUTANT PATIENCE: begins them and returns. They have a copy of the
# program, so that the next can be built meanwhile.
start_tests() {
  local copy=$programs/$3
  cp "$build/bin/$1" "$copy"
  # In a shell of its own, whose words about signals go to the log.
  (
    trap 'kill -TERM "$tests"' TERM
    GTEST_FAIL_FAST=1 GTEST_COLOR=no XENLANE_TEST_PATIENCE_S=$4 \
      timeout --kill-after=5 "$timeout_s" "$copy" --gtest_filter="$2" &
    tests=$!
    wait "$tests"
  ) </dev/null >"$logs/$3.log" 2>&1 9>&- &
  running+=("$! $3")
}

# The test that ended a run, from its log and exit code, and how if it did not simply fail.
killer() {
  local log=$1 status=$2 name
  name=$(sed -nE 's/^\[  FAILED  \] ([^ ,]+).*/\1/p' "$log" | head -n 1)
  if [[ -n $name ]]; then
    printf '%s\n' "$name"
    return
  fi
  name=$(sed -nE 's/^\[ RUN      \] ([^ ]+).*/\1/p' "$log" | tail -n 1)
  if ((status == 124 || status == 137)); then
    printf '%s (by its time-out)\n' "$name"
  elif ((status > 128)); then
    printf '%s (SIG%s)\n' "$name" "$(kill -l $((status - 128)))"
  fi
}

# Waits for the tests that were begun first. Sets mutant and verdict: `passed`, `ERROR...`, or
# the test that failed.
finish_oldest() {
  local pid log status=0
  read -r pid mutant <<<"${running[0]}"
  wait "$pid" || status=$?
  running=("${running[@]:1}")
  log=$logs/$mutant.log
  rm -f "$programs/$mutant"
  if ((status != 0)); then
    verdict=$(killer "$log" "$status")
    [[ -n $verdict ]] || verdict="ERROR: the tests did not run (exit code $status)"
  elif grep -q '^\[  PASSED  \] [1-9]' "$log"; then
    verdict=passed
  else
    verdict="ERROR: there is no such test"
  fi
}

# Back to the tree and the build without any bug. Files keep their times, so nothing is built twice.
restore() {
  local file
  cp -a "$work/saved/." "$tree"
  while IFS= read -r -d '' file; do
    if [[ -e $pristine/$file ]]; then
      cp -p "$pristine/$file" "$build/$file"
    else
      rm -f "$build/$file"
    fi
  done < <(find "$build" -type f -newer "$work/planted" -printf '%P\0')
  rm -rf "$work/saved"
}

# Saves what is about to be changed. `planted` has a time before all that the mutant's build writes.
save() {
  rm -rf "$work/saved.new"
  mkdir "$work/saved.new"
  (cd "$tree" && cp -p --parents "$@" "$work/saved.new")
  touch "$work/planted"
  mv "$work/saved.new" "$work/saved"
}

build_all() {
  local patch program all=()
  say "building the tests without any bug (log: build/mutants/logs/base.log)"
  # A run that was interrupted has left a bug behind.
  [[ ! -d $work/saved ]] || restore
  copy_tree
  # No optimisation and no debugging information: what counts is the time to build. The tests are
  # not listed for ctest, which takes a while after each build.
  local launcher=() linker=()
  ! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  ! command -v ld.gold >/dev/null || linker=(-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=gold)
  run_logged "$logs/configure.log" cmake -S "$tree" -B "$build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DCMAKE_C_FLAGS_DEBUG=-O0 \
    "${launcher[@]}" "${linker[@]}" -DXENLANE_WERROR=OFF \
    -DCMAKE_GTEST_DISCOVER_TESTS_DISCOVERY_MODE=PRE_TEST || exit 1
  for patch in "${patches[@]}"; do
    program=$(field "$patch" build)
    all+=("$program")
  done
  build_targets "$logs/base.log" "${all[@]}" || {
    tail -n 40 "$logs/base.log" >&2
    fail "the tests do not build"
  }
  rm -rf "$pristine" "$pristine.new" "$programs"
  mkdir "$pristine.new" "$programs"
  # Precompiled headers are the library's and not ours: no bug changes them.
  tar --create --directory "$build" --exclude='*.gch' . |
    tar --extract --directory "$pristine.new"
  mv "$pristine.new" "$pristine"
}

test_all() {
  local patch pair pairs
  mapfile -t pairs < <(for patch in "${patches[@]}"; do
    printf '%s %s\n' "$(field "$patch" build)" "$(field "$patch" test)"
  done | sort -u)
  local number=0 bad=0
  for pair in "${pairs[@]}" ''; do
    while ((${#running[@]} > 0)) && [[ ${#running[@]} -ge $jobs_max || -z $pair ]]; do
      finish_oldest
      [[ $verdict == passed ]] || { bad=1 && echo "without any bug: $verdict" >&2; }
    done
    [[ -n $pair ]] || break
    number=$((number + 1))
    start_tests "${pair% *}" "${pair#* }" "base-$number" "$timeout_s"
  done
  ((bad == 0)) || fail "tests fail without any bug (logs: build/mutants/logs/base-*.log)"
  say "built and passed in $(elapsed)"
}

# report MUTANT VERDICT
report() {
  printf '%-32s %s\n' "$@"
}

# Begins the tests of a mutant that could be built.
plant() {
  local patch=$1 name log problem='' changed
  name=$(basename "$patch" .patch)
  log=$logs/$name.log
  mapfile -t changed < <(sed -n 's|^+++ b/||p' "$patch")
  save "${changed[@]}"
  # Apart from any repository, or git would look for the files in the one that this folder is in.
  if ! GIT_CEILING_DIRECTORIES=$work git -C "$tree" apply "$patch" >"$log" 2>&1; then
    problem="ERROR: the patch does not apply"
  elif ! build_targets "$log" "$(field "$patch" build)"; then
    problem="ERROR: it does not build"
  else
    start_tests "$(field "$patch" build)" "$(field "$patch" test)" "$name" "$patience_s"
  fi
  restore
  [[ -z $problem ]] || report "$name" "$problem"
}

judge_oldest() {
  finish_oldest
  # Some bugs show in a race only, which a busy machine may keep from happening.
  if [[ $verdict == passed && -z $second_look ]]; then
    again+=("$here/$mutant.patch")
    return
  fi
  case $verdict in
    passed) verdict="SURVIVED: $(field "$here/$mutant.patch" class)" ;;
    ERROR*) ;;
    *)
      verdict="killed by $verdict"
      killed=$((killed + 1))
      ;;
  esac
  report "$mutant" "$verdict"
}

main() {
  local patch killed=0 verdict mutant again=() second_look=
  require_packages "${build_packages[@]}"
  mkdir -p "$work"
  lock_builds "$work"
  ulimit -c 0
  build_all
  test_all
  for patch in "${patches[@]}"; do
    plant "$patch"
    while ((${#running[@]} >= jobs_max)); do judge_oldest; done
  done
  while ((${#running[@]} > 0)); do judge_oldest; done
  # Whoever has survived is looked at once more, with the machine to itself.
  second_look=yes
  for patch in "${again[@]}"; do
    plant "$patch"
    while ((${#running[@]} > 0)); do judge_oldest; done
  done
  printf 'mutants: %d of %d killed in %s\n' "$killed" "${#patches[@]}" "$(elapsed)"
  ((killed == ${#patches[@]}))
}

main
