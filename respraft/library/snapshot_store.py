"""The newest snapshot of a user's machine in a state store, together with what the replica keeps beside it.

    g                           number of the snapshot that counts, 8 bytes; absent before the first
    m | name                    what the replica keeps, as of that snapshot: applied index, sessions...
    s | number | place          one piece; both numbers 8 bytes, big-endian

A snapshot can be larger than what should be written at once, so its pieces go in step by step under the next
number, and then *one* atomic write makes that number count, with the replica's values, and removes the one
before. What a crash or an exception leaves under a number that does not count is removed before the next
snapshot; opening writes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from respraft.storage.state_interface import StateStore

META: Final = b"m"
"""As in the keyspace's store."""
PIECES: Final = b"s"
NUMBER: Final = b"g"
PAST_PIECES: Final = b"t"

STEP_BYTES: Final = 4 << 20
"""Pieces that are gathered for one write of the store."""


class SnapshotStore:
    """One snapshot, replaced as a whole."""

    def __init__(self, store: StateStore) -> None:
        """Take what the store holds. The store stays the caller's."""
        self._store = store
        number = store.get(NUMBER)
        self._number = 0 if number is None else int.from_bytes(number, "big")

    @property
    def exists(self) -> bool:
        """Whether there is a snapshot."""
        return self._number > 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the pieces of the snapshot in their order."""
        return (piece for _, piece in self._store.iterate(*_range_of(self._number)))

    def meta(self, key: bytes) -> bytes | None:
        """Return what the snapshot's `write` was given for `key`, or an earlier one."""
        return self._store.get(META + key)

    def write(self, pieces: Iterable[bytes], meta: Mapping[bytes, bytes]) -> int:
        """Replace the snapshot; return its size in bytes. As durable as the store's next flush.

        What `pieces` raises is raised, and the snapshot of before stays.
        """
        low = _range_of(self._number + 1)[0]
        self._store.write({}, [(low, PAST_PIECES)])
        puts: dict[bytes, bytes | None] = {}
        gathered = total = 0
        for place, piece in enumerate(pieces):
            puts[low + place.to_bytes(8, "big")] = piece
            gathered += len(piece)
            total += len(piece)
            if gathered >= STEP_BYTES:
                self._store.write(puts)
                puts, gathered = {}, 0
        for name, value in meta.items():
            puts[META + name] = value
        puts[NUMBER] = (self._number + 1).to_bytes(8, "big")
        self._store.write(puts, [_range_of(self._number)])
        self._number += 1
        return total


def _range_of(number: int) -> tuple[bytes, bytes]:
    """Return the first store key of a snapshot's pieces, and that past its last."""
    return PIECES + number.to_bytes(8, "big"), PIECES + (number + 1).to_bytes(8, "big")
