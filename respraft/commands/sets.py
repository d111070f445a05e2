"""SETs that do nothing but set: those of a batch are found here, and run together (`Overlay.set_strings`).

    SET key value | SET key value EX seconds | SET key value PX milliseconds
    SETEX key seconds value | PSETEX key milliseconds value

Most writes are one of these, and neighbours among them need no function called for each. A time to live that
is refused goes the usual way, through the command's function.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from respraft.columns import Columns
from respraft.commands.expiry import TIME_UNITS, TimeUnit, deadline_of_option
from respraft.commands.record import NO_DEADLINE
from respraft.commands.spec import CommandFunction, CommandSpec
from respraft.resp.errors import ReplyError

_KEY: Final = itemgetter(1)
_VALUE: Final = itemgetter(2)


@dataclass(slots=True)
class SetColumns:
    """SETs, by columns."""

    keys: list[bytes]
    values: list[bytes]
    deadlines: list[int] | None
    """NO_DEADLINE for none; None: there is none at all."""

    def part(self, start: int, end: int) -> "SetColumns":
        """Return some of them."""
        deadlines = self.deadlines
        return SetColumns(
            self.keys[start:end],
            self.values[start:end],
            None if deadlines is None else deadlines[start:end],
        )


class Sets:
    """The SETs of one command table."""

    __slots__ = ("_deadlines", "_lookup", "_now_ms", "_set", "_with_ttl")

    def __init__(self, lookup: Callable[[bytes], CommandSpec | None]) -> None:
        """Look up the commands, those that there are."""
        self._lookup = lookup
        self._set = _function_of(lookup, b"SET")
        self._with_ttl: dict[CommandFunction, TimeUnit] = {}
        for name, unit in ((b"SETEX", b"EX"), (b"PSETEX", b"PX")):
            if (function := _function_of(lookup, name)) is not None:
                self._with_ttl[function] = TIME_UNITS[unit]
        self._now_ms = 0
        self._deadlines: dict[tuple[bytes, int], int | None] = {}  # A batch usually has one or two.

    def begin(self, now_ms: int) -> None:
        """From here on it is that time, in Unix ms."""
        self._now_ms = now_ms
        self._deadlines.clear()

    def all_of(self, commands: Sequence[list[bytes]]) -> SetColumns | None:
        """Return all commands by columns if no look at each of them is needed for it; None: look."""
        if isinstance(commands, Columns):
            return self._from_columns(commands)
        if set(map(len, commands)) != {3}:
            return None
        for name in set(map(itemgetter(0), commands)):
            spec = self._lookup(name)
            if spec is None or spec.function is not self._set:
                return None
        return SetColumns(list(map(_KEY, commands)), list(map(_VALUE, commands)), None)

    def deadline_of(self, function: CommandFunction, args: list[bytes]) -> int | None:
        """Return the deadline, or NO_DEADLINE, if the command does nothing but set a string; else None."""
        words = len(args)
        if function is self._set:
            if words == 3:
                return NO_DEADLINE
            unit = TIME_UNITS.get(args[3].upper()) if words == 5 else None
            return self._deadline(args[4], unit) if unit is not None else None
        unit = self._with_ttl.get(function)
        return self._deadline(args[2], unit) if unit is not None and words == 4 else None

    def _from_columns(self, commands: Columns) -> SetColumns | None:
        spec = self._lookup(commands.name)
        function = None if spec is None else spec.function
        if function is None:
            return None
        arguments = commands.arguments
        if function is self._set:
            keys, values = arguments[0], arguments[1] if len(arguments) > 1 else []
            if len(arguments) == 2:
                return SetColumns(keys, values, None)
            units = {word.upper() for word in set(arguments[2])} if len(arguments) == 4 else set()
            unit = TIME_UNITS.get(units.pop()) if len(units) == 1 else None
            amounts = arguments[-1]
        elif len(arguments) == 3:
            keys, amounts, values = arguments
            unit = self._with_ttl.get(function)
        else:
            return None
        if unit is None:
            return None
        deadlines = {amount: self._deadline(amount, unit) for amount in set(amounts)}
        if None in deadlines.values():
            return None
        return SetColumns(keys, values, [deadlines[amount] or NO_DEADLINE for amount in amounts])

    def _deadline(self, amount: bytes, unit: TimeUnit) -> int | None:
        if not unit.relative:
            return None  # It may have been reached, which deletes the key.
        known = self._deadlines.get((amount, unit.scale), NO_DEADLINE)
        if known != NO_DEADLINE:
            return known
        deadline: int | None = None
        with suppress(ReplyError):
            deadline = deadline_of_option(self._now_ms, amount, unit, "set")
        self._deadlines[amount, unit.scale] = deadline
        return deadline


def columns_of(commands: list[list[bytes]], deadlines: list[int | None]) -> SetColumns:
    """Return those of commands for which `Sets.deadline_of` has an answer, each at its place among all."""
    keys: list[bytes] = []
    values: list[bytes] = []
    for args, deadline in zip(commands, deadlines, strict=True):
        keys.append(b"" if deadline is None else args[1])
        values.append(b"" if deadline is None else args[3 if len(args) == 4 else 2])
    return SetColumns(
        keys, values, [deadline or NO_DEADLINE for deadline in deadlines] if any(deadlines) else None
    )


def _function_of(lookup: Callable[[bytes], CommandSpec | None], name: bytes) -> CommandFunction | None:
    spec = lookup(name)
    return None if spec is None else spec.function
