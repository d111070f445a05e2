"""How a thread with much to do lets the event loop have the interpreter in between."""

import select
from typing import Final

_TIMEOUT_S: Final = 10e-6
"""The kernel makes 60 us of it: enough for a thread that waits for the interpreter to wake up and take it."""


def give_way() -> None:
    """Give the interpreter lock up for a moment.

    Not by `time.sleep`, which sleeps until an absolute time: under libfaketime, which fault injection uses
    to set clocks apart, that is EINVAL where the time is over already, and a flush that fails ends the node.
    """
    select.select((), (), (), _TIMEOUT_S)
