"""The state store: an ordered map from bytes to bytes that changes in atomic steps.

It is durable only as far as its last flush. That is enough: the Raft log is its write-ahead log, and what a
crash takes away the log brings back. A write is there whole or not at all after a crash, and never without
those before it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from respraft.storage.pieces import Step


class StateStore(Protocol):
    """Home of the keyspace. One owner, one thread, save for `flush` and `checkpoint`.

    Implementations name this class as a base, so that a missing method is a type error where it is missing.
    Every method raises StorageFailed when the disk or the database gave out: the process must stop.
    """

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        ...

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the value of each key, in order. Cheaper than that many `get`."""
        ...

    def iterate(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values with low <= key < high in byte order, as of this call."""
        ...

    def keys(self, low: bytes, high: bytes) -> Iterator[bytes]:
        """Yield the keys alone: large values are not read. Not to be gone on with after a write."""
        ...

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Change the map in one atomic step, at once readable.

        Args:
            puts: New values; None deletes.
            cleared: Ranges (low, past the end) that are emptied before the puts are made.
        """
        ...

    def write_down(self, step: Step) -> None:
        """Change the map in one atomic step that survives a crash when this returns, with all before it.

        Readable piece by piece before that. Any thread may call, beside reads, but beside no other write,
        flush, checkpoint or close: they might make half of it durable.
        """
        ...

    def begin_write_down(self, build: Callable[[], Step]) -> "Future[None]":
        """Have `write_down` make the step that `build` returns, behind all those that were begun before.

        Where there is a thread for that, both run on it, and errors are the future's. Here: at once.
        """
        self.write_down(build())
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def flush(self) -> None:
        """Make every write that had returned when this was called survive a crash. Any thread may call."""
        ...

    def checkpoint(self, path: Path) -> None:
        """Flush, and put a picture of the state into the new directory `path`, which opens like a state.

        It is as of some moment during the call and takes next to no space, being links to files that never
        change. Any thread may call, but not beside `close`.

        Raises:
            OSError: The directory cannot be made. The state has taken no harm.
        """
        ...

    def close(self) -> None:
        """Flush and let go of the files. Nothing may be called afterwards."""
        ...
