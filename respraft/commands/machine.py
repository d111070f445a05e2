"""The Redis keyspace as the machine of a replica (`replica/machine.py` says what a machine promises).

A run is what `apply` and `expire` did since the last `commit`. It lives in the overlays, one a database, and
goes to the store whole, together with the replica's own values and with the runs before it that were
not written yet (`generation.py`): the store is always as of the end of a run.

A command that raises changes nothing: what it wrote is undone from a journal. ReplyError is its reply. Any
other exception is a mistake of ours, and because it is the same one on every node it becomes an error
reply too. Not so an exception that says something about this node alone (disk, memory, stack): it
propagates, and the node stops before the run is committed.

The figures to hold are 4 us a SET and 3 us a GET, so the records of a batch are fetched in one go, loops
keep to local variables, and a plain GET is answered without its function.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from hashlib import blake2b
from itertools import chain, repeat
from operator import itemgetter
from typing import Final

from respraft.columns import Columns
from respraft.commands.context import COMMAND_BYTES_MAX, READ_WORK_MAX, WRITE_WORK_MAX, Context, DeadlineAhead
from respraft.commands.generation import Generation
from respraft.commands.overlay import NEVER, Overlay
from respraft.commands.record import DATABASES, META, STRING, VALUE_AT
from respraft.commands.spec import ONE_KEY, CommandFunction, CommandSpec, keys_of
from respraft.resp.errors import ReplyError, busy, unknown_command, wrong_arity
from respraft.resp.replies import OK, Reply
from respraft.storage.give_way import let_go
from respraft.storage.interface import StorageFailed
from respraft.storage.pieces import Step
from respraft.storage.state_interface import StateStore

PLACE_BITS: Final = 20
"""Bits of a revision for the place of a command in its entry; the log index is above them."""

EXPIRE_KEYS_MAX: Final = 200
"""Keys that `expire` removes at most, about 1 ms of work for each entry."""

ENTRY_BYTES_MAX: Final = 256 << 20
"""Bytes of records that the commands of one entry may build, and as many that they may look at. A SETRANGE of
thirty bytes can build a value of 64 MiB, an INCR looks at one; thousands of them in an entry would stop every
node, and each of its restarts, for minutes."""

READ_BYTES_MAX: Final = 16 << 20
"""Bytes of records that the reads of one call look at; one more command still goes."""

READ_ELEMENT_BYTES: Final = 256
"""What an element that a read walks over counts for, so that KEYS takes its share of a turn, too."""

CHANGED_BYTES_MAX: Final = 64 << 20
"""Memory for changed records that gather before they go to the store. The flush that the log's cutting wants
usually comes earlier."""

RECORD_SHARE_BYTES: Final = 640
"""Of that memory, what one row for the store may take, a record or an entry of the expiry index that comes or
goes: 105,000 rows of 64 MiB. A record with key and value of 116 bytes takes half of that; as many again may
be on their way, or have arrived and be good for reads."""

FETCHED_BYTES_MAX: Final = 32 << 20
"""Memory for records that were read from the store: 100,000 keys of 100 bytes with their overhead."""

FORGET_KEYS: Final = 1024
"""Keys that are forgotten in one step when these are too many."""

_NODE_FAILED: Final = (StorageFailed, OSError, MemoryError, RecursionError)
"""Exceptions that another node need not have had: no reply may rest on them."""

_END: Final = b"\xff"
"""Past the last store key."""


class KeyspaceMachine:
    """All databases of the keyspace, in one store."""

    def __init__(
        self,
        store: StateStore,
        *,
        lookup: Callable[[bytes], CommandSpec | None],
        rng: random.Random | None = None,
        fetched_bytes_max: int = FETCHED_BYTES_MAX,
        changed_bytes_max: int = CHANGED_BYTES_MAX,
    ) -> None:
        """Start from what the store holds.

        Args:
            store: Owned by the machine from now on, save for closing it.
            lookup: The command table. Names come as clients spelled them.
            rng: Randomness for reads (RANDOMKEY); writes draw from the log.
            fetched_bytes_max: Memory for records that were read.
            changed_bytes_max: Memory for changed records that gather before they go to the store.
        """
        self._store = store
        self._lookup = lookup
        self._rng = random.Random() if rng is None else rng
        self._fetched_bytes_max = fetched_bytes_max
        self._changed_rows_max = changed_bytes_max // RECORD_SHARE_BYTES
        self._changed_bytes_max = changed_bytes_max // 2
        self._overlays = self._fresh_overlays()
        self._context = Context(self._overlays, self._rng)
        self._uncommitted = False
        self._meta: dict[bytes, bytes] = {}  # What was stored by this object; the store has the rest.
        self._on_way: deque[Future[None]] = deque()  # To the store, the first one first.
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
        self._uncommitted = True
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

    def expire(self, index: int, time_ms: int) -> int:
        """Remove keys whose deadline the log's time has reached, up to EXPIRE_KEYS_MAX."""
        removed = 0
        for overlay in self._overlays:
            if overlay.first_deadline <= time_ms and removed < EXPIRE_KEYS_MAX:
                self._uncommitted = True
                removed += overlay.expire(time_ms, EXPIRE_KEYS_MAX - removed)
        return removed

    def commit(self, meta: Mapping[bytes, bytes]) -> None:
        """End the run. It goes to the store with those before and behind it, in one atomic write."""
        self._meta.update(meta)
        self._uncommitted = False
        rows = size = 0
        for overlay in self._overlays:
            rows += overlay.changed_rows
            size += overlay.young_bytes
        if rows >= self._changed_rows_max or self._too_large(size):
            while self._on_way:  # Or they would pile up: this thread is quicker than the store.
                self._on_way.popleft().result()
            self._hand_over()
        elif self._on_way and self._on_way[0].done():
            self._on_way.popleft().result()  # Raises what went wrong.
        if self.fetched_bytes > self._fetched_bytes_max:
            self._trim()

    def _too_large(self, size: int) -> bool:
        """Whether what has gathered should go to the store; `size` counts what was written over, too."""
        if size < self._changed_bytes_max:
            return False
        for overlay in self._overlays:
            overlay.weigh()
        # Not all the way to the limit, or it would be weighed again and again on its last stretch.
        return sum([overlay.young_bytes for overlay in self._overlays]) >= self._changed_bytes_max // 2

    def _hand_over(self) -> Future[None]:
        """Send what all ended runs have changed on its way to the store, behind what is on it."""
        assert not self._uncommitted, "a run is written whole or not at all"
        besides: dict[bytes, bytes | None] = {META + name: value for name, value in self._meta.items()}
        changed: list[Generation] = []
        done: list[Generation] = []
        size = sum([overlay.young_bytes for overlay in self._overlays])
        for overlay in self._overlays:
            generation, written = overlay.hand_over(besides)
            done += written
            if generation is not None:
                changed.append(generation)
        future = self._store.begin_write_down(lambda: _step(besides, changed, size, done))
        future.add_done_callback(lambda future: _mark(changed, future))
        self._on_way.append(future)
        return future

    def meta(self, key: bytes) -> bytes | None:
        """Return what the last `commit` that named `key` stored under it."""
        value = self._meta.get(key)
        return self._store.get(META + key) if value is None else value

    def read(
        self, commands: Sequence[tuple[int, list[bytes]]], log_time_ms: int, now_ms: int
    ) -> list[Reply] | None:
        """Answer reads from the committed state; None when a key is due that the log's time has not reached.

        They run on the event loop, one after the other, each with a bounded amount of work. Together they
        are bounded, too: past `READ_BYTES_MAX` the replies end, and the commands behind them have not run.
        """
        assert not self._uncommitted, "a run is ended before anything is read"
        context = self._context
        context.now_ms = now_ms
        context.log_time_ms = log_time_ms
        functions = self._prepare([args for _, args in commands], [database for database, _ in commands])
        try:
            return self._run_reads(context, functions, commands)
        except DeadlineAhead:
            return None
        finally:
            if self.fetched_bytes > self._fetched_bytes_max:
                self._trim()

    def next_deadline(self) -> int | None:
        """Return the earliest deadline in the keyspace: may be too early, never too late."""
        first = min([overlay.first_deadline for overlay in self._overlays])
        return None if first == NEVER else first

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Return, of each database that is not empty, how many keys it has and how many have a deadline."""
        return {
            number: (overlay.count, overlay.expiring)
            for number, overlay in enumerate(self._overlays)
            if overlay.count
        }

    @property
    def fetched_bytes(self) -> int:
        """Return about how much memory records take that were read. At most the limit, save within a run."""
        return sum([overlay.fetched_bytes for overlay in self._overlays])

    def flush(self) -> None:
        """Make everything committed survive a crash."""
        self.begin_flush()()

    def begin_flush(self) -> Callable[[], None]:
        """Send all ended runs to the store; what is returned waits, on any thread, until they are durable."""
        return self._hand_over().result

    def restore(self, state: StateStore) -> None:
        """Go over to another store. What was gathered for the one before is dropped, not written to it."""
        assert not self._uncommitted, "a run is ended before anything is restored"
        self._store = state
        self._meta = {}
        self._on_way.clear()
        self._overlays = self._fresh_overlays()
        self._context = Context(self._overlays, self._rng)

    def digest(self) -> bytes:
        """Return a hash over all that is committed, in the order of the store's keys."""
        self.flush()
        digest = blake2b(digest_size=16)
        for key, value in self._store.iterate(b"", _END):
            digest.update(b"%d %d " % (len(key), len(value)))
            digest.update(key)
            digest.update(value)
        return digest.digest()

    def _fresh_overlays(self) -> list[Overlay]:
        return [Overlay(self._store, number) for number in range(DATABASES)]

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

    def _trim(self) -> None:
        overlays = self._overlays
        while self.fetched_bytes > self._fetched_bytes_max:
            max(overlays, key=lambda overlay: overlay.fetched_bytes).forget(FORGET_KEYS)


def _step(
    besides: dict[bytes, bytes | None], changed: list[Generation], size: int, done: list[Generation]
) -> Step:
    """Return what is to be written, and let go of what is done with. On the store's thread."""
    for generation in done:
        let_go(generation.records)
        let_go(generation.index)
    return Step(
        chain(*[generation.rows() for generation in changed], [(list(besides), list(besides.values()))]),
        [cleared for generation in changed for cleared in generation.cleared()],
        len(besides) + sum([generation.count for generation in changed]),
        size,
    )


def _mark(changed: list[Generation], future: "Future[None]") -> None:
    if future.exception() is None:
        for generation in changed:
            generation.written = True


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
