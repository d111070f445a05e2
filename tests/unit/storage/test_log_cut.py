"""Cutting a log off below, and installing another state: what is left, and what a crash leaves."""

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Rdict

from respraft.raft.message import Entry, SnapshotPoint
from respraft.raft.ready import HardState
from respraft.storage import log_record
from respraft.storage.interface import LogStore
from respraft.storage.log import open_log
from respraft.storage.log_memory import MemoryDisk, MemoryLog, open_memory_log
from respraft.storage.log_options import log_options
from tests.unit.storage.log_samples import CLUSTER, NODE, DiskHome, Home, MemoryHome, content, entries, entry

POINT: Final = SnapshotPoint(20, 4, 1_777)


@pytest.fixture(params=["disk", "memory"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    if request.param == "memory":
        yield MemoryHome()
        return
    disk_home = DiskHome(tmp_path)
    yield disk_home
    disk_home.close()


def test_a_log_that_was_never_cut_has_nothing_before_it(home: Home) -> None:
    log = home.open()
    assert (log.base(), log.state_number(), log.term(0)) == (SnapshotPoint(0, 0, 0), 1, 0)


def test_a_cut_keeps_what_is_behind_it(home: Home) -> None:
    log = home.open()
    log.append(HardState(2, 0, 6), entries(1, 9, term=2))
    log.append(HardState(3, 0, 6), entries(10, 10, term=3), first_index=5)
    for each in before_and_after_a_crash(home, log):
        assert content(each) == entries(5, 9, term=2) + entries(10, 10, term=3)
        assert (each.first_index(), each.base()) == (5, SnapshotPoint(4, 2, 1_004))
        assert [each.term(index) for index in (4, 5, 10)] == [2, 2, 3]
        with pytest.raises(AssertionError, match="no entries 4"):
            each.entries(4, 6, 0)


def test_a_cut_below_the_beginning_is_none(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 0, 6), entries(1, 9))
    log.append(HardState(1, 0, 6), [], first_index=5)
    log.append(HardState(1, 0, 6), [], first_index=3)
    assert content(log) == entries(5, 9)


def test_everything_can_be_cut_off(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 0, 3), entries(1, 3))
    log.append(HardState(1, 0, 3), [], first_index=4)
    for each in before_and_after_a_crash(home, log):
        assert (each.first_index(), each.last_index(), each.term(3)) == (4, 3, 1)
        assert (content(each), each.base()) == ([], SnapshotPoint(3, 1, 1_003))
    each.append(HardState(2, 0, 3), entries(4, 5, term=2))
    home.crash()
    assert content(home.open()) == entries(4, 5, term=2)


def test_the_whole_of_a_cut_log_can_be_replaced(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 0, 3), entries(1, 9))
    log.append(HardState(1, 0, 3), [], first_index=4)
    log.append(HardState(2, 0, 3), entries(4, 4, term=2))
    home.crash()
    assert content(home.open()) == entries(4, 4, term=2)


def test_an_installed_state_takes_the_logs_place(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 1, 3), entries(1, 9))
    log.install(HardState(5, 2, 20), POINT, 7, keep_tail=False)
    for each in before_and_after_a_crash(home, log):
        assert (each.first_index(), each.last_index(), each.term(20)) == (21, 20, 4)
        assert (each.base(), each.state_number()) == (POINT, 7)
        assert each.hard_state() == HardState(5, 2, 20)
    each.append(HardState(5, 2, 20), entries(21, 23, term=5))
    home.crash()
    third = home.open()
    assert (content(third), third.base(), third.state_number()) == (entries(21, 23, term=5), POINT, 7)


def test_an_install_removes_a_tail_that_is_not_the_states(home: Home) -> None:
    """Entries behind the point that are of another history: none may come back between later ones."""
    log = home.open()
    log.append(HardState(3, 1, 3), entries(1, 30, term=3))
    log.install(HardState(5, 2, 20), POINT, 2, keep_tail=False)
    log.append(HardState(5, 2, 20), entries(21, 22, term=5))
    for each in before_and_after_a_crash(home, log):
        assert content(each) == entries(21, 22, term=5)
    each.append(HardState(5, 2, 20), entries(23, 40, term=5))
    assert content(each) == entries(21, 40, term=5)


