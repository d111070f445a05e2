"""The faults that the disk in memory can be given, and what a node makes of them."""

import pytest

from respraft.raft.ready import HardState
from respraft.storage.interface import LogDamaged, StorageFailed
from respraft.storage.log_memory import MemoryDisk, MemoryLog, open_memory_log
from tests.unit.storage.log_samples import CLUSTER, NODE, content, entries


def start(disk: MemoryDisk) -> MemoryLog:
    return open_memory_log(disk, NODE, CLUSTER, incarnation=17)


def test_a_crash_takes_what_was_not_synced() -> None:
    disk = MemoryDisk()
    log = start(disk)
    log.append(HardState(1, 0, 0), entries(1, 2))
    log.begin_append(HardState(2, 2, 0), entries(3, 5, term=2))
    assert log.last_index() == 2, "not before it is durable"
    disk.crash()
    again = start(disk)
    assert content(again) == entries(1, 2)
    assert again.hard_state() == HardState(1, 0, 0)


def test_a_torn_write_is_dropped_wherever_it_tears() -> None:
    disk = MemoryDisk()
    log = start(disk)
    log.append(HardState(1, 0, 0), entries(1, 2))
    log.begin_append(HardState(1, 0, 0), entries(3, 4))
    size = disk.unsynced_bytes()
    disk.crash()
    for keep in range(size):
        log = start(disk)
        log.begin_append(HardState(1, 0, 0), entries(3, 4))
        disk.crash(keep)
        again = start(disk)
        assert content(again) == entries(1, 2)
        disk.crash()


def test_a_write_may_survive_that_nobody_was_told_of() -> None:
    disk = MemoryDisk()
    log = start(disk)
    log.begin_append(HardState(1, 0, 0), entries(1, 3))
    disk.crash(keep=disk.unsynced_bytes())
    assert content(start(disk)) == entries(1, 3)


def test_a_lost_synced_write_is_damage() -> None:
    disk = MemoryDisk()
    log = start(disk)
    log.append(HardState(1, 0, 0), entries(1, 3))
    disk.crash()
    disk.lie(1)
    left = bytes(disk.content)
    with pytest.raises(LogDamaged, match="write 1, but write 2 was acknowledged"):
        start(disk)
    assert disk.content == left, "nothing was changed"


def test_after_a_failed_sync_nothing_is_tried_again() -> None:
    disk = MemoryDisk()
    log = start(disk)
    log.append(HardState(1, 0, 0), entries(1, 1))

    def fail() -> None:
        raise OSError(5, "Input/output error")

    disk.before_sync = fail
    with pytest.raises(StorageFailed, match="Input/output error"):
        log.append(HardState(1, 0, 0), entries(2, 2))
    disk.before_sync = None
    written = bytes(disk.content)
    with pytest.raises(StorageFailed):
        log.append(HardState(1, 0, 0), entries(2, 2))
    for read in (log.last_index, log.first_index, log.hard_state, log.status):
        with pytest.raises(StorageFailed):
            read()
    with pytest.raises(StorageFailed):
        log.entries(1, 2, 0)
    assert disk.content == written
    disk.crash()
    assert content(start(disk)) == entries(1, 1)


def test_a_slow_disk_keeps_the_write_from_being_seen() -> None:
    disk = MemoryDisk()
    log = start(disk)
    seen: list[int] = []
    disk.before_sync = lambda: seen.append(log.last_index())
    log.append(HardState(1, 0, 0), entries(1, 4))
    assert (seen, log.last_index()) == ([0], 4)


def test_a_crashed_process_gets_nothing_done() -> None:
    disk = MemoryDisk()
    log = start(disk)
    disk.crash()
    with pytest.raises(StorageFailed):
        log.append(HardState(1, 0, 0), entries(1, 1))
    assert content(start(disk)) == []
