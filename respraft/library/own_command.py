"""Redis commands of a user's machine: `@command` makes a method one, and any Redis client can call it.

    class Leaderboard(respraft.Machine):
        @respraft.command("BOARD.ADD", arity=4, kind="write", keys=1)
        def add(self, context, board: str, player: str, points: int) -> int:
            \"\"\"Give a player points; return how many there are now.\"\"\"

Each becomes a row of the server's command table (`commands/spec.py`), so COMMAND, COMMAND DOCS, arity errors
and routing are those of every other command.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, TypeVar

from respraft.commands.numbers import INT64_MAX, INT64_MIN, parse_int64
from respraft.commands.spec import NO_KEYS, OPTIONAL, Argument, CommandSpec, KeyRange, Kind
from respraft.library.errors import CommandError
from respraft.resp.errors import ReplyError, not_a_float, wrong_arity
from respraft.resp.replies import NULL_ARRAY, Reply, SetReply, SimpleString

DECLARED: Final = "respraft_command"
"""Attribute of a function that `command` has declared: its OwnCommand."""

READ: Final = "read"
WRITE: Final = "write"

_FLAGS: Final = {READ: ("readonly",), WRITE: ("write",)}
_ACCESS: Final = {READ: (("RO", "ACCESS"),), WRITE: (("RW", "UPDATE"),)}
_AS_IT_IS: Final = (bytes, SimpleString, SetReply, type(NULL_ARRAY))

Function = TypeVar("Function", bound=Callable[..., Any])
Parser = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """One command of a machine: what clients may know of it, and how its method is called."""

    spec: CommandSpec
    function: Callable[..., Any]
    parsers: tuple[Parser, ...]
    """One for each argument that the method names."""
    rest: Parser | None
    """For the arguments behind those; None when there may be none."""

    def call(self, machine: object, context: object, args: Sequence[bytes]) -> Reply:
        """Run the command on a machine.

        Args:
            machine: Of the class that declares the command.
            context: What its method gets besides the arguments.
            args: The words of the command, name first. Their number was checked against the arity.

        Raises:
            CommandError: An argument is not what the method asks for, or the method refuses.
            Exception: Whatever the method raises, or its reply is one that Redis has no form for.
        """
        words = args[1:]
        parsers = self.parsers
        if len(words) > len(parsers):
            if self.rest is None:
                raise _refusal(wrong_arity(self.spec.full_name))
            parsers += (self.rest,) * (len(words) - len(parsers))
        try:
            values = [parse(word) for parse, word in zip(parsers, words, strict=False)]
        except ReplyError as error:
            raise _refusal(error) from None
        return to_reply(self.function(machine, context, *values))


def command(
    name: str, *, arity: int, kind: str = WRITE, keys: int | tuple[int, int, int] | None = None
) -> Callable[[Function], Function]:
    """Make a method of a machine a Redis command: any Redis client can call it by its name.

    The method takes the context and the command's arguments, each of which is bytes unless an annotation says
    `str`, `int` or `float`; an argument that is no such thing is refused before the method is called. It
    returns None, bool, int, float, bytes, str, or lists, tuples and dicts of those. The first line of its
    docstring is what COMMAND DOCS says of it.

    Args:
        name: As clients say it, in any case: one word, by custom with a dot in it, `BOARD.ADD`.
        arity: Number of words, the name included; negative: at least so many, as in Redis's own table.
        kind: "write": logged, and executed on every node. "read": on the state of the node that was asked,
            linearizable all the same; it must change nothing.
        keys: Which words are keys, for clients that want to know: the position of the only one, or (first,
            last, step) as COMMAND INFO has it. Nothing here depends on it.

    Raises:
        ValueError: The arguments do not fit together, or do not fit the method.
    """
    if not name or not name.isascii() or not name.isprintable() or " " in name or "|" in name:
        raise ValueError(f"{name!r} is no name for a command; use one printable ASCII word without '|'")
    if kind not in (READ, WRITE):
        raise ValueError(f"the kind of {name} is {kind!r}; it must be {READ!r} or {WRITE!r}")
    if not arity:
        raise ValueError(f"the arity of {name} is 0; it counts the name, so it is 1 or more, or -1 or less")

    def declare(function: Function) -> Function:
        positional, rest = _parameters(name, arity, function)
        arguments = [
            Argument(each.name, "string", flags=OPTIONAL if each.default is not each.empty else ())
            for each in positional
        ]
        if rest is not None:
            arguments.append(Argument(rest.name, "string", flags=(*OPTIONAL, "multiple")))
        spec = CommandSpec(
            name=name.upper().encode("ascii"),
            arity=arity,
            kind=Kind.WRITE if kind == WRITE else Kind.READ,
            flags=_FLAGS[kind],
            keys=_key_range(keys),
            access=_ACCESS[kind] if keys is not None else (),
            summary=(inspect.getdoc(function) or "").partition("\n")[0].rstrip("."),
            since="1.0.0",
            group="module",
            complexity="",
            arguments=tuple(arguments),
        )
        parsers = tuple(_parser(name, each) for each in positional)
        declared = OwnCommand(spec, function, parsers, None if rest is None else _parser(name, rest))
        setattr(function, DECLARED, declared)
        return function

    return declare


def to_reply(value: object) -> Reply:
    """Return a copy of `value` that can be encoded for a Redis client.

    A copy, since it is encoded only once later commands may have changed what the value was made of.

    Raises:
        TypeError: Redis has no form for it.
        OverflowError: It is, or holds, an integer that clients cannot be expected to read.
    """
    kind = type(value)
    if kind is int and not INT64_MIN <= value <= INT64_MAX:  # type: ignore[operator]
        raise OverflowError(
            "the command replies with an integer of more than 64 bits; reply with text instead"
        )
    if value is None or kind in (bool, int, float) or isinstance(value, _AS_IT_IS):
        return value  # type: ignore[return-value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple):
        return [to_reply(element) for element in value]
    if isinstance(value, Mapping):
        return {to_reply(key): to_reply(element) for key, element in value.items()}
    raise TypeError(
        f"the command replies with a {kind.__name__}, for which Redis has no form; reply with None, bool, "
        "int, float, bytes, str, or lists, tuples and dicts of those"
    )


def _key_range(keys: int | tuple[int, int, int] | None) -> KeyRange:
    if keys is None:
        return NO_KEYS
    return KeyRange(keys, keys, 1) if isinstance(keys, int) else KeyRange(*keys)


def _parameters(
    name: str, arity: int, function: Callable[..., Any]
) -> tuple[list[inspect.Parameter], inspect.Parameter | None]:
    """Return the parameters for the command's arguments, and the one that takes any further ones."""
    signature = inspect.signature(function)
    least = abs(arity) - 1
    for count in (least,) if arity > 0 else (least, least + 1):
        try:
            signature.bind(None, None, *([b""] * count))
        except TypeError as error:
            raise ValueError(
                f"the arity of {name} is {arity}, so its method must take self, the context and {count} "
                f"arguments: {error}"
            ) from None
    positional = [each for each in signature.parameters.values() if each.kind <= each.POSITIONAL_OR_KEYWORD]
    rest = [each for each in signature.parameters.values() if each.kind is each.VAR_POSITIONAL]
    return positional[2:], rest[0] if rest else None


def _parser(name: str, parameter: inspect.Parameter) -> Parser:
    annotation = parameter.annotation
    # A string where the module postpones the evaluation of annotations.
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if annotation is parameter.empty:
        return bytes
    try:
        return _PARSERS[text.partition(" |")[0]]
    except KeyError:
        raise ValueError(
            f"argument {parameter.name} of {name} is annotated with {text}; an argument can be bytes, str, "
            "int or float"
        ) from None


def _float(word: bytes) -> float:
    try:
        value = float(word) if b"_" not in word else float("nan")
    except ValueError:
        raise not_a_float() from None
    if not isfinite(value):
        raise not_a_float()
    return value


def _str(word: bytes) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError:
        raise ReplyError("ERR", "value is not valid UTF-8") from None


def _refusal(error: ReplyError) -> CommandError:
    return CommandError(error.text, error.code)


_PARSERS: Final[dict[str, Parser]] = {"bytes": bytes, "str": _str, "int": parse_int64, "float": _float}
