"""When the state is flushed, and how much of the log is cut off behind that.

The Raft log is the state's write-ahead log, so its head can go once the state holds it durably. That takes a
flush, which costs little when much has gathered: it is due when enough of the log, by bytes or by entries,
has been applied since the last one. How far the log is then cut is the least of

* what the state had applied when the flush was begun,
* less a margin, so that a node that was away for a moment is caught up from the log,
* and less what connected followers and transfers under way still need, within a limit on the log's size: past
  that the head goes all the same, and who needs it gets a (new) snapshot.

So the log on disk is bounded whatever the followers do. Bytes are those of payloads before they are packed,
which is what a replay takes its time for, with `ENTRY_BYTES` for the rest of an entry; where they came to lie
is remembered at marks, not for each entry.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from respraft.config import RaftConfig
from respraft.raft.message import Entry, Index, NodeId
from respraft.replica.payload import size_of

ENTRY_BYTES: Final = 64
"""What an entry takes on disk besides its payload, about."""

MARK_BYTES: Final = 256 << 10
MARK_ENTRIES: Final = 1000
"""A mark is set when so much has been applied since the last one: a cut is that precise, and a log of 1 GiB
has some thousands of them."""


class Compaction:
    """The policy of one node's log. It decides; the replica does."""

    def __init__(self, config: RaftConfig, applied_index: Index) -> None:
        """Begin where the state ends at the start: so far it is durable."""
        self._config = config
        self._bytes = 0  # Applied since the start.
        self._index = applied_index
        self._flushed_bytes = 0  # The two as of the last flush that was begun.
        self._flushed_index = applied_index
        self._mark_indexes: list[Index] = [applied_index]
        self._mark_bytes: list[int] = [0]
        self._transfers: dict[NodeId, Index] = {}

    def applied(self, entries: Sequence[Entry]) -> None:
        """These entries were applied."""
        self._bytes += sum([size_of(entry.payload) for entry in entries]) + len(entries) * ENTRY_BYTES
        self._index = entries[-1].index
        if (
            self._bytes - self._mark_bytes[-1] >= MARK_BYTES
            or self._index - self._mark_indexes[-1] >= MARK_ENTRIES
        ):
            self._mark_indexes.append(self._index)
            self._mark_bytes.append(self._bytes)

    @property
    def due(self) -> bool:
        """Whether enough has been applied since the last flush was begun."""
        return (
            self._bytes - self._flushed_bytes >= self._config.compact_bytes
            or self._index - self._flushed_index >= self._config.compact_entries
        )

    def flush_begun(self) -> Index:
        """A flush begins. Return how far the state will be durable when it ends."""
        self._flushed_bytes = self._bytes
        self._flushed_index = self._index
        return self._index

    def transfer_begun(self, peer: NodeId, index: Index) -> None:
        """A state that holds at least everything up to `index` is being sent to `peer`."""
        self._transfers[peer] = index

    def transfer_ended(self, peer: NodeId) -> None:
        """It is sent nothing any more."""
        self._transfers.pop(peer, None)

    def cut(self, flushed_index: Index, needed: Iterable[Index], *, margin: bool) -> Index:
        """Return up to which entry the log can be cut off now.

        Args:
            flushed_index: So far the state is durable: what `flush_begun` said.
            needed: Where the logs of connected followers end: they need what lies behind.
            margin: Whether to keep some for who is not connected just now.
        """
        index = flushed_index
        if margin:
            far_enough = self._mark_before(self._bytes_at(flushed_index) - self._config.keep_bytes)
            index = min(index, max(flushed_index - self._config.keep_entries, far_enough))
        for each in (*needed, *self._transfers.values()):
            if each < index and self._bytes - self._bytes_at(each) <= self._config.keep_bytes_max:
                index = each
        self._forget_marks(index)
        return index

    def _mark_before(self, total: int) -> Index:
        """The last mark at or below a total of bytes."""
        place = bisect_right(self._mark_bytes, total)
        return self._mark_indexes[place - 1] if place else 0

    def _bytes_at(self, index: Index) -> int:
        """Bytes up to the last mark at or below `index`; what lies before the first counts as nothing."""
        place = bisect_right(self._mark_indexes, index)
        return self._mark_bytes[max(place - 1, 0)]

    def _forget_marks(self, index: Index) -> None:
        drop = max(bisect_right(self._mark_indexes, index) - 1, 0)
        del self._mark_indexes[:drop], self._mark_bytes[:drop]
