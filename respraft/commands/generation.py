"""What was changed in one database of the keyspace since it was last handed over to the store.

The young generation takes the changes, older ones are on their way to the store, on a thread, or have just
arrived (`layers.py`).

A record in RocksDB costs 2 us of processor time with its flush, and one in a dictionary a tenth of that. What
is written over in memory before it goes on costs nothing more: of 500,000 SETs spread over 100,000 keys, as
many as the log may hold between two flushes, 100,000 records are left. After a crash the log brings back
what was in memory alone, here as in RocksDB's own memory.

A generation is a row of whole runs, merged. It goes down in one atomic step, with what the replica keeps
beside it, durable at its end; the next one goes when that is done. So the store is always as of the end of
some run. Half a generation would be a mistake: newer records under an older applied index, and an INCR that
the log brings back would count twice.

Only the machine's owner changes one, and only as long as it is the young one. Then the thread reads it, and
marks it as written when all of it can be read from the store.
"""

from collections.abc import Iterator
from typing import Any, Final

from respraft.commands.record import (
    EXPIRY,
    RECORDS,
    VALUES,
    moment_of,
    range_of,
    record_keys,
    value_keys,
)
from respraft.commands.stored import lies_apart, rows_of
from respraft.storage.key_order import KeyOrder
from respraft.storage.pieces import Rows

ABSENT: Final = b""
"""Says that nothing is known of a key here. No record is empty."""

ROWS_AT_ONCE: Final = 256
"""Records whose store keys are made at once: 50 us, or 100 with deadlines, for which the event loop waits."""

INDEX_ENTRIES_A_RECORD: Final = 3
"""So many entries of the expiry index take as much memory as a record, once they are made."""


class Generation:
    """See the module's docstring."""

    __slots__ = (
        "_index",
        "_index_order",
        "_index_start",
        "_record_order",
        "apart_below",
        "deadlines_below",
        "expiring",
        "hides",
        "number",
        "records",
        "written",
    )

    def __init__(self, number: int, *, hides: bool = False) -> None:
        """Begin with nothing.

        Args:
            number: Of the database.
            hides: The database was emptied first: nothing that lies further down counts.
        """
        self.number = number
        self._index_start = range_of(EXPIRY, number)[0]
        self.hides = hides
        self.records: dict[bytes, bytes | None] = {}
        """By key as clients know it. None: there is no record. Keys only come."""
        self.apart_below: dict[bytes, None] = {}
        """Keys whose record further down has a value in a row of its own, in the order in which they came."""
        self.deadlines_below: dict[bytes, bytes] = {}
        """Keys whose record further down has a deadline, and which (`moment_of`)."""
        self.expiring = 0
        """How many of `records` have a deadline."""
        self.written = False
        """It is in the store, and good for quick reads only."""
        self._record_order: KeyOrder | None = None  # Once somebody has iterated.
        self._index: dict[bytes, bytes | None] | None = None
        self._index_order: KeyOrder | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was changed."""
        return not (self.records or self.hides)

    @property
    def index_count(self) -> int:
        """At most how many rows there are for the expiry index."""
        return len(self.deadlines_below) + self.expiring

    @property
    def count(self) -> int:
        """At most how many rows there are for the store, besides those for values that lie, or lay, apart."""
        return len(self.records) + self.index_count

    def coming(self, keys: list[bytes]) -> None:
        """Records of these keys, which it has not got, are about to be put into it."""
        if self._record_order is not None:
            for store_key in record_keys(self.number, keys):
                self._record_order.add(store_key)

    @property
    def weight(self) -> int:
        """How much memory it takes, in records."""
        return len(self.records) + len(self._index or ()) // INDEX_ENTRIES_A_RECORD

    def add_deadline(self, key: bytes, moment: bytes) -> None:
        """A record with a deadline is put into it. The one that the key had before was taken away."""
        self.expiring += 1
        if self._index is None:
            return
        entry = self._index_start + moment + key
        if self._index.pop(entry, ABSENT) is not None:  # Else it was removed here, and is as it was again.
            self._index[entry] = b""
            if self._index_order is not None:
                self._index_order.add(entry)

    def remove_deadline(self, key: bytes, moment: bytes, *, below: bool) -> None:
        """The record that had this deadline is no more. It was further down, or here."""
        if below:
            self.deadlines_below[key] = moment
        else:
            self.expiring -= 1
        if self._index is None:
            return
        entry = self._index_start + moment + key
        if self._index.pop(entry, None) is None:
            self._index[entry] = None
            if self._index_order is not None:
                self._index_order.add(entry)
        elif self._index_order is not None:  # It came here, and leaves no trace.
            self._index_order.discard(entry)

    def record_order(self) -> KeyOrder:
        """Return the store keys of the records, those deleted included."""
        if self._record_order is None:
            self._record_order = KeyOrder(record_keys(self.number, list(self.records)))
        return self._record_order

    def index_order(self) -> KeyOrder:
        """Return the entries of the expiry index that were changed, those removed included."""
        if self._index_order is None:
            self._index_order = KeyOrder(self.index)
        return self._index_order

    @property
    def index(self) -> dict[bytes, bytes | None]:
        """Return the changes to the expiry index, by store key. None: what is further down has the entry, and
        this has not; else the other way round. Most generations go without it: nothing falls due."""
        if self._index is None:
            entries, values = self._index_rows(list(self.records)) if self.index_count else ([], [])
            self._index = dict(zip(entries, values, strict=True))
        return self._index

    def cleared(self) -> list[tuple[bytes, bytes]]:
        """Return the ranges of the store that are to be emptied before `rows` go there."""
        return [range_of(kind, self.number) for kind in (RECORDS, VALUES, EXPIRY)] if self.hides else []

    def rows(self) -> Iterator[Rows]:
        """Yield what is to be written to the store, some at once. On the thread."""
        keys, records = list(self.records), list(self.records.values())
        for start in range(0, len(keys), ROWS_AT_ONCE):
            end = start + ROWS_AT_ONCE
            yield from rows_of(self.number, keys[start:end], records[start:end])
            if self.index_count:
                yield self._index_rows(keys[start:end])
        apart = list(self.apart_below)
        for start in range(0, len(apart), ROWS_AT_ONCE):
            void = [key for key in apart[start : start + ROWS_AT_ONCE] if not self._has_large(key)]
            yield value_keys(self.number, void), [None] * len(void)

    def _index_rows(self, keys: list[bytes]) -> Rows:
        """Return what changes in the expiry index because of these keys.

        From the first and the last deadline of each: what came and went in between leaves nothing to be
        written. A key that is set again and again with a time to live would else cost two rows each time.
        """
        start, below, records = self._index_start, self.deadlines_below, self.records
        entries: list[bytes] = []
        values: list[bytes | None] = []
        for key in keys:
            before = below.get(key, b"")
            record = records[key]
            after = b"" if record is None else moment_of(record)
            if before == after:
                continue
            if before:
                entries.append(start + before + key)
                values.append(None)
            if after:
                entries.append(start + after + key)
                values.append(b"")
        return entries, values

    def dictionaries(self) -> list[dict[bytes, Any]]:
        """Return all that takes memory, for who empties it."""
        return [self.records, self.apart_below, self.deadlines_below, self._index or {}]

    def _has_large(self, key: bytes) -> bool:
        """Tell whether a value comes in the place of the one that this key had further down."""
        record = self.records[key]
        return record is not None and lies_apart(record)
