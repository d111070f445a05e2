"""The log writer, on a real log: at once where the disk is quick, on its thread where it is not."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from respraft.node.log_writer import AT_ONCE_S, SKIP_MAX, AtOnce, StoreWriter
from respraft.raft.message import Entry, InstallSnapshot, SnapshotPoint
from respraft.raft.ready import HardState, LogWrite
from respraft.storage.interface import LogStore
from respraft.storage.log import open_log
from tests.unit.storage.log_samples import content, entries

QUICK_S, SLOW_S = AT_ONCE_S / 2, AT_ONCE_S * 2


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogStore]:
    store = open_log(tmp_path, 3, "demo")
    yield store
    store.close()


def a_write(number: int, new: list[Entry] | None = None) -> LogWrite:
    return LogWrite(number, HardState(1, 3, 0), [] if new is None else new, [])


def slow_ones(decides: AtOnce, count: int) -> list[bool]:
    """What becomes of so many writes on a disk that is slow whenever it is waited for."""
    ways = []
    for number in range(count):
        at_once = decides.next(a_write(number))
        ways.append(at_once)
        if at_once:
            decides.took(SLOW_S)
    return ways


def test_a_quick_disk_is_always_waited_for() -> None:
    decides = AtOnce()
    for number in range(100):
        assert decides.next(a_write(number))
        decides.took(QUICK_S)


def test_a_slow_disk_is_waited_for_more_and_more_seldom() -> None:
    ways = slow_ones(AtOnce(), 2000)
    waited = [place for place, at_once in enumerate(ways) if at_once]
    gaps = [later - earlier - 1 for earlier, later in pairwise(waited)]
    assert gaps[:5] == [1, 3, 7, 15, 31]
    assert max(gaps) == SKIP_MAX


def test_a_disk_that_is_quick_again_is_waited_for_again() -> None:
    decides = AtOnce()
    slow_ones(decides, 12)  # The last of them began seven that are not waited for.
    while not decides.next(a_write(1)):
        pass
    decides.took(QUICK_S)
    assert all(decides.next(a_write(number)) for number in range(10))


def test_a_state_that_is_named_goes_to_the_thread() -> None:
    """It removes the whole log and its files, which takes long on any disk."""
    install = InstallSnapshot(1, SnapshotPoint(5, 1, 1), b"", 2, None)
    assert not AtOnce().next(LogWrite(1, HardState(1, 3, 0), [], [], snapshot=install))


def test_every_write_is_durable_when_it_is_reported(log: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is slow at first, so both ways are gone."""
    monkeypatch.setattr("respraft.node.log_writer.AT_ONCE_S", 0.0)

    async def scenario() -> list[bool]:
        reported: asyncio.Queue[int] = asyncio.Queue()
        writer = StoreWriter(asyncio.get_running_loop(), log, die=threading.Event().set)
        writer.start(lambda number, took_s: reported.put_nowait(number))
        ways = []
        for number in range(1, 9):
            took_s = writer.begin(a_write(number, entries(number, number)))
            ways.append(took_s is not None)
            if took_s is None:
                assert await reported.get() == number
            assert content(log) == entries(1, number)
        writer.stop()
        assert reported.empty()
        return ways

    assert asyncio.run(scenario()) == [True, False, True, False, False, False, True, False]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_write_that_fails_is_the_last_one(
    log: LogStore, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(AtOnce, "next", lambda self, write: False)

    async def scenario() -> None:
        reported: list[int] = []
        died = asyncio.Event()
        loop = asyncio.get_running_loop()
        writer = StoreWriter(loop, log, die=lambda: loop.call_soon_threadsafe(died.set))
        writer.start(lambda number, took_s: reported.append(number))
        assert writer.begin(a_write(1, entries(5, 5))) is None, "a gap"
        await died.wait()
        writer.stop()
        assert reported == []

    asyncio.run(scenario())
    assert log.last_index() == 0


def test_a_writer_that_was_never_started_stops(log: LogStore) -> None:
    async def scenario() -> None:
        StoreWriter(asyncio.get_running_loop(), log, die=threading.Event().set).stop()

    asyncio.run(scenario())
