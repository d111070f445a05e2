"""The workers of a node, seen from its process: started, watched, started again, asked, ended."""

import asyncio
import contextlib
import dataclasses
import errno
import logging
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from respraft import __version__
from respraft.commands.spec import CommandSpec
from respraft.commands.table import KEYSPACE
from respraft.config import KIB, ClientConfig, parse_address
from respraft.server.local.view import ClientView
from respraft.server.workers.link import Link
from respraft.server.workers.messages import (
    BACKLOG,
    IDS_PER_LIFE,
    Ask,
    Figures,
    Groups,
    Local,
    Message,
    Report,
    Stop,
    Welcome,
)
from respraft.server.workers.remote import Desk, Mirror, Node

COMMAND: Final = (sys.executable, "-m", "respraft", "worker")

LIFE_S_MIN: Final = 5.0
"""A worker that dies younger than this is started again only after `PAUSE_S`."""
PAUSE_S: Final = 1.0

REPORTS_S_MAX: Final = 1.0
"""A worker that has not told of its clients by then is busy beyond measure: the others' must do."""

PORT_LOOK_S: Final = 0.05
PORT_S_MAX: Final = 5.0
"""Workers of a process that was killed see its end a moment later, and have its port until then."""

END_S: Final = 1.0
"""What a worker may take beyond the time that its clients were given, before it is killed."""

ABOUT_ALL_CLIENTS: Final = (b"CLIENT|LIST", b"CLIENT|KILL", b"INFO")
"""Before these run, all workers tell of their clients."""

_NO_FIGURES: Final = Figures(0, 0, 0, 0, 0, 0, 0)

_log: Final = logging.getLogger("respraft.workers")


