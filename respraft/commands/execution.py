"""Runs commands on the keyspace: those of a log entry one after the other, and reads between them.

A command that raises changes nothing: what it wrote is undone from a journal. ReplyError is its reply. Any
other exception is a mistake of ours, and because it is the same one on every node it becomes an error
reply too. Not so an exception that says something about this node alone (disk, memory, stack): it
propagates, and the node stops before the run is committed.

The figures to hold are 4 us a SET and 3 us a GET, so the records of a batch are fetched in one go, loops
keep to local variables, plain SETs that are neighbours are run together, and a plain GET is answered without
its function.

When changes go to the store, and how much memory they may take until then, is for `machine.py` to say.
"""

import random
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Final

from respraft.columns import Columns
from respraft.commands.context import COMMAND_BYTES_MAX, READ_WORK_MAX, WRITE_WORK_MAX, Context, DeadlineAhead
from respraft.commands.overlay import Overlay
from respraft.commands.record import STRING, VALUE_AT
from respraft.commands.spec import ONE_KEY, CommandFunction, CommandSpec, keys_of
from respraft.resp.errors import ReplyError, busy, unknown_command, wrong_arity
from respraft.resp.replies import OK, Reply
from respraft.storage.interface import StorageFailed

PLACE_BITS: Final = 20
"""Bits of a revision for the place of a command in its entry; the log index is above them."""

ENTRY_BYTES_MAX: Final = 256 << 20
"""Bytes of records that the commands of one entry may build, and as many that they may look at. A SETRANGE of
thirty bytes can build a value of 64 MiB, an INCR looks at one; thousands of them in an entry would stop every
node, and each of its restarts, for minutes."""

READ_BYTES_MAX: Final = 16 << 20
"""Bytes of records that the reads of one call look at; one more command still goes."""

READ_ELEMENT_BYTES: Final = 256
"""What an element that a read walks over counts for, so that KEYS takes its share of a turn, too."""

_NODE_FAILED: Final = (StorageFailed, OSError, MemoryError, RecursionError)
"""Exceptions that another node need not have had: no reply may rest on them."""


