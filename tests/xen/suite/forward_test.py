"""xenlane forward on real Xen: from a socket of domain 0 to a TCP service in a guest, fifty connections
at once, and through `xl reboot` of the guest with the forward's process left alone."""

import contextlib
import os
import socket
import subprocess

from world import LOGS, Guest, check, eventually, listed_domains, listed_domid, run, timed

PORT = 7007
CONNECTIONS = 50
BLOCK = os.urandom(40_000)


def serve(guest):
    """The forwarded service: a TCP echo on the guest's own loopback."""
    guest.sh(f"setsid socat TCP-LISTEN:{PORT},bind=127.0.0.1,reuseaddr,fork,backlog=128 EXEC:cat "
             "</dev/null >/dev/hvc0 2>&1 &")


@contextlib.contextmanager
def forward(guest):
    """Its process, and the socket that it listens on."""
    path = f"/run/test/forward-{guest.name}"
    with open(f"{LOGS}/forward-{guest.name}.log", "ab") as log:
        process = subprocess.Popen(
            ["xenlane", "forward", "-L", f"{path}:{guest.name}:{PORT}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: os.path.exists(path), 20, f"{guest.name}: the forward does not listen")
        yield process, path
    finally:
        process.terminate()
        check(process.wait(20) == 0, f"the forward to {guest.name} ended with {process.returncode}")


def open_to(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    return connection


def ask(connection, data):
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def answers(path):
    try:
        with open_to(path) as connection:
            return ask(connection, b"still here") == b"still here"
    except OSError:
        return False


def fifty_connections(guest):
    """All open at the same time, each with bytes of its own, half-closed by the client."""
    serve(guest)
    with forward(guest) as (_, path):
        eventually(lambda: answers(path), 30, f"{guest.name}: the forward does not answer")
        with contextlib.ExitStack() as stack, timed(f"{CONNECTIONS} connections to {guest.name}"):
            opened = [stack.enter_context(open_to(path)) for _ in range(CONNECTIONS)]
            for number, connection in enumerate(opened):
                connection.sendall(bytes([number]))
            for number, connection in enumerate(opened):
                check(connection.recv(1) == bytes([number]), f"{guest.name}: connection {number}")
            for number, connection in enumerate(opened):
                data = bytes([number]) + BLOCK
                check(ask(connection, data) == data, f"{guest.name}: bytes of {number}")


def reboots(guest):
    """The kernel is told by xenstore and runs /sbin/reboot; xl makes the domain anew."""
    guest.sh("mkdir -p /sbin && printf '#!/bin/sh\\nexec /bin/busybox reboot -f\\n' >/sbin/reboot "
             "&& chmod +x /sbin/reboot")
    before = guest.domid
    serve(guest)
    with forward(guest) as (process, path):
        eventually(lambda: answers(path), 30, f"{guest.name}: the forward does not answer")
        run("xl", "reboot", guest.name)
        with timed(f"xl reboot {guest.name}"):
            eventually(lambda: listed_domid(guest.name, before) != before, 120,
                       f"{guest.name} is not there again")
            guest.agent.close()
            guest.attach(f"/run/{guest.name}.agent")
        check(guest.domid != before, f"{guest.name}: still domain {before}")
        guest.start_bridge()
        serve(guest)
        with timed(f"{guest.name}, from its bridge's start to the forward's answer"):
            eventually(lambda: answers(path), 60, f"{guest.name}: no answer after the reboot")
        check(process.poll() is None, "the forward's process has ended")


def forward_scenario(world):
    for guest in world.guests:
        world.step(fifty_connections, guest)
    guest = Guest("fwd", "pv")
    guest.on_reboot = "restart"
    try:
        guest.create()
        guest.await_service(30)
        world.step(reboots, guest)
    finally:
        if guest.name in listed_domains():
            guest.destroy()
    for other in world.guests:
        other.await_service(30)
