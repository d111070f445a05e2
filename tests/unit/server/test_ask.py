"""Asking another node over its Redis port: replies, errors, silence, and what a stranger may answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from respraft.resp.errors import ReplyError
from respraft.server.ask import BULK_BYTES_MAX, ELEMENTS_MAX, CannotConnect, NoAnswer, ask
from tests.process.ports import free_ports

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A server that does this to every connection; yields its address."""
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        await answer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*busy)


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def asked(reply: bytes, *, timeout_s: float = 60.0) -> tuple[bytes, Any]:
    """Ask somebody who replies so and hangs up; returns what came there, and the outcome."""
    seen = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"LIST\r\n"))
        writer.write(reply)
        await end(writer)

    async def run() -> Any:
        async with answering(answer) as address:
            return await ask(address, "RAFT.NODE", "LIST", timeout_s=timeout_s)

    outcome = asyncio.run(run())
    return bytes(seen), outcome


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (b"+OK\r\n", b"OK"),
        (b":42\r\n", 42),
        (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*2\r\n:1\r\n*2\r\n$0\r\n\r\n$-1\r\n", [1, [b"", None]]),
    ],
)
def test_replies(reply: bytes, value: object) -> None:
    sent, outcome = asked(reply)
    assert sent == b"*2\r\n$9\r\nRAFT.NODE\r\n$4\r\nLIST\r\n"
    assert outcome == value


def test_an_error_is_raised_with_its_code() -> None:
    with pytest.raises(ReplyError) as error:
        asked(b"-INPROG another change\r\n")
    assert (error.value.code, error.value.text) == ("INPROG", "another change")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+no end",
        b"$10\r\nshort\r\n",
        b"$x\r\n",
        b"$-7\r\n",
        b"$%d\r\n" % (BULK_BYTES_MAX + 1),
        b"*%d\r\n" % (ELEMENTS_MAX + 1),
        b"*1\r\n" * 20 + b":1\r\n",
        b"+" + b"x" * 100_000 + b"\r\n",
    ],
)
def test_what_is_no_answer_is_refused_and_ends(reply: bytes) -> None:
    with pytest.raises(NoAnswer) as error:
        asked(reply)
    assert not isinstance(error.value, CannotConnect), "the command was sent"


def test_an_early_end_is_called_so() -> None:
    with pytest.raises(NoAnswer, match="it closed the connection"):
        asked(b"")


def test_silence_ends_with_the_time_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await end(writer)

    async def run() -> None:
        async with answering(silent) as address:
            with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
                await ask(address, "PING", timeout_s=0.05)

    asyncio.run(run())


def test_where_nobody_listens_nothing_was_sent() -> None:
    (port,) = free_ports(1)

    async def run() -> None:
        for address in (f"127.0.0.1:{port}", "no address", "127.0.0.1:99999"):
            with pytest.raises(CannotConnect):
                await ask(address, "PING", timeout_s=1)

    asyncio.run(run())
