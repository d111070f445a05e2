"""The server: joins a replica's driver with clients, peers and the operator's view.

It owns the connections and hands things on; what any of them means is decided elsewhere: the order of
commands in `clients.py`, their path in `replica/`, LOCAL commands in `local/`, figures in `status.py`.

It is what three others ask of their owner: `clients.Owner`, the peer network's `Gatekeeper` and `Receiver`,
and the `ServerView` of the LOCAL commands.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from respraft.commands.machine import KeyspaceMachine
from respraft.config import Config, parse_address
from respraft.node.clocks import MachineClocks
from respraft.node.death import die_in_doubt
from respraft.node.disk_thread import DiskThread
from respraft.node.driver import Driver
from respraft.peer.interface import Introduction
from respraft.peer.network import PeerNetwork
from respraft.replica.batch import Answer, Refusal
from respraft.replica.formation import PeerIdentity
from respraft.replica.machine import Command
from respraft.replica.replica import Replica
from respraft.replica.status import ReplicaMessage
from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.resp.requests import RequestLimits
from respraft.server import status
from respraft.server.clients import ClientConnection, refusal_error
from respraft.server.local import execute
from respraft.server.local.view import ClientView, Counters, DatabaseSize, Deferred, NodeStatus, NoReply
from respraft.storage.interface import LogStore

NO_CLUSTER: Final = "No Raft Cluster"
"""RedisRaft's sentence for a node that belongs to no cluster."""

REFUSED_REPEAT_S: Final = 30.0
"""A node that the cluster refuses says why this often, for whoever looks at the end of its log."""

IDLE_CHECK_S: Final = 1.0
"""How often idle clients are looked for."""

HEADER_BYTES_MAX: Final = 64 << 10
"""Redis's limit on the line that holds a count or a length."""

_log: Final = logging.getLogger("respraft.server")


class Server:
    """One node at run time."""

    def __init__(
        self,
        *,
        config: Config,
        replica: Replica,
        machine: KeyspaceMachine,
        log_store: LogStore,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Join the parts that were brought up from the data directory.

        Args:
            config: This node's configuration.
            replica: Driven from here on.
            machine: The replica's, for figures only.
            log_store: Written by the driver only.
            loop: The running loop.
        """
        self.node_config = config
        self.client_config = config.client
        self.replica = replica
        self.machine = machine
        self.log_store = log_store
        self.run_id = secrets.token_hex(20)
        self.connections_received = 0
        self.connections_rejected = 0
        self.local_commands = 0
        self.network: PeerNetwork[ReplicaMessage]
        self.driver: Driver
        self._loop = loop
        self._started_s = time.monotonic()
        self._listener: asyncio.Server | None = None
        self._clients: dict[int, ClientConnection] = {}
        self._all_gone = asyncio.Event()  # Set while there are no clients.
        self._last_client = 0
        self._gone = Counters(commands=0, connections=0, rejected=0, input_bytes=0, output_bytes=0)
        self._paused: dict[int, ClientConnection] = {}  # Not read, because the node is congested.
        self._refused_said_s = 0.0
        self._limits = RequestLimits(
            arguments_max=config.client.arguments_max,
            bulk_bytes_max=config.client.bulk_bytes_max,
            inline_bytes_max=config.client.inline_bytes_max,
            header_bytes_max=HEADER_BYTES_MAX,
        )

    # -- Life ----------------------------------------------------------------------------------------

    def connect(self, network: PeerNetwork[ReplicaMessage]) -> None:
        """Take the peer network, whose gatekeeper and receiver this object is. Comes before all else."""
        self.network = network
        self.driver = Driver(
            loop=self._loop,
            clocks=MachineClocks(),
            replica=self.replica,
            log_writer=DiskThread(self._loop, self.log_store),
            links=network,
            deliver=self._deliver,
            die=die_in_doubt,
        )

    async def listen(self, address: str) -> None:
        """Begin to accept clients at `address`. Raises OSError."""
        host, port = parse_address(address)
        self._listener = await self._loop.create_server(self._accept, host, port, backlog=1024)
        if self.client_config.idle_timeout_s:
            self._loop.call_later(IDLE_CHECK_S, self._close_idle)

    async def drain(self, seconds: float) -> None:
        """Accept nobody more, and wait up to `seconds` until what is in flight has been answered."""
        if self._listener is not None:
            self._listener.close()
        for client in list(self._clients.values()):
            client.stop()
        if self._clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), seconds)
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
        self.driver.wake()
        if writes:
            return self.replica.submit(client, writes, reads, client.database, size)
        commands = [command for _, command in reads]
        return self.replica.submit_reads(client, commands, client.database, size)

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

    # -- peer.Gatekeeper and peer.Receiver -----------------------------------------------------------

    def check(self, peer: Introduction) -> str | None:
        """Return why a peer is refused, or None."""
        return self.replica.check_peer(PeerIdentity(peer.node_id, peer.incarnation, peer.empty))

    def log_is_empty(self) -> bool:
        """Return whether this node may take part in forming a cluster."""
        return self.replica.status().raft.last_index == 0

    def on_message(self, sender: int, incarnation: int, message: ReplicaMessage) -> None:
        """Take a peer's message."""
        self.driver.received(sender, incarnation, message)

    def on_link_up(self, peer: int, incarnation: int, start_counter: int, empty: bool) -> None:
        """A peer can be reached."""
        self.driver.wake()
        self.replica.link_up(PeerIdentity(peer, incarnation, empty))

    def on_link_down(self, peer: int, *, by_peer: bool) -> None:
        """A peer cannot be reached any more."""
        self.driver.wake()
        self.replica.link_down(peer)

    def on_refused(self, peer: int, text: str) -> None:
        """A peer does not talk to this node."""
        self.driver.wake()
        self.replica.refused(text)
        if self.replica.status().refused and time.monotonic() - self._refused_said_s > REFUSED_REPEAT_S:
            self._refused_said_s = time.monotonic()
            _log.error("this node is refused by its cluster and serves nobody: %s", text)

    def on_dial_refused(self, peer: int) -> None:
        """Nobody listens there: the redial is the network's."""

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
        return status.node_status(self.node_config, self.replica, self.log_store, self.network)

    def database_sizes(self) -> Mapping[int, DatabaseSize]:
        """Return the databases that are not empty."""
        return {
            number: DatabaseSize(keys=keys, expires=expires)
            for number, (keys, expires) in self.machine.sizes().items()
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

    # -- Own -----------------------------------------------------------------------------------------

    def _accept(self) -> ClientConnection:
        self._last_client += 1
        return ClientConnection(self, self._last_client, self._limits)

    def _deliver(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            try:
                answer.client.answer(answer)
            except Exception:
                _log.exception("client %d could not be answered and is cut off", answer.client.id)
                answer.client.abort()
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
