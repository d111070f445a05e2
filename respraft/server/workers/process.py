"""The process of one worker: `respraft worker`, which only a node's process starts (`crew.py`).

It is given the socket pair and the listening sockets as open file descriptors, and is told the rest in
`Welcome`. It ends when it is told to, or when the other end of the socket pair is gone.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from typing import Final

import uvloop

from respraft import __version__
from respraft.server.memory import limit_allocator, quiet_garbage_collector
from respraft.server.workers.front import Front
from respraft.server.workers.link import Link
from respraft.server.workers.messages import BACKLOG, Answers, Ask, Kill, Message, Stop, Welcome

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

FIGURES_S: Final = 1.0
"""How often the node hears a worker's totals."""

_log: Final = logging.getLogger("respraft.workers")


def work(link: int, listeners: Sequence[int]) -> int:
    """Serve clients until that is over; return the exit status."""
    limit_allocator()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pair = socket.socket(fileno=link)
    sockets = [socket.socket(fileno=each) for each in listeners]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Worker(sockets).run(pair))


class _Worker:
    """From the first message to the last one."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self._status = EXIT_OK
        self._over = asyncio.Event()
        self._link = Link(self._receive, self._over.set)
        self._front: Front | None = None  # Until `Welcome`, which comes first.
        self._task: asyncio.Task[None] | None = None  # What a message has begun.

    async def run(self, pair: socket.socket) -> int:
        """Serve; returns the exit status."""
        await asyncio.get_running_loop().create_connection(lambda: self._link, sock=pair)
        await self._over.wait()
        if self._front is not None:
            self._front.abort_clients()
        return self._status

    def _receive(self, message: Message) -> None:
        front = self._front
        if front is None:
            assert isinstance(message, Welcome), "a node's process says first what is to be served"
            self._welcomed(message)
        elif isinstance(message, Answers):
            front.answers(message)
        elif isinstance(message, Kill):
            front.kill(message.connection, politely=message.politely)
        elif isinstance(message, Ask):
            front.report(message.number)
        elif isinstance(message, Stop):
            self._task = asyncio.create_task(self._end(front, message.seconds))

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.version == __version__:
            self._front = Front(self._link, welcome.client, welcome.life)
            self._task = asyncio.create_task(self._begin(self._front))
        else:
            _log.error(
                "this worker is respraft %s and its node %s: restart the node", __version__, welcome.version
            )
            self._status = EXIT_FAILED
            self._over.set()

    async def _begin(self, front: Front) -> None:
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            self._servers.append(await loop.create_server(front.accept, sock=each, backlog=BACKLOG))
        self._tell_figures(front)
        quiet_garbage_collector()

    async def _end(self, front: Front, seconds: float) -> None:
        for server in self._servers:
            server.close()
        await front.end_clients(seconds)
        front.tell_figures()
        self._over.set()

    def _tell_figures(self, front: Front) -> None:
        front.tell_figures()
        asyncio.get_running_loop().call_later(FIGURES_S, self._tell_figures, front)
