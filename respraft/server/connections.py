"""The connections of one process: accepting, counting, pausing, closing them. What they say is not looked at.

The base of two owners (`clients.Owner`): the node's own server (`server.py`), and a worker, which has no node
(`workers/front.py`).
"""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Final

from respraft.commands.table import CommandTable
from respraft.config import ClientConfig
from respraft.replica.batch import Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.resp.requests import RequestLimits
from respraft.server.clients import ClientConnection
from respraft.server.local.view import Counters, Deferred, NoReply

IDLE_CHECK_S: Final = 1.0
"""How often idle clients are looked for."""

HEADER_BYTES_MAX: Final = 64 << 10
"""Redis's limit on the line that holds a count or a length."""


class Connections(ABC):
    """Client connections and their owner."""

    def __init__(self, config: ClientConfig, table: CommandTable, *, last_id: int = 0) -> None:
        """Have none, on the running loop.

        Args:
            config: Limits.
            table: What clients may say.
            last_id: The next connection has the next id.
        """
        self.client_config = config
        self.table = table
        self.connections_received = 0
        self.connections_rejected = 0
        self.local_commands = 0
        self.unread_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._clients: dict[int, ClientConnection] = {}
        self._all_gone = asyncio.Event()  # Set while there are no clients.
        self._last_client = last_id
        self._gone = Counters(commands=0, connections=0, rejected=0, input_bytes=0, output_bytes=0)
        self._paused: dict[int, ClientConnection] = {}  # Not read, because too much is in flight.
        self._limits = RequestLimits(
            arguments_max=config.arguments_max,
            bulk_bytes_max=config.bulk_bytes_max,
            inline_bytes_max=config.inline_bytes_max,
            header_bytes_max=HEADER_BYTES_MAX,
        )
        if config.idle_timeout_s:
            self._loop.call_later(IDLE_CHECK_S, self._close_idle)

    # -- What is decided elsewhere -------------------------------------------------------------------

    @property
    @abstractmethod
    def now_ms(self) -> float:
        """The monotonic clock."""

    @property
    @abstractmethod
    def is_congested(self) -> bool:
        """Whether so much is in flight that client sockets should not be read."""

    @abstractmethod
    def submit(
        self,
        client: ClientConnection,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
    ) -> Refusal | None:
        """Take a client's group."""

    @abstractmethod
    def execute_local(self, client: ClientConnection, args: Command) -> Reply | NoReply | Deferred:
        """Run a LOCAL command."""

    @abstractmethod
    def refusal_error(self, refusal: Refusal) -> ReplyError:
        """Return what a client is told."""

    # -- clients.Owner -------------------------------------------------------------------------------

    def connected(self, client: ClientConnection) -> bool:
        """Take a new client, unless there are too many."""
        self.connections_received += 1
        if len(self._clients) >= self.client_config.max_clients:
            self.connections_rejected += 1
            return False
        self._clients[client.id] = client
        self._all_gone.clear()
        return True

    def disconnected(self, client: ClientConnection) -> None:
        """Forget a client; its totals stay."""
        if self._clients.pop(client.id, None) is not None:
            self._paused.pop(client.id, None)
            self._gone = sum_of(self._gone, [client])
        if not self._clients:
            self._all_gone.set()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next pass of the loop."""
        self._loop.call_soon(callback)

    def congested(self, client: ClientConnection) -> bool:
        """Tell whether a client's socket may not be read now; it is resumed when that has passed."""
        if self.is_congested:
            self._paused[client.id] = client
            return True
        return False

    # -- For those who build on it -------------------------------------------------------------------

    @property
    def connected_clients(self) -> int:
        """How many there are."""
        return len(self._clients)

    def accept(self) -> ClientConnection:
        """Make the protocol of a new connection."""
        self._last_client += 1
        return ClientConnection(self, self._last_client, self._limits)

    def counters(self) -> Counters:
        """Return the totals since the start."""
        totals = sum_of(self._gone, self._clients.values())
        return Counters(
            commands=totals.commands,
            connections=self.connections_received,
            rejected=self.connections_rejected,
            input_bytes=totals.input_bytes,
            output_bytes=totals.output_bytes,
        )

    def resume_paused(self) -> None:
        """Read on where too much was in flight, if that has passed."""
        if self._paused and not self.is_congested:
            paused, self._paused = self._paused, {}
            for client in paused.values():
                client.resume_reading()

    async def end_clients(self, seconds: float) -> None:
        """Wait up to `seconds` until what is in flight has been answered, and close all connections."""
        for client in list(self._clients.values()):
            client.stop()
        if self._clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), seconds)
        self.abort_clients()

    def abort_clients(self) -> None:
        """Close all connections now."""
        for client in list(self._clients.values()):
            client.abort()

    def _close_idle(self) -> None:
        oldest = time.monotonic() * 1000 - self.client_config.idle_timeout_s * 1000
        for client in list(self._clients.values()):
            if client.last_active_ms < oldest and not client.in_flight:
                client.abort()
        self._loop.call_later(IDLE_CHECK_S, self._close_idle)


def sum_of(start: Counters, clients: Iterable[ClientConnection]) -> Counters:
    """Return `start` and what was counted of `clients`."""
    commands, received, sent = start.commands, start.input_bytes, start.output_bytes
    for client in clients:
        commands += client.commands_total
        received += client.input_bytes
        sent += client.output_bytes_total
    return Counters(commands=commands, connections=0, rejected=0, input_bytes=received, output_bytes=sent)
