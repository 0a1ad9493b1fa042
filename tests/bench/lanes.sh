#!/usr/bin/env bash
# Runs `xenlane bench` on xensim, between domain 0 and one guest that has both lanes.
#
#   tests/bench/lanes.sh [--proxy] [OPTION...]
#       with the options of xenlane bench; --proxy measures vchan-socket-proxy beside the lanes
#   tests/bench/lanes.sh --by-hand [ROUNDS]
#       the same paths by a plain C loop and `time`, in turn with xenlane bench, and their ratio;
#       all on one processor
#
# Exit code 2: packages are missing; otherwise that of xenlane bench.
# shellcheck disable=SC2317  # functions are called by names put together
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"
# shellcheck source=tests/bench/world.sh
source "$root/tests/bench/world.sh"

build=$root/build/release
bin=$build/bin
programs=(xensim xenlane xenlane-host xenlane-guest bench_plain)
lane_channel=org.xenlane.lane.0

outside() {
  require_packages "${build_packages[@]}" "${test_packages[@]}"
  mkdir -p "$build"
  run_logged "$build/bench-configure.log" cmake -S "$root" --preset release
  run_logged "$build/bench-build.log" cmake --build "$build" --target "${programs[@]}"
  # With several processors it matters most on which of them the scheduler happens to put the two
  # bridges and the two ends, and that differs from one connection to the next.
  local pinned=()
  [[ ${1:-} != --by-hand ]] || pinned=(taskset -c "$(($(nproc) - 1))")
  PATH=$bin:$PATH "${pinned[@]}" "$bin/xensim" run --guest web --channel "web:$lane_channel" -- \
    bash "${BASH_SOURCE[0]}" --in-domain-0 "$@"
}

start_bridges() {
  local name
  {
    printf '[console]\nsocket = "%s/channel/{guest}/%s"\n' "$XENSIM_DIR" "$lane_channel"
    for name in org.xenlane.bench.0 org.bench.plain; do
      printf '[[channel]]\nname = "%s"\nend = "listen"\n' "$name"
    done
  } >"$work/host.toml"
  {
    printf '[[channel]]\nname = "org.xenlane.bench.0"\nend = "dial"\ntarget = "builtin:bench"\n'
    printf '[[channel]]\nname = "org.bench.plain"\nend = "dial"\ntarget = "unix:%s"\n' \
      "$work/plain"
  } >"$work/guest.toml"
  background xenlane-host --config "$work/host.toml"
  background xensim exec web -- xenlane-guest --config "$work/guest.toml"
  await_socket "$XENLANE_RUN_DIR/web/org.xenlane.bench.0"
}

run_bench_with_proxy() {
  background xenlane bench --serve "unix:$work/service"
  await_socket "$work/service"
  background xensim exec web -- "$proxy" -m server 0 data/proxy "$work/service"
  background "$proxy" -m client 1 /local/domain/1/data/proxy "$work/proxy"
  await_socket "$work/proxy"
  xenlane bench web --path "vchan-socket-proxy=unix:$work/proxy" \
    --one-at-a-time vchan-socket-proxy "$@"
}

# figure_of NAME: the one there is by that name in a report of one path and one size.
figure_of() {
  sed -n "s/.*\"$1\":\\({\"median\":\\)\\{0,1\\}\\([^,}]*\\).*/\\2/p" "$work/report.json"
}

# compare LANE FIGURE SIZE COUNT: one round of each, right after each other because the machine may
# be shared; to a file named by lane and figure: what bench says, what comes out by hand, and their
# ratio.
compare() {
  local lane=$1 figure=$2 size=$3 count=$4 key=$2 seconds
  [[ $figure != echo ]] || key=mean_us
  xenlane bench web --lanes "$lane" --sizes "$size" --rounds 1 --time 1 --no-baselines \
    --json "$work/report.json" >/dev/null
  seconds=$(xenlane lane web "$lane" -- bash -c "TIMEFORMAT=%R
    time bench_plain $figure $XENLANE_RUN_DIR/web/org.bench.plain $size $count" 2>&1)
  awk -v bench="$(figure_of "$key")" -v s="$seconds" -v n="$count" -v size="$size" \
    -v figure="$figure" 'BEGIN {
      plain = figure == "echo" ? 1e6 * s / n : n * size / s
      print bench, plain, bench / plain
    }' >>"$work/$lane.$figure"
}

by_hand() {
  local rounds=${1:-5} round lane figure
  background bench_plain serve "$work/plain"
  await_socket "$work/plain"
  for ((round = 0; round < rounds; ++round)); do
    compare vchan to 65536 30000
    compare vchan from 65536 30000
    compare vchan echo 64 5000
    compare console to 65536 400
    compare console from 65536 400
    compare console echo 64 3000
  done
  printf '| lane | figure | xenlane bench | by hand | ratio | of all rounds |\n'
  printf '| --- | --- | ---: | ---: | ---: | ---: |\n'
  for lane in vchan console; do
    for figure in to from echo; do
      sort -g -k 3 "$work/$lane.$figure" | awk -v lane="$lane" -v figure="$figure" '
        { bench[NR] = $1; plain[NR] = $2; ratio[NR] = $3 }
        END {
          in_words["to"] = "64 KiB to the service, MB/s"
          in_words["from"] = "64 KiB from the service, MB/s"
          in_words["echo"] = "64 bytes there and back, mean, us"
          unit = figure == "echo" ? 1 : 1e6
          middle = int((NR + 1) / 2)
          printf "| %s | %s | %.4g | %.4g | %.2f | %.2f to %.2f |\n", lane, in_words[figure],
            bench[middle] / unit, plain[middle] / unit, ratio[middle], ratio[1], ratio[NR]
        }'
    done
  done
}

in_domain_0() {
  begin_work
  start_bridges
  case ${1:-} in
    --by-hand) by_hand "${@:2}" ;;
    --proxy) run_bench_with_proxy "${@:2}" ;;
    *) xenlane bench web "$@" ;;
  esac
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  if [[ ${1:-} == --in-domain-0 ]]; then
    in_domain_0 "${@:2}"
  else
    outside "$@"
  fi
  exit
}
main "$@"
