"""`xenlane doctor` on real Xen: what it says of devices, limits, xenstore and channels is so there.

The guest whose channel xl loses is one of this scenario's own."""

import json
import subprocess

from console_test import console_guest
from world import ROOT, Guest, check, eventually, listed_domains, timed

HOST_CONFIG = f"{ROOT}/suite/host.toml"


def complaints(text):
    """What a doctor said but ok, by id; and how many findings there were."""
    said = json.loads(text)
    bad = {}
    for finding in said["findings"]:
        if finding["severity"] != "ok":
            bad.setdefault(finding["id"], []).append(finding)
    return said["side"], bad, {finding["id"] for finding in said["findings"]}


def ask_host(guest):
    done = subprocess.run(["xenlane", "doctor", guest.name, "--json", "--config", HOST_CONFIG],
                          capture_output=True, timeout=60, check=False)
    return done.returncode, complaints(done.stdout)


def ask_guest(guest, *arguments, expect=0):
    words = " ".join(("xenlane doctor --json --config /guest/guest.toml", *arguments))
    return complaints(guest.sh(words, expect=expect))


def severities(bad):
    return {finding["severity"] for findings in bad.values() for finding in findings}


def well_in(guest):
    """These guests have no channel for the console lane, which is a note there."""
    side, bad, ids = ask_guest(guest)
    check(side == "guest", f"{guest.name}: took itself for a {side}")
    check(severities(bad) <= {"note"}, f"{guest.name}: {bad}")
    for needed in ("device", "module", "grant.limit", "xenstore.answer", "xenstore.room",
                   "xenstore.permissions", "session.version", "console.device"):
        check(needed in ids, f"{guest.name}: nothing on {needed}")
    # What was tried is gone: no node beside the lane's own.
    check("doctor" not in guest.sh("xenstore-list data"), f"{guest.name}: left nodes behind")


def well_on_the_host(guest):
    code, (side, bad, ids) = ask_host(guest)
    check(side == "host", f"the host took itself for a {side}")
    # Scenarios before this one, on the same machine, may have had connections refused of late.
    said = set(bad) - {"channel.refused"}
    check(code == 1 and said == {"console.channel", "console.socket"}, f"the host: {bad}")
    for needed in ("device", "grant.limit", "xenstore.answer", "xenstore.permissions"):
        check(needed in ids, f"the host: nothing on {needed}")


def module_gone(guest):
    """Without its module a device is missing, and the finding says which to load."""
    guest.kill_bridge()
    eventually(lambda: guest.sh("rmmod xen_gntalloc", expect=None) == "", 20,
               f"{guest.name}: xen_gntalloc stays in use")
    _, bad, _ = ask_guest(guest, expect=8)
    said = json.dumps(bad)
    check("xen-gntalloc" in said or "/dev/xen/gntalloc" in said, f"{guest.name}: {bad}")
    check("modprobe xen-gntalloc" in said, f"{guest.name}: no remedy: {bad}")
    check("daemon.answer" in bad, f"{guest.name}: the dead bridge is not missed: {bad}")
    guest.sh("insmod $(grep gntalloc /modules)")
    guest.start_bridge()
    guest.await_service(20)


def lost_channel(guest):
    """The first of xl 4.17's list, seen from the host."""
    _, (_, bad, _) = ask_host(guest)
    check("console.channel" in bad, f"the lost channel is not missed: {bad}")
    finding = bad["console.channel"][0]
    check("xl lost org.xenlane.lane.0" in finding["problem"], f"not told as lost: {finding}")


def console_is_well(guest):
    if guest.name not in listed_domains():
        guest.create()
    guest.await_session(30)
    eventually(lambda: ask_host(guest)[0] == 0, 20, lambda: f"the host: {ask_host(guest)}")
    _, bad, ids = ask_guest(guest)
    check(severities(bad) <= {"note"}, f"{guest.name}: {bad}")
    check("console.reader" in ids, f"{guest.name}: nothing on who reads the console")


def make_and_lose(guest):
    if guest.name not in listed_domains():
        guest.create(bridge=False)
    eventually(lambda: guest.status(), 20, "the broker does not serve the guest")
    lost_channel(guest)


def doctor_scenario(world):
    for guest in world.guests:
        for part in (well_in, well_on_the_host, module_gone):
            with timed(f"{guest.name}, {part.__name__}"):
                world.step(part, guest)
    with console_guest(world) as guest:
        world.step(console_is_well, guest)
    guest = Guest("lost", "pv", console="first")
    try:
        world.step(make_and_lose, guest)
    finally:
        if guest.name in listed_domains():
            guest.destroy()
