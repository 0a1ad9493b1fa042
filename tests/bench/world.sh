# shellcheck shell=bash disable=SC2034 # what is set is for whoever sources this
# What the benchmarks in this folder do alike in a simulated domain 0: a folder to work in, programs
# in the background that end with the script, medians. Sourced behind tests/scripts.sh, never run.

# Debian's, which is in no search path.
proxy=/usr/lib/xen-4.17/bin/vchan-socket-proxy

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

# Everything goes when the script ends, in whatever way.
begin_work() {
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  work=$(mktemp -d "${TMPDIR:-/tmp}/xenlane-bench.XXXXXX")
}

# The median of so many numbers on stdin.
middle() {
  sort -g | sed -n "$((($1 + 1) / 2))p"
}
