"""A user's machine keeps a replica's promises: what fails changes nothing, what is lost is replayed."""

from collections.abc import Iterable, Iterator, Sequence

import pytest

from respraft.library.errors import CommandError, SnapshotFailed
from respraft.library.machine import Context, Machine
from respraft.library.own_command import command
from respraft.library.user_machine import NotDeterministic, UserMachine, pieces_of
from respraft.resp.errors import ReplyError
from respraft.storage.state_memory import MemoryStateStore


class Ledger(Machine):
    """A list of words. Some words fail, in various ways, after they were put in."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.breaks = False

    def apply(self, command: bytes, context: Context) -> object:
        if command == b"refused":
            raise CommandError("not that", "NOPE")
        self.words.append(command.decode())
        if command == b"deep":
            return self.apply(command, context)
        if command == b"out of memory":
            raise MemoryError
        if command.startswith(b"bad"):
            raise OSError("disk on fire")
        if command == b"random":
            return [context.index, context.time_ms, context.random.randrange(1 << 30)]
        return len(self.words)

    def read(self, query: bytes, context: Context) -> object:
        if query == b"bad":
            raise ValueError("no such thing")
        return " ".join(self.words)

    def snapshot(self) -> Iterable[bytes]:
        if self.breaks:
            raise ValueError("cannot say")
        return [word.encode() for word in self.words]

    def restore(self, pieces: Iterable[bytes]) -> None:
        self.words = [piece.decode() for piece in pieces]

    @command("LEDGER.ADD", arity=-2)
    def add(self, context: Context, *words: str) -> object:
        """Add words."""
        self.words += words
        return set() if "set" in words else list(words)

    @command("LEDGER.COUNT", arity=1, kind="read")
    def count(self, context: Context) -> int:
        """Count the words."""
        return len(self.words)


class Replicated:
    """A machine on a store, with entries as a replica would apply them."""

    def __init__(self, store: MemoryStateStore | None = None, **options: int) -> None:
        self.store = store or MemoryStateStore()
        self.user = Ledger()
        self.machine = UserMachine(self.store, self.user, fresh=list(pieces_of(self.user)), **options)
        self.index = int(self.machine.meta(b"index") or 0)

    def apply(self, *words: bytes) -> list[object]:
        return self.apply_commands([[b"", word] for word in words])

    def apply_commands(
        self, commands: list[list[bytes]], reads: Sequence[tuple[int, int, list[bytes]]] = ()
    ) -> list[object]:
        self.index += 1
        replies = self.machine.apply(self.index, self.index * 1000, commands, [], reads)
        self.machine.expire(self.index, self.index * 1000)
        self.machine.commit({b"index": b"%d" % self.index})
        return replies

    def read(self, query: bytes = b"") -> object:
        replies = self.machine.read([(0, [b"", query])], 0, 0)
        assert replies is not None
        return replies[0]


def test_replies_are_the_machines_own() -> None:
    node = Replicated()
    assert node.apply(b"a", b"b") == [1, 2]
    assert node.read() == "a b"


def test_what_raised_is_an_error_reply_and_is_undone() -> None:
    node = Replicated()
    assert node.apply(b"a", b"bad", b"b") == [1, ReplyError("ERR", "OSError: disk on fire"), 2]
    assert node.apply(b"bad", b"c", b"bad") == [
        ReplyError("ERR", "OSError: disk on fire"),
        3,
        ReplyError("ERR", "OSError: disk on fire"),
    ]
    assert node.read() == "a b c"


def test_endless_recursion_is_undone_as_well() -> None:
    node = Replicated()
    (reply,) = node.apply(b"deep")
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("RecursionError")
    assert node.read() == ""


def test_undoing_comes_to_the_same_whatever_the_last_snapshot_holds() -> None:
    scripts = [(b"a",), (b"bad1", b"b"), (b"random",), (b"bad2",), (b"c", b"bad3", b"d"), (b"random",)]
    states = []
    for flush_before in range(len(scripts) + 1):
        node = Replicated()
        replies = []
        for place, words in enumerate(scripts):
            if place == flush_before:
                node.machine.flush()
            replies.append(node.apply(*words))
        states.append((replies, node.machine.digest(), node.read()))
    assert all(state == states[0] for state in states)


def test_a_refusal_is_free() -> None:
    node = Replicated()
    node.user.breaks = True  # An undo would need a snapshot; nothing asks for one.
    assert node.apply(b"a", b"refused") == [1, ReplyError("NOPE", "not that")]
    assert node.read() == "a"


def test_memory_that_ran_out_stops_the_node() -> None:
    with pytest.raises(MemoryError):
        Replicated().apply(b"out of memory")


def test_a_machine_that_is_not_deterministic_is_found_out() -> None:
    node = Replicated()
    node.apply(b"a")
    node.machine._call = lambda *args: (_ for _ in ()).throw(ValueError("differs"))  # type: ignore[method-assign]
    with pytest.raises(NotDeterministic, match=r"command 0 of log entry 1 .* raises now: ValueError"):
        node.apply(b"bad")


def test_after_a_crash_the_log_brings_back_what_no_snapshot_holds() -> None:
    store = MemoryStateStore()
    node = Replicated(store)
    node.apply(b"a")
    node.machine.flush()
    node.apply(b"b")
    store.crash()
    again = Replicated(store)
    assert (again.index, again.read()) == (1, "a")
    again.apply(b"b")
    again.machine.flush()
    assert Replicated(store).read() == "a b"


def test_a_machine_that_is_started_again_does_not_keep_what_the_store_lacks() -> None:
    node = Replicated()
    fresh = list(pieces_of(Ledger()))
    node.apply(b"a")
    again = UserMachine(MemoryStateStore(), node.user, fresh=fresh)
    assert again.read([(0, [b"", b""])], 0, 0) == [""]


def test_a_snapshot_is_written_when_the_commands_since_the_last_one_weigh_as_much() -> None:
    node = Replicated(journal_bytes_min=1000)
    written = []
    for number in range(40):
        node.apply(b"%d" % number)
        node.store.flush()
        written.append(int(Replicated(node.store).index))
    assert written[-1] > 30
    assert len(set(written)) < 15  # Not each time.


def test_a_snapshot_that_cannot_be_made_stops_nothing() -> None:
    node = Replicated(journal_bytes_min=500)
    node.user.breaks = True
    for number in range(20):
        assert node.apply(b"%d" % number) == [number + 1]
    assert node.apply(b"bad") == [ReplyError("ERR", "OSError: disk on fire")]
    with pytest.raises(SnapshotFailed, match="cannot say"):
        node.machine.flush()
    node.user.breaks = False
    node.machine.flush()
    assert Replicated(node.store).read() == " ".join(map(str, range(20)))


def test_a_flush_is_begun_at_once_and_may_be_ended_elsewhere_later() -> None:
    node = Replicated()
    node.apply(b"a")
    flush = node.machine.begin_flush()
    assert flush is not None
    node.apply(b"b")
    flush()
    node.store.crash()
    again = Replicated(node.store)
    assert (again.index, again.read()) == (1, "a")


def test_a_flush_that_cannot_be_begun_says_so() -> None:
    node = Replicated()
    node.apply(b"a")
    node.user.breaks = True
    assert node.machine.begin_flush() is None
    assert node.apply(b"b") == [2]


def test_another_nodes_state_takes_the_place_of_this_one() -> None:
    other = Replicated()
    other.apply(b"from", b"another")
    other.machine.flush()
    node = Replicated()
    node.apply(b"a")
    node.machine.restore(other.store)
    assert node.read() == "from another"
    assert node.machine.meta(b"index") == b"1"
    assert node.apply(b"bad", b"b") == [ReplyError("ERR", "OSError: disk on fire"), 3]
    node.machine.flush()
    assert Replicated(other.store).read() == "from another b"


def test_pieces_must_be_bytes() -> None:
    class Wrong(Machine):
        def snapshot(self) -> Iterator[bytes]:
            yield "text"  # type: ignore[misc]

    with pytest.raises(SnapshotFailed, match="yields a str; every piece must be bytes"):
        list(pieces_of(Wrong()))


def test_time_index_and_chance_are_those_of_the_entry() -> None:
    first, second = Replicated().apply(b"random", b"random")
    assert Replicated().apply(b"random", b"random") == [first, second]
    assert isinstance(first, list) and isinstance(second, list)
    assert first[:2] == second[:2] == [1, 1000]
    assert first[2] != second[2]


def test_reads_of_a_batch_run_at_their_places() -> None:
    node = Replicated()
    reads = [(0, 0, [b"", b""]), (1, 0, [b"", b""]), (1, 0, [b"ledger.count"]), (2, 0, [b"", b"bad"])]
    assert node.apply_commands([[b"", b"a"], [b"LEDGER.ADD", b"b", b"c"]], reads) == [
        "",
        1,
        "a",
        1,
        [b"b", b"c"],
        ReplyError("ERR", "ValueError: no such thing"),
    ]


def test_a_reply_that_redis_has_no_form_for_undoes_the_command() -> None:
    node = Replicated()
    (reply,) = node.apply_commands([[b"LEDGER.ADD", b"a", b"set"]])
    assert isinstance(reply, ReplyError)
    assert "replies with a set, for which Redis has no form" in reply.text
    assert node.read() == ""


@pytest.mark.parametrize(
    "words", [[b"NO.SUCH"], [b"LEDGER.COUNT"], [b"LEDGER.ADD"], [b"LEDGER.ADD", b"\xff"]]
)
def test_what_another_version_of_the_machine_logged_is_an_error_and_no_end(words: list[bytes]) -> None:
    node = Replicated()
    (reply,) = node.apply_commands([words])
    assert isinstance(reply, ReplyError)
    assert node.apply(b"a") == [1]


def test_reads_that_take_long_leave_the_rest_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("respraft.library.user_machine.READS_S_MAX", -1.0)
    node = Replicated()
    assert node.machine.read([(0, [b"", b""])] * 3, 0, 0) == [""]
