"""Runs the scenarios in domain 0 and writes one line for each to logs/results."""

import sys
import time
import traceback

import scenarios
from world import LOGS, World


def say(line):
    with open(LOGS + "/results", "a") as results:
        results.write(line + "\n")


def attempt(name, scenario, world):
    """One scenario, one line. True when it passed."""
    begin = time.monotonic()
    try:
        scenario(world)
    except Exception as error:  # whatever ends a scenario is its verdict
        traceback.print_exc()
        say(f"FAILED {name} after {time.monotonic() - begin:.1f} s: {error}")
        return False
    say(f"ok     {name} in {time.monotonic() - begin:.1f} s")
    return True


def main(words):
    known = scenarios.SCENARIOS | scenarios.UNPROVEN
    if words == ["--list"]:
        print("\n".join(known))
        return
    world = World()
    passed = [attempt("start", lambda world: world.start(), world)]
    if passed[0]:
        for name in words or scenarios.SCENARIOS:
            passed.append(attempt(name, known.get(name, no_such_scenario), world))
    say(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")


def no_such_scenario(_world):
    raise LookupError("there is no such scenario; --list shows all")


if __name__ == "__main__":
    main(sys.argv[1:])
