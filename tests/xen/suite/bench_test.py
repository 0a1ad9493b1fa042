"""xenlane bench on real Xen: a report of both lanes, and its figures beside a plain C loop's.

The report, and the script that draws it, are left among the logs. The guest is one of this
scenario's own, because the others are to go on without a console lane."""

import json
import shutil
import statistics
import subprocess
import time

from console_test import begin_anew, console_guest
from world import LOGS, check, run

SIZES = "16..64K"
ROUNDS = 5
# Lane, figure, message size, and how many messages take about two seconds.
COMPARED = [
    ("vchan", "to", 65536, 1500),
    ("vchan", "from", 65536, 1500),
    ("vchan", "echo", 64, 1500),
    ("console", "to", 65536, 16),
    ("console", "from", 65536, 24),
    ("console", "echo", 64, 400),
]
FIGURE = {
    "to": ("64 KiB to the guest, KB/s", lambda point: point["to"]["median"] / 1000),
    "from": ("64 KiB from the guest, KB/s", lambda point: point["from"]["median"] / 1000),
    "echo": ("64 bytes there and back, mean, us", lambda point: point["round_trip"]["mean_us"]),
}


def bench(guest, *options, seconds=800):
    """The report. A lane is held while it is measured, and afterwards as it was."""
    path = f"{LOGS}/bench.json"
    text = run("xenlane", "bench", guest.name, "--json", path, *options, seconds=seconds)
    lane = guest.status()["lane"]
    check(lane["set"] == "auto" and lane["holds"] == 0, f"{guest.name}: bench has left {lane}")
    with open(path) as file:
        return json.load(file), text


def measure(guest):
    begin_anew(guest)
    report, text = bench(guest, "--sizes", SIZES, "--rounds", "3", "--time", "0.3")
    shutil.copy(f"{LOGS}/bench.json", f"{LOGS}/report.json")
    print(text, flush=True)
    names = [path["name"] for path in report["paths"]]
    check({"vchan", "console", "direct", "two socats"} <= set(names), f"no more than {names}")
    # A program's file packs as much of what is carried does.
    _, packed = bench(guest, "--lanes", "console", "--sizes", "16K", "--rounds", "3",
                      "--time", "0.3", "--data", "/bin/bash", "--no-baselines")
    print(packed, flush=True)
    return text + packed


def bench_scenario(world):
    with console_guest(world) as guest:
        for line in world.step(measure, guest).splitlines():
            world.say("       " + line)


def by_hand(guest, lane, figure, size, count):
    """The same by bench_plain, in the figure's unit."""
    words = ["xenlane", "lane", guest.name, lane, "--", "bash", "-c",
             f"TIMEFORMAT=%R; time bench_plain {figure} {guest.socket_path('org.test.plain')} "
             f"{size} {count}"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          check=True, text=True)
    seconds = float(done.stderr)
    return seconds * 1e6 / count if figure == "echo" else size * count / seconds / 1000


def compare(guest):
    """For each that is compared, the rounds' pairs."""
    begin_anew(guest)
    guest.sh("setsid bench_plain serve /run/test/plain </dev/null >/dev/hvc0 2>&1 &")
    guest.sh("until [ -S /run/test/plain ]; do sleep 0.1; done")
    pairs = {key: [] for key in COMPARED}
    for _ in range(ROUNDS):
        for lane, figure, size, count in COMPARED:
            report, _ = bench(guest, "--lanes", lane, "--sizes", str(size), "--rounds", "1",
                              "--time", "1", "--no-baselines")
            said = FIGURE[figure][1](report["paths"][0]["points"][0])
            pairs[lane, figure, size, count].append(
                (said, by_hand(guest, lane, figure, size, count)))
        print(f"  {time.monotonic():.0f}: {pairs}", flush=True)
    return pairs


def bench_by_hand_scenario(world):
    with console_guest(world) as guest:
        for (lane, figure, _, _), pairs in world.step(compare, guest).items():
            said, plain = (statistics.median(values) for values in zip(*pairs))
            ratios = sorted(said / plain for said, plain in pairs)
            world.say(f"       {lane}, {FIGURE[figure][0]}: {said:.4g} by bench, {plain:.4g} by "
                      f"hand, ratio {statistics.median(ratios):.2f}, "
                      f"of all rounds {ratios[0]:.2f} to {ratios[-1]:.2f}")