class Execution:
    """Runs commands on the databases of one keyspace."""

    def __init__(
        self,
        overlays: list[Overlay],
        lookup: Callable[[bytes], CommandSpec | None],
        rng: random.Random,
    ) -> None:
        """Begin with databases as they are.

        Args:
            overlays: The databases, by number.
            lookup: The command table. Names come as clients spelled them.
            rng: Randomness for reads (RANDOMKEY); writes draw from the log.
        """
        self._overlays = overlays
        self._lookup = lookup
        self._context = Context(overlays, rng)
        get = lookup(b"GET")
        self._get = None if get is None else get.function
        set_ = lookup(b"SET")
        self._set = None if set_ is None else set_.function

    def apply(
        self,
        index: int,
        time_ms: int,
        commands: Sequence[list[bytes]],
        databases: Sequence[int],
        reads: Sequence[tuple[int, int, list[bytes]]],
    ) -> list[Reply]:
        """Run one committed batch, and the reads that belong into it; return the replies in that order."""
        assert len(commands) < 1 << PLACE_BITS
        context = self._context
        context.now_ms = context.log_time_ms = time_ms
        bytes_left = ENTRY_BYTES_MAX
        for overlay in self._overlays:
            overlay.written_bytes = 0
        if isinstance(commands, Columns) and not self._only_plain_sets(commands):
            commands = list(commands)
        functions = self._prepare(commands, databases)
        read_functions = self._prepare([args for _, _, args in reads], [database for _, database, _ in reads])
        revision = index << PLACE_BITS
        replies: list[Reply] = []
        reads_left = READ_BYTES_MAX
        done = 0
        for (position, database, args), function in zip(reads, read_functions, strict=True):
            context.bytes_left = bytes_left
            self._run_writes(revision, functions, commands, databases, done, position, replies)
            # A read costs this node alone, so it must not count against the writes of the entry.
            bytes_left = context.bytes_left
            context.use(database)
            reply = self._run_read(function, args) if reads_left >= 0 else busy()
            reads_left -= self._cost_of_read()
            replies.append(reply)
            done = position
        context.bytes_left = bytes_left
        self._run_writes(revision, functions, commands, databases, done, len(commands), replies)
        return replies

    def read(
        self, commands: Sequence[tuple[int, list[bytes]]], log_time_ms: int, now_ms: int
    ) -> list[Reply] | None:
        """Answer reads; None when a key is due that the log's time has not reached.

        Past `READ_BYTES_MAX` the replies end, and the commands behind them have not run.
        """
        context = self._context
        context.now_ms = now_ms
        context.log_time_ms = log_time_ms
        functions = self._prepare([args for _, args in commands], [database for database, _ in commands])
        try:
            return self._run_reads(context, functions, commands)
        except DeadlineAhead:
            return None

    def _prepare(self, commands: Sequence[list[bytes]], databases: Sequence[int]) -> list[CommandFunction]:
        """Find the function of each command, and fetch the records that all of them will ask for."""
        if not databases and self._only_plain_sets(commands):
            return [_plain_set] * len(commands)
        lookup = self._lookup
        functions: list[CommandFunction] = []
        wanted: dict[int, list[bytes]] = {0: []}
        keys = wanted[0]
        for place, args in enumerate(commands):
            spec = lookup(args[0])
            if spec is None or spec.function is None:
                functions.append(_unknown)
                continue
            # The origin checked that; a payload that it got wrong must not stop every node.
            if not spec.words_min <= len(args) <= spec.words_max:
                functions.append(_malformed)
                continue
            # In databases other than 0 it is a command like others.
            plain = len(args) == 3 and spec.function is self._set and not databases
            functions.append(_plain_set if plain else spec.function)
            if databases:
                keys = wanted.setdefault(databases[place], [])
            if spec.keys is ONE_KEY:
                keys.append(args[1])
            else:
                keys.extend(keys_of(spec, args))
        for database, keys in wanted.items():
            self._overlays[database].prefetch(keys)
        return functions

    def _only_plain_sets(self, commands: Sequence[list[bytes]]) -> bool:
        """Whether there is nothing but `SET key value`: no look at each of them is needed then."""
        if self._set is None:
            return False
        if isinstance(commands, Columns):
            spec = self._lookup(commands.name)
            return len(commands.arguments) == 2 and spec is not None and spec.function is self._set
        if set(map(len, commands)) != {3}:
            return False
        for name in set(map(_name_of, commands)):
            spec = self._lookup(name)
            if spec is None or spec.function is not self._set:
                return False
        return True

    def _run_writes(
        self,
        revision: int,
        functions: Sequence[CommandFunction],
        commands: Sequence[list[bytes]],
        databases: Sequence[int],
        start: int,
        end: int,
        replies: list[Reply],
    ) -> None:
        """Run commands[start:end]. `revision` is that of place 0."""
        place = start
        while place < end:
            stop = place + 1
            if functions[place] is not _plain_set:
                while stop < end and functions[stop] is not _plain_set:
                    stop += 1
                self._run_any(revision, functions, commands, databases, place, stop, replies)
            else:
                while stop < end and functions[stop] is _plain_set:
                    stop += 1
                if isinstance(commands, Columns):
                    keys, values = [column[place:stop] for column in commands.arguments]
                else:
                    part = commands[place:stop]
                    keys, values = list(map(_key_of, part)), list(map(_value_of, part))
                self._overlays[0].set_strings(keys, values, revision + place)
                replies += [OK] * (stop - place)
            place = stop

    def _run_any(
        self,
        revision: int,
        functions: Sequence[CommandFunction],
        commands: Sequence[list[bytes]],
        databases: Sequence[int],
        start: int,
        end: int,
        replies: list[Reply],
    ) -> None:
        """Run commands[start:end] one by one."""
        context = self._context
        journal = context.journal
        revision += start
        aims = databases[start:end] or repeat(0)
        for function, args, database in zip(functions[start:end], commands[start:end], aims, strict=False):
            if database != context.database:
                context.use(database)
            context.revision = revision
            context.work_left = WRITE_WORK_MAX
            revision += 1
            if context.overlay.written_bytes > ENTRY_BYTES_MAX:
                replies.append(busy())
                continue
            try:
                replies.append(function(context, args))
                journal.clear()
            except _NODE_FAILED:
                raise
            except Exception as error:
                context.undo()
                replies.append(_refusal(error))

    def _run_reads(
        self,
        context: Context,
        functions: Sequence[CommandFunction],
        commands: Sequence[tuple[int, list[bytes]]],
    ) -> list[Reply]:
        get = self._get
        replies: list[Reply] = []
        left = READ_BYTES_MAX
        context.use(0)
        overlay = context.overlay
        for (database, args), function in zip(commands, functions, strict=True):
            if database != context.database:
                context.use(database)
                overlay = context.overlay
            if left < 0:
                break
            if function is get and len(args) == 2:
                stored = overlay.get(args[1])
                if stored is None:
                    replies.append(None)
                    continue
                if stored[0] == STRING:  # Neither another type nor a deadline.
                    left -= len(stored)
                    replies.append(stored[VALUE_AT:])
                    continue
            replies.append(self._run_read(function, args))
            left -= self._cost_of_read()
        return replies

    def _run_read(self, function: CommandFunction, args: list[bytes]) -> Reply:
        context = self._context
        context.revision = 0
        context.work_left = READ_WORK_MAX
        context.bytes_left = COMMAND_BYTES_MAX
        try:
            reply = function(context, args)
        except (DeadlineAhead, *_NODE_FAILED):
            raise
        except Exception as error:
            reply = _refusal(error)
        assert not context.journal, "a read wrote"
        return reply

    def _cost_of_read(self) -> int:
        """Return what the last read looked at, in bytes."""
        context = self._context
        walked = READ_WORK_MAX - context.work_left
        return COMMAND_BYTES_MAX - context.bytes_left + walked * READ_ELEMENT_BYTES


_name_of: Final = itemgetter(0)
_key_of: Final = itemgetter(1)
_value_of: Final = itemgetter(2)


def _plain_set(_context: Context, _args: list[bytes]) -> Reply:
    """Mark a `SET key value` that is run together with its neighbours, and never called."""
    raise AssertionError("plain SETs are run by Overlay.set_strings")


def _unknown(context: Context, args: list[bytes]) -> Reply:
    raise unknown_command(args[0], args[1:])


def _malformed(context: Context, args: list[bytes]) -> Reply:
    raise wrong_arity(args[0].decode("utf-8", "surrogateescape").lower())


def _refusal(error: Exception) -> ReplyError:
    """Return the reply for a command that raised: the same text on every node."""
    if isinstance(error, ReplyError):
        return error
    return ReplyError("ERR", f"internal error ({type(error).__name__}); nothing was changed")
