#!/usr/bin/env bash
# Measures xenlane beside its peers on xensim, all paths in one interleaved run: a direct Unix
# socket, one and two socats in a row, Debian's vchan-socket-proxy, xenlane.
#
#   tests/bench/peers.sh [--rounds N] [--seconds S] [--markdown FILE] [--json FILE]
#
# Ratios are to two socats. Run it on a quiet machine. Exit code 2: packages are missing.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

build=$root/build/release
bin=$build/bin
proxy=/usr/lib/xen-4.17/bin/vchan-socket-proxy
programs=(xensim xenlane xenlane-host xenlane-guest bench_paths)

outside() {
  require_packages "${build_packages[@]}" "${test_packages[@]}"
  mkdir -p "$build"
  cd "$root"
  run_logged "$build/bench-configure.log" cmake --preset release
  run_logged "$build/bench-build.log" cmake --build --preset release --target "${programs[@]}"
  PATH=$bin:$PATH exec "$bin/xensim" run --guest web -- \
    bash "$root/tests/bench/peers.sh" --in-domain-0 "$@"
}

work=
jobs_of_ours=()
clean_up() {
  ((${#jobs_of_ours[@]} == 0)) || kill "${jobs_of_ours[@]}" 2>/dev/null || true
  wait
  [[ -z $work ]] || rm -rf -- "$work"
}

background() {
  "$@" </dev/null >>"$work/log" 2>&1 &
  jobs_of_ours+=($!)
}

await_socket() {
  local path=$1 tries
  for ((tries = 0; tries < 500; ++tries)); do
    [[ -S $path ]] && return 0
    sleep 0.02
  done
  tail "$work/log" >&2
  fail "$path does not appear"
}

in_domain_0() {
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  work=$(mktemp -d "${TMPDIR:-/tmp}/xenlane-bench.XXXXXX")
  local server=$work/server xenlane=$XENLANE_RUN_DIR/web/org.bench.path
  background bench_paths serve "$server"
  await_socket "$server"

  background socat -b 65536 "UNIX-LISTEN:$work/one,fork,backlog=256" "UNIX-CONNECT:$server"
  background socat -b 65536 "UNIX-LISTEN:$work/two,fork,backlog=256" "UNIX-CONNECT:$work/one"
  background xensim exec web -- "$proxy" -m server 0 data/proxy "$server"
  background "$proxy" -m client 1 /local/domain/1/data/proxy "$work/proxy"

  printf '[[channel]]\nname = "org.bench.path"\nend = "listen"\n' >"$work/host.toml"
  printf '[[channel]]\nname = "org.bench.path"\nend = "dial"\ntarget = "unix:%s"\n' \
    "$server" >"$work/guest.toml"
  background xenlane-host --config "$work/host.toml"
  background xensim exec web -- xenlane-guest --config "$work/guest.toml"
  local socket
  for socket in "$work"/{one,two,proxy} "$xenlane"; do await_socket "$socket"; done

  bench_paths measure "$@" --one-at-a-time vchan-socket-proxy "two socats=$work/two" \
    "one socat=$work/one" "direct=$server" "vchan-socket-proxy=$work/proxy" "xenlane=$xenlane"
}

if [[ ${1:-} == --in-domain-0 ]]; then
  shift
  in_domain_0 "$@"
else
  outside "$@"
fi
