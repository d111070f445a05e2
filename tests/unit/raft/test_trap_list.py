"""The known traps of Raft servers, and that each of them has its tests.

A test of trap 5 is called `test_trap_5_...`, wherever in `tests/` it is at home: the core, the replica, the
storage, real processes. `pytest -k trap_5_` runs all of them. The defects that toniq raft had
are in `tests/unit/raft/test_toniq_defects.py`, what the Raft paper says in `tests/unit/raft/test_paper*.py`.
"""

import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).resolve().parents[2]

TRAPS: Final = {
    1: "commit only by counting entries of the current term (Raft paper, figure 8)",
    2: "a no-op on election, and no read index or configuration change before it commits",
    3: "PreVote and CheckQuorum together; a removed server must not disrupt",
    4: "delete log entries on conflict only, never merely because an append ends earlier",
    5: "term and vote are on disk before any answer that rests on them",
    6: "compare last logs by term, then index",
    7: "a stale or repeated snapshot must not roll state back; it carries configuration and sessions",
    8: "quorum arithmetic with 2 and 4 nodes, and with the latest appended configuration",
    9: "a leader without a quorum steps down within an election timeout and serves nothing",
    10: "lease reads rest on bounded clock drift and on no pause: ReadIndex is the default",
    11: "EXEC and WATCH are decided at apply time; MULTI is one unit",
    12: "a refusal before proposing is a failure; anything after is an unknown outcome, and says so",
    13: "crash at each step of snapshot and compaction; restart always works",
    14: "an append that arrives while a snapshot is being installed",
    15: "a 10 MB value, or a slow command, must not stop heartbeats",
}

ABSENT: Final = {
    11: "there is no MULTI, EXEC or WATCH yet",
}
"""Traps that nothing can fall into yet. Whoever makes it possible adds the tests and takes the line out."""


def found_tests() -> dict[int, list[str]]:
    """The trap tests there are, by the trap's number."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for match in re.finditer(r"^(?:async )?def (test_trap_(\d+)_\w+)", path.read_text(), re.MULTILINE):
            found.setdefault(int(match[2]), []).append(match[1])
    return found


@pytest.mark.parametrize("number", TRAPS)
def test_every_trap_has_a_test_or_a_reason(number: int) -> None:
    tests = found_tests().get(number, [])
    if number in ABSENT:
        assert not tests, f"trap {number} has tests now: take it out of ABSENT"
    else:
        assert tests, f"trap {number} has no test: {TRAPS[number]}"


def test_every_trap_test_is_about_a_trap() -> None:
    assert set(found_tests()) <= set(TRAPS)
