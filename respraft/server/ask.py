"""Asks another node something over its Redis port: one connection, one command, one reply.

For what nodes say to each other before there is a peer link between them (`joining.py`). The reply is parsed
with limits of its own, since whoever answers at an address that an operator typed may be anybody.
"""

import asyncio
import contextlib
from typing import Any, Final

from respraft.config import ConfigError
from respraft.config import parse_address as parse
from respraft.resp.errors import ReplyError

CONNECT_S: Final = 2.0
"""A node that does not take a connection by then is taken for unreachable."""
LINE_BYTES_MAX: Final = 64 << 10
BULK_BYTES_MAX: Final = 1 << 20
ELEMENTS_MAX: Final = 4096
DEPTH_MAX: Final = 8


class NoAnswer(Exception):
    """Nobody answers there, or it is no Redis server. Nothing is known of a command that was sent."""


class CannotConnect(NoAnswer):
    """Nobody takes connections there: no command was sent."""


async def ask(address: str, *words: str, timeout_s: float) -> Any:
    """Return the reply to one command: bytes, int, list, None; a simple string as bytes.

    Raises:
        CannotConnect: Nothing was sent.
        NoAnswer: It was sent, and no answer has come in `timeout_s`.
        ReplyError: The answer is an error.
    """
    reader, writer = await _connect(address)
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(_encode(words))
            return await _read(reader, DEPTH_MAX)
    # TimeoutError is an OSError.
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        reason = "" if isinstance(error, EOFError) else str(error)
        if isinstance(error, TimeoutError):
            reason = f"no answer within {timeout_s:g} s"
        raise NoAnswer(f"{address}: {reason or 'it closed the connection'}") from error
    finally:
        await _end(writer)


async def _end(writer: asyncio.StreamWriter) -> None:
    """Close it now, whatever the other side has not read."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        host, port = parse(address)
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection(host, port, limit=LINE_BYTES_MAX)
    except ConfigError as error:
        raise CannotConnect(str(error)) from error
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise CannotConnect(f"{address}: {reason}") from error


def _encode(words: tuple[str, ...]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


async def _read(reader: asyncio.StreamReader, depth: int) -> Any:
    """Read one RESP2 reply. Raises ReplyError for an error, ValueError for what is none."""
    line = await reader.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        code, _, text = rest.decode("utf-8", "replace").partition(" ")
        raise ReplyError(code, text)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        size = int(rest)
        if not -1 <= size <= BULK_BYTES_MAX:
            raise ValueError("it answers with something too long")
        return None if size < 0 else (await reader.readexactly(size + 2))[:-2]
    if kind == b"*":
        count = int(rest)
        if not -1 <= count <= ELEMENTS_MAX or not depth:
            raise ValueError("it answers with something too long")
        return None if count < 0 else [await _read(reader, depth - 1) for _ in range(count)]
    raise ValueError("no Redis server answers there")
