"""Records in the store: whole, or a head and a value in a row of its own."""

import pytest

from respraft.commands.record import APART, STRING, encode_record, record_key, record_keys, value_keys
from respraft.commands.stored import (
    APART_BYTES,
    apart_by_head,
    apart_by_size,
    read_heads,
    read_records,
    rows_of,
)
from respraft.storage.interface import StorageFailed
from respraft.storage.state_memory import MemoryStateStore

KEYS = [b"large", b"none", b"small", b"large and due"]
RECORDS = [
    encode_record(STRING, 0, 1, b"v" * APART_BYTES),
    None,
    encode_record(STRING, 0, 2, b"v"),
    encode_record(STRING, 99, 3, b"w" * APART_BYTES),
]
APART_KEYS = [b"large", b"large and due"]


def stored() -> MemoryStateStore:
    store = MemoryStateStore()
    for keys, values in rows_of(3, KEYS, RECORDS):
        store.write(dict(zip(keys, values, strict=True)))
    return store


def test_records_are_read_as_they_were_written() -> None:
    assert read_records(stored(), 3, KEYS) == RECORDS
    assert read_records(stored(), 4, KEYS) == [None] * 4


def test_a_head_is_all_of_a_record_but_its_value() -> None:
    heads = read_heads(stored(), 3, KEYS)
    assert heads[1:3] == RECORDS[1:3]
    assert heads[0] == bytes((STRING | APART,)) + RECORDS[0][1:9]  # type: ignore[index]
    assert heads[3] == bytes((RECORDS[3][0] | APART,)) + RECORDS[3][1:17]  # type: ignore[index]
    assert apart_by_head(KEYS, heads) == apart_by_size(KEYS, RECORDS) == APART_KEYS


def test_a_record_is_split_if_it_is_longer_than_the_limit() -> None:
    longest = encode_record(STRING, 0, 1, b"v" * (APART_BYTES - 9))
    assert list(rows_of(0, [b"k"], [longest])) == [([record_key(0, b"k")], [longest])]
    (values, heads) = rows_of(0, [b"k"], [longest + b"v"])
    assert values == (value_keys(0, [b"k"]), [b"v" * (APART_BYTES - 8)])
    assert heads[0] == record_keys(0, [b"k"])


def test_a_value_that_is_missing_is_no_empty_one() -> None:
    store = stored()
    store.write({value_keys(3, [b"large"])[0]: None})
    with pytest.raises(StorageFailed, match="value of key b'large' is missing"):
        read_records(store, 3, KEYS)
