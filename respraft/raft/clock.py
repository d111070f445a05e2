"""The log's time: what the leader stamps entries with.

Everything that depends on time in the state (relative TTLs, expiry) depends on these stamps and on no
node's own clock, so all nodes agree. Hence what the stamps promise:

* They never decrease and never jump, also when the leader changes.
* They never stand: between half speed and 110 % of the leader's monotonic clock.
* They follow the lower median of the voters' wall clocks, so one wrong clock moves nothing.

**At an election** the new leader goes on where the old one was: followers hear the log's time with each
heartbeat, and add what their own monotonic clock has counted since. Votes carry what the voter knows, so
that a leader that was started again and heard nobody goes on by what those who elected it have heard.
Taking the median of the clocks anew instead would jump: with three clocks 2 s apart, each two of them that
elect a leader have another median, and keys would expire early. Only where none of those who elect has heard
a leader since its start, as after a restart of them all, the median of their clocks is all there is. The
stamps start no earlier than the last entry's in any case.

**While leading**, each turn moves the time towards the median of the last known wall clocks, each of them
carried forward by the monotonic clock since it was heard: faster behind it, slower ahead of it, in
proportion to the distance and within the bounds above.

Pure: time comes in through `observe()`, once at the start of each turn.
"""

from collections.abc import Container
from typing import Final

from respraft.raft.message import NO_TIME, HeardTime, NodeId, Term

SPEED_MIN: Final = 0.5
SPEED_MAX: Final = 1.1

CORRECTION_MS: Final = 2_000_000.0
"""An error this large would be corrected at twice the speed, were there no bound; one of 2 s is corrected
by 0.1 %. At full speed a deadline 200 ms away would come 18 ms early for as long as the error lasts."""

SMALL_CORRECTION_MS: Final = 20_000.0
SMALL_CORRECTION_MAX: Final = 0.0005
"""A small error is corrected a hundred times as fast, up to 0.05 %, which is how fast NTP slews a clock. An
election while nodes start may leave one of 30 ms, and keys would expire that late for half an hour."""


