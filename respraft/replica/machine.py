"""The machine: what a replica applies committed batches to.

The Redis keyspace (`commands/machine.py`) is the machine that respraft ships; the replica knows only this
Protocol, so that the consensus side can carry another one.

What a machine promises:

* **Determinism.** The replies and the state after `apply` depend on the arguments and on the state
  before, and on nothing else: no clock, no randomness of its own, no set iteration, no address.
* **Atomic runs.** What `apply` did since the last `commit` becomes one piece with the `meta` values. After a
  crash the machine may be as old as its last `flush`, since the Raft log brings back the rest, but it is
  always as of the end of a run.
* **A command that fails changes nothing** and is an error reply, on every node alike. A storage error is
  not a reply: it propagates and stops the node.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

META_PREFIX: Final = b"m"
"""Where a machine's store keeps what `commit` is given for the replica."""

Command: TypeAlias = list[bytes]
"""A command's name and arguments, as the client sent them."""
AttachedRead: TypeAlias = tuple[int, int, Command]
"""Position, database, command: run just before the write at that position of the batch."""
DatabaseCommand: TypeAlias = tuple[int, Command]
"""Database number and command."""
Reply: TypeAlias = Any
"""A reply as `resp/replies.py` defines it; opaque to the replica."""


class Machine(Protocol):
    """The state that a replica keeps. One owner, one thread, save for `flush`."""

    def apply(
        self,
        index: int,
        time_ms: int,
        commands: Sequence[Command],
        databases: Sequence[int],
        reads: Sequence[AttachedRead],
    ) -> list[Reply]:
        """Run one committed batch.

        Args:
            index: The entry's log index; revisions are built from it.
            time_ms: The entry's log time, which is *now* for every command in it.
            commands: The writes, in order, decoded from the committed payload; many alike come as `Columns`.
            databases: The database of each command; empty when all of them are 0.
            reads: Reads of this node's own clients, sorted by position; position `len(commands)` is
                behind all writes. Other nodes pass none, and the state is the same.

        Returns:
            The replies of writes and reads, merged in the order in which they ran.
        """
        ...

    def expire(self, index: int, time_ms: int) -> int:
        """Remove a bounded number of keys whose deadline the log's time has reached; return how many.

        Called once for every applied entry, behind its commands.
        """
        ...

    def commit(self, meta: Mapping[bytes, bytes]) -> None:
        """End a run: all that was applied since the last commit, and `meta`, as one piece."""
        ...

    def meta(self, key: bytes) -> bytes | None:
        """Return what the last `commit` that named `key` stored under it.

        In the state's store it lies under `META_PREFIX` and the key, so that the state of another node can be
        looked at before a machine is given it.
        """
        ...

    def read(self, commands: Sequence[DatabaseCommand], log_time_ms: int, now_ms: int) -> list[Reply] | None:
        """Answer reads from the committed state, at `now_ms`. Not called between `apply` and its `commit`.

        Returns:
            The replies, at least one; fewer than commands where those behind them would be too much work at
            once, and have not run. Or None when a key that was touched has `log_time_ms` < deadline <=
            `now_ms`. Such reads must be run at a log entry instead, so that no two nodes disagree on the key.
        """
        ...

    def next_deadline(self) -> int | None:
        """Return the earliest deadline in the state (Unix ms): may be too early, never too late."""
        ...

    def flush(self) -> None:
        """Make everything committed survive a crash."""
        ...

    def begin_flush(self) -> Callable[[], None] | None:
        """Begin to make everything that is committed now survive a crash.

        Returns:
            What is left to do. It takes long; any thread may call it, while the machine goes on. When it has
            returned, the flush is done. Or None where it cannot be done now, for a reason that was logged:
            nothing is lost, but the log cannot be cut.
        """
        ...

    def restore(self, state: Any) -> None:
        """Go over to another node's state, which has arrived and was opened. Nothing of this one is left.

        Args:
            state: Of the kind that this machine was made on.
        """
        ...

    def digest(self) -> bytes:
        """Return a hash of the whole committed state, for tests and the simulator."""
        ...
