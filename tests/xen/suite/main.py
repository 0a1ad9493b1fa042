"""Runs scenarios in domain 0, one line for each in logs/results, until none is left to be taken.
Several machines may be taking from the same /xen-test/queue."""

import os
import sys
import time
import traceback

from scenarios import ON_REQUEST, SCENARIOS
from world import LOGS, World

QUEUE = "/xen-test/queue"
TAKEN = "/xen-test/taken"
AT = LOGS + "/at"  # what this machine is at


def say(line):
    with open(LOGS + "/results", "a") as results:
        results.write(line + "\n")


def attempt(name, scenario, world):
    """One scenario, one line. True when it passed."""
    begin = time.monotonic()
    print(f"--- {name}", flush=True)
    try:
        scenario(world)
    except Exception as error:  # whatever ends a scenario is its verdict
        traceback.print_exc()
        say(f"FAILED {name} after {time.monotonic() - begin:.1f} s: {error}")
        return False
    say(f"ok     {name} in {time.monotonic() - begin:.1f} s")
    return True


def take():
    """The first that nobody else has taken: a file named "NUMBER NAME"."""
    for entry in sorted(os.listdir(QUEUE)):
        try:
            os.rename(f"{QUEUE}/{entry}", f"{TAKEN}/{entry}")
        except FileNotFoundError:
            continue
        with open(AT, "w") as at:
            at.write(entry)
        return entry.split(" ", 1)[1]
    return None


def main():
    world = World(say)
    if attempt("start", World.start, world):
        while name := take():
            attempt(name, {**SCENARIOS, **ON_REQUEST}.get(name, no_such_scenario), world)
            os.remove(AT)
    with open(LOGS + "/done", "w"):
        pass


def no_such_scenario(_world):
    raise LookupError("there is no such scenario; --list shows all")


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(SCENARIOS))
    else:
        main()
