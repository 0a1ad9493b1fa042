#!/usr/bin/env bash
# Measures xenlane on xensim, in one world after the other:
# - whole paths beside their peers, interleaved: a direct Unix socket, one and two socats in a row,
#   Debian's vchan-socket-proxy, xenlane; then many streams at once over xenlane;
# - thousands of idle streams, with limits that allow them;
# - bulk beside a bare libxenvchan loop, which has no sockets at its ends.
#
#   tests/bench/peers.sh [--rounds N] [--seconds S] [--markdown FILE] [--json FILE] [PART...]
#
# PART is paths, crowd, idle or loop; without any, all four. One more is done only when it is named:
# profile, where the processors' time goes while one bulk stream runs (it needs perf, and root).
# Ratios are to two socats. Run it on a quiet machine. Exit code 2: packages are missing.
# shellcheck disable=SC2317  # functions are called by names put together
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"
# shellcheck source=tests/bench/world.sh
source "$root/tests/bench/world.sh"

build=$root/build/release
bin=$build/bin
programs=(xensim xenlane xenlane-host xenlane-guest bench_paths bench_crowd vchan_loop)

usage() {
  sed -n '/^#   tests/s/^#   //p; /^# PART/,/^# Ratios/s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 64
}

outside() {
  local rounds=5 seconds=1 markdown=/dev/null json=/dev/null parts=()
  while (($# > 0)); do
    case $1 in
      --rounds) rounds=${2?} && shift ;;
      --seconds) seconds=${2?} && shift ;;
      --markdown) markdown=${2?} && shift ;;
      --json) json=${2?} && shift ;;
      paths | crowd | idle | loop | profile) parts+=("$1") ;;
      *) usage ;;
    esac
    shift
  done
  ((${#parts[@]} > 0)) || parts=(paths crowd idle loop)
  require_packages "${build_packages[@]}" "${test_packages[@]}"
  mkdir -p "$build"
  run_logged "$build/bench-configure.log" cmake -S "$root" --preset release
  run_logged "$build/bench-build.log" \
    cmake --build "$build" --target "${programs[@]}"
  local results part first=1
  results=$(mktemp -d "${TMPDIR:-/tmp}/xenlane-bench.XXXXXX")
  for part in "${parts[@]}"; do
    PATH=$bin:$PATH "$bin/xensim" run --guest web -- bash "${BASH_SOURCE[0]}" --in-domain-0 \
      "$part" --rounds "$rounds" --seconds "$seconds" \
      --markdown "$results/$part.md" --json "$results/$part.json"
  done
  for part in "${parts[@]}"; do
    cat "$results/$part.md"
    echo
  done >"$markdown"
  {
    for part in "${parts[@]}"; do
      ((first)) && printf '{' || printf ','
      first=0
      printf '"%s":' "$part"
      cat "$results/$part.json"
    done
    printf '}\n'
  } >"$json"
  rm -rf -- "$results"
}

# Both bridges, with a channel that is dialled to $1; further configuration lines on stdin.
start_bridges() {
  local lines
  lines=$(cat)
  printf '%s\n[[channel]]\nname = "org.bench.path"\nend = "listen"\n' "$lines" >"$work/host.toml"
  printf '%s\n[[channel]]\nname = "org.bench.path"\nend = "dial"\ntarget = "unix:%s"\n' \
    "$lines" "$1" >"$work/guest.toml"
  background xenlane-host --config "$work/host.toml"
  background xensim exec web -- xenlane-guest --config "$work/guest.toml"
  await_socket "$xenlane"
}

measure_paths() {
  local server=$work/server socket
  background bench_paths serve "$server"
  await_socket "$server"
  background socat -b 65536 "UNIX-LISTEN:$work/one,fork,backlog=256" "UNIX-CONNECT:$server"
  background socat -b 65536 "UNIX-LISTEN:$work/two,fork,backlog=256" "UNIX-CONNECT:$work/one"
  background xensim exec web -- "$proxy" -m server 0 data/proxy "$server"
  background "$proxy" -m client 1 /local/domain/1/data/proxy "$work/proxy"
  start_bridges "$server" </dev/null
  for socket in "$work"/{one,two,proxy}; do await_socket "$socket"; done
  bench_paths measure "$@" --one-at-a-time vchan-socket-proxy "two socats=$work/two" \
    "one socat=$work/one" "direct=$server" "vchan-socket-proxy=$work/proxy" "xenlane=$xenlane"
}

measure_crowd() {
  start_bridges "$work/far" </dev/null
  bench_crowd --near "$xenlane" --far "$work/far" "$@"
}

# The loop's rate in MB a second.
bare_rate() {
  local path=/local/domain/1/data/loop server tries
  xensim exec web -- vchan_loop serve 0 data/loop </dev/null >>"$work/log" 2>&1 &
  server=$!
  for ((tries = 0; tries < 500; ++tries)); do
    xenstore-exists "$path/event-channel" && break
    sleep 0.02
  done
  vchan_loop send 1 "$path" 2000000000
  wait "$server"
  xenstore-rm "$path"
}

measure_loop() {
  local rounds=$2 markdown=$6 json=$8 round loop direct bridged
  local server=$work/server
  background bench_paths serve "$server"
  start_bridges "$server" </dev/null
  for ((round = 0; round < rounds; ++round)); do
    bare_rate >>"$work/bare"
    bench_paths measure --only bulk --rounds 1 "direct=$server" "xenlane=$xenlane" 2>/dev/null |
      awk -F'|' -v work="$work" '
        $2 == " direct " { print $3 + 0 >>(work "/direct") }
        $2 == " xenlane " { print $3 + 0 >>(work "/bridged") }'
  done
  loop=$(middle "$rounds" <"$work/bare")
  direct=$(middle "$rounds" <"$work/direct")
  bridged=$(middle "$rounds" <"$work/bridged")
  awk -v loop="$loop" -v direct="$direct" -v bridged="$bridged" 'BEGIN {
    print "| bulk, MB/s | | x bare libxenvchan |\n| --- | ---: | ---: |"
    printf "| bare libxenvchan, 64 KiB writes | %.0f | 1.00 |\n", loop
    printf "| a direct Unix socket | %.0f | %.2f |\n", direct, direct / loop
    printf "| xenlane | %.0f | %.2f |\n", bridged, bridged / loop
  }' | tee "$markdown"
  echo "{\"bare\":$loop,\"direct\":$direct,\"xenlane\":$bridged}" >"$json"
}

measure_profile() {
  local server=$work/server markdown=/dev/null json=/dev/null
  while (($# > 1)); do
    case $1 in
      --markdown) markdown=$2 ;;
      --json) json=$2 ;;
    esac
    shift 2
  done
  background bench_paths serve "$server"
  start_bridges "$server" </dev/null
  background bench_paths measure --only bulk --rounds 1 --seconds 6 "xenlane=$xenlane"
  sleep 3
  perf record -q -a -o "$work/perf.data" sleep 2 2>>"$work/log"
  {
    printf '| share of both processors | program | where |\n| ---: | --- | --- |\n'
    perf report -i "$work/perf.data" --sort comm,symbol --percent-limit 1 --stdio 2>>"$work/log" |
      sed -n 's/^ *\([0-9.]*%\)  \([^ ]*\) *\[\(.\)\] \([^ ]*\).*/| \1 | \2 | \4 (\3) |/p'
  } | tee "$markdown"
  echo '{}' >"$json"
}

process_id() {
  xenlane status "$@" | sed -n 's/^guest .*, pid \([0-9]*\),.*/\1/p'
}

measure_idle() {
  start_bridges "$work/far" <<<$'[limits]\nstreams_max = 10100\nstream_window_bytes_min = "4KiB"'
  local host guest
  host=$(process_id web)
  guest=$(xensim exec web -- bash -c "$(declare -f process_id); process_id")
  bench_crowd --near "$xenlane" --far "$work/far" --idle 10000 --bridge "host=$host" \
    --bridge "guest=$guest" "$@"
}

in_domain_0() {
  begin_work
  xenlane=$XENLANE_RUN_DIR/web/org.bench.path
  "measure_$1" "${@:2}"
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
