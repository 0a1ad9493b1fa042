"""Domain 0's view: guests, the daemons, and what Xen itself says about grants and domains.

Everything here either answers or raises Failure with a text that stands alone in the summary.
"""

import base64
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import traceback

ROOT = "/run/xen-test"
LOGS = os.environ.get("XEN_TEST_LOGS", "")
RUN_DIR = "/run/xenlane"
RING_BYTES = 1 << 20
# To measure the frequency of an emulated processor takes a PVH guest three seconds. The figure need
# not be right: guests keep time by Xen's clock.
GUEST_KERNEL = ("console=hvc0 quiet panic=1 mitigations=off init_on_alloc=0 "
                "tsc_early_khz=2000000 tsc=unstable")


class Failure(Exception):
    """A scenario's verdict."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def eventually(question, seconds, text):
    """Asks until the answer is true; returns it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failure(f"{text() if callable(text) else text} (waited {seconds} s)")
        time.sleep(0.1)


def run(*words, seconds=60, expect=0):
    """Runs a program to its end and returns what it wrote to both outputs."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, check=False)
    text = done.stdout.decode(errors="replace")
    if expect is not None:
        check(done.returncode == expect, f"{' '.join(words)}: exit code {done.returncode}: {text}")
    return text


@contextlib.contextmanager
def timed(step):
    """Where a scenario's time goes, for logs/suite.log."""
    begin = time.monotonic()
    yield
    print(f"  {step}: {time.monotonic() - begin:.2f} s", flush=True)


def read_log(name):
    try:
        with open(f"{LOGS}/{name}", errors="replace") as log:
            return log.read()
    except FileNotFoundError:
        return ""


def listed_domains():
    """Names by xl, with "(null)" for a domain that is dead and cannot go."""
    return [line.split()[0] for line in run("xl", "list").splitlines()[1:]]


def listed_domid(name, otherwise):
    """By one call of xl: a domain that is listed may be gone at the next."""
    ids = [line.split()[1] for line in run("xl", "list").splitlines()[1:]
           if line.split()[0] == name]
    return int(ids[-1]) if ids else otherwise


def xenstore(path):
    """The value, or None."""
    done = subprocess.run(["xenstore-read", path], capture_output=True, timeout=20, check=False)
    return done.stdout.decode().rstrip("\n") if done.returncode == 0 else None


def grants_in_use(domid):
    """How many grants of a domain another one has mapped, by Xen's own grant table dump."""
    run("xl", "dmesg", "-c")
    run("xl", "debug-keys", "g")
    dump = eventually(lambda: _dump_of(domid), 10, f"Xen did not dump the grants of domain {domid}")
    # An entry: [reference] owner:frame pin, then the shared half. Only entries in use are shown.
    return len(re.findall(r"^\(XEN\)\s+\[0x[0-9a-f]+\]", dump, re.MULTILINE))


def _dump_of(domid):
    text = run("xl", "dmesg")
    if "gnttab_usage_print_all ] done" not in text:
        return None
    part = re.search(rf"grant-table for remote d{domid}\b(.*?)(?=grant-table for remote|"
                     r"gnttab_usage_print_all|\Z)", text, re.DOTALL)
    return part.group(0) if part else " "


def emulator_kills():
    """How many guests QEMU has killed so far. Its emulation of AMD's virtualisation now and then
    breaks a PVH guest's kernel between two instructions; Xen then logs a triple fault. No program
    in a guest can bring one about while the kernel is whole."""
    return len(re.findall(r"d\d+v\d+ Triple fault", read_log("serial.log")))


class Agent:
    """The far end of guest/init on the PV channel: runs commands in the guest."""

    def __init__(self, path, name):
        self.name = name
        self.lock = threading.Lock()
        self.answers = {}
        self.arrived = threading.Condition(self.lock)
        self.gone = False
        self.last_id = 0
        self.socket = eventually(lambda: self.connect(path), 20, f"{name}: no socket {path}")
        threading.Thread(target=self._read, daemon=True).start()

    @staticmethod
    def connect(path):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            return None
        return connection

    def _read(self):
        pending = b""
        while chunk := self._receive():
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                words = line.decode(errors="replace").split()
                # The terminal's echo of early requests has two words only.
                if len(words) == 3 and words[0].isdigit() and words[1].isdigit():
                    with self.lock:
                        self.answers[int(words[0])] = (int(words[1]), words[2])
                        self.arrived.notify_all()
        with self.lock:
            self.gone = True
            self.arrived.notify_all()

    def _receive(self):
        try:
            return self.socket.recv(65536)
        except OSError:
            return b""

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the guest's QEMU may be gone already
        self.socket.close()

    def start(self, command):
        with self.lock:
            self.last_id += 1
            number = self.last_id
        text = base64.b64encode(command.encode()).decode()
        self.socket.sendall(f"{number} {text}\n".encode())
        return number

    def wait(self, number, seconds):
        """Status and output, or None."""
        with self.lock:
            self.arrived.wait_for(lambda: self.gone or number in self.answers, seconds)
            if number not in self.answers:
                return None
            status, output = self.answers.pop(number)
        return status, base64.b64decode(output).decode(errors="replace").rstrip("\n")


