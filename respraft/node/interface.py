"""What the driver is given: a loop, a disk, links and clocks, and the contracts that they keep."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from respraft.raft.message import InstallSnapshot, NodeId
from respraft.raft.ready import LogWrite
from respraft.replica.status import ReplicaMessage

if TYPE_CHECKING:
    from respraft.node.driver import Driver


class EventLoop(Protocol):
    """What runs callbacks, one at a time. asyncio's loops are such."""

    def call_soon(self, callback: Callable[[], None], /) -> object:
        """Run `callback` at the end of this pass, behind the input that the pass has brought."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Run `callback` when `delay` seconds of the monotonic clock have passed, or later."""
        ...


class LogWriter(Protocol):
    """Makes log writes durable, away from the loop save where that takes longer than the writes do."""

    def start(self, written: Callable[[int, float], None]) -> None:
        """Get ready. `written(number, seconds)` is called on the loop as each write has become durable that
        was under way when `begin` returned."""
        ...

    def begin(self, write: LogWrite) -> float | None:
        """Write, or begin to. No other write is under way.

        Returns:
            How many seconds it took, if it is durable already. None: it is under way.

        A write that fails ends the process before anything else is done: a failed fsync leaves nothing to
        rely on, and it is never tried again.
        """
        ...

    def stop(self) -> None:
        """Return when the write under way is done; also called when never started."""
        ...


class States(Protocol):
    """Does what concerns whole states, away from the loop: flushes, and transfers from and to peers."""

    def start(self, driver: "Driver") -> None:
        """Get ready. `driver` is told, on the loop, what has been done and what has arrived."""
        ...

    def flush(self, flush: Callable[[], None]) -> None:
        """Call `flush` on another thread; then `Driver.flushed`. No other flush is under way.

        One that fails ends the process, as a log write does.
        """
        ...

    def send(self, peer: NodeId) -> None:
        """Bring a picture of this node's state to `peer`: `Driver.snapshot_begun` before it is taken, and
        `Driver.snapshot_ended` in every case, but not at once where it failed at once."""
        ...

    def installed(self, install: InstallSnapshot) -> None:
        """That state is this node's now. The one before is of no use any more, and can be removed."""
        ...

    def stop(self) -> None:
        """Begin nothing more; also called when never started."""
        ...


class Links(Protocol):
    """The ways to the peers. What cannot be sent is dropped: `Replica.link_up` will tell."""

    def send(self, to: NodeId, message: ReplicaMessage) -> object:
        """Put a message on its way with the next `flush`."""
        ...

    def set_peers(self, peers: Mapping[NodeId, str]) -> None:
        """Keep links to exactly these nodes from now on, at these addresses. The membership has changed."""
        ...

    def flush(self) -> None:
        """Send what this turn has queued, in one write per link."""
        ...


class Clocks(Protocol):
    """Monotonic and wall clock, both as precise as the machine has them."""

    def monotonic_s(self) -> float:
        """Seconds that only grow."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds of the Unix epoch; may jump."""
        ...
