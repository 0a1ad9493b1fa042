"""For the scenario of channels: the host's ends of agents that know nothing of xenlane, and how the
host's channels and the guest's units are set and seen."""

import json
import os
import re
import threading

from world import ROOT, Agent, check, eventually, run

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExam admin@cloud"
HOSTNAME = "web-17"
CLOUD = "org.my.cloud.software.agent.version1"
QEMU_AGENT = "org.qemu.guest_agent.0"
AGENTS_UNIT = "qemu-ga-xen.service"


class CloudAgent:
    """The host's end of cloud-early-config: connects, says hello, waits for the reply, hands over
    the configuration."""

    def __init__(self, path):
        self.outcome = None
        self.failure = None
        self.refusals = 0
        self.thread = threading.Thread(target=self._run, args=(path,), daemon=True)
        self.thread.start()

    def _run(self, path):
        try:
            self.outcome = eventually(lambda: self._talk(path), 120, f"nobody answers at {path}")
        except Exception as failure:  # for whoever waits
            self.failure = failure

    def _talk(self, path):
        """The guest's last word; nothing when there is no channel yet."""
        connection = Agent.connect(path)
        if not connection:
            return None
        connection.settimeout(120)
        with connection, connection.makefile("r", newline="\n") as lines:
            token = os.urandom(8).hex()
            try:
                self.say(connection, f"HELLO {token}")
                # Until the guest's agent has made the tty raw, that echoes.
                ready = self.await_line(lines, rf"(READY {token})")
            except OSError as failure:
                check(not isinstance(failure, TimeoutError), "the guest's agent does not answer")
                ready = None
            if not ready:
                self.refusals += 1
                return None
            self.say(connection, f"hostname {HOSTNAME}", f"ssh-key {SSH_KEY}", "end")
            outcome = self.await_line(lines, r"APPLIED (.*)")
        check(outcome, "the channel ended in the middle of the configuration")
        return outcome

    @staticmethod
    def say(connection, *texts):
        connection.sendall("".join(text + "\n" for text in texts).encode())

    @staticmethod
    def await_line(lines, pattern):
        """What the pattern's group matches; nothing when the channel ends before."""
        for line in lines:
            if found := re.fullmatch(pattern, line.rstrip("\r\n")):
                return found[1]
        return None

    def finish(self):
        self.thread.join(130)
        check(not self.failure, f"the cloud's agent: {self.failure}")
        check(self.outcome, "the cloud's agent is still waiting")
        return self.outcome


class QemuAgentClient:
    """Asks qemu-ga."""

    ANSWER_SECONDS = 10
    SYNC_SECONDS = 2
    SYNC_TRIES = 30

    def __init__(self, path):
        self.connection = eventually(lambda: Agent.connect(path), 20, f"no socket {path}")
        self.connection.settimeout(self.SYNC_SECONDS)
        self.received = b""
        # When it opens its tty, it throws away what came before: it is asked again.
        for _ in range(self.SYNC_TRIES):
            if self._sync():
                self.connection.settimeout(self.ANSWER_SECONDS)
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

    def has_ended(self):
        """Whether the channel has, behind what came before."""
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def ask_qemu_agent(guest):
    """qemu-ga of Debian's, unmodified, whoever it is that the channel leads to."""
    with QemuAgentClient(guest.socket_path(QEMU_AGENT)) as agent:
        info = agent.ask("guest-info")
        name = agent.ask("guest-get-host-name")
    check(info["version"].startswith("7.2"), f"guest-info says {info['version']}")
    check(any(each["name"] == "guest-exec" for each in info["supported_commands"]),
          "guest-info lists no guest-exec")
    check(name["host-name"] == HOSTNAME, f"guest-get-host-name says {name}")
    print(f"  qemu-ga {info['version']}, {len(info['supported_commands'])} commands", flush=True)


class Watch:
    """What xenlane watch --json has written, read again each time: `read` returns all of it."""

    def __init__(self, name, read):
        self.name = name
        self.read = read
        self.passed = 0

    def await_event(self, event, **values):
        """The next such event behind the last that was awaited here."""
        wanted = {"event": event, **values}

        def arrived():
            lines = [line for line in self.read().split("\n") if line.endswith("}")]
            for number, line in enumerate(lines[self.passed:], self.passed + 1):
                if wanted.items() <= json.loads(line).items():
                    self.passed = number
                    return True
            return False

        eventually(arrived, 20, lambda: f"{self.name} was not told {wanted}, but:\n{self.read()}")


def console_of(name):
    """Where QEMU has its socket for that channel of a guest."""
    return f"/run/test/{{guest}}.{name}.sock"


def make_raw(guest, name):
    run("xenlane", "channel", "add", guest.name, name, "--raw", console_of(name))


def host_drop_in(guest_name, raw=(), listen=()):
    """The host's file for that guest, its channels read by a reload; returns what that says."""
    path = f"{ROOT}/suite/host.d/50-{guest_name}.toml"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        for name in (*raw, *listen):
            out.write(f'[[channel]]\nname = "{name}"\nguest = "{guest_name}"\n')
            out.write(f'end = "raw"\nconsole = "{console_of(name)}"\n' if name in raw
                      else 'end = "listen"\n')
    return run("xenlane", "reload").rstrip("\n")


def unit_state(guest, unit):
    return dict(line.split("=", 1) for line in guest.sh(
        f"systemctl show -p ActiveState,ConditionResult '{unit}'").split("\n"))
