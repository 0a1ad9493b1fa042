"""What xenlane's design takes for granted about Xen, Linux and QEMU, as seen here. docs/xenstore.md
and docs/architecture.md say so where they rest on it."""

import ctypes
import os
import subprocess
import threading
import time

from faults_test import BACK_SECONDS
from world import LOGS, Agent, Keeper, check, eventually, listed_domains, run, xenstore


def removal(guest):
    """Who may write a node may remove all below it, whoever owns that."""
    theirs = f"/local/domain/{guest.domid}/data/theirs"
    guest.sh("xenstore-write data/theirs ''")
    run("xenstore-write", f"{theirs}/ours", "7")
    run("xenstore-chmod", f"{theirs}/ours", "n0", f"r{guest.domid}")
    for command in ("xenstore-write data/theirs/ours 8", "xenstore-rm data/theirs/ours"):
        guest.sh(f"! {command}")
    check(xenstore(f"{theirs}/ours") == "7", "a node of domain 0's was changed by the guest")
    guest.sh("xenstore-rm data/theirs")
    check(xenstore(f"{theirs}/ours") is None,
          "a node of domain 0's outlived the removal of the guest's folder around it")


class ReleaseWatch:
    """When @releaseDomain fires."""

    def __init__(self):
        self.times = []
        self.process = subprocess.Popen(["xenstore-watch", "@releaseDomain"],
                                        stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()
        eventually(lambda: self.times, 10, "a watch does not fire once at first")
        self.times.clear()

    def _read(self):
        for _ in self.process.stdout:
            self.times.append(time.monotonic())

    def close(self):
        self.process.kill()
        self.process.wait()


def release(guest):
    """@releaseDomain does not wait for mapped grants, nor comes again when the last goes."""
    keeper = Keeper(guest)
    watch = ReleaseWatch()
    domid = guest.domid
    begin = time.monotonic()
    guest.destroy()
    eventually(lambda: watch.times, 10, "@releaseDomain waits for the last mapping")
    print(f"  @releaseDomain {watch.times[0] - begin:.2f} s after xl destroy began")
    check("(null)" in listed_domains(), "the dead domain has gone in spite of a mapped grant")
    check(xenstore(f"/local/domain/{domid}") is None, "nodes of the dead domain stay")
    watch.times.clear()
    keeper.close()
    eventually(lambda: "(null)" not in listed_domains(), 10, "the dead domain stays")
    time.sleep(1)
    check(not watch.times, "@releaseDomain came again after the last unmap")
    watch.close()
    guest.create()
    guest.await_service(BACK_SECONDS)


LINE_BYTES = 1000
LINES = 3000
RAW_CHANNEL = "exec 4<>/dev/hvc2; stty raw -echo <&4"


def channel_output(guest):
    """What a guest writes to a PV channel that nobody has open on the host: kept by QEMU up to a
    limit, and handed to the next client, old as it is, with the guest's next output, not before."""
    path = f"/run/{guest.name}.probe"
    line = f"%09d:%0{LINE_BYTES - 11}d\\n"
    guest.sh(f"awk 'BEGIN {{ for (i = 0; i < {LINES}; i++) printf \"{line}\", i, 0 }}' >/tmp/lines")
    # The guest is never made to wait.
    guest.sh(f"{RAW_CHANNEL}; cat /tmp/lines >&4")
    with Agent.connect(path) as reader:
        check(read_for(reader, 1) == b"", "old output came without new")
        data = b""
        while b"last\n" not in data:
            guest.sh(f"{RAW_CHANNEL}; echo last >&4")
            part = read_for(reader, 0.5)
            check(part, "the last line does not come")
            data += part
    numbers = [int(each[:9]) for each in data.split(b"\n") if len(each) == LINE_BYTES - 1]
    runs = [(first, last) for first, last in zip(numbers, numbers[1:]) if last != first + 1]
    print(f"  {len(data)} of {LINES * LINE_BYTES} bytes; lines {numbers[0]} to {numbers[-1]}, "
          f"gaps {runs}")
    check(numbers[0] == 0, f"the first line is {numbers[0]}")
    check(len(numbers) < LINES, "nothing was lost, however much nobody read")


def read_for(reader, seconds):
    """All that comes until nothing has come for so long."""
    reader.settimeout(seconds)
    data = b""
    try:
        while part := reader.recv(1 << 20):
            data += part
    except TimeoutError:
        pass
    return data


class Offer:
    """A page and an event channel of domain 0's for a guest."""

    def __init__(self, domid):
        self.grants = ctypes.CDLL("libxengnttab.so.1", use_errno=True)
        self.events = ctypes.CDLL("libxenevtchn.so.1", use_errno=True)
        for function in (self.grants.xengntshr_open, self.grants.xengntshr_share_pages,
                         self.events.xenevtchn_open):
            function.restype = ctypes.c_void_p
        self.share = ctypes.c_void_p(self.grants.xengntshr_open(None, 0))
        reference = ctypes.c_uint32()
        self.page = ctypes.c_void_p(self.grants.xengntshr_share_pages(
            self.share, ctypes.c_uint32(domid), 1, ctypes.byref(reference), 1))
        check(self.page.value, f"sharing a page: {os.strerror(ctypes.get_errno())}")
        ctypes.cast(self.page, ctypes.POINTER(ctypes.c_uint64))[0] = 0x7E57
        self.channel = ctypes.c_void_p(self.events.xenevtchn_open(None, 0))
        self.port = self.events.xenevtchn_bind_unbound_port(self.channel, ctypes.c_uint32(domid))
        self.reference = reference.value

    def close(self):
        self.events.xenevtchn_close(self.channel)
        self.grants.xengntshr_unshare(self.share, self.page, 1)
        self.grants.xengntshr_close(self.share)


def resume(guest):
    """A PVH guest saved and restored: pages it had mapped read as ones, its event channels are dead
    without a word, and to close one is a bug of the kernel's. All the same it is served again."""
    offer = Offer(guest.domid)
    # Its channel may not outlive the restoration: what is to be told goes to the console.
    guest.sh(f"setsid resume_probe {offer.reference} {offer.port} </dev/null >/dev/hvc0 2>&1 &")
    eventually(lambda: "word 0x7e57, poll none, notify 0" in guest.console(), 10,
               f"{guest.name}: the probe cannot see the page")
    run("xl", "save", guest.name, "/run/saved", seconds=120)
    guest.agent.close()
    with open(f"{LOGS}/restore.log", "ab") as log:
        status = subprocess.call(["xl", "restore", "/run/saved"], stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log, timeout=120)
    check(status == 0, "xl restore failed, see logs/restore.log")
    os.remove("/run/saved")
    eventually(lambda: "word 0xffffffffffffffff, poll none, notify 0" in guest.console(), 20,
               f"{guest.name}: the page of another domain is not all ones, or an event came")
    eventually(lambda: "kernel BUG at drivers/xen/evtchn.c" in guest.console(), 10,
               f"{guest.name}: its kernel closes an event channel from before without a fault")
    offer.close()
    guest.await_service(BACK_SECONDS)
    guest.destroy()
    guest.create()
    guest.await_service(BACK_SECONDS)


def facts_scenario(world):
    world.step(removal, world.pv)
    world.step(channel_output, world.pv)
    world.step(release, world.pv)
    world.step(resume, world.pvh)
