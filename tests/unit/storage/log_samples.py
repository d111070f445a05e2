"""Logs to test with: one way to open, crash and reopen them, whether they are on disk or in memory."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from respraft.raft.message import KIND_NORMAL, Entry
from respraft.raft.ready import HardState
from respraft.storage.interface import LogStore
from respraft.storage.log import RocksLog, open_log
from respraft.storage.log_memory import MemoryDisk, open_memory_log

NODE: Final = 3
CLUSTER: Final = "demo"
ALL: Final = 1 << 40
"""More bytes than any log here has."""


class Home(Protocol):
    """A place that a log lives in, and outlives the processes that use it."""

    def open(self, node_id: int = NODE, cluster_id: str = CLUSTER) -> LogStore:
        """Start on it."""
        ...

    def crash(self) -> None:
        """End the process that uses it, with no chance to close anything."""
        ...


class MemoryHome:
    """A `MemoryDisk`."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()

    def open(self, node_id: int = NODE, cluster_id: str = CLUSTER) -> LogStore:
        return open_memory_log(self.disk, node_id, cluster_id, incarnation=17)

    def crash(self) -> None:
        self.disk.crash()


class DiskHome:
    """A directory. A crash is a copy of it as it is while the log is open: what SIGKILL leaves."""

    LIVES_MAX: Final = 6
    """Each start makes a file. When RocksDB merges them by itself is not for these tests to meet."""

    def __init__(self, path: Path) -> None:
        self.path = path / "life-1"
        self._lives = 1
        self._opened: list[RocksLog] = []

    def open(self, node_id: int = NODE, cluster_id: str = CLUSTER) -> LogStore:
        log = open_log(self.path, node_id, cluster_id)
        self._opened.append(log)
        return log

    def crash(self) -> None:
        self._lives += 1
        assert self._lives <= self.LIVES_MAX
        self.path = copy_of_one_moment(self.path, self.path.with_name(f"life-{self._lives}"))

    def close(self) -> None:
        """Close what tests left open."""
        for log in self._opened:
            log.close()


def copy_of_one_moment(path: Path, target: Path) -> Path:
    """Copy a directory in use. A file that comes or goes meanwhile (a compaction) makes it try again."""
    for _ in range(100):
        before = sorted(path.rglob("*"))
        with contextlib.suppress(shutil.Error):
            shutil.copytree(path, target)
            if sorted(path.rglob("*")) == before:
                return target
        shutil.rmtree(target)
    raise AssertionError(f"{path} never holds still")


def entry(index: int, term: int = 1, payload: bytes | None = None) -> Entry:
    """An entry whose payload names its place."""
    return Entry(
        index, term, 1_000 + index, KIND_NORMAL, b"%d@%d" % (index, term) if payload is None else payload
    )


def entries(low: int, high: int, term: int = 1) -> list[Entry]:
    """Entries `low` to `high`, both included."""
    return [entry(index, term) for index in range(low, high + 1)]


def content(log: LogStore) -> list[Entry]:
    """The whole log."""
    low, high = log.first_index(), log.last_index() + 1
    return log.entries(low, high, ALL) if low < high else []


def filled_directory(
    path: Path, count: int, payload: Callable[[int], bytes], *, cut: bool = False
) -> list[Entry]:
    """A data directory at `path` as SIGKILL leaves it, after `count` appends of one entry each.

    The first half is in a file of RocksDB, the second in its write-ahead log. With `cut`, both hold a deleted
    range: an eighth and then a little more was cut off. Returns what is in the log.
    """
    written = [entry(index, 1 + index // 50, payload(index)) for index in range(1, count + 1)]
    work = path.with_name(path.name + "-work")
    half, cuts = count // 2, (count // 8 + 1, count // 8 + 5) if cut else (0, 0)
    _append(work, written[:half], cuts[0]).close()
    log = _append(work, written[half:], cuts[1])
    copy_of_one_moment(work, path)
    log.close()
    shutil.rmtree(work)
    return written[max(0, cuts[1] - 1) :]


def _append(path: Path, written: list[Entry], first_index: int) -> RocksLog:
    """Append one by one; cut when half of them are there."""
    log = open_log(path, NODE, CLUSTER)
    for count, one in enumerate(written):
        cut = first_index if count == len(written) // 2 else 0
        log.append(HardState(one.term, 1, one.index - 1), [one], first_index=cut)
    return log
