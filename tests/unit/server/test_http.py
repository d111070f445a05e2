"""The HTTP port, spoken to over real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from respraft.server.http import CONNECTIONS_MAX, HEAD_BYTES_MAX, REQUEST_SECONDS_MAX, HttpServer
from tests.process.ports import free_ports

Read = tuple[int, dict[str, str], bytes]


class Node:
    """What the server is told to say; a test changes it as it goes."""

    def __init__(self) -> None:
        self.live = (True, "the event loop turns")
        self.ready = (True, "leader is node 1")
        self.exposition = b"respraft_term 3.0\n"


def run(scenario: Callable[["Client"], Awaitable[None]], **options: float) -> None:
    """Run a scenario against a server of its own."""

    async def main() -> None:
        async with served(Node(), **options) as client:
            await asyncio.wait_for(scenario(client), timeout=30)

    # Nodes run on uvloop; asyncio's own loop keeps the module honest about what it asks of one.
    uvloop.run(main())
    asyncio.run(main())


@asynccontextmanager
async def served(node: Node, request_seconds_max: float = REQUEST_SECONDS_MAX) -> AsyncIterator["Client"]:
    server = HttpServer(
        live=lambda: node.live,
        ready=lambda: node.ready,
        metrics=lambda: node.exposition,
        request_seconds_max=request_seconds_max,
    )
    [port] = free_ports(1)
    await server.start(f"127.0.0.1:{port}")
    try:
        yield Client(node, server, port)
    finally:
        await server.close()


class Client:
    """Opens connections and reads whole responses."""

    def __init__(self, node: Node, server: HttpServer, port: int) -> None:
        self.node = node
        self.server = server
        self.port = port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: str) -> Read:
        """Send a request on a connection of its own and read the answer."""
        reader, writer = await self.open()
        writer.write(request.encode())
        response = await read_response(reader, with_body=not request.startswith("HEAD"))
        await end(writer)
        return response


async def read_response(reader: asyncio.StreamReader, *, with_body: bool = True) -> Read:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n").split("\r\n")
    fields = dict(line.split(": ", 1) for line in head[1:])
    body = await reader.readexactly(int(fields["Content-Length"])) if with_body else b""
    return int(head[0].split(" ")[1]), fields, body


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def request(path: str, method: str = "GET", *fields: str) -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: node", *fields]) + "\r\n\r\n"


def test_metrics_are_served_as_prometheus_text() -> None:
    async def scenario(client: Client) -> None:
        status, fields, body = await client.ask(request("/metrics"))
        assert (status, body) == (200, b"respraft_term 3.0\n")
        assert fields["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"

    run(scenario)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_a_status_and_a_reason(path: str) -> None:
    async def scenario(client: Client) -> None:
        client.node.live = client.node.ready = (True, "all is well")
        assert (await client.ask(request(path)))[::2] == (200, b"all is well\n")
        client.node.live = client.node.ready = (False, "no leader is known")
        assert (await client.ask(request(path)))[::2] == (503, b"no leader is known\n")

    run(scenario)


def test_live_and_ready_are_different_questions() -> None:
    async def scenario(client: Client) -> None:
        client.node.ready = (False, "no leader is known")
        assert (await client.ask(request("/livez")))[0] == 200
        assert (await client.ask(request("/readyz")))[0] == 503

    run(scenario)


def test_head_has_the_length_but_no_body() -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.open()
        writer.write(request("/metrics", "HEAD", "Connection: close").encode())
        status, fields, _ = await read_response(reader, with_body=False)
        assert (status, fields["Content-Length"]) == (200, "18")
        assert await reader.read() == b""
        await end(writer)

    run(scenario)


def test_a_query_does_not_change_the_path() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.ask(request("/metrics?name=up")))[0] == 200

    run(scenario)


def test_a_connection_is_kept_and_a_head_may_come_byte_by_byte() -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.open()
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):
            for byte in request("/livez").encode():
                writer.write(bytes([byte]))
                await writer.drain()
            status, fields, _ = await read_response(reader)
            assert (status, fields["Connection"]) == (200, "keep-alive")
        await end(writer)

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("GET /livez HTTP/1.1\r\nHost: n\r\n\r\n", True),
        ("GET /livez HTTP/1.1\r\nHost: n\r\nConnection: TE, keep-alive\r\n\r\n", True),
        ("GET /livez HTTP/1.1\r\nHost: n\r\nConnection: TE, Close\r\n\r\n", False),
        ("GET /livez HTTP/1.0\r\n\r\n", False),
        ("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        ("GET /livez HTTP/1.1\r\nHost: n\r\n\r\nGET /livez HTTP/1.1\r\n", False),  # Pipelined.
    ],
)
def test_who_may_keep_the_connection(sent: str, kept: bool) -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.open()
        writer.write(sent.encode())
        status, fields, _ = await read_response(reader)
        assert status == 200
        assert fields["Connection"] == ("keep-alive" if kept else "close")
        if not kept:
            assert await reader.read() == b""
        await end(writer)

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (request("/"), 404, b"there are /metrics, /livez and /readyz\n"),
        (request("/metrics", "DELETE"), 405, b"use GET or HEAD\n"),
        ("hello\r\n\r\n", 400, b"this is not an HTTP request line\n"),
        ("GET  /livez HTTP/1.1\r\n\r\n", 400, b"this is not an HTTP request line\n"),
        ("GET http://x/livez HTTP/1.1\r\n\r\n", 400, b"this is not an HTTP request line\n"),
        ("GET /livez HTTP/2.0\r\n\r\n", 505, b"use HTTP/1.1\n"),
        ("GET /livez HTTP/1.1\r\n\r\n", 400, b"the Host field is missing\n"),
        (request("/livez", "GET", "no colon"), 400, b"this is not an HTTP header field\n"),
        (request("/livez", "GET", " folded: yes"), 400, b"this is not an HTTP header field\n"),
        (request("/livez", "POST", "Content-Length: 3"), 400, b"requests have no body here\n"),
        (request("/livez", "GET", "Transfer-Encoding: chunked"), 400, b"requests have no body here\n"),
    ],
)
def test_refusals_are_plain_text(sent: str, status: int, said: bytes) -> None:
    async def scenario(client: Client) -> None:
        found, fields, body = await client.ask(sent)
        assert (found, body) == (status, said)
        assert fields["Content-Type"].startswith("text/plain")
        assert ("Allow" in fields) == (status == 405)

    run(scenario)


def test_what_is_no_request_ends_the_connection() -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.open()
        writer.write(b"*1\r\n$4\r\nPING\r\n\r\n")
        assert (await read_response(reader))[0] == 400
        assert await reader.read() == b""
        await end(writer)

    run(scenario)


@pytest.mark.parametrize("ended", [b"", b"\r\n\r\n"])
def test_a_long_head_is_refused_whether_it_ends_or_not(ended: bytes) -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.open()
        writer.write(b"GET /livez HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + ended)
        assert (await read_response(reader))[0] == 431
        await end(writer)

    run(scenario)


def test_a_connection_that_never_asks_is_ended() -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.open()
        writer.write(b"GET /livez HTTP/1.1\r\n")
        assert await reader.read() == b""
        await end(writer)

    run(scenario, request_seconds_max=0.02)


def test_one_connection_too_many_is_told_so() -> None:
    async def scenario(client: Client) -> None:
        writers = []
        for _ in range(CONNECTIONS_MAX):
            reader, writer = await client.open()
            writer.write(request("/livez").encode())
            assert (await read_response(reader))[0] == 200
            writers.append(writer)

        reader, writer = await client.open()
        assert (await read_response(reader))[::2] == (503, b"too many connections\n")
        for each in [*writers, writer]:
            await end(each)

    run(scenario)


def test_a_reply_longer_than_the_buffers_of_both_sockets_arrives_whole() -> None:
    async def scenario(client: Client) -> None:
        client.node.exposition = b"x" * (16 << 20)
        reader, writer = await client.open()
        writer.write(request("/metrics").encode())
        status, _, body = await read_response(reader)
        assert (status, len(body)) == (200, 16 << 20)
        writer.write(request("/livez").encode())
        assert (await read_response(reader))[0] == 200
        await end(writer)

    run(scenario)


def test_closing_ends_connections_and_frees_the_port() -> None:
    async def main() -> None:
        async with served(Node()) as client:
            reader, writer = await client.open()
            writer.write(request("/livez").encode())
            await read_response(reader)
            await client.server.close()
            assert await reader.read() == b""
            await end(writer)
            with pytest.raises(ConnectionRefusedError):
                await client.open()

    uvloop.run(main())
    asyncio.run(main())
