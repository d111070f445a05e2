"""Runs commands on the keyspace: those of a log entry one after the other, and reads between them.

A command that raises changes nothing: what it wrote is undone from a journal. ReplyError is its reply. Any
other exception is a mistake of ours, and because it is the same one on every node it becomes an error
reply too. Not so an exception that says something about this node alone (disk, memory, stack): it
propagates, and the node stops before the run is committed.

The figures to hold are 4 us a SET and 3 us a GET, so the records of a batch are fetched in one go, loops
keep to local variables, SETs that are neighbours are run together (`sets.py`), and a plain GET is answered
without its function.

When changes go to the store, and how much memory they may take until then, is for `machine.py` to say.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from respraft.columns import Columns
from respraft.commands.context import COMMAND_BYTES_MAX, READ_WORK_MAX, WRITE_WORK_MAX, Context, DeadlineAhead
from respraft.commands.overlay import Overlay
from respraft.commands.record import STRING, VALUE_AT
from respraft.commands.sets import SetColumns, Sets, columns_of
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
        self._sets = Sets(lookup)
        get = lookup(b"GET")
        self._get = None if get is None else get.function

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
        self._sets.begin(time_ms)
        batch = self._prepare(commands, databases)
        revision = index << PLACE_BITS
        read_functions = self._find([args for _, _, args in reads], [database for _, database, _ in reads])
        replies: list[Reply] = []
        reads_left = READ_BYTES_MAX
        done = 0
        for (position, database, args), function in zip(reads, read_functions, strict=True):
            context.bytes_left = bytes_left
            self._run_writes(batch, revision, done, position, replies)
            # A read costs this node alone, so it must not count against the writes of the entry.
            bytes_left = context.bytes_left
            context.use(database)
            reply = self._run_read(function, args) if reads_left >= 0 else busy()
            reads_left -= self._cost_of_read()
            replies.append(reply)
            done = position
        context.bytes_left = bytes_left
        self._run_writes(batch, revision, done, len(commands), replies)
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
        functions = self._find([args for _, args in commands], [database for database, _ in commands])
        try:
            return self._run_reads(context, functions, commands)
        except DeadlineAhead:
            return None

    def _prepare(self, commands: Sequence[list[bytes]], databases: Sequence[int]) -> "_Batch":
        """Look through the writes of an entry, and fetch the records that they will ask for."""
        # In databases other than 0 a SET is a command like others.
        sets = None if databases else self._sets.all_of(commands)
        if sets is not None:
            return _Batch([_set_together] * len(commands), [], databases, sets)
        functions = self._find_alike(commands) if isinstance(commands, Columns) else []
        commands = list(commands)
        functions = functions or self._find(commands, databases)
        if not databases:
            deadlines = list(map(self._sets.deadline_of, functions, commands))
            if deadlines.count(None) < len(deadlines):
                sets = columns_of(commands, deadlines)
                functions = [
                    function if deadline is None else _set_together
                    for function, deadline in zip(functions, deadlines, strict=True)
                ]
        return _Batch(functions, commands, databases, sets)

    def _find_alike(self, commands: Columns) -> list[CommandFunction]:
        """Do what `_find` does, with one look for all of them; nothing where that isn't enough."""
        spec = self._lookup(commands.name)
        if spec is None or spec.function is None or spec.keys is not ONE_KEY:
            return []
        if not spec.words_min <= 1 + len(commands.arguments) <= spec.words_max:
            return []
        self._overlays[0].prefetch(commands.arguments[0])
        return [spec.function] * len(commands)

    def _find(self, commands: Sequence[list[bytes]], databases: Sequence[int]) -> list[CommandFunction]:
        """Find the function of each command, and fetch the records that all of them will ask for."""
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
            functions.append(spec.function)
            if databases:
                keys = wanted.setdefault(databases[place], [])
            if spec.keys is ONE_KEY:
                keys.append(args[1])
            else:
                keys.extend(keys_of(spec, args))
        for database, keys in wanted.items():
            self._overlays[database].prefetch(keys)
        return functions

    def _run_writes(self, batch: "_Batch", revision: int, start: int, end: int, replies: list[Reply]) -> None:
        """Run some commands of a batch. `revision` is that of place 0."""
        functions, sets = batch.functions, batch.sets
        if sets is None:
            self._run_any(batch, revision, start, end, replies)
            return
        place = start
        while place < end:
            stop = place + 1
            if functions[place] is not _set_together:
                while stop < end and functions[stop] is not _set_together:
                    stop += 1
                self._run_any(batch, revision, place, stop, replies)
            else:
                while stop < end and functions[stop] is _set_together:
                    stop += 1
                part = sets.part(place, stop)
                self._overlays[0].set_strings(part.keys, part.values, part.deadlines, revision + place)
                replies += [OK] * (stop - place)
            place = stop

    def _run_any(self, batch: "_Batch", revision: int, start: int, end: int, replies: list[Reply]) -> None:
        """Run some commands of a batch one by one."""
        context = self._context
        journal = context.journal
        revision += start
        functions, commands = batch.functions[start:end], batch.commands[start:end]
        aims = batch.databases[start:end] or repeat(0)
        for function, args, database in zip(functions, commands, aims, strict=False):
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


@dataclass(slots=True)
class _Batch:
    """The writes of an entry, looked through."""

    functions: list[CommandFunction]
    commands: list[list[bytes]]
    """Not needed if all of them are SETs that are run together."""
    databases: Sequence[int]
    sets: SetColumns | None
    """At the places of SETs that are run together; None: there are none."""


def _set_together(_context: Context, _args: list[bytes]) -> Reply:
    """Mark a SET that is run together with its neighbours, and never called."""
    raise AssertionError("run by Overlay.set_strings")


def _unknown(context: Context, args: list[bytes]) -> Reply:
    raise unknown_command(args[0], args[1:])


def _malformed(context: Context, args: list[bytes]) -> Reply:
    raise wrong_arity(args[0].decode("utf-8", "surrogateescape").lower())


def _refusal(error: Exception) -> ReplyError:
    """Return the reply for a command that raised: the same text on every node."""
    if isinstance(error, ReplyError):
        return error
    return ReplyError("ERR", f"internal error ({type(error).__name__}); nothing was changed")
