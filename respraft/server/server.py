"""The Redis server of a node: its client connections and the operator's view.

It owns the connections and hands things on; what any of them means is decided elsewhere: the order of
commands in `clients.py`, their path in `node/` and `replica/`, LOCAL commands in `local/`, figures in
`status.py`.

It is what two others ask of their owner: `clients.Owner`, and the `ServerView` of the LOCAL commands.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from respraft.commands.table import CommandTable
from respraft.config import parse_address
from respraft.node.node import Node
from respraft.raft.message import NodeId
from respraft.raft.ready import NotLeader, TransferRefused
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError, no_leader
from respraft.resp.replies import OK, Reply
from respraft.resp.requests import RequestLimits
from respraft.server import status
from respraft.server.clients import ClientConnection, refusal_error
from respraft.server.cluster import Cluster
from respraft.server.local import execute
from respraft.server.local.view import (
    ClientView,
    Counters,
    DatabaseSize,
    Deferred,
    NodeStatus,
    NoReply,
    SnapshotStatus,
)

NO_CLUSTER: Final = "No Raft Cluster"
"""RedisRaft's sentence for a node that belongs to no cluster."""

IDLE_CHECK_S: Final = 1.0
"""How often idle clients are looked for."""

HEADER_BYTES_MAX: Final = 64 << 10
"""Redis's limit on the line that holds a count or a length."""

_log: Final = logging.getLogger("respraft.server")


class _TransferReply:
    """Waits for the end of a handover, and makes a reply of it."""

    def __init__(self) -> None:
        self.reply = Deferred()

    def answer(self, answer: Answer) -> None:
        """It is over."""
        failed = answer.refusal is not None
        self.reply.resolve(ReplyError("ERR", "transfer timed out") if failed else OK)

    def abort(self) -> None:
        """Resolving it has failed, and so will whatever is tried next with that connection."""


