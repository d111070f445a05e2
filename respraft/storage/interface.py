"""What storage promises to the rest of respraft, and the errors it may raise.

The Raft log is behind `LogStore`; the keyspace is behind `StateStore` (`state_interface.py`).

Two kinds of trouble are told apart, because people act differently on them:

* `StartRefused`: the node must not start with what is in its data directory. The text is for an operator: it
  says what is wrong, where, and what to do. Nothing was changed.
* `StorageFailed`: the disk or the database gave out while running. Nobody knows what is on disk, so the
  process stops, and what really is there is found out at the next start.
"""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from respraft.raft.log_reader import LogReader
from respraft.raft.message import Entry, Index, SnapshotPoint
from respraft.raft.ready import HardState


class StorageFailed(Exception):
    """The disk gave out. Stop the process; never try again: a failed fsync may have dropped the data."""


class StartRefused(Exception):
    """The node must not start with this data directory. Shown to the operator as it is."""


class LogDamaged(StartRefused):
    """The log lacks something that was acknowledged, or cannot be read. Nothing on disk was changed."""


class WrongDirectory(StartRefused):
    """The data directory belongs to another node or cluster, or to a newer respraft."""


class DirectoryInUse(StartRefused):
    """Another process has the data directory open."""


class NodeIdentity(msgspec.Struct, array_like=True, frozen=True):
    """Whose data directory this is. Durable before anybody else hears of it."""

    node_id: int
    """0: it has none yet; a cluster will give it one (`LogStore.adopt`)."""
    cluster_id: str
    incarnation: int
    """Random, 63 bits: the life of this data directory. A wiped one has another."""
    start_counter: int
    """1 at the first start, one more at each. With the incarnation it names one life of one process."""
    replaces: int = 0
    """The id in whose place it has come since a repair: the configuration file may still name that one. It is
    never used again. 0: none."""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """A snapshot for metrics and INFO. The counters are those of this process's life."""

    first_index: Index
    last_index: Index
    size_bytes: int
    """What the log takes on disk, about."""
    fsync_count: int
    fsync_us_total: int
    fsync_us_max: int
    written_bytes: int
    """Entries as they are stored, without RocksDB's own framing."""


class LogStore(LogReader, Protocol):
    """Durable home of the log, the hard state and the node's identity.

    One thread writes (`append`, `install`); another may read at the same time (`LogReader`, `status`), but
    not what the write under way replaces or cuts off. Implementations name this class as a base, so that a
    missing method is a type error where it is missing.

    After the first StorageFailed every method but `close` raises it: nothing is tried again.
    """

    def append(self, hard_state: HardState, entries: list[Entry], *, first_index: Index = 0) -> None:
        """Write the hard state and the entries in one atomic, synced write.

        Existing entries at or above `entries[0].index` are removed by the same write; with no entries only
        the hard state changes. When this returns, all of it survives power loss; until then
        `last_index()` does not show it.

        Args:
            hard_state: Replaces the one before. Neither its term nor a vote in it goes back.
            entries: Contiguous, from at most one behind the last.
            first_index: Entries below it are cut off. All of them are committed, durable here, and in a
                state that survives a crash. At or below the present first index it says nothing.

        Raises:
            StorageFailed: Nothing is known about the disk. Stop the process.
        """
        ...

    def install(
        self, hard_state: HardState, point: SnapshotPoint, state_number: int, *, keep_tail: bool
    ) -> None:
        """Take another state than the log leads to, in one atomic, synced write.

        When this returns, `state_number()` names the new state, `base()` is its point, and the log begins
        behind it; after a crash before that, all is as it was. The state itself is durable already.

        Args:
            hard_state: As for `append`. Its commit index is at least the point's.
            point: The last entry in the new state; behind the present base.
            state_number: Of the new state; higher than the present one.
            keep_tail: Keep what is behind the point. Only if the log has the entry that the point names:
                what follows it was acknowledged (Raft paper, section 7). Else the whole log is removed.

        Raises:
            StorageFailed: As for `append`.
        """
        ...

    def state_number(self) -> int:
        """Which `state/N` belongs to this log; 1 until another one is installed."""
        ...

    def hard_state(self) -> HardState:
        """The hard state as of the last append; all zero in a new log."""
        ...

    def adopt(self, node_id: int, cluster_id: str) -> None:
        """Give the directory its id and its cluster, in one synced write: nobody has taken up what it had.

        Only while the log is empty. Called on the event loop, since no append can be under way.

        Raises:
            StorageFailed: As for `append`.
        """
        ...

    def identity(self) -> NodeIdentity:
        """Whose log this is. Changed by `adopt` only."""
        ...

    def status(self) -> LogStatus:
        """Figures for metrics, as of now."""
        ...

    def close(self) -> None:
        """Let go of the files. Nothing may be called afterwards, save this again."""
        ...
