"""The state store in memory, with a disk that forgets: for tests and the simulator.

It keeps what a real one keeps after a crash, namely what was flushed, and optionally some of the writes
that came next: RocksDB flushes by itself whenever a memtable is full, always between two writes.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from respraft.storage.pieces import Step
from respraft.storage.state_interface import StateStore


class MemoryStateStore(StateStore):
    """A dict with a sorted list of its keys, and what of it is on disk."""

    def __init__(self) -> None:
        self._map: dict[bytes, bytes] = {}
        self._order: list[bytes] | None = None  # Sorted keys; None when they have to be sorted anew.
        self._disk: dict[bytes, bytes] = {}
        self._unflushed: list[tuple[dict[bytes, bytes | None], list[tuple[bytes, bytes]]]] = []
        self.checkpoints: dict[Path, bytes] = {}  # What `loaded` makes a store of.

    @classmethod
    def loaded(cls, checkpoint: bytes) -> Self:
        """A store that holds what a checkpoint holds, all of it flushed."""
        store = cls()
        store._disk = msgspec.msgpack.decode(checkpoint, type=dict[bytes, bytes])
        store._map = dict(store._disk)
        return store

    def get(self, key: bytes) -> bytes | None:
        return self._map.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self._map.get(key) for key in keys]

    def iterate(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([(key, self._map[key]) for key in self._between(low, high)])

    def keys(self, low: bytes, high: bytes) -> Iterator[bytes]:
        return iter(self._between(low, high))

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        step = (dict(puts), list(cleared))
        self._unflushed.append(step)
        if _change(self._map, *step):
            self._order = None

    def write_down(self, step: Step) -> None:
        puts: dict[bytes, bytes | None] = {}
        for keys, values in step.rows:
            puts.update(zip(keys, values, strict=True))
        self.write(puts, step.cleared)
        self.flush()

    def flush(self) -> None:
        for puts, cleared in self._unflushed:
            _change(self._disk, puts, cleared)
        self._unflushed.clear()

    def checkpoint(self, path: Path) -> None:
        if path in self.checkpoints:
            raise OSError(f"checkpoint {path} exists")
        self.flush()
        self.checkpoints[path] = msgspec.msgpack.encode(dict(sorted(self._disk.items())))

    def close(self) -> None:
        self.flush()

    @property
    def unflushed_writes(self) -> int:
        """Number of writes that a crash may take away."""
        return len(self._unflushed)

    def crash(self, *, writes_kept: int = 0) -> None:
        """Lose all writes since the last flush, save for the first `writes_kept` of them."""
        del self._unflushed[writes_kept:]
        self.flush()
        self._map = dict(self._disk)
        self._order = None

    def _between(self, low: bytes, high: bytes) -> list[bytes]:
        if self._order is None:
            self._order = sorted(self._map)
        return self._order[bisect_left(self._order, low) : bisect_left(self._order, high)]


def _change(
    target: dict[bytes, bytes], puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]]
) -> bool:
    """Carry out one write; tell whether keys came or went."""
    size_before = len(target)
    changed = False
    for low, high in cleared:
        for key in [key for key in target if low <= key < high]:
            del target[key]
            changed = True
    for key, value in puts.items():
        if value is not None:
            changed = changed or key not in target
            target[key] = value
        elif target.pop(key, None) is not None:
            changed = True
    return changed or len(target) != size_before
