"""Faults: guests destroyed and created again, daemons killed. The host's programs must be told,
nothing may stay behind, and nobody else may notice."""

import os
import signal
import socket
import subprocess
import threading
import time

from world import (LOGS, RING_BYTES, RUN_DIR, Failure, Keeper, check, eventually, grants_in_use,
                   listed_domains, timed, xenstore)

# Twelve bring each phase of destroy_round to each guest.
ROUNDS = int(os.environ.get("XEN_TEST_ROUNDS", "20"))
ERROR_SECONDS = 8  # twice resume_ms of the configurations and what notices it
GONE_SECONDS = 15
BACK_SECONDS = 15
REBOOT_SECONDS = 30


def left_of(since, seconds):
    """What remains of so many seconds from then."""
    return max(0, since + seconds - time.monotonic())


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
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.thread.join()

    def _read(self):
        while part := self.process.stdout.read1(1 << 16):
            self.bytes_read += len(part)
        self.process.wait()

    def await_bytes(self):
        eventually(lambda: self.bytes_read > 1 << 18, 30, f"{self.guest.name}: no transfer")

    def check_error(self, since):
        """It has ended, by an error, soon after."""
        self.thread.join(left_of(since, ERROR_SECONDS))
        check(not self.thread.is_alive(),
              f"{self.guest.name}: the host's program had no error {ERROR_SECONDS} s on")
        check(self.process.returncode not in (0, None),
              f"{self.guest.name}: the host's program took the end for a good one")


