"""PV channels as administrators and agents know them: in a guest with systemd and udev, the guest's
side of xenlane as it is installed, agents that know nothing of xenlane, and on the host the named
sockets of raw channels. docs/guest.md says what holds here.

The guest is one of this scenario's own."""

import os
import subprocess

from agents import (AGENTS_UNIT, CLOUD, HOSTNAME, QEMU_AGENT, SSH_KEY, CloudAgent,
                    ask_qemu_agent, console_of, host_drop_in, make_raw, unit_state)
from hotplug import HotChannel
from services_test import services_come_and_go
from world import LOGS, Agent, Failure, Guest, check, eventually, listed_domains, run, timed

HOT = "org.example.hot-plugged"
LINKS = "/dev/xen-channel"
GUEST = "cloud"


def path_of(name):
    """QEMU's socket."""
    return console_of(name).replace("{guest}", GUEST)


def guest_with_channels():
    """Numbers 1 and 2 are the suite's own, 3 to 6 are these."""
    channels = [f"connection=socket,name={CLOUD},path={path_of(CLOUD)}",
                f"connection=socket,name={QEMU_AGENT},path={path_of(QEMU_AGENT)}",
                "connection=pty,name=../escape",
                f"connection=pty,name={CLOUD}"]
    return Guest(GUEST, "pv", channels=channels, initrd="channels.cpio", memory=320,
                 kernel="rdinit=/lib/systemd/systemd systemd.unit=xen-test.target "
                        "systemd.show_status=0")


def early_config(guest, agent):
    """Steps 1 to 11 of xen-pv-channel(7). 1 to 3: the guest is made from what all guests are made
    of, and its configuration lists the channel that its agent expects, with a socket path of its
    own. That path is in xenlane's configuration; the host's agent knows the channel's name."""
    guest.create(bridge=False)  # 4, and 5 is going on
    check(agent.finish() == f"{HOSTNAME} 1", f"applied was: {agent.outcome}")  # 9 to 11
    print(f"  {agent.refusals} times the channel was not there yet", flush=True)
    check(guest.sh("hostname") == HOSTNAME, "the host name is not the configured one")
    check(guest.sh("cat /root/.ssh/authorized_keys") == SSH_KEY, "the ssh key is another one")


def udev_made_links(guest):
    """6 to 8: for whom there was a link, and what udev and the log know."""
    links = sorted(guest.sh(f"cd {LINKS} && for l in *; do echo $l $(readlink $l); done").split("\n"))
    check(links == [f"{CLOUD} /dev/hvc3", f"{QEMU_AGENT} /dev/hvc4", "org.test.agent /dev/hvc1",
                    "org.test.probe /dev/hvc2"], f"the links are {links}")
    log = guest.sh("journalctl -t xen-console-setup -o cat")
    for text in ("console 5: the name ../escape: '.' may not come first",
                 f"console 6: the name {CLOUD} is taken by console 3"):
        check(log.count(text) == 1, f"not once in the log: {text}\n{log}")
    known = guest.sh("udevadm info /sys/bus/xen/devices/console-3")
    for text in (f"E: SYSTEMD_ALIAS={LINKS}/{CLOUD}", "E: TAGS=:systemd:"):
        check(text in known, f"udev does not know {text}:\n{known}")


def no_getty_on_channels(guest):
    """systemd's generator starts one on hvc0 alone; whoever wants one on another console has it,
    unless that is a channel."""
    check(unit_state(guest, "serial-getty@hvc0.service")["ActiveState"] == "active",
          "no getty on hvc0")
    started = guest.sh("systemctl list-units --plain --no-legend 'serial-getty@*' | cut -d' ' -f1")
    check(started == "serial-getty@hvc0.service", f"gettys at boot: {started}")
    guest.sh("systemctl start serial-getty@hvc4.service serial-getty@hvc5.service")
    channel = unit_state(guest, "serial-getty@hvc4.service")
    check(channel == {"ActiveState": "inactive", "ConditionResult": "no"},
          f"the getty of a channel: {channel}")
    # Console 5 has no name that could be used, so it is no channel.
    eventually(lambda: unit_state(guest, "serial-getty@hvc5.service")["ActiveState"] == "active",
               20, "no getty on a console that is no channel")
    guest.sh("systemctl stop serial-getty@hvc5.service")


def raw_while_it_runs(guest):
    """The host's side of qemu-ga's channel, added to the running guest."""
    make_raw(guest, QEMU_AGENT)
    ask_qemu_agent(guest)


def link_of(guest, name):
    return guest.sh(f"readlink {LINKS}/{name} || true")


def listed_channels(guest):
    return run("xl", "channel-list", guest.name).splitlines()[1:]


def hot_plug(guest):
    """A channel added to the running guest, used, and taken away under the host's program. No tool
    of Xen's does it; xenlane's host has its socket as soon as it is told."""
    channel = HotChannel(guest, 7, HOT, path_of(HOT))
    waiting = guest.agent.start(f"await_link {LINKS}/{HOT} 60 say")
    guest.sh("until pidof await_link; do sleep 0.1; done")
    channel.plug()
    how = guest.agent.wait(waiting, 60)
    check(how == (0, "waiting\ncreated"), f"the agent's inotify has seen: {how}")
    check(link_of(guest, HOT) == "/dev/hvc7", f"the link is {link_of(guest, HOT)}")
    make_raw(guest, HOT)
    exchange(guest, guest.socket_path(HOT))
    check(len(listed_channels(guest)) == 7, f"xl lists {listed_channels(guest)}")
    with guest.connect(HOT) as connection:
        channel.unplug()
        check(connection.recv(1) == b"", "the host's program was not told that the channel went")
    run("xenlane", "channel", "remove", guest.name, HOT)
    eventually(lambda: not link_of(guest, HOT), 20, "the link stays when the channel has gone")