class Server:
    """The clients of one node."""

    def __init__(
        self, node: Node[Any], *, table: CommandTable, sizes: Callable[[], Mapping[int, tuple[int, int]]]
    ) -> None:
        """Serve clients from `node`, which has taken its peer port already.

        Args:
            node: Gets the commands of the clients; started by the caller, before or behind `listen`.
            table: What clients may say. Its rows that are not LOCAL are the machine's to carry out.
            sizes: Of each database that is not empty, how many keys it has and how many have a deadline.
        """
        self.node = node
        self.table = table
        self.node_config = node.config
        self.client_config = node.config.client
        self.replica = node.replica
        self.driver = node.driver
        self.cluster = Cluster(node)
        self.run_id = secrets.token_hex(20)
        self.connections_received = 0
        self.connections_rejected = 0
        self.local_commands = 0
        self._sizes = sizes
        self._loop = asyncio.get_running_loop()
        self._started_s = time.monotonic()
        self._listener: asyncio.Server | None = None
        self._clients: dict[int, ClientConnection] = {}
        self._all_gone = asyncio.Event()  # Set while there are no clients.
        self._last_client = 0
        self._gone = Counters(commands=0, connections=0, rejected=0, input_bytes=0, output_bytes=0)
        self._paused: dict[int, ClientConnection] = {}  # Not read, because the node is congested.
        self._limits = RequestLimits(
            arguments_max=self.client_config.arguments_max,
            bulk_bytes_max=self.client_config.bulk_bytes_max,
            inline_bytes_max=self.client_config.inline_bytes_max,
            header_bytes_max=HEADER_BYTES_MAX,
        )
        node.answered = self._resume_paused

    # -- Life ----------------------------------------------------------------------------------------

    async def listen(self, address: str) -> None:
        """Begin to accept clients at `address`. Raises OSError."""
        host, port = parse_address(address)
        self._listener = await self._loop.create_server(self._accept, host, port, backlog=1024)
        if self.client_config.idle_timeout_s:
            self._loop.call_later(IDLE_CHECK_S, self._close_idle)

    async def drain(self, seconds: float) -> None:
        """Accept nobody more, and wait up to `seconds` until what is in flight has been answered."""
        await self.cluster.close()
        if self._listener is not None:
            self._listener.close()
        for client in list(self._clients.values()):
            client.stop()
        if self._clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), seconds)
        self.abort()

    def abort(self) -> None:
        """Accept nobody more, and end all connections now."""
        if self._listener is not None:
            self._listener.close()
        for client in list(self._clients.values()):
            client.abort()

    # -- clients.Owner -------------------------------------------------------------------------------

    @property
    def now_ms(self) -> float:
        """The monotonic clock, as of the present turn."""
        return self.driver.now_ms

    def submit(
        self,
        client: ClientConnection,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
    ) -> Refusal | None:
        """Give a client's group to the replica, and have a turn follow."""
        if writes:
            return self.node.submit(client, writes, reads, client.database, size)
        commands = [command for _, command in reads]
        if client.stale_reads:
            return self.node.submit_stale_reads(client, commands, client.database, size)
        return self.node.submit_reads(client, commands, client.database, size)

    def execute_local(self, client: ClientConnection, args: Command) -> Reply | NoReply | Deferred:
        """Run a LOCAL command."""
        self.local_commands += 1
        return execute(self, client, args)

    def refusal_error(self, refusal: Refusal) -> ReplyError:
        """Return what a client is told."""
        refused = self.replica.status().refused if refusal is Refusal.NO_CLUSTER else None
        return refusal_error(refusal, no_cluster=refused or NO_CLUSTER)

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
            self._gone = _sum(self._gone, [client])
        if not self._clients:
            self._all_gone.set()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next pass of the loop."""
        self._loop.call_soon(callback)

    def congested(self, client: ClientConnection) -> bool:
        """Tell whether a client's socket may not be read now; it is resumed when that has passed."""
        if self.replica.congested:
            self._paused[client.id] = client
            return True
        return False

    # -- local.ServerView ----------------------------------------------------------------------------

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    def wall_ms(self) -> int:
        """Unix time as reads see it."""
        return max(self.replica.log_time_ms, time.time_ns() // 1_000_000)

    def clients(self) -> Iterable[ClientConnection]:
        """All connections, by id."""
        return list(self._clients.values())

    def kill(self, client: ClientView) -> None:
        """Close a connection at once."""
        self._clients[client.id].abort()

    def raft_status(self) -> NodeStatus:
        """Return a snapshot of this node."""
        return status.node_status(self.node)

    def database_sizes(self) -> Mapping[int, DatabaseSize]:
        """Return the databases that are not empty."""
        return {
            number: DatabaseSize(keys=keys, expires=expires)
            for number, (keys, expires) in self._sizes().items()
        }

    def counters(self) -> Counters:
        """Return the totals since the start."""
        totals = _sum(self._gone, self._clients.values())
        return Counters(
            commands=totals.commands,
            connections=self.connections_received,
            rejected=self.connections_rejected,
            input_bytes=totals.input_bytes,
            output_bytes=totals.output_bytes,
        )

    def snapshot_now(self) -> Deferred:
        """Flush the state and cut the log; the reply comes when that is done."""
        waiting = Deferred()
        self.node.compact(lambda: waiting.resolve(OK))
        return waiting

    def snapshots(self) -> Iterable[SnapshotStatus]:
        """Return the states that this node keeps."""
        return status.snapshots(self.node)

    def transfer_leadership(self, to: NodeId) -> Reply | Deferred:
        """Hand leadership over; the reply comes when that has ended."""
        waiting = _TransferReply()
        try:
            self.node.transfer_leadership(to, waiting)
        except NotLeader:
            raise self._ask_the_leader() from None
        except TransferRefused as refusal:
            raise ReplyError("ERR", str(refusal)) from None
        return waiting.reply

    def _ask_the_leader(self) -> ReplyError:
        seen = self.raft_status()
        if seen.leader_addr is None:
            return no_leader()
        return ReplyError("ERR", f"this node does not lead: ask node {seen.leader_id}, at {seen.leader_addr}")

    # -- Own -----------------------------------------------------------------------------------------

    def _accept(self) -> ClientConnection:
        self._last_client += 1
        return ClientConnection(self, self._last_client, self._limits)

    def _resume_paused(self) -> None:
        if self._paused and not self.replica.congested:
            paused, self._paused = self._paused, {}
            for client in paused.values():
                client.resume_reading()

    def _close_idle(self) -> None:
        oldest = time.monotonic() * 1000 - self.client_config.idle_timeout_s * 1000
        for client in list(self._clients.values()):
            if client.last_active_ms < oldest and not client.in_flight:
                client.abort()
        self._loop.call_later(IDLE_CHECK_S, self._close_idle)


def _sum(start: Counters, clients: Iterable[ClientConnection]) -> Counters:
    commands, received, sent = start.commands, start.input_bytes, start.output_bytes
    for client in clients:
        commands += client.commands_total
        received += client.input_bytes
        sent += client.output_bytes_total
    return Counters(commands=commands, connections=0, rejected=0, input_bytes=received, output_bytes=sent)
