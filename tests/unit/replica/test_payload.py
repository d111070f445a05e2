"""Payloads, byte for byte: what is written is read, packed or not, and nothing else is."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.replica.payload import (
    KIND_BATCH,
    KIND_OPEN,
    KIND_PACKED,
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


@FEW
@given(st.lists(WORDS, max_size=30), st.booleans())
def test_commands_come_back_as_they_were(commands: list[list[bytes]], packed: bool) -> None:
    databases = [number % 16 for number in range(len(commands))] if packed else []
    payload = Body(commands, databases, 0 if packed else NEVER).payload(7, 9)
    assert parse_header(payload) == (KIND_BATCH, 7, 9)
    assert parse_commands(payload) == (commands, databases)


def test_a_batch_is_packed_where_that_saves_an_eighth() -> None:
    alike, random = [[b"SET", b"key", b"x" * 2000]], [[b"SET", b"key", os.urandom(2000)]]
    plain = Body(alike, [], NEVER).payload(1, 2)
    packed = Body(alike, [], 0).payload(1, 2)
    assert (plain[0], packed[0]) == (KIND_BATCH, KIND_PACKED)
    assert len(packed) < 200
    assert Body(random, [], 0).payload(1, 2)[0] == KIND_BATCH
    assert Body(alike, [], 1024).payload(1, 2) == packed
    assert Body([[b"SET", b"key", b"x" * 900]], [], 1024).payload(1, 2)[0] == KIND_BATCH


def test_the_size_of_a_payload_is_that_of_what_comes_out_of_it() -> None:
    commands = [[b"SET", b"key", b"x" * 2000]]
    plain = Body(commands, [], NEVER).payload(1, 2)
    packed = Body(commands, [], 0).payload(1, 2)
    assert size_of(plain) == len(plain)
    assert 2000 < size_of(packed) < 2100
    assert size_of(b"") == 0
    assert size_of(open_payload(1, 2)) == 17


def test_a_body_serves_more_than_one_payload() -> None:
    body = Body([[b"SET", b"key", b"x" * 2000]], [], 0)
    first, again = body.payload(1, 2), body.payload(3, 4)
    assert parse_header(again) == (KIND_BATCH, 3, 4)
    assert parse_commands(first) == parse_commands(again)


@pytest.mark.parametrize("payload", [b"", b"\x01short", b"\x09" + bytes(16), b"\x00" + bytes(16)])
def test_an_unknown_payload_stops_rather_than_being_skipped(payload: bytes) -> None:
    with pytest.raises(UnknownPayload):
        parse_header(payload)


def packed_payload() -> bytearray:
    return bytearray(Body([[b"SET", b"key", b"x" * 2000]], [], 0).payload(1, 2))


def test_a_batch_that_cannot_be_decoded_stops() -> None:
    with pytest.raises(UnknownPayload):
        parse_commands(b"\x01" + bytes(16) + b"\xc1")
    assert parse_header(open_payload(1, 2))[0] == KIND_OPEN


def test_a_packed_batch_that_cannot_be_unpacked_stops() -> None:
    whole = packed_payload()
    for cut in (17, 19, 21, len(whole) - 1):
        with pytest.raises(UnknownPayload):
            parse_commands(bytes(whole[:cut]))
    smaller, larger, huge = packed_payload(), packed_payload(), packed_payload()
    smaller[17:21] = (10).to_bytes(4, "little")
    larger[17:21] = (10_000).to_bytes(4, "little")
    huge[17:21] = (PACKED_BYTES_MAX + 1).to_bytes(4, "little")
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
    assert entry.payload[0] == KIND_PACKED
    assert len(entry.payload) < 500
