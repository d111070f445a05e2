"""The driver: carries out what a replica says, on an event loop, a disk thread and the peer network.

One turn serves everything that one pass of the event loop brought in. In it (`_turn`):

    replica.take_output()
      ├─ messages ──> peer links (one write per link and turn)
      ├─ write    ──> disk thread ──(synced)──> persisted() ──> its messages, and the next turn
      └─ answers  ──> clients

The loop never waits for a disk: the thread writes and syncs with the interpreter lock released, and at most
one write is under way, so what gathers meanwhile is the next one.

A write that fails ends the process on the disk thread itself, before anybody can be told anything: a
failed fsync leaves nothing to rely on, and it is never tried again.

Time comes from here: each turn begins with one reading of the monotonic and the wall clock, and the core is
ticked as often as `TICK_MS` has passed. After a pause of the process (SIGSTOP, a frozen machine) the input
that has piled up is taken before the clock goes on, or the node would campaign against a leader whose
heartbeats it just has not read.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Final, NoReturn

import msgspec

from respraft.config import TICK_MS
from respraft.peer.network import PeerNetwork
from respraft.raft.message import HeartbeatRequest, HeartbeatResponse, NodeId
from respraft.raft.ready import LogWrite
from respraft.replica.batch import Answer
from respraft.replica.gathering import HOLD_MS
from respraft.replica.replica import Replica
from respraft.replica.status import Outgoing, ReplicaMessage
from respraft.storage.interface import LogStore, StorageFailed

EXIT_STORAGE_FAILED: Final = 74
"""Exit status when the disk gave out or a database is damaged (EX_IOERR of sysexits.h)."""
EXIT_INTERNAL_ERROR: Final = 70
"""Exit status after an error that leaves the node's state in doubt (EX_SOFTWARE)."""

TICKS_PER_CALL_MAX: Final = 5
"""However late the timer comes, the core's clock advances by no more than this at once."""
LATE_TICKS: Final = 5
"""A timer later than this means that the process was paused: peers are heard first."""
DRAIN_PASSES_MAX: Final = 50
"""For how many passes of the loop a late tick waits for piled-up peer input to end."""

# Half of a step may have been done: what is in memory is worth nothing any more, what is on disk is.
_IN_DOUBT: Final = "the replica failed in the middle of a step; the node stops, its log is intact"

_log: Final = logging.getLogger("respraft.server")


class Timings(msgspec.Struct):
    """What histograms are made of, in seconds, since it was last taken."""

    turn_s: list[float]
    apply_s: list[float]  # The replica's part of turns in which entries were applied.
    fsync_s: list[float]  # Filled by the disk thread; appending to a list is atomic.
    lag_s: list[float]


