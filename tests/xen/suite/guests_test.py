"""What a guest can and cannot do: xenstore permissions, grants running out, others on vchan."""

import os
import select
import subprocess
import threading
import time

from faults_test import BACK_SECONDS, Bystander
from world import RING_BYTES, check, eventually, read_log, xenstore

# What a guest must not be able to do, as its own xenstore tools see it.
FORBIDDEN = [
    "xenstore-write xenlane/host 7",
    "xenstore-write xenlane/wanted 7",
    "xenstore-write xenlane/more 7",
    "xenstore-write another-node 7",
    "xenstore-rm xenlane",
    "xenstore-rm xenlane/wanted",
    "xenstore-chmod xenlane b0",
]

# What a guest may do to its own nodes. Each may end its own session, no more.
VANDALISM = [
    "xenstore-rm data/xenlane/ring",
    "xenstore-write data/xenlane/ring junk",
    "xenstore-write data/xenlane/ring -1",
    "xenstore-write data/xenlane/ring 999999999999999999999999",
    "xenstore-write data/xenlane/ring ''",
    "xenstore-write data/xenlane/ring $(head -c 1500 /dev/zero | tr '\\0' 9)",
    "xenstore-write data/xenlane/ring $(head -c 3000 /dev/zero | tr '\\0' 9)",
    "xenstore-write data/xenlane/1/ring-ref 4294967295 data/xenlane/1/event-channel 4294967295",
    "xenstore-chmod data/xenlane/ring n0",
    "i=0; while [ $i -lt 50 ]; do xenstore-write data/xenlane/ring $i; i=$((i + 1)); done",
    "xenstore-rm data/xenlane",
]

# To a ring that the guest claims to be there and that is not: far ahead, so that the host tries it.
FALSE_RINGS = [
    "xenstore-write data/xenlane/{epoch}/ring-ref junk data/xenlane/{epoch}/event-channel junk",
    "xenstore-write data/xenlane/{epoch}/ring-ref 4294967295 "
    "data/xenlane/{epoch}/event-channel 9999",
    "xenstore-write data/xenlane/{epoch}/ring-ref 1 data/xenlane/{epoch}/event-channel 1",
]


def permissions_of(world, guest, other):
    check_forbidden(guest, other)
    worker = world.host.worker_pid(other)
    session = other.await_session()["session"]
    for command in VANDALISM:
        # Some are refused, by xenstored or by the tool; that is as good.
        guest.sh(command, expect=None)
        check_only_own_harm(world, other, worker, session, command)
    # The vandal gone, a new bridge is served.
    guest.kill_bridge()
    guest.start_bridge()
    guest.await_service(20)
    for command in FALSE_RINGS:
        guest.kill_bridge()
        claim_false_ring(guest, command)
        check_only_own_harm(world, other, worker, session, command)
        guest.start_bridge()
        guest.await_service(20)
    # What nobody but the toolstack can make again: service ends, until the guest is started anew.
    guest.sh("xenstore-rm data")
    check_only_own_harm(world, other, worker, session, "xenstore-rm data")
    guest.destroy()
    guest.create()
    guest.await_service(BACK_SECONDS)


def claim_false_ring(guest, command):
    wanted = f"/local/domain/{guest.domid}/xenlane/wanted"
    epoch = int(xenstore(wanted)) + 5
    reason = f"no vchan at {ring_path(guest, epoch)}"
    guest.sh(command.format(epoch=epoch) + f"; xenstore-write data/xenlane/ring {epoch}")
    eventually(lambda: int(xenstore(wanted)) > epoch, 20,
               f"{guest.name}: the host does not give up a ring that is not there: {command}")
    check(reason in read_log("xenlane-host.log"), f"the host does not say: {reason}")


def ring_path(guest, epoch):
    return f"/local/domain/{guest.domid}/data/xenlane/{epoch}"


def permissions_scenario(world):
    for guest, other in ((world.pv, world.pvh), (world.pvh, world.pv)):
        world.step(permissions_of, world, guest, other)


