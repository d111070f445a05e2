"""What a machine has for nothing: snapshots of plain attributes, reads of them, commands by decorator."""

from typing import Any

import pytest

from respraft.commands.documentation import command_docs, command_info, syntax
from respraft.library import machine as machine_module
from respraft.library.errors import CommandError
from respraft.library.machine import Context, Machine
from respraft.library.own_command import OwnCommand, command, to_reply
from respraft.resp.replies import OK

NOW = Context(1, 1000, 7)


class Counter(Machine):
    value = 0

    def apply(self, command: bytes, context: Context) -> int:
        self.value += int(command)
        return self.value


class Plain(Machine):
    def __init__(self) -> None:
        self.everything: dict[Any, Any] = {"a": [1, 2.5, None, True, b"\xff"], b"k": {3: "x"}, -1: []}
        self.order = {"z": 1, "a": 2}


def test_plain_attributes_are_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "PIECE_BYTES", 7)
    machine, other = Plain(), Plain()
    machine.everything["more"] = "text" * 10
    pieces = list(machine.snapshot())
    assert len(pieces) > 1
    other.everything = {}
    other.late = 1  # type: ignore[attr-defined]
    other.restore(iter(pieces))
    assert vars(other) == vars(machine)
    assert list(other.order) == ["z", "a"]


def test_a_default_on_the_class_is_restored_as_well() -> None:
    machine = Counter()
    fresh = list(machine.snapshot())
    machine.apply(b"5", NOW)
    machine.restore(fresh)
    assert machine.value == 0


@pytest.mark.parametrize("value", [{1, 2}, (1, 2), object(), [{"deep": (1,)}], bytearray(b"x")])
def test_what_is_not_plain_is_refused_by_name(value: object) -> None:
    machine = Machine()
    machine.field = value  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"attribute field holds a .* without snapshot\(\) and restore\(\)"):
        list(machine.snapshot())


def test_the_default_read_copies_an_attribute() -> None:
    machine = Plain()
    found = machine.read(b"order", NOW)
    assert found == {"z": 1, "a": 2}
    found.clear()
    assert machine.order
    assert Counter().read(b"value", NOW) == 0
    for query in (b"nothing", b"apply", b"__dict__", b"_x", b"\xff"):
        with pytest.raises(CommandError, match="no attribute"):
            machine.read(query, NOW)


def test_a_bare_machine_refuses_commands() -> None:
    with pytest.raises(CommandError, match="takes no commands"):
        Machine().apply(b"x", NOW)


class Board(Machine):
    @command("board.add", arity=4, kind="write", keys=1)
    def add(self, context: Context, board: str, player: bytes, points: int) -> list[object]:
        """Give a player points.

        More about it.
        """
        return [board, player, points, context.index]

    @command("BOARD.MEAN", arity=-2, kind="read", keys=(1, -1, 1))
    def mean(self, context: Context, first: float, *rest: float) -> float:
        return (first + sum(rest)) / (1 + len(rest))

    @command("BOARD.TOP", arity=-1, kind="read")
    def top(self, context: Context, count: int = 3) -> int:
        return count


class Larger(Board):
    @command("BOARD.TOP", arity=1, kind="read")
    def top(self, context: Context, count: int = 3) -> int:
        return -1


def own(name: bytes, machine: type[Machine] = Board) -> OwnCommand:
    (found,) = [each for each in machine.own_commands if each.spec.name == name]
    return found


def test_arguments_come_as_they_are_annotated() -> None:
    assert own(b"BOARD.ADD").call(Board(), NOW, [b"board.add", b"b", b"p", b"-3"]) == [b"b", b"p", -3, 1]
    assert own(b"BOARD.MEAN").call(Board(), NOW, [b"", b"1", b"2.5", b"1e1"]) == 4.5
    assert own(b"BOARD.TOP").call(Board(), NOW, [b""]) == 3


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        (b"BOARD.ADD", [b"b", b"p", b"1.5"], "value is not an integer or out of range"),
        (b"BOARD.ADD", [b"b", b"p", b"9223372036854775808"], "value is not an integer or out of range"),
        (b"BOARD.ADD", [b"\xff", b"p", b"1"], "value is not valid UTF-8"),
        (b"BOARD.MEAN", [b"nan"], "value is not a valid float"),
        (b"BOARD.MEAN", [b"1_0"], "value is not a valid float"),
        (b"BOARD.MEAN", [b"1", b"x"], "value is not a valid float"),
        (b"BOARD.TOP", [b"1", b"2"], "wrong number of arguments for 'board.top' command"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_method_is_called(
    name: bytes, arguments: list[bytes], text: str
) -> None:
    with pytest.raises(CommandError) as caught:
        own(name).call(None, NOW, [name, *arguments])
    assert (caught.value.code, caught.value.text) == ("ERR", text)


def test_a_command_is_described_as_others_are() -> None:
    spec = own(b"BOARD.ADD").spec
    assert syntax(spec) == "BOARD.ADD board player points"
    assert command_docs(spec)[b"summary"] == b"Give a player points"
    assert command_info(spec)[:6] == [b"board.add", 4, command_info(spec)[2], 1, 1, 1]
    assert "write" in spec.acl_categories
    assert syntax(own(b"BOARD.MEAN").spec) == "BOARD.MEAN first [rest [rest ...]]"
    assert "read" in own(b"BOARD.MEAN").spec.acl_categories
    assert syntax(own(b"BOARD.TOP").spec) == "BOARD.TOP [count]"


def test_a_subclass_has_its_parents_commands_and_may_replace_them() -> None:
    assert [each.spec.name for each in Larger.own_commands] == [b"BOARD.ADD", b"BOARD.MEAN", b"BOARD.TOP"]
    assert own(b"BOARD.TOP", Larger).call(Larger(), NOW, [b""]) == -1


def nothing(self: object, context: object) -> None: ...
def typed(self: object, context: object, argument: complex) -> None: ...


@pytest.mark.parametrize(
    ("options", "function", "text"),
    [
        ({"name": "A B", "arity": 1}, nothing, "one printable ASCII word"),
        ({"name": "", "arity": 1}, nothing, "one printable ASCII word"),
        ({"name": "A", "arity": 0}, nothing, "the arity of A is 0"),
        ({"name": "A", "arity": 1, "kind": "both"}, nothing, "it must be 'read' or 'write'"),
        ({"name": "A", "arity": 2}, nothing, "must take self, the context and 1 arguments"),
        ({"name": "A", "arity": -1}, nothing, "must take self, the context and 1 arguments"),
        ({"name": "A", "arity": 2}, typed, "argument argument of A is annotated with complex"),
    ],
)
def test_a_declaration_that_does_not_fit_says_why(options: dict[str, Any], function: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        command(options.pop("name"), **options)(function)


def test_replies_are_copied_into_what_redis_has_a_form_for() -> None:
    inner = [1]
    reply = to_reply({"a": (None, True, 1.5, "ä", b"\xff", inner), "ok": OK})
    inner.append(2)
    assert reply == {b"a": [None, True, 1.5, "ä".encode(), b"\xff", [1]], b"ok": OK}
    with pytest.raises(TypeError, match="replies with a set"):
        to_reply([{1}])
    assert to_reply([-(1 << 63), (1 << 63) - 1]) == [-(1 << 63), (1 << 63) - 1]
    with pytest.raises(OverflowError, match="more than 64 bits"):
        to_reply([1 << 63])
