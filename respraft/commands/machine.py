"""The Redis keyspace as the machine of a replica (`replica/machine.py` says what a machine promises).

A run is what `apply` and `expire` did since the last `commit`. It lives in the overlays, one a database, and
goes to the store whole, together with the replica's own values and with the runs before it that were
not written yet (`generation.py`): the store is always as of the end of a run.

This module says when that happens, and keeps what is in memory within its limits. How commands are run is in
`execution.py`.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from hashlib import blake2b
from itertools import chain
from typing import Final

from respraft.commands.execution import Execution
from respraft.commands.generation import Generation
from respraft.commands.overlay import NEVER, Overlay
from respraft.commands.record import DATABASES, META
from respraft.commands.spec import CommandSpec
from respraft.resp.replies import Reply
from respraft.storage.give_way import let_go
from respraft.storage.pieces import Step
from respraft.storage.state_interface import StateStore

EXPIRE_KEYS_MAX: Final = 200
"""Keys that `expire` removes at most, about 1 ms of work for each entry."""

CHANGED_BYTES_MAX: Final = 64 << 20
"""Memory for changed records that gather before they go to the store. The flush that the log's cutting wants
usually comes earlier."""

RECORD_SHARE_BYTES: Final = 640
"""Of that memory, what one record may take, with the deadline that it had: 105,000 records of 64 MiB. One
with key and value of 116 bytes takes half of that; as many again may be on their way, or have arrived and be
good for reads. In the store it is three rows at most, two of them in the expiry index."""

FETCHED_BYTES_MAX: Final = 32 << 20
"""Memory for records that were read from the store: 100,000 keys of 100 bytes with their overhead."""

FORGET_KEYS: Final = 1024
"""Keys that are forgotten in one step when these are too many."""

_END: Final = b"\xff"
"""Past the last store key."""


class KeyspaceMachine:
    """All databases of the keyspace, in one store."""

    def __init__(
        self,
        store: StateStore,
        *,
        lookup: Callable[[bytes], CommandSpec | None],
        rng: random.Random | None = None,
        fetched_bytes_max: int = FETCHED_BYTES_MAX,
        changed_bytes_max: int = CHANGED_BYTES_MAX,
    ) -> None:
        """Start from what the store holds.

        Args:
            store: Owned by the machine from now on, save for closing it.
            lookup: The command table. Names come as clients spelled them.
            rng: Randomness for reads (RANDOMKEY); writes draw from the log.
            fetched_bytes_max: Memory for records that were read.
            changed_bytes_max: Memory for changed records that gather before they go to the store.
        """
        self._lookup = lookup
        self._rng = random.Random() if rng is None else rng
        self._fetched_bytes_max = fetched_bytes_max
        self._changed_records_max = changed_bytes_max // RECORD_SHARE_BYTES
        self._changed_bytes_max = changed_bytes_max // 2
        self._uncommitted = False
        self._open(store)

    def _open(self, store: StateStore) -> None:
        self._store = store
        self._overlays = [Overlay(store, number) for number in range(DATABASES)]
        self._execution = Execution(self._overlays, self._lookup, self._rng)
        self._meta: dict[bytes, bytes] = {}  # What this object has stored there; the store has the rest.
        self._on_way: deque[Future[None]] = deque()  # To the store, the first one first.

    def apply(
        self,
        index: int,
        time_ms: int,
        commands: Sequence[list[bytes]],
        databases: Sequence[int],
        reads: Sequence[tuple[int, int, list[bytes]]],
    ) -> list[Reply]:
        """Run one committed batch, and the reads that belong into it; return the replies in that order."""
        self._uncommitted = True
        return self._execution.apply(index, time_ms, commands, databases, reads)

    def expire(self, index: int, time_ms: int) -> int:
        """Remove keys whose deadline the log's time has reached, up to EXPIRE_KEYS_MAX."""
        removed = 0
        for overlay in self._overlays:
            if overlay.first_deadline <= time_ms and removed < EXPIRE_KEYS_MAX:
                self._uncommitted = True
                removed += overlay.expire(time_ms, EXPIRE_KEYS_MAX - removed)
        return removed

    def commit(self, meta: Mapping[bytes, bytes]) -> None:
        """End the run. It goes to the store with those before and behind it, in one atomic write."""
        self._meta.update(meta)
        self._uncommitted = False
        records = size = 0
        for overlay in self._overlays:
            records += overlay.changed_weight
            size += overlay.young_bytes
        if records >= self._changed_records_max or self._too_large(size):
            while self._on_way:  # Or they would pile up: this thread is quicker than the store.
                self._on_way.popleft().result()
            self._hand_over()
        elif self._on_way and self._on_way[0].done():
            self._on_way.popleft().result()  # Raises what went wrong.
        if self.fetched_bytes > self._fetched_bytes_max:
            self._trim()

    def _too_large(self, size: int) -> bool:
        """Whether what has gathered should go to the store; `size` counts what was written over, too."""
        if size < self._changed_bytes_max:
            return False
        for overlay in self._overlays:
            overlay.weigh()
        # Not all the way to the limit, or it would be weighed again and again on its last stretch.
        return sum([overlay.young_bytes for overlay in self._overlays]) >= self._changed_bytes_max * 3 // 4

    def _hand_over(self) -> Future[None]:
        """Send what all ended runs have changed on its way to the store, behind what is on it."""
        assert not self._uncommitted, "a run is written whole or not at all"
        besides: dict[bytes, bytes | None] = {META + name: value for name, value in self._meta.items()}
        changed: list[Generation] = []
        done: list[Generation] = []
        size = sum([overlay.young_bytes for overlay in self._overlays])
        for overlay in self._overlays:
            generation, written = overlay.hand_over(besides)
            done += written
            if generation is not None:
                changed.append(generation)
        future = self._store.begin_write_down(lambda: _step(besides, changed, size, done))
        future.add_done_callback(lambda future: _mark(changed, future))
        self._on_way.append(future)
        return future

    def meta(self, key: bytes) -> bytes | None:
        """Return what the last `commit` that named `key` stored under it."""
        value = self._meta.get(key)
        return self._store.get(META + key) if value is None else value

    def read(
        self, commands: Sequence[tuple[int, list[bytes]]], log_time_ms: int, now_ms: int
    ) -> list[Reply] | None:
        """Answer reads from the committed state; None when a key is due that the log's time has not reached.

        They run on the event loop, one after the other, each with a bounded amount of work. Together they
        are bounded, too: past `READ_BYTES_MAX` the replies end, and the commands behind them have not run.
        """
        assert not self._uncommitted, "a run is ended before anything is read"
        try:
            return self._execution.read(commands, log_time_ms, now_ms)
        finally:
            if self.fetched_bytes > self._fetched_bytes_max:
                self._trim()

    def next_deadline(self) -> int | None:
        """Return the earliest deadline in the keyspace: may be too early, never too late."""
        first = min([overlay.first_deadline for overlay in self._overlays])
        return None if first == NEVER else first

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Return, of each database that is not empty, how many keys it has and how many have a deadline."""
        return {
            number: (overlay.count, overlay.expiring)
            for number, overlay in enumerate(self._overlays)
            if overlay.count
        }

    @property
    def fetched_bytes(self) -> int:
        """Return about how much memory records take that were read. At most the limit, save within a run."""
        return sum([overlay.fetched_bytes for overlay in self._overlays])

    def flush(self) -> None:
        """Make everything committed survive a crash."""
        self.begin_flush()()

    def begin_flush(self) -> Callable[[], None]:
        """Send all ended runs to the store; what is returned waits, on any thread, until they are durable."""
        return self._hand_over().result

    def restore(self, state: StateStore) -> None:
        """Go over to another store. What was gathered for the one before is dropped, not written to it."""
        assert not self._uncommitted, "a run is ended before anything is restored"
        self._open(state)

    def digest(self) -> bytes:
        """Return a hash over all that is committed, in the order of the store's keys."""
        self.flush()
        digest = blake2b(digest_size=16)
        for key, value in self._store.iterate(b"", _END):
            digest.update(b"%d %d " % (len(key), len(value)))
            digest.update(key)
            digest.update(value)
        return digest.digest()

    def _trim(self) -> None:
        overlays = self._overlays
        while self.fetched_bytes > self._fetched_bytes_max:
            max(overlays, key=lambda overlay: overlay.fetched_bytes).forget(FORGET_KEYS)


def _step(
    besides: dict[bytes, bytes | None], changed: list[Generation], size: int, done: list[Generation]
) -> Step:
    """Return what is to be written, and let go of what is done with. On the store's thread."""
    for generation in done:
        for entries in generation.dictionaries():
            let_go(entries)
    return Step(
        chain(*[generation.rows() for generation in changed], [(list(besides), list(besides.values()))]),
        [cleared for generation in changed for cleared in generation.cleared()],
        len(besides) + sum([generation.count for generation in changed]),
        size,
    )


def _mark(changed: list[Generation], future: "Future[None]") -> None:
    if future.exception() is None:
        for generation in changed:
            generation.written = True
