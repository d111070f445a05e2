"""One node: a replica with its storage, its driver and the network of its peers. It knows nothing of Redis.

    node = Node(config, machine)    open the data directory, which may refuse; nothing runs yet
    await node.listen()             take the peer port
    node.start()                    turns, ticks and links begin
    ...
    await node.stop()               no further turn, links closed, the state flushed
    node.close()                    let go of the files

The Redis server (`server/`) and the library (`library/`) are built on it: they give groups of commands to
`submit` and `submit_reads`, each with a `NodeClient`, which is told the answer once, on the event loop.

Being killed at any moment costs nothing but the replay of the log behind the last flush.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, NoReturn, TypeVar

from respraft.config import Config
from respraft.node.announcer import Announcer
from respraft.node.bring_up import bring_up
from respraft.node.client import Done, NodeClient
from respraft.node.clocks import MachineClocks
from respraft.node.death import die_in_doubt, die_of_log, die_of_state
from respraft.node.driver import Driver
from respraft.node.log_writer import StoreWriter
from respraft.node.states import StateThread
from respraft.peer.codec import Codec
from respraft.peer.interface import Identity as PeerSelf
from respraft.peer.interface import Introduction, Objection
from respraft.peer.network import PeerNetwork
from respraft.raft.message import NOBODY, NodeId
from respraft.raft.ready import NotLeader, TransferRefused
from respraft.replica.batch import Answer, Refusal
from respraft.replica.changes import Action
from respraft.replica.formation import PeerIdentity
from respraft.replica.machine import Command, Machine
from respraft.replica.status import ReplicaMessage
from respraft.storage.log import open_log
from respraft.storage.state import RocksStateStore
from respraft.storage.state_directory import StateDirectories
from respraft.storage.state_interface import StateStore
from respraft.storage.state_thread import ThreadedStateStore

WATCH_S: Final = 0.2
"""How often samples are taken away, and changes are looked for."""

REFUSED_REPEAT_S: Final = 30.0
"""A node that the cluster refuses says why this often, for whoever looks at the end of its log."""

_log: Final = logging.getLogger("respraft.node")

M = TypeVar("M", bound=Machine)


class Node(Generic[M]):
    """One node, from its data directory to its peers. All calls are made on the event loop's thread."""

    driver: Driver
    """There from `listen` on, as are the network and what works on states."""
    network: PeerNetwork[ReplicaMessage]
    states: StateThread

    def __init__(
        self,
        config: Config,
        machine: Callable[[StateStore], M],
        *,
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Open the data directory and make the replica that it describes. Needs no event loop.

        Args:
            config: This node's configuration. Its `client` and `http` sections are for those who are built
                on the node, save for the limits on what is in flight.
            machine: Makes the machine on its store, which stays the node's own.
            failed: Called once, on the loop, when the disk or the state gave out. The node has then stopped
                by itself and tells nobody anything more. None: the process ends instead, at once.

        Raises:
            StartRefused: The node must not start with this directory; nothing was changed.
            StorageFailed: The directory or a database cannot be opened.
        """
        self.config = config
        self.answered: Callable[[], None] | None = None
        """Called behind the answers of a turn."""
        self.watch: Callable[[], None] | None = None
        """Called every `WATCH_S`. Then it is to take the samples of replica and driver, which else are
        dropped."""
        self.failure: BaseException | None = None
        """What made the node stop by itself."""
        self._failed = failed
        self._refused_said_s = 0.0
        self._taken = False  # `listen` has made driver and network.
        self._watching: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None  # Of a node that failed.
        self._announcer = Announcer(config, clock=time.monotonic)
        with contextlib.ExitStack() as opened:
            self.log_store = open_log(config.node.data_dir, config.node.id, config.cluster.id)
            opened.callback(self.log_store.close)
            self._states = StateDirectories(config.node.data_dir)
            self._store: StateStore = self._open_state(self.log_store.state_number())
            opened.callback(self._close_state)
            self.machine = machine(self._store)
            self.replica = bring_up(config, self.log_store, self.machine)
            self._states.clean(self.log_store.state_number())
            self._opened = opened.pop_all()

    # -- Life ----------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Take the peer port. Nothing is begun, so that another address that is taken leaves no traces.

        Raises:
            OSError: The address cannot be listened on.
        """
        self._loop = loop = asyncio.get_running_loop()
        self.states = self._new_states()
        self.network = self.states.network = self._new_network()
        self.driver = Driver(
            loop=loop,
            clocks=MachineClocks(),
            replica=self.replica,
            log_writer=StoreWriter(
                loop, self.log_store, die=die_of_log if self._failed is None else self._fail_on_thread
            ),
            links=self.network,
            states=self.states,
            deliver=self._deliver,
            die=die_in_doubt if self._failed is None else self._fail_on_loop,
        )
        self._taken = True
        await self.network.start(self.config.peer.listen)

    def start(self) -> None:
        """Begin to take turns, and to dial the peers. Comes behind `listen`."""
        self.driver.start()
        self._watching = self._loop.create_task(self._watch())

    async def stop(self) -> None:
        """End what `listen` and `start` began, however far they came, and flush the state.

        The state of a node that failed is in doubt and is not flushed: the log replays it. Commands in flight
        get no answer: whoever gave them waits for them first.
        """
        if self._watching is not None:
            self._watching.cancel()
        if self._closing is not None:
            await self._closing
            return
        if self._taken:
            self.driver.stop()
            await self._close_ends()
        self.machine.flush()

    def close(self) -> None:
        """Let go of the files. Comes last; nothing may be called afterwards."""
        self._opened.close()

    # -- Commands ------------------------------------------------------------------------------------

    def submit(
        self,
        client: NodeClient,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        database: int,
        size: int,
    ) -> Refusal | None:
        """Take a client's group that holds a write, and have a turn follow; see `Origin.submit`."""
        return self.driver.submit(client, writes, reads, database, size)

    def submit_reads(
        self, client: NodeClient, commands: list[Command], database: int, size: int
    ) -> Refusal | None:
        """Take a client's group that only reads, and have a turn follow; see `Replica.submit_reads`."""
        self.driver.wake()
        return self.replica.submit_reads(client, commands, database, size)

    def submit_stale_reads(
        self, client: NodeClient, commands: list[Command], database: int, size: int
    ) -> Refusal | None:
        """Take a client's group whose reads need not be the newest; see `Replica.submit_stale_reads`."""
        self.driver.wake()
        return self.replica.submit_stale_reads(client, commands, database, size)

    def transfer_leadership(self, to: NodeId, client: NodeClient) -> None:
        """Hand leadership over, and have a turn follow; see `Replica.transfer_leadership`."""
        self.driver.wake()
        self.replica.transfer_leadership(to, client)

    def ask_for_transfer(self, to: NodeId, client: NodeClient) -> None:
        """The same, whoever leads; see `Replica.ask_for_transfer`."""
        self.driver.wake()
        self.replica.ask_for_transfer(to, client)

    async def hand_over(self) -> None:
        """If this node leads, hand leadership to the best of the others, and wait until that has ended."""
        done = Done()
        with contextlib.suppress(NotLeader, TransferRefused):
            self.transfer_leadership(NOBODY, done)
            await done.event.wait()

    def compact(self, done: Callable[[], None]) -> None:
        """Flush the state and cut the log as far as nobody needs it; call `done` when that has happened."""
        self.states.when_flushed(done)
        self.driver.wake()
        self.replica.snapshots.want_flush()

    # -- Membership ----------------------------------------------------------------------------------

    @property
    def node_id(self) -> NodeId:
        """This node's id in its cluster; NOBODY while it has none."""
        return self.replica.identity.node_id

    @property
    def cluster_id(self) -> str:
        """The name of its cluster; empty while it knows none."""
        return self.log_store.identity().cluster_id

    def adopt(self, node_id: NodeId, cluster_id: str) -> None:
        """Give this node its place in a cluster, durably. It has taken part in nothing yet."""
        self.log_store.adopt(node_id, cluster_id)
        self.replica.adopt(node_id)
        self.states.adopt(node_id)
        self.network.adopt(self._peer_self())

    def found(self, peer: str, client: str) -> None:
        """Found a cluster of this node alone; see `Membership.found`."""
        self.driver.wake()
        self.replica.membership.found(peer, client)

    def contact(self, members: Mapping[NodeId, str]) -> None:
        """Dial the members of the cluster that this node joins."""
        self.driver.wake()
        self.replica.membership.contact(members)

    def change_members(self, action: Action, client: NodeClient, timeout_ms: float) -> Refusal | None:
        """Have the leader carry out a change of members; see `Membership.ask`."""
        self.driver.wake()
        return self.replica.membership.ask(client, action, self.driver.now_ms, timeout_ms)

    # -- peer.Gatekeeper and peer.Receiver -----------------------------------------------------------

    def check(self, peer: Introduction) -> Objection | None:
        """Return why a peer is refused, or None."""
        identity = PeerIdentity(
            peer.node_id,
            peer.incarnation,
            peer.empty,
            peer.origin,
            peer.address,
            peer.configured_at,
            peer.founders,
        )
        self.driver.wake()  # Whom it dials may change with that.
        objection = self.replica.check_peer(identity)
        return None if objection is None else Objection(objection.text, removed=objection.removed)

    def origin(self) -> int:
        """Return which cluster this node belongs to, as its log has it."""
        return self.replica.membership.origin

    def founders(self) -> tuple[int, ...]:
        """Return the listed members with which this node waits to form a cluster."""
        return self.replica.membership.founders

    def own_address(self) -> tuple[str, int]:
        """Return where this node's log says that it is reached, and as of which entry."""
        return self.replica.membership.own_address

    def log_is_empty(self) -> bool:
        """Return whether this node may take part in forming a cluster."""
        return self.replica.status().raft.last_index == 0

    def on_message(self, sender: NodeId, incarnation: int, message: ReplicaMessage) -> None:
        """Take a peer's message."""
        if self.failure is None:
            self.driver.received(sender, incarnation, message)

    def on_link_up(self, peer: NodeId, incarnation: int, start_counter: int, empty: bool) -> None:
        """A peer can be reached."""
        self.driver.wake()
        self.replica.link_up(PeerIdentity(peer, incarnation, empty))

    def on_link_down(self, peer: NodeId, *, by_peer: bool) -> None:
        """A peer cannot be reached any more."""
        self.driver.wake()
        self.replica.link_down(peer)

    def on_refused(self, peer: NodeId, text: str, *, removed: bool) -> None:
        """A peer does not talk to this node."""
        self.driver.wake()
        self.replica.refused(peer, text, removed=removed)
        if self.replica.status().refused and time.monotonic() - self._refused_said_s > REFUSED_REPEAT_S:
            self._refused_said_s = time.monotonic()
            _log.error("this node is refused by its cluster and serves nobody: %s", text)

    def on_dial_refused(self, peer: NodeId) -> None:
        """Nobody listens there: the redial is the network's, but if this is the leader, it is gone."""
        if self.network.ended_by_peer(peer):
            self.driver.wake()
            self.replica.peer_gone(peer)

    # -- Own -----------------------------------------------------------------------------------------

    def _open_state(self, number: int) -> StateStore:
        storage = self.config.storage
        store = RocksStateStore(
            self._states.path(number),
            write_buffer_bytes=2 * storage.state_write_buffer_bytes,  # Room for twice that: see `write_down`.
            block_cache_bytes=storage.block_cache_bytes,
        )
        return ThreadedStateStore(store)

    def _new_network(self) -> PeerNetwork[ReplicaMessage]:
        return PeerNetwork(
            identity=self._peer_self(),
            codec=Codec(ReplicaMessage),
            config=self.config.peer,
            gatekeeper=self,
            receiver=self,
            rng=random.Random(secrets.randbits(64)),
            snapshots=self.states,
        )

    def _peer_self(self) -> PeerSelf:
        identity = self.log_store.identity()
        return PeerSelf(
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            start_counter=identity.start_counter,
        )

    def _new_states(self) -> StateThread:
        return StateThread(
            node_id=self.node_id,
            replica=self.replica,
            machine=self.machine,
            store=self._store,
            number=self.log_store.state_number(),
            directories=self._states,
            open_store=self._open_state,
            replaced=self._state_replaced,
            die=die_of_state if self._failed is None else self._fail_on_thread,
        )

    def _close_state(self) -> None:
        self._store.close()  # Whichever it is by then.

    def _state_replaced(self, store: StateStore) -> None:
        self._store = store

    def _deliver(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            client: NodeClient = answer.client
            try:
                client.answer(answer)
            except Exception:
                _log.exception("a client could not be answered and is cut off: %r", client)
                client.abort()
        if self.answered is not None:
            self.answered()

    def _fail_on_loop(self) -> NoReturn:
        """The replica raised in the middle of a step: what is in memory is worth nothing any more."""
        error = sys.exception()
        assert error is not None, "called while an exception is handled"
        self._fail(error)
        raise error

    def _fail_on_thread(self) -> None:
        """A log write or a flush failed; this is the thread that made it. It makes no other."""
        error = sys.exception()
        assert error is not None, "called while an exception is handled"
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        if self.failure is None and self._failed is not None:
            self.failure = error
            _log.critical("the node stops: %s", error, exc_info=error)
            self.driver.stop()
            if self._watching is not None:
                self._watching.cancel()
            self._closing = self._loop.create_task(self._close_ends())
            self._failed(error)

    async def _close_ends(self) -> None:
        await self.network.close()
        await self.states.close()

    async def _watch(self) -> None:
        """Have samples taken away, and say in the log what has changed."""
        while True:
            await asyncio.sleep(WATCH_S)
            if self.watch is not None:
                self.watch()
            else:
                self.replica.take_samples()
                self.driver.take_timings()
            connected = [peer.peer for peer in self.network.status().values() if peer.connected]
            self._announcer.look(self.replica.status(), connected)
