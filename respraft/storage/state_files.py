"""The files of a state, as they leave one node and arrive at another.

They never change: a checkpoint is links to what RocksDB has written once. What arrives is opened as a state
only when every byte was checked and is durable.
"""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO, Final

from respraft.storage.state_directory import StateDirectories, remove_state

FREE_BYTES_MIN: Final = 256 << 20
"""What must be left on the disk beside a state that arrives: the log goes on growing meanwhile."""


class StateFiles:
    """A checkpoint, for reading. Any thread may call; every method raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> list[tuple[str, int]]:
        """Name and size of each file, sorted by name."""
        return [(file.name, file.stat().st_size) for file in sorted(self.path.iterdir()) if file.is_file()]

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return the bytes there; fewer at the end of the file."""
        with (self.path / name).open("rb") as file:
            return os.pread(file.fileno(), size, offset)


class ArrivingState:
    """A state that is written as it arrives. One call at a time; every method raises OSError."""

    def __init__(self, states: StateDirectories, files: list[tuple[str, int]]) -> None:
        """Make a directory for it, with nothing in the files yet.

        Args:
            states: Where it gets the next number.
            files: Their names, which were checked to be plain, and sizes.

        Raises:
            OSError: There is no room on the disk, or it fails.
        """
        size, free = sum(size for _, size in files), states.free_bytes()
        if size + FREE_BYTES_MIN > free:
            raise OSError(
                f"the disk has {free} bytes left, and it needs {size} and {FREE_BYTES_MIN} beside: free some"
            )
        self._states = states
        self._file: BinaryIO | None = None
        self.number, self.path = states.new_state()
        for name, _ in files:
            (self.path / name).touch(0o600)

    def write(self, name: str, offset: int, data: bytes, last: bool) -> None:
        """Put bytes into a file, in order. Behind the `last` ones it is durable, and closed."""
        if self._file is None:
            self._file = (self.path / name).open("r+b", buffering=0)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written
        if last:
            os.fsync(self._file.fileno())
            self._close()

    def seal(self) -> None:
        """Make all of it durable, with its name."""
        self._states.seal(self.number)

    def discard(self) -> None:
        """Remove it."""
        self._close()
        with contextlib.suppress(FileNotFoundError):
            remove_state(self.path)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
