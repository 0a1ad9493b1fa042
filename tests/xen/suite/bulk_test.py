"""Bulk: the rate through both bridges, beside what the two domains can do without them.

Emulated, no rate means anything by itself; ratios of what was measured in turn do, and even they
only of the same kind of work. A system call of a PV domain makes QEMU forget its translations of
memory, so whatever goes through a socket is slow here, and bare libxenvchan, which makes none while
it streams, is not. So the bridges are held to what the sockets at their two ends cost by themselves
on the one processor: so much time for a byte in domain 0, and so much in the guest."""

import json
import statistics
import subprocess

from world import LOGS, check, eventually, run, xenstore

ROUNDS = 5
LOOP_BYTES = 128 << 20
LOOP_PATH = "data/loop"
SERVER = "/run/test/bench"
SHARE_MIN = 0.2


def bare(guest):
    """MB a second of 64 KiB writes by libxenvchan alone."""
    guest.sh(f"rm -f /tmp/loop.done; (vchan_loop serve 0 {LOOP_PATH}; touch /tmp/loop.done) "
             "</dev/null >/dev/hvc0 2>&1 &")
    path = f"/local/domain/{guest.domid}/{LOOP_PATH}"
    eventually(lambda: xenstore(f"{path}/event-channel"), 20, f"{guest.name}: no vchan at {path}")
    rate = float(run("vchan_loop", "send", str(guest.domid), path, str(LOOP_BYTES)))
    guest.sh(f"until [ -e /tmp/loop.done ]; do sleep 0.1; done; xenstore-rm {LOOP_PATH}")
    return rate


def measure_words(path, result):
    return ["bench_paths", "measure", "--only", "bulk", "--rounds", "1", "--seconds", "1",
            "--json", result, f"path={path}"]


def rate_in(text):
    return json.loads(text)[0]["bulk"]["median"]


def through(path):
    """The same from a program in domain 0 to one that bench_paths serves behind this socket."""
    result = f"{LOGS}/bulk.json"
    subprocess.run(measure_words(path, result), check=True, timeout=120, capture_output=True)
    with open(result) as file:
        return rate_in(file.read())


def through_socket_in(guest):
    """The same between two programs in the guest."""
    words = " ".join(measure_words(SERVER, "/tmp/bulk.json"))
    return rate_in(guest.sh(f"{words} >/dev/null 2>&1 && cat /tmp/bulk.json"))


def measure(guest):
    """Medians of MB a second: libxenvchan alone, the sockets at both ends alone, both bridges."""
    guest.sh(f"test -S {SERVER} || "
             f"setsid bench_paths serve {SERVER} </dev/null >/dev/hvc0 2>&1 &")
    guest.sh(f"until [ -S {SERVER} ]; do sleep 0.1; done")
    rounds = []
    for _ in range(ROUNDS):
        sockets = 1 / (1 / through(SERVER) + 1 / through_socket_in(guest))
        rounds.append((bare(guest), sockets, through(guest.socket_path("org.test.bench"))))
    print(f"  {guest.name}: MB/s of the loop, the sockets, the bridges: {rounds}", flush=True)
    return [statistics.median(rates) for rates in zip(*rounds)]


def bulk_scenario(world):
    server = subprocess.Popen(["bench_paths", "serve", SERVER], stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        for guest in world.guests:
            loop, sockets, bridged = world.step(measure, guest)
            world.say(f"       bulk to {guest.name}: {bridged:.0f} MB/s; {bridged / sockets:.2f} of "
                      f"the sockets alone, {bridged / loop:.2f} of bare libxenvchan")
            check(bridged >= SHARE_MIN * sockets,
                  f"{guest.name}: {bridged:.0f} MB/s is less than {SHARE_MIN} of {sockets:.0f} MB/s")
    finally:
        server.kill()
