"""KEYS and SCAN: going through the keyspace.

The cursor is the keyspace's own (`Context.scan`): a place in an order that all nodes share. So a scan may
go on at another node, and nothing is kept between two calls.
"""

import re
from typing import Final

from respraft.commands.context import Context
from respraft.commands.glob import compile_glob
from respraft.commands.keys import TYPE_NAMES
from respraft.commands.numbers import parse_int64
from respraft.resp.errors import ReplyError, syntax_error

SCAN_COUNT: Final = 10
"""Keys that one SCAN looks at unless it asks for another number, as in Redis."""

SCAN_COUNT_MAX: Final = 10_000
"""Most keys that one SCAN looks at, whatever it asks for: some 30 ms. COUNT is a hint, in Redis as well."""

_CURSOR: Final = re.compile(rb"([+-]?)([0-9]{0,40})")
_CURSORS: Final = 1 << 64


def keys(ctx: Context, args: list[bytes]) -> list[bytes]:
    """KEYS pattern."""
    matches = compile_glob(args[1])
    return list(filter(matches, ctx.keys()))


def scan(ctx: Context, args: list[bytes]) -> list[bytes | list[bytes]]:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]."""
    cursor = _parse_cursor(args[1])
    pattern, count, type_name = _parse_scan_options(args)
    matches = compile_glob(pattern)
    following, found = ctx.scan(cursor, min(count, SCAN_COUNT_MAX))
    found = list(filter(matches, found))
    if type_name is not None:
        found = [key for key in found if _has_type(ctx, key, type_name)]
    return [b"%d" % following, found]


def _parse_cursor(text: bytes) -> int:
    """Return the cursor as C's strtoul reads it: unsigned, 64 bits, a minus wraps around, up to a NUL."""
    match = _CURSOR.fullmatch(text.partition(b"\0")[0])
    if match is None or (match[1] and not match[2]):
        raise ReplyError("ERR", "invalid cursor")
    value = int(match[2] or b"0")
    if value >= _CURSORS:
        raise ReplyError("ERR", "invalid cursor")
    return -value % _CURSORS if match[1] == b"-" else value


def _parse_scan_options(args: list[bytes]) -> tuple[bytes, int, str | None]:
    """Return pattern, count, and the name of the type that is asked for, if any."""
    pattern, count, type_name = b"*", SCAN_COUNT, None
    for at in range(2, len(args), 2):
        option = args[at].upper()
        if at + 1 == len(args):
            raise syntax_error()
        if option == b"COUNT":
            count = parse_int64(args[at + 1])
            if count < 1:
                raise syntax_error()
        elif option == b"MATCH":
            pattern = args[at + 1]
        elif option == b"TYPE":
            type_name = args[at + 1].decode("latin-1").lower()
        else:
            raise syntax_error()
    return pattern, count, type_name


def _has_type(ctx: Context, key: bytes, name: str) -> bool:
    record = ctx.find(key)
    return record is not None and TYPE_NAMES[record.type] == name
