"""The Redis server of a node: its client connections and the operator's view.

It owns the connections and hands things on; what any of them means is decided elsewhere: the order of
commands in `clients.py`, their path in `node/` and `replica/`, LOCAL commands in `local/`, figures in
`status.py`.

It is what two others ask of their owner: `clients.Owner`, and the `ServerView` of the LOCAL commands.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from respraft.commands.table import CommandTable
from respraft.config import parse_address
from respraft.node.client import NodeClient
from respraft.node.node import Node
from respraft.raft.message import NodeId
from respraft.raft.ready import NotLeader, TransferRefused
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError, no_leader
from respraft.resp.replies import OK, Reply
from respraft.server import status
from respraft.server.clients import ClientConnection, refusal_error
from respraft.server.cluster import Cluster
from respraft.server.connections import Connections
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
from respraft.server.workers.crew import Crew

NO_CLUSTER: Final = "No Raft Cluster"
"""RedisRaft's sentence for a node that belongs to no cluster."""

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""

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


class Server(Connections):
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
        super().__init__(node.config.client, table)
        self.node = node
        self.node_config = node.config
        self.replica = node.replica
        self.driver = node.driver
        self.cluster = Cluster(node)
        self.crew: Crew | None = None
        """The workers, where clients are connected to those."""
        self.run_id = secrets.token_hex(20)
        self._sizes = sizes
        self._started_s = time.monotonic()
        self._listener: asyncio.Server | None = None
        node.answered = self._answered

    # -- Life ----------------------------------------------------------------------------------------

    async def listen(self, address: str) -> None:
        """Begin to accept clients at `address`. Raises OSError."""
        host, port = parse_address(address)
        self._listener = await self._loop.create_server(self.accept, host, port, backlog=BACKLOG)

    async def listen_with_workers(self, address: str, count: int) -> None:
        """Have `count` workers accept clients at `address`. Raises OSError."""
        self.crew = Crew(self, self.client_config, count)
        await self.crew.start(address)

    async def drain(self, seconds: float) -> None:
        """Accept nobody more, and wait up to `seconds` until what is in flight has been answered."""
        await self.cluster.close()
        if self._listener is not None:
            self._listener.close()
        if self.crew is not None:
            await self.crew.drain(seconds)
        await self.end_clients(seconds)

    def abort(self) -> None:
        """Accept nobody more, and end all connections now."""
        if self._listener is not None:
            self._listener.close()
        self.abort_clients()

    # -- clients.Owner, and what workers are given ---------------------------------------------------

    @property
    def now_ms(self) -> float:
        """The monotonic clock, as of the present turn."""
        return self.driver.now_ms

    @property
    def is_congested(self) -> bool:
        """Whether so much is in flight that client sockets should not be read."""
        return self.replica.congested

    def submit(
        self,
        client: ClientConnection,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
    ) -> Refusal | None:
        """Give a client's group to the replica, and have a turn follow."""
        if writes:
            return self.hand_in(client, writes, reads, size, client.database)
        commands = [command for _, command in reads]
        return self.hand_in_reads(client, commands, size, client.database, stale=client.stale_reads)

    def hand_in(
        self,
        client: NodeClient,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
        database: int,
    ) -> Refusal | None:
        """Give a group that holds a write to the replica, and have a turn follow."""
        return self.node.submit(client, writes, reads, database, size)

    def hand_in_reads(
        self, client: NodeClient, commands: list[Command], size: int, database: int, *, stale: bool
    ) -> Refusal | None:
        """The same for one that only reads. `stale`: from what is applied, if that is not too old."""
        if stale:
            return self.node.submit_stale_reads(client, commands, database, size)
        return self.node.submit_reads(client, commands, database, size)

    def execute_local(self, client: ClientView, args: Command) -> Reply | NoReply | Deferred:
        """Run a LOCAL command."""
        self.local_commands += 1
        return execute(self, client, args)

    def refusal_error(self, refusal: Refusal) -> ReplyError:
        """Return what a client is told."""
        refused = self.replica.status().refused if refusal is Refusal.NO_CLUSTER else None
        return refusal_error(refusal, no_cluster=refused or NO_CLUSTER)

    # -- local.ServerView ----------------------------------------------------------------------------

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    def wall_ms(self) -> int:
        """Unix time as reads see it."""
        return max(self.replica.log_time_ms, time.time_ns() // 1_000_000)

    def clients(self) -> Iterable[ClientView]:
        """All connections, by id; those of workers as they were when the workers were last asked."""
        own: list[ClientView] = list(self._clients.values())
        return own if self.crew is None else own + self.crew.clients()

    def kill(self, client: ClientView) -> None:
        """Close a connection at once."""
        if self.crew is not None:
            self.crew.kill(client.id)
        elif client.id in self._clients:
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
        own = super().counters()
        if self.crew is None:
            return own
        totals = self.crew.totals()
        return Counters(
            commands=totals.commands,
            connections=totals.connections,
            rejected=totals.rejected,
            input_bytes=totals.input_bytes,
            output_bytes=totals.output_bytes,
        )

    @property
    def local_commands_total(self) -> int:
        """LOCAL commands that were run, here and in workers."""
        return self.local_commands + (self.crew.totals().local_commands if self.crew is not None else 0)

    @property
    def clients_total(self) -> int:
        """Connections, as far as workers have told."""
        return self.crew.totals().clients if self.crew is not None else self.connected_clients

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
            self.node.ask_for_transfer(to, waiting)
        except NotLeader:
            raise no_leader() from None
        except TransferRefused as refusal:
            raise ReplyError("ERR", str(refusal)) from None
        return waiting.reply

    # -- Own -----------------------------------------------------------------------------------------

    def _answered(self) -> None:
        """The answers of a turn have been given."""
        if self.crew is not None:
            self.crew.flush()
        self.resume_paused()
