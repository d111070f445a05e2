"""What a driver is given in the simulator, in place of uvloop, the disk thread, the links and the clocks.

One of each per life of a node. A life that is over runs no callback any more, and one that is paused runs
them when it goes on: first the timers that are due, then what has piled up at its sockets, a few reads per
pass, as an event loop does.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from respraft.node.interface import Clocks, EventLoop, Links, LogWriter
from respraft.raft.message import NodeId
from respraft.raft.ready import LogWrite
from respraft.replica.status import ReplicaMessage

if TYPE_CHECKING:
    from tests.simulation.node import Node

TIMER_LATE_US: Final = 1000
"""The resolution of uvloop's timers."""
READS_PER_PASS: Final = 20
"""Most inputs that one pass takes after a pause."""


class SimulatedLoop(EventLoop):
    """The event loop of one life."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._life = node.lives
        self._late: list[Callable[[], None]] = []  # Callbacks that came due during a pause.
        self._inputs: list[Callable[[], None]] = []  # What has piled up at the sockets.
        self._draining = False

    def call_soon(self, callback: Callable[[], None], /) -> None:
        rng = self._node.world.rng
        # Inputs that come until then are of the same pass: mostly short ones, and now and then a busy one.
        pass_us = rng.random() * 100 if rng.random() < 0.95 else rng.random() * 3000
        self._after(pass_us, callback)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        node = self._node
        self._after(delay * 1e6 / node.clock.rate + node.world.rng.random() * TIMER_LATE_US, callback)

    def input(self, action: Callable[[], None]) -> None:
        """Something comes in: take it now, or behind what has piled up during a pause."""
        if self._node.paused or self._inputs:
            self._inputs.append(action)
        else:
            self._node.guarded(action)

    def resume(self) -> None:
        """The process goes on after a pause."""
        late, self._late = self._late, []
        for callback in late:
            self._run(callback)
        if not self._draining:
            self._draining = True
            self._after(0, self._drain)

    def _drain(self) -> None:
        self._draining = False
        for _ in range(self._node.world.rng.randint(1, READS_PER_PASS)):
            if self._inputs and self._node.lives == self._life and self._node.up:
                self._node.guarded(self._inputs.pop(0))
        if self._inputs:
            self._draining = True
            self._after(self._node.world.rng.random() * 500, self._drain)

    def _after(self, delay_us: float, callback: Callable[[], None]) -> None:
        self._node.world.schedule.after(delay_us, lambda: self._run(callback))

    def _run(self, callback: Callable[[], None]) -> None:
        node = self._node
        if not node.up or node.lives != self._life:
            return
        if node.paused:
            self._late.append(callback)
        else:
            node.guarded(callback)


class SimulatedDisk(LogWriter):
    """The log writer of one life: now a quick disk that is waited for, now a thread.

    The thread goes on during a pause, since the system call was made.
    """

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._life = node.lives
        self._written: Callable[[int, float], None]

    def start(self, written: Callable[[int, float], None]) -> None:
        self._written = written

    def begin(self, write: LogWrite) -> float | None:
        node = self._node
        node.write = write
        if (install := write.snapshot) is not None:
            node.log.begin_install(write.hard_state, install.point, install.state_number, keep_tail=False)
        else:
            node.log.begin_append(write.hard_state, write.entries, first_index=write.first_index)
        node.storage_point()
        faults, rng = node.world.faults, node.world.rng
        if write.snapshot is None and rng.random() < faults.writes_at_once:
            self._make_durable(write)
            node.write = None
            return faults.write_us / 1e6
        slowness = rng.randint(1, 100) if rng.random() < faults.slow_writes else 1
        took_us = faults.write_us * slowness * (0.5 + rng.random())
        node.world.schedule.after(took_us, lambda: self._synced(write, took_us / 1e6))
        return None

    def stop(self) -> None:
        """No life ends in order."""

    def _synced(self, write: LogWrite, took_s: float) -> None:
        if self._node.up and self._node.lives == self._life:
            self._node.guarded(lambda: self._finish(write, took_s))

    def _finish(self, write: LogWrite, took_s: float) -> None:
        self._make_durable(write)
        world = self._node.world
        world.schedule.after(world.rng.random() * 50, lambda: self._report(write, took_s))

    def _make_durable(self, write: LogWrite) -> None:
        node = self._node
        node.log.finish_append()
        node.world.durable(node, write)
        node.storage_point()

    def _report(self, write: LogWrite, took_s: float) -> None:
        if self._node.up and self._node.lives == self._life:
            self._node.give(lambda: self._done(write, took_s))

    def _done(self, write: LogWrite, took_s: float) -> None:
        self._node.write = None
        self._written(write.number, took_s)


class SimulatedLinks(Links):
    """The ways from one node to its peers."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._queue: list[tuple[NodeId, ReplicaMessage]] = []

    def send(self, to: NodeId, message: ReplicaMessage) -> None:
        self._queue.append((to, message))

    def set_peers(self, peers: Mapping[NodeId, str]) -> None:
        self._node.world.set_peers(self._node, peers)

    def flush(self) -> None:
        queue, self._queue = self._queue, []
        for to, message in queue:
            self._node.world.send(self._node, to, message)
        if queue:
            self._node.storage_point()


class SimulatedClocks(Clocks):
    """A node's own idea of the time."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def monotonic_s(self) -> float:
        return self._node.clock.monotonic_s()

    def wall_ms(self) -> int:
        node = self._node
        node.observed_us = node.world.schedule.now_us
        return node.clock.wall_ms()
