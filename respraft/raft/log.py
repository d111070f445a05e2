"""The Raft log as one node sees it: a base, a durable prefix behind it, and an unstable tail.

    1 ........ base | first_index ........ stable_index ........ last_index
      in the state  |<----- in storage ------>|<---- unstable ---->|
                               |<------- cached in memory -------->|
                                   ^ commit_index may lie on either side

Invariants (checked by `check_invariants`, called after every step in tests):

* Indexes are contiguous; terms and log time never decrease, from the base on.
* base <= applied_index <= handed_index <= commit_index <= last_index, and handed_index <= stable_index.
* An entry at or below commit_index is never replaced.
* The unstable tail is cached whole; below it the newest entries are, within a number of bytes.

**The base** is the last entry that is gone: its place, term and time are all that is kept of it, and all that
an append right behind it needs. Everything up to it is in the machine's state. It moves in two ways:

* `compact_to()`: the state has been flushed, so the head of the log is not needed to restart. The base is
  somewhere at or below the applied index, and nothing else changes.
* `restore()`: a state that was made elsewhere and reaches further than this node's log takes its place. The
  log is empty behind the new base. Until a write has named that state, nothing of this log is durable:
  `stable_index` is 0 meanwhile, so nothing is handed out and nothing is promised.

This module does no I/O. Entries leave through `take_unstable()`, and `write_done()` reports them durable.
Between the two a new leader may replace some of them; those don't count as durable when the write
completes, though the disk then holds them for a moment: the next write removes them, and a node
that crashes before it meets them again as entries that were never acknowledged.

Raft paper: section 5.3 (log matching), section 7 (compaction).
"""

from collections.abc import Callable, Iterator
from typing import Final

from respraft.raft.log_reader import LogReader
from respraft.raft.message import Entry, Index, SnapshotPoint, Term

ENTRY_OVERHEAD_BYTES: Final = 160
"""What a cached entry takes besides its payload, about. Bounds a cache of many small entries."""

TERMS_MAX: Final = 256
"""Terms of entries below the cache that are remembered."""

ITERATE_BYTES: Final = 1 << 20
"""How much of the log `iterate()` reads at a time."""


