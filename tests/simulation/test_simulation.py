"""A fixed set of seeds, and that a seed is a run: the same trace, byte for byte, in any process.

CI runs more of them besides, by `make sim`.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.faults import WITHOUT_NEWER
from tests.simulation.simulation import Simulation, run_seed

SEEDS: Final = range(28)
BLOCKS: Final = 2

SEEDS_THAT_FAILED: Final = (
    88,  # Who leads after a restart begins the log's time anew: by design, and the checker has to know.
    2149,  # A follower kept to an earlier leader's time, and the log's time jumped when it led next.
    2420,  # Many unknown outcomes made the search too long; the order of the log decides it.
    106603,  # A new member was brought 1,400 entries one or two at a time: the time for it was too short,
    300183,  # as it was for three learners at once, with one append of 200 bytes in flight and 8 ms away.
    300102,  # A removal in the leader's log was committed after the members that had to answer were listed.
    76,  # The log had been cut behind a state as it was installed, and its receiver was waited for;
    192,  # so it was where the word of that was lost besides.
    70927,  # A voter died with its vote and gave it again, knowing nothing of the log's time any more.
    3761,  # A read that found a fading key gone was tried last, behind all writes.
)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_seeds(block: int) -> None:
    commands = entries = lives = 0
    for seed in SEEDS[block::BLOCKS]:
        result = run_seed(seed)
        assert result.passed, (
            f"seed {seed}: {result.failure or result.undecided}\n{_last(result.last_events)}"
        )
        commands += result.commands
        entries += result.entries
        lives += result.lives
    # Under a weather in which nothing ever gets done nothing is found.
    assert commands > 2_000
    assert entries > 500
    assert lives > 40


@pytest.mark.parametrize("seed", SEEDS_THAT_FAILED)
def test_seeds_that_failed(seed: int) -> None:
    result = run_seed(seed, weather=WITHOUT_NEWER)
    assert result.passed, f"{result.failure or result.undecided}\n{_last(result.last_events)}"


def test_the_same_seed_gives_the_same_trace() -> None:
    first = Simulation(8123, keep_trace=None).run()
    again = Simulation(8123, keep_trace=None).run()
    assert first.last_events == again.last_events
    assert Simulation(8124).run().trace_digest != first.trace_digest
    for hash_seed in ("1", "2"):
        assert _digest_in_another_process(8123, hash_seed) == first.trace_digest


def _digest_in_another_process(seed: int, hash_seed: str) -> str:
    code = f"from tests.simulation.simulation import Simulation; print(Simulation({seed}).run().trace_digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
    return run.stdout.strip()


def _last(events: list[str]) -> str:
    return "\n".join(events[-30:])
