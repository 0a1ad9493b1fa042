"""Faults: guests destroyed and created again, daemons killed. The host's programs must be told,
nothing may stay behind, and nobody else may notice."""

import os
import signal
import subprocess
import threading
import time

from bytes_test import exchange
from world import (LOGS, RING_BYTES, RUN_DIR, Failure, Keeper, check, eventually, grants_in_use,
                   listed_domains, xenstore)

ERROR_SECONDS = 2
GONE_SECONDS = 5
BACK_SECONDS = 5
REBOOT_SECONDS = 10


class Reader:
    """A program of the host that reads the guest's endless source through `xenlane connect`."""

    def __init__(self, guest):
        self.guest = guest
        self.log = f"{LOGS}/reader.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["xenlane", "connect", f"{guest.name}/org.test.source"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log)
        self.bytes_read = 0
        self.ended_at = None
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        while part := self.process.stdout.read1(1 << 16):
            self.bytes_read += len(part)
        self.process.wait()
        self.ended_at = time.monotonic()

    def await_bytes(self):
        eventually(lambda: self.bytes_read > 1 << 20, 30, f"{self.guest.name}: no transfer")

    def check_error(self, since):
        """It has ended, by an error, soon after."""
        self.thread.join(ERROR_SECONDS + max(0, since - time.monotonic()))
        if self.thread.is_alive():
            self.process.kill()
            raise Failure(f"{self.guest.name}: the host's program had no error {ERROR_SECONDS} s on")
        check(self.process.returncode not in (0, None),
              f"{self.guest.name}: the host's program took the end for a good one")


class Bystander:
    """A transfer with the other guest, that has to stay whole meanwhile."""

    def __init__(self, guest):
        self.failure = None
        self.guest = guest
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            exchange(self.guest, 16)
        except Exception as failure:  # told by check_whole, in the main thread
            self.failure = failure

    def check_whole(self):
        self.thread.join(120)
        check(not self.thread.is_alive(), f"{self.guest.name}: its transfer does not end")
        check(self.failure is None, f"the other guest noticed: {self.failure}")


def check_gone(guest, domid):
    """Nothing of a destroyed guest is left."""
    eventually(lambda: "(null)" not in listed_domains(), GONE_SECONDS,
               "a (null) domain: somebody keeps a grant of a dead guest mapped")
    check(xenstore(f"/local/domain/{domid}/domid") is None
          and xenstore(f"/local/domain/{domid}/xenlane/host") is None,
          f"xenstore nodes of the dead domain {domid} stay")
    for path in (f"{RUN_DIR}/{guest.name}", f"{RUN_DIR}/{domid}"):
        check(not os.path.lexists(path), f"{path} stays after its guest's death")


def destroy_transferring(guest):
    reader = Reader(guest)
    reader.await_bytes()
    guest.destroy()
    reader.check_error(time.monotonic())


def destroy_idle(guest):
    with guest.connect("org.test.echo") as connection:
        connection.sendall(b"x")
        check(connection.recv(1) == b"x", f"{guest.name}: no echo")
        guest.destroy()
        connection.settimeout(ERROR_SECONDS)
        check(ends(connection), f"{guest.name}: an idle connection did not end with its guest")


def destroy_connecting(guest):
    """The bridge has just been started: the guest dies somewhere in the set-up of the session."""
    guest.kill_bridge()
    guest.agent.start("setsid xenlane-guest --config /guest/guest.toml >/dev/hvc0 2>&1")
    guest.destroy()


