"""One node: what survives a crash, the process of its present life, and the driver of that process.

The driver does what `respraft/node/driver.py` does, in the same order: input is given to the replica as it
comes and a turn follows at the end of the pass; a turn's messages leave at once while its write is under way;
when the write is durable its messages leave and another turn follows; whoever was paused hears its peers
before its clock goes on.

A life ends by power loss at any moment, in particular right behind each storage operation (`ProcessDied`).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from respraft.commands.machine import KeyspaceMachine
from respraft.commands.table import lookup
from respraft.config import TICK_MS, Config
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.message import Entry, Index, NodeId
from respraft.raft.node import RaftNode
from respraft.raft.ready import HardState, LogWrite, Ready
from respraft.replica.applier import META_CONFIGURATION, load_applied
from respraft.replica.batch import Answer
from respraft.replica.formation import PeerIdentity
from respraft.replica.gathering import HOLD_MS
from respraft.replica.replica import Replica
from respraft.replica.status import Identity, Outgoing, ReplicaMessage
from respraft.storage.interface import StorageFailed
from respraft.storage.log_memory import MemoryDisk, MemoryLog, open_memory_log
from respraft.storage.state_memory import MemoryStateStore
from tests.simulation.clock import NodeClock, Schedule
from tests.simulation.faults import Faults

TICKS_PER_CALL_MAX: Final = 5
"""As in the real driver: a late timer advances the core's clock by no more than that."""


class ProcessDied(Exception):
    """The power failed in the middle of a step."""


class Surroundings(Protocol):
    """What a node has around it: network, clients and those who watch it."""

    schedule: Schedule
    rng: random.Random
    faults: Faults

    def say(self, text: str) -> None:
        """Add to the trace."""

    def send(self, node: "Node", to: NodeId, message: ReplicaMessage) -> None:
        """Put a message on its way."""

    def answered(self, node: "Node", answer: Answer) -> None:
        """A client of the node gets its answer."""

    def died(self, node: "Node") -> None:
        """A life is over."""

    def wiped(self, node: "Node") -> None:
        """Its disk is about to be gone."""

    def booted(self, node: "Node", hard_state: HardState) -> None:
        """A life has begun."""

    def ready(self, node: "Node", ready: Ready) -> None:
        """The core asks for this."""

    def appended(self, node: "Node", entry: Entry) -> None:
        """The core, as a leader, has made an entry."""

    def durable(self, node: "Node", write: LogWrite) -> None:
        """A log write is durable."""

    def turned(self, node: "Node", applied: int) -> None:
        """A turn is over, in which so many entries were applied."""


class StateDisk(MemoryStateStore):
    """The state, whose writes may be the last thing that a life does."""

    def __init__(self) -> None:
        super().__init__()
        self.after_write: Callable[[], None] = lambda: None

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().write(puts, cleared)
        self.after_write()


class WatchedCore(RaftNode):
    """The core, whose every Ready and own entry is looked at."""

    watch: Callable[[Ready], None]
    watch_append: Callable[[Entry], None]

    def append(self, entry: Entry) -> None:
        super().append(entry)
        self.watch_append(entry)

    def take_ready(self, *, write_allowed: bool) -> Ready:
        ready = super().take_ready(write_allowed=write_allowed)
        self.watch(ready)
        return ready


