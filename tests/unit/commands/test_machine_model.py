"""Random histories of the keyspace against a dict: whatever is written, undone, cleared, expired or lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.columns import Columns
from respraft.commands.context import Context
from respraft.commands.machine import RECORD_SHARE_BYTES, KeyspaceMachine
from respraft.commands.record import (
    APART,
    EXPIRY,
    RECORDS,
    VALUE_AT,
    VALUES,
    deadline_of,
    decode_record,
    index_key,
    user_key,
)
from respraft.commands.spec import ALL_KEYS, CommandSpec, Kind
from respraft.commands.stored import APART_BYTES
from respraft.commands.table import lookup
from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.storage.state_memory import MemoryStateStore
from respraft.storage.state_thread import ThreadedStateStore
from tests.unit.storage.by_hand import ByHand

NOON = 1_700_000_000_000
KEYS = (b"a", b"b", b"c", b"buckeroo", b"plumless")
DATABASES = (0, 1)


def mess(context: Context, args: list[bytes]) -> Reply:
    """MESS key key: changes much, and then refuses."""
    context.set_string(args[1], b"mess", deadline=context.now_ms + 5)
    context.set_string(args[2], b"mess")
    context.rename(args[1], args[2])
    context.clear(1)
    context.copy(args[2], args[1], target_database=1)
    context.clear()
    context.set_string(args[1], b"mess")
    raise ReplyError("ERR", "mess")


MESS = CommandSpec(
    name=b"MESS",
    arity=3,
    kind=Kind.WRITE,
    function=mess,
    keys=ALL_KEYS,
    summary="",
    since="",
    group="",
    complexity="",
)


@dataclass
class Model:
    """The keyspace as a dict: (database, key) -> value and deadline, 0 for none."""

    live: dict[tuple[int, bytes], tuple[bytes, int]] = field(default_factory=dict)

    def expire(self, now: int) -> None:
        self.live = {at: kept for at, kept in self.live.items() if not kept[1] or kept[1] > now}

    def apply(self, database: int, args: list[bytes], now: int) -> None:
        live = self.live
        match args:
            case [b"SET", key, value]:
                live[database, key] = (value, 0)
            case [b"PSETEX", key, ttl, value] | [b"SET", key, value, b"PX" | b"px", ttl]:
                if int(ttl):
                    live[database, key] = (value, now + int(ttl))
            case [b"SET", key, value, b"PXAT", moment]:
                live[database, key] = (value, int(moment))
            case [b"APPEND", key, value]:
                old, deadline = live.get((database, key), (b"", 0))
                live[database, key] = (old + value, deadline)
            case [b"PEXPIRE", key, ttl]:
                if (database, key) in live:
                    live[database, key] = (live[database, key][0], now + int(ttl))
            case [b"PERSIST", key]:
                if (database, key) in live:
                    live[database, key] = (live[database, key][0], 0)
            case [b"DEL", *keys]:
                for key in keys:
                    live.pop((database, key), None)
            case [b"RENAME", source, target]:
                if (database, source) in live:
                    live[database, target] = live.pop((database, source))
            case [b"COPY", source, target, b"DB", other, b"REPLACE"]:
                same = (database, source) == (int(other), target)
                if not same and (database, source) in live:
                    live[int(other), target] = live[database, source]
            case [b"FLUSHDB"]:
                self.live = {at: kept for at, kept in live.items() if at[0] != database}
            case [b"FLUSHALL"]:
                live.clear()
            case _:
                assert args[0] == b"MESS"
        self.expire(now)


key = st.sampled_from(KEYS)
ttl = st.integers(1, 40).map(lambda number: b"%d" % number)
large = st.sampled_from([b"0" * (APART_BYTES - VALUE_AT), b"1" * APART_BYTES, b"2" * 2 * APART_BYTES])
value = st.one_of(st.binary(max_size=3), st.binary(max_size=3), large)
command = st.one_of(
    st.tuples(st.just(b"SET"), key, value),
    st.tuples(st.just(b"PSETEX"), key, ttl, value),
    st.tuples(st.just(b"APPEND"), key, value),
    st.tuples(st.just(b"PEXPIRE"), key, ttl),
    st.tuples(st.just(b"PERSIST"), key),
    st.tuples(st.just(b"DEL"), key, key),
    st.tuples(st.just(b"RENAME"), key, key),
    st.tuples(st.just(b"COPY"), key, key, st.just(b"DB"), st.sampled_from([b"0", b"1"]), st.just(b"REPLACE")),
    st.tuples(st.just(b"MESS"), key, key),
    st.sampled_from([(b"FLUSHDB",), (b"FLUSHALL",)]),
).map(list)
ttl_or_none = st.integers(0, 40).map(lambda number: b"%d" % number)  # 0 is refused.
sets = (
    st.tuples(st.just(b"SET"), key, value),
    st.tuples(st.just(b"SET"), key, value, st.sampled_from([b"PX", b"px"]), ttl_or_none),
    st.tuples(st.just(b"PSETEX"), key, ttl_or_none, value),
    st.tuples(
        st.just(b"SET"), key, value, st.just(b"PXAT"), st.integers(NOON, NOON + 300).map(b"%d".__mod__)
    ),
)


def in_database_0(commands: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A batch of nothing else: SETs of it are run together."""
    return st.lists(st.tuples(st.just(0), commands.map(list)), min_size=1, max_size=6)


