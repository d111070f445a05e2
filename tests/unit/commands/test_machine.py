"""The keyspace machine: runs, undo, replay, deadlines and due reads, over both stores."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from respraft.columns import Columns
from respraft.commands.context import READ_WORK_MAX, WRITE_WORK_MAX, Context
from respraft.commands.execution import READ_BYTES_MAX
from respraft.commands.machine import EXPIRE_KEYS_MAX, RECORD_SHARE_BYTES, KeyspaceMachine
from respraft.commands.spec import ALL_KEYS, ONE_KEY, CommandSpec, Kind
from respraft.commands.strings import STRING_BYTES_MAX
from respraft.commands.table import lookup
from respraft.replica.machine import Machine
from respraft.resp.errors import ReplyError, busy, string_too_long
from respraft.resp.replies import OK, Reply
from respraft.storage.interface import StorageFailed
from respraft.storage.state import RocksStateStore
from respraft.storage.state_interface import StateStore
from respraft.storage.state_memory import MemoryStateStore
from respraft.storage.state_thread import ThreadedStateStore

NOON = 1_700_000_000_000

Function = Callable[[Context, list[bytes]], Reply]


def row(name: bytes, function: Function, *, kind: Kind = Kind.WRITE, arity: int = -1) -> CommandSpec:
    keys = ALL_KEYS if arity == -1 else ONE_KEY
    return CommandSpec(
        name=name,
        arity=arity,
        kind=kind,
        function=function,
        keys=keys,
        summary="",
        since="",
        group="",
        complexity="",
    )


def with_rows(*rows: CommandSpec) -> Callable[[bytes], CommandSpec | None]:
    own = {spec.name: spec for spec in rows}
    return lambda name: own.get(name) or lookup(name)


def words(line: str) -> list[bytes]:
    return line.encode().split()


class Node:
    """A machine that is driven as a replica drives it: one entry after the other, at the log's time."""

    def __init__(
        self,
        store: StateStore,
        *rows: CommandSpec,
        fetched_bytes_max: int = 1 << 20,
        changed_bytes_max: int = 100 * RECORD_SHARE_BYTES,
    ) -> None:
        self.store = store
        self._lookup = with_rows(*rows)
        self._limits = {"fetched_bytes_max": fetched_bytes_max, "changed_bytes_max": changed_bytes_max}
        self._begin()
        self.index = 0
        self.time_ms = NOON

    def apply(
        self, *lines: str, databases: Sequence[int] = (), reads: Sequence[tuple[int, int, str]] = ()
    ) -> list[Reply]:
        self.index += 1
        attached = [(position, database, words(line)) for position, database, line in reads]
        commands = [words(line) for line in lines]
        return self.machine.apply(self.index, self.time_ms, commands, databases, attached)

    def run(self, *lines: str, database: int = 0) -> list[Reply]:
        replies = self.apply(*lines, databases=[database] * len(lines))
        self.machine.commit({})
        return replies

    def read(self, *lines: str, database: int = 0, now_ms: int = 0) -> list[Reply] | None:
        commands = [(database, words(line)) for line in lines]
        return self.machine.read(commands, self.time_ms, max(now_ms, self.time_ms))

    def restart(self) -> None:
        self.machine.flush()
        self._begin()

    def crash(self) -> None:
        assert isinstance(self.store, MemoryStateStore)
        self.store.crash()
        self._begin()

    def _begin(self) -> None:
        self.machine = KeyspaceMachine(self.store, lookup=self._lookup, rng=random.Random(0), **self._limits)