class Node:
    """See the module's docstring."""

    log: MemoryLog
    core: WatchedCore
    machine: KeyspaceMachine
    replica: Replica

    def __init__(
        self, world: Surroundings, node_id: NodeId, config: Config, clock: NodeClock, incarnation: int
    ) -> None:
        self.id = node_id
        self.incarnation = incarnation
        self.clock = clock
        self.up = False
        self.paused = False
        self.observed_us = 0  # When it last looked at its clocks.
        self.lives = 0  # Of all incarnations; names one life.
        self.disk = MemoryDisk()
        self.state = StateDisk()
        self.write: LogWrite | None = None
        self._world = world
        self._config = config
        self._awake = False
        self._hold_timer = False
        self._inbox: list[Callable[[], None]] = []  # What piles up while paused.
        self._late_ticks = 0

    def identity(self) -> PeerIdentity:
        """Return what a handshake says about this life, as of now."""
        return PeerIdentity(self.id, self.incarnation, self.core.last_index == 0)

    # -- Life and death ------------------------------------------------------------------------------

    def boot(self) -> bool:
        """Begin a life from what is on disk; return False if the disk fails at once."""
        self.lives += 1
        world = self._world
        self.disk.before_sync = self._maybe_fail
        try:
            self.log = open_memory_log(self.disk, self.id, "simulation", incarnation=self.incarnation)
        except StorageFailed:
            self.disk.crash()
            return False
        seeds = world.rng.getrandbits(64), world.rng.getrandbits(64)
        self.state.after_write = self.storage_point
        self.machine = KeyspaceMachine(self.state, lookup=lookup, rng=random.Random(seeds[0]))
        hard_state = self.log.hard_state()
        self.core = self._core(hard_state, random.Random(seeds[1]))
        self.core.watch = lambda ready: world.ready(self, ready)
        self.core.watch_append = lambda entry: world.appended(self, entry)
        start_counter = self.log.identity().start_counter
        nonce = world.rng.getrandbits(62) + 1
        self.replica = Replica(
            identity=Identity(self.id, self.incarnation, start_counter, nonce),
            config=self._config,
            core=self.core,
            machine=self.machine,
        )
        self.up, self.paused, self.write = True, False, None
        self._awake = self._hold_timer = False
        self._inbox, self._late_ticks = [], 0
        world.say(f"n{self.id} boots, life {self.lives}: {hard_state} last {self.core.last_index}")
        world.booted(self, hard_state)
        self._observe()
        self._tick_later(world.rng.random())
        self.wake()
        return True

    def die(self, why: str) -> None:
        """End this life by power loss."""
        world = self._world
        self.up = False
        keep = self.disk.unsynced_bytes()
        if keep:
            # Torn anywhere, or whole although nobody was told.
            keep = world.rng.choice((0, keep, world.rng.randint(0, keep))) if world.faults.torn else 0
        writes_kept = world.rng.randint(0, self.state.unflushed_writes)
        world.say(f"n{self.id} dies ({why}), keeps {keep} bytes and {writes_kept} writes")
        self.disk.crash(keep)
        self.state.crash(writes_kept=writes_kept)
        world.died(self)

    def wipe(self, incarnation: int) -> None:
        """Lose the disk. What boots next is another node under the same id."""
        assert not self.up
        self._world.say(f"n{self.id} loses its disk")
        self._world.wiped(self)
        self.incarnation = incarnation
        self.disk = MemoryDisk()
        self.state = StateDisk()

    def pause(self) -> None:
        """Stop as by SIGSTOP."""
        self.paused = True
        self._world.say(f"n{self.id} pauses")

    def resume(self) -> None:
        """Go on: what has come is taken first, then the clock goes on."""
        self._world.say(f"n{self.id} resumes")
        self.paused = False
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            if not self.up:
                return
            self._guarded(action)
        ticks, self._late_ticks = min(self._late_ticks, TICKS_PER_CALL_MAX), 0
        if self.up and ticks:
            self._guarded(lambda: self._ticks(ticks))

    def flush(self) -> None:
        """Make the state survive a crash. To be given like input."""
        self.machine.flush()

    def storage_point(self) -> None:
        """A storage operation is over: the power may fail right here."""
        world = self._world
        if world.faults.storage_crashes and world.rng.random() < world.faults.storage_crashes:
            raise ProcessDied

    # -- Driver --------------------------------------------------------------------------------------

    def give(self, action: Callable[[], None]) -> None:
        """Give input to the process: now, or when its pause is over. `action` calls the replica."""
        if self.paused:
            self._inbox.append(action)
        elif self.up:
            self._guarded(action)

    def receive(self, sender: NodeId, incarnation: int, message: ReplicaMessage) -> None:
        """Take a peer's message."""
        self.give(lambda: self._receive(sender, incarnation, message))

    def wake(self) -> None:
        """Have a turn at the end of this pass of the loop."""
        if self._awake:
            return
        self._awake = True
        self._observe()
        rng, life = self._world.rng, self.lives
        pass_us = rng.randint(0, 100) if rng.random() < 0.95 else rng.randint(100, 3000)
        self._world.schedule.after(pass_us, lambda: self._if_alive(life, self._turn))

    def _if_alive(self, life: int, action: Callable[[], None]) -> None:
        if self.up and self.lives == life:
            self.give(action)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except ProcessDied:
            self.die("at a storage operation")
        except StorageFailed as error:
            self.die(str(error))

    def _receive(self, sender: NodeId, incarnation: int, message: ReplicaMessage) -> None:
        self.wake()
        self.replica.receive(sender, incarnation, message)

    def _observe(self) -> None:
        self.observed_us = self._world.schedule.now_us
        self.replica.observe(self.clock.monotonic_ms(), self.clock.wall_ms())

    def _turn(self) -> None:
        if not self._awake:
            return  # A completed write has brought it forward.
        self._awake = False
        world = self._world
        output = self.replica.take_output()
        self.send(output.messages)
        if output.write is not None:
            self._begin_write(output.write)
        for answer in output.answers:
            world.answered(self, answer)
        world.turned(self, output.applied)
        if output.again:
            self.wake()
        elif output.holding and not self._hold_timer:
            self._hold_timer = True
            life = self.lives
            world.schedule.after(HOLD_MS * 1000, lambda: self._if_alive(life, self._end_hold))

    def _end_hold(self) -> None:
        self._hold_timer = False
        self.wake()

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Put a turn's messages on their way."""
        for to, message in messages:
            self._world.send(self, to, message)

    def _begin_write(self, write: LogWrite) -> None:
        self.write = write
        self.log.begin_append(write.hard_state, write.entries)
        self.storage_point()
        faults, rng, life = self._world.faults, self._world.rng, self.lives
        slowness = rng.randint(1, 100) if rng.random() < faults.slow_writes else 1
        self._world.schedule.after(
            faults.write_us * slowness * (0.5 + rng.random()), lambda: self._synced(life, write)
        )

    def _synced(self, life: int, write: LogWrite) -> None:
        """On the disk thread: it goes on during a pause, since the system call was made."""
        if not self.up or self.lives != life:
            return
        self._guarded(lambda: self._finish_write(write))

    def _finish_write(self, write: LogWrite) -> None:
        self.log.finish_append()
        self._world.durable(self, write)
        self.storage_point()
        life = self.lives
        delay_us = self._world.rng.randint(0, 50)
        self._world.schedule.after(delay_us, lambda: self._if_alive(life, lambda: self._written(write)))

    def _written(self, write: LogWrite) -> None:
        self._observe()
        self.write = None
        self.send(self.replica.persisted(write.number))
        self._awake = True
        self._turn()

    def _tick_later(self, share: float = 1.0) -> None:
        life = self.lives
        self._world.schedule.after(TICK_MS * 1000 * share / self.clock.rate, lambda: self._timer(life))

    def _timer(self, life: int) -> None:
        if not self.up or self.lives != life:
            return
        self._tick_later()
        if self.paused:
            self._late_ticks += 1
        else:
            self._guarded(lambda: self._ticks(1))

    def _ticks(self, count: int) -> None:
        self.wake()
        for _ in range(count):
            self.replica.tick()

    # -- Private -------------------------------------------------------------------------------------

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
            ),
            hard_state=hard_state,
            configuration=Configuration.decode(configuration) if configuration else None,
            clock=LogClock(),
            rng=rng,
        )

    def _maybe_fail(self) -> None:
        world = self._world
        if world.faults.failed_syncs and world.rng.random() < world.faults.failed_syncs:
            raise OSError("the disk failed")