def test_an_install_keeps_the_tail_that_follows_from_the_state(home: Home) -> None:
    log = home.open()
    log.append(HardState(4, 1, 3), entries(1, 30, term=4))
    log.install(HardState(4, 1, 25), POINT, 2, keep_tail=True)
    for each in before_and_after_a_crash(home, log):
        assert (content(each), each.base(), each.state_number()) == (entries(21, 30, term=4), POINT, 2)
        assert each.hard_state() == HardState(4, 1, 25)
    each.append(HardState(4, 1, 25), entries(31, 31, term=4))
    home.crash()
    assert content(home.open()) == entries(21, 31, term=4)


def test_what_the_core_must_never_ask_for_is_not_written(home: Home) -> None:
    log = home.open()
    log.append(HardState(5, 2, 4), entries(1, 9))
    with pytest.raises(AssertionError, match="may yet be replaced"):
        log.append(HardState(5, 2, 4), [], first_index=6)
    with pytest.raises(AssertionError, match="no entries 10"):
        log.append(HardState(5, 2, 9), [], first_index=11)
    log.append(HardState(5, 2, 4), [], first_index=4)
    install = log.install
    with pytest.raises(AssertionError, match="no newer than 1"):
        install(HardState(5, 2, 20), POINT, 1, keep_tail=False)
    with pytest.raises(AssertionError, match="from before 4"):
        install(HardState(5, 2, 4), SnapshotPoint(3, 1, 0), 2, keep_tail=True)
    with pytest.raises(AssertionError, match="commit index 19"):
        install(HardState(5, 2, 19), POINT, 2, keep_tail=False)
    with pytest.raises(AssertionError, match="commit index 21"):
        install(HardState(5, 2, 21), POINT, 2, keep_tail=False)
    with pytest.raises(AssertionError, match="state of term 4 in term 3"):
        open_memory_log(MemoryDisk(), 1, CLUSTER, incarnation=1).install(
            HardState(3, 0, 20), POINT, 2, keep_tail=False
        )
    with pytest.raises(AssertionError, match="another entry"):
        install(HardState(5, 2, 6), SnapshotPoint(6, 4, 0), 2, keep_tail=True)
    with pytest.raises(AssertionError, match="vote"):
        install(HardState(5, 3, 20), POINT, 2, keep_tail=False)
    assert (content(log), log.state_number()) == (entries(4, 9), 1)


def test_a_crash_in_an_install_leaves_all_as_it_was_or_all_of_it() -> None:
    disk = MemoryDisk()
    log = start(disk)
    log.append(HardState(1, 1, 3), entries(1, 9))
    log.begin_install(HardState(5, 2, 20), POINT, 2, keep_tail=False)
    assert (log.last_index(), log.state_number()) == (9, 1), "not before it is durable"
    size = disk.unsynced_bytes()
    disk.crash()
    for keep in (0, 1, size // 2, size - 1):
        log = start(disk)
        log.begin_install(HardState(5, 2, 20), POINT, 2, keep_tail=False)
        disk.crash(keep)
        log = start(disk)
        assert (content(log), log.state_number()) == (entries(1, 9), 1)
        disk.crash()
    log = start(disk)
    log.begin_install(HardState(5, 2, 20), POINT, 2, keep_tail=False)
    disk.crash(size)
    log = start(disk)
    assert (content(log), log.base(), log.state_number()) == ([], POINT, 2)


def test_a_directory_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    """Its head ends with the commit index, and its identity says 1."""
    log = open_log(tmp_path, NODE, CLUSTER)
    log.append(HardState(2, 1, 2), entries(1, 3, term=2))
    incarnation = log.identity().incarnation
    log.close()
    database = Rdict(str(tmp_path / "raft"), log_options())
    database[log_record.KEY_HEAD] = sealed(struct.pack(">6Q", 1, 3, 2, 2, 1, 2))
    identity = (1, NODE, CLUSTER, incarnation, 1)
    database[log_record.KEY_IDENTITY] = sealed(msgspec.msgpack.encode(identity))
    database.close()

    log = open_log(tmp_path, NODE, CLUSTER)
    assert (content(log), log.hard_state()) == (entries(1, 3, term=2), HardState(2, 1, 2))
    assert (log.base(), log.state_number()) == (SnapshotPoint(), 1)
    assert log.identity().incarnation == incarnation
    log.close()


def test_the_space_of_what_was_cut_off_comes_back(tmp_path: Path) -> None:
    """Log of 200 MB, cut down to 5: files of table and write-ahead logs shrink, while appends go on."""
    log = open_log(tmp_path, NODE, CLUSTER)
    payload, index = os.urandom(1 << 20), 0
    for _ in range(200):
        index += 1
        log.append(HardState(1, 0, index - 1), [entry(index, 1, payload)])
    assert size_of(tmp_path) > 200 << 20
    log.append(HardState(1, 0, index), [], first_index=index - 4)
    goal = time.monotonic() + 120
    while size_of(tmp_path) > 100 << 20 and time.monotonic() < goal:
        index += 1
        log.append(HardState(1, 0, index - 1), [entry(index)])
    log.close()
    assert size_of(tmp_path) < 10 << 20
    again = open_log(tmp_path, NODE, CLUSTER)
    assert (again.first_index(), again.last_index()) == (196, index)
    again.close()


def test_cuts_while_another_thread_reads_what_is_left(tmp_path: Path) -> None:
    log = open_log(tmp_path, NODE, CLUSTER)
    log.append(HardState(1, 0, 0), entries(1, 50))
    promised, needed = [1], [1]
    done, troubles = threading.Event(), list[object]()

    def read() -> None:
        while not done.is_set():
            low, last = promised[0], log.last_index()  # As the core: its own first index, moved first.
            needed[0] = last - 5  # Nor does the core cut off what it still reads.
            if log.entries(last - 5, last + 1, 1 << 20) != entries(last - 5, last) or low > last:
                troubles.append(last)

    reader = threading.Thread(target=read)
    reader.start()
    index = 50
    while log.first_index() < 379 and reader.is_alive():
        index += 1
        promised[0] = min(index - 20, needed[0])
        log.append(HardState(1, 0, index - 1), [entry(index)], first_index=promised[0])
    done.set()
    reader.join()
    log.close()
    assert troubles == []


STEP = st.tuples(
    st.sampled_from(["append", "append", "cut", "install", "keep"]),
    st.integers(0, 6),
    st.integers(0, 6),
    st.booleans(),
)


@settings(max_examples=100)
@given(st.lists(STEP, max_size=25))
def test_memory_agrees_with_a_model(steps: list[tuple[str, int, int, bool]]) -> None:
    _compare_with_model(MemoryHome(), steps)


@settings(max_examples=15)
@given(steps=st.lists(STEP, min_size=8, max_size=25))
def test_the_disk_agrees_with_a_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, bool]]
) -> None:
    disk_home = DiskHome(tmp_path_factory.mktemp("log"))
    _compare_with_model(disk_home, steps)
    disk_home.close()


