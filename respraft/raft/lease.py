"""Reads under a lease: for a while after a round that a majority has echoed, no further round is needed.

    leader   ──sends round k──────────── lease, from the sending ───────────|
    voter          ──echoes: promises to elect nobody for longer than that ─────────|

A leader counts from the *sending* of a round, before any voter can have begun to count; and it counts a
little less than the voters promise, since no two clocks run alike. So while the lease holds nobody else has
been elected, and what is committed here is all that was ever acknowledged: reads may run at once.

**The assumption**, which is why this is an opt-in (`raft.read_mode = "lease"`) and rounds are the default: no
node's monotonic clock runs faster than another's by more than `CLOCK_DRIFT_MAX`, and none of them stands
while others run. Real clocks differ by less than thousandths; but a virtual machine that was suspended, or
moved to another host, may come back with a clock that has stood, and serve a stale read. A process that is
merely stopped or slow does no harm: the driver looks at the clock once all reads of a turn are there, and
again for each heartbeat.

What a promise is:

* A heartbeat says for how long it counts on the voter (`promise_ms`; 0 where the leader reads by rounds), so
  a voter is bound by its leader's configuration and not by its own.
* A voter that is bound elects nobody, whatever it knows of its leader: that its links were reset, or that its
  process is gone. Only an election that the leader itself has asked for (`transfer`) is no matter of it.
* A process that starts anew may have promised something before: it is bound for one election timeout, if its
  own configuration says "lease". A node without a term has promised nothing.

And a lease ends when a handover begins, for the rest of the term (`transfer.py`).

Raft dissertation: section 6.4.1.
"""

from collections import deque
from typing import Final

from respraft.config import RaftConfig

CLOCK_DRIFT_MAX: Final = 0.15
"""How much faster than another one a node's monotonic clock may run. Clocks of machines differ by less than a
thousandth; the rest is generosity that costs nothing, as leases are renewed with each heartbeat."""


class Lease:
    """A leader's lease, by the rounds that it has sent. Nothing where reads take rounds."""

    def __init__(self, config: RaftConfig) -> None:
        """Begin without one."""
        self.promise_ms = config.election_timeout_ms if config.read_mode == "lease" else 0
        """What this node asks of its voters when it leads."""
        self._length_ms = self.promise_ms * (1 - CLOCK_DRIFT_MAX)
        self._sent: deque[tuple[int, float]] = deque()  # Rounds that no majority has echoed yet, and when.
        self._until_ms = 0.0

    def round_sent(self, number: int, now_ms: float) -> None:
        """A round is about to leave. Comes before it does, so that the time is no later than that."""
        if self.promise_ms:
            self._sent.append((number, now_ms))

    def echoed(self, number: int) -> None:
        """A majority has echoed round `number`, or a later one."""
        while self._sent and self._sent[0][0] <= number:
            self._until_ms = self._sent.popleft()[1] + self._length_ms

    def holds(self, now_ms: float) -> bool:
        """Whether what is committed here is all that was committed anywhere, as of `now_ms`."""
        return now_ms < self._until_ms

    def end(self) -> None:
        """Nothing that was sent counts any more."""
        self._sent.clear()
        self._until_ms = 0.0
