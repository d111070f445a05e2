"""A state store whose large writes are made on a thread, one after the other.

    begin_write_down ──> a thread: build the step, write it, flush it ──> the future is done

Flushes and checkpoints take their turn there as well: beside a step that is half made they might make half of
it durable. Reads go to the store below at once, and see a step piece by piece; whoever began it still has
what is in it.

A step that fails, for whatever reason, is told to all that come behind it, and none of them is made: they
would be newer than what is missing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from respraft.storage.interface import StorageFailed
from respraft.storage.pieces import Step
from respraft.storage.state_interface import StateStore

_Result = TypeVar("_Result")


class ThreadedStateStore(StateStore):
    """See the module's docstring. One thread owns it, as the interface says."""

    def __init__(self, store: StateStore, thread: Executor | None = None) -> None:
        """Write to `store`, which nobody else uses from now on, on a thread of one's own, or on `thread`."""
        self._store = store
        # Not `_thread`: mypyc makes a keyword of C of that.
        self._writer = thread or ThreadPoolExecutor(1, thread_name_prefix="respraft-state")
        self._failure: Exception | None = None

    def get(self, key: bytes) -> bytes | None:
        return self._store.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return self._store.get_many(keys)

    def iterate(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._store.iterate(low, high)

    def keys(self, low: bytes, high: bytes) -> Iterator[bytes]:
        return self._store.keys(low, high)

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._store.write(puts, cleared)

    def write_down(self, step: Step) -> None:
        self.begin_write_down(lambda: step).result()

    def begin_write_down(self, build: Callable[[], Step]) -> Future[None]:
        return self._submit(lambda: self._make(build))

    def flush(self) -> None:
        self._submit(self._store.flush).result()

    def checkpoint(self, path: Path) -> None:
        self._submit(lambda: self._store.checkpoint(path)).result()

    def close(self) -> None:
        try:
            self._submit(lambda: None).result()
        finally:
            self._writer.shutdown()
            self._store.close()

    def _submit(self, task: Callable[[], _Result]) -> "Future[_Result]":
        return self._writer.submit(self._do, task)

    def _make(self, build: Callable[[], Step]) -> None:
        """On the thread. Disk, memory or a mistake of ours: whatever breaks it off, half of it is missing."""
        try:
            self._store.write_down(build())
        except StorageFailed:
            raise
        except Exception as error:
            raise StorageFailed(f"a write of the state broke off: {error!r}") from error

    def _do(self, task: Callable[[], _Result]) -> _Result:
        """On the thread."""
        if self._failure is not None:
            raise StorageFailed(f"an earlier write of the state failed: {self._failure}") from self._failure
        try:
            return task()
        except StorageFailed as error:
            self._failure = error
            raise
