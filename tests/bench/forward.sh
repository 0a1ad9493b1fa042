#!/usr/bin/env bash
# Measures xenlane forward on xensim with programs that know nothing of it, as they come from
# Debian, beside other ways, in turn, round after round:
#
#   direct          the program talks to its server
#   two socats      TCP-LISTEN,fork to a Unix socket, UNIX-LISTEN,fork to TCP: no domain between
#   socat + xenlane TCP-LISTEN,fork to a channel's socket, the channel dialled to the server
#   xenlane forward
#
#   tests/bench/forward.sh [--rounds N] [--seconds S] [--long S] [--markdown FILE]
#
# bulk is curl with one file of 1 GiB of nginx's; kept wrk with 256 connections, a page of 10,000
# bytes each time; new wrk with 32, a connection for each page; pgbench 8 clients that select; redis
# 50 clients of a forwarded Unix socket that set (socats: two, as above). Then pgbench writes for
# --long seconds (30) over xenlane forward, and no transaction may fail: exit code 1 if one does, or
# if a request of wrk's does. Run it on a quiet machine, as root. Exit code 2: packages are missing.
# shellcheck disable=SC2317  # functions are called by names put together
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"
# shellcheck source=tests/bench/world.sh
source "$root/tests/bench/world.sh"

build=$root/build/release
bin=$build/bin
programs=(xensim xenlane xenlane-host xenlane-guest)
paths=(direct "two socats" "socat + xenlane" "xenlane forward")
figures=(bulk kept new pgbench redis)

usage() {
  sed -n '/^#   tests/s/^#   //p; /^# bulk/,/^# request/s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 64
}

outside() {
  ((EUID == 0)) || fail "run this as root: PostgreSQL is started as its own user"
  require_packages "${build_packages[@]}" "${test_packages[@]}"
  mkdir -p "$build"
  run_logged "$build/bench-configure.log" cmake -S "$root" --preset release
  run_logged "$build/bench-build.log" cmake --build "$build" --target "${programs[@]}"
  PATH=$bin:$PATH "$bin/xensim" run --guest web -- bash "${BASH_SOURCE[0]}" --in-domain-0 "$@"
}

# Ports of this run's own; nobody else is to have them.
nginx_port=18080
postgres_port=18432

await_port() {
  local tries
  for ((tries = 0; tries < 500; ++tries)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
    sleep 0.02
  done
  tail "$work/log" >&2
  fail "nobody listens on port $1"
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }

start_nginx() {
  head -c 10000 /dev/zero | tr '\0' x >"$work/page"
  truncate -s 1G "$work/big"
  cat >"$work/nginx.conf" <<CONF
user root;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 4000; }
http {
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  client_body_temp_path $work/body;
  proxy_temp_path $work/proxy;
  fastcgi_temp_path $work/fastcgi;
  uwsgi_temp_path $work/uwsgi;
  scgi_temp_path $work/scgi;
  server { listen 127.0.0.1:$nginx_port backlog=4096; root $work; }
}
CONF
  background /usr/sbin/nginx -c "$work/nginx.conf" -g 'daemon off;'
  await_port "$nginx_port"
}

