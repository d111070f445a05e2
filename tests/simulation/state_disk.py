"""The state of a simulated node: its disk, and the thread that brings down what has gathered in memory.

What the driver's machine writes to is `storage/state_thread.py` as in production, or in some runs the disk
itself. A step goes down in the pieces of production (`storage/pieces.py`), and the power may fail behind
each. All of a step is lost then, as with RocksDB, whose memtable becomes one file. In the one case in which
half of it stays (`half_steps`) it has to be known by its mark, so that nobody starts with it.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from respraft.raft.message import Index
from respraft.replica.applier import META_APPLIED, decode_applied
from respraft.replica.machine import META_PREFIX
from respraft.storage.pieces import HALF_WAY, Step, in_pieces
from respraft.storage.state_memory import MemoryStateStore

if TYPE_CHECKING:
    from tests.simulation.node import Node


class StateDisk(MemoryStateStore):
    """The state on disk, whose writes may be the last thing that a life does."""

    def __init__(self) -> None:
        super().__init__()
        self.after_write: Callable[[], None] = lambda: None
        self.after_flush: Callable[[], None] = lambda: None
        self.piece_puts = 1 << 30
        """Larger steps go down in pieces of so many records."""
        self.half_way = False
        """A step is under way in pieces."""

    def flush(self) -> None:
        super().flush()
        self.after_flush()

    def durable_index(self) -> Index:
        """How far goes what a crash would leave."""
        return decode_applied(self._disk.get(META_PREFIX + META_APPLIED))[0]

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().write(puts, cleared)
        self.after_write()

    def write_down(self, step: Step) -> None:
        if step.count <= self.piece_puts:
            super().write_down(step)
            return
        self.flush()
        self.half_way = True
        for keys, values, cleared in in_pieces(step, self.piece_puts):
            self.write(dict(zip(keys, values, strict=True)), cleared)
        self.half_way = False
        self.flush()

    def crash(self, *, writes_kept: int = 0) -> None:
        super().crash(writes_kept=writes_kept)
        self.half_way = False

    def holds_half(self) -> bool:
        """Whether the start is to be refused."""
        return self.get(HALF_WAY) is not None


class _Task(Future[Any]):
    """Something that the thread is to do."""

    def __init__(self, thread: "SimulatedThread", action: Callable[[], Any]) -> None:
        super().__init__()
        self._thread = thread
        self._action = action

    def result(self, timeout: float | None = None) -> Any:
        while not self.done():  # Who waits stands still until it is done, here for no time at all.
            self._thread.step()
        return super().result(timeout)

    def carry_out(self) -> None:
        try:
            self.set_result(self._action())
        except BaseException as error:
            self.set_exception(error)
            raise


class SimulatedThread(Executor):
    """The thread of one life: does one thing after the other, each after a while or when somebody waits."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._life = node.lives
        self._tasks: list[_Task] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        assert not named
        task = _Task(self, lambda: function(*arguments))
        self._tasks.append(task)
        node = self._node
        delay_us = 20 * node.world.faults.write_us * node.world.rng.random() ** 2
        node.world.schedule.after(delay_us, lambda: self._reach(task))
        return task

    def step(self) -> None:
        """Do what was asked for first."""
        self._tasks.pop(0).carry_out()

    def _reach(self, task: _Task) -> None:
        """It is this one's time, if it was not done before. It goes on during a pause, as a flush does."""
        node = self._node
        while node.up and node.lives == self._life and not task.done():
            node.guarded(self.step)
