#!/usr/bin/env bash
# Measures xenlane cp on xensim beside other ways to bring files through the same bridges, all in
# one run and interleaved: one large file, and many small ones. All of it lies in /dev/shm.
#
#   tests/bench/files.sh [--rounds N] [--mib N] [--files N] [--markdown FILE] [PART...]
#
# PART is large or small; without any, both. Run it on a quiet machine, as root (sshd wants that).
# Exit code 2: packages are missing.
# shellcheck disable=SC2317  # functions are called by names put together
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/scripts.sh
source "$root/tests/scripts.sh"
# shellcheck source=tests/bench/world.sh
source "$root/tests/bench/world.sh"

build=$root/build/release
bin=$build/bin
programs=(xensim xenlane xenlane-host xenlane-guest bench_paths)
rounds=5
mib=2048
files=20000
markdown=/dev/null

usage() {
  sed -n '/^#   tests/s/^#   //p; /^# PART/,/^# Exit/s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 64
}

parts=()
options=("$@")
inside=
while (($# > 0)); do
  case $1 in
    --in-domain-0) inside=yes ;;
    --rounds) rounds=${2?} && shift ;;
    --mib) mib=${2?} && shift ;;
    --files) files=${2?} && shift ;;
    --markdown) markdown=${2?} && shift ;;
    large | small) parts+=("$1") ;;
    *) usage ;;
  esac
  shift
