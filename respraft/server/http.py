"""The HTTP port of a node: GET /metrics, /livez and /readyz, and nothing else.

    /livez    200 while the process does its work, 503 with the reason otherwise: restart it
    /readyz   200 when clients of this node are served, 503 with the reason otherwise: send them elsewhere
    /metrics  the Prometheus text format

HTTP/1.1 with keep-alive, as far as a scraper, a health check and curl need it: requests have no bodies, and
a pipelined request is not answered but ends the connection. What answers comes in from outside as three
functions; this module knows neither Raft nor metrics.

Everything is bounded: the head of a request, the number of connections, and the time from one complete
request to the next, so that idle connections end as well as slow ones. While a client does not read
its replies, its requests are not read either.
"""

import asyncio
import http
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, NamedTuple, TypeAlias, cast

from respraft.config import parse_address

HEAD_BYTES_MAX: Final = 8 << 10
"""Longest request line with header fields. Scrapers and curl send a few hundred bytes."""
CONNECTIONS_MAX: Final = 64
"""One more is told 503 and closed. A handful of scrapers and health checks come at a time."""
REQUEST_SECONDS_MAX: Final = 60.0
"""A connection that has not completed a request for this long is closed. Prometheus asks every 15 s, as a
rule, and keeps its connection."""

Health: TypeAlias = Callable[[], tuple[bool, str]]
"""Whether it is so, and one line for people that says why or why not."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_TEXT: Final = "text/plain; charset=utf-8"
_PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_METHODS: Final = ("GET", "HEAD")


class HttpServer:
    """Listens on one address and answers from `live`, `ready` and `metrics`, on the event loop."""

    def __init__(
        self,
        *,
        live: Health,
        ready: Health,
        metrics: Callable[[], bytes],
        request_seconds_max: float = REQUEST_SECONDS_MAX,
    ) -> None:
        self.request_seconds_max = request_seconds_max
        self.connections: set[_Connection] = set()
        self._live = live
        self._ready = ready
        self._metrics = metrics
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> None:
        """Listen on `host:port`. Raises OSError where that cannot be had."""
        host, port = parse_address(address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port)

    async def close(self) -> None:
        """Stop listening and end all connections at once."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await self._server.wait_closed()

    def respond(self, method: str, path: str) -> "_Response":
        """Answer one well-formed request."""
        if path not in ("/metrics", "/livez", "/readyz"):
            return _Response(http.HTTPStatus.NOT_FOUND, b"there are /metrics, /livez and /readyz\n")
        if method not in _METHODS:
            return _Response(http.HTTPStatus.METHOD_NOT_ALLOWED, b"use GET or HEAD\n")
        if path == "/metrics":
            return _Response(http.HTTPStatus.OK, self._metrics(), _PROMETHEUS_TEXT)
        healthy, reason = self._live() if path == "/livez" else self._ready()
        status = http.HTTPStatus.OK if healthy else http.HTTPStatus.SERVICE_UNAVAILABLE
        return _Response(status, f"{reason}\n".encode())


class _Response(NamedTuple):
    status: http.HTTPStatus
    body: bytes
    content_type: str = _TEXT

    def encode(self, *, with_body: bool, keep_alive: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
        ]
        if self.status is http.HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append(f"Allow: {', '.join(_METHODS)}")
        head = "\r\n".join(lines).encode("ascii") + _END_OF_HEAD
        return head + self.body if with_body else head


class _Request(NamedTuple):
    method: str
    path: str
    keep_alive: bool


class _BadRequest(Exception):
    """The client sent something else than a request without a body. Told so, then closed."""

    def __init__(self, text: str, status: http.HTTPStatus = http.HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.response = _Response(status, f"{text}\n".encode())


class _Connection(asyncio.Protocol):
    """One client: gathers a head, answers it, waits for the next."""

    _transport: asyncio.Transport
    _deadline: asyncio.TimerHandle

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance.
        self._arm_deadline()
        if len(self._server.connections) >= CONNECTIONS_MAX:
            refusal = _Response(http.HTTPStatus.SERVICE_UNAVAILABLE, b"too many connections\n")
            self._finish(refusal.encode(with_body=True, keep_alive=False))
        else:
            self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._received += data
        try:
            request = self._take_request()
        except _BadRequest as refusal:
            self._finish(refusal.response.encode(with_body=True, keep_alive=False))
            return
        if request is None:
            return
        # Bytes past the head are a pipelined request. Answering those would need a bound of its own.
        keep_alive = request.keep_alive and not self._received
        response = self._server.respond(request.method, request.path)
        encoded = response.encode(with_body=request.method != "HEAD", keep_alive=keep_alive)
        if not keep_alive:
            self._finish(encoded)
            return
        self._transport.write(encoded)
        self._deadline.cancel()
        self._arm_deadline()

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection; what the client has not read by now may be lost."""
        self._transport.abort()

    def _finish(self, last_words: bytes) -> None:
        self._transport.write(last_words)
        self._transport.close()

    def _arm_deadline(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._server.request_seconds_max, self._transport.abort)

    def _take_request(self) -> _Request | None:
        """Cut one request off what was received; None while its head is not complete."""
        end = self._received.find(_END_OF_HEAD)
        if max(end, len(self._received) if end < 0 else 0) > HEAD_BYTES_MAX:
            status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _BadRequest(f"the head of the request is longer than {HEAD_BYTES_MAX} bytes", status)
        if end < 0:
            return None
        head = bytes(self._received[:end])
        del self._received[: end + len(_END_OF_HEAD)]
        return _parse_head(head)


def _parse_head(head: bytes) -> _Request:
    """Parse request line and header fields. Raises _BadRequest and nothing else."""
    first, *rest = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or not parts[1].startswith("/"):
        raise _BadRequest("this is not an HTTP request line")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _BadRequest("use HTTP/1.1", http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    fields: dict[str, str] = {}
    for line in rest:
        name, separator, value = line.partition(":")
        if not separator or not name or name != name.strip():
            raise _BadRequest("this is not an HTTP header field")
        fields[name.lower()] = value.strip()
    if version == "HTTP/1.1" and "host" not in fields:
        raise _BadRequest("the Host field is missing")
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        raise _BadRequest("requests have no body here")
    options = {option.strip() for option in fields.get("connection", "").lower().split(",")}
    keep_alive = "close" not in options and (version == "HTTP/1.1" or "keep-alive" in options)
    return _Request(method, target.partition("?")[0], keep_alive)