batch = st.one_of(
    st.lists(st.tuples(st.sampled_from(DATABASES), command), max_size=6),
    in_database_0(st.one_of(*sets, st.tuples(st.just(b"APPEND"), key, value))),
    *[in_database_0(commands) for commands in sets],  # Alike, so they may come by columns.
)
entry = st.tuples(st.integers(0, 15), batch)  # Milliseconds since the entry before, and its commands.
after = st.sampled_from(["nothing", "commit", "commit", "flush", "begin flush", "step", "crash", "go over"])


class Run:
    """A machine that crashes and replays, next to the model."""

    def __init__(self, fetched_bytes_max: int, changed_records_max: int) -> None:
        self.disk = MemoryStateStore()
        self.fetched_bytes_max = fetched_bytes_max
        self.changed_bytes_max = changed_records_max * RECORD_SHARE_BYTES
        self.entries: list[tuple[int, list[tuple[int, list[bytes]]]]] = []
        self.start()

    def start(self) -> None:
        self.thread = ByHand()
        self.machine = KeyspaceMachine(
            ThreadedStateStore(self.disk, self.thread),
            lookup=lambda name: MESS if name == b"MESS" else lookup(name),
            fetched_bytes_max=self.fetched_bytes_max,
            changed_bytes_max=self.changed_bytes_max,
        )

    def apply(self, index: int) -> None:
        now, commands = self.entries[index]
        databases = [database for database, _ in commands]
        if not any(databases):
            databases = []  # As batches have it.
        batch: Sequence[list[bytes]] = [args for _, args in commands]
        if index % 2 and not databases and len({(args[0], len(args)) for args in batch}) == 1:
            batch = Columns(batch[0][0], [list(column) for column in zip(*batch, strict=True)][1:])
        self.machine.apply(index, now, batch, databases, ())
        self.machine.expire(index, now)

    def commit(self) -> None:
        self.machine.commit({b"applied": b"%d" % len(self.entries)})

    def crash(self) -> None:
        self.disk.crash()
        self.start()
        for index in range(int(self.machine.meta(b"applied") or b"0"), len(self.entries)):
            self.apply(index)
        self.commit()

    def go_over(self) -> None:
        """Take over the state that a crash would leave, while what is on its way to this one goes on."""
        self.commit()
        arrived = Path(f"state {len(self.entries)}")
        self.disk.checkpoint(arrived)
        before, self.disk = self.thread, MemoryStateStore.loaded(self.disk.checkpoints[arrived])
        self.thread = ByHand()
        self.machine.restore(ThreadedStateStore(self.disk, self.thread))
        for index in range(int(self.machine.meta(b"applied") or b"0"), len(self.entries)):
            self.apply(index)
        self.commit()
        before.shutdown()