done
((${#parts[@]} > 0)) || parts=(large small)

outside() {
  require_packages "${build_packages[@]}" "${test_packages[@]}"
  mkdir -p "$build"
  run_logged "$build/bench-configure.log" cmake -S "$root" --preset release
  run_logged "$build/bench-build.log" cmake --build "$build" --target "${programs[@]}"
  : >"$markdown"
  TMPDIR=/dev/shm PATH=$bin:$PATH "$bin/xensim" run --guest web -- \
    bash "${BASH_SOURCE[0]}" --in-domain-0 "${options[@]}"
}

# listen NAME: the host's end; dial NAME TARGET: the guest's.
listen() { printf '[[channel]]\nname = "%s"\nend = "listen"\n' "$1"; }
dial() { printf '[[channel]]\nname = "%s"\nend = "dial"\ntarget = "%s"\n' "$1" "$2"; }

start_world() {
  local ssh=$work/ssh
  mkdir -p "$work/to" "$ssh" /run/sshd
  chmod 700 "$ssh"
  ssh-keygen -q -t ed25519 -N '' -f "$ssh/host_key"
  ssh-keygen -q -t ed25519 -N '' -f "$ssh/user_key"
  cp "$ssh/user_key.pub" "$ssh/authorized"
  echo "web $(cat "$ssh/host_key.pub")" >"$ssh/known"
  printf '%s\n' "HostKey $ssh/host_key" "AuthorizedKeysFile $ssh/authorized" "StrictModes no" \
    "UsePAM no" "PidFile none" "PermitRootLogin yes" "Subsystem sftp internal-sftp" >"$ssh/sshd"
  printf '%s\n' "Host web" "User root" "IdentityFile $ssh/user_key" "IdentitiesOnly yes" \
    "UserKnownHostsFile $ssh/known" "BatchMode yes" \
    "ProxyCommand xenlane connect web/org.bench.ssh" >"$ssh/config"
  {
    listen org.bench.bulk
    listen org.bench.cat
    listen org.bench.tar
    listen org.bench.ssh
    listen org.xenlane.files-in-guest.0
  } >"$work/host.toml"
  {
    dial org.bench.bulk "unix:$work/server"
    dial org.bench.cat "exec:/bin/sh -c 'cat >$work/to/cat; echo done'"
    dial org.bench.tar "exec:/bin/sh -c 'tar x -C $work/to; echo done'"
    dial org.bench.ssh "exec:/usr/sbin/sshd -i -f $ssh/sshd"
    dial org.xenlane.files-in-guest.0 "exec:$bin/xenlane serve-files --receive $work/to"
  } >"$work/guest.toml"
  background bench_paths serve "$work/server"
  background xenlane-host --config "$work/host.toml"
  background xensim exec web -- xenlane-guest --config "$work/guest.toml"
  await_socket "$XENLANE_RUN_DIR/web/org.bench.ssh"
}

# seconds COMMAND...: how long it takes; with what it brought taken away again.
seconds() {
  local begin=$EPOCHREALTIME end
  "$@" </dev/null >>"$work/log" 2>&1 || { tail "$work/log" >&2 && fail "failed: $*"; }
  end=$EPOCHREALTIME
  rm -rf "$work"/to/*
  awk -v a="$begin" -v b="$end" 'BEGIN { printf "%.3f\n", b - a }'
}

large_bare() {
  bench_paths measure --only bulk --rounds 1 --seconds 2 \
    "xenlane=$XENLANE_RUN_DIR/web/org.bench.bulk" 2>>"$work/log" |
    awk -F'|' -v mib="$mib" '$2 == " xenlane " { printf "%.3f\n", mib * 1.048576 / $3 }'
}
# A hypervisor may have taken memory back that is free; to fetch it again is none of their work.
warm() {
  head -c "$((mib * 1048576))" /dev/zero >"$work/warm"
  rm "$work/warm"
}
large_alone() {
  warm
  seconds cp --reflink=never "$work/large" "$work/to/large"
}
large_cat() {
  warm
  seconds socat -b 262144 "FILE:$work/large" "UNIX-CONNECT:$XENLANE_RUN_DIR/web/org.bench.cat"
}
large_cp() {
  warm
  seconds xenlane cp "$work/large" web:
}
large_scp() { seconds scp -q -F "$work/ssh/config" "$work/large" "web:$work/to/"; }
large_rsync() { seconds rsync -a -e "ssh -F $work/ssh/config" "$work/large" "web:$work/to/"; }

small_tar() {
  seconds bash -c "tar c -C '$work' small | xenlane connect web/org.bench.tar"
}
small_cp() { seconds xenlane cp "$work/small" web:; }
small_scp() { seconds scp -q -r -F "$work/ssh/config" "$work/small" "web:$work/to/"; }
small_rsync() { seconds rsync -a -e "ssh -F $work/ssh/config" "$work/small" "web:$work/to/"; }
# For a hundredth of them, times a hundred.
small_each() {
  local some
  mapfile -t some < <(find "$work/small" -type f | awk 'NR % 100 == 0')
  # shellcheck disable=SC2016  # it is the inner shell's
  seconds bash -c 'for file; do xenlane cp "$file" web: || exit 1; done' each "${some[@]}" |
    awk -v all="$files" -v some="${#some[@]}" '{ printf "%.3f\n", $1 * all / some }'
}

# table TITLE BASE WAY=WORDS...: measures them in turn; the medians beside that of BASE.
table() {
  local part=$1 base=$2 round way base_s
  shift 2
  for ((round = 0; round < rounds; ++round)); do
    for way in "$@"; do "${part}_${way%%=*}" >>"$work/$part.${way%%=*}"; done
  done
  base_s=$(middle "$rounds" <"$work/$part.$base")
  for way in "$@"; do
    middle "$rounds" <"$work/$part.${way%%=*}" |
      awk -v words="${way#*=}" -v base="$base_s" -v mib="$mib" -v files="$files" -v part="$part" '{
        rate = part == "large" ? mib * 1.048576 / $1 : files / $1
        printf "| %s | %.2f | %.0f | %.2f |\n", words, $1, rate, base / $1
      }'
  done | tee -a "$markdown"
}

measure_large() {
  head -c "$((mib * 1048576))" /dev/urandom >"$work/large"
  printf '| %d MiB | s | MB/s | x cat |\n| --- | ---: | ---: | ---: |\n' "$mib" | tee -a "$markdown"
  table large cat "bare=a bare stream, no file at either end" \
    "alone=cp, without any channel" \
    "cat=socat from the file, cat to one" "cp=xenlane cp" "scp=scp" "rsync=rsync -a"
  rm "$work/large"
}

# Some 20,000 headers, as they lie in folders on any machine that compiles.
make_small() {
  local copy
  mkdir "$work/small"
  for ((copy = 0; $(find "$work/small" -type f | wc -l) < files; ++copy)); do
    mkdir "$work/small/$copy"
    (cd /usr/include && find . -type f -size -64k | sort | awk 'NR <= 8000' |
      xargs cp -p --parents -t "$work/small/$copy")
  done
  find "$work/small" -type f | sort | tail -n "+$((files + 1))" | xargs -r rm
}

measure_small() {
  make_small
  printf '\n| %d files, %s | s | files/s | x tar |\n| --- | ---: | ---: | ---: |\n' "$files" \
    "$(du -sh --apparent-size "$work/small" | cut -f1)B" | tee -a "$markdown"
  table small tar "tar=tar c, tar x" "cp=xenlane cp" "scp=scp -r" "rsync=rsync -a" \
    "each=one xenlane cp for each file"
}

in_domain_0() {
  local part
  begin_work
  start_world
  for part in "${parts[@]}"; do "measure_$part"; done
}

# A function, so that bash has read all of this file before the long work starts.
main() {
  if [[ -n $inside ]]; then in_domain_0; else outside; fi
  exit
}
main
