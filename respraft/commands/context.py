"""What a command function sees of the world: the keyspace, the time, and nothing else.

A command function is `fn(context, args) -> reply`: synchronous, deterministic, args[0] is its name. It
raises ReplyError to refuse, and all that it wrote is undone. One Context lives in the machine and is aimed
anew for every command; a function must not keep it, and must not write while it iterates.

* `now_ms` is the log's time for writes and the read's own time for reads. A key is expired exactly when
  its deadline is at or before it, and no method here shows an expired key.
* A write puts nothing on disk; the machine writes a whole run at once. Reads see the writes of their run.
* Keys are in the order of a hash of theirs, the same on every node; see `record.py` for why.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Final, TypeAlias

from respraft.commands.numbers import INT64_MAX, INT64_MIN, parse_int64
from respraft.commands.overlay import Cleared, Overlay
from respraft.commands.record import (
    HAS_DEADLINE,
    NO_DEADLINE,
    PLACES,
    STRING,
    VALUE_AT,
    Record,
    deadline_of,
    decode_record,
    encode_record,
    place_of,
    plain_header,
    records_from,
    type_of,
    user_key,
    value_start,
)
from respraft.resp.errors import ReplyError, busy, no_such_key, would_overflow, wrong_type

WRITE_WORK_MAX: Final = 100_000
"""Elements that one writing command may touch. It runs on the event loop of every node, about 0.2 s at
worst, and heartbeats wait for it."""

COMMAND_BYTES_MAX: Final = 256 << 20
"""Bytes of records that one read may look at, all told: MGET of a thousand large values is refused."""

READ_WORK_MAX: Final = 250_000
"""Elements that one reading command may touch: reads run on one node's event loop, about 0.4 s at worst."""

_INT64_DIGITS: Final = 19
"""With fewer of them, and no zero in front, a number is as `parse_int64` wants it."""

RANDOM_KEYS: Final = 16
"""Keys from which `random_key` draws, behind a random place. Their distances differ, so the first one
behind a place is not a fair choice; up to this many keys, each is equally likely."""


class DeadlineAhead(Exception):
    """A read touched a key that is due by the read's clock and not yet by the log's. Not for functions."""


Step: TypeAlias = tuple[Overlay, bytes, bytes | None] | Cleared
"""A change to undo: database, key, record before; or a whole database before it was cleared."""


