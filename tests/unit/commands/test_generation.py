"""Changes on their way to the store: whole runs in their order, readable all the time, never too many."""

import dataclasses
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from respraft.commands.generation import INDEX_ENTRIES_A_RECORD
from respraft.commands.machine import RECORD_SHARE_BYTES, KeyspaceMachine
from respraft.commands.record import DATABASES, EXPIRY, split_index_key
from respraft.commands.table import lookup
from respraft.resp.replies import Reply
from respraft.storage.interface import StorageFailed
from respraft.storage.pieces import Step
from respraft.storage.state import RECORD_OVERHEAD_BYTES, RocksStateStore
from respraft.storage.state_interface import StateStore
from respraft.storage.state_memory import MemoryStateStore
from respraft.storage.state_thread import ThreadedStateStore
from tests.unit.storage.by_hand import ByHand

NOON = 1_700_000_000_000
PLENTY = 1 << 20


class Failing(MemoryStateStore):
    """Its disk gives out with the next write."""

    def write_down(self, step: Step) -> None:
        raise StorageFailed("no space")


class Layered:
    """A machine over a store whose thread works by hand."""

    def __init__(self, records_max: int = PLENTY, below: MemoryStateStore | None = None) -> None:
        self.below, self.thread = below or MemoryStateStore(), ByHand()
        self.machine = machine_on(ThreadedStateStore(self.below, self.thread), records_max)
        self.index = 0

    def run(self, *lines: str) -> None:
        self.index += 1
        self.machine.apply(self.index, NOON, [line.encode().split() for line in lines], (), ())
        self.machine.commit({b"applied": b"%d" % self.index})

    def read(self, line: str) -> Any:
        return read(self.machine, line)

    def deadlines(self) -> list[tuple[int, bytes]]:
        """By the expiry index, counted from now."""
        overlay = self.machine._overlays[0]
        return [(deadline - NOON, key) for deadline, key in overlay.deadlines_to(NOON + 10_000)]

    def after_a_crash(self) -> KeyspaceMachine:
        """What the disk holds."""
        self.below.crash()
        return machine_on(self.below, PLENTY)


def read(machine: KeyspaceMachine, line: str) -> Any:
    replies = machine.read([(0, line.encode().split())], NOON, NOON)
    assert replies is not None
    return replies[0]


def machine_on(store: StateStore, records_max: int) -> KeyspaceMachine:
    return KeyspaceMachine(store, lookup=lookup, changed_bytes_max=records_max * RECORD_SHARE_BYTES)


def test_what_is_on_its_way_can_be_read_and_what_came_later_waits_for_its_turn() -> None:
    layered = Layered()
    layered.run("MSET a 1 b 1 c 1")
    layered.machine.begin_flush()
    layered.run("SET b 2", "DEL c", "SET d 2")
    assert len(layered.thread.tasks) == 1, "it has not been written"
    for _ in range(2):
        assert layered.read("MGET a b c d") == [b"1", b"2", None, b"2"]
        assert sorted(layered.read("KEYS *")) == [b"a", b"b", b"d"]
        assert layered.read("DBSIZE") == 3
        if layered.thread.tasks:
            layered.thread.step()
    found = layered.after_a_crash()
    assert read(found, "MGET a b c d") == [b"1", b"1", b"1", None]
    assert found.meta(b"applied") == b"1"


def test_an_emptied_database_hides_what_is_on_its_way_and_below() -> None:
    layered = Layered()
    layered.run("MSET a 1 b 1 c 1")
    layered.machine.flush()
    layered.run("MSET b 2 d 2")
    layered.machine.begin_flush()
    layered.run("FLUSHDB", "SET e 3")
    for steps in range(3):
        assert layered.read("MGET a b c d e") == [None, None, None, None, b"3"], steps
        assert layered.read("KEYS *") == [b"e"]
        layered.machine.begin_flush()
        layered.run("SET f 4", "DEL f")
        layered.thread.step()
    layered.machine.flush()
    assert layered.read("KEYS *") == [b"e"]
    assert read(layered.after_a_crash(), "KEYS *") == [b"e"]


def test_a_crash_finds_whole_runs_in_their_order() -> None:
    layered = Layered()
    for number in range(5):
        layered.run(f"SET a {number}", f"SET b {number}")
    layered.machine.begin_flush()
    for number in range(5, 10):
        layered.run(f"SET a {number}")
    layered.machine.begin_flush()
    layered.thread.step()
    first = layered.after_a_crash()
    assert read(first, "MGET a b") == [b"4", b"4"]
    assert first.meta(b"applied") == b"5"
    layered.thread.step()
    second = layered.after_a_crash()
    assert read(second, "MGET a b") == [b"9", b"4"]
    assert second.meta(b"applied") == b"10"


