"""A PV console channel that is added to a running guest, which no tool of Xen's does: what xl writes
for a channel when it makes a guest, written later, and a character device given to the guest's QEMU
by its QMP socket."""

import json
import os
import socket

from world import check, eventually, run, xenstore


class Monitor:
    """QEMU's QMP. One client at a time; xl needs it only now and then."""

    def __init__(self, domid):
        path = f"/run/xen/qmp-libxl-{domid}"
        check(os.path.exists(path), f"there is no {path}")
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(20)
        self.connection.connect(path)
        self.lines = self.connection.makefile("r")
        check("QMP" in json.loads(self.lines.readline()), "QEMU does not greet")
        self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.connection.close()

    def ask(self, command, **arguments):
        self.connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.lines.readline())
            if "event" not in answer:
                check("return" in answer, f"QMP {command}: {answer}")
                return answer["return"]


def write(folder, nodes, permissions):
    """In one transaction; then nobody but domain 0 writes them, and who may read them may read the
    folder. A program for each would take seconds."""
    pairs = [(f"{folder}/{key}", value) for key, value in nodes.items()]
    run("xenstore-write", folder, "", *[word for pair in pairs for word in pair])
    run("xenstore-chmod", "-r", folder, *permissions)


class HotChannel:
    def __init__(self, guest, number, name, path, chardev=None):
        self.domid = guest.domid
        self.number = number
        self.name = name
        self.path = path
        self.chardev = chardev or f"xenlane-channel{number}"
        self.front = f"/local/domain/{self.domid}/device/console/{number}"
        self.back = f"/local/domain/0/backend/console/{self.domid}/{number}"
        self.libxl = f"/libxl/{self.domid}/device/console/{number}"

    def plug(self):
        with Monitor(self.domid) as monitor:
            monitor.ask("chardev-add", id=self.chardev, backend={
                "type": "socket",
                "data": {"addr": {"type": "unix", "data": {"path": self.path}},
                         "server": True, "wait": False}})
        ours = ("n0", f"r{self.domid}")
        theirs = (f"n{self.domid}", "r0")
        write(self.front, {
            "backend": self.back, "backend-id": "0", "type": "ioemu", "name": self.name,
            "output": f"chardev:{self.chardev}", "limit": "1048576", "tty": "",
            "protocol": "vt100"}, ours)
        run("xenstore-chmod", self.front, *theirs)
        backend = {
            "frontend": self.front, "frontend-id": str(self.domid), "online": "1",
            "protocol": "vt100", "connection": "socket", "name": self.name, "path": self.path,
            "output": f"chardev:{self.chardev}", "state": "1"}
        write(self.back, backend, ours)
        # From here xl lists it, and knows what to remove with the guest.
        write(self.libxl, {**backend, "backend": self.back}, ("n0",))
        # The kernel looks when this comes.
        run("xenstore-write", f"{self.front}/state", "1")
        run("xenstore-chmod", f"{self.front}/state", *theirs)
        eventually(lambda: xenstore(f"{self.back}/state") == "4", 30,
                   lambda: "the plugged channel does not connect: front "
                           f"{xenstore(self.front + '/state')}, back "
                           f"{xenstore(self.back + '/state')}")

    def unplug(self):
        """As xl does with other devices: asks the guest's driver to let go, then removes."""
        run("xenstore-write", f"{self.back}/online", "0", f"{self.back}/state", "5")
        eventually(lambda: xenstore(f"{self.front}/state") == "6", 20,
                   lambda: "the guest's driver keeps the channel: front "
                           f"{xenstore(self.front + '/state')}, back "
                           f"{xenstore(self.back + '/state')}")
        for path in (self.front, self.back, self.libxl):
            run("xenstore-rm", path)
        with Monitor(self.domid) as monitor:
            eventually(lambda: self._removed(monitor), 10, "QEMU keeps the character device")

    def _removed(self, monitor):
        try:
            monitor.ask("chardev-remove", id=self.chardev)
        except Exception as failure:  # its reason goes to the log; it is asked again
            print(f"  {failure}", flush=True)
            return False
        return True
