"""Channels that come, change and go on the host and in a guest with systemd while both bridges run
and nothing is started anew: Debian's qemu-ga by one name over the PV channel itself and behind the
guest's bridge, and what is told of it meanwhile. Part of the channels scenario."""

import contextlib
import os
import subprocess

from agents import (AGENTS_UNIT, CLOUD, QEMU_AGENT, QemuAgentClient, Watch, ask_qemu_agent,
                    host_drop_in, make_raw, unit_state)
from console_test import Transfer
from world import LOGS, check, read_log, run, timed

AGENTS_OWN = "/run/qga/socket"
LATE = "org.test.late"


class Trickle(Transfer):
    """Goes on meanwhile, and leaves the one processor to others."""

    BLOCK_BYTES = 1024
    PAUSE_SECONDS = 0.1
    MORE_BYTES = 4096

    def goes_on(self, when):
        self.await_more(self.MORE_BYTES, when)


@contextlib.contextmanager
def bridge_as_service(guest):
    """xenlane-guest under its unit, with all that this forbids it."""
    guest.sh("mkdir -p /etc/xenlane/guest.d && cp /guest/guest.toml /etc/xenlane/")
    guest.sh("systemctl start xenlane-guest.service")
    guest.await_service(30)
    check(unit_state(guest, "xenlane-guest.service")["ActiveState"] == "active",
          "xenlane-guest.service is not active")
    yield
    guest.sh("systemctl stop xenlane-guest.service")