def test_a_flush_counts_what_was_committed_when_it_began() -> None:
    layered = Layered()
    layered.run("SET a 1")
    flush = layered.machine.begin_flush()
    layered.run("SET b 2")
    flush()
    found = layered.after_a_crash()
    assert read(found, "MGET a b") == [b"1", None]


def test_a_flush_without_changes_stores_the_values_of_the_replica() -> None:
    layered = Layered()
    layered.run("SET a 1")
    layered.machine.flush()
    layered.run("GET a")
    layered.machine.flush()
    assert layered.after_a_crash().meta(b"applied") == b"2"


def test_it_goes_down_by_itself_when_there_are_too_many_records() -> None:
    layered = Layered(records_max=10)
    for number in range(9):
        layered.run(f"SET a{number} 1", "SET a0 2")
    assert not layered.thread.tasks
    layered.run("DEL a1", "SET b 1")
    assert len(layered.thread.tasks) == 1


def test_as_many_records_as_may_gather_go_down_piece_by_piece_with_all_their_deadlines() -> None:
    changed_bytes_max = 64 << 20
    rows = 3 * changed_bytes_max // RECORD_SHARE_BYTES
    buffer_bytes = 2 * changed_bytes_max  # As the node opens its store.
    assert RECORD_OVERHEAD_BYTES * rows + changed_bytes_max // 2 <= buffer_bytes // 2, (
        "RocksStateStore.write_down"
    )


@pytest.mark.parametrize("iterated", [False, True])
def test_deadlines_that_came_and_went_between_two_hand_overs_leave_nothing_to_be_written(
    monkeypatch: pytest.MonkeyPatch, iterated: bool
) -> None:
    layered = Layered()
    entries: list[tuple[bytes, bytes | None]] = []
    write_down = MemoryStateStore.write_down

    def spy(store: MemoryStateStore, step: Step) -> None:
        rows = list(step.rows)
        assert step.count >= sum(len(keys) for keys, _ in rows)
        entries.extend((key, row) for keys, values in rows for key, row in zip(keys, values, strict=True))
        write_down(store, dataclasses.replace(step, rows=iter(rows)))

    monkeypatch.setattr(MemoryStateStore, "write_down", spy)
    layered.run("PSETEX kept 10 1", "PSETEX again 20 1", "PSETEX gone 30 1", "PSETEX later 40 1")
    layered.machine.flush()
    entries.clear()
    if iterated:
        assert layered.deadlines() == [(10, b"kept"), (20, b"again"), (30, b"gone"), (40, b"later")]
    for number in range(100):
        layered.run(
            f"PSETEX a {number + 1000} 1", f"PSETEX again {number + 20} 1", f"PSETEX new {number + 50} 1"
        )
        layered.run("DEL new later", "APPEND kept more", f"PSETEX later {number + 41} 1")
    layered.run("PSETEX again 20 1", "SET gone 1")
    expected = [(10, b"kept"), (20, b"again"), (140, b"later"), (1099, b"a")]
    if iterated:
        assert layered.deadlines() == expected
    layered.machine.flush()
    changed = {split_index_key(key): row for key, row in entries if key.startswith(EXPIRY)}
    assert changed == {
        (NOON + 30, b"gone"): None,
        (NOON + 40, b"later"): None,
        (NOON + 140, b"later"): b"",
        (NOON + 1099, b"a"): b"",
    }
    assert layered.deadlines() == expected


def test_a_deadline_that_goes_and_comes_again_while_the_index_is_kept() -> None:
    layered = Layered()
    layered.run("PSETEX below 10 1")
    layered.machine.flush()
    assert layered.deadlines() == [(10, b"below")]
    layered.run("PSETEX here 20 1")
    assert layered.deadlines() == [(10, b"below"), (20, b"here")]
    for name, milliseconds in (("below", 10), ("here", 20)):
        for _ in range(2):
            layered.run(f"SET {name} 1")
            assert (milliseconds, name.encode()) not in layered.deadlines()
            layered.run(f"PSETEX {name} {milliseconds} 1")
            assert layered.deadlines() == [(10, b"below"), (20, b"here")]