def check_forbidden(guest, other):
    for command in FORBIDDEN + [f"xenstore-read /local/domain/{other.domid}/data/xenlane/ring",
                                f"xenstore-write /local/domain/{other.domid}/data/xenlane/ring 9"]:
        answer = guest.agent.wait(guest.agent.start(command), 30)
        check(answer, f"{guest.name}: no answer to {command}")
        check(answer[0] != 0, f"{guest.name} was allowed to {command}")
    check(xenstore(f"/local/domain/{guest.domid}/xenlane/host") == "0",
          f"{guest.name}: the host's node has changed")


def check_only_own_harm(world, other, worker, session, command):
    check(world.host.alive(), f"xenlane-host ended after: {command}")
    check(world.host.worker_pid(other) == worker, f"the other guest's worker ended: {command}")
    now = other.status()["session"]
    check((now["state"], now["id"]) == ("up", session["id"]),
          f"the other guest's session ended after: {command}")


# The limit of gntalloc in pages, and the size of rings that then fit: a control page and two rings.
LIMITS = {4: 4096, 40: 16 * 4096}


def limits_of(guest):
    guest.kill_bridge()
    await_no_grants(guest)
    set_limit(guest, 2)
    message = guest.sh("xenlane-guest --config /guest/guest.toml", seconds=30, expect=9)
    check("gntalloc" in message and "limit" in message, f"not a clear message: {message}")
    for pages, ring_bytes in LIMITS.items():
        set_limit(guest, pages)
        guest.start_bridge()
        guest.await_service(BACK_SECONDS)
        lane = guest.await_session()["lane"]
        check(lane["send_ring_bytes"] == lane["receive_ring_bytes"] == ring_bytes,
              f"{guest.name}: with {pages} pages the lane is {lane}")
        data = os.urandom(1 << 20)
        check(guest.ask("org.test.echo", data) == data,
              f"{guest.name}: with {pages} pages the echo is not what was sent")
        guest.kill_bridge()
        await_no_grants(guest)
    set_limit(guest, 1024)
    guest.start_bridge()
    guest.await_service(BACK_SECONDS)
    check(guest.await_session()["lane"]["send_ring_bytes"] == RING_BYTES,
          f"{guest.name}: the rings are not large again")


def limits_beside(guest, other):
    with Bystander(other) as bystander:
        limits_of(guest)
        bystander.check_whole()


def limits_scenario(world):
    for guest, other in ((world.pv, world.pvh), (world.pvh, world.pv)):
        world.step(limits_beside, guest, other)


def set_limit(guest, pages):
    guest.sh(f"echo {pages} >/sys/module/xen_gntalloc/parameters/limit")


def await_no_grants(guest):
    """Pages go back to gntalloc once the host has let go of them."""
    eventually(lambda: (guest.status() or {}).get("lane", {}).get("kind") == "none", 5,
               f"{guest.name}: its worker keeps a dead bridge's lane")


def foreign_beside(guest):
    """Debian's vchan-socket-proxy beside a transfer of xenlane's."""
    node = f"/local/domain/{guest.domid}/data/proxy"
    guest.sh("setsid vchan-socket-proxy -m server 0 data/proxy /run/test/echo "
             "</dev/null >/dev/hvc0 2>&1 & echo $! >/tmp/proxy.pid")
    eventually(lambda: xenstore(node + "/event-channel"), 10,
               f"{guest.name}: the proxy's server is not up")
    with Bystander(guest) as bystander:
        data = os.urandom(1 << 20)
        client = subprocess.Popen(["vchan-socket-proxy", str(guest.domid), node, "-"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        writer = threading.Thread(target=write_all, args=(client.stdin, data))
        writer.start()
        try:
            check(read_within(client.stdout, len(data), 60) == data,
                  f"{guest.name}: the proxy's echo is not what was sent")
        finally:
            client.kill()
            client.wait()
            guest.sh("kill $(cat /tmp/proxy.pid)", expect=None)
            writer.join()
        bystander.check_whole()


def write_all(stream, data):
    """An early end shows at the reader."""
    try:
        stream.write(data)
    except OSError:
        pass


def foreign_scenario(world):
    for guest in world.guests:
        world.step(foreign_beside, guest)


def read_within(stream, amount, seconds):
    """At most this many bytes; what has come when the time is up."""
    data = bytearray()
    deadline = time.monotonic() + seconds
    while len(data) < amount:
        ready, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
        part = os.read(stream.fileno(), 1 << 16) if ready else b""
        if not part:
            break
        data += part
    return bytes(data)