def ends(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def destroy_round(phase, guest, other):
    bystander = Bystander(other)
    domid = guest.domid
    phase(guest)
    # A zombie may take these seconds to go; it may not stay.
    check_gone(guest, domid)
    bystander.check_whole()
    guest.create()
    guest.await_session()
    guest.await_service(BACK_SECONDS)


def destroy_scenario(world):
    phases = [destroy_transferring, destroy_idle, destroy_connecting]
    for number in range(world.rounds):
        guest, other = world.guests if number % 2 == 0 else reversed(world.guests)
        try:
            destroy_round(phases[number % 3], guest, other)
        except Failure as failure:
            raise Failure(f"round {number + 1}, {phases[number % 3].__name__}: {failure}") from failure


def destroy_self_test(world):
    """Something in domain 0 keeps a page of the guest: the dead domain must be noticed."""
    keeper = Keeper(world.pv)
    domid = world.pv.domid
    destroy_idle(world.pv)
    try:
        check_gone(world.pv, domid)
    except Failure as failure:
        check("(null)" in str(failure), f"noticed for another reason: {failure}")
    else:
        raise Failure("the kept page was not noticed")
    finally:
        keeper.close()
    check_gone(world.pv, domid)
    world.pv.create()
    world.pv.await_session()


def reboot_scenario(world):
    """The same name again, with a new domain id."""
    for guest in world.guests:
        before = guest.domid
        guest.destroy()
        guest.create()
        begin = time.monotonic()
        guest.await_service(REBOOT_SECONDS)
        took = time.monotonic() - begin
        check(guest.domid != before, f"{guest.name}: still domain {before}")
        check(os.readlink(f"{RUN_DIR}/{guest.domid}") == guest.name,
              f"{RUN_DIR}/{guest.domid} does not lead to {guest.name}")
        print(f"{guest.name}: back {took:.1f} s after its bridge was started")


def kill_guest_bridge(world, guest):
    guest.kill_bridge()
    killed = time.monotonic()
    yield killed
    guest.start_bridge()


def kill_worker(world, guest):
    os.kill(world.host.worker_pid(guest), signal.SIGKILL)
    yield time.monotonic()


def kill_broker(world, guest):
    world.host.kill()
    yield time.monotonic()
    world.host.start()


def kill_round(world, guest, kill):
    reader = Reader(guest)
    reader.await_bytes()
    theirs = guest.agent.start("dd if=/dev/zero bs=64k 2>/dev/null | "
                               "xenlane connect org.test.host-echo >/dev/null 2>&1")
    steps = kill(world, guest)
    killed = next(steps)
    reader.check_error(killed)
    answer = guest.agent.wait(theirs, ERROR_SECONDS)
    check(answer, f"{guest.name}: the guest's program had no error {ERROR_SECONDS} s on")
    check(answer[0] != 0, f"{guest.name}: the guest's program took the end for a good one")
    next(steps, None)
    for each in world.guests:
        each.await_service(BACK_SECONDS)


def check_no_leak(guest, before):
    """As many grants mapped as before, rings as large as before."""
    lane = guest.await_session()["lane"]
    check(lane["send_ring_bytes"] == RING_BYTES and lane["receive_ring_bytes"] == RING_BYTES,
          f"{guest.name}: rings have shrunk to {lane}: grants are leaking")
    now = grants_in_use(guest.domid)
    check(now == before, f"{guest.name}: {now} grants mapped, {before} before: somebody leaks them")


def kill_scenario(world):
    before = [grants_in_use(guest.domid) for guest in world.guests]
    for kill in (kill_guest_bridge, kill_worker, kill_broker):
        for number in range(world.rounds):
            guest = world.guests[number % 2]
            try:
                kill_round(world, guest, kill)
            except Failure as failure:
                raise Failure(f"{kill.__name__}, round {number + 1}: {failure}") from failure
    for guest, count in zip(world.guests, before):
        check_no_leak(guest, count)


def kill_self_test(world):
    """Something in domain 0 still has a page of a ring that was given up: a leak to be noticed."""
    before = grants_in_use(world.pv.domid)
    keeper = Keeper(world.pv)
    try:
        kill_round(world, world.pv, kill_guest_bridge)
        check_no_leak(world.pv, before)
    except Failure as failure:
        check("leak" in str(failure), f"noticed for another reason: {failure}")
    else:
        raise Failure("the kept page was not noticed")
    finally:
        keeper.close()