def test_what_becomes_of_deadlines_is_weighed_and_counted() -> None:
    layered = Layered()
    layered.run("PSETEX below 10 1")
    layered.machine.flush()
    overlay = layered.machine._overlays[0]
    layered.run("SET below 1", "PSETEX here 10 1", "PSETEX gone 10 1", "SET gone 1")
    overlay.weigh()
    names, records, entries = 5 + 4 + 4, 10 + 18 + 10, (10 + 5) + (10 + 4)
    assert overlay.young_bytes == 2 * names + records + entries
    assert overlay.changed_weight == 3
    layered.run(*[f"PSETEX {number} 10 1" for number in range(10)])
    assert overlay.changed_weight == 13
    assert len(layered.deadlines()) == 11
    assert overlay.changed_weight == 13 + (11 + 1) // INDEX_ENTRIES_A_RECORD, "the index takes memory now"


def test_it_goes_down_by_itself_when_it_is_too_large_with_what_was_written_over_not_counted() -> None:
    layered = Layered(records_max=100)
    value = "x" * 1000
    for _ in range(200):
        layered.run(f"SET a {value}", f"SET b {value}")
    assert not layered.thread.tasks
    for number in range(25):
        layered.run(f"SET c{number} {value}")
    assert layered.thread.tasks


def test_what_has_arrived_stays_until_something_else_goes_whatever_database_that_is_of() -> None:
    layered = Layered()
    kept = []
    for number in range(DATABASES):
        layered.index += 1
        layered.machine.apply(layered.index, NOON, [[b"SET", b"a", b"1"]], [number], ())
        layered.machine.commit({})
        layered.machine.flush()
        kept.append(sum([len(overlay._layers.older) for overlay in layered.machine._overlays]))
    assert max(kept) == 1, "or each database would keep as much memory as all may have"
    assert layered.read("GET a") == b"1"


def test_no_more_than_one_is_on_its_way_and_one_gathers() -> None:
    layered = Layered(records_max=2)
    for number in range(20):
        layered.run(f"SET a {number}", f"SET b {number}")
        assert len(layered.thread.tasks) <= 1, "who fills one waits for the one before"


def test_a_write_that_fails_is_told_to_the_next_run_and_to_a_flush_and_nothing_older_is_shown() -> None:
    layered = Layered(records_max=1, below=Failing())
    layered.run("SET a 1")
    layered.thread.step()
    assert layered.read("GET a") == b"1"
    with pytest.raises(StorageFailed, match="no space"):
        layered.run("GET a")
    with pytest.raises(StorageFailed, match="no space"):
        layered.machine.flush()
    assert layered.read("GET a") == b"1"


@pytest.mark.parametrize("rocks", [False, True])
def test_reads_are_right_while_threads_write_and_flush(rocks: bool, tmp_path: Path) -> None:
    below: StateStore = MemoryStateStore()
    if rocks:
        below = RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    store = ThreadedStateStore(below)
    machine = machine_on(store, records_max=700)
    plain: dict[bytes, bytes] = {}
    rng = random.Random(0)
    flushes: list[threading.Thread] = []
    for index in range(1, 1500):
        commands = [[b"SET", b"%04d" % rng.randrange(1000), b"%d" % index] for _ in range(20)]
        if rng.random() < 0.5:
            commands += [[b"DEL", b"%04d" % rng.randrange(1000)] for _ in range(10)]
        if index % 50 == 7:
            commands.insert(rng.randrange(20), [b"FLUSHDB"])
        for name, *arguments in commands:
            if name == b"FLUSHDB":
                plain.clear()
            elif name == b"DEL":
                plain.pop(arguments[0], None)
            else:
                plain[arguments[0]] = arguments[1]
        machine.apply(index, NOON, commands, (), ())
        machine.commit({b"applied": b"%d" % index})
        if index % 20 == 0:
            flushes.append(threading.Thread(target=machine.begin_flush()))
            flushes[-1].start()
        keys = [b"%04d" % rng.randrange(1000) for _ in range(20)]
        group = [(0, [b"MGET", *keys]), (0, [b"GET", keys[0]]), (0, [b"DBSIZE"])]
        expected: list[Reply] = [[plain.get(key) for key in keys], plain.get(keys[0]), len(plain)]
        assert machine.read(group, NOON, NOON) == expected
        if index % 10 == 0:
            assert sorted(read(machine, "KEYS *")) == sorted(plain)
    for flush in flushes:
        flush.join()
    machine.flush()
    assert sorted(read(machine_on(store, PLENTY), "KEYS *")) == sorted(plain)
    store.close()