def _compare_with_model(home: Home, steps: list[tuple[str, int, int, bool]]) -> None:
    """Append, cut, install and crash at random; a list of entries and a base are the truth."""
    log, model, base, state, commit, lives = home.open(), list[Entry](), SnapshotPoint(), 1, 0, 1
    for kind, first, second, restart in steps:
        last = base.index + len(model)
        if kind == "append":
            added = [entry(last + 1 + step) for step in range(first)]
            commit = max(commit, last - second)
            log.append(HardState(1, 0, commit), added)
            model += added
        elif kind == "cut":
            base, model = _cut(base, model, min(commit - base.index, first))
            log.append(HardState(1, 0, commit), [], first_index=base.index + 1)
        else:
            keep = kind == "keep" and 1 <= first <= len(model)
            if keep:
                base, model = _cut(base, model, first)
            else:
                base, model = SnapshotPoint(last + first + 1, 1, 2_000), []
            commit, state = max(base.index, commit), state + 1 + second
            log.install(HardState(1, 0, commit), base, state, keep_tail=keep)
        if restart and lives < DiskHome.LIVES_MAX:
            lives += 1
            home.crash()
            log = home.open()
        assert (content(log), log.base(), log.state_number()) == (model, base, state)
        assert log.hard_state() == HardState(1, 0, commit)


def _cut(base: SnapshotPoint, model: list[Entry], count: int) -> tuple[SnapshotPoint, list[Entry]]:
    if count <= 0:
        return base, model
    last = model[count - 1]
    return SnapshotPoint(last.index, last.term, last.time_ms), model[count:]


def before_and_after_a_crash(home: Home, log: LogStore) -> Iterator[LogStore]:
    """The log, and then what the next process finds."""
    yield log
    home.crash()
    yield home.open()


def start(disk: MemoryDisk) -> MemoryLog:
    return open_memory_log(disk, NODE, CLUSTER, incarnation=17)


def sealed(body: bytes) -> bytes:
    """With its checksum behind it, as all records but entries are."""
    return body + zlib.crc32(body).to_bytes(4, "big")


def size_of(path: Path) -> int:
    """Bytes of all files, as of now."""
    size = 0
    for file in path.rglob("*"):
        try:
            size += file.stat().st_size
        except FileNotFoundError:
            continue
    return size