class Guest:
    """One guest and the xenlane-guest in it. `console` is whether it has a channel for the console
    lane; "first" is one that xl 4.17 loses."""

    def __init__(self, name, kind, console=False, channels=(), initrd="initrd.cpio", memory=192,
                 kernel=""):
        self.name = name
        self.kind = kind
        self.console_lane = console
        self.more_channels = list(channels)
        self.initrd = initrd
        self.memory = memory
        self.kernel_options = kernel
        self.on_reboot = "destroy"
        self.domid = None
        self.agent = None

    def create(self, bridge=True):
        agent_path = f"/run/{self.name}.agent"
        config = f"/run/{self.name}.cfg"
        # The first channel of xl 4.17 is lost; the second becomes hvc1.
        channels = ["connection=pty,name=unused",
                    f"connection=socket,name=org.test.agent,path={agent_path}",
                    f"connection=socket,name=org.test.probe,path=/run/{self.name}.probe"]
        if self.console_lane:
            lane = f"connection=socket,name=org.xenlane.lane.0,path=/run/xen/xenlane-{self.name}.sock"
            channels.insert(0 if self.console_lane == "first" else len(channels), lane)
            if self.console_lane == "first":
                channels.remove("connection=pty,name=unused")
        channels += self.more_channels
        with open(config, "w") as out:
            out.write(f'name="{self.name}"\ntype="{self.kind}"\n'
                      f'memory={self.memory}\nvcpus=1\n'
                      f'kernel="{ROOT}/guest/vmlinux"\nramdisk="{ROOT}/guest/{self.initrd}"\n'
                      f'extra="{GUEST_KERNEL} {self.kernel_options}"\n'
                      f'on_crash="destroy"\non_reboot="{self.on_reboot}"\n'
                      'tsc_mode="native"\n'  # else Xen emulates each look at the clock
                      f"channel={json.dumps(channels)}\n")
        # Its background part holds on to the outputs: a pipe would never end.
        with open(f"{LOGS}/create-{self.name}.log", "ab") as log, timed("xl create"):
            status = subprocess.call(["xl", "create", config], stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log, timeout=120)
        check(status == 0, f"{self.name}: xl create failed, see logs/create-{self.name}.log")
        with timed("guest up"):
            self.attach(agent_path)
        if bridge:
            self.start_bridge()

    def attach(self, agent_path):
        self.domid = int(run("xl", "domid", self.name))
        self.agent = Agent(agent_path, self.name)
        first = self.agent.start("true")
        if not self.agent.wait(first, 60):
            raise Failure(f"{self.name} has not come up in 60 s; see logs/console")

    def destroy(self):
        run("xl", "destroy", self.name)
        self.agent.close()
        self.domid = None

    def sh(self, command, seconds=60, expect=0):
        """Runs a shell command in the guest and returns its output."""
        answer = self.agent.wait(self.agent.start(command), seconds)
        check(answer, f"{self.name}: no answer in {seconds} s to: {command}")
        status, output = answer
        if expect is not None:
            check(status == expect, f"{self.name}: {command}: exit code {status}: {output}")
        return output

    def start_bridge(self):
        """Its log goes to the console, which outlives the guest."""
        self.sh("setsid xenlane-guest --config /guest/guest.toml "
                "</dev/null >/dev/hvc0 2>&1 & echo $! >/tmp/bridge.pid")

    def kill_bridge(self, how="KILL"):
        self.sh(f"kill -{how} $(cat /tmp/bridge.pid)")

    def socket_path(self, channel):
        return f"{RUN_DIR}/{self.name}/{channel}"

    def console(self):
        return read_log(f"console/guest-{self.name}.log")

    def status(self):
        """What the guest's worker says of itself, or None."""
        done = subprocess.run(["xenlane", "status", self.name, "--json"], capture_output=True,
                              timeout=20, check=False)
        try:
            return json.loads(done.stdout)["bridges"][0]
        except (ValueError, IndexError, KeyError):
            return None

    def session_up(self):
        status = self.status()
        return status if status and status["session"]["state"] == "up" else None

    def await_session(self, seconds=10):
        return eventually(self.session_up, seconds,
                          lambda: f"{self.name}: no session; the worker says "
                                  f"{(self.status() or {}).get('session')}")

    def connect(self, channel):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(self.socket_path(channel))
        return connection

    def ask(self, channel, data):
        """Sends all, finishes sending, and returns everything that comes back."""
        with self.connect(channel) as connection:
            # An echo takes no more until its answer is taken.
            sender = threading.Thread(target=send_all, args=(connection, data))
            sender.start()
            answer = read_all(connection)
            sender.join()
            return answer

    def echoes(self):
        try:
            return self.ask("org.test.echo", b"still here") == b"still here"
        except OSError:
            return False

    def await_service(self, seconds):
        eventually(self.echoes, seconds, f"{self.name}: no echo")


