"""Run the simulator: `python -m tests.simulation --seeds 1000`, or one seed again with all its events."""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Final

from tests.simulation.mutations import MUTATIONS
from tests.simulation.mutations_states import STATE_MUTATIONS
from tests.simulation.simulation import TICKS, Result, Simulation, run_seed

PROGRESS_S: Final = 0.5
EVENTS_OF_A_FAILURE: Final = 40
"""Of each of the first few that fail among many; the command that is printed with it shows all."""
FAILURES_SHOWN: Final = 3
ALL_MUTATIONS: Final = MUTATIONS + STATE_MUTATIONS


def main() -> int:
    """Return 1 if a seed failed, 2 if one could not be decided, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one and print its last events")
    parser.add_argument("--seeds", type=int, default=100, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--ticks", type=int, default=TICKS, help="of 10 ms, for which faults last")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--events", type=int, help="how many of the last events to print; 0: all")
    parser.add_argument("--mutations", action="store_true", help="in how many seeds is each one found?")
    arguments = parser.parse_args()
    if arguments.mutations:
        return _table(arguments.seeds, arguments.ticks, arguments.jobs)
    if arguments.seed is not None:
        return _one(arguments.seed, arguments.ticks, arguments.events)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.jobs == 1:
        return _many(map(_run, seeds, repeat(arguments.ticks)), len(seeds), arguments.ticks)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        results = pool.map(_run, seeds, repeat(arguments.ticks), chunksize=4)
        return _many(results, len(seeds), arguments.ticks)


def _run(seed: int, ticks: int) -> Result:
    return run_seed(seed, ticks=ticks)


def _one(seed: int, ticks: int, events: int | None) -> int:
    simulation = Simulation(seed, ticks=ticks, keep_trace=(events or None) if events is not None else 80)
    result = simulation.run()
    for line in result.last_events:
        print(line)
    print(simulation.faults)
    print(
        f"seed {seed}: {result.commands} commands, {result.entries} entries, {result.terms} leaders, "
        f"{result.lives} lives, {result.installs} installs, {result.changes} configurations; "
        f"trace {result.trace_digest}"
    )
    return _say_verdict(result, ticks)


def _many(results: Iterable[Result], count: int, ticks: int) -> int:
    worst = commands = entries = lives = installs = changes = failed = undecided = 0
    start_s = said_s = time.monotonic()
    for done, result in enumerate(results, start=1):
        if not result.passed:
            print(f"\r{'':60}\r", end="", file=sys.stderr, flush=True)
            if failed + undecided < FAILURES_SHOWN:
                print(*result.last_events[-EVENTS_OF_A_FAILURE:], sep="\n")
            worst = max(worst, _say_verdict(result, ticks))
            failed += bool(result.failure)
            undecided += not result.failure
        commands += result.commands
        entries += result.entries
        lives += result.lives
        installs += result.installs
        changes += result.changes
        if time.monotonic() - said_s > PROGRESS_S or done == count:
            said_s = time.monotonic()
            bar = "#" * (30 * done // count)
            print(f"\r[{bar:30}] {done}/{count} seeds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(
        f"{count} seeds in {time.monotonic() - start_s:.0f} s: {failed} failed, {undecided} undecided; "
        f"{commands} commands, {entries} entries, {lives} lives, {installs} installs, "
        f"{changes} configurations"
    )
    return worst


def _found(place: int, seeds: int, ticks: int) -> list[int]:
    return [result.seed for result in ALL_MUTATIONS[place].found(range(seeds), ticks=ticks)]


def _table(seeds: int, ticks: int, jobs: int) -> int:
    """Print a table of all mutations; return 1 if one is not found at all."""
    missed = 0
    print(f"| what is broken | found in, of {seeds} seeds | first by seed |\n|---|---|---|")
    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(_found, range(len(ALL_MUTATIONS)), repeat(seeds), repeat(ticks))
        for mutation, failed in zip(ALL_MUTATIONS, found, strict=True):
            missed += not failed
            print(f"| {mutation.breaks} | {len(failed)} | {failed[0] if failed else 'none'} |", flush=True)
    return int(missed > 0)


def _say_verdict(result: Result, ticks: int) -> int:
    if result.passed:
        return 0
    again = f"python -m tests.simulation --seed {result.seed} --ticks {ticks}   (commit {_commit()})"
    if result.failure:
        print(f"FAILED {result.failure}\n  {again}")
        return 1
    print(f"UNDECIDED {', '.join(key.decode() for key in result.undecided)}\n  {again}")
    return 2


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return described.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
