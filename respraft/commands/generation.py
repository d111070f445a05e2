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
from typing import Final

from respraft.commands.record import EXPIRY, RECORDS, VALUES, range_of, record_keys, value_keys
from respraft.commands.stored import lies_apart, rows_of
from respraft.storage.key_order import KeyOrder
from respraft.storage.pieces import Rows

ABSENT: Final = b""
"""Says that nothing is known of a key here. No record is empty."""

ROWS_AT_ONCE: Final = 256
"""Records whose store keys are made at once, about 50 us: the event loop waits meanwhile."""


class Generation:
    """See the module's docstring."""

    __slots__ = (
        "_index_order",
        "_record_order",
        "apart_below",
        "hides",
        "index",
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
        self.hides = hides
        self.records: dict[bytes, bytes | None] = {}
        """By key as clients know it. None: there is no record. Keys only come."""
        self.index: dict[bytes, bytes | None] = {}
        """Changes to the expiry index, by store key. Keys only come."""
        self.apart_below: dict[bytes, None] = {}
        """Keys whose record further down has a value in a row of its own, in the order in which they came."""
        self.written = False
        """It is in the store, and good for quick reads only."""
        self._record_order: KeyOrder | None = None  # Once somebody has iterated.
        self._index_order: KeyOrder | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was changed."""
        return not (self.records or self.index or self.hides)

    @property
    def count(self) -> int:
        """How many rows there are for the store, besides those for values that lie, or lay, apart."""
        return len(self.records) + len(self.index)

    def coming(self, keys: list[bytes]) -> None:
        """Records of these keys, which it has not got, are about to be put into it."""
        if self._record_order is not None:
            for store_key in record_keys(self.number, keys):
                self._record_order.add(store_key)

    def put_index(self, entry: bytes, value: bytes | None) -> None:
        """Add an entry to the expiry index, or remove it (None)."""
        self.index[entry] = value
        if self._index_order is not None:
            self._index_order.add(entry)

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

    def cleared(self) -> list[tuple[bytes, bytes]]:
        """Return the ranges of the store that are to be emptied before `rows` go there."""
        return [range_of(kind, self.number) for kind in (RECORDS, VALUES, EXPIRY)] if self.hides else []

    def rows(self) -> Iterator[Rows]:
        """Yield what is to be written to the store, some at once. On the thread."""
        keys, records = list(self.records), list(self.records.values())
        for start in range(0, len(keys), ROWS_AT_ONCE):
            end = start + ROWS_AT_ONCE
            yield from rows_of(self.number, keys[start:end], records[start:end])
        apart = list(self.apart_below)
        for start in range(0, len(apart), ROWS_AT_ONCE):
            void = [key for key in apart[start : start + ROWS_AT_ONCE] if not self._has_large(key)]
            yield value_keys(self.number, void), [None] * len(void)
        if self.index:
            yield list(self.index), list(self.index.values())

    def _has_large(self, key: bytes) -> bool:
        """Tell whether a value comes in the place of the one that this key had further down."""
        record = self.records[key]
        return record is not None and lies_apart(record)