@pytest.fixture(params=["rocks", "thread", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    store: StateStore = MemoryStateStore()
    if request.param != "memory":
        store = RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    if request.param == "thread":  # As in production.
        store = ThreadedStateStore(store)
    yield store
    store.close()


@pytest.fixture
def node(store: StateStore) -> Node:
    return Node(store)


def test_it_is_a_machine_of_the_replica(store: StateStore) -> None:
    machine: Machine = KeyspaceMachine(store, lookup=lookup)
    assert machine.next_deadline() is None


# Runs: what apply does, who sees it, and when.


def test_a_run_is_readable_whole_once_it_is_committed(node: Node) -> None:
    node.run("SET a old", "SET gone 1")
    node.apply("SET a new", "SET b 1", "DEL gone")
    node.apply("INCR b")
    assert node.machine.meta(b"applied") is None
    node.machine.commit({b"applied": b"3"})
    assert node.read("GET a", "GET b", "GET gone", "DBSIZE") == [b"new", b"2", None, 2]
    assert node.machine.meta(b"applied") == b"3"


@pytest.mark.parametrize("fetched_bytes_max", [0, 1 << 20])
def test_plain_sets_behind_a_clear_in_the_same_batch_begin_anew(
    store: StateStore, fetched_bytes_max: int
) -> None:
    node = Node(store, fetched_bytes_max=fetched_bytes_max)
    node.run("SET b 1", "SET c 1")
    node.run("SET a 0", "FLUSHALL", "SET a 1", "INCR b", "SET b 2", "SET c 3")
    assert node.read("GET a", "GET b", "DBSIZE", "KEYS [ab]") == [b"1", b"2", 3, [b"b", b"a"]]


@pytest.mark.parametrize("fetched_bytes_max", [0, 1 << 20])
def test_plain_sets_count_a_key_once_however_often_and_drop_its_deadline(
    store: StateStore, fetched_bytes_max: int
) -> None:
    node = Node(store, fetched_bytes_max=fetched_bytes_max)
    node.run("SET a 1 PX 1000", "SET b 1")
    node.run("SET a 2", "set c 1", "SET a 3", "Set c 2", "SET d 1", "SET d 2")
    assert node.read("GET a", "TTL a", "GET c", "GET d", "DBSIZE") == [b"3", -1, b"2", b"2", 4]
    assert node.machine.sizes() == {0: (4, 0)}
    node.run("SET e 1 PX 1")
    assert node.machine.sizes() == {0: (5, 1)}


SETS = {
    "plain": "SET {key} {place}",
    "seconds": "SET {key} {place} EX {amount}",
    "milliseconds": "set {key} {place} px {amount}",
    "a moment": "SET {key} {place} PXAT {amount}",
    "in front": "SETEX {key} {amount} {place}",
    "milliseconds in front": "Psetex {key} {amount} {place}",
    "a condition": "SET {key} {place} NX EX {amount}",
    "a condition alone": "SET {key} {place} XX",
    "no time": "SET {key} {place} EX EX",
    "no unit": "SET {key} {place} NOW {amount}",
    "something else": "APPEND {key} {place}",
}
"""What a SET may look like, and what looks like one."""


def sets(form: str, count: int, amounts: Sequence[str]) -> list[list[bytes]]:
    """Many of one form, or of all; keys repeat."""
    forms = [SETS[form]] if form in SETS else list(SETS.values())
    return [
        words(
            forms[place % len(forms)].format(
                key=f"key{place % 300}", place=place, amount=amounts[place % len(amounts)]
            )
        )
        for place in range(count)
    ]


@pytest.mark.parametrize(
    "amounts", [["10"], ["1", "20", "300"], ["5", "0", "x", "01", "-1", str(1 << 63), "7"]]
)
@pytest.mark.parametrize("count", [1, 257, 700])
@pytest.mark.parametrize("form", [*SETS, "all of them"])
def test_sets_that_are_run_together_do_what_each_does_alone(
    form: str, count: int, amounts: list[str]
) -> None:
    batch = sets(form, count, amounts)
    ways: list[tuple[Sequence[list[bytes]], list[int]]] = [
        (batch, []),
        # In database 0 of a batch that also uses another each runs for itself.
        (batch, [0] * count),
    ]
    if form in SETS:
        ways.append((Columns(batch[0][0], [list(column) for column in zip(*batch, strict=True)][1:]), []))
    outcomes = []
    for commands, databases in ways:
        node = Node(MemoryStateStore())
        node.run(*[f"SET key{place} old" for place in range(0, min(count, 250), 2)])
        node.run(*[f"SET key{place} old PX 100" for place in range(0, min(count, 250), 3)])
        reads = [(place, 0, words(f"PTTL key{place % 300}")) for place in (0, count // 2, count)]
        replies = node.machine.apply(9, NOON, commands, databases, reads)
        sizes = node.machine.sizes()
        node.machine.commit({})
        outcomes.append(([str(reply) for reply in replies], sizes, node.machine.digest()))
    assert outcomes.count(outcomes[0]) == len(ways)


@pytest.mark.parametrize(
    ("arguments", "replies", "left_ms"),
    [
        ([[b"a", b"b"], [b"1", b"2"], [b"EX", b"PX"], [b"5", b"6"]], [OK, OK], [5000, 6]),
        ([[b"a"], [b"1"], [b"EX"], [b"10"], [b"PX"], [b"5"]], ["ERR syntax error"], [-2, -2]),
        ([[b"a"]], ["ERR wrong number of arguments for 'set' command"], [-2, -2]),
    ],
)
def test_sets_by_columns_that_are_not_all_of_a_kind(
    arguments: list[list[bytes]], replies: list[Reply], left_ms: list[int]
) -> None:
    node = Node(MemoryStateStore())
    got = node.machine.apply(1, NOON, Columns(b"SET", arguments), [], ())
    assert [str(reply) for reply in got] == [str(reply) for reply in replies]
    node.machine.commit({})
    assert node.read("PTTL a", "PTTL b") == left_ms


def test_a_set_stays_in_the_database_that_it_was_sent_to(node: Node) -> None:
    assert node.apply("SETEX a 10 1", "SET b 1", "SET c 1 PX 5", databases=[1, 2, 0]) == [OK, OK, OK]
    assert node.machine.sizes() == {0: (1, 1), 1: (1, 1), 2: (1, 0)}


@pytest.mark.parametrize("name", [b"SET", b"set", b"GETSET", b"APPEND", b"NOSUCH", b"MGET", b"GET"])
def test_commands_by_columns_do_what_they_do_one_by_one(name: bytes) -> None:
    rows = [[name, b"key%d" % (place % 300), b"%d" % place] for place in range(700)]
    columns = Columns(name, [[row[place] for row in rows] for place in (1, 2)])
    reads = [(place, 0, words(f"GET key{place % 300}")) for place in (0, 1, 300, 699, 700)]
    outcomes = []
    for commands in (columns, rows):
        machine = Node(MemoryStateStore()).machine
        replies = machine.apply(1, NOON, commands, [], reads)
        machine.commit({})
        outcomes.append(([str(reply) for reply in replies], machine.digest()))
    assert outcomes[0] == outcomes[1]


def test_attached_reads_run_at_their_place_and_replies_are_merged(node: Node) -> None:
    reads = [
        (0, 0, "GET n"),
        (1, 0, "GET n"),
        (1, 1, "GET n"),
        (2, 1, "DBSIZE"),
        (3, 0, "KEYS *"),
    ]
    replies = node.apply("INCR n", "INCR n", "SET m 1", databases=[0, 1, 0], reads=reads)
    assert replies == [None, 1, b"1", None, 1, 1, OK, [b"n", b"m"]]


def test_an_iteration_knows_what_became_of_keys_of_an_earlier_run(node: Node) -> None:
    keys = (1, 0, "KEYS *")
    assert node.apply("SET a 1", reads=[keys])[1] == [b"a"]
    node.machine.commit({})
    node.run("DEL a")
    assert node.apply("SET b 1", reads=[keys])[1] == [b"b"]


def test_attached_reads_leave_the_state_as_it_is_without_them() -> None:
    with_reads, without = Node(MemoryStateStore()), Node(MemoryStateStore())
    for node, reads in ((with_reads, [(1, 0, "RANDOMKEY"), (2, 3, "GET a")]), (without, [])):
        node.apply("SET a 1", "INCR n", "SET b 2", databases=[0, 3, 3], reads=reads)
        node.machine.commit({})
    assert with_reads.machine.digest() == without.machine.digest()


def test_runs_gather_before_they_are_written_and_are_lost_and_replayed_whole() -> None:
    store = MemoryStateStore()
    machine = KeyspaceMachine(store, lookup=lookup, changed_bytes_max=3 * RECORD_SHARE_BYTES)
    for index in range(1, 4):
        machine.apply(index, NOON, [[b"INCR", b"n%d" % index], [b"INCR", b"all"]], (), ())
        machine.commit({b"applied": b"%d" % index})
        assert machine.meta(b"applied") == b"%d" % index
    assert machine.read([(0, [b"GET", b"all"])], NOON, NOON) == [b"3"]
    again = KeyspaceMachine(store, lookup=lookup)
    assert again.meta(b"applied") == b"2"
    assert again.read([(0, [b"MGET", b"n2", b"n3", b"all"])], NOON, NOON) == [[b"1", None, b"2"]]
    machine.flush()
    assert KeyspaceMachine(store, lookup=lookup).meta(b"applied") == b"3"


def test_databases_are_apart(node: Node) -> None:
    node.apply("SET k 0", "SET k 15", "SET k2 15", databases=[0, 15, 15])
    node.machine.commit({})
    assert node.read("GET k", "DBSIZE", "KEYS k") == [b"0", 1, [b"k"]]
    assert node.read("GET k", "DBSIZE", "KEYS k", database=15) == [b"15", 2, [b"k"]]
    assert node.read("GET k", "DBSIZE", database=7) == [None, 0]


def test_sizes_count_keys_and_those_with_a_deadline_and_survive_a_restart(node: Node) -> None:
    node.run("SET a 1", "SET b 1 PX 100", "SET c 1 PX 100", "PERSIST c", "SET d 1", "PEXPIRE d 500")
    node.run("SET e 1 PX 100", "FLUSHDB", database=3)
    node.run("SET f 1 PX 100", "SET f 1", "SET g 1 EX 9", "DEL g", database=4)
    node.restart()
    assert node.machine.sizes() == {0: (4, 2), 4: (1, 0)}
    node.machine.expire(9, NOON + 100)
    assert node.machine.sizes()[0] == (3, 1)


def test_reads_of_many_databases_in_one_group(node: Node) -> None:
    node.apply("SET k 0", "SET k 1", databases=[0, 1])
    node.machine.commit({})
    group = [(1, [b"GET", b"k"]), (0, [b"GET", b"k"]), (2, [b"get", b"k"]), (1, [b"GET", b"k"])]
    assert node.machine.read(group, NOON, NOON) == [b"1", b"0", None, b"1"]


def test_a_commit_without_changes_stores_the_values_of_the_replica(node: Node) -> None:
    node.machine.commit({b"a": b"1", b"b": b""})
    node.machine.commit({b"a": b"2"})
    node.restart()
    assert [node.machine.meta(name) for name in (b"a", b"b", b"c")] == [b"2", b"", None]


def test_revisions_hold_the_index_and_the_place(store: StateStore) -> None:
    seen: list[int] = []

    def note(context: Context, args: list[bytes]) -> Reply:
        seen.append(context.revision)
        return OK

    rows = row(b"NOTE", note), row(b"NOTEREAD", note, kind=Kind.READ)
    node = Node(store, *rows)
    node.apply("NOTE", "SET a 1", "NOTE", reads=[(1, 0, "NOTEREAD")])
    node.apply("NOTE")
    assert seen == [1 << 20, 0, (1 << 20) | 2, 2 << 20]


def test_randomness_of_writes_is_that_of_the_log(store: StateStore) -> None:
    draws: list[float] = []

    def draw(context: Context, args: list[bytes]) -> Reply:
        draws.append(context.random.random())
        return OK

    for _ in range(2):
        node = Node(store, row(b"DRAW", draw))
        node.apply("DRAW", "DRAW")
    assert draws[:2] == draws[2:]
    assert draws[0] != draws[1]


# Commands that fail.


def failing(error: Exception) -> CommandSpec:
    """FAIL key...: writes all over the place, and then raises."""

    def fail(context: Context, args: list[bytes]) -> Reply:
        for key in args[1:]:
            context.set_string(key, b"1", deadline=NOON + 1)
            context.set_string(key, b"2")
            context.copy(key, key, target_database=1)
        context.rename(args[1], b"renamed")
        context.clear(0)
        context.set_string(args[-1], b"3")
        context.delete(b"other")
        context.clear()
        context.set_string(args[1], b"4", deadline=NOON + 5)
        raise error

    return row(b"FAIL", fail)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (ReplyError("ERR", "no"), ReplyError("ERR", "no")),
        (
            ZeroDivisionError("of 0x7f"),
            ReplyError("ERR", "internal error (ZeroDivisionError); nothing was changed"),
        ),
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["same run", "committed before"])
def test_a_command_that_raises_changes_nothing(
    store: StateStore, error: Exception, reply: Reply, split: bool
) -> None:
    node = Node(store, failing(error))
    setup = ("SET a 1", "PSETEX late 5000 1", "SET other 1", "DEL missing"), [0, 0, 1, 1]
    replies = node.apply(*setup[0], databases=setup[1])
    if split:
        node.machine.commit({})
    replies = node.apply("FAIL a late missing", "APPEND a x", "DBSIZE")
    node.machine.commit({})
    assert replies == [reply, 2, 2]

    twin = Node(MemoryStateStore())
    twin.apply(*setup[0], databases=setup[1])
    twin.apply("GET a", "APPEND a x")
    twin.machine.commit({})
    assert node.machine.digest() == twin.machine.digest()
    assert node.read("GET a", "GET late", "KEYS *") == twin.read("GET a", "GET late", "KEYS *")
    assert node.read("GET other", "DBSIZE", database=1) == [b"1", 1]
    node.restart()
    assert node.machine.next_deadline() == NOON + 5000


def test_a_read_that_raises_is_an_error_reply(store: StateStore) -> None:
    def fail(context: Context, args: list[bytes]) -> Reply:
        raise KeyError(args[1])

    node = Node(store, row(b"FAIL", fail, kind=Kind.READ))
    node.run("SET a 1")
    failed = ReplyError("ERR", "internal error (KeyError); nothing was changed")
    assert node.read("FAIL a", "GET a") == [failed, b"1"]
    assert node.apply(reads=[(0, 0, "FAIL a"), (0, 0, "GET a")]) == [failed, b"1"]


@pytest.mark.parametrize("error", [StorageFailed("disk"), OSError(5, "EIO"), MemoryError(), RecursionError()])
def test_what_happened_to_this_node_only_is_not_a_reply(store: StateStore, error: Exception) -> None:
    node = Node(store, failing(error))
    with pytest.raises(type(error)):
        node.apply("FAIL a")
    node = Node(store, failing(error))
    assert node.read("DBSIZE", "KEYS *") == [0, []]


def test_what_no_origin_should_have_sent_is_refused_on_every_node(node: Node) -> None:
    replies = node.run("NOSUCH a", "SET a", "GET", "TIME", "SET a 1")
    assert [str(reply) for reply in replies[:3]] == [
        "ERR unknown command 'NOSUCH', with args beginning with: 'a' ",
        "ERR wrong number of arguments for 'set' command",
        "ERR wrong number of arguments for 'get' command",
    ]
    assert isinstance(replies[3], ReplyError)
    assert replies[4] is OK


def test_the_bytes_that_one_entry_may_build_are_bounded(node: Node) -> None:
    replies = node.run(*[f"SETRANGE k{number} {STRING_BYTES_MAX - 1} x" for number in range(6)])
    assert replies == [STRING_BYTES_MAX] * 4 + [busy(), busy()]
    assert (node.read("EXISTS k3"), node.read("EXISTS k4")) == ([1], [0])
    assert node.run("SET k4 v") == [OK]


def test_the_bytes_that_one_entry_may_look_at_are_bounded(node: Node) -> None:
    node.run(f"SETRANGE k {STRING_BYTES_MAX - 1} x")
    not_an_integer = ReplyError("ERR", "value is not an integer or out of range")
    replies = node.run(*["INCR k"] * 6, "SET small v")
    assert replies == [not_an_integer] * 3 + [busy()] * 3 + [OK]
    assert node.run("APPEND small w") == [2]


def test_a_command_that_looks_at_too_much_changes_nothing(node: Node) -> None:
    for number in range(5):
        node.run(f"SETRANGE k{number} {STRING_BYTES_MAX - 1} x")
    assert node.run("DEL k0 k1 k2 k3 k4") == [busy()]
    assert node.run("DEL k0 k1", "DBSIZE") == [2, 3]
    assert node.read("MGET k2 k3 k4 k2 k3") == [busy()]


def test_reads_of_an_entry_do_not_count_against_its_writes(node: Node) -> None:
    """They run on one node only: if they did, the nodes would disagree."""
    node.run(f"SETRANGE k {STRING_BYTES_MAX - 1} x", "SET n 1")
    reads = [(0, 0, "STRLEN k")] * 6
    assert node.apply("INCR n", "APPEND k ''", reads=reads)[-2:] == [2, string_too_long()]


def test_replies_end_where_a_turn_has_enough(node: Node) -> None:
    node.run(f"SETRANGE k {READ_BYTES_MAX // 3} x", "SET small v")
    replies = node.read(*["GET k", "GET small"] * 10)
    assert replies is not None and len(replies) == 5
    node.run(f"SETRANGE k {READ_BYTES_MAX} x")
    assert node.read("STRLEN k", "GET small") == [READ_BYTES_MAX + 1]


def test_work_is_bounded_and_a_command_past_it_changes_nothing(store: StateStore) -> None:
    def toil(context: Context, args: list[bytes]) -> Reply:
        context.set_string(b"a", b"1")
        context.spend(int(args[1]))
        return OK

    node = Node(store, row(b"TOIL", toil, arity=2))
    refused = ReplyError("ERR", f"command needs too much work, more than {WRITE_WORK_MAX} keys or elements")
    assert node.run(f"TOIL {WRITE_WORK_MAX + 1}") == [refused]
    assert node.read("EXISTS a") == [0]
    assert node.run(f"TOIL {WRITE_WORK_MAX}", f"TOIL {WRITE_WORK_MAX}") == [OK, OK]

    def look(context: Context, args: list[bytes]) -> Reply:
        context.spend(int(args[1]))
        return OK

    node = Node(store, row(b"LOOK", look, kind=Kind.READ, arity=2))
    refused = ReplyError("ERR", f"command needs too much work, more than {READ_WORK_MAX} keys or elements")
    assert node.read(f"LOOK {READ_WORK_MAX}") == [OK]
    assert node.read(f"LOOK {READ_WORK_MAX + 1}") == [refused]
    assert node.read(*["LOOK 1"] * 100) == [OK] * 100
    assert node.read(*[f"LOOK {READ_WORK_MAX // 3}"] * 100) == [OK], "the rest is for another turn"


# Replay, and what the state does not depend on.

HISTORY = (
    ("SET a 1", "SET b 2", "PSETEX c 50 3"),
    ("RENAME a d", "APPEND b x", "SET e 1 PX 70"),
    ("COPY d f DB 2", "DEL missing", "SET b 1"),
    ("FLUSHDB", "SET g 1", "PSETEX h 30 1"),
    ("INCR g", "INCR d", "PEXPIRE g 1", "FLUSHALL", "SET i 1"),
    ("MSET a 1 b 2 c 3", "GETDEL a", "PEXPIRE b 100", "PERSIST b", "PEXPIRE c 10"),
)


def replay(node: Node, *, first: int = 0, runs_of: int = 1) -> None:
    """Apply the history from an index on; each entry is 20 ms behind the one before."""
    for index in range(first, len(HISTORY)):
        node.index = index
        node.time_ms = NOON + 20 * index
        node.apply(*HISTORY[index])
        node.machine.expire(node.index, node.time_ms)
        if (index + 1) % runs_of == 0 or index + 1 == len(HISTORY):
            node.machine.commit({b"applied": b"%d" % (index + 1)})


def test_the_state_depends_on_the_entries_only(store: StateStore) -> None:
    digests: list[bytes] = []
    for runs_of in (1, 2, 6):
        for fetched_bytes_max in (0, 1 << 20):
            node = Node(MemoryStateStore(), fetched_bytes_max=fetched_bytes_max)
            replay(node, runs_of=runs_of)
            digests.append(node.machine.digest())
    node = Node(store)
    replay(node)
    assert set(digests) == {node.machine.digest()}
    assert node.read("KEYS *", "GET b", "TTL b", "DBSIZE") == [[b"c", b"b", b"i"], b"2", -1, 3]


@pytest.mark.parametrize("flushed_at", range(len(HISTORY) + 1))
@pytest.mark.parametrize("changed_records_max", [0, 2, 100])
def test_a_crash_at_any_entry_and_the_replay_give_the_same_state(
    flushed_at: int, changed_records_max: int
) -> None:
    undisturbed = Node(MemoryStateStore())
    replay(undisturbed)

    node = Node(MemoryStateStore(), changed_bytes_max=changed_records_max * RECORD_SHARE_BYTES)
    for index, lines in enumerate(HISTORY):
        if index == flushed_at:
            node.machine.flush()
        node.index = index
        node.time_ms = NOON + 20 * index
        node.apply(*lines)
        node.machine.expire(index, node.time_ms)
        node.machine.commit({b"applied": b"%d" % (index + 1)})
    node.crash()
    replay(node, first=int(node.machine.meta(b"applied") or b"0"))
    assert node.machine.digest() == undisturbed.machine.digest()
    assert node.machine.next_deadline() == undisturbed.machine.next_deadline()
    lines = ("KEYS *", "DBSIZE", "MGET a b c d e f g h i")
    assert node.read(*lines) == undisturbed.read(*lines)


def test_the_digest_tells_states_apart(node: Node) -> None:
    seen = {node.machine.digest()}
    for line in ("SET a 1", "SET a 2", "PEXPIRE a 1000", "SET b 2", "DEL b a"):
        node.run(line)
        seen.add(node.machine.digest())
    node.machine.commit({b"meta": b"1"})
    seen.add(node.machine.digest())
    assert len(seen) == 6, "an empty keyspace looks as in the beginning, everything else differs"


def test_what_is_fetched_stays_within_its_limit_and_nothing_is_forgotten_that_counts(
    store: StateStore,
) -> None:
    limit = 40_000
    node = Node(store, fetched_bytes_max=limit)
    for number in range(0, 3000, 100):
        node.run(*(f"SET k{at} {'x' * 100}" for at in range(number, number + 100)))
    node.run("SET elsewhere " + "x" * 50_000, database=3)
    node.restart()
    assert node.read(*(f"STRLEN k{at}" for at in range(3000)), "DBSIZE") == [100] * 3000 + [3000]
    assert node.machine.fetched_bytes <= limit
    node.read(*(f"STRLEN k{at}" for at in range(100)))
    others = node.machine.fetched_bytes
    assert 100 * 110 < others <= limit
    assert node.read("STRLEN elsewhere", "DBSIZE", database=3) == [50_000, 1]
    assert node.machine.fetched_bytes == others, "the largest database forgets first: here, one value"
    node.run("APPEND elsewhere y", database=3)
    node.run("STRLEN k1", "APPEND k2 y")
    assert node.machine.fetched_bytes <= limit
    node.run("FLUSHALL")
    assert node.machine.fetched_bytes == 0
    assert node.read(*(f"GET k{at}" for at in range(3000)), "DBSIZE") == [None] * 3000 + [0]


# Deadlines.


def test_a_key_is_expired_exactly_when_the_log_has_reached_its_deadline(node: Node) -> None:
    node.run("PSETEX a 100 1")
    node.time_ms = NOON + 99
    assert node.run("GET a", "EXISTS a", "PTTL a") == [b"1", 1, 1]
    assert node.read("GET a", "KEYS *", "SCAN 0", "RANDOMKEY") == [b"1", [b"a"], [b"0", [b"a"]], b"a"]
    node.time_ms = NOON + 100
    assert node.run("GET a", "EXISTS a", "PTTL a") == [None, 0, -2]
    assert node.read("GET a", "KEYS *", "SCAN 0", "RANDOMKEY") == [None, [], [b"0", []], None]
    assert node.read("DBSIZE") == [1], "not yet removed, as in Redis"


def test_writes_take_an_expired_key_for_missing(node: Node) -> None:
    node.run("PSETEX a 10 1", "PSETEX b 10 1", "PSETEX c 10 1", "PSETEX d 10 1")
    node.time_ms = NOON + 10
    replies = node.run(
        "INCR a", "SET b 2 XX", "DEL c", "APPEND d x", "PEXPIRE b 5", "RENAME c e", "SETNX c 7"
    )
    assert replies == [1, None, 0, 1, 0, ReplyError("ERR", "no such key"), 1]
    assert node.machine.expire(node.index, node.time_ms) == 1
    node.machine.commit({})
    assert node.read("MGET a b c d", "TTL a", "TTL d", "DBSIZE") == [[b"1", None, b"7", b"x"], -1, -1, 3]
    assert node.machine.next_deadline() is None


def test_next_deadline_is_never_late(node: Node) -> None:
    assert node.machine.next_deadline() is None
    node.run("PSETEX a 100 1", "PSETEX b 50 1")
    node.run("PSETEX c 70 1", database=5)
    assert node.machine.next_deadline() == NOON + 50
    node.run("SET b 1")
    first = node.machine.next_deadline()
    assert first is not None and first <= NOON + 70
    node.restart()
    assert node.machine.next_deadline() == NOON + 70
    node.run("FLUSHDB", database=5)
    assert node.machine.next_deadline() == NOON + 100
    node.run("FLUSHALL")
    assert node.machine.next_deadline() is None


def test_expire_removes_what_is_due_in_every_database_and_nothing_else(node: Node) -> None:
    for database in (0, 9):
        node.run(
            "PSETEX due 100 1", "PSETEX later 101 1", "SET stays 1", "PSETEX kept 100 1", database=database
        )
        node.run("PERSIST kept", database=database)
    assert node.machine.expire(node.index, NOON + 99) == 0
    assert node.machine.expire(node.index, NOON + 100) == 2
    node.machine.commit({})
    assert node.machine.next_deadline() == NOON + 101
    for database in (0, 9):
        assert node.read("MGET due later stays kept", "DBSIZE", database=database) == [
            [None, b"1", b"1", b"1"],
            3,
        ]
    assert node.machine.expire(node.index, NOON + 10_000) == 2
    node.machine.commit({})
    assert node.machine.next_deadline() is None
    assert list(node.store.keys(b"x", b"y")) == []


def test_expire_sees_what_the_run_changed(node: Node) -> None:
    node.run("PSETEX moved 10 1", "PSETEX kept 10 1")
    node.apply("PSETEX new 10 1", "PEXPIRE moved 20", "SET kept 1", "PSETEX gone 10 1", "DEL gone")
    assert node.machine.expire(node.index, NOON + 10) == 1
    assert node.machine.next_deadline() == NOON + 20
    node.machine.commit({})
    assert node.read("DBSIZE", "GET new") == [2, None]


def test_expire_is_bounded_and_goes_on_where_it_stopped(node: Node) -> None:
    number = EXPIRE_KEYS_MAX + 10
    node.run(*(f"PSETEX a{at} {1 + at} 1" for at in range(number)))
    node.run("PSETEX b 1 1", database=1)
    assert node.machine.expire(node.index, NOON + 10_000) == EXPIRE_KEYS_MAX
    node.machine.commit({})
    assert node.machine.next_deadline() == NOON + 1, "the other database waits"
    node.run("PSETEX before-what-is-left 1 1")
    assert node.machine.expire(node.index, NOON + 10_000) == 12
    node.machine.commit({})
    assert node.machine.next_deadline() is None
    assert node.read("DBSIZE", "KEYS *") == [0, []]


@pytest.mark.parametrize(
    "line",
    [
        "GET due",
        "STRLEN due",
        "EXISTS stays due",
        "PTTL due",
        "MGET stays due",
        "KEYS s*",
        "SCAN 0",
        "RANDOMKEY",
        "DBSIZE",
    ],
)
def test_a_read_of_a_key_that_is_due_by_the_clock_only_must_take_a_log_entry(node: Node, line: str) -> None:
    node.run("PSETEX due 100 1", "SET stays 1")
    node.time_ms = NOON + 60
    assert node.read("GET stays", line, now_ms=NOON + 99) is not None
    assert node.read("GET stays", line, now_ms=NOON + 100) is None
    assert node.read("GET stays", line, now_ms=NOON + 1000) is None
    assert node.apply(reads=[(0, 0, line)]) != []
    node.machine.commit({})
    assert node.read("GET stays", now_ms=NOON + 1000) == [b"1"]
    assert node.read("GET due", "KEYS *", database=1, now_ms=NOON + 1000) == [None, []]
    node.time_ms = NOON + 100
    assert node.read("GET stays", line, now_ms=NOON + 1000) is not None


def test_time_to_live_counts_from_the_time_of_the_read(node: Node) -> None:
    node.run("PSETEX a 100 1")
    assert node.read("PTTL a", now_ms=NOON + 40) == [60]