class Crew:
    """All workers of a node."""

    def __init__(self, node: Node, config: ClientConfig, count: int) -> None:
        """Have `count` workers, once `start` was called. They share the limits of `config`."""
        self.restarts = 0
        """Workers that ended when nobody had told them to."""
        self._node = node
        self._count = count
        self._share = share_of(config, count)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[list[socket.socket]] = []  # By worker.
        self._workers: dict[int, Worker] = {}  # Those that live, by life.
        self._lives = 0
        self._gone = _NO_FIGURES  # Totals of those that have ended.
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._asked = 0  # Number of the last question about all clients.
        self._questions: dict[int, tuple[Worker, Local]] = {}  # That wait for reports, and who asked.

    # -- Life ----------------------------------------------------------------------------------------

    async def start(self, address: str) -> None:
        """Take the port and start the workers, which take clients as soon as they are up. Raises OSError."""
        host, port = parse_address(address)
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        places = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
        for family, where in places:
            # Ports that several sockets share would be shared with another server's, too.
            await _until_free(family, where)
        for number in range(self._count):
            self._sockets.append([_listening(family, where) for family, where in places])
            self._keepers.append(self._loop.create_task(self._keep(number)))

    async def drain(self, seconds: float) -> None:
        """Accept nobody more, give the workers `seconds` to answer what is in flight, and end them."""
        self._stopping.set()
        for each in self._sockets:
            _close(each)
        for worker in self._workers.values():
            worker.stop(seconds)
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=seconds + END_S)
            for worker in list(self._workers.values()):
                _log.error("worker %d did not stop and is killed", worker.number)
                worker.kill()
            if late:
                await asyncio.wait(late)

    async def _keep(self, number: int) -> None:
        """Have a worker, and another one when it ends."""
        while not self._stopping.is_set():
            began = self._loop.time()
            try:
                ended = await self._live(number)
            except OSError as error:
                ended = f"cannot be started: {error}"
            if self._stopping.is_set():
                return
            self.restarts += 1
            _log.error("worker %d %s; its clients are cut off, it is started again", number, ended)
            if self._loop.time() - began < LIFE_S_MIN:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), PAUSE_S)

    async def _live(self, number: int) -> str:
        """Start a worker, wait for its end, and return how that was."""
        self._lives += 1
        worker = Worker(number, self._lives, Desk(self._node))
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [each.fileno() for each in (theirs, *self._sockets[number])]
            worker.process = await asyncio.create_subprocess_exec(
                *COMMAND, *map(str, descriptors), stdin=asyncio.subprocess.DEVNULL, pass_fds=descriptors
            )
        # If the link ends first, the worker does so, too.
        link = worker.desk.link = Link(lambda message: self._receive(worker, message), lambda: None)
        await self._loop.create_connection(lambda: link, sock=ours)
        self._workers[worker.life] = worker
        link.send(Welcome(__version__, worker.life, self._share))
        if self._stopping.is_set():
            worker.stop(0.0)
        status = await worker.process.wait()
        link.abort()
        del self._workers[worker.life]
        self._gone = _sum([self._gone, msgspec.structs.replace(worker.figures, clients=0)])
        self._run_questions()
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"

    # -- For the node's own server -------------------------------------------------------------------

    def flush(self) -> None:
        """The answers of a turn have been given: send them."""
        for worker in self._workers.values():
            worker.desk.flush()

    def clients(self) -> list[ClientView]:
        """All connections by id, while a command that is about all of them runs."""
        return [mirror for worker in self._workers.values() for mirror in worker.mirrors]

    def kill(self, client_id: int) -> None:
        """Close a connection at once."""
        worker = self._workers.get(client_id // IDS_PER_LIFE)
        if worker is not None:
            worker.desk.kill(client_id, politely=False)

    def totals(self) -> Figures:
        """What all workers have counted, as far as they have told."""
        return _sum([self._gone, *(worker.figures for worker in self._workers.values())])

    def clients_by_worker(self) -> dict[int, int]:
        """How many connections each worker has, as far as they have told."""
        counts = dict.fromkeys(range(self._count), 0)
        counts.update({worker.number: worker.figures.clients for worker in self._workers.values()})
        return counts

    # -- From workers --------------------------------------------------------------------------------

    def _receive(self, worker: "Worker", message: Message) -> None:
        if isinstance(message, Groups):  # Nearly all of them.
            worker.desk.take(message)
        elif isinstance(message, Figures):
            worker.figures = message
        elif isinstance(message, Report):
            worker.mirrors = [Mirror(picture) for picture in message.clients]
            worker.report = message.number
            self._run_questions()
        elif isinstance(message, Local):
            spec = KEYSPACE.check(message.args)
            if isinstance(spec, CommandSpec) and spec.name in ABOUT_ALL_CLIENTS:
                self._ask(worker, message)
            else:
                worker.desk.run_local(Mirror(message.client), message.args)

    def _ask(self, worker: "Worker", message: Local) -> None:
        """Run a command when all workers have told of their clients."""
        self._asked += 1
        self._questions[self._asked] = (worker, message)
        for each in self._workers.values():
            each.ask(self._asked)
        self._loop.call_later(REPORTS_S_MAX, self._run_question, self._asked)

    def _run_questions(self) -> None:
        told = min((worker.report for worker in self._workers.values()), default=self._asked)
        for number in [number for number in self._questions if number <= told]:
            self._run_question(number)

    def _run_question(self, number: int) -> None:
        worker, message = self._questions.pop(number, (None, None))
        if worker is None or message is None:
            return
        caller = next((each for each in worker.mirrors if each.id == message.client.id), None)
        worker.desk.run_local(caller or Mirror(message.client), message.args)
        if not self._questions:
            for each in self._workers.values():
                each.mirrors = []  # Who looks at them later would take them for true.


class Worker:
    """One process, from its start to its end."""

    def __init__(self, number: int, life: int, desk: Desk) -> None:
        self.number = number
        self.life = life
        self.desk = desk
        self.figures = _NO_FIGURES
        self.mirrors: list[Mirror] = []
        self.report = 0  # Number of the question that they answer.
        self.process: asyncio.subprocess.Process | None = None

    def ask(self, number: int) -> None:
        """Have it tell of its clients."""
        if self.desk.link is not None:
            self.desk.link.send(Ask(number))

    def stop(self, seconds: float) -> None:
        """Have it end, when its clients have their answers."""
        if self.desk.link is not None:
            self.desk.link.send(Stop(seconds))

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()


def share_of(config: ClientConfig, count: int) -> ClientConfig:
    """Return what each of `count` workers may, so that all of them together keep to what is for a node."""
    return dataclasses.replace(
        config,
        max_clients=-(-config.max_clients // count),
        in_flight_bytes_max=max(KIB, config.in_flight_bytes_max // count),
        output_buffer_bytes_max=max(KIB, config.output_buffer_bytes_max // count),
    )


async def _until_free(family: int, where: Any) -> None:
    """Return when nobody has that port. Raises OSError if somebody keeps it, or it cannot be had."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + PORT_S_MAX
    told = False
    while True:
        try:
            _bound(family, where, shared=False).close()
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or loop.time() >= end_s:
                raise
        if not told:
            _log.warning("port %d is in use; waiting up to %g s for it", where[1], PORT_S_MAX)
            told = True
        await asyncio.sleep(PORT_LOOK_S)


def _listening(family: int, where: Any) -> socket.socket:
    listener = _bound(family, where, shared=True)
    listener.listen(BACKLOG)  # Who comes before the worker is up waits.
    return listener


def _bound(family: int, where: Any, *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _sum(figures: Iterable[Figures]) -> Figures:
    return Figures(*map(sum, zip(*map(msgspec.structs.astuple, figures), strict=True)))
