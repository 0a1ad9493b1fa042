"""Bytes: what goes in at one end comes out at the other, whole, whatever else is going on."""

import hashlib
import os
import socket
import threading

from world import Failure, RING_BYTES, check, read_all, timed

MIB = 64
CONNECTIONS = 100


def in_parallel(jobs):
    """Runs all at once; raises what the first to fail raised."""
    failures = []

    def guarded(job):
        try:
            job()
        except Exception as failure:  # handed on below, in the main thread
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def exchange(guest, mib=MIB):
    """So much each way at once through one connection: what comes back has the same digest."""
    sent, received = hashlib.sha256(), hashlib.sha256()
    with guest.connect("org.test.exchange") as connection:
        def send():
            block = os.urandom(1 << 20)
            for number in range(mib):
                part = number.to_bytes(8, "little") + block[8:]
                sent.update(part)
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)

        def receive():
            amount = 0
            while part := connection.recv(1 << 20):
                received.update(part)
                amount += len(part)
            check(amount == mib << 20, f"{guest.name}: {amount} of {mib << 20} bytes came back")

        in_parallel([send, receive])
    check(received.digest() == sent.digest(),
          f"{guest.name}: SHA-256 {received.hexdigest()} came back for {sent.hexdigest()}")


def many_connections(guest):
    """All open at the same time, each with bytes of its own."""
    connections = [guest.connect("org.test.echo") for _ in range(CONNECTIONS)]
    texts = [os.urandom(1000 + 100 * number) for number in range(CONNECTIONS)]
    for connection, text in zip(connections, texts):
        connection.sendall(text)
    for connection in connections:
        connection.shutdown(socket.SHUT_WR)
    for number, (connection, text) in enumerate(zip(connections, texts)):
        check(read_all(connection) == text, f"{guest.name}: connection {number} of {CONNECTIONS} "
                                            "did not bring back what it sent")
        connection.close()


def half_close(guest):
    """The guest's program answers only after the end of what the host sends."""
    data = os.urandom(3 << 20)
    answer = guest.ask("org.test.digest", data).decode().split()
    check(answer[:1] == [hashlib.sha256(data).hexdigest()],
          f"{guest.name}: after a half-close the answer was {answer}")


def from_the_guest(guest):
    """A connection that the guest opens."""
    answer = guest.sh("echo hello | xenlane connect org.test.host-echo")
    check(answer == "hello", f"{guest.name}: the host's echo said {answer!r}")


def small_things(guest):
    rings = guest.await_session()["lane"]
    check(rings["kind"] == "vchan" and rings["send_ring_bytes"] == RING_BYTES
          and rings["receive_ring_bytes"] == RING_BYTES, f"{guest.name}: the lane is {rings}")
    for part in (half_close, from_the_guest, many_connections):
        with timed(f"{guest.name}, {part.__name__}"):
            part(guest)


def exchange_with_all(world):
    with timed("exchange"):
        in_parallel([lambda guest=guest: exchange(guest) for guest in world.guests])


def bytes_scenario(world):
    for guest in world.guests:
        world.step(small_things, guest)
    world.step(exchange_with_all, world)


def bytes_self_test(world):
    """The guest alters what it sends back: the digests must tell."""
    world.pv.sh("touch /tmp/fault")
    try:
        exchange(world.pv, 8)
    except Failure as failure:
        check("SHA-256" in str(failure), f"noticed for another reason: {failure}")
    else:
        raise Failure("the altered bytes were not noticed")
    finally:
        world.pv.sh("rm /tmp/fault")
