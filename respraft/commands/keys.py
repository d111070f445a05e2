"""Commands on keys of any type, and on whole databases."""

from collections.abc import Callable
from typing import Final

from respraft.commands.context import Context
from respraft.commands.numbers import parse_int32
from respraft.commands.record import DATABASES, STRING
from respraft.resp.errors import ReplyError, database_out_of_range, no_such_key, syntax_error
from respraft.resp.replies import OK, SimpleString

TYPE_NAMES: Final = {STRING: "string"}
"""What TYPE and SCAN ... TYPE call a record's type."""

_NO_TYPE: Final = SimpleString("none")
_TYPES: Final = {kind: SimpleString(name) for kind, name in TYPE_NAMES.items()}


def del_(ctx: Context, args: list[bytes]) -> int:
    """DEL key [key ...]; also UNLINK, as removing a key is one small write however large its value is."""
    return _count(ctx, args, ctx.delete)


def exists(ctx: Context, args: list[bytes]) -> int:
    """EXISTS key [key ...]: a key named twice counts twice; also TOUCH, as nothing here is evicted."""
    return _count(ctx, args, ctx.exists)


def type_(ctx: Context, args: list[bytes]) -> SimpleString:
    """TYPE key."""
    record = ctx.find(args[1])
    return _NO_TYPE if record is None else _TYPES[record.type]


def rename(ctx: Context, args: list[bytes]) -> SimpleString:
    """RENAME key newkey."""
    source, target = args[1], args[2]
    if not ctx.exists(source):
        raise no_such_key()
    if source != target:
        ctx.rename(source, target)
    return OK


def renamenx(ctx: Context, args: list[bytes]) -> int:
    """RENAMENX key newkey."""
    source, target = args[1], args[2]
    if not ctx.exists(source):
        raise no_such_key()
    if ctx.exists(target):
        return 0
    ctx.rename(source, target)
    return 1


def copy(ctx: Context, args: list[bytes]) -> int:
    """COPY source destination [DB destination-db] [REPLACE]."""
    source, target = args[1], args[2]
    database, replaces = _parse_copy_options(ctx, args)
    if source == target and database == ctx.database:
        raise ReplyError("ERR", "source and destination objects are the same")
    if not ctx.exists(source):
        return 0
    if not replaces and ctx.exists_in(database, target):
        return 0
    ctx.copy(source, target, target_database=database)
    return 1


def randomkey(ctx: Context, _args: list[bytes]) -> bytes | None:
    """RANDOMKEY."""
    return ctx.random_key()


def dbsize(ctx: Context, _args: list[bytes]) -> int:
    """DBSIZE."""
    return ctx.count()


def flushdb(ctx: Context, args: list[bytes]) -> SimpleString:
    """FLUSHDB [ASYNC | SYNC]: both are the same here, one small write."""
    _check_flush_option(args)
    ctx.clear(ctx.database)
    return OK


def flushall(ctx: Context, args: list[bytes]) -> SimpleString:
    """FLUSHALL [ASYNC | SYNC]: both are the same here, one small write."""
    _check_flush_option(args)
    ctx.clear(None)
    return OK


def _count(ctx: Context, args: list[bytes], test: Callable[[bytes], bool]) -> int:
    ctx.spend(len(args) - 1)
    return sum(1 for key in args[1:] if test(key))


def _parse_copy_options(ctx: Context, args: list[bytes]) -> tuple[int, bool]:
    """Return the target database and whether an existing target is replaced."""
    database = ctx.database
    replaces = False
    at = 3
    while at < len(args):
        option = args[at].upper()
        if option == b"REPLACE":
            replaces = True
        elif option == b"DB" and at + 1 < len(args):
            at += 1
            database = parse_int32(args[at])
            if not 0 <= database < DATABASES:
                raise database_out_of_range()
        else:
            raise syntax_error()
        at += 1
    return database, replaces


def _check_flush_option(args: list[bytes]) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise syntax_error()