@contextlib.contextmanager
def watches(guest):
    """What the tool tells on the host and in the guest."""
    name = f"watch-{guest.name}.json"
    with open(f"{LOGS}/{name}", "wb") as out:
        here = subprocess.Popen(["xenlane", "watch", guest.name, "--json", "--now"],
                                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        guest.sh("setsid xenlane watch --json --now </dev/null >/tmp/watch 2>&1 & "
                 "echo $! >/tmp/watch.pid")
        both = (Watch("the host", lambda: read_log(name)),
                Watch("the guest", lambda: guest.sh("cat /tmp/watch")))
        for watch in both:
            watch.await_event("session", state="up")
        yield both
        guest.sh("kill $(cat /tmp/watch.pid)")
    finally:
        here.terminate()
        here.wait(20)


def end_of(guest, name):
    """The end that the guest's worker says the channel has, or None."""
    channels = {each["name"]: each for each in (guest.status() or {}).get("channels", [])}
    return channels.get(name, {}).get("end")


def to_bridged(guest, watch, transfer):
    """From the PV channel to qemu-ga's own socket behind the bridge. Its instance on the tty is
    stopped, so that it is not that one that answers."""
    on_host, in_guest = watch
    with QemuAgentClient(guest.socket_path(QEMU_AGENT)) as agent:
        on_host.await_event("connected", channel=QEMU_AGENT, lane="raw")
        run("xenlane", "channel", "remove", guest.name, QEMU_AGENT)
        check(agent.has_ended(), "a channel that was removed goes on")
    on_host.await_event("channel-removed", channel=QEMU_AGENT)
    check(not os.path.exists(guest.socket_path(QEMU_AGENT)), "the removed channel has its socket")
    guest.sh(f"systemctl stop {AGENTS_UNIT}; mkdir -p /run/qga; "
             f"setsid /usr/sbin/qemu-ga -m unix-listen -p {AGENTS_OWN} -t /run/qga "
             "</dev/null >/dev/hvc0 2>&1 & echo $! >/tmp/qga.pid; "
             f"until [ -S {AGENTS_OWN} ]; do sleep 0.1; done", 20)
    run("xenlane", "channel", "add", guest.name, QEMU_AGENT, "--listen")
    in_guest.await_event("peer-channel", channel=QEMU_AGENT, end="listen")
    guest.sh(f"xenlane channel add {QEMU_AGENT} --dial unix:{AGENTS_OWN}")
    in_guest.await_event("channel-added", channel=QEMU_AGENT, end="dial")
    on_host.await_event("channel-added", channel=QEMU_AGENT, end="listen")
    on_host.await_event("peer-channel", channel=QEMU_AGENT, end="dial")
    ask_qemu_agent(guest)
    on_host.await_event("connected", channel=QEMU_AGENT)
    check(end_of(guest, QEMU_AGENT) == "listen", "the channel has another end")
    transfer.goes_on("with qemu-ga behind the bridge")


def back_to_raw(guest, watch, transfer):
    """Without qemu-ga a bridge refuses, and its instance on the tty answers again."""
    on_host, in_guest = watch
    guest.sh("pid=$(cat /tmp/qga.pid); kill $pid; while kill -0 $pid; do sleep 0.1; done", 20)
    with guest.connect(QEMU_AGENT) as connection:
        check(connection.recv(1) == b"", "somebody answers in the place of qemu-ga")
    on_host.await_event("refused", channel=QEMU_AGENT)
    guest.sh(f"xenlane channel remove {QEMU_AGENT}; systemctl start {AGENTS_UNIT}")
    in_guest.await_event("channel-removed", channel=QEMU_AGENT)
    on_host.await_event("peer-channel", channel=QEMU_AGENT, end="none")
    run("xenlane", "channel", "remove", guest.name, QEMU_AGENT)
    in_guest.await_event("peer-channel", channel=QEMU_AGENT, end="none")
    make_raw(guest, QEMU_AGENT)
    on_host.await_event("channel-added", channel=QEMU_AGENT, end="raw")
    ask_qemu_agent(guest)
    transfer.goes_on("with qemu-ga on its tty again")


def by_reload(guest, watch, transfer):
    """A service in a file of each side. It goes together with the channel that the scenario began
    with; what was added by hand is left alone."""
    on_host, in_guest = watch
    drop_in = "/etc/xenlane/guest.d/50-late.toml"
    said = host_drop_in(guest.name, raw=[CLOUD], listen=[LATE])
    check(said == f"{guest.name}: added {LATE}", f"the host's reload says {said!r}")
    in_guest.await_event("peer-channel", channel=LATE, end="listen")
    guest.sh(f"printf '%s\\n' '[[channel]]' 'name = \"{LATE}\"' 'end = \"dial\"' "
             f"'target = \"unix:/run/test/echo\"' >{drop_in}; systemctl reload xenlane-guest")
    on_host.await_event("peer-channel", channel=LATE, end="dial")
    check(guest.ask(LATE, b"late") == b"late", "the channel of the drop-ins does not echo")
    said = guest.sh(f"rm {drop_in}; xenlane reload")
    check(said == f"removed {LATE}", f"the guest's reload says {said!r}")
    on_host.await_event("peer-channel", channel=LATE, end="none")
    said = host_drop_in(guest.name)
    check(said == f"{guest.name}: removed {CLOUD}, {LATE}", f"the host's reload says {said!r}")
    for name in (CLOUD, LATE):
        on_host.await_event("channel-removed", channel=name)
        check(not os.path.exists(guest.socket_path(name)), f"{name} still has its socket")
    check(end_of(guest, QEMU_AGENT) == "raw", "the reload has not left alone what it should")
    transfer.goes_on("after the reloads")


def services_come_and_go(guest):
    with bridge_as_service(guest):
        transfer = Trickle(guest)
        transfer.goes_on("before anything")
        session = guest.await_session()["session"]["id"]
        pids = guest.sh("pidof xenlane-guest"), guest.status()["pid"]
        with watches(guest) as watch:
            for part in (to_bridged, back_to_raw, by_reload):
                with timed(part.__name__):
                    part(guest, watch, transfer)
        transfer.finish()
        check(guest.await_session()["session"]["id"] == session, "the session is another one")
        check((guest.sh("pidof xenlane-guest"), guest.status()["pid"]) == pids,
              "a bridge has been started anew")