class Bystander:
    """An echo with the other guest that goes on all the while, every byte of it compared. Paced: it
    is there to notice, not to keep the processor from the others."""

    BLOCK = 16 << 10
    PACE_SECONDS = 0.05

    def __init__(self, guest):
        self.guest = guest
        self.failure = None
        self.blocks_sent = 0
        self.blocks_back = 0
        self.stopping = threading.Event()
        self.connection = guest.connect("org.test.echo")
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed or gone
        self.thread.join()
        self.connection.close()

    @classmethod
    def _block(cls, number):
        return number.to_bytes(4, "little") * (cls.BLOCK // 4)

    def _run(self):
        sender = threading.Thread(target=self._send)
        sender.start()
        try:
            self._compare()
        except Exception as failure:  # told by check_going_on, in the main thread
            self.failure = failure
        self.stopping.set()
        sender.join()

    def _send(self):
        try:
            while not self.stopping.wait(self.PACE_SECONDS):
                self.connection.sendall(self._block(self.blocks_sent))
                self.blocks_sent += 1
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # shows at the reader

    def _compare(self):
        stream = self.connection.makefile("rb")
        while block := stream.read(self.BLOCK):
            check(block == self._block(self.blocks_back),
                  f"block {self.blocks_back} came back altered or cut")
            self.blocks_back += 1

    def check_going_on(self):
        """Alive now, not only until something happened to the other guest."""
        before = self.blocks_back
        eventually(lambda: self.failure or self.blocks_back > before + 1, 10,
                   f"{self.guest.name}: its stream stands still")
        check(self.failure is None, f"{self.guest.name}, the other guest, noticed: {self.failure}")

    def check_whole(self):
        """Ends it: all that was sent has come back."""
        self.check_going_on()
        self.stopping.set()
        self.thread.join(60)
        check(not self.thread.is_alive(), f"{self.guest.name}: its stream does not end")
        check(self.failure is None, f"{self.guest.name}, the other guest, noticed: {self.failure}")
        check(self.blocks_back == self.blocks_sent, f"{self.guest.name}: {self.blocks_back} of "
                                                    f"{self.blocks_sent} blocks came back")


def check_gone(guest, domid):
    """Nothing of a destroyed guest is left."""
    eventually(lambda: "(null)" not in listed_domains(), GONE_SECONDS,
               "a (null) domain: somebody keeps a grant of a dead guest mapped")
    check(xenstore(f"/local/domain/{domid}") is None,
          f"xenstore nodes of the dead domain {domid} stay")
    for path in (f"{RUN_DIR}/{guest.name}", f"{RUN_DIR}/{domid}"):
        check(not os.path.lexists(path), f"{path} stays after its guest's death")


def destroy_transferring(guest):
    with Reader(guest) as reader:
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
    """The bridge has just been started: the guest dies somewhere in the set-up of the session, with
    a program of the host's waiting for it."""
    guest.kill_bridge()
    guest.agent.start("setsid xenlane-guest --config /guest/guest.toml >/dev/hvc0 2>&1")
    with guest.connect("org.test.echo") as connection:
        guest.destroy()
        connection.settimeout(ERROR_SECONDS)
        check(ends(connection), f"{guest.name}: a connection made meanwhile did not end")


def ends(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def destroy_round(world, number):
    # Every fourth time the PVH guest, that takes longer to start; so each phase meets both.
    guest, other = (world.pvh, world.pv) if number % 4 == 3 else (world.pv, world.pvh)
    phase = (destroy_transferring, destroy_idle, destroy_connecting)[number % 3]
    domid = guest.domid
    try:
        with timed(phase.__name__), Bystander(other) as bystander:
            phase(guest)
            # A zombie may take these seconds to go; it may not stay.
            check_gone(guest, domid)
            bystander.check_whole()
    except Failure as failure:
        raise Failure(f"round {number + 1}, {phase.__name__}: {failure}") from failure
    guest.create()
    with timed("served again"):
        guest.await_service(BACK_SECONDS)


def destroy_scenario(world):
    for number in range(ROUNDS):
        world.step(destroy_round, world, number)


def destroy_self_test(world):
    """Something in domain 0 keeps a page of the guest: the dead domain must be noticed."""
    guest = world.pv
    keeper = Keeper(guest)
    domid = guest.domid
    destroy_idle(guest)
    try:
        check_gone(guest, domid)
    except Failure as failure:
        check("(null)" in str(failure), f"noticed for another reason: {failure}")
    else:
        raise Failure("the kept page was not noticed")
    finally:
        keeper.close()
    check_gone(guest, domid)
    guest.create()
    guest.await_session()


def reboot(guest):
    """The same name again, with a new domain id."""
    before = guest.domid
    guest.destroy()
    guest.create()
    with timed(f"{guest.name}, from its bridge's start to service"):
        guest.await_service(REBOOT_SECONDS)
    check(guest.domid != before, f"{guest.name}: still domain {before}")
    check(os.readlink(f"{RUN_DIR}/{guest.domid}") == guest.name,
          f"{RUN_DIR}/{guest.domid} does not lead to {guest.name}")


def reboot_scenario(world):
    for guest in world.guests:
        world.step(reboot, guest)


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


# The guest's own program: an endless echo from the host. /tmp/flowing tells that bytes came back.
GUEST_PROGRAM = ("/guest/trickle |"
                 "{ xenlane connect org.test.host-echo; echo $? >/tmp/ended; } |"
                 "{ head -c 1 >/tmp/flowing; cat >/dev/null; }; exit $(cat /tmp/ended)")


def await_flow(guest):
    """Until the guest's program has bytes back; else what there is to see of it."""
    if guest.agent.wait(guest.agent.start("until [ -s /tmp/flowing ]; do sleep 0.1; done"), 60):
        return
    seen = guest.sh("cat /tmp/ended; ls -l /tmp; ps; xenlane status --json", expect=None)
    raise Failure(f"{guest.name}: its program has nothing back in 60 s: {seen}")


def kill_round(world, guest, kill):
    with timed(kill.__name__), Reader(guest) as reader:
        guest.sh("rm -f /tmp/flowing")
        theirs = guest.agent.start(GUEST_PROGRAM)
        reader.await_bytes()
        await_flow(guest)
        steps = kill(world, guest)
        killed = next(steps)
        reader.check_error(killed)
        answer = guest.agent.wait(theirs, left_of(killed, ERROR_SECONDS))
        check(answer, f"{guest.name}: the guest's program had no error {ERROR_SECONDS} s on")
        check(answer[0] != 0, f"{guest.name}: the guest's program took the end for a good one")
    next(steps, None)
    restarted = time.monotonic()
    with timed("served again"):
        for each in world.guests:
            each.await_service(left_of(restarted, BACK_SECONDS))


def check_no_leak(guest, before):
    """As many grants mapped as before, rings as large as before."""
    lane = guest.await_session()["lane"]
    check(lane["send_ring_bytes"] == RING_BYTES and lane["receive_ring_bytes"] == RING_BYTES,
          f"{guest.name}: rings have shrunk to {lane}: grants are leaking")
    now = grants_in_use(guest.domid)
    check(now == before, f"{guest.name}: {now} grants mapped, {before} before: somebody leaks them")


def kill_rounds(world, guest, kill):
    """Half the rounds with each guest; then nothing may have leaked."""
    before = grants_in_use(guest.domid)
    for number in range(ROUNDS // 2):
        try:
            kill_round(world, guest, kill)
        except Failure as failure:
            raise Failure(f"{kill.__name__}, round {number + 1}: {failure}") from failure
    check_no_leak(guest, before)


def kill_scenario(kill):
    def scenario(world):
        for guest in world.guests:
            world.step(kill_rounds, world, guest, kill)

    return scenario


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
