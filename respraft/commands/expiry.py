"""Deadlines: the commands that set, show and remove them, and the arithmetic that SET and GETEX share.

A deadline is a moment in Unix ms. Relative times become deadlines here, with the command's now, which for a
write is the log's time; so every node computes the same one. A key is gone once now has *reached* it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from respraft.commands.context import Context
from respraft.commands.numbers import INT64_MAX, INT64_MIN, parse_int64
from respraft.commands.record import NO_DEADLINE
from respraft.resp.errors import ReplyError, invalid_expire_time, quoted

NO_KEY: Final = -2
"""What TTL and its like say of a key that does not exist."""
NO_EXPIRY: Final = -1
"""What TTL and its like say of a key that never expires."""

_SECOND_MS: Final = 1000
_HALF_SECOND_MS: Final = 500


class TimeUnit(NamedTuple):
    """How a number given by a client becomes a moment."""

    scale: int  # Milliseconds in one.
    relative: bool  # Counted from now, rather than from 1970.


TIME_UNITS: Final = {
    b"EX": TimeUnit(_SECOND_MS, relative=True),
    b"PX": TimeUnit(1, relative=True),
    b"EXAT": TimeUnit(_SECOND_MS, relative=False),
    b"PXAT": TimeUnit(1, relative=False),
}
"""The options of SET and GETEX that say when a key expires."""


def deadline_of_option(now_ms: int, amount: bytes, unit: TimeUnit, command: str) -> int:
    """Return the deadline that an option such as EX 10 asks for; `command` goes into the error text.

    Raises:
        ReplyError: `amount` is no integer, not above zero, or leads beyond 64 bits.
    """
    given = parse_int64(amount)
    deadline = given * unit.scale
    if unit.relative:
        deadline += now_ms
    if given <= 0 or deadline > INT64_MAX:
        raise invalid_expire_time(command)
    return deadline


def expire(ctx: Context, args: list[bytes]) -> int:
    """EXPIRE key seconds [NX | XX | GT | LT]."""
    return _expire(ctx, args, TIME_UNITS[b"EX"], "expire")


def pexpire(ctx: Context, args: list[bytes]) -> int:
    """PEXPIRE key milliseconds [NX | XX | GT | LT]."""
    return _expire(ctx, args, TIME_UNITS[b"PX"], "pexpire")


def expireat(ctx: Context, args: list[bytes]) -> int:
    """EXPIREAT key unix-time-seconds [NX | XX | GT | LT]."""
    return _expire(ctx, args, TIME_UNITS[b"EXAT"], "expireat")


def pexpireat(ctx: Context, args: list[bytes]) -> int:
    """PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]."""
    return _expire(ctx, args, TIME_UNITS[b"PXAT"], "pexpireat")


def persist(ctx: Context, args: list[bytes]) -> int:
    """PERSIST key: 1 when there was a deadline to take away."""
    record = ctx.find(args[1])
    if record is None or record.deadline == NO_DEADLINE:
        return 0
    ctx.set_deadline(args[1], NO_DEADLINE)
    return 1


def ttl(ctx: Context, args: list[bytes]) -> int:
    """TTL key, in seconds, rounded as Redis rounds."""
    left_ms = pttl(ctx, args)
    return left_ms if left_ms < 0 else (left_ms + _HALF_SECOND_MS) // _SECOND_MS


def pttl(ctx: Context, args: list[bytes]) -> int:
    """PTTL key, in milliseconds."""
    deadline = pexpiretime(ctx, args)
    return deadline if deadline < 0 else deadline - ctx.now_ms


def expiretime(ctx: Context, args: list[bytes]) -> int:
    """EXPIRETIME key, in Unix seconds."""
    deadline = pexpiretime(ctx, args)
    return deadline if deadline < 0 else (deadline + _HALF_SECOND_MS) // _SECOND_MS


def pexpiretime(ctx: Context, args: list[bytes]) -> int:
    """PEXPIRETIME key, in Unix milliseconds."""
    record = ctx.find(args[1])
    if record is None:
        return NO_KEY
    return record.deadline or NO_EXPIRY


def _expire(ctx: Context, args: list[bytes], unit: TimeUnit, command: str) -> int:
    """Give a key a deadline, or remove it if the deadline is past; 1 when either was done."""
    conditions = _parse_conditions(args[3:])
    deadline = parse_int64(args[2]) * unit.scale
    if not INT64_MIN <= deadline <= INT64_MAX:
        raise invalid_expire_time(command)
    if unit.relative:
        deadline += ctx.now_ms
        if deadline > INT64_MAX:
            raise invalid_expire_time(command)
    key = args[1]
    record = ctx.find(key)
    if record is None or not _holds(conditions, record.deadline, deadline):
        return 0
    if deadline <= ctx.now_ms:  # Told apart from NO_DEADLINE here: it may well be 0, or negative.
        ctx.delete(key)
    else:
        ctx.set_deadline(key, deadline)
    return 1


def _parse_conditions(options: Sequence[bytes]) -> frozenset[bytes]:
    conditions = frozenset(option.upper() for option in options)
    if not conditions:
        return conditions
    for option in options:
        if option.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            raise ReplyError("ERR", f"Unsupported option {quoted(option)}")
    if b"NX" in conditions and len(conditions) > 1:
        raise ReplyError("ERR", "NX and XX, GT or LT options at the same time are not compatible")
    if b"GT" in conditions and b"LT" in conditions:
        raise ReplyError("ERR", "GT and LT options at the same time are not compatible")
    return conditions


def _holds(conditions: frozenset[bytes], current: int, wanted: int) -> bool:
    """Tell whether every condition allows `wanted` in place of `current`. No deadline is the latest one."""
    if not conditions:
        return True
    has_deadline = current != NO_DEADLINE
    if b"NX" in conditions and has_deadline:
        return False
    if b"XX" in conditions and not has_deadline:
        return False
    if b"GT" in conditions and (not has_deadline or wanted <= current):
        return False
    return not (b"LT" in conditions and has_deadline and wanted >= current)
