#!/usr/bin/env bash
# Shows xenlane at work on this machine, without Xen: builds it, starts a host and two guests on
# xensim, and carries 256 MiB each way between the host and each guest, all four at once.
#
#   ./demo.sh        exit code 0: every file arrived whole; 1: not; 2: packages are missing
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"

build=$root/build/release
bin=$build/bin
guests=(web db)
file_mib=256
transfer_s=180
round_trips=20000
programs=(xensim xenlane xenlane-host xenlane-guest demo_round_trip)

# --- the part outside the simulated Xen ---

work=
clean_up() {
  end_job
  [[ -z $work ]] || rm -rf -- "$work"
}

outside() {
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  require_packages "${build_packages[@]}"

  lock_builds "$root/build"
  say "building ${programs[*]} (minutes the first time)"
  mkdir -p "$build"
  cd "$root"
  run_logged "$build/demo-configure.log" cmake --preset release
  run_logged "$build/demo-build.log" nice cmake --build --preset release --target "${programs[@]}"
  unlock_builds

  work=$(mktemp -d "${TMPDIR:-/tmp}/xenlane-demo.XXXXXX")
  # Two files are made and each arrives twice.
  local free_mib
  free_mib=$(($(df -Pk "$work" | awk 'NR == 2 { print $4 }') / 1024))
  ((free_mib > 7 * file_mib)) ||
    fail "$work has $free_mib MiB free, $((7 * file_mib)) are needed; set TMPDIR to another folder"

  say "starting xensim with the guests ${guests[*]}"
  local arguments=() guest
  for guest in "${guests[@]}"; do arguments+=(--guest "$guest"); done
  PATH=$bin:$PATH run_job "$bin/xensim" run "${arguments[@]}" -- \
    bash "$root/demo.sh" --in-domain-0 "$work"
  say "done in $(elapsed)"
}

# --- the part in domain 0 ---

declare -A daemons=()

# Becomes a command in a domain (host or a guest's name). {run} in its words is that domain's folder
# of named sockets.
in_domain() {
  local domain=$1
  shift
  # shellcheck disable=SC2016 # for the domain's shell to expand
  local script='for word; do
    shift
    set -- "$@" "${word/\{run\}/"$XENLANE_RUN_DIR"}"
  done
  exec "$@"'
  if [[ $domain == host ]]; then
    exec bash -c "$script" bash "$@"
  fi
  exec xensim exec "$domain" -- bash -c "$script" bash "$@"
}

show_logs() {
  local log
  for log in "$work"/*.log; do
    [[ ! -s $log ]] || printf -- '--- %s\n%s\n' "${log##*/}" "$(tail -n 20 "$log")" >&2
  done
}

lose() {
  printf 'demo.sh: %s\n' "$*" >&2
  show_logs
  exit 1
}

write_configurations() {
  # Ports: both sides have a named socket, and the n-th connections of both sides meet.
  local name
  for name in inbox outbox echo; do
    printf '[[channel]]\nname = "org.example.%s"\nend = "port"\n\n' "$name"
  done | tee "$work/host.toml" >"$work/guest.toml"
}

start_daemons() {
  local guest
  in_domain host xenlane-host --config "$work/host.toml" 2>"$work/xenlane-host.log" &
  daemons[$!]="xenlane-host"
  for guest in "${guests[@]}"; do
    in_domain "$guest" xenlane-guest --config "$work/guest.toml" \
      2>"$work/xenlane-guest.$guest.log" &
    daemons[$!]="xenlane-guest in $guest"
  done
}

sessions_up() {
  xenlane status --json 2>/dev/null | grep -o '"state":"up"' | wc -l
}

check_daemons() {
  local pid
  for pid in "${!daemons[@]}"; do
    kill -0 "$pid" 2>/dev/null || lose "${daemons[$pid]} has ended"
  done
}

