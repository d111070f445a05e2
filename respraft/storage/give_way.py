"""How a thread with much to do lets the event loop have the interpreter in between."""

import select
from typing import Any, Final

ENTRIES_AT_ONCE: Final = 256
"""Entries of a dictionary that `let_go` drops at once, about 30 us."""

_TIMEOUT_S: Final = 10e-6
"""The kernel makes 60 us of it: enough for a thread that waits for the interpreter to wake up and take it."""


def give_way() -> None:
    """Give the interpreter lock up for a moment.

    Not by `time.sleep`, which sleeps until an absolute time: under libfaketime, which fault injection uses
    to set clocks apart, that is EINVAL where the time is over already, and a flush that fails ends the node.
    """
    select.select((), (), (), _TIMEOUT_S)


def let_go(entries: dict[bytes, Any]) -> None:
    """Empty a large dictionary that nobody else looks at, piece by piece."""
    while entries:
        for _ in range(min(ENTRIES_AT_ONCE, len(entries))):
            entries.popitem()
        give_way()
