"""The driver: carries out what a replica says, in one order, on whatever loop, disk and network it is given.

One turn serves everything that one pass of the event loop brought in. In it (`_turn`):

    replica.take_output()
      ├─ messages ──> peer links (one write per link and turn)
      └─ write    ──> disk ──(synced)──> persisted() ──> its messages, and the next turn
    replica.finish_turn()      applies, while disk and peers are at work
      ├─ answers  ──> clients
      ├─ flush    ──> a thread ──(durable)──> flushed(), and the log is cut
      └─ snapshots ─> transfers to peers ──(over)──> snapshot_ended()

At most one write is under way, and what gathers meanwhile is the next one. A disk that is quicker than the
hand-over to a thread writes in the middle of the turn (`log_writer.py`): then what rests on the write
leaves before anything is applied.

Time comes from here: each turn begins with one reading of the monotonic and the wall clock, and the core is
ticked as often as `TICK_MS` has passed. After a pause of the process (SIGSTOP, a frozen machine) the input
that has piled up is taken before the clock goes on, or the node would campaign against a leader whose
heartbeats it just has not read.

There is no event loop, thread, socket or clock in here, so that the simulator runs this very class under
virtual time; `server/` gives it uvloop, `log_writer.py` and the peer network. What it is given keeps the
contracts of `interface.py`. All of its methods are called from one thread.
"""

from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from respraft.config import TICK_MS
from respraft.node.interface import Clocks, EventLoop, Links, LogWriter, States
from respraft.raft.message import HeartbeatRequest, HeartbeatResponse, Index, InstallSnapshot, NodeId
from respraft.raft.ready import LogWrite
from respraft.replica.batch import Answer, Client, Refusal
from respraft.replica.gathering import HOLD_MS
from respraft.replica.machine import Command
from respraft.replica.replica import Replica
from respraft.replica.status import Outgoing, ReplicaMessage

TICKS_PER_CALL_MAX: Final = 5
"""However late the timer comes, the core's clock advances by no more than this at once."""
LATE_TICKS: Final = 5
"""A timer later than this means that the process was paused: peers are heard first."""
DRAIN_PASSES_MAX: Final = 50
"""For how many passes of the loop a late tick waits for piled-up peer input to end."""
DRAIN_PASS_S: Final = 0.001
"""How long such a pass lasts, at least: long enough for the loop to read its sockets once."""


class Timings:
    """What histograms are made of, in seconds, since it was last taken."""

    def __init__(self) -> None:
        self.turn_s: list[float] = []
        self.apply_s: list[float] = []  # The replica's part of turns in which entries were applied.
        self.fsync_s: list[float] = []
        self.lag_s: list[float] = []


