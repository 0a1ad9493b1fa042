"""xenlane cp on real Xen: files to a guest and from it, begun on either side, and a copy that is
killed in its midst and goes on."""

import hashlib
import os
import subprocess

from world import check, eventually, run, timed

MIB = 1 << 20
SENT = "/run/test/sent"
HOSTS = "/run/test/files"
GUESTS = "/tmp/files"


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def digest_in(guest, path):
    return guest.sh(f"sha256sum {path}").split()[0]


def make_sent(mib):
    with open(SENT, "wb") as file:
        file.write(os.urandom(mib * MIB))


def to_guest_and_back(guest):
    """64 MiB, first by the host's xenlane cp, then by the guest's own."""
    make_sent(64)
    with timed(f"64 MiB to {guest.name}"):
        run("xenlane", "cp", SENT, f"{guest.name}:", seconds=300)
    check(digest_in(guest, f"{GUESTS}/sent") == digest_of(SENT), f"{guest.name}: other bytes")
    again = run("xenlane", "cp", "--json", SENT, f"{guest.name}:")
    check('"bytes_sent":0' in again.splitlines()[-1], f"{guest.name}: copied again: {again}")
    with timed(f"64 MiB from {guest.name}"):
        guest.sh(f"xenlane cp {GUESTS}/sent host:", 300)
    landed = f"{HOSTS}/incoming/{guest.name}/sent"
    check(digest_of(landed) == digest_of(SENT), f"from {guest.name}: other bytes")
    os.remove(landed)
    guest.sh(f"rm {GUESTS}/sent")


def killed_goes_on(guest):
    make_sent(8)
    copy = subprocess.Popen(["xenlane", "cp", "--bwlimit", "200K", SENT, f"{guest.name}:"],
                            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = f"{GUESTS}/.sent.xenlane-part"
    eventually(lambda: int(guest.sh(f"stat -c %s {partial} 2>/dev/null || echo 0")) > MIB // 4, 60,
               f"{guest.name}: nothing of the file has come")
    copy.kill()
    copy.wait(20)
    check(guest.sh(f"test -e {GUESTS}/sent && echo there || true") == "",
          f"{guest.name}: a file that is not whole has its name")
    eventually(lambda: guest.sh("pidof xenlane || true") == "", 20,
               f"{guest.name}: the service goes on")
    before = int(guest.sh(f"stat -c %s {partial}"))
    done = run("xenlane", "cp", "--json", SENT, f"{guest.name}:").splitlines()[-1]
    check(f'"bytes_reused":{before},' in done, f"{before} bytes were there: {done}")
    check(digest_in(guest, f"{GUESTS}/sent") == digest_of(SENT), f"{guest.name}: other bytes")
    guest.sh(f"rm {GUESTS}/sent")


def copy_scenario(world):
    os.makedirs(HOSTS, exist_ok=True)
    for guest in world.guests:
        guest.sh(f"mkdir -p {GUESTS}")
        world.step(to_guest_and_back, guest)
        world.step(killed_goes_on, guest)
    os.remove(SENT)