class LogClock:
    """One node's view of the log's time. `observe()` it before anything else in a turn."""

    def __init__(self) -> None:
        self.monotonic_ms = 0.0
        self.wall_ms = 0
        self.leading = False
        self._time_ms = 0.0  # The log's time now; kept up to date while leading.
        self._term: Term = 0  # The node's.
        self._followed_ms = 0  # What the leader's clock said last,
        self._followed_at: float | None = None  # and when, on our monotonic clock; None: never heard.
        self._followed_term: Term = 0  # And the term of the leader who said it.
        self._input_waited = False  # What comes in until the next tick has waited for us, who knows how long.
        # A wall clock as it was heard, less our monotonic clock then: add the latter to carry it on.
        self._offsets: dict[NodeId, float] = {}

    def observe(self, monotonic_ms: float, wall_ms: int) -> None:
        """A turn begins at this time by the monotonic clock and by the wall clock (Unix epoch)."""
        elapsed_ms = monotonic_ms - self.monotonic_ms
        assert elapsed_ms >= 0, "the monotonic clock ran backwards"
        self.monotonic_ms = monotonic_ms
        self.wall_ms = wall_ms
        if self.leading:
            error_ms = self._median_ms() - (self._time_ms + elapsed_ms)
            speed = 1.0 + _correction(error_ms)
            self._time_ms += elapsed_ms * min(max(speed, SPEED_MIN), SPEED_MAX)

    def now_ms(self) -> int:
        """The log's time now; on a node that doesn't lead its best guess, good for no stamp."""
        return int(self._time_ms if self.leading else self._followed_now_ms())

    @property
    def skew_ms(self) -> int:
        """Largest distance of a voter's clock from the median, as far as this leader has heard them."""
        if not self.leading:
            return 0
        offsets = self._sorted_offsets()
        median = offsets[(len(offsets) - 1) // 2]
        return int(max(median - offsets[0], offsets[-1] - median))

    # Following

    def follow(self, time_ms: int) -> None:
        """The leader's clock says `time_ms` (a heartbeat).

        A value below the last one is an old message. Not so the first one of a new leader: it may know the
        log's time less well than we do, but it is the one who stamps. Who went on with the older time and
        led next would let the log's time jump by the difference.
        """
        if self._input_waited:
            return
        if self._followed_term != self._term or time_ms >= self._followed_ms:
            self._followed_term = self._term
            self._followed_ms = time_ms
            self._followed_at = self.monotonic_ms

    def follow_entry(self, time_ms: int) -> None:
        """An entry with that stamp was appended here.

        It may be an old one that was missed, so it only counts when it is newer than the last heartbeat;
        on a node that heard none, entries alone say nothing about what time it is.
        """
        if self._followed_at is not None and time_ms >= self._followed_ms and not self._input_waited:
            self._followed_ms = time_ms
            self._followed_at = self.monotonic_ms

    def resume(self) -> None:
        """This process was paused: input that comes before the next tick has waited for it.

        It says nothing about what time it is, while our monotonic clock has gone on. Who took a heartbeat of
        before the pause for news, and told a candidate so, would let the log's time stand for as long.
        """
        self._input_waited = True

    def tick(self) -> None:
        """Input that has piled up has been taken."""
        self._input_waited = False

    def enter_term(self, term: Term) -> None:
        """Another leader's time counts from now on, once it is heard; until then the last one's goes on."""
        self._term = term

    def heard(self) -> HeardTime:
        """What this node knows of the log's time, for a candidate that it votes for."""
        if self._followed_at is None:
            return NO_TIME
        return HeardTime(self._followed_term, self._followed_ms, int(self.monotonic_ms - self._followed_at))

    # Electing and leading

    def hear(self, voter: NodeId, wall_ms: int) -> None:
        """The wall clock of another voter, from its vote or its answer to a heartbeat."""
        self._offsets[voter] = wall_ms - self.monotonic_ms

    def learn(self, known: HeardTime) -> None:
        """What a voter knows of the log's time: it counts where it is better than what we know.

        The better knowledge is not the higher guess: a node that was cut off for long guesses by its own
        clock, and others have followed another time since. A vote that has waited for us during a pause says
        how long ago something was heard as of before the pause: what we know of the same term is better.
        """
        if self._input_waited and known.term == self._followed_term:
            return
        if (known.term, known.said_ms) > (self._followed_term, self._followed_ms):
            self._followed_term, self._followed_ms = known.term, known.said_ms
            self._followed_at = self.monotonic_ms - known.ago_ms

    def forget_voters(self) -> None:
        """An election begins: only clocks of those who vote in it count."""
        self._offsets.clear()

    def keep_voters(self, voters: Container[NodeId]) -> None:
        """The voters have changed: who has no vote any more, maybe for its wrong clock, counts no more."""
        self._offsets = {voter: offset for voter, offset in self._offsets.items() if voter in voters}

    def lead(self, last_time_ms: int) -> None:
        """This node was elected; the last entry of its log has that stamp."""
        self._time_ms = max(float(last_time_ms), self._followed_now_ms())
        self._followed_term = self._term
        self.leading = True

    def step_down(self) -> None:
        """This node leads no longer; its own time is the last that it knows of the log's."""
        self._followed_ms = int(self._time_ms)
        self._followed_at = self.monotonic_ms
        self.leading = False

    def _followed_now_ms(self) -> float:
        if self._followed_at is None:
            return self._median_ms()
        return self._followed_ms + (self.monotonic_ms - self._followed_at)

    def _median_ms(self) -> float:
        offsets = self._sorted_offsets()
        return self.monotonic_ms + offsets[(len(offsets) - 1) // 2]

    def _sorted_offsets(self) -> list[float]:
        return sorted([self.wall_ms - self.monotonic_ms, *self._offsets.values()])


def _correction(error_ms: float) -> float:
    """Return by which part of the time that passes an error is made smaller."""
    small = min(max(error_ms / SMALL_CORRECTION_MS, -SMALL_CORRECTION_MAX), SMALL_CORRECTION_MAX)
    large = error_ms / CORRECTION_MS
    return small if abs(small) > abs(large) else large
