"""PV channels as administrators and agents know them: in a guest with systemd and udev, the guest's
side of xenlane as it is installed, agents that know nothing of xenlane, and QEMU's sockets on the
host. docs/guest.md says what holds here.

The guest is one of this scenario's own."""

import json
import os
import re
import subprocess
import threading

from hotplug import HotChannel
from world import LOGS, Agent, Failure, Guest, check, eventually, listed_domains, run, timed

CLOUD = "org.my.cloud.software.agent.version1"
QEMU_AGENT = "org.qemu.guest_agent.0"
HOT = "org.example.hot-plugged"
LINKS = "/dev/xen-channel"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExam admin@cloud"
HOSTNAME = "web-17"


def path_of(name):
    return f"/run/test/{name}.sock"


class CloudAgent:
    """The host's end of cloud-early-config: connects, says hello, waits for the reply, hands over
    the configuration. `path` is any Unix stream socket that leads to the channel."""

    def __init__(self, path):
        self.outcome = None
        self.failure = None
        self.thread = threading.Thread(target=self._run, args=(path,), daemon=True)
        self.thread.start()

    def _run(self, path):
        try:
            connection = eventually(lambda: Agent.connect(path), 60, f"no socket {path}")
            connection.settimeout(120)
            with connection, connection.makefile("rw", newline="\n") as lines:
                token = os.urandom(8).hex()
                self.say(lines, f"HELLO {token}")
                # Until the guest's agent has made the tty raw, that echoes.
                self.await_line(lines, rf"READY {token}")
                self.say(lines, f"hostname {HOSTNAME}", f"ssh-key {SSH_KEY}", "end")
                self.outcome = self.await_line(lines, r"APPLIED (.*)")
        except Exception as failure:  # for whoever waits
            self.failure = failure

    @staticmethod
    def say(lines, *texts):
        lines.write("".join(text + "\n" for text in texts))
        lines.flush()

    @staticmethod
    def await_line(lines, pattern):
        for line in lines:
            if found := re.fullmatch(pattern, line.rstrip("\r\n")):
                return found[found.re.groups]
        check(False, f"the channel ended before {pattern}")

    def finish(self):
        self.thread.join(120)
        check(not self.failure, f"the cloud's agent: {self.failure}")
        check(self.outcome, "the cloud's agent is still waiting")
        return self.outcome


def guest_with_channels():
    """Numbers 1 and 2 are the suite's own, 3 to 6 are these."""
    channels = [f"connection=socket,name={CLOUD},path={path_of(CLOUD)}",
                f"connection=socket,name={QEMU_AGENT},path={path_of(QEMU_AGENT)}",
                "connection=pty,name=../escape",
                f"connection=pty,name={CLOUD}"]
    return Guest("cloud", "pv", channels=channels, initrd="channels.cpio", memory=320,
                 kernel="rdinit=/lib/systemd/systemd systemd.unit=xen-test.target "
                        "systemd.show_status=0")


def early_config(guest, agent):
    """Steps 1 to 11 of xen-pv-channel(7). 1 to 3: the guest is made from what all guests are made
    of, and its configuration lists the channel that its agent expects, with a socket path of its
    own."""
    guest.create(bridge=False)  # 4, and 5 is going on
    check(agent.finish() == f"{HOSTNAME} 1", f"applied was: {agent.outcome}")  # 9 to 11
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


def unit_state(guest, unit):
    return dict(line.split("=", 1) for line in guest.sh(
        f"systemctl show -p ActiveState,ConditionResult '{unit}'").split("\n"))


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


