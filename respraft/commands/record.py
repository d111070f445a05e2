"""Records and store keys: how the keyspace lies in the state store.

    r | database | hash of the key | key             record of a key
    v | database | hash of the key | key             its value, where that is large (`stored.py`)
    x | database | deadline (8, big-endian) | key    expiry index: a key that has a deadline; empty value
    n | database                                     number of records, 8 bytes; absent means 0
    m | name                                         what the replica keeps: applied index, sessions...

    record = type u8 | revision u64 [| deadline u64] [| value]        (big-endian)

Types are below 0x40. The top bit of that byte says that a deadline follows, so the first byte alone tells
that a record has none; the bit below it, in the store only, that the value lies in a row of its own.
`e` is left for the elements of collections, under the revision at which the collection was created: then
deleting the record deletes the collection.

Records are ordered by the CRC-32 of their key before the key itself. SCAN needs an order in which a 64-bit
cursor names a place on every node, whatever the keys look like, and RANDOMKEY one in which a random place
is a fair choice. Keys in byte order with a second index by hash would cost one more put for each new key,
1.5 us; this costs 0.08 us an access. Redis's own keyspace has no other order either.
"""

import struct
from itertools import repeat
from operator import add
from typing import Final, NamedTuple
from zlib import crc32

DATABASES: Final = 16
"""SELECT 0 to 15, as Redis has by default."""

STRING: Final = 1
"""Record type of strings. The types of collections will follow."""

NO_DEADLINE: Final = 0

HAS_DEADLINE: Final = 0x80
"""Bit of a record's first byte."""

APART: Final = 0x40
"""Bit of a head's first byte: the value is in a row of its own. No record in memory has it."""

VALUE_AT: Final = 9
"""Where the value of a record without a deadline starts."""

PLACES: Final = 1 << 32
"""Number of places in the order of a database's records."""

RECORDS: Final = b"r"
VALUES: Final = b"v"
EXPIRY: Final = b"x"
COUNTS: Final = b"n"
META: Final = b"m"

_PLACE_AT: Final = 2
_KEY_AT: Final = 6
_DEADLINE_AT: Final = 2
_INDEXED_KEY_AT: Final = 10
_LATE_VALUE_AT: Final = 17

INDEX_KEY_BYTES: Final = _INDEXED_KEY_AT
"""What an entry of the expiry index takes besides its key."""

plain_header: Final = struct.Struct(">BQ").pack
"""Type and revision -> the header of a record without a deadline."""

_plain: Final = struct.Struct(">BQ")
_expiring: Final = struct.Struct(">BQQ")
_counts: Final = struct.Struct(">QQ")
_long: Final = struct.Struct(">Q").pack
_hash: Final = struct.Struct(">I").pack


class Record(NamedTuple):
    """What is stored for a key, taken apart."""

    type: int
    deadline: int
    """Unix ms; 0 is none."""
    revision: int
    """(Log index << 20) | place of the writing command in its entry."""
    value: bytes
    """A string's value; of a collection, what describes it."""


def encode_record(kind: int, deadline: int, revision: int, value: bytes) -> bytes:
    """Build what is stored for a key."""
    if deadline:
        return _expiring.pack(kind | HAS_DEADLINE, revision, deadline) + value
    return plain_header(kind, revision) + value


def encode_strings(revision: int, values: list[bytes], deadlines: list[int] | None) -> list[bytes]:
    """Return the records of strings that commands of consecutive revisions set: one call for many.

    Args:
        revision: Of the first one.
        values: What each is set to.
        deadlines: Of each, NO_DEADLINE for none; None: none has one.
    """
    revisions = range(revision, revision + len(values))
    if deadlines is None:
        return list(map(add, map(plain_header, repeat(STRING), revisions), values))
    if NO_DEADLINE in deadlines:
        return list(map(encode_record, repeat(STRING), deadlines, revisions, values))
    return list(map(add, map(_expiring.pack, repeat(STRING | HAS_DEADLINE), revisions, deadlines), values))


