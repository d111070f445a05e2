"""What the core asks of the durable log. Storage implements it; `log.py` reads through it."""

from typing import Protocol

from respraft.raft.message import Entry, Index, SnapshotPoint, Term


class LogReader(Protocol):
    """The durable log, for reading. Called on the event loop while a write runs on another thread.

    What a write replaces or cuts off must not be asked for from the moment on at which it is handed out.
    """

    def first_index(self) -> Index:
        """The lowest index in the log; 1 in an empty log that was never compacted."""
        ...

    def last_index(self) -> Index:
        """The highest durable index; `first_index() - 1` in an empty log."""
        ...

    def base(self) -> SnapshotPoint:
        """The place before the first entry: index `first_index() - 1`; zeros in a log never compacted."""
        ...

    def term(self, index: Index) -> Term:
        """The term of the entry at `index`, which is between first and last, or at the base."""
        ...

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries from `low` up to but without `high`, all of them in the log.

        Stops before the payloads exceed `bytes_max`, but returns at least one entry.
        """
        ...
