#!/usr/bin/env bash
# Plants bugs, one at a time, and sees whether the tests notice.
#
# Each NN-name.patch beside this script is a bug of a kind that has happened to somebody. Its first
# lines say which (class, source), what must be built to notice it (build) and which tests should
# (test, a regular expression of ctest's). They are applied to a copy of the tree in build/mutants,
# never to the tree itself.
#
#   tests/mutants/run.sh                 all of them
#   tests/mutants/run.sh NAME...         some, by number or a part of the name
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
pristine=$work/pristine
logs=$work/logs
# A test that takes longer has failed: a bug may well show as one that never ends.
timeout_s=20

# field PATCH NAME: the value of one of the first lines.
field() {
  sed -n "/^\$/q; s/^$2: //p" "$1"
}

list_only=
names=()
for argument in "$@"; do
  case $argument in
    --list) list_only=yes ;;
    -*)
      sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
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

if [[ -n $list_only ]]; then
  for patch in "${patches[@]}"; do
    printf '%-32s %s (%s)\n' "$(basename "$patch" .patch)" "$(field "$patch" class)" \
      "$(field "$patch" source)"
  done
  exit 0
fi

trap end_job EXIT
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

# run_tests LOG REGEX ARGUMENTS...
run_tests() {
  local log=$1 regex=$2
  shift 2
  run_job ctest --test-dir "$build" --no-tests=error -j2 -R "$regex" "$@" >"$log" 2>&1
}

# The first failed test of a ctest log, and how it failed if it did not simply say so.
killer() {
  local failed='/^The following tests FAILED/,$'
  sed -nE "${failed}s/^[[:space:]]*[0-9]+ - (.*) \\(([^()]*)\\)\$/\\1 (\\2)/p" "$1" |
    sed -n '1{ s/ *# GetParam().*(/ (/; s/ (Failed)$//; s/ (Timeout)$/ (by its time-out)/; p }'
}

save() {
  rm -rf "$work/saved"
  mkdir "$work/saved"
  (cd "$tree" && cp -p --parents "$@" "$work/saved")
}

# Back to the tree and the build without any bug. Files keep their times, so nothing is built twice.
restore() {
  cp -a "$work/saved/." "$tree"
  rm -rf "$build"
  cp -a "$pristine" "$build"
}

prepare() {
  local patch all=() regex=''
  say "building the tests without any bug (log: build/mutants/logs/base.log)"
  # A run that was interrupted may have left a bug behind.
  if [[ -d $pristine ]]; then
    rm -rf "$build"
    cp -a "$pristine" "$build"
  fi
  copy_tree
  # No optimisation and no debugging information: what counts is the time to build.
  local launcher=()
  ! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  run_logged "$logs/configure.log" cmake -S "$tree" -B "$build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DCMAKE_C_FLAGS_DEBUG=-O0 \
    "${launcher[@]}" -DXENLANE_WERROR=OFF -DXENLANE_TEST_TIMEOUT="$timeout_s" || exit 1
  for patch in "${patches[@]}"; do
    read -ra targets <<<"$(field "$patch" build)"
    all+=("${targets[@]}")
    regex+="${regex:+|}$(field "$patch" test)"
  done
  build_targets "$logs/base.log" "${all[@]}" || {
    tail -n 40 "$logs/base.log" >&2
    fail "the tests do not build"
  }
  run_tests "$logs/base-tests.log" "$regex" || {
    grep -E '^ *[0-9]+ - ' "$logs/base-tests.log" >&2 || tail -n 20 "$logs/base-tests.log" >&2
    fail "tests fail without any bug (log: $logs/base-tests.log)"
  }
  rm -rf "$pristine" "$pristine.new"
  cp -a "$build" "$pristine.new"
  mv "$pristine.new" "$pristine"
  say "built and passed in $(elapsed)"
}

# Prints one line; fails unless the tests notice.
run_mutant() {
  local patch=$1 name begin=$SECONDS log verdict changed
  name=$(basename "$patch" .patch)
  log=$logs/$name.log
  mapfile -t changed < <(sed -n 's|^+++ b/||p' "$patch")
  read -ra targets <<<"$(field "$patch" build)"
  save "${changed[@]}"
  # Apart from any repository, or git would look for the files in the one that this folder is in.
  if ! GIT_CEILING_DIRECTORIES=$work git -C "$tree" apply "$patch" >"$log" 2>&1; then
    verdict="ERROR: the patch does not apply"
  elif ! build_targets "$log" "${targets[@]}"; then
    verdict="ERROR: it does not build"
  elif run_tests "$log" "$(field "$patch" test)" --stop-on-failure; then
    verdict="SURVIVED: $(field "$patch" class)"
  else
    verdict=$(killer "$log")
    [[ -n $verdict ]] && verdict="killed by $verdict" || verdict="ERROR: the tests did not run"
  fi
  restore "${changed[@]}"
  printf '%-32s %s, %d s\n' "$name" "$verdict" $((SECONDS - begin))
  [[ $verdict == killed* ]]
}

main() {
  local patch killed=0
  require_packages "${build_packages[@]}"
  mkdir -p "$work"
  lock_builds "$work"
  prepare
  for patch in "${patches[@]}"; do
    if run_mutant "$patch"; then killed=$((killed + 1)); fi
  done
  printf 'mutants: %d of %d killed in %s\n' "$killed" "${#patches[@]}" "$(elapsed)"
  ((killed == ${#patches[@]}))
}

main
