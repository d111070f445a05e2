"""Writes of the state gathered in memory, so that most of them never reach RocksDB.

    gathered   what was written since: one layer, changed by each write, in memory alone
    writing    a layer that is on its way to the store below, on a thread: looked at, not changed
    store      the rest

A record in RocksDB costs 2 us of processor time with its flush, and one in a dictionary a tenth of that.
What is written over in memory before it goes on costs nothing more: with writes spread over 100,000 keys, the
32 MiB of log between two flushes hold 250,000 SETs, and 92,000 records are left of them. After a crash the
log brings back what was in memory alone, here as in RocksDB's own memory.

**A crash finds no mixture.** A layer is a row of whole writes, merged, and goes down in one atomic step,
durable at its end; the next one goes when that is done. So the store is always as of the end of some write,
as the interface wants it. Half a layer would be a mistake: newer records under an older applied index, and
an INCR that the log brings back would count twice.

**A flush counts what had been written when it was called**: it lets what has gathered go down, and is done
when that is. A write that fails is told to the next write or flush, and what it
was to bring down stays readable here until then.

Reads look from above to below, and a layer goes away only when what is under it has its content. So a read
needs no lock, whatever the thread is doing: it may see a record twice, never not at all.
"""

import heapq
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from respraft.storage.give_way import give_way
from respraft.storage.interface import StorageFailed
from respraft.storage.key_order import KeyOrder
from respraft.storage.state_interface import StateStore

RECORD_SHARE_BYTES: Final = 512
"""Of the memory that is set aside, what one record may take for all but its value: 128k records of 64 MiB. A
third of that is what it takes here. The flush that the log's cutting wants usually comes earlier."""

FORGET_RECORDS: Final = 256
"""Records that are let go of at once, about 30 us: the event loop waits for the interpreter meanwhile."""

_KIND_BYTES: Final = 2
"""Keys that begin alike for so long are sorted together, when somebody walks over some of them."""

_BELOW: Final = bytes(bytearray(b"further down"))
"""Says, by its identity, that a layer knows nothing of a key."""


class _Layer:
    """Writes that are not in the store yet, as one."""

    __slots__ = ("_orders", "cleared", "puts", "size", "written")

    def __init__(self) -> None:
        self.puts: dict[bytes, bytes | None] = {}
        self.cleared: list[tuple[bytes, bytes]] = []
        """Ranges that are empty in what lies below."""
        self.size = 0
        """Bytes of all values that were put."""
        self.written = False
        """It is in the store: `puts` is being emptied."""
        self._orders: dict[bytes, KeyOrder] = {}

    def add(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]]) -> None:
        for low, high in cleared:
            for key in [key for key in self.puts if low <= key < high]:
                del self.puts[key]
            if (low, high) not in self.cleared:
                self.cleared.append((low, high))
            self._orders.clear()
        self.puts.update(puts)
        self.size += sum(map(len, filter(None, puts.values())))
        for kind, order in self._orders.items():
            for key in puts:
                if key.startswith(kind):
                    order.add(key)

    def get(self, key: bytes) -> bytes | None:
        value = self.puts.get(key, _BELOW)
        if value is _BELOW and self.cleared and not self.written and self._clears(key):
            return None
        return value

    def order(self, low: bytes, high: bytes) -> KeyOrder:
        """The keys of this layer in order, those of the range at least."""
        kind = low[:_KIND_BYTES]
        if len(kind) < _KIND_BYTES or kind[-1] == 0xFF or high > kind[:-1] + bytes((kind[-1] + 1,)):
            kind = b""
        order = self._orders.get(kind)
        if order is None:
            keys = list(self.puts)  # In one step: the thread may be emptying it.
            order = self._orders[kind] = KeyOrder([key for key in keys if key.startswith(kind)])
        return order

    def over(
        self, below: Iterator[bytes], mine: Iterator[bytes], stored: Callable[[bytes], bytes | None]
    ) -> Iterator[bytes]:
        """Yield the keys of a range: `below` has those further down, `mine` those of this layer.

        `stored` looks into the store, for keys that this layer has let go of since.
        """
        if self.cleared:
            below = (key for key in below if not self._clears(key))
        previous = None
        for key in heapq.merge(below, mine):
            if key != previous:
                value = self.puts.get(key, _BELOW)
                if value is _BELOW and self.written:
                    value = stored(key)
                if value is not None:
                    yield key
            previous = key

    def forget(self) -> None:
        """Let go of it piece by piece, once it is in the store."""
        self.written = True
        puts = self.puts
        while puts:
            for _ in range(min(FORGET_RECORDS, len(puts))):
                puts.popitem()
            give_way()

    def _clears(self, key: bytes) -> bool:
        return any(low <= key < high for low, high in self.cleared)