@settings(max_examples=200)
@given(
    st.lists(st.tuples(entry, after), max_size=25),
    st.sampled_from([0, 600, 1 << 20]),
    st.sampled_from([0, 4, 1 << 10]),
)
def test_the_keyspace_does_what_a_dict_does(
    steps: list[tuple[tuple[int, list[tuple[int, list[bytes]]]], str]],
    fetched_bytes_max: int,
    changed_records_max: int,
) -> None:
    run, model, now = Run(fetched_bytes_max, changed_records_max), Model(), NOON
    for (elapsed, commands), what in steps:
        now += elapsed
        run.entries.append((now, commands))
        run.apply(len(run.entries) - 1)
        model.expire(now)
        for database, args in commands:
            model.apply(database, args, now)
        if what == "crash":
            run.crash()
        elif what == "go over":
            run.go_over()
        elif what != "nothing":
            run.commit()
        if what == "flush":
            run.machine.flush()
            check_rows(run.disk)
        elif what == "begin flush":
            run.machine.begin_flush()
        elif what == "step" and run.thread.tasks:
            run.thread.step()
        if what != "nothing":
            check(run.machine, model, now)


def check_rows(disk: MemoryStateStore) -> None:
    heads = {key[1:]: row for key, row in disk.iterate(RECORDS, b"s")}
    values = dict(disk.iterate(VALUES, b"w"))
    apart = [VALUES + key for key, row in heads.items() if row[0] & APART]
    assert sorted(values) == sorted(apart), (
        "each value that lies apart has a head, and each such head its value"
    )
    assert all(len(value) > APART_BYTES - 17 for value in values.values())
    assert all(len(decode_record(row).value) <= APART_BYTES for row in heads.values())
    expiring = [
        index_key(key[0], deadline_of(row), user_key(RECORDS + key))
        for key, row in heads.items()
        if deadline_of(row)
    ]
    assert list(disk.keys(EXPIRY, b"y")) == sorted(expiring), (
        "each deadline has one entry, and no other is there"
    )


def check(machine: KeyspaceMachine, model: Model, now: int) -> None:
    for overlay in machine._overlays:
        layers = overlay._layers
        changed = {key for generation in (layers.young, *layers.older) for key in generation.records}
        assert not changed & overlay.fetched.keys(), "who writes a key takes it out of what was fetched"
        counted = overlay.young_bytes
        overlay.weigh()
        assert counted >= overlay.young_bytes, "what has gathered is larger than the store is told"
        overlay.young_bytes = counted
    deadlines = [deadline for _, deadline in model.live.values() if deadline]
    first = machine.next_deadline()
    assert (first is None) <= (not deadlines)
    assert first is None or not deadlines or first <= min(deadlines)
    for database in DATABASES:
        expected = {key: kept for (number, key), kept in model.live.items() if number == database}
        lines = [[b"KEYS", b"*"], [b"SCAN", b"0", b"COUNT", b"100"], [b"DBSIZE"], [b"RANDOMKEY"]]
        lines += [[b"GET", key] for key in KEYS]
        lines += [[b"PEXPIRETIME", key] for key in KEYS]
        replies: list[Any] | None = machine.read([(database, line) for line in lines], now, now)
        assert replies is not None
        keys, (cursor, scanned), size, drawn, *rest = replies
        assert sorted(keys) == sorted(scanned) == sorted(expected)
        assert (cursor, size) == (b"0", len(expected))
        assert drawn in expected if expected else drawn is None
        values, times = rest[: len(KEYS)], rest[len(KEYS) :]
        assert values == [expected[key][0] if key in expected else None for key in KEYS]
        assert times == [(expected[key][1] or -1) if key in expected else -2 for key in KEYS]
