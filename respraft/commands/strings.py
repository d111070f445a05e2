"""The string commands.

What a command refuses, it refuses before its first write and before it allocates: offsets, counts and
resulting lengths are checked first. All numbers are Redis's (`numbers.py`), all error texts as well.
"""

from fractions import Fraction
from typing import Final, NamedTuple

from respraft.commands.context import Context
from respraft.commands.expiry import TIME_UNITS, TimeUnit, deadline_of_option
from respraft.commands.numbers import (
    INT64_MIN,
    add_long_doubles,
    format_long_double,
    parse_int64,
    parse_long_double,
)
from respraft.commands.record import NO_DEADLINE
from respraft.resp.errors import (
    ReplyError,
    string_too_long,
    syntax_error,
    wrong_arity,
    wrong_type,
)
from respraft.resp.replies import OK, SimpleString

STRING_BYTES_MAX: Final = 64 << 20
"""Longest value that APPEND and SETRANGE may build: Redis's rule with the default of client.bulk_bytes_max
for its proto-max-bulk-len. A constant, because all nodes must refuse the same commands."""


class SetOptions(NamedTuple):
    """What follows the value in SET."""

    only_if_missing: bool  # NX
    only_if_present: bool  # XX
    returns_old: bool  # GET
    keeps_deadline: bool  # KEEPTTL
    unit: TimeUnit | None  # EX, PX, EXAT or PXAT
    amount: bytes  # What follows the unit.


def get(ctx: Context, args: list[bytes]) -> bytes | None:
    """GET key."""
    return ctx.get_string(args[1])


def set_(ctx: Context, args: list[bytes]) -> SimpleString | bytes | None:
    """SET key value [NX | XX] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL]."""
    if len(args) == 3:
        ctx.set_string(args[1], args[2])
        return OK
    return _set_with_options(ctx, args)


def setnx(ctx: Context, args: list[bytes]) -> int:
    """SETNX key value."""
    if ctx.exists(args[1]):
        return 0
    ctx.set_string(args[1], args[2])
    return 1


def setex(ctx: Context, args: list[bytes]) -> SimpleString:
    """SETEX key seconds value."""
    deadline = deadline_of_option(ctx.now_ms, args[2], TIME_UNITS[b"EX"], "setex")
    ctx.set_string(args[1], args[3], deadline=deadline)
    return OK


def psetex(ctx: Context, args: list[bytes]) -> SimpleString:
    """PSETEX key milliseconds value."""
    deadline = deadline_of_option(ctx.now_ms, args[2], TIME_UNITS[b"PX"], "psetex")
    ctx.set_string(args[1], args[3], deadline=deadline)
    return OK


def getset(ctx: Context, args: list[bytes]) -> bytes | None:
    """GETSET key value."""
    old = ctx.get_string(args[1])
    ctx.set_string(args[1], args[2])
    return old


def getdel(ctx: Context, args: list[bytes]) -> bytes | None:
    """GETDEL key."""
    old = ctx.get_string(args[1])
    if old is not None:
        ctx.delete(args[1])
    return old


def getex(ctx: Context, args: list[bytes]) -> bytes | None:
    """GETEX key [EX | PX | EXAT | PXAT time | PERSIST]."""
    persists, unit, amount = _parse_getex_options(args)
    key = args[1]
    value = ctx.get_string(key)
    if value is None:  # The time is not even looked at, as in Redis.
        return None
    if unit is not None:
        ctx.set_deadline(key, deadline_of_option(ctx.now_ms, amount, unit, "getex"))
    elif persists:
        ctx.set_deadline(key, NO_DEADLINE)
    return value


def mget(ctx: Context, args: list[bytes]) -> list[bytes | None]:
    """MGET key [key ...]: a key of another type counts as missing."""
    ctx.spend(len(args) - 1)
    return [_string_or_none(ctx, key) for key in args[1:]]


def mset(ctx: Context, args: list[bytes]) -> SimpleString:
    """MSET key value [key value ...]."""
    _check_pairs(ctx, args, "mset")
    _set_pairs(ctx, args)
    return OK


def msetnx(ctx: Context, args: list[bytes]) -> int:
    """MSETNX key value [key value ...]: all, or none if one of them exists."""
    _check_pairs(ctx, args, "msetnx")
    if any(ctx.exists(key) for key in args[1::2]):
        return 0
    _set_pairs(ctx, args)
    return 1


def append(ctx: Context, args: list[bytes]) -> int:
    """APPEND key value."""
    old = ctx.get_string(args[1]) or b""
    length = len(old) + len(args[2])
    if length > STRING_BYTES_MAX:
        raise string_too_long()
    ctx.replace_value(args[1], old + args[2])
    return length


def strlen(ctx: Context, args: list[bytes]) -> int:
    """STRLEN key."""
    return len(ctx.get_string(args[1]) or b"")


def getrange(ctx: Context, args: list[bytes]) -> bytes:
    """GETRANGE key start end, both ends included, negative from the end; also SUBSTR."""
    start, end = parse_int64(args[2]), parse_int64(args[3])
    value = ctx.get_string(args[1]) or b""
    if start < 0 and end < 0 and start > end:
        return b""
    if start < 0:
        start = max(start + len(value), 0)
    if end < 0:
        end = max(end + len(value), 0)
    return value[start : end + 1]


