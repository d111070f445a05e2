"""A node's data directory: what lies where, and that one process at a time has it.

    DIR/              mode 0700 when it is created here
        lock          held (flock) while the node runs; its content is of no account
        log.mark      the mark of the log (`mark.py`)
        raft/         the Raft log (`log.py`)
        state/N/      the keyspace (`state_directory.py`)
        checkpoint/N/ pictures of it that are being sent to other nodes
        rejoin.json   a repair's note for the next start (`rejoin.py`)
        set-aside-T/  what a repair gave up at that time

Names of directories that must survive power loss are synced where they are made: RocksDB syncs the inside of
its own directory, not the entry that names it.
"""

import fcntl
import os
from pathlib import Path

from respraft.storage.interface import DirectoryInUse, StorageFailed


class DataDirectory:
    """A data directory that this process holds. Release it last of all, with `close()`."""

    def __init__(self, path: Path) -> None:
        """Create the directory if there is none, and lock it.

        Raises:
            DirectoryInUse: Another process has it.
            StorageFailed: It cannot be created or opened.
        """
        self.path = path.absolute()
        self.raft = self.path / "raft"
        self.mark = self.path / "log.mark"
        try:
            make_directory(self.path)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageFailed(f"data directory {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DirectoryInUse(
                f"data directory {self.path} is in use by another process; `fuser {self.path / 'lock'}` "
                f"names it. One directory belongs to one node: stop that process, or correct node.data_dir"
            ) from error

    def close(self) -> None:
        """Let other processes have it."""
        os.close(self._lock)


def make_directory(path: Path) -> None:
    """Make a directory that only its owner can enter, durably; an existing one is left as it is."""
    missing = [step for step in (path, *path.parents) if not step.is_dir()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for step in reversed(missing):
        sync_directory(step.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive power loss. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
