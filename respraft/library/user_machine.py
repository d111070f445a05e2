"""A user's machine as the machine of a replica (`replica/machine.py` says what that promises).

What is asked of the user is little, so most of those promises are kept here:

* **Durability.** The state store holds a snapshot, and the Raft log what came behind it. A snapshot is
  written at a flush, and whenever the commands since the last one weigh as much as it does, so that its cost
  stays in proportion to the work, and a restart replays no more than that.
* **A command that fails changes nothing.** Nobody can know what a machine's method did before it raised. So
  the state of before is made again: the last snapshot is restored, and the commands since then are applied
  once more. They are kept for that (`_journal`). The same happens on every node, at every replay. A
  CommandError says that nothing was changed, and costs nothing.
* **The nodes stay alike.** A command that raised nothing the first time and does when it is applied again
  shows a machine that is not deterministic: the node stops.
* **A snapshot that cannot be made stops nothing.** `snapshot` raised: that is logged as an error and tried
  again later. Nothing is lost, since the log keeps what no snapshot holds; only it cannot be cut.

In the log, a command that was written by `write` has an empty name, which no Redis client can send.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from respraft.commands.spec import Kind
from respraft.library.errors import CommandError, SnapshotFailed
from respraft.library.machine import Context
from respraft.library.machine import Machine as OfUser
from respraft.library.own_command import OwnCommand
from respraft.library.snapshot_store import SnapshotStore
from respraft.replica.applier import load_applied
from respraft.replica.machine import AttachedRead, Command, DatabaseCommand, Machine, Reply
from respraft.resp.errors import ReplyError, unknown_command
from respraft.storage.state_interface import StateStore

NO_NAME: Final = b""
"""Name of the commands of `write` and of the queries of `read`."""

PLACE_BITS: Final = 20
"""Bits of a seed for the place of a command in its entry; the log index is above them."""

JOURNAL_BYTES_MIN: Final = 4 << 20
"""Commands that may gather behind a snapshot, however small it is."""

COMMAND_OVERHEAD_BYTES: Final = 250
"""What a command in the journal takes besides its bytes, about."""

READS_S_MAX: Final = 0.005
"""How long the reads of one call may take together; one always runs."""

_log: Final = logging.getLogger("respraft.machine")


class NotDeterministic(Exception):
    """A command of a user's machine had another outcome when it was applied again. The node stops."""


