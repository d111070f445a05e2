"""Log lines about peers that would repeat with every attempt.

A peer that is down is dialled once a second for as long as it takes, and anybody may knock at the peer
port. Each distinct text is logged at once, then once a minute for as long as it goes on; and no matter
how the texts vary, a minute has a bounded number of lines.
"""

import logging
from collections.abc import Callable
from typing import Final

REPEAT_S: Final = 60.0
LINES_PER_MINUTE_MAX: Final = 60

_LOG: Final = logging.getLogger("respraft.peer")


class Complaints:
    """Writes warnings, but not the same one over and over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with nothing said; `clock` is monotonic, in seconds."""
        self._clock = clock
        self._said_at: dict[str, float] = {}  # In the order of time; at most LINES_PER_MINUTE_MAX.

    def warn(self, text: str) -> None:
        """Log `text`, unless it was logged within the last minute or too much else was."""
        now = self._clock()
        while self._said_at and now - next(iter(self._said_at.values())) >= REPEAT_S:
            del self._said_at[next(iter(self._said_at))]
        if text in self._said_at or len(self._said_at) >= LINES_PER_MINUTE_MAX:
            return
        self._said_at[text] = now
        _LOG.warning("%s", text)