class GatheringStateStore(StateStore):
    """See the module's docstring. One thread owns it, as the interface says."""

    def __init__(
        self,
        store: StateStore,
        *,
        records_max: int,
        bytes_max: int,
        thread: Executor | None = None,
    ) -> None:
        """Gather what is to go to `store`, which nobody else uses from now on.

        Args:
            store: Closed with this one.
            records_max: Records that gather before they go down,
            bytes_max: and bytes of their values, those counted that were written over.
            thread: Where they are written, one layer at a time. Its owner is this object.
        """
        self._store = store
        self._records_max = records_max
        self._bytes_max = bytes_max
        # Not `_thread`: mypyc makes a keyword of C of that.
        self._writer = thread or ThreadPoolExecutor(1, thread_name_prefix="respraft-gathered")
        self._gathered = _Layer()
        self._writing: _Layer | None = None
        self._done: Future[None] | None = None  # Of the last layer that went on its way.
        self._failure: Exception | None = None
        self._change = threading.Lock()  # Held to change `_gathered`, or to put another in its place.
        self._turn = threading.Lock()  # Held to send a layer on its way.

    def get(self, key: bytes) -> bytes | None:
        value = self._gathered.get(key)
        if value is not _BELOW:
            return value
        writing = self._writing
        if writing is not None:
            value = writing.get(key)
            if value is not _BELOW:
                return value
        return self._store.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        found = list(map(self._gathered.get, keys))
        writing = self._writing
        if writing is not None:
            found = [
                writing.get(key) if value is _BELOW else value for key, value in zip(keys, found, strict=True)
            ]
        missing = [key for key, value in zip(keys, found, strict=True) if value is _BELOW]
        if not missing:
            return found
        fetched = self._store.get_many(missing)
        if len(missing) == len(keys):
            return fetched
        rest = iter(fetched)
        return [next(rest) if value is _BELOW else value for value in found]

    def iterate(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._go_down().result()
        return self._store.iterate(low, high)

    def keys(self, low: bytes, high: bytes) -> Iterator[bytes]:
        # Layers before the store: one that is found to be written is in what the store shows after that.
        gathered, writing = self._gathered, self._writing
        over = [(layer, layer.order(low, high)) for layer in (writing, gathered) if layer is not None]
        whole = [(layer, order) for layer, order in over if not layer.written]
        keys = self._store.keys(low, high)
        for layer, order in whole:
            keys = layer.over(keys, order.between(low, high), self._store.get)
        return keys

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._check()
        with self._change:
            gathered = self._gathered
            gathered.add(puts, cleared)
        if len(gathered.puts) >= self._records_max or gathered.size >= self._bytes_max:
            self._go_down()

    def write_down(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]]) -> None:
        self.write(puts, cleared)
        self.flush()

    def flush(self) -> None:
        self._go_down().result()

    def checkpoint(self, path: Path) -> None:
        self._go_down().result()
        # On the thread, since it flushes, and half a layer must not become durable.
        self._writer.submit(self._store.checkpoint, path).result()

    def close(self) -> None:
        try:
            self._go_down().result()
        finally:
            self._writer.shutdown()
            self._store.close()

    def _go_down(self) -> Future[None]:
        """Send what has gathered on its way, behind what is; return when the latter has arrived.

        Any thread may call. What is returned is done when all has that was written before this call.
        """
        with self._turn:
            if self._done is not None:
                self._done.result()
            self._check()
            with self._change:
                layer = self._writing = self._gathered  # In this order, for those who read.
                self._gathered = _Layer()
            self._done = self._writer.submit(self._write, layer)
            return self._done

    def _write(self, layer: _Layer) -> None:
        """On the thread."""
        try:
            if layer.puts or layer.cleared:
                self._store.write_down(layer.puts, layer.cleared)
        except Exception as error:
            self._failure = error
            raise
        self._writing = None
        layer.forget()

    def _check(self) -> None:
        if self._failure is not None:
            raise StorageFailed(f"what had gathered was not written: {self._failure}") from self._failure