class Driver:
    """Runs one replica; see the module's docstring."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        clocks: Clocks,
        replica: Replica,
        log_writer: LogWriter,
        links: Links,
        states: States,
        deliver: Callable[[Iterable[Answer]], None],
        die: Callable[[], NoReturn],
    ) -> None:
        """Join the parts. Inputs may come from now on; nothing is done about them before `start`.

        Args:
            loop: Runs turns and ticks.
            clocks: Read once per turn and tick.
            replica: Owned by this driver from here on.
            log_writer: Started and stopped by this driver.
            links: Where messages leave; what comes in is given to `received`.
            states: Started and stopped by this driver.
            deliver: Takes the answers of a turn to their clients.
            die: Called while an exception of the replica is handled; ends the process. Half of a step may
                have been done: what is in memory is worth nothing any more, what is on disk is.
        """
        self.now_ms = 0.0  # Monotonic, as of the present turn.
        self.round_trip_s: dict[NodeId, float] = {}  # Last heartbeat round trip, on a leader.
        self._loop = loop
        self._monotonic_s = clocks.monotonic_s
        self._wall_ms = clocks.wall_ms
        self._replica = replica
        self._log_writer = log_writer
        self._links = links
        self._states = states
        self._installing: InstallSnapshot | None = None  # Named by the write under way.
        self._deliver = deliver
        self._die = die
        self._timings = Timings()
        self._heartbeats: dict[NodeId, tuple[int, float]] = {}  # Round and time of the last one sent.
        self._awake = True  # Also until `start`, so that no turn is taken.
        self._stopped = False
        self._hold_timer = False  # It runs.
        self._next_tick_ms = 0.0
        self._heard_peer = False
        self._drain_passes = 0
        self._observe()

    def take_timings(self) -> Timings:
        """Return the timings so far and begin anew."""
        timings, self._timings = self._timings, Timings()
        return timings

    def start(self) -> None:
        """Begin to take turns, to tick and to write."""
        self._awake = False
        self._log_writer.start(self._written)
        self._states.start(self)
        self._observe()
        self._next_tick_ms = self.now_ms + TICK_MS
        self._loop.call_later(TICK_MS / 1000, self._tick)
        self.wake()

    def stop(self) -> None:
        """Take no further turn; returns when the write under way is done. Never started is stopped, too."""
        self._stopped = True
        self._states.stop()
        self._log_writer.stop()

    def wake(self) -> None:
        """Something is about to be given to the replica: take a turn at the end of this pass of the loop."""
        if not self._awake:
            self._awake = True
            self._observe()
            self._loop.call_soon(self._turn)

    def submit(
        self,
        client: Client,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        database: int,
        size: int,
    ) -> Refusal | None:
        """Give the replica a client's group that holds a write; a turn follows if it can change anything.

        Of fifty clients who are waited for each pass of the loop brings a few: a turn each would do nothing.
        """
        replica = self._replica
        if not replica.gathers:
            self.wake()  # Before, so that a new batch begins as of now.
        refusal = replica.submit(client, writes, reads, database, size)
        if not replica.gathers:
            self.wake()  # It was the last that the others had waited for, or the batch is full.
        return refusal

    def received(self, sender: NodeId, incarnation: int, message: ReplicaMessage) -> None:
        """Take a message from a peer."""
        self.wake()
        self._heard_peer = True
        if type(message) is HeartbeatRequest:
            self._observe()  # A promise counts from now on, not from the beginning of a long pass.
        elif type(message) is HeartbeatResponse:
            round_, sent_s = self._heartbeats.get(sender, (0, 0.0))
            if round_ == message.round:
                self.round_trip_s[sender] = self._monotonic_s() - sent_s
        try:
            self._replica.receive(sender, incarnation, message)
        except Exception:
            self._die()

    def flushed(self) -> None:
        """The flush that a turn asked for is done."""
        self.wake()
        self._replica.snapshots.flushed()

    def snapshot_begun(self, peer: NodeId, index: Index) -> None:
        """A picture of the state that holds everything up to `index` goes to `peer`."""
        self._replica.snapshots.begun(peer, index)

    def snapshot_ended(self, peer: NodeId) -> None:
        """Nothing is being sent to `peer` any more."""
        self.wake()
        self._replica.snapshots.ended(peer)

    def install_snapshot(self, install: InstallSnapshot) -> bool:
        """A peer's state has arrived and was opened. False: it is of no use here, and can be removed.

        Otherwise `States.installed` says when it has taken the place of the one before, unless the process
        ends earlier, or another one overtakes it.
        """
        self.wake()
        try:
            return self._replica.install_snapshot(install)
        except Exception:
            self._die()

    def _observe(self) -> None:
        self.now_ms = self._monotonic_s() * 1000
        self._replica.observe(self.now_ms, self._wall_ms())

    def _turn(self) -> None:
        self._awake = False
        if self._stopped:
            return
        # The input of this turn is there. What is said of it as of now, be it that a lease holds, is true of
        # all of it, however long ago the pass began.
        self._observe()
        begin_s = self.now_ms / 1000
        try:
            output = self._replica.take_output()
        except Exception:
            self._die()
        # First what others wait for: they have their work while this node writes and applies.
        if output.messages:
            self._send(output.messages)
        if output.write is not None:
            self._write(output.write)
        apply_s = self._monotonic_s()
        try:
            outcome = self._replica.finish_turn()
        except Exception:
            self._die()
        if outcome.applied:
            self._timings.apply_s.append(self._monotonic_s() - apply_s)
        if outcome.peers is not None:  # Behind the messages: who left is to hear of it.
            self._links.set_peers(outcome.peers)
        if outcome.answers:
            self._deliver(outcome.answers)
        if outcome.flush is not None:
            self._states.flush(outcome.flush)
        for peer in outcome.snapshots:
            self._states.send(peer)
        self._timings.turn_s.append(self._monotonic_s() - begin_s)
        if outcome.again:
            self.wake()
        elif outcome.holding and not self._hold_timer:
            self._hold_timer = True
            self._loop.call_later(HOLD_MS / 1000, self._end_hold)

    def _end_hold(self) -> None:
        self._hold_timer = False
        self.wake()

    def _send(self, messages: Iterable[Outgoing]) -> None:
        links = self._links
        for to, message in messages:
            if type(message) is HeartbeatRequest:
                self._heartbeats[to] = (message.round, self._monotonic_s())
            links.send(to, message)
        links.flush()

    def _write(self, write: LogWrite) -> None:
        self._installing = write.snapshot
        took_s = self._log_writer.begin(write)
        if took_s is not None:
            self._persisted(write.number, took_s)

    def _written(self, number: int, took_s: float) -> None:
        if self._stopped:
            return
        self._observe()
        self._persisted(number, took_s)
        # At once, and not behind the input of this pass: the disk would be idle until then.
        self._turn()

    def _persisted(self, number: int, took_s: float) -> None:
        self._timings.fsync_s.append(took_s)
        try:
            messages = self._replica.persisted(number)
        except Exception:
            self._die()
        if self._installing is not None:
            self._states.installed(self._installing)
            self._installing = None
        if messages:
            self._send(messages)

    def _tick(self) -> None:
        if self._stopped:
            return
        now_ms = self._monotonic_s() * 1000
        late_ms = now_ms - self._next_tick_ms
        self._timings.lag_s.append(max(0.0, late_ms / 1000))
        paused = late_ms > LATE_TICKS * TICK_MS and self._drain_passes < DRAIN_PASSES_MAX
        if paused and (self._heard_peer or not self._drain_passes):
            self._replica.resume()
            self._heard_peer = False
            self._drain_passes += 1
            self._loop.call_later(DRAIN_PASS_S, self._tick)
            return
        self._drain_passes = 0
        self.wake()
        try:
            for _ in range(min(TICKS_PER_CALL_MAX, 1 + int(max(late_ms, 0.0) / TICK_MS))):
                self._replica.tick()
        except Exception:
            self._die()
        self._next_tick_ms = max(self._next_tick_ms + TICK_MS, now_ms)
        self._loop.call_later(max(0.0, self._next_tick_ms - now_ms) / 1000, self._tick)
