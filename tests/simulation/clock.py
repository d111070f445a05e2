"""Virtual time: the queue of what happens next, and each node's own idea of what time it is."""

import heapq
from collections.abc import Callable
from typing import Final

WALL_MS: Final = 1_700_000_000_000
"""Unix time of the start of every run."""


class Schedule:
    """What happens when, in microseconds since the start. What is due together happens in the order given."""

    def __init__(self) -> None:
        self.now_us = 0
        self._number = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []

    def after(self, delay_us: float, action: Callable[[], None]) -> None:
        """Do `action` when so much time has passed."""
        self._number += 1
        heapq.heappush(self._queue, (self.now_us + max(0, int(delay_us)), self._number, action))

    def run_until(self, end_us: int) -> None:
        """Do everything that is due by then."""
        queue = self._queue
        while queue and queue[0][0] <= end_us:
            self.now_us, _, action = heapq.heappop(queue)
            action()
        self.now_us = end_us


class NodeClock:
    """A node's monotonic clock, which is too fast or too slow, and its wall clock, which jumps as well."""

    def __init__(self, schedule: Schedule, *, rate: float, wall_offset_ms: int) -> None:
        self.rate = rate
        self.wall_offset_ms = wall_offset_ms
        self._schedule = schedule

    def monotonic_s(self) -> float:
        """Seconds that only grow."""
        return self._schedule.now_us * self.rate / 1e6

    def wall_ms(self) -> int:
        """What this node takes for Unix time."""
        return WALL_MS + int(self.monotonic_s() * 1000) + self.wall_offset_ms
