"""What was changed lately in one database of the keyspace: generations over the store, newest on top.

    young    what this run and those before it changed (`generation.py`)
    older    the same on its way to the store, newest first, and what has arrived last
    store    the rest

The uppermost layer that has a key says what its record is. A generation that hides what is below it, since
the database was emptied first, ends the search. One that has arrived is still asked for records, which is
quicker than the store is, and left out where keys are iterated over.

Iterations see the changes of the present run, and nothing may be changed while one goes on. How many records
there are, and which were read from the store, is for `overlay.py` to know.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Final, TypeAlias

from respraft.commands.generation import ABSENT, Generation
from respraft.commands.record import EXPIRY, RECORDS, range_of, user_key
from respraft.storage.state_interface import StateStore

Found: TypeAlias = tuple[list[bytes], list[bytes | None]]
"""Keys, and the record of each in one place: None for no record, ABSENT if that place has no say."""

_UNCHANGED: Final = bytes(bytearray(b"as it was"))
"""Says, by its identity, that a change does not concern a key: index entries that are there are empty."""


class Layers:
    """See the module's docstring."""

    __slots__ = ("_number", "_store", "older", "young")

    def __init__(self, store: StateStore, number: int) -> None:
        self._store = store
        self._number = number
        self.young = Generation(number)
        """The owner changes it, and puts another one in its place to clear the database, or to undo that."""
        self.older: list[Generation] = []

    def below_young(self, key: bytes) -> bytes | None:
        """Return the record of a key that is not in the young generation; ABSENT if the store has to say."""
        if self.young.hides:
            return None
        for generation in self.older:
            record = generation.records.get(key, ABSENT)
            if record != ABSENT:
                return record
            if generation.hides:
                return None
        return ABSENT

    def gather_below_young(self, keys: list[bytes]) -> tuple[list[Found], list[bytes]]:
        """Do what `below_young` would do for each of many keys, which are not in the young generation.

        Returns:
            What each generation has of them, and the keys of which the store has to say.
        """
        gathered: list[Found] = []
        hidden = self.young.hides
        for generation in self.older:
            if hidden:
                break
            found = list(map(generation.records.get, keys, repeat(ABSENT)))
            gathered.append((keys, found))
            keys = [key for key, record in zip(keys, found, strict=True) if record == ABSENT]
            hidden = generation.hides
        return gathered, [] if hidden else keys

    def unknown(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of `keys` that only the store knows anything of."""
        records = self.young.records
        missing = [key for key in keys if key not in records]
        return self.gather_below_young(missing)[1] if missing else []

    def record_keys_from(self, low: bytes) -> Iterator[bytes]:
        """Yield the store keys of the records from `low` on, in order."""
        high = range_of(RECORDS, self._number)[1]
        over, hidden = self._not_written()
        runs = [generation.record_order().between(low, high) for generation in over if generation.records]
        if not hidden:
            runs.append(self._store.keys(low, high))
        changes = [generation.records for generation in over]
        return _merged(runs, lambda store_key: _exists(user_key(store_key), changes))

    def index_entries_from(self, low: bytes) -> Iterator[bytes]:
        """Yield the entries of the expiry index from `low` on, in order."""
        high = range_of(EXPIRY, self._number)[1]
        over, hidden = self._not_written()
        over = [generation for generation in over if generation.index_count]
        # Deletions in front of `low` stay out of the way with the entries that they are for.
        runs = [generation.index_order().between(low, high) for generation in over]
        if not hidden:
            runs.append(self._store.keys(low, high))
        changes = [generation.index for generation in over]
        return _merged(runs, lambda entry: _exists(entry, changes))

    def hand_over(self) -> tuple[Generation | None, list[Generation]]:
        """End the young generation, and begin another one.

        Returns:
            What is to go to the store now, if anything was changed, and those that have arrived there and
            that nobody looks at any more.
        """
        over: list[Generation] = []
        done: list[Generation] = []
        for generation in self.older:  # Each is looked at once: the thread may mark it meanwhile.
            (done if generation.written else over).append(generation)
        young = self.young
        if young.empty:
            self.older = over
            return None, done
        self.older = [young, *over]
        self.young = Generation(self._number)
        return young, done

    def _not_written(self) -> tuple[list[Generation], bool]:
        """Return the generations that are not in the store, newest first, and whether they hide it."""
        over: list[Generation] = []
        for generation in (self.young, *self.older):
            if not generation.written:
                over.append(generation)
            if generation.hides:
                return over, not generation.written
        return over, False


def _exists(key: bytes, changes: list[dict[bytes, bytes | None]]) -> bool:
    """Tell whether a key is there that one of the changes, newest first, or the store has."""
    for changed in changes:
        value = changed.get(key, _UNCHANGED)
        if value is not _UNCHANGED:
            return value is not None
    return True


def _merged(runs: list[Iterator[bytes]], exists: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Merge sorted runs of store keys, each key once, without those that do not exist any more."""
    previous = None
    for key in heapq.merge(*runs):
        if key != previous and exists(key):
            yield key
        previous = key