wait_for_sessions() {
  local tries
  for ((tries = 0; tries < 100; ++tries)); do
    (($(sessions_up) < ${#guests[@]})) || return 0
    check_daemons
    sleep 0.1
  done
  xenlane status >&2 || true
  lose "the sessions are not up after 10 s"
}

# carry LABEL FROM_DOMAIN FROM_SOCKET FILE TO_DOMAIN TO_SOCKET RECEIVED, in the background.
declare -A transfers=()
declare -A expected=()
carry() {
  local label=$1 from=$2 from_socket=$3 file=$4 to=$5 to_socket=$6 received=$7
  expected[$received]=$file
  (
    in_domain "$to" timeout "$transfer_s" \
      socat -b 65536 -u "UNIX-CONNECT:{run}/$to_socket" "CREATE:$received" 2>"$received.socat.log" &
    receiver=$!
    begin=$EPOCHREALTIME
    (in_domain "$from" timeout "$transfer_s" \
      socat -b 65536 -u "FILE:$file" "UNIX-CONNECT:{run}/$from_socket" 2>"$received.send.log")
    wait "$receiver"
    end=$EPOCHREALTIME
    awk -v begin="$begin" -v end="$end" -v mib="$file_mib" -v label="$label" \
      'BEGIN { printf "    %-13s %4d MiB in %.2f s, %4.0f MiB/s\n", label, mib, end - begin,
               mib / (end - begin) }' >"$received.rate"
  ) &
  transfers[$!]=$label
}

# Waits for every transfer; a bridge that ends meanwhile ends the demo.
await_transfers() {
  local ended status
  while ((${#transfers[@]} > 0)); do
    check_daemons
    status=0
    wait -n -p ended "${!transfers[@]}" "${!daemons[@]}" 2>/dev/null || status=$?
    check_daemons
    ((status == 0)) || lose "${transfers[$ended]}: socat failed (exit code $status)"
    unset "transfers[$ended]"
  done
}

hash_of() {
  local line
  line=$(sha256sum -- "$1")
  printf '%s' "${line%% *}"
}

compare_hashes() {
  local received file sent_hash received_hash
  for received in "${!expected[@]}"; do
    file=${expected[$received]}
    sent_hash=$(hash_of "$file")
    received_hash=$(hash_of "$received")
    if [[ $sent_hash != "$received_hash" ]]; then
      lose "${received##*/} is not what was sent:" \
        "$(stat -c %s "$received") of $(stat -c %s "$file") bytes, SHA-256 $received_hash" \
        "instead of $sent_hash"
    fi
    printf '    %-13s SHA-256 %s... at both ends\n' "${received##*/}" "${sent_hash:0:16}"
  done | sort
}

measure_round_trips() {
  local guest echo_pid result
  for guest in "${guests[@]}"; do
    in_domain "$guest" demo_round_trip echo "{run}/org.example.echo" &
    echo_pid=$!
    result=$(in_domain host timeout "$transfer_s" \
      demo_round_trip ask "{run}/$guest/org.example.echo" "$round_trips") ||
      lose "round trips to $guest failed"
    wait "$echo_pid" || lose "the echo in $guest failed"
    printf '    host and %-5s %s\n' "$guest:" "$result"
  done
}

inside() {
  work=$1
  trap 'exit 143' TERM INT HUP
  write_configurations
  say "starting xenlane-host, and xenlane-guest in each guest"
  start_daemons
  wait_for_sessions

  say "making two files of $file_mib MiB from /dev/urandom"
  head -c "${file_mib}MiB" /dev/urandom >"$work/of-host"
  head -c "${file_mib}MiB" /dev/urandom >"$work/of-guests"

  say "carrying them host to guest and guest to host, all at once, by socat on the named sockets"
  local guest
  for guest in "${guests[@]}"; do
    carry "host to $guest" host "$guest/org.example.inbox" "$work/of-host" \
      "$guest" org.example.inbox "$work/host-to-$guest"
    carry "$guest to host" "$guest" org.example.outbox "$work/of-guests" \
      host "$guest/org.example.outbox" "$work/$guest-to-host"
  done
  await_transfers
  cat "$work"/*.rate
  compare_hashes
  check_daemons
  rm -f -- "${!expected[@]}"

  say "64-byte round trips over a named socket, $round_trips to each guest"
  measure_round_trips

  say "the lane to each guest, by xenlane lane"
  for guest in "${guests[@]}"; do
    printf '    %-5s %s\n' "$guest:" "$(xenlane lane "$guest")"
  done
  say "xenlane ls"
  xenlane ls | sed 's/^/    /'
  check_daemons
}

case ${1:-} in
  --in-domain-0) inside "$2" ;;
  '') outside ;;
  *)
    sed -n '2,5s/^# \{0,1\}//p' "$root/demo.sh" >&2
    exit 2
    ;;
esac