def send_all(connection, data):
    """An early end shows at the reader."""
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def read_all(connection):
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


class Host:
    """xenlane-host."""

    def __init__(self):
        self.process = None

    def start(self):
        with open(f"{LOGS}/xenlane-host.log", "ab") as log:
            self.process = subprocess.Popen(
                ["xenlane-host", "--config", ROOT + "/suite/host.toml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(20)

    def alive(self):
        return self.process.poll() is None

    def worker_pid(self, guest):
        broker = json.loads(run("xenlane", "status", "--json"))["broker"]
        return next((each["worker_pid"] for each in broker["guests"]
                     if each["name"] == guest.name), None)


class Keeper:
    """A planted fault: keeps a grant of the guest mapped, as a worker that forgets to unmap would."""

    def __init__(self, guest):
        epoch = xenstore(f"/local/domain/{guest.domid}/data/xenlane/ring")
        reference = xenstore(f"/local/domain/{guest.domid}/data/xenlane/{epoch}/ring-ref")
        self.library = ctypes.CDLL("libxengnttab.so.1", use_errno=True)
        self.library.xengnttab_open.restype = ctypes.c_void_p
        self.library.xengnttab_map_grant_ref.restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(self.library.xengnttab_open(None, 0))
        self.page = ctypes.c_void_p(self.library.xengnttab_map_grant_ref(
            self.handle, ctypes.c_uint32(guest.domid), ctypes.c_uint32(int(reference)), 3))
        check(self.page.value, f"mapping grant {reference}: {os.strerror(ctypes.get_errno())}")

    def close(self):
        self.library.xengnttab_unmap(self.handle, self.page, ctypes.c_uint32(1))
        self.library.xengnttab_close(self.handle)


class World:
    def __init__(self, say):
        self.say = say
        self.host = Host()
        self.pv = Guest("pv", "pv")
        self.pvh = Guest("pvh", "pvh")
        self.guests = [self.pv, self.pvh]
        self.kills_seen = 0
        self.repeats_left = 6

    def start(self):
        start_services()
        self.host.start()
        for guest in self.guests:
            self.step(self.create, guest)
        for guest in self.guests:
            guest.await_session(30)

    def create(self, guest):
        """A repeated step finds it there already."""
        if guest.name not in listed_domains():
            guest.create()

    def step(self, action, *arguments):
        """Runs a part of a scenario; again, and says so, when QEMU killed a guest under it."""
        while True:
            try:
                return action(*arguments)
            except Exception as error:
                kills = emulator_kills()
                if kills == self.kills_seen or self.repeats_left == 0:
                    raise
                traceback.print_exc()
                self.say(f"       {action.__name__} again, the emulator killed a guest: {error}")
                self.kills_seen = kills
                self.repeats_left -= 1
                self.put_right()

    def put_right(self):
        """Whatever a step was in the middle of: daemons that run, guests that live."""
        if not self.host.alive():
            self.host.start()
        living = listed_domains()
        for guest in self.guests:
            if guest.name in living:
                guest.sh("kill -KILL $(pidof xenlane-guest)", expect=None)
                guest.start_bridge()
            else:
                if guest.agent:
                    guest.agent.close()
                guest.create()
        for guest in self.guests:
            guest.await_session(30)


def start_services():
    """What the guests' connections are dialled to on the host."""
    for name, program in {"echo": "EXEC:cat", "sink": "EXEC:dd of=/dev/null bs=64k"}.items():
        subprocess.Popen(["socat", "-b", "65536", "-t", "600",
                          f"UNIX-LISTEN:/run/test/{name},fork,backlog=256", program],
                         stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
