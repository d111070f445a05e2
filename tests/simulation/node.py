"""One node: what survives a crash, and the process of its present life, run by the driver of production.

A life ends by power loss at any moment, in particular right behind each storage operation (`ProcessDied`).
"""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, Protocol

from respraft.commands.machine import RECORD_SHARE_BYTES, KeyspaceMachine
from respraft.commands.table import lookup
from respraft.config import TICK_MS, Config
from respraft.node.driver import Driver
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.message import NOBODY, Entry, Index, NodeId
from respraft.raft.node import RaftNode
from respraft.raft.ready import HardState, LogWrite, Ready
from respraft.replica.applier import META_CONFIGURATION, load_applied
from respraft.replica.batch import Answer
from respraft.replica.formation import PeerIdentity
from respraft.replica.payload import size_of
from respraft.replica.replica import Replica
from respraft.replica.status import Identity, Outcome, ReplicaMessage
from respraft.storage.interface import StorageFailed
from respraft.storage.log_memory import MemoryDisk, MemoryLog, open_memory_log
from respraft.storage.state_interface import StateStore
from respraft.storage.state_thread import ThreadedStateStore
from tests.simulation.clock import NodeClock, Schedule
from tests.simulation.faults import Faults
from tests.simulation.process import SimulatedClocks, SimulatedDisk, SimulatedLinks, SimulatedLoop
from tests.simulation.state_disk import SimulatedThread, StateDisk
from tests.simulation.states import SimulatedStates


class ProcessDied(Exception):
    """The power failed in the middle of a step."""


class Surroundings(Protocol):
    """What a node has around it: network, clients and those who watch it."""

    schedule: Schedule
    rng: random.Random
    faults: Faults
    configuration: Configuration | None
    """The newest one that is in the log for good."""

    def add_node(self, replaces: NodeId = NOBODY) -> "Node":
        """Set up one more node, which belongs to no cluster; maybe on the machine of one that was lost."""

    def contacts(self) -> Mapping[NodeId, str]:
        """Everybody whom a node that joins may have been told of."""

    def say(self, text: str) -> None:
        """Add to the trace."""

    def send(self, node: "Node", to: NodeId, message: ReplicaMessage) -> None:
        """Put a message on its way."""

    def set_peers(self, node: "Node", peers: Mapping[NodeId, str]) -> None:
        """A node says whom it dials."""

    def answered(self, node: "Node", answer: Answer) -> None:
        """A client of the node gets its answer."""

    def died(self, node: "Node") -> None:
        """A life is over."""

    def may_lose(self, node: "Node") -> bool:
        """Whether the cluster can do without the disk of a node that is up, and the node may come back."""

    def ruined(self, node: "Node") -> None:
        """A node has died, and its state is such that its start would be refused."""

    def wiped(self, node: "Node") -> None:
        """Its disk is about to be gone."""

    def booted(self, node: "Node", hard_state: HardState) -> None:
        """A life has begun."""

    def ready(self, node: "Node", ready: Ready) -> None:
        """The core asks for this."""

    def appended(self, node: "Node", entry: Entry) -> None:
        """The core, as a leader, has made an entry."""

    def committed(self, node: "Node") -> None:
        """The core has learned or decided that more is committed."""

    def durable(self, node: "Node", write: LogWrite) -> None:
        """A log write is durable."""

    def reach(self, node: "Node", to: NodeId) -> "Node | None":
        """The peer, if a connection to it can be made just now."""

    def links_to(self, node: "Node", to: NodeId) -> int:
        """How many links from `node` to a peer have come up."""

    def flushed(self, node: "Node", index: Index) -> None:
        """The state in use survives a crash as of `index`, at least."""

    def installed(self, node: "Node") -> None:
        """A node has gone over to another node's state."""

    def turned(self, node: "Node", applied: int) -> None:
        """A turn is over, in which so many entries were applied."""


class WatchedCore(RaftNode):
    """The core, whose every Ready and own entry is looked at."""

    watch: Callable[[Ready], None]
    watch_append: Callable[[Entry], None]
    watch_commit: Callable[[], None]

    def commit_to(self, index: Index) -> bool:
        news = super().commit_to(index)
        if news:
            self.watch_commit()
        return news

    def append(self, entry: Entry) -> None:
        super().append(entry)
        self.watch_append(entry)

    def take_ready(self, *, write_allowed: bool) -> Ready:
        ready = super().take_ready(write_allowed=write_allowed)
        self.watch(ready)
        return ready


class WatchedReplica(Replica):
    """The replica, whose every turn is looked at."""

    watch_turn: Callable[[int], None]

    def finish_turn(self) -> Outcome:
        outcome = super().finish_turn()
        if outcome.applied:
            self.watch_turn(outcome.applied)
        return outcome


