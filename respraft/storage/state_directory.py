"""Where states lie: the one in use, one that is arriving, and pictures that are being sent.

    DIR/state/N/          states; which one counts is in the log (`LogStore.state_number`)
    DIR/checkpoint/N/     pictures of the state, hard links to its files, for as long as they are sent

A state that arrives is written into the next N. It counts from the moment in which the log names it, and
by then it is durable: files, their names, and the name of the directory. Whatever else lies there was left
behind by a crash, and goes at the next start.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from respraft.storage.directory import make_directory, sync_directory

STATES: Final = "state"
CHECKPOINTS: Final = "checkpoint"


class StateDirectories:
    """The states of one data directory. Methods that take long say so; all of them raise OSError."""

    def __init__(self, data_dir: Path) -> None:
        self._states = data_dir / STATES
        self._checkpoints = data_dir / CHECKPOINTS

    def path(self, number: int) -> Path:
        """Where state `number` is. Its database makes the last step of the path."""
        return self._states / str(number)

    def clean(self, current: int) -> list[Path]:
        """Remove what is left over; return what that was. Only for a start that was found to be sound."""
        left_over = [path for path in _numbered(self._states) if path != self.path(current)]
        left_over += _numbered(self._checkpoints)
        for path in left_over:
            shutil.rmtree(path)
        return left_over

    def new_state(self) -> tuple[int, Path]:
        """Make an empty directory for a state that arrives, under a number that none has."""
        number = _next(self._states)
        path = self.path(number)
        make_directory(path)
        return number, path

    def new_checkpoint(self) -> Path:
        """Where the next checkpoint can be made; the directory itself is not there yet."""
        make_directory(self._checkpoints)
        return self._checkpoints / str(_next(self._checkpoints))

    def seal(self, number: int) -> None:
        """Make a state that has arrived survive power loss, with all names on the way. Takes long."""
        path = self.path(number)
        for file in sorted(path.iterdir()):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(path)
        sync_directory(self._states)

    def free_bytes(self) -> int:
        """What the disk has left for this process's user."""
        make_directory(self._states)
        return shutil.disk_usage(self._states).free


def remove_state(path: Path) -> None:
    """Remove a state or a checkpoint. Takes long where it is the last to hold its files."""
    shutil.rmtree(path)


def _numbered(parent: Path) -> list[Path]:
    """The directories that were made here, whatever else may lie beside them."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.name.isdigit() and path.is_dir())


def _next(parent: Path) -> int:
    return max((int(path.name) for path in _numbered(parent)), default=0) + 1