class Context:
    """The keyspace as one command sees it."""

    __slots__ = (
        "_draws",
        "_draws_revision",
        "_own_draws",
        "bytes_left",
        "database",
        "journal",
        "log_time_ms",
        "now_ms",
        "overlay",
        "overlays",
        "revision",
        "work_left",
    )

    def __init__(self, overlays: Sequence[Overlay], own_draws: random.Random) -> None:
        self.now_ms = 0
        """What time it is for this command, Unix ms."""
        self.database = 0
        """The database that the methods work on, 0 to 15."""
        self.revision = 0
        """(Log index << 20) | place of the command in its entry; 0 in reads."""

        # The machine's side, not for command functions.
        self.log_time_ms = 0
        self.overlays = overlays
        self.overlay = overlays[0]
        self.work_left = 0
        self.bytes_left = COMMAND_BYTES_MAX
        self.journal: list[Step] = []
        self._own_draws = own_draws
        self._draws = own_draws
        self._draws_revision = 0

    def use(self, database: int) -> None:
        """Aim at a database. For the machine: a command stays in the one it was sent to."""
        self.database = database
        self.overlay = self.overlays[database]

    def undo(self) -> None:
        """Take back what the journal holds, last change first. For the machine."""
        for step in reversed(self.journal):
            if isinstance(step, Cleared):
                step.overlay.restore(step)
            else:
                overlay, key, record = step
                overlay.put(key, record, overlay.get(key))
        self.journal.clear()

    @property
    def random(self) -> random.Random:
        """Return randomness that is the same on every node in writes, and the node's own in reads."""
        if not self.revision:
            return self._own_draws
        if self._draws_revision != self.revision:
            self._draws_revision = self.revision
            self._draws = random.Random(self.revision)
        return self._draws

    def spend(self, elements: int) -> None:
        """Count work against this command's budget; raise ReplyError when it is used up.

        Commands whose work grows with their arguments or with the keyspace call it, before the work.
        """
        self.work_left -= elements
        if self.work_left < 0:
            most = WRITE_WORK_MAX if self.revision else READ_WORK_MAX
            raise ReplyError("ERR", f"command needs too much work, more than {most} keys or elements")

    def get_string(self, key: bytes) -> bytes | None:
        """Return a string's value, or None; raise WRONGTYPE for a key of another type."""
        stored = self.overlay.get(key)
        if stored is None:
            return None
        self.bytes_left -= len(stored)
        if self.bytes_left < 0:
            raise busy()
        if stored[0] == STRING:
            return stored[VALUE_AT:]
        if not self._is_live(stored):
            return None
        record = decode_record(stored)
        if record.type != STRING:
            raise wrong_type()
        return record.value

    def find(self, key: bytes) -> Record | None:
        """Return the record of a live key."""
        stored = self._live(self.overlay, key)
        return None if stored is None else decode_record(stored)

    def exists(self, key: bytes) -> bool:
        """Tell whether a key is live."""
        return self._live(self.overlay, key) is not None

    def exists_in(self, database: int, key: bytes) -> bool:
        """Tell whether a key is live in another database (COPY ... DB)."""
        return self._live(self.overlays[database], key) is not None

    def set_string(self, key: bytes, value: bytes, *, deadline: int = NO_DEADLINE) -> None:
        """Create a string or overwrite a key of any type, deadline included.

        A deadline at or before now removes the key instead.
        """
        overlay = self.overlay
        old = overlay.get(key)
        self.journal.append((overlay, key, old))
        if not deadline:
            overlay.put(key, plain_header(STRING, self.revision) + value, old)
        elif deadline <= self.now_ms:
            overlay.put(key, None, old)
        else:
            overlay.put(key, encode_record(STRING, deadline, self.revision, value), old)

    def increment(self, key: bytes, amount: int) -> int:
        """Add to the number that a string holds, 0 for a missing key, and return the sum. A deadline stays.

        INCR and its like come in batches, and with its parts in functions that are not compiled each cost a
        half more.

        Raises:
            ReplyError: The key is of another type, the string no number, or the sum beyond 64 bits.
        """
        stored = self._live(self.overlay, key)
        if stored is None:
            self.set_string(key, b"%d" % amount)
            return amount
        if type_of(stored) != STRING:
            raise wrong_type()
        digits = stored[value_start(stored) :]
        plain = len(digits) < _INT64_DIGITS and digits.isdigit() and digits[:1] != b"0"
        total = (int(digits) if plain else parse_int64(digits)) + amount
        if not INT64_MIN <= total <= INT64_MAX:
            raise would_overflow()
        record = encode_record(STRING, deadline_of(stored), self.revision, b"%d" % total)
        self.journal.append((self.overlay, key, stored))
        self.overlay.put(key, record, stored)
        return total

    def replace_value(self, key: bytes, value: bytes) -> None:
        """Give a live key another value and keep its type and deadline; a missing one becomes a string."""
        stored = self._live(self.overlay, key)
        if stored is None:
            self.set_string(key, value)
            return
        record = encode_record(type_of(stored), deadline_of(stored), self.revision, value)
        self._put(self.overlay, key, record)

    def set_deadline(self, key: bytes, deadline: int) -> None:
        """Give a live key a deadline; 0 takes it away. One at or before now removes the key."""
        record = self._found(key)
        if deadline and deadline <= self.now_ms:
            self._put(self.overlay, key, None)
        else:
            self._put(self.overlay, key, encode_record(record.type, deadline, self.revision, record.value))

    def delete(self, key: bytes) -> bool:
        """Remove a key; tell whether it was live."""
        if self._live(self.overlay, key) is None:
            return False
        self._put(self.overlay, key, None)
        return True

    def rename(self, source: bytes, target: bytes) -> None:
        """Move a live record, deadline included, onto another key, which is overwritten."""
        if source == target:
            self._found(source)
            return
        self.copy(source, target)
        self._put(self.overlay, source, None)

    def copy(self, source: bytes, target: bytes, *, target_database: int | None = None) -> None:
        """Copy a live record, deadline included, onto another key, which is overwritten."""
        record = self._found(source)
        overlay = self.overlay if target_database is None else self.overlays[target_database]
        self._put(overlay, target, encode_record(record.type, record.deadline, self.revision, record.value))

    def count(self) -> int:
        """Return the number of keys (DBSIZE): expired ones that were not yet removed count, as in Redis."""
        if self.log_time_ms < self.overlay.first_deadline <= self.now_ms:
            raise DeadlineAhead
        return self.overlay.count

    def keys(self) -> Iterator[bytes]:
        """Yield the live keys in the keyspace's order. Spends one element a key."""
        expired = self._expired_keys()
        for store_key in self.overlay.record_keys_from(records_from(self.database, 0)):
            self.spend(1)
            key = user_key(store_key)
            if key not in expired:
                yield key

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor and the live keys from `cursor` on: about `count`, perhaps none.

        A scan starts at cursor 0 and is over when the next cursor is 0. A cursor is a place in the
        keyspace's order (32 bits), so it means the same on every node and after a restart, and nothing is
        kept for it: keys that are there from start to end are returned exactly once. Keys of one place are
        returned together, so there may be a few more than `count`. Any other integer is a valid cursor too.
        """
        if not 0 <= cursor < PLACES:
            return 0, []
        found: list[bytes] = []
        last = -1
        for seen, store_key in enumerate(self.overlay.record_keys_from(records_from(self.database, cursor))):
            place = place_of(store_key)
            if seen >= count and place != last:
                return place, found
            self.spend(1)
            last = place
            key = user_key(store_key)
            if self._all_live() or self.exists(key):
                found.append(key)
        return 0, found

    def random_key(self) -> bytes | None:
        """Return a live key, each about as likely as any other; None when there is none."""
        start = records_from(self.database, self.random.randrange(PLACES))
        behind = list(islice(self.overlay.record_keys_from(start), RANDOM_KEYS))
        from_first = self.overlay.record_keys_from(records_from(self.database, 0))
        before = takewhile(lambda store_key: store_key < start, from_first)
        nearest = behind + list(islice(before, RANDOM_KEYS - len(behind)))
        live = [key for key in map(user_key, nearest) if self._all_live() or self.exists(key)]
        return self.random.choice(live) if live else next(self.keys(), None)

    def clear(self, database: int | None = None) -> None:
        """Remove all keys of a database, or of all when it is None: one range, not one write a key."""
        for overlay in self.overlays if database is None else (self.overlays[database],):
            if overlay.count:
                self.journal.append(overlay.clear())

    def _live(self, overlay: Overlay, key: bytes) -> bytes | None:
        stored = overlay.get(key)
        if stored is None:
            return None
        # What is looked at counts, however little of it the command uses: it was brought into memory. By its
        # size, and not by whether it was there already, so that all nodes count alike.
        self.bytes_left -= len(stored)
        if self.bytes_left < 0:
            raise busy()
        return stored if self._is_live(stored) else None

    def _found(self, key: bytes) -> Record:
        record = self.find(key)
        if record is None:
            raise no_such_key()
        return record

    def _is_live(self, stored: bytes) -> bool:
        if not stored[0] & HAS_DEADLINE:
            return True
        deadline = deadline_of(stored)
        if deadline > self.now_ms:
            return True
        if deadline > self.log_time_ms:
            raise DeadlineAhead
        return False

    def _all_live(self) -> bool:
        return self.now_ms < self.overlay.first_deadline

    def _expired_keys(self) -> set[bytes]:
        """Return the keys that have expired and are still there, without looking at any record."""
        expired: set[bytes] = set()
        if not self._all_live():
            for deadline, key in self.overlay.deadlines_to(self.now_ms):
                if deadline > self.log_time_ms:
                    raise DeadlineAhead
                self.spend(1)
                expired.add(key)
        return expired

    def _put(self, overlay: Overlay, key: bytes, record: bytes | None) -> None:
        old = overlay.get(key)
        self.journal.append((overlay, key, old))
        overlay.put(key, record, old)