class UserMachine(Machine):
    """Applies entries to a user's machine, and keeps its state."""

    def __init__(
        self,
        store: StateStore,
        machine: OfUser,
        *,
        fresh: Sequence[bytes],
        journal_bytes_min: int = JOURNAL_BYTES_MIN,
    ) -> None:
        """Restore the machine from what the store holds.

        Args:
            store: Owned by this object from now on, save for closing it.
            machine: Owned as well; in any condition.
            fresh: Its snapshot before the first entry, the same on every node.
            journal_bytes_min: See JOURNAL_BYTES_MIN.

        Raises:
            Exception: What the machine's `restore` raises.
        """
        self._machine = machine
        self._fresh = fresh
        self._own: Final[dict[bytes, OwnCommand]] = {each.spec.name: each for each in machine.own_commands}
        self._journal_bytes_min = journal_bytes_min
        self._journal: list[tuple[int, int, int, Command]] = []  # Index, place, time, command.
        self._journal_bytes = 0
        self._journal_bytes_max = journal_bytes_min
        self._meta: dict[bytes, bytes] = {}  # Newer than the snapshot.
        self._open(store)

    def apply(
        self,
        index: int,
        time_ms: int,
        commands: Sequence[Command],
        databases: Sequence[int],
        reads: Sequence[AttachedRead],
    ) -> list[Reply]:
        assert len(commands) < 1 << PLACE_BITS
        replies: list[Reply] = []
        done = 0
        for position, _, args in reads:
            replies += self._write_all(index, time_ms, commands, done, position)
            replies.append(self._read(args, Context(index, time_ms, None)))
            done = position
        replies += self._write_all(index, time_ms, commands, done, len(commands))
        return replies

    def expire(self, index: int, time_ms: int) -> int:
        self._index = index
        return 0

    def commit(self, meta: Mapping[bytes, bytes]) -> None:
        self._meta.update(meta)
        if self._journal_bytes > self._journal_bytes_max and not self._try_snapshot():
            self._journal_bytes_max = 2 * self._journal_bytes

    def meta(self, key: bytes) -> bytes | None:
        value = self._meta.get(key)
        return self._snapshots.meta(key) if value is None else value

    def read(self, commands: Sequence[DatabaseCommand], log_time_ms: int, now_ms: int) -> list[Reply] | None:
        until = time.monotonic() + READS_S_MAX
        replies: list[Reply] = []
        for _, args in commands:
            replies.append(self._read(args, Context(self._index, now_ms, None)))
            if time.monotonic() > until:
                break
        return replies

    def next_deadline(self) -> int | None:
        return None

    def flush(self) -> None:
        """Write a snapshot, and make it survive a crash. Raises SnapshotFailed."""
        if self._meta:
            self._write_snapshot()
        self._store.flush()

    def begin_flush(self) -> Callable[[], None] | None:
        """Write a snapshot; what is returned makes it survive a crash. None: it could not be made."""
        if self._meta and not self._try_snapshot():
            return None
        return self._store.flush

    def restore(self, state: StateStore) -> None:
        """Go over to the state of another node, in a store of its own."""
        self._meta = {}
        self._clear_journal()
        self._journal_bytes_max = self._journal_bytes_min
        self._open(state)

    def digest(self) -> bytes:
        digest = blake2b(digest_size=16)
        for piece in self._machine.snapshot():
            digest.update(piece)
        return digest.digest()

    # -- State ---------------------------------------------------------------------------------------

    def _open(self, store: StateStore) -> None:
        self._store = store
        self._snapshots = SnapshotStore(store)
        # What is restored when a command fails; None: what the store holds.
        self._base = None if self._snapshots.exists else self._fresh
        self._restore()
        self._index = load_applied(self)[0]

    def _restore(self) -> None:
        self._machine.restore(self._snapshots.pieces() if self._base is None else iter(self._base))

    def _write_snapshot(self) -> None:
        size = self._snapshots.write(pieces_of(self._machine), self._meta)
        self._journal_bytes_max = max(self._journal_bytes_min, size)
        self._base = None
        self._meta = {}
        self._clear_journal()

    def _try_snapshot(self) -> bool:
        try:
            self._write_snapshot()
        except SnapshotFailed as error:
            _log.error("%s", error, exc_info=error.__cause__)
            return False
        return True

    def _clear_journal(self) -> None:
        self._journal = []
        self._journal_bytes = 0

    def _undo(self) -> None:
        """Bring the machine back to where it was before the command that raised."""
        self._restore()
        if not self._journal:
            return
        for index, place, time_ms, args in self._journal:
            try:
                self._call(args, _context(index, place, time_ms), Kind.WRITE)
            except Exception as error:
                raise NotDeterministic(
                    f"command {place} of log entry {index} was applied before, and raises now: {error!r}"
                ) from error
        with contextlib.suppress(SnapshotFailed):  # `commit` and `flush` say so.
            # The next one that raises shall not cost the same again.
            self._base = list(pieces_of(self._machine))
            self._clear_journal()

    # -- Commands ------------------------------------------------------------------------------------

    def _write_all(
        self, index: int, time_ms: int, commands: Sequence[Command], start: int, end: int
    ) -> list[Reply]:
        """Run commands[start:end]."""
        return [self._write(index, place, time_ms, commands[place]) for place in range(start, end)]

    def _write(self, index: int, place: int, time_ms: int, args: Command) -> Reply:
        try:
            reply = self._call(args, _context(index, place, time_ms), Kind.WRITE)
        except CommandError as error:
            return ReplyError(error.code, error.text)
        except MemoryError:
            raise
        except Exception as error:
            _log.warning("command %d of log entry %d raised and is undone", place, index, exc_info=True)
            self._undo()
            return _unexpected(error)
        self._journal.append((index, place, time_ms, args))
        self._journal_bytes += sum(map(len, args)) + COMMAND_OVERHEAD_BYTES
        return reply

    def _read(self, args: Command, context: Context) -> Reply:
        try:
            return self._call(args, context, Kind.READ)
        except CommandError as error:
            return ReplyError(error.code, error.text)
        except MemoryError:
            raise
        except Exception as error:
            _log.warning("a read raised", exc_info=True)
            return _unexpected(error)

    def _call(self, args: Command, context: Context, kind: Kind) -> Any:
        """Run one command; what it raises is the caller's to judge."""
        name = args[0]
        if name == NO_NAME:
            return (self._machine.apply if kind is Kind.WRITE else self._machine.read)(args[1], context)
        own = self._own.get(name.upper())
        # The origin checked that; but it may run another version of the machine.
        if own is None or own.spec.kind is not kind or not own.spec.words_min <= len(args):
            error = unknown_command(name, args[1:])
            raise CommandError(error.text, error.code)
        return own.call(self._machine, context, args)


def pieces_of(machine: OfUser) -> Iterator[bytes]:
    """Yield the pieces of a machine's snapshot. Raises SnapshotFailed for whatever the machine raises."""
    try:
        for piece in machine.snapshot():
            if not isinstance(piece, bytes):
                raise TypeError(f"snapshot() yields a {type(piece).__name__}; every piece must be bytes")
            yield piece
    except MemoryError:
        raise
    except Exception as error:
        raise SnapshotFailed(f"the machine cannot make a snapshot of its state: {error!r}") from error


def _context(index: int, place: int, time_ms: int) -> Context:
    return Context(index, time_ms, index << PLACE_BITS | place)


def _unexpected(error: Exception) -> ReplyError:
    """Return what the writer is told of an exception that is not a CommandError."""
    return ReplyError("ERR", f"{type(error).__name__}: {error}")
