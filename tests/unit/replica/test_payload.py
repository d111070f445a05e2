"""Payloads, byte for byte: what is written is read, packed or not, and nothing else is."""

import os
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.columns import Columns
from respraft.replica.payload import (
    COLUMNS_MAX,
    FORM_COLUMNS,
    FORM_PACKED,
    FORM_ROWS,
    KIND_BATCH,
    KIND_OPEN,
    PACKED_BYTES_MAX,
    Body,
    UnknownPayload,
    open_payload,
    parse_commands,
    parse_header,
    size_of,
)
from tests.unit.replica.cluster import Cluster

FEW = settings(derandomize=True, max_examples=100, deadline=None)
NEVER = PACKED_BYTES_MAX + 1

WORDS = st.lists(st.binary(max_size=40), min_size=1, max_size=4)


def parsed(payload: bytes) -> tuple[list[list[bytes]], list[int]]:
    commands, databases = parse_commands(payload)
    return list(commands), databases


def form_of(payload: bytes) -> int:
    return payload[17]


@FEW
@given(st.lists(WORDS, max_size=30), st.booleans())
def test_commands_come_back_as_they_were(commands: list[list[bytes]], packed: bool) -> None:
    databases = [number % 16 for number in range(len(commands))] if packed else []
    payload = Body(commands, databases, 0 if packed else NEVER).payload(7, 9)
    assert parse_header(payload) == (KIND_BATCH, 7, 9)
    assert parsed(payload) == (commands, databases)


def test_a_batch_is_packed_where_that_saves_an_eighth() -> None:
    alike, random = [[b"SET", b"key", b"x" * 2000]], [[b"SET", b"key", os.urandom(2000)]]
    plain = Body(alike, [], NEVER).payload(1, 2)
    packed = Body(alike, [], 0).payload(1, 2)
    assert (form_of(plain), form_of(packed)) == (FORM_COLUMNS, FORM_COLUMNS + FORM_PACKED)
    assert len(packed) < 200
    assert form_of(Body(random, [], 0).payload(1, 2)) == FORM_COLUMNS
    assert Body(alike, [], 1024).payload(1, 2) == packed
    assert form_of(Body([[b"SET", b"key", b"x" * 900]], [], 1024).payload(1, 2)) == FORM_COLUMNS


def test_commands_that_are_alike_are_written_by_columns() -> None:
    def form(*lines: str, databases: Sequence[int] = ()) -> int:
        commands = [line.encode().split() for line in lines]
        payload = Body(commands, databases, NEVER).payload(1, 2)
        assert parsed(payload) == (commands, list(databases))
        return form_of(payload)

    assert form("SET a 1", "SET b 2", "SET a 3") == FORM_COLUMNS
    assert form("INCR a") == FORM_COLUMNS
    assert form("SET a 1", "set b 2") == FORM_ROWS
    assert form("SET a 1", "SET b 2 XX") == FORM_ROWS
    assert form("SET a 1", "SET b 2", databases=[1, 0]) == FORM_ROWS
    assert form("FLUSHALL", "FLUSHALL") == FORM_ROWS
    assert form() == FORM_ROWS
    assert form("DEL" + " a" * COLUMNS_MAX) == FORM_COLUMNS
    assert form("DEL" + " a" * (COLUMNS_MAX + 1)) == FORM_ROWS


@FEW
@given(st.integers(1, 5), st.integers(1, 20), st.data())
def test_columns_are_commands_like_others(width: int, count: int, data: st.DataObject) -> None:
    word = st.binary(max_size=5)
    rows = [[b"NAME", *[data.draw(word) for _ in range(width)]] for _ in range(count)]
    columns = Columns(b"NAME", [[row[place] for row in rows] for place in range(1, width + 1)])
    assert (len(columns), list(columns)) == (count, rows)
    start, end = data.draw(st.integers(-25, 25)), data.draw(st.integers(-25, 25))
    assert columns[start:end] == rows[start:end]
    place = data.draw(st.integers(-count, count - 1))
    assert columns[place] == rows[place]
    with pytest.raises(IndexError):
        columns[count]


def test_the_size_of_a_payload_is_that_of_what_comes_out_of_it() -> None:
    commands = [[b"SET", b"key", b"x" * 2000]]
    plain = Body(commands, [], NEVER).payload(1, 2)
    packed = Body(commands, [], 0).payload(1, 2)
    assert size_of(plain) == len(plain)
    assert size_of(packed) == len(plain) - 18  # The header of a plain one.
    assert size_of(b"") == 0
    assert size_of(open_payload(1, 2)) == 17


def test_a_body_serves_more_than_one_payload() -> None:
    body = Body([[b"SET", b"key", b"x" * 2000]], [], 0)
    first, again = body.payload(1, 2), body.payload(3, 4)
    assert parse_header(again) == (KIND_BATCH, 3, 4)
    assert parsed(first) == parsed(again)


@pytest.mark.parametrize("payload", [b"", b"\x01short", b"\x09" + bytes(16), b"\x00" + bytes(16)])
def test_an_unknown_payload_stops_rather_than_being_skipped(payload: bytes) -> None:
    with pytest.raises(UnknownPayload):
        parse_header(payload)


def packed_payload() -> bytearray:
    return bytearray(Body([[b"SET", b"key", b"x" * 2000]], [], 0).payload(1, 2))


def test_a_batch_that_cannot_be_decoded_stops() -> None:
    uneven = msgspec.msgpack.encode((b"SET", [[b"a", b"b"], [b"1"]]))
    none = msgspec.msgpack.encode((b"SET", []))
    of_no_form = b"\x04\x92\x90\x90"
    for body in (b"", b"\0", b"\0\xc1", b"\1\xc1", b"\1" + uneven, b"\1" + none, of_no_form, b"\xff"):
        with pytest.raises(UnknownPayload):
            parse_commands(b"\x01" + bytes(16) + body)
    assert parse_header(open_payload(1, 2))[0] == KIND_OPEN


@pytest.mark.parametrize("form", [4, 5, 0x92, 0xFF])
def test_a_form_that_is_not_known_is_named_before_anything_is_unpacked(form: int) -> None:
    payload = packed_payload()
    payload[17] = form
    with pytest.raises(UnknownPayload, match=f"not known to this version of respraft: {form}"):
        parse_commands(bytes(payload))


def test_a_packed_batch_that_cannot_be_unpacked_stops() -> None:
    whole = packed_payload()
    for cut in (17, 18, 21, 22, len(whole) - 1):
        with pytest.raises(UnknownPayload):
            parse_commands(bytes(whole[:cut]))
    smaller, larger, huge = packed_payload(), packed_payload(), packed_payload()
    smaller[18:22] = (10).to_bytes(4, "little")
    larger[18:22] = (10_000).to_bytes(4, "little")
    huge[18:22] = (PACKED_BYTES_MAX + 1).to_bytes(4, "little")
    for wrong in (smaller, larger, huge):
        with pytest.raises(UnknownPayload):
            parse_commands(bytes(wrong))


def test_what_is_large_and_alike_travels_packed_and_arrives_whole() -> None:
    cluster = Cluster()
    origin = cluster.followers()[0]
    value = "x" * 5000
    cluster.submit(origin.id, "c", [f"SET key {value}", "GET key"])
    cluster.settle()
    assert origin.replies("c")[-1] == value.encode()
    entry = origin.core.log.entries(origin.core.last_index, origin.core.last_index + 1, 0)[0]
    assert form_of(entry.payload) == FORM_COLUMNS + FORM_PACKED
    assert len(entry.payload) < 500