class Node:
    """See the module's docstring."""

    log: MemoryLog
    core: WatchedCore
    store: StateStore
    machine: KeyspaceMachine
    replica: "WatchedReplica"
    driver: Driver
    states_thread: SimulatedStates
    _loop: SimulatedLoop

    def __init__(
        self, world: Surroundings, node_id: NodeId, config: Config, clock: NodeClock, incarnation: int
    ) -> None:
        self.id = node_id
        self.incarnation = incarnation
        self.clock = clock
        self.up = False
        self.paused = False
        self.gone = False  # Switched off for good.
        self.replaces = NOBODY  # Who was lost, in whose place, at whose address, this node comes.
        self.killed = False  # Its last life ended by a signal or by its own decision: the machine went on.
        self.observed_us = 0  # When it last looked at its clocks.
        self.lives = 0  # Of all incarnations; names one life.
        self.disk = MemoryDisk()
        self.states = {1: StateDisk()}  # By number; the log says which one counts.
        self.state_number = 1
        self.write: LogWrite | None = None
        self.world = world
        self._config = config
        self.listed = bool(config.cluster.members)  # Among those that found the cluster.

    @property
    def state(self) -> StateDisk:
        """The disk of the state that is in use."""
        return self.states[self.state_number]

    def new_state(self, picture: bytes) -> StateDisk:
        """Return a state as it has arrived from a peer: all of it is durable."""
        state = StateDisk.loaded(picture)
        assert isinstance(state, StateDisk)
        return self._watched(state)

    def opened(self, state: StateDisk) -> StateStore:
        """Return what the machine writes to, with `state` under it."""
        if not self.world.faults.gathered:
            return state
        return ThreadedStateStore(state, thread=SimulatedThread(self))

    def say(self, text: str) -> None:
        """Add to the trace."""
        self.world.say(f"n{self.id} {text}")

    def identity(self) -> PeerIdentity:
        """Return what a handshake says about this life, as of now."""
        membership = self.replica.membership
        return PeerIdentity(
            self.id,
            self.incarnation,
            self.core.last_index == 0,
            membership.origin,
            *membership.own_address,
            membership.founders,
        )

    # -- Life and death ------------------------------------------------------------------------------

    def boot(self) -> bool:
        """Begin a life from what is on disk; return False if the disk fails at once."""
        self.lives += 1
        world = self.world
        self.disk.before_sync = self._maybe_fail
        try:
            self.log = open_memory_log(self.disk, self.id, "simulation", incarnation=self.incarnation)
        except StorageFailed:
            self.disk.crash()
            return False
        seeds = world.rng.getrandbits(64), world.rng.getrandbits(64)
        self.state_number = self.log.state_number()
        self.states = {self.state_number: self.states[self.state_number]}
        self._watched(self.state)
        self.store = self.opened(self.state)
        self.machine = KeyspaceMachine(
            self.store,
            lookup=lookup,
            rng=random.Random(seeds[0]),
            changed_bytes_max=world.faults.gathered * RECORD_SHARE_BYTES,
        )
        hard_state = self.log.hard_state()
        self.core = self._core(hard_state, random.Random(seeds[1]))
        self.core.watch = lambda ready: world.ready(self, ready)
        self.core.watch_append = lambda entry: world.appended(self, entry)
        self.core.watch_commit = lambda: world.committed(self)
        start_counter = self.log.identity().start_counter
        nonce = world.rng.getrandbits(62) + 1
        self.replica = WatchedReplica(
            identity=Identity(self.id, self.incarnation, start_counter, nonce),
            config=self._config,
            core=self.core,
            machine=self.machine,
        )
        self.up, self.paused, self.write = True, False, None
        self.replica.watch_turn = lambda applied: world.turned(self, applied)
        self.driver = self._drive()
        world.say(f"n{self.id} boots, life {self.lives}: {hard_state} last {self.core.last_index}")
        world.booted(self, hard_state)
        self.hear_of_members()
        # Addresses are taken and links come up before the driver starts.
        self._loop.call_later(world.rng.random() * TICK_MS / 1000, self.driver.start)
        return True

    def die(self, why: str, *, killed: bool = False) -> None:
        """End this life: by power loss, or `killed`, which leaves everything that was written."""
        world = self.world
        writes_kept = self._writes_kept()
        self.up = False
        self.killed = killed
        keep = self.disk.unsynced_bytes()
        if keep and not killed:
            # Torn anywhere, or whole although nobody was told.
            keep = world.rng.choice((0, keep, world.rng.randint(0, keep))) if world.faults.torn else 0
        world.say(f"n{self.id} dies ({why}), keeps {keep} bytes and {writes_kept} writes")
        self.disk.crash(keep)
        self.state.crash(writes_kept=writes_kept)
        for number, state in self.states.items():
            if number != self.state_number:
                state.crash()
        if self.state.holds_half():
            world.ruined(self)
        world.died(self)

    def _writes_kept(self) -> int:
        """How many writes of the state a crash leaves that were not flushed."""
        world, state = self.world, self.state
        if not state.half_way:
            return world.rng.randint(0, state.unflushed_writes)
        if world.rng.random() < world.faults.half_steps and world.may_lose(self):
            return world.rng.randint(1, state.unflushed_writes)
        return 0

    def wipe(self) -> None:
        """Lose the disk. What boots next is another node under the same id, that never was there before."""
        assert not self.up
        self.world.say(f"n{self.id} loses its disk")
        self.world.wiped(self)
        self.incarnation += 1000
        self.disk = MemoryDisk()
        self.states = {1: StateDisk()}
        self.state_number = 1

    def pause(self) -> None:
        """Stop as by SIGSTOP."""
        self.paused = True
        self.world.say(f"n{self.id} pauses")

    def resume(self) -> None:
        """Go on."""
        self.world.say(f"n{self.id} resumes")
        self.paused = False
        self._loop.resume()

    def want_flush(self) -> None:
        """Have the state flushed and the log cut, as by RAFT.SNAPSHOT NOW. To be given like input."""
        self.wake()
        self.replica.snapshots.want_flush()

    def hear_of_members(self) -> None:
        """Be told whom a node that wants to join can turn to. To be given like input."""
        if self.replica.membership.joining:
            self.wake()
            self.replica.membership.contact(self.world.contacts())

    def storage_point(self, more: float = 0.0) -> None:
        """A storage operation is over: the power may fail right here, in so large a share of times `more`."""
        crashes = self.world.faults.storage_crashes + more
        if crashes and self.world.rng.random() < crashes:
            raise ProcessDied

    # -- Driver --------------------------------------------------------------------------------------

    def give(self, action: Callable[[], None]) -> None:
        """Give input to the process: now, or when its pause is over. `action` calls the replica."""
        if self.up:
            self._loop.input(action)

    def receive(self, sender: NodeId, incarnation: int, message: ReplicaMessage) -> None:
        """Take a peer's message."""
        if self.up:
            self._loop.input(lambda: self.driver.received(sender, incarnation, message))

    def wake(self) -> None:
        """Have a turn at the end of this pass of the loop."""
        self.driver.wake()

    def guarded(self, action: Callable[[], None]) -> None:
        """Do something in the process, which may be the last thing it does."""
        try:
            action()
        except ProcessDied:
            self.die("at a storage operation", killed=self.world.rng.random() < self.world.faults.kills)
        except StorageFailed as error:
            self.die(str(error), killed=True)

    # -- Private -------------------------------------------------------------------------------------

    def _watched(self, state: StateDisk) -> StateDisk:
        def flushed() -> None:
            if self.states.get(self.state_number) is state:
                self.world.flushed(self, state.durable_index())

        state.after_write, state.after_flush = self.storage_point, flushed
        state.piece_puts = self.world.faults.piece_puts
        return state

    def _drive(self) -> Driver:
        self._loop = SimulatedLoop(self)
        self.states_thread = SimulatedStates(self)
        return Driver(
            loop=self._loop,
            clocks=SimulatedClocks(self),
            replica=self.replica,
            log_writer=SimulatedDisk(self),
            links=SimulatedLinks(self),
            states=self.states_thread,
            deliver=self._deliver,
            die=_raise_again,
        )

    def _deliver(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self.world.answered(self, answer)

    def _core(self, hard_state: HardState, rng: random.Random) -> WatchedCore:
        applied_index: Index = load_applied(self.machine)[0]
        assert applied_index <= self.log.last_index(), "the state is ahead of the durable log"
        configuration = self.machine.meta(META_CONFIGURATION)
        return WatchedCore(
            node_id=self.id,
            config=self._config.raft,
            log=RaftLog(
                self.log,
                applied_index=applied_index,
                commit_index=hard_state.commit,
                cache_bytes_max=self._config.raft.entry_cache_bytes,
                size_of=size_of,
            ),
            hard_state=hard_state,
            configuration=Configuration.decode(configuration) if configuration else None,
            clock=LogClock(),
            rng=rng,
        )

    def _maybe_fail(self) -> None:
        world = self.world
        if world.faults.failed_syncs and world.rng.random() < world.faults.failed_syncs:
            raise OSError("the disk failed")


def _raise_again() -> NoReturn:
    raise  # noqa: PLE0704 (in place of `die`, which is called while an exception is handled)
