"""The state as a whole: flushing it, cutting the log behind that, and going over to another node's state.

    due, or wanted ──Output.flush──> a thread flushes ──flushed()──> the log is cut with the next write

    a peer needs what is gone ──Output.snapshots──> begun(), a picture of the state is taken and sent, ended()

One flush is under way at a time. It is begun on the loop: what has been applied by then is handed to the
store, and only that counts as durable when it ends. `Compaction` decides when, and how far the log is cut.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from respraft.config import RaftConfig
from respraft.raft.message import Entry, Index, InstallSnapshot, NodeId, SnapshotPoint
from respraft.raft.node import RaftNode
from respraft.replica.applier import Applier
from respraft.replica.compaction import Compaction
from respraft.replica.machine import Machine
from respraft.replica.status import ReplicaCounters

_log: Final = logging.getLogger("respraft.replica")


class Snapshots:
    """What a replica does about whole states. The driver calls what has a docstring that says so."""

    def __init__(
        self,
        *,
        config: RaftConfig,
        core: RaftNode,
        machine: Machine,
        applier: Applier,
        counters: ReplicaCounters,
    ) -> None:
        """Begin with a state that is durable as far as it goes, and cut the log behind it."""
        self._config = config
        self._core = core
        self._machine = machine
        self._applier = applier
        self._counters = counters
        self._compaction = Compaction(config, applier.index)
        self.durable = self._applied_point()
        """Up to here the state survives a crash by itself."""
        self._flushing: SnapshotPoint | None = None  # How far that will be when the flush ends.
        self._under_way = False  # A flush, be it of a state that is this node's no longer.
        self._wanted = self._cut_all = False
        self._cut_log(applier.index)

    # Flushing

    def want_flush(self) -> None:
        """Flush soon, however little has gathered, and keep no margin of the log. For the driver."""
        self._wanted = True

    def flushed(self) -> None:
        """What `flush_due` returned has been called and has returned. For the driver."""
        assert self._under_way, "no flush was begun"
        self._under_way = False
        self._counters.flushes += 1
        point, self._flushing = self._flushing, None
        if point is not None:
            self.durable = point
            self._cut_log(point.index)

    def flush_due(self) -> Callable[[], None] | None:
        """Begin a flush if one is due; what is returned is to be called on another thread."""
        if self._under_way or not (self._wanted or self._compaction.due):
            return None
        self._cut_all, self._wanted = self._wanted, False
        self._compaction.flush_begun()
        flush = self._machine.begin_flush()
        if flush is not None:
            self._under_way = True
            self._flushing = self._applied_point()
        return flush

    def applied(self, entries: Sequence[Entry]) -> None:
        """These entries are in the state now."""
        self._compaction.applied(entries)

    # Transfers to peers

    def begun(self, peer: NodeId, index: Index) -> None:
        """A picture of the state that holds everything up to `index` is sent to `peer`. For the driver.

        It may be one that others get already. The log behind it is kept, within a limit.
        """
        self._compaction.transfer_begun(peer, index)

    def ended(self, peer: NodeId) -> None:
        """Nothing is sent to `peer` any more, or nothing could be. For the driver.

        What it needs now is found out anew, and a snapshot may be asked for again at once: a driver whose
        transfer has failed waits before it says so.
        """
        self._compaction.transfer_ended(peer)
        self._core.snapshot_ended(peer)

    # Another node's state

    def go_over(self, install: InstallSnapshot) -> None:
        """The log has named a state that was received: let the machine go on from there."""
        point = install.point
        self._machine.restore(install.state)
        self._applier.load()
        assert (self._applier.index, self._applier.term) == (point.index, point.term), (
            f"a state as of entry {point.index} was announced, but it is as of {self._applier.index}"
        )
        self._compaction = Compaction(self._config, point.index)
        self._flushing = None  # Whatever is flushed now, it is another state.
        self.durable = point
        self._counters.snapshots_installed += 1
        _log.info("took over the state of another node: now at entry %d of term %d", point.index, point.term)

    def _applied_point(self) -> SnapshotPoint:
        return SnapshotPoint(self._applier.index, self._applier.term, self._applier.log_time_ms)

    def _cut_log(self, flushed_index: Index) -> None:
        core = self._core
        index = self._compaction.cut(flushed_index, core.needed_by_peers(), margin=not self._cut_all)
        if index > core.log.base.index:
            core.compact_to(index)