class RaftLog:
    """See the module's docstring. The indexes are public for reading and changed by methods only."""

    def __init__(
        self,
        reader: LogReader,
        *,
        applied_index: Index,
        commit_index: Index,
        cache_bytes_max: int,
        size_of: Callable[[bytes], int] = len,
    ) -> None:
        """Open the durable log of a node that starts.

        Args:
            reader: The durable log. Asked for stable entries only.
            applied_index: Up to here the machine has it; `take_committed()` goes on behind it.
            commit_index: Of the hard state. It lags, so `applied_index` may be ahead of it.
            cache_bytes_max: How much of the stable log is kept in memory besides the unstable tail.
            size_of: How many bytes of a payload the machine sees: more than there are where it is packed.
        """
        self.size_of = size_of
        self._reader = reader
        self._cache: list[Entry] = []
        self._cache_bytes = 0
        self._terms: dict[Index, Term] = {}  # Of entries below the cache that were asked for.
        self._cache_bytes_max = cache_bytes_max
        self.base = reader.base()
        self.first_index = self.base.index + 1
        self.durable_first_index = self.first_index  # What storage has been told to cut, or is being told.
        self.last_index = reader.last_index()
        self.stable_index = self.last_index
        self._cache_low = self.last_index + 1  # Index of _cache[0], or of the next entry.
        self._write_high: Index | None = None  # Last entry of the write in flight that still counts.
        self.commit_index = max(commit_index, applied_index)
        self.handed_index = applied_index
        self.applied_index = applied_index
        self.last_term: Term = self.base.term
        self.last_time_ms = self.base.time_ms
        if self.last_index >= self.first_index:
            last = reader.entries(self.last_index, self.last_index + 1, 0)[0]
            self.last_term, self.last_time_ms = last.term, last.time_ms
        assert self.commit_index <= self.last_index, (
            f"entries up to {self.commit_index} are committed, but the log ends at {self.last_index}"
        )
        assert applied_index >= self.base.index, (
            f"the state is as of entry {applied_index}, but the log begins behind {self.base.index}"
        )

    # Reading

    def term(self, index: Index) -> Term:
        """The term of the entry at `index`, which is the base's or a later one; 0 before the very first."""
        if index == self.last_index:
            return self.last_term
        if index >= self._cache_low:
            return self._cache[index - self._cache_low].term
        if index <= self.base.index:
            assert index == self.base.index, f"entry {index} is gone, the log begins behind {self.base.index}"
            return self.base.term
        # The reader has to read the whole entry, and the same few are asked for in every turn.
        term = self._terms.get(index)
        if term is None:
            if len(self._terms) >= TERMS_MAX:
                self._terms.clear()
            term = self._terms[index] = self._reader.term(index)
        return term

    def matches(self, index: Index, term: Term) -> bool:
        """Whether this log has an entry of that term there, and so agrees with its sender up to it.

        Not to be asked about entries before the base: they are committed, so whoever has other ones is wrong.
        """
        return index <= self.last_index and self.term(index) == term

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Whether a log that ends so has at least what this one has: by term first, then by length.

        Raft paper, section 5.4.1. A longer log of an older term may lack what was committed.
        """
        if last_term != self.last_term:
            return last_term > self.last_term
        return last_index >= self.last_index

    def last_of_term_at_most(self, index: Index, term: Term) -> Index:
        """The highest index up to `index` whose entry has a term of at most `term`.

        Terms never decrease, so a few looks find it however long the log is. An index before the base says
        that it is there or further down, among the entries that are gone.
        """
        if index < self.base.index or self.term(index) <= term:
            return index
        if self.base.term > term:
            return self.base.index - 1
        low, high = self.base.index, index  # The entry at low fits, the one at high does not.
        while high - low > 1:
            middle = (low + high) // 2
            if self.term(middle) <= term:
                low = middle
            else:
                high = middle
        return low

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries from `low` up to but without `high`; fewer if they exceed `bytes_max`, but at least one."""
        assert self.first_index <= low < high <= self.last_index + 1, f"no entries {low}..{high - 1} here"
        offset = self._cache_low
        if low >= offset:
            return self._cached(low, high, bytes_max)
        entries = self._reader.entries(low, min(high, offset), bytes_max)
        if len(entries) == offset - low and high > offset:
            left = bytes_max - sum([len(entry.payload) for entry in entries])
            if left >= len(self._cache[0].payload):
                entries = entries + self._cached(offset, high, left)
        return entries

    def iterate(self, low: Index) -> Iterator[Entry]:
        """Everything from `low` to the end, read in pieces. The log must not change meanwhile."""
        while low <= self.last_index:
            for entry in self.entries(low, self.last_index + 1, ITERATE_BYTES):
                yield entry
                low = entry.index + 1

    # Growing

    def append(self, entry: Entry) -> None:
        """Put one entry at the end: a leader's own."""
        assert entry.index == self.last_index + 1, "a leader appends at the end of its log"
        self._cache.append(entry)
        self._cache_bytes += len(entry.payload) + ENTRY_OVERHEAD_BYTES
        self._ends_with(entry)

    def splice(self, entries: list[Entry]) -> tuple[Index, int]:
        """Take a leader's entries; the log agrees with it up to the one before them.

        What is here already stays, and so does everything behind it unless an entry *conflicts*: that
        this message ends earlier says nothing, it may be a late one (Raft paper, figure 2, step 3).

        Returns:
            The first index that was cut off (0: none), and how many of `entries` were here already.
        """
        known = 0
        if entries[0].index <= self.last_index:
            for entry in entries:
                if not self.matches(entry.index, entry.term):
                    break
                known += 1
        if known == len(entries):
            return 0, known
        fresh = entries[known:] if known else entries
        cut = fresh[0].index if fresh[0].index <= self.last_index else 0
        if cut:
            self._truncate(cut)
        assert fresh[0].index == self._cache_low + len(self._cache), "a gap in the log"
        self._cache += fresh
        self._cache_bytes += sum([len(entry.payload) for entry in fresh])
        self._cache_bytes += len(fresh) * ENTRY_OVERHEAD_BYTES
        self._ends_with(fresh[-1])
        return cut, known

    def commit_to(self, index: Index) -> bool:
        """Everything up to `index` is committed. Returns whether that is news; it is never taken back."""
        if index <= self.commit_index:
            return False
        assert index <= self.last_index, f"commit of {index}, but the log ends at {self.last_index}"
        self.commit_index = index
        return True

    # The base

    def compact_to(self, index: Index) -> None:
        """Cut off the entries up to `index`: they are applied, and the state that holds them is durable.

        Storage hears of it with the next write.
        """
        assert self.base.index <= index <= self.applied_index, f"entry {index} can't be cut off yet"
        if index == self.base.index:
            return
        last = self.entries(index, index + 1, 0)[0]
        self.base = SnapshotPoint(last.index, last.term, last.time_ms)
        self.first_index = index + 1
        if self._cache_low <= index:
            drop = index + 1 - self._cache_low
            self._cache_bytes -= sum([len(e.payload) + ENTRY_OVERHEAD_BYTES for e in self._cache[:drop]])
            del self._cache[:drop]
            self._cache_low = index + 1
        self._terms.clear()

    def restore(self, point: SnapshotPoint) -> None:
        """Put a state as of `point` in place of the whole log, which ends before it or contradicts it."""
        assert point.index > self.commit_index, f"entry {point.index} is known to be committed"
        self.base = point
        self.first_index = self._cache_low = point.index + 1
        self.durable_first_index = self.first_index  # The write that names the state says so.
        self._cache.clear()
        self._cache_bytes = 0
        self._terms.clear()
        self.last_index, self.last_term, self.last_time_ms = point.index, point.term, point.time_ms
        self.commit_index = self.handed_index = self.applied_index = point.index
        self.stable_index = 0  # Not even the base is durable.
        if self._write_high is not None:
            self._write_high = 0  # Nothing of what the write in flight holds is in the log any more.

    @property
    def restoring(self) -> bool:
        """Whether a state has replaced the log, and no write has named it yet."""
        return self.stable_index < self.base.index

    # Persisting and applying

    def take_unstable(self) -> list[Entry]:
        """What the next write has to hold. No other one is in flight."""
        assert self._write_high is None, "one write at a time"
        assert not self.restoring, "the write that names a state holds no entries"
        self._write_high = self.last_index
        self.durable_first_index = self.first_index
        return self._cache[self.stable_index + 1 - self._cache_low :]

    def take_base(self) -> SnapshotPoint:
        """Where the state ends that the next write has to name. No other write is in flight."""
        assert self._write_high is None, "one write at a time"
        assert self.restoring, "no state has replaced the log"
        self._write_high = self.base.index
        return self.base

    def write_done(self) -> None:
        """The write is durable, and with it those of its entries that were not replaced meanwhile."""
        assert self._write_high is not None, "no write is in flight"
        self.stable_index = max(self.stable_index, self._write_high)
        self._write_high = None
        if self._cache_bytes > self._cache_bytes_max:
            self._shrink_cache()

    def take_committed(self, bytes_max: int) -> list[Entry]:
        """The next entries that are both committed and durable here, each handed out once.

        Fewer if the machine would see more than `bytes_max` of them, but at least one.
        """
        high = min(self.commit_index, self.stable_index)
        if high <= self.handed_index:
            return []
        entries = self.entries(self.handed_index + 1, high + 1, bytes_max)
        left = bytes_max
        for place, entry in enumerate(entries):
            left -= self.size_of(entry.payload)
            if left < 0 and place:
                del entries[place:]
                break
        self.handed_index += len(entries)
        return entries

    @property
    def unwritten_bytes(self) -> int:
        """What is held in memory beyond the cache's size, since it waits for this node's disk."""
        return max(0, self._cache_bytes - self._cache_bytes_max)

    def has_committed(self) -> bool:
        """Whether `take_committed()` has something to hand out."""
        return self.handed_index < min(self.commit_index, self.stable_index)

    def applied_to(self, index: Index) -> None:
        """The machine has applied everything up to `index`."""
        assert self.applied_index <= index <= self.handed_index, f"applied {index} was never handed out"
        self.applied_index = index

    def check_invariants(self) -> None:
        """Assert what the module's docstring promises. Looks at the cached part of the log."""
        assert self.applied_index <= self.handed_index <= self.commit_index <= self.last_index
        assert self.durable_first_index <= self.first_index == self.base.index + 1 <= self._cache_low
        if self.restoring:
            assert self.stable_index == 0 and self.handed_index == self.base.index
            assert self._cache_low == self.first_index, "the unstable tail is not cached whole"
        else:
            assert self.base.index <= self.applied_index
            assert self.handed_index <= self.stable_index <= self.last_index
            assert self._cache_low <= self.stable_index + 1, "the unstable tail is not cached whole"
        assert self._cache_low + len(self._cache) == self.last_index + 1
        size = sum(len(entry.payload) + ENTRY_OVERHEAD_BYTES for entry in self._cache)
        assert size == self._cache_bytes, "the cache's size is miscounted"
        for place, entry in enumerate(self._cache):
            assert entry.index == self._cache_low + place, "indexes are not contiguous"
            before = self._cache[place - 1] if place else entry
            assert before.term <= entry.term and before.time_ms <= entry.time_ms
        last = self._cache[-1] if self._cache else self.base
        if last.index == self.last_index:
            assert (last.term, last.time_ms) == (self.last_term, self.last_time_ms)

    def _ends_with(self, entry: Entry) -> None:
        assert entry.term >= self.last_term, "terms never decrease along the log"
        self.last_index = entry.index
        self.last_term = entry.term
        self.last_time_ms = entry.time_ms

    def _truncate(self, index: Index) -> None:
        """Cut off `index` and everything behind it. The caller appends others in their place."""
        assert index > self.commit_index, f"entry {index} is committed and can't be replaced"
        keep = max(index - self._cache_low, 0)
        self._cache_bytes -= sum([len(e.payload) + ENTRY_OVERHEAD_BYTES for e in self._cache[keep:]])
        del self._cache[keep:]
        self._cache_low = min(self._cache_low, index)
        self._terms.clear()
        self.last_term = self.term(index - 1)
        self.last_index = index - 1
        self.stable_index = min(self.stable_index, index - 1)
        if self._write_high is not None:
            # What the write in flight holds from here on is no longer ours when it completes.
            self._write_high = min(self._write_high, index - 1)

    def _cached(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """`entries()` where all of them are cached."""
        cache = self._cache
        start, end, stop = low - self._cache_low, low - self._cache_low + 1, high - self._cache_low
        left = bytes_max - len(cache[start].payload)
        while end < stop:
            left -= len(cache[end].payload)
            if left < 0:
                break
            end += 1
        return cache[start:end]

    def _shrink_cache(self) -> None:
        """Drop the oldest stable entries, a quarter more than needed, so that it pays."""
        bytes_aim = self._cache_bytes_max * 3 // 4
        drop_max = self.stable_index + 1 - self._cache_low
        size = self._cache_bytes
        drop = 0
        while drop < drop_max and size > bytes_aim:
            size -= len(self._cache[drop].payload) + ENTRY_OVERHEAD_BYTES
            drop += 1
        del self._cache[:drop]
        self._cache_low += drop
        self._cache_bytes = size
