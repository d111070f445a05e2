"""How records lie in the store: what is large is in a row of its own, so that heads are read without it.

    r | database | hash of the key | key      a record, or the head of one whose type has the APART bit
    v | database | hash of the key | key      the value that belongs to that head

Who writes a key over needs to know what it was: whether it was there at all, its type and its deadline.
That is in the head. With values of 10 KB in the record itself, plain SETs of 100 B over them came to half as
many, since each read one. (What is not a batch of SETs alone still reads whole records.)

A record is written in two rows exactly if it is longer than `APART_BYTES`. In memory it is always whole.
"""

from collections.abc import Iterator
from typing import Final

from respraft.commands.record import APART, record_keys, value_keys, value_start
from respraft.storage.interface import StorageFailed
from respraft.storage.pieces import BYTES_AT_ONCE, Rows
from respraft.storage.state_interface import StateStore

APART_BYTES: Final = 4 << 10
"""The longest record that lies in one row: RocksDB reads as much at once anyway."""


def lies_apart(record: bytes) -> bool:
    """Whether the value of this record, or head, has or will have a row of its own."""
    return len(record) > APART_BYTES or record[0] & APART != 0


def read_heads(store: StateStore, database: int, keys: list[bytes]) -> list[bytes | None]:
    """Return the records of keys, of large ones the head. None: there is none. Raises StorageFailed."""
    return store.get_many(record_keys(database, keys))


def read_records(store: StateStore, database: int, keys: list[bytes]) -> list[bytes | None]:
    """Return the records of keys. None: there is none. Raises StorageFailed."""
    records = read_heads(store, database, keys)
    places = [place for place, record in enumerate(records) if record and record[0] & APART]
    if places:
        values = store.get_many(value_keys(database, [keys[place] for place in places]))
        for place, value in zip(places, values, strict=True):
            head = records[place] or b""
            if value is None:
                raise StorageFailed(f"state database: the value of key {keys[place]!r} is missing")
            records[place] = bytes((head[0] ^ APART,)) + head[1:] + value
    return records


def apart_by_head(keys: list[bytes], heads: list[bytes | None]) -> list[bytes]:
    """Return those of keys whose value has a row of its own, by what the store says."""
    return [key for key, head in zip(keys, heads, strict=True) if head and head[0] & APART]


def apart_by_size(keys: list[bytes], records: list[bytes | None]) -> list[bytes]:
    """Return those of keys whose value has, or will have, a row of its own, by their records."""
    if max(map(len, filter(None, records)), default=0) <= APART_BYTES:
        return []
    return [key for key, record in zip(keys, records, strict=True) if record and len(record) > APART_BYTES]


def rows_of(database: int, keys: list[bytes], records: list[bytes | None]) -> Iterator[Rows]:
    """Yield what is to be written so that these become the records of keys, None for none.

    Values that lie apart are copied, and come a few at a time.
    """
    if not apart_by_size(keys, records):
        yield record_keys(database, keys), records
        return
    heads: list[bytes | None] = []
    apart: list[bytes] = []
    values: list[bytes | None] = []
    size = 0
    for key, record in zip(keys, records, strict=True):
        if record is None or not lies_apart(record):
            heads.append(record)
            continue
        start = value_start(record)
        heads.append(bytes((record[0] | APART,)) + record[1:start])
        apart.append(key)
        values.append(record[start:])
        size += len(record)
        if size > BYTES_AT_ONCE:
            yield value_keys(database, apart), values
            apart, values, size = [], [], 0
    yield value_keys(database, apart), values
    yield record_keys(database, keys), heads