def plugged_behind(guest):
    """qemu-ga's channel is unplugged, and its unit stops; it comes back behind another, whose number
    is a greater one. The tty goes to the one that comes first: the kernel's rule, as
    xen-console-setup follows it. Returns the other."""
    agents = HotChannel(guest, 4, QEMU_AGENT, path_of(QEMU_AGENT), chardev="libxl-channel4")
    agents.unplug()
    eventually(lambda: unit_state(guest, AGENTS_UNIT)["ActiveState"] == "inactive", 20,
               lambda: f"without its channel {AGENTS_UNIT} is {unit_state(guest, AGENTS_UNIT)}")
    other = HotChannel(guest, 7, HOT, path_of(HOT))
    other.plug()
    eventually(lambda: link_of(guest, HOT) == "/dev/hvc4", 20,
               lambda: f"the link is {link_of(guest, HOT)}")
    agents.plug()
    eventually(lambda: link_of(guest, QEMU_AGENT) == "/dev/hvc7", 20,
               lambda: f"the link is {link_of(guest, QEMU_AGENT)}")
    return other


def moved_by_restoring(guest):
    """hvc4 free, and the guest restored: the kernel's consoles move up, 5 to hvc4, 6 to hvc5, and
    qemu-ga's to hvc6. No event tells of it; the next run of xen-console-setup puts it right."""
    plugged_behind(guest).unplug()
    eventually(lambda: not link_of(guest, HOT), 20, "the link stays when the channel has gone")
    run("xl", "save", guest.name, "/run/saved", seconds=120)
    guest.agent.close()
    with open(f"{LOGS}/restore.log", "ab") as log:
        status = subprocess.call(["xl", "restore", "/run/saved"], stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log, timeout=120)
    check(status == 0, "xl restore failed, see logs/restore.log")
    os.remove("/run/saved")
    guest.attach(f"/run/{guest.name}.agent")
    guest.sh("/sbin/xen-console-setup")
    check(link_of(guest, QEMU_AGENT) == "/dev/hvc6", f"the link is {link_of(guest, QEMU_AGENT)}")
    guest.sh(f"systemctl restart {AGENTS_UNIT}")
    raw_while_it_runs(guest)  # to the host it is another guest


def agent_follows(guest):
    """Where the bytes go, by QEMU's own socket, shows that the links are right. qemu-ga's unit is
    there again, behind the host's socket that stayed meanwhile."""
    exchange(guest, plugged_behind(guest).path)
    eventually(lambda: unit_state(guest, AGENTS_UNIT)["ActiveState"] == "active", 20,
               lambda: f"with its channel {AGENTS_UNIT} is {unit_state(guest, AGENTS_UNIT)}")
    ask_qemu_agent(guest)


def exchange(guest, path):
    """A line each way."""
    reading = guest.agent.start(f"exec 4<>{LINKS}/{HOT}; stty raw -echo <&4; echo ready >&4; "
                                "head -n 1 <&4; echo done >&4; sleep 1")
    connection = eventually(lambda: Agent.connect(path), 20, f"no socket {path}")
    with connection, connection.makefile("rb") as lines:
        connection.settimeout(30)
        check(lines.readline() == b"ready\n", "the guest's first line is another one")
        connection.sendall(b"over a channel that came later\n")
        check(lines.readline() == b"done\n", "the guest's second line is another one")
    answer = guest.agent.wait(reading, 30)
    check(answer == (0, "over a channel that came later"), f"the guest has read {answer}")


def tell_log(guest):
    """For logs/suite.log, whatever has happened; a guest that does not answer has its console."""
    try:
        print(guest.sh("journalctl -b -o short-monotonic --no-pager", 20), flush=True)
    except (AttributeError, Failure) as failure:
        print(f"  no log: {failure}", flush=True)


def with_guest(parts):
    guest = guest_with_channels()
    try:
        host_drop_in(GUEST, raw=[CLOUD])
        agent = CloudAgent(guest.socket_path(CLOUD))
        with timed("early configuration"):
            early_config(guest, agent)
        for part in parts:
            with timed(part.__name__):
                part(guest)
    finally:
        if guest.name in listed_domains():
            tell_log(guest)
            run("xl", "destroy", guest.name)
        host_drop_in(GUEST)
    # xl removes what has been plugged in by hand, too.
    left = run("xenstore-ls", f"/local/domain/0/backend/console/{guest.domid}", expect=None)
    check("state" not in left, f"of the guest there is left:\n{left}")


def channels_scenario(_world):
    with_guest((udev_made_links, no_getty_on_channels, raw_while_it_runs, hot_plug, agent_follows,
                services_come_and_go))


def channels_restore_scenario(_world):
    with_guest((moved_by_restoring,))