class Driver:
    """Runs one replica. All methods are called on the event loop's thread."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        replica: Replica,
        log_store: LogStore,
        network: PeerNetwork[ReplicaMessage],
        deliver: Callable[[Iterable[Answer]], None],
    ) -> None:
        """Join the parts. Inputs may come from now on; nothing is done about them before `start`.

        Args:
            loop: The running loop.
            replica: Owned by this driver from here on.
            log_store: Written by the disk thread only.
            network: Where messages leave; what comes in is given to `received` by its receiver.
            deliver: Takes the answers of a turn to their clients.
        """
        self.now_ms = 0.0  # Monotonic, as of the present turn.
        self.round_trip_s: dict[NodeId, float] = {}  # Last heartbeat round trip, on a leader.
        self._loop = loop
        self._replica = replica
        self._log_store = log_store
        self._deliver = deliver
        self._network = network
        self._timings = Timings([], [], [], [])
        self._heartbeats: dict[NodeId, tuple[int, float]] = {}  # Round and time of the last one sent.
        self._awake = True  # Also until `start`, so that no turn is taken.
        self._stopped = False
        self._hold_timer: asyncio.TimerHandle | None = None
        self._writes: SimpleQueue[LogWrite | None] = SimpleQueue()
        self._disk_thread = threading.Thread(target=self._write_log, name="respraft-disk", daemon=True)
        self._next_tick_ms = 0.0
        self._heard_peer = False
        self._drain_passes = 0
        self._observe()

    def take_timings(self) -> "Timings":
        """Return the timings so far and begin anew."""
        timings, self._timings = self._timings, Timings([], [], [], [])
        return timings

    def start(self) -> None:
        """Begin to take turns, to tick and to write."""
        self._awake = False
        self._disk_thread.start()
        self._observe()
        self._next_tick_ms = self.now_ms + TICK_MS
        self._loop.call_later(TICK_MS / 1000, self._tick)
        self.wake()

    def stop(self) -> None:
        """Take no further turn; returns when the write under way is done. Never started is stopped, too."""
        self._stopped = True
        self._writes.put(None)
        if self._disk_thread.ident is not None:
            self._disk_thread.join()

    def wake(self) -> None:
        """Something was given to the replica: take a turn at the end of this pass of the loop."""
        if not self._awake:
            self._awake = True
            self._observe()
            self._loop.call_soon(self._turn)

    def received(self, sender: int, incarnation: int, message: ReplicaMessage) -> None:
        """Take a message from a peer."""
        self.wake()
        self._heard_peer = True
        if type(message) is HeartbeatResponse:
            round_, sent_s = self._heartbeats.get(sender, (0, 0.0))
            if round_ == message.round:
                self.round_trip_s[sender] = time.monotonic() - sent_s
        try:
            self._replica.receive(sender, incarnation, message)
        except Exception:
            self._die(EXIT_INTERNAL_ERROR, _IN_DOUBT)

    def _observe(self) -> None:
        self.now_ms = time.monotonic() * 1000
        self._replica.observe(self.now_ms, time.time_ns() // 1_000_000)

    def _turn(self) -> None:
        self._awake = False
        if self._stopped:
            return
        begin = time.perf_counter()
        try:
            output = self._replica.take_output()
        except Exception:
            self._die(EXIT_INTERNAL_ERROR, _IN_DOUBT)
        if output.applied:
            self._timings.apply_s.append(time.perf_counter() - begin)
        if output.write is not None:
            self._writes.put(output.write)
        self._send(output.messages)
        if output.answers:
            self._deliver(output.answers)
        self._timings.turn_s.append(time.perf_counter() - begin)
        if output.again:
            self.wake()
        elif output.holding and self._hold_timer is None:
            self._hold_timer = self._loop.call_later(HOLD_MS / 1000, self._end_hold)

    def _end_hold(self) -> None:
        self._hold_timer = None
        self.wake()

    def _send(self, messages: Iterable[Outgoing]) -> None:
        network = self._network
        for to, message in messages:
            if type(message) is HeartbeatRequest:
                self._heartbeats[to] = (message.round, time.monotonic())
            network.send(to, message)
        network.flush()

    def _write_log(self) -> None:
        """Body of the disk thread."""
        while (write := self._writes.get()) is not None:
            begin = time.perf_counter()
            try:
                self._log_store.append(write.hard_state, write.entries)
            except Exception:
                self._die(EXIT_STORAGE_FAILED, "the log cannot be written; the node stops")
            self._timings.fsync_s.append(time.perf_counter() - begin)
            self._loop.call_soon_threadsafe(self._written, write.number)

    def _written(self, number: int) -> None:
        if self._stopped:
            return
        self._observe()
        try:
            messages = self._replica.persisted(number)
        except Exception:
            self._die(EXIT_INTERNAL_ERROR, _IN_DOUBT)
        self._send(messages)
        self._turn()

    def _tick(self) -> None:
        if self._stopped:
            return
        now_ms = time.monotonic() * 1000
        late_ms = now_ms - self._next_tick_ms
        self._timings.lag_s.append(max(0.0, late_ms / 1000))
        paused = late_ms > LATE_TICKS * TICK_MS and self._drain_passes < DRAIN_PASSES_MAX
        if paused and (self._heard_peer or not self._drain_passes):
            self._heard_peer = False
            self._drain_passes += 1
            self._loop.call_later(0.001, self._tick)
            return
        self._drain_passes = 0
        self.wake()
        try:
            for _ in range(min(TICKS_PER_CALL_MAX, 1 + int(max(late_ms, 0.0) / TICK_MS))):
                self._replica.tick()
        except Exception:
            self._die(EXIT_INTERNAL_ERROR, _IN_DOUBT)
        self._next_tick_ms = max(self._next_tick_ms + TICK_MS, now_ms)
        self._loop.call_later(max(0.0, self._next_tick_ms - now_ms) / 1000, self._tick)

    @staticmethod
    def _die(status: int, reason: str) -> NoReturn:
        error = sys.exception()
        if isinstance(error, StorageFailed):
            status = EXIT_STORAGE_FAILED
            _log.critical("%s. The node stops. %s", error, storage_advice(error))
        else:
            _log.critical(reason, exc_info=True)
        logging.shutdown()
        os._exit(status)


def storage_advice(error: StorageFailed) -> str:
    """Return what to do about it, as sentences for the operator."""
    text = str(error)
    if "No space left" in text:
        return "Nothing that was acknowledged is lost: free some space and start the node again."
    if "state database" in text and "orruption" in text:
        return (
            "The log is intact and holds everything while it begins with entry 1: move state/ in the data "
            "directory away and start the node again, and it makes the keyspace anew."
        )
    return (
        "Nothing that was acknowledged is lost on the other nodes. Look at the disk (dmesg, smartctl) before "
        "this node is started again."
    )
