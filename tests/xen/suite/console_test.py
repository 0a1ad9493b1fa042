"""The console lane over the real PV channel: alone, with a vchan that comes and goes under a
stream, and its rate beside what the bare channel has.

The guest is one of this scenario's own, because the others are to go on without a console lane."""

import contextlib
import hashlib
import os
import re
import socket
import statistics
import subprocess
import threading
import time

from faults_test import BACK_SECONDS
from guests_test import set_limit
from world import (ROOT, Agent, Failure, Guest, check, eventually, listed_domains, run, timed,
                   xenstore)

BARE_DEVICE = "/dev/hvc2"
MIB = 1 << 20
ROUNDS = 5
RATE_BYTES = 2 * MIB
# Times what the bare channel carries with a relay at each end, which is what a lane is instead of.
# The bare device itself is compared too, but the one emulated processor decides there.
SHARE_MIN = {"random bytes": 0.7, "prose": 1.3, "log": 3}


def text():
    with open(f"{ROOT}/guest/text", "rb") as file:
        return file.read()


class Transfer:
    """Random bytes through the guest and back, as many as the console could carry, until it is told
    to end."""

    BLOCK_BYTES = 4096
    PAUSE_SECONDS = 0.02

    def __init__(self, guest):
        self.guest = guest
        self.connection = guest.connect("org.test.exchange")
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.sent_bytes = self.received_bytes = 0
        self.failure = None
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True)
                        for work in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()

    def _guarded(self, work):
        try:
            work()
        except (OSError, Failure) as failure:  # for whoever waits
            self.failure = failure

    def _send(self):
        while not self.ending.is_set():
            block = os.urandom(self.BLOCK_BYTES)
            self.sent.update(block)
            self.connection.sendall(block)
            self.sent_bytes += len(block)
            time.sleep(self.PAUSE_SECONDS)
        self.connection.shutdown(socket.SHUT_WR)

    def _receive(self):
        while part := self.connection.recv(1 << 16):
            self.received.update(part)
            self.received_bytes += len(part)
        check(self.ending.is_set(), f"{self.guest.name}: the stream has ended early")

    def await_more(self, count, when):
        """So many more bytes have come back."""
        until = self.received_bytes + count

        def arrived():
            check(not self.failure, f"{self.guest.name}, {when}: the stream failed: {self.failure}")
            check(self.threads[1].is_alive(), f"{self.guest.name}, {when}: the stream has ended")
            return self.received_bytes >= until

        eventually(arrived, 60, lambda: f"{self.guest.name}, {when}: {self.received_bytes} bytes "
                                        f"came back, not {until}")

    def finish(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
        self.connection.close()
        name = self.guest.name
        check(not self.failure, f"{name}: the stream failed: {self.failure}")
        check(self.received_bytes == self.sent_bytes,
              f"{name}: {self.received_bytes} of {self.sent_bytes} bytes came back")
        check(self.received.digest() == self.sent.digest(),
              f"{name}: SHA-256 {self.received.hexdigest()} came back "
              f"for {self.sent.hexdigest()}")


def set_policy(guest, policy):
    """The guest's bridge, begun anew with that policy."""
    guest.kill_bridge()
    guest.sh("mkdir -p /guest/guest.d; "
             f"printf '[lanes]\\npolicy = \"{policy}\"\\n' >/guest/guest.d/50-lanes.toml")
    guest.start_bridge()
    guest.await_service(BACK_SECONDS)


def force(guest, lane):
    """By hand, on the host."""
    run("xenlane", "lane", guest.name, lane)


def lane_of(guest):
    return (guest.status() or {}).get("lane", {}).get("kind")


def await_lane(guest, kind, seconds=20):
    eventually(lambda: lane_of(guest) == kind, seconds,
               lambda: f"{guest.name}: no {kind} lane; the worker says "
                       f"{(guest.status() or {}).get('lane')}")


def text_both_ways(guest):
    """1 MiB each way at once."""
    data = (text() * (MIB // len(text()) + 1))[:MIB]
    with timed(f"{guest.name}, 1 MiB of text each way"):
        answer = guest.ask("org.test.exchange", data)
    check(hashlib.sha256(answer).digest() == hashlib.sha256(data).digest(),
          f"{guest.name}: {len(answer)} bytes came back for {len(data)}, or not the same")


def alone(guest):
    """Without a vchan: the guest has none to offer, then the host wants none."""
    begin_anew(guest)
    set_policy(guest, "never")
    check(lane_of(guest) == "console", f"{guest.name}: the lane is {lane_of(guest)}")
    text_both_ways(guest)
    ring = xenstore(f"/local/domain/{guest.domid}/data/xenlane/ring")
    check(ring is None, f"{guest.name} has offered vchan {ring} against its policy")
    set_policy(guest, "always")
    await_lane(guest, "vchan")
    force(guest, "console")
    await_lane(guest, "console")
    text_both_ways(guest)
    check(lane_of(guest) == "console", f"{guest.name}: the lane is {lane_of(guest)}")
    force(guest, "auto")


def begin_anew(guest):
    """A repeated step finds whatever the last attempt left."""
    if guest.name in listed_domains():
        guest.destroy()
    guest.create()
    guest.await_service(BACK_SECONDS)


def vchan_comes(guest):
    """A stream that began on the console goes on over a vchan."""
    set_policy(guest, "on-demand")
    force(guest, "console")
    await_lane(guest, "console")
    session = guest.await_session()["session"]["id"]
    transfer = Transfer(guest)
    transfer.await_more(64 << 10, "on the console")
    check(lane_of(guest) == "console", f"{guest.name}: the lane is {lane_of(guest)}")
    force(guest, "auto")
    await_lane(guest, "vchan")
    transfer.await_more(512 << 10, "after the vchan came")
    transfer.finish()
    status = guest.await_session()
    check(status["lane"]["kind"] == "vchan", f"{guest.name}: the lane is {status['lane']}")
    check(status["session"]["id"] == session, f"{guest.name}: the session is another one")


def revoke_vchan(guest):
    """In the page that both ends share, both are marked as gone (xen/io/libxenvchan.h: the bytes
    behind the two rings' indices and orders)."""
    pid = guest.sh("pidof xenlane-guest")
    maps = guest.sh(f"grep gntalloc /proc/{pid}/maps")
    ranges = [[int(number, 16) for number in re.match(r"(\w+)-(\w+) ", line).groups()]
              for line in maps.splitlines()]
    pages = [begin for begin, end in ranges if end - begin == 4096]
    check(len(pages) == 1, f"{guest.name}: which is the vchan's control page? {maps}")
    guest.sh(f"printf '\\0\\0' | dd of=/proc/{pid}/mem bs=1 seek={pages[0] + 20} conv=notrunc")


def vchan_goes(guest):
    """A vchan is taken away under a stream, with no memory for another; then there is memory."""
    set_policy(guest, "on-demand")
    transfer = Transfer(guest)
    await_lane(guest, "vchan")
    session = guest.await_session()["session"]["id"]
    transfer.await_more(256 << 10, "on the vchan")
    set_limit(guest, 0)
    try:
        revoke_vchan(guest)
        await_lane(guest, "console")
        transfer.await_more(256 << 10, "after the vchan went")
        check(lane_of(guest) == "console", f"{guest.name}: the lane is {lane_of(guest)}")
    finally:
        set_limit(guest, 1024)
    await_lane(guest, "vchan")
    transfer.await_more(256 << 10, "on another vchan")
    transfer.finish()
    check(guest.await_session()["session"]["id"] == session,
          f"{guest.name}: the session is another one")


def read_until(connection, enough):
    connection.settimeout(60)
    data = bytearray()
    while not enough(data):
        part = connection.recv(1 << 16)
        check(part, "QEMU closed the channel's socket")
        data += part
    return data


def dialogue_seconds(guest, connection, data):
    """With guest/dialogue at the far end: how long its file took, and how long the data."""
    # What a bridge left in QEMU's buffer comes before it.
    read_until(connection, lambda got: got.endswith(b"ready\n"))
    begin = time.monotonic()
    connection.sendall(b".")
    got = read_until(connection, lambda got: len(got) >= len(data))
    file_end = time.monotonic()
    check(hashlib.sha256(got).digest() == hashlib.sha256(data).digest(),
          f"{guest.name}: what the guest wrote is not what came")
    resume = time.monotonic()
    connection.sendall(data)
    got = read_until(connection, lambda got: got.startswith(b"got\n"))
    end = time.monotonic()
    answer = got + read_until(connection, lambda more: (got + more).count(b"\n") == 2)
    check(answer.split()[1].decode() == hashlib.sha256(data).hexdigest(),
          f"{guest.name}: what the host wrote is not what came")
    return file_end - begin, end - resume


def bare_seconds(guest, data):
    """Over a channel that has no xenlane on it."""
    with Agent.connect(f"/run/{guest.name}.probe") as connection:
        number = guest.agent.start(f"exec 4<>{BARE_DEVICE}; stty raw -echo <&4; "
                                   "/guest/dialogue <&4 >&4")
        seconds = dialogue_seconds(guest, connection, data)
        guest.agent.wait(number, 20)
    return seconds


def relayed_seconds(guest, data):
    """Over the bare channel, with what gives it a named socket at each end: a relay."""
    path = f"/run/test/{guest.name}.relay"
    relay = subprocess.Popen(["socat", "-b", "65536", f"UNIX-LISTEN:{path},unlink-close",
                              f"UNIX-CONNECT:/run/{guest.name}.probe"])
    try:
        with eventually(lambda: Agent.connect(path), 10, f"no relay at {path}") as connection:
            number = guest.agent.start(
                f"exec 4<>{BARE_DEVICE}; stty raw -echo <&4; "
                "socat -b 65536 -t 1 - UNIX-CONNECT:/run/test/dialogue <&4 >&4")
            seconds = dialogue_seconds(guest, connection, data)
            guest.agent.wait(number, 20)
    finally:
        relay.terminate()
        relay.wait()
    return seconds


def lane_seconds(guest, data):
    """Through a stream."""
    with guest.connect("org.test.dialogue") as connection:
        return dialogue_seconds(guest, connection, data)


def log_text():
    """What installing domain 0 has left."""
    parts = []
    for name in ("bootstrap.log", "dpkg.log"):
        with open(f"/var/log/{name}", "rb") as log:
            parts.append(log.read())
    return b"".join(parts)


def measure(guest):
    """Seconds from the guest and to it: for each of the five, a list of the rounds' pairs."""
    begin_anew(guest)
    force(guest, "console")
    await_lane(guest, "console")
    # What is repeated is so beyond zstd's window.
    noise, prose, log = [(data * (RATE_BYTES // len(data) + 1))[:RATE_BYTES]
                         for data in (os.urandom(RATE_BYTES), text(), log_text())]
    seconds = {"bare": [], "relays": [], "random bytes": [], "prose": [], "log": []}
    # In one round after the other, because the machine has other things to do at times.
    for _ in range(ROUNDS):
        for what, data in (("random bytes", noise), ("prose", prose), ("log", log)):
            guest.ask("org.test.store", data)
            if data is noise:
                seconds["bare"].append(bare_seconds(guest, data))
                seconds["relays"].append(relayed_seconds(guest, data))
            seconds[what].append(lane_seconds(guest, data))
        print(f"  {seconds}", flush=True)
    print(f"  {guest.status()['console']}", flush=True)
    check(lane_of(guest) == "console", f"{guest.name}: the lane is {lane_of(guest)}")
    return seconds


def judge(world, guest, seconds):
    shortfalls = []
    for number, way in enumerate(("from", "to")):
        rounds = {what: [pair[number] for pair in pairs] for what, pairs in seconds.items()}

        def share(what, of):
            return statistics.median(base / own for base, own in zip(rounds[of], rounds[what]))

        rate = RATE_BYTES / statistics.median(rounds["bare"]) / 1000
        line = (f"       console {way} {guest.name}: {rate:.0f} KB/s bare; "
                f"with relays {share('relays', 'bare'):.2f} times that")
        for what, least in SHARE_MIN.items():
            line += f"; {what} {share(what, 'bare'):.2f} ({share(what, 'relays'):.2f} times relays)"
            if share(what, "relays") < least:
                shortfalls.append(f"{way} {guest.name}: {what} have {share(what, 'relays'):.2f} "
                                  f"times the relays' rate, less than {least}")
        world.say(line)
    check(not shortfalls, "; ".join(shortfalls))


@contextlib.contextmanager
def console_guest(world):
    guest = Guest("con", "pv", console=True)
    try:
        yield guest
    finally:
        if guest.name in listed_domains():
            guest.destroy()
    for other in world.guests:
        other.await_service(30)


def console_scenario(world):
    with console_guest(world) as guest:
        for part in (alone, vchan_comes, vchan_goes):
            with timed(f"{guest.name}, {part.__name__}"):
                world.step(part, guest)


def console_rate_scenario(world):
    with console_guest(world) as guest:
        judge(world, guest, world.step(measure, guest))