class QemuAgentClient:
    """Asks qemu-ga, by QEMU's socket of its channel."""

    ANSWER_SECONDS = 5
    SYNC_TRIES = 12

    def __init__(self, path):
        self.connection = eventually(lambda: Agent.connect(path), 20, f"no socket {path}")
        self.connection.settimeout(self.ANSWER_SECONDS)
        self.received = b""
        # When it opens its tty, it throws away what came before: it is asked again.
        for _ in range(self.SYNC_TRIES):
            if self._sync():
                return
        check(False, "qemu-ga does not answer")

    def _sync(self):
        """True once the answer is the one to this question, and not to an earlier one."""
        token = int.from_bytes(os.urandom(4), "big")
        self.connection.sendall(b"\xff")  # ends whatever was begun
        self._send("guest-sync", id=token)
        while line := self._line():
            # A tty that is not raw yet has sent back what it was told, whole or in pieces.
            if line.strip(b"\xff\r\n") == json.dumps({"return": token}).encode():
                return True
        return False

    def _send(self, command, **arguments):
        question = {"execute": command, "arguments": arguments}
        self.connection.sendall(json.dumps(question).encode() + b"\n")

    def _line(self):
        """The next line; nothing when none comes."""
        while b"\n" not in self.received:
            try:
                part = self.connection.recv(65536)
            except TimeoutError:
                return None
            check(part, "the channel of qemu-ga ended")
            self.received += part
        line, self.received = self.received.split(b"\n", 1)
        return line + b"\n"

    def ask(self, command):
        self._send(command)
        line = self._line()
        check(line, f"qemu-ga does not answer {command}")
        answer = json.loads(line)
        check("return" in answer, f"qemu-ga answers {command} by {answer}")
        return answer["return"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def qemu_guest_agent(guest):
    """qemu-ga of Debian's, unmodified, started by its device unit."""
    with QemuAgentClient(path_of(QEMU_AGENT)) as agent:
        info = agent.ask("guest-info")
        name = agent.ask("guest-get-host-name")
    check(info["version"].startswith("7.2"), f"guest-info says {info['version']}")
    check(any(each["name"] == "guest-exec" for each in info["supported_commands"]),
          "guest-info lists no guest-exec")
    check(name["host-name"] == HOSTNAME, f"guest-get-host-name says {name}")
    print(f"  qemu-ga {info['version']}, {len(info['supported_commands'])} commands", flush=True)


def bridge_as_service(guest):
    """xenlane-guest under its unit, with all that this forbids it."""
    guest.sh("mkdir -p /etc/xenlane && cp /guest/guest.toml /etc/xenlane/")
    guest.sh("systemctl start xenlane-guest.service")
    guest.await_service(30)
    check(unit_state(guest, "xenlane-guest.service")["ActiveState"] == "active",
          "xenlane-guest.service is not active")
    guest.sh("systemctl stop xenlane-guest.service")


def link_of(guest, name):
    return guest.sh(f"readlink {LINKS}/{name} || true")


def listed_channels(guest):
    return run("xl", "channel-list", guest.name).splitlines()[1:]


def hot_plug(guest):
    """A channel added to the running guest, used, and taken away. No tool of Xen's does it."""
    channel = HotChannel(guest, 7, HOT, path_of(HOT))
    waiting = guest.agent.start(f"await_link {LINKS}/{HOT} 60 say")
    guest.sh("until pidof await_link; do sleep 0.1; done")
    channel.plug()
    how = guest.agent.wait(waiting, 60)
    check(how == (0, "waiting\ncreated"), f"the agent's inotify has seen: {how}")
    check(link_of(guest, HOT) == "/dev/hvc7", f"the link is {link_of(guest, HOT)}")
    exchange(guest, channel)
    check(len(listed_channels(guest)) == 7, f"xl lists {listed_channels(guest)}")
    channel.unplug()
    eventually(lambda: not link_of(guest, HOT), 20, "the link stays when the channel has gone")


AGENTS_UNIT = "qemu-ga-xen.service"


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
    qemu_guest_agent(guest)


def agent_follows(guest):
    """Where the bytes go shows that the links are right, and qemu-ga's unit is there again."""
    exchange(guest, plugged_behind(guest))
    eventually(lambda: unit_state(guest, AGENTS_UNIT)["ActiveState"] == "active", 20,
               lambda: f"with its channel {AGENTS_UNIT} is {unit_state(guest, AGENTS_UNIT)}")
    qemu_guest_agent(guest)


def exchange(guest, channel):
    """A line each way."""
    reading = guest.agent.start(f"exec 4<>{LINKS}/{HOT}; stty raw -echo <&4; echo ready >&4; "
                                "head -n 1 <&4; echo done >&4; sleep 1")
    connection = eventually(lambda: Agent.connect(channel.path), 20, "no socket of QEMU's")
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
        agent = CloudAgent(path_of(CLOUD))
        with timed("early configuration"):
            early_config(guest, agent)
        for part in parts:
            with timed(part.__name__):
                part(guest)
    finally:
        if guest.name in listed_domains():
            tell_log(guest)
            run("xl", "destroy", guest.name)
    # xl removes what has been plugged in by hand, too.
    left = run("xenstore-ls", f"/local/domain/0/backend/console/{guest.domid}", expect=None)
    check("state" not in left, f"of the guest there is left:\n{left}")


def channels_scenario(_world):
    with_guest((udev_made_links, no_getty_on_channels, qemu_guest_agent, hot_plug, agent_follows,
                bridge_as_service))


def channels_restore_scenario(_world):
    with_guest((moved_by_restoring,))