start_postgres() {
  local folder=("/usr/lib/postgresql"/*/bin)
  postgres=${folder[0]}
  install -d -o postgres -g postgres "$work/pg"
  as_postgres "$postgres/initdb" -D "$work/pg/data" -U tester --auth=trust --no-sync \
    >>"$work/log" 2>&1
  background setpriv --reuid=postgres --regid=postgres --clear-groups -- "$postgres/postgres" \
    -D "$work/pg/data" -k "$work/pg" -p "$postgres_port" -c listen_addresses=127.0.0.1 -c fsync=off
  await_port "$postgres_port"
  local tries
  for ((tries = 0; tries < 100; ++tries)); do
    pgbench_at "$postgres_port" -i -q -s 10 >>"$work/log" 2>&1 && return 0
    sleep 0.1
  done
  fail "PostgreSQL takes no tables; see $work/log"
}

pgbench_at() {
  "$postgres/pgbench" -h 127.0.0.1 -p "$1" -U tester "${@:2}" postgres
}

start_redis() {
  background redis-server --port 0 --unixsocket "$work/redis" --save '' --appendonly no \
    --dir "$work"
  await_socket "$work/redis"
}

# A channel for each server, for the path by socat, and that of forwards.
start_bridges() {
  local in_guest=org.xenlane.forward-in-guest.0 name
  for name in org.bench.nginx org.bench.postgres "$in_guest"; do
    printf '[[channel]]\nname = "%s"\nend = "listen"\n' "$name"
  done >"$work/host.toml"
  cat >"$work/guest.toml" <<CONF
[[channel]]
name = "org.bench.nginx"
end = "dial"
target = "tcp:127.0.0.1:$nginx_port"
[[channel]]
name = "org.bench.postgres"
end = "dial"
target = "tcp:127.0.0.1:$postgres_port"
[[channel]]
name = "$in_guest"
end = "dial"
target = "builtin:forward"
allow = ["tcp:127.0.0.1:*", "unix:$work/redis"]
CONF
  background xenlane-host --config "$work/host.toml"
  background xensim exec web -- xenlane-guest --config "$work/guest.toml"
  await_socket "$XENLANE_RUN_DIR/web/$in_guest"
}

# The ports and the socket of each path, by its place among the paths.
start_paths() {
  local socat=(socat -b 65536) sockets=$XENLANE_RUN_DIR/web
  nginx_ports=("$nginx_port" 18081 18082 18083)
  postgres_ports=("$postgres_port" 18433 18434 18435)
  redis_sockets=("$work/redis" "$work/redis.socat" "" "$work/redis.forward")
  local which port far
  for which in nginx postgres; do
    local -n ports=${which}_ports
    far="TCP-CONNECT:127.0.0.1:${ports[0]},nodelay"
    background "${socat[@]}" "UNIX-LISTEN:$work/$which.far,fork,backlog=1024" "$far"
    await_socket "$work/$which.far"
    port=bind=127.0.0.1,reuseaddr,nodelay,fork,backlog=1024
    background "${socat[@]}" "TCP-LISTEN:${ports[1]},$port" "UNIX-CONNECT:$work/$which.far"
    background "${socat[@]}" "TCP-LISTEN:${ports[2]},$port" \
      "UNIX-CONNECT:$sockets/org.bench.$which"
  done
  background "${socat[@]}" "UNIX-LISTEN:$work/redis.far,fork,backlog=1024" \
    "UNIX-CONNECT:$work/redis"
  await_socket "$work/redis.far"
  background "${socat[@]}" "UNIX-LISTEN:$work/redis.socat,fork,backlog=1024" \
    "UNIX-CONNECT:$work/redis.far"
  background xenlane forward -L "${nginx_ports[3]}:web:127.0.0.1:$nginx_port" \
    -L "${postgres_ports[3]}:web:127.0.0.1:$postgres_port" \
    -L "$work/redis.forward:web:$work/redis"
  for port in "${nginx_ports[@]}" "${postgres_ports[@]}"; do await_port "$port"; done
  await_socket "$work/redis.socat"
  await_socket "$work/redis.forward"
}

# MB a second
measure_bulk() {
  curl --silent --output /dev/null --write-out '%{speed_download}\n' \
    "http://127.0.0.1:${nginx_ports[$1]}/big" | awk '{ print $1 / 1e6 }'
}

# Requests a second; one that fails is noted.
run_wrk() {
  local said
  said=$(wrk -t 2 -d "${seconds}s" --timeout 30s "${@:2}" \
    "http://127.0.0.1:${nginx_ports[$1]}/page")
  if grep -qE 'Socket errors|Non-2xx' <<<"$said"; then
    echo "${paths[$1]}: $(grep -E 'Socket errors|Non-2xx' <<<"$said")" >>"$work/failures"
  fi
  awk '/^Requests\/sec/ { print $2 }' <<<"$said"
}
measure_kept() { run_wrk "$1" -c 256; }
measure_new() { run_wrk "$1" -c 32 -H 'Connection: close'; }

# Transactions a second
measure_pgbench() {
  pgbench_at "${postgres_ports[$1]}" -S -n -c 8 -T "$seconds" 2>>"$work/log" |
    sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

# Requests a second; there is no channel for the path by socat.
measure_redis() {
  [[ -n ${redis_sockets[$1]} ]] || return 0
  redis-benchmark -s "${redis_sockets[$1]}" -n 100000 -c 50 -t set -d 100 --csv |
    sed -n 's/^"SET","\([0-9.]*\)".*/\1/p'
}

print_table() {
  local index figure value base line
  line='| path |'
  for figure in "${figures[@]}"; do line+=" $figure | x two socats |"; done
  echo "$line"
  line='| --- |'
  for figure in "${figures[@]}"; do line+=' ---: | ---: |'; done
  echo "$line"
  for index in "${!paths[@]}"; do
    line="| ${paths[$index]} |"
    for figure in "${figures[@]}"; do
      base=$(middle "$rounds" <"$work/$figure.1")
      value=$(middle "$rounds" <"$work/$figure.$index")
      if [[ -n $value ]]; then
        line+=$(awk -v value="$value" -v base="$base" \
          'BEGIN { printf " %.0f | %.2f |", value, value / base }')
      else
        line+=' | |'
      fi
    done
    echo "$line"
  done
}

# Writes for a while; prints how many transactions there were and failed.
run_long_pgbench() {
  local said failed
  said=$(pgbench_at "${postgres_ports[3]}" -n -c 8 -T "$long" 2>>"$work/log") || true
  sed -n 's/^number of transactions actually processed: /transactions: /p
    s/^number of failed transactions: /failed: /p' <<<"$said"
  failed=$(sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' <<<"$said")
  [[ $failed == 0 ]] || echo "pgbench: ${failed:-no report}" >>"$work/failures"
}

in_domain_0() {
  rounds=5 seconds=3 long=30
  local markdown=/dev/null round figure index
  while (($# > 0)); do
    case $1 in
      --rounds) rounds=${2?} && shift ;;
      --seconds) seconds=${2?} && shift ;;
      --long) long=${2?} && shift ;;
      --markdown) markdown=${2?} && shift ;;
      *) usage ;;
    esac
    shift
  done
  begin_work
  chmod 755 "$work"
  ulimit -n "$(ulimit -Hn)"
  start_nginx
  start_postgres
  start_redis
  start_bridges
  start_paths
  : >"$work/failures"
  for ((round = 0; round < rounds; ++round)); do
    for figure in "${figures[@]}"; do
      for index in "${!paths[@]}"; do
        "measure_$figure" "$index" >>"$work/$figure.$index"
      done
    done
  done
  print_table | tee "$markdown"
  run_long_pgbench
  # What socats lose is theirs.
  if grep -E '^(xenlane forward|pgbench)' "$work/failures"; then return 1; fi
  cat "$work/failures"
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  case ${1:-} in
    --in-domain-0) in_domain_0 "${@:2}" ;;
    --help | -h) usage ;;
    *) outside "$@" ;;
  esac
  exit
}
main "$@"
