#!/usr/bin/env bash
# Builds the fuzz targets with clang and lets libFuzzer look for inputs that break them, beginning
# with those of tests/fuzz/corpus. Two targets run at a time.
#
#   tests/fuzz/run.sh [TARGET...]    all targets, or those named
#     --runs N           inputs for each target (100000)
#     --seconds S        at most this long for each target (20); whichever comes first ends it
#     --keep-corpus      afterwards, put what reaches code that the corpus did not into the corpus
#
# Exit code 0: nothing found; 1: a finding, or the build failed; 2: packages are missing.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

build=$root/build/fuzz
corpus=$root/tests/fuzz/corpus
runs=100000
seconds=20
keep_corpus=false
targets=()
declare -A running=() # process id: target
total_runs=0
failed=()

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

parse_arguments() {
  while (($# > 0)); do
    case $1 in
      --runs | --seconds)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage
        declare -g "${1#--}=$2"
        shift
        ;;
      --keep-corpus) keep_corpus=true ;;
      -*) usage ;;
      *)
        [[ -d $corpus/$1 ]] || fail "there is no target $1 in tests/fuzz/corpus"
        targets+=("$1")
        ;;
    esac
    shift
  done
  ((${#targets[@]} > 0)) || mapfile -t targets < <(ls "$corpus")
}

stop_all() {
  local pid
  end_job
  for pid in "${!running[@]}"; do kill "$pid" 2>/dev/null || true; done
}

build_targets() {
  local begin=$SECONDS
  mkdir -p "$build"
  say "fuzz: building (log: build/fuzz/fuzz-build.log)"
  run_logged "$build/fuzz-configure.log" cmake --preset fuzz
  run_logged "$build/fuzz-build.log" \
    "${steady[@]}" cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}"
  say "fuzz: built in $((SECONDS - begin)) s"
}

# What libFuzzer finds worth keeping goes into a folder of the run, never into the source.
start() {
  local name=$1 folder=$build/run/$1
  rm -rf "$folder"
  mkdir -p "$folder/corpus" "$folder/found"
  "${steady[@]}" "$build/bin/fuzz_$name" "-runs=$runs" "-max_total_time=$seconds" -timeout=20 \
    -print_final_stats=1 "-artifact_prefix=$folder/found/" "$folder/corpus" "$corpus/$name" \
    >"$folder/log" 2>&1 </dev/null 9>&- &
  running[$!]=$name
}

# From libFuzzer's last words: "#N DONE cov: C ft: F ..." and "Done N runs in S second(s)".
report() {
  local name=$1 status=$2 folder=$build/run/$1 count took coverage features
  if ((status != 0)); then
    failed+=("$name")
    say "fuzz: $name FAILED (exit code $status); the whole log: $folder/log"
    grep -E 'assertion failed|runtime error|ERROR: |^SUMMARY' "$folder/log" >&2 || true
    find "$folder/found" -type f -exec printf 'to see it again: %s %s\n' \
      "$build/bin/fuzz_$name" {} \; >&2
    return 0
  fi
  count=$(sed -n 's/^Done \([0-9]*\) runs in .*/\1/p' "$folder/log")
  took=$(sed -n 's/^Done .* in \([0-9]*\) second.*/\1/p' "$folder/log")
  coverage=$(sed -n 's/^#.*DONE *cov: \([0-9]*\) .*/\1/p' "$folder/log")
  features=$(sed -n 's/^#.*DONE .*ft: \([0-9]*\) .*/\1/p' "$folder/log")
  total_runs=$((total_runs + count))
  printf '    %-16s %7d runs in %3d s, coverage %5d, features %5d, corpus %3d files\n' "$name" \
    "$count" "$took" "$coverage" "$features" "$(find "$corpus/$name" -type f | wc -l)"
}

finish_one() {
  local pid='' status=0
  wait -n -p pid "${!running[@]}" || status=$?
  local name=${running[$pid]}
  unset "running[$pid]"
  report "$name" "$status"
}

# The fewest of all inputs, old and new, that reach the same code. Inputs of past findings stay.
keep_corpus_of() {
  local name=$1 folder=$build/run/$1
  mkdir -p "$folder/merged"
  run_logged "$folder/merge.log" "${steady[@]}" "$build/bin/fuzz_$name" -set_cover_merge=1 \
    -use_counters=0 "$folder/merged" "$corpus/$name" "$folder/corpus"
  find "$corpus/$name" -type f ! -name 'bug-*' -delete
  find "$folder/merged" -type f -exec cp -t "$corpus/$name" {} +
  say "fuzz: corpus of $name: $(find "$corpus/$name" -type f | wc -l) files," \
    "$(find "$corpus/$name" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }') bytes"
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  local name found=0
  parse_arguments "$@"
  require_packages "${build_packages[@]}" "${fuzz_packages[@]}"
  trap stop_all EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  lock_builds "$build"
  cd "$root"
  steady_addresses
  build_targets || exit 1
  for name in "${targets[@]}"; do
    if ((${#running[@]} >= 2)); then finish_one; fi
    start "$name"
  done
  while ((${#running[@]} > 0)); do finish_one; done
  for name in "${targets[@]}"; do
    found=$((found + $(find "$build/run/$name/found" -type f | wc -l)))
  done
  say "fuzz: ${#targets[@]} targets, $total_runs runs, $found crashes"
  ((${#failed[@]} == 0)) || exit 1
  if $keep_corpus; then
    for name in "${targets[@]}"; do keep_corpus_of "$name"; done
  fi
}

main "$@"
