#!/usr/bin/env bash
# Measures what single steps of the data path cost, and what of it is the assertions: two builds,
# with and without them, in turn. Prints a table of medians.
#
#   tests/bench/micro.sh [--rounds N]
#
# Exit code 2: packages are missing.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

rounds=7
case ${1:-} in
  '') ;;
  --rounds) rounds=${2?--rounds needs a number} ;;
  *)
    echo "usage: tests/bench/micro.sh [--rounds N]" >&2
    exit 64
    ;;
esac

require_packages "${build_packages[@]}" "${bench_packages[@]}"
plain=$root/build/release
unchecked=$root/build/unchecked
mkdir -p "$plain" "$unchecked"
run_logged "$plain/bench-configure.log" cmake -S "$root" --preset release
run_logged "$unchecked/bench-configure.log" cmake -S "$root" -B "$unchecked" -G Ninja \
  -D CMAKE_BUILD_TYPE=RelWithDebInfo -D XENLANE_ASSERTS=OFF
for build in "$plain" "$unchecked"; do
  run_logged "$build/bench-build.log" cmake --build "$build" --target bench_micro
done

results=$(mktemp)
trap 'rm -f "$results"' EXIT
for ((round = 0; round < rounds; ++round)); do
  for build in "$plain" "$unchecked"; do
    "$build/bin/bench_micro" --benchmark_format=csv --benchmark_min_time=0.1 2>/dev/null |
      awk -F, -v build="${build##*/}" '/^"/ { gsub(/"/, "", $1); print $1, build, $3 }' >>"$results"
  done
done

echo '| step | ns | ns without assertions |'
echo '| --- | ---: | ---: |'
sort -k1,1 -k2,2 -k3,3g "$results" | awk -v rounds="$rounds" '
  $1 " " $2 != group { group = $1 " " $2; rank = 0 }
  ++rank == int(rounds / 2) + 1 {
    if ($2 == "release") checked = $3
    else printf "| %s | %.1f | %.1f |\n", $1, checked, $3
  }'
