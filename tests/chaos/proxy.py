"""The network between real nodes: a TCP proxy in front of each node's peer port that can be told to hurt.

Nodes advertise the proxy's port. Who dials is read off the Hello that opens each connection, so that a rule
is about one node's bytes to one other, by node id. What a rule may do is what networks do to TCP: bytes that
are lost come later, or their connection ends.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from respraft.peer.codec import FrameReader, PeerProtocolError
from respraft.peer.handshake import HANDSHAKE_FRAME_BYTES_MAX, MAGIC, Hello
from tests.process.ports import LOOPBACK, free_ports

T = TypeVar("T")

_CHUNK_BYTES: Final = 64 * 1024
_CHUNKS_MAX: Final = 64
"""On their way in one direction of a connection; behind them the sender's own buffers fill."""
_ENDS: Final = (OSError, EOFError, asyncio.CancelledError, msgspec.MsgspecError, PeerProtocolError)
_PROLOGUE_BYTES: Final = len(MAGIC) + 4


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one node's bytes to another one."""

    held: bool = False
    """They get no further, and connections stay open: a cut cable, or packets that are dropped."""
    refused: bool = False
    """Connections end, and new ones as soon as they say who they are."""
    delay_s: float = 0.0
    jitter_s: float = 0.0


FREE: Final = Rule()


@dataclass(slots=True, eq=False)
class _Connection:
    dialer: int
    acceptor: int
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Runs on a thread of its own. Rules are set from any thread."""

    def __init__(self, seed: int) -> None:
        """Begin with no port and no rule."""
        self._rng = random.Random(seed)
        self._rules: dict[tuple[int, int], Rule] = {}
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def open(self, target: int) -> int:
        """Stand before a node whose peer port is `target`; return the port at which it is reached now."""
        [port] = free_ports(1)

        async def listen() -> None:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._serve(reader, writer, target)

            await asyncio.start_server(serve, LOOPBACK, port)

        self._run(listen)
        return port

    def set(self, pairs: Iterable[tuple[int, int]], rule: Rule, *, reset: bool = False) -> None:
        """Put `rule` on these pairs (from, to). `reset` ends their connections; what is held is lost then."""
        chosen = set(pairs)

        async def change() -> None:
            self._rules.update(dict.fromkeys(chosen, rule))
            for connection in list(self._connections):
                pair = (connection.dialer, connection.acceptor)
                if (pair in chosen or pair[::-1] in chosen) and (reset or rule.refused):
                    connection.abort()
            self._changed.set()
            self._changed = asyncio.Event()

        self._run(change)

    def heal(self, *, reset: bool) -> None:
        """Remove all rules."""
        self.set(list(self._rules), FREE, reset=reset)

    def close(self) -> None:
        """End everything."""

        async def end() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self._run(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    # Private.

    def _run(self, body: Callable[[], object]) -> None:
        future: Future[object] = asyncio.run_coroutine_threadsafe(body(), self._loop)  # type: ignore[arg-type]
        future.result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        """One connection: find out who dials, connect on, and pass bytes both ways until either ends."""
        with contextlib.suppress(*_ENDS):
            opening, hello = await _read_hello(reader)
            pair = (hello.sender, hello.to)
            if not self._rule(pair).refused and not self._rule(pair[::-1]).refused:
                onward, further = await asyncio.open_connection(LOOPBACK, target)
                further.write(opening)
                connection = _Connection(*pair, (writer, further))
                self._connections.add(connection)
                try:
                    there = asyncio.ensure_future(self._pump(reader, further, pair))
                    back = asyncio.ensure_future(self._pump(onward, writer, pair[::-1]))
                    await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                    there.cancel()
                    back.cancel()
                finally:
                    self._connections.discard(connection)
                    connection.abort()
        writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: tuple[int, int]
    ) -> None:
        """Pass bytes on in order, each chunk as late as the rule of its arrival says."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_MAX)

        async def write() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                while self._rule(pair).held:
                    await self._changed.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        writing = asyncio.ensure_future(write())
        try:
            data = b"-"
            while data:
                data = await reader.read(_CHUNK_BYTES)
                rule = self._rule(pair)
                delay_s = rule.delay_s + self._rng.random() * rule.jitter_s
                await under_way.put((loop.time() + delay_s, data))
            await writing
        except OSError:
            pass  # It ends, which is what the other half is told.
        finally:
            writing.cancel()

    def _rule(self, pair: tuple[int, int]) -> Rule:
        return self._rules.get(pair, FREE)


async def _read_hello(reader: asyncio.StreamReader) -> tuple[bytes, Hello]:
    """Read the opening of a connection. Raises EOFError, OSError or MsgspecError."""
    frames = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
    opening = await reader.readexactly(_PROLOGUE_BYTES)
    while True:
        data = await reader.read(_CHUNK_BYTES)
        if not data:
            raise EOFError
        opening += data
        for _kind, _group, body in frames.feed(data):
            return opening, msgspec.msgpack.decode(body, type=Hello)