def setrange(ctx: Context, args: list[bytes]) -> int:
    """SETRANGE key offset value: what lies between the old end and the offset becomes zero bytes."""
    key, patch = args[1], args[3]
    offset = parse_int64(args[2])
    if offset < 0:
        raise ReplyError("ERR", "offset is out of range")
    old = ctx.get_string(key) or b""
    if not patch:
        return len(old)
    end = offset + len(patch)
    if end > STRING_BYTES_MAX:
        raise string_too_long()
    value = b"".join((old[:offset].ljust(offset, b"\0"), patch, old[end:]))
    ctx.replace_value(key, value)
    return len(value)


def incr(ctx: Context, args: list[bytes]) -> int:
    """INCR key."""
    return ctx.increment(args[1], 1)


def decr(ctx: Context, args: list[bytes]) -> int:
    """DECR key."""
    return ctx.increment(args[1], -1)


def incrby(ctx: Context, args: list[bytes]) -> int:
    """INCRBY key increment."""
    return ctx.increment(args[1], parse_int64(args[2]))


def decrby(ctx: Context, args: list[bytes]) -> int:
    """DECRBY key decrement."""
    decrement = parse_int64(args[2])
    if decrement == INT64_MIN:  # Its negation is no 64-bit integer.
        raise ReplyError("ERR", "decrement would overflow")
    return ctx.increment(args[1], -decrement)


def incrbyfloat(ctx: Context, args: list[bytes]) -> bytes:
    """INCRBYFLOAT key increment."""
    stored = ctx.get_string(args[1])
    value = Fraction(0) if stored is None else parse_long_double(stored)
    total = add_long_doubles(value, parse_long_double(args[2]))
    if total is None:
        raise ReplyError("ERR", "increment would produce NaN or Infinity")
    text = format_long_double(total)
    ctx.replace_value(args[1], text)
    return text


def _set_with_options(ctx: Context, args: list[bytes]) -> SimpleString | bytes | None:
    key = args[1]
    options = _parse_set_options(args)
    deadline = NO_DEADLINE
    if options.unit is not None:
        deadline = deadline_of_option(ctx.now_ms, options.amount, options.unit, "set")
    old = ctx.get_string(key) if options.returns_old else None
    if (options.only_if_missing and ctx.exists(key)) or (options.only_if_present and not ctx.exists(key)):
        return old
    if options.keeps_deadline:
        record = ctx.find(key)
        deadline = NO_DEADLINE if record is None else record.deadline
    ctx.set_string(key, args[2], deadline=deadline)
    return old if options.returns_old else OK


def _parse_set_options(args: list[bytes]) -> SetOptions:
    """Parse what follows the value. Options may repeat, the last time counts; opposites are an error."""
    only_if_missing = only_if_present = returns_old = keeps_deadline = False
    unit: TimeUnit | None = None
    amount = b""
    at = 3
    while at < len(args):
        option = args[at].upper()
        if option == b"NX" and not only_if_present:
            only_if_missing = True
        elif option == b"XX" and not only_if_missing:
            only_if_present = True
        elif option == b"GET":
            returns_old = True
        elif option == b"KEEPTTL" and unit is None:
            keeps_deadline = True
        elif not keeps_deadline and _continues(unit, option) and at + 1 < len(args):
            unit, amount = TIME_UNITS[option], args[at + 1]
            at += 1
        else:
            raise syntax_error()
        at += 1
    return SetOptions(only_if_missing, only_if_present, returns_old, keeps_deadline, unit, amount)


def _parse_getex_options(args: list[bytes]) -> tuple[bool, TimeUnit | None, bytes]:
    """Return whether PERSIST is given, the time's unit, and the time."""
    persists = False
    unit: TimeUnit | None = None
    amount = b""
    at = 2
    while at < len(args):
        option = args[at].upper()
        if option == b"PERSIST" and unit is None:
            persists = True
        elif not persists and _continues(unit, option) and at + 1 < len(args):
            unit, amount = TIME_UNITS[option], args[at + 1]
            at += 1
        else:
            raise syntax_error()
        at += 1
    return persists, unit, amount


def _continues(unit: TimeUnit | None, option: bytes) -> bool:
    """Tell whether `option` is a time and does not contradict the one before it, if any."""
    return option in TIME_UNITS and unit in (None, TIME_UNITS[option])


def _string_or_none(ctx: Context, key: bytes) -> bytes | None:
    try:
        return ctx.get_string(key)
    except ReplyError as error:
        if error != wrong_type():
            raise
        return None


def _check_pairs(ctx: Context, args: list[bytes], command: str) -> None:
    if len(args) % 2 == 0:
        raise wrong_arity(command)
    ctx.spend(len(args) // 2)


def _set_pairs(ctx: Context, args: list[bytes]) -> None:
    for at in range(1, len(args), 2):
        ctx.set_string(args[at], args[at + 1])