def decode_record(stored: bytes) -> Record:
    """Take apart what `encode_record` built."""
    if stored[0] & HAS_DEADLINE:
        kind, revision, deadline = _expiring.unpack_from(stored)
        return Record(kind ^ HAS_DEADLINE, deadline, revision, stored[_LATE_VALUE_AT:])
    kind, revision = _plain.unpack_from(stored)
    return Record(kind, NO_DEADLINE, revision, stored[VALUE_AT:])


def type_of(stored: bytes) -> int:
    """Return the type of a stored record."""
    return stored[0] & ~HAS_DEADLINE


def deadline_of(stored: bytes) -> int:
    """Return the deadline of a stored record; 0 is none."""
    if stored[0] & HAS_DEADLINE:
        return int.from_bytes(stored[VALUE_AT:_LATE_VALUE_AT], "big")
    return NO_DEADLINE


def moment_of(stored: bytes) -> bytes:
    """Return the deadline of a stored record as it is written there; b"" is none."""
    return stored[VALUE_AT:_LATE_VALUE_AT] if stored[0] & HAS_DEADLINE else b""


def value_start(stored: bytes) -> int:
    """Return where the value begins in a record."""
    return _LATE_VALUE_AT if stored[0] & HAS_DEADLINE else VALUE_AT


def record_key(database: int, key: bytes) -> bytes:
    """Return the store key of a key's record."""
    return RECORDS + bytes((database,)) + _hash(crc32(key)) + key


def record_keys(database: int, keys: list[bytes]) -> list[bytes]:
    """Return `record_key` of each: one call for many, since every SET and GET needs one."""
    start = RECORDS + bytes((database,))
    return [start + _hash(crc32(key)) + key for key in keys]


def value_keys(database: int, keys: list[bytes]) -> list[bytes]:
    """Return the store keys of values that have a row of their own, in the order of the records."""
    return [VALUES + store_key[1:] for store_key in record_keys(database, keys)]


def records_from(database: int, place: int) -> bytes:
    """Return the least store key a record can have at a place of the order or behind it."""
    assert 0 <= place < PLACES
    return RECORDS + bytes((database,)) + _hash(place)


def place_of(store_key: bytes) -> int:
    """Return a record's place in the order: the hash of its key."""
    return int.from_bytes(store_key[_PLACE_AT:_KEY_AT], "big")


def user_key(store_key: bytes) -> bytes:
    """Return the key as clients know it from the store key of its record."""
    return store_key[_KEY_AT:]


def index_key(database: int, deadline: int, key: bytes) -> bytes:
    """Return the store key of an entry in the expiry index: the range's low end, `moment_of`, the key."""
    return EXPIRY + bytes((database,)) + _long(deadline) + key


def split_index_key(store_key: bytes) -> tuple[int, bytes]:
    """Return deadline and key of an entry in the expiry index."""
    deadline = int.from_bytes(store_key[_DEADLINE_AT:_INDEXED_KEY_AT], "big")
    return deadline, store_key[_INDEXED_KEY_AT:]


def range_of(kind: bytes, database: int) -> tuple[bytes, bytes]:
    """Return the range of store keys, low and past the end, of one kind and database."""
    return kind + bytes((database,)), kind + bytes((database + 1,))


def count_key(database: int) -> bytes:
    """Return the store key of a database's numbers of records."""
    return COUNTS + bytes((database,))


def encode_counts(records: int, expiring: int) -> bytes | None:
    """Return the stored form of how many records there are and how many have a deadline; 0 is nothing."""
    return _counts.pack(records, expiring) if records else None


def decode_counts(stored: bytes | None) -> tuple[int, int]:
    """Return the numbers that `encode_counts` stored."""
    return (0, 0) if stored is None else _counts.unpack(stored)
