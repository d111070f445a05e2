"""Frames survive any cutting; what is broken is a PeerProtocolError and nothing else."""

import struct
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.peer.codec import (
    HEADER_BYTES,
    MESSAGE,
    FrameReader,
    PeerProtocolError,
    encode_frame,
    encode_frame_head,
)
from respraft.raft.message import AppendRequest, Entry, VoteRequest
from tests.unit.peer.support import Blob, codec, heartbeat

FRAME_BYTES_MAX = 1000
BODIES = [b"", b"a", b"some longer body " * 5, bytes(range(256))]
STREAM = b"".join(encode_frame(kind, body) for kind, body in enumerate(BODIES))


def frames_of(reader: FrameReader, *chunks: bytes) -> list[tuple[int, int, bytes]]:
    return [(kind, group, bytes(body)) for chunk in chunks for kind, group, body in reader.feed(chunk)]


EXPECTED = [(kind, 0, body) for kind, body in enumerate(BODIES)]


def test_a_frame_is_what_the_module_says() -> None:
    counted = b"\x02" + b"\0\0\0\0" + b"body"
    assert encode_frame(2, b"body") == struct.pack("<II", len(counted), crc32(counted)) + counted


def test_a_frame_can_be_sent_in_two_parts() -> None:
    body = b"prefix" + b"rest"
    assert encode_frame_head(3, b"prefix", memoryview(b"rest")) + b"rest" == encode_frame(3, body)


@pytest.mark.parametrize("position", range(len(STREAM) + 1))
def test_frames_survive_a_split_at_each_position(position: int) -> None:
    assert frames_of(FrameReader(FRAME_BYTES_MAX), STREAM[:position], STREAM[position:]) == EXPECTED


def test_frames_survive_arriving_byte_by_byte() -> None:
    assert (
        frames_of(FrameReader(FRAME_BYTES_MAX), *(STREAM[i : i + 1] for i in range(len(STREAM)))) == EXPECTED
    )


@given(st.lists(st.binary(max_size=200)), st.lists(st.integers(1, 60), min_size=1))
def test_frames_survive_any_cutting(bodies: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(encode_frame(MESSAGE, body) for body in bodies)
    reader = FrameReader(FRAME_BYTES_MAX)
    received: list[bytes] = []
    while stream:
        for size in sizes:
            received += [bytes(body) for _, _, body in reader.feed(stream[:size])]
            stream = stream[size:]
    assert received == bodies


def test_a_whole_frame_is_a_view_of_what_was_fed() -> None:
    data = encode_frame(MESSAGE, b"x" * 500)
    [(_, _, body)] = FrameReader(FRAME_BYTES_MAX).feed(data)
    assert body.obj is data


@pytest.mark.parametrize("length", [0, 4, FRAME_BYTES_MAX - 7, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_its_body_is_read(length: int) -> None:
    header = struct.pack("<IIBI", length, 0, MESSAGE, 0)
    with pytest.raises(PeerProtocolError, match=f"a frame of length {length}"):
        FrameReader(FRAME_BYTES_MAX).feed(header)
    split = FrameReader(FRAME_BYTES_MAX)
    assert split.feed(header[:6]) == []
    with pytest.raises(PeerProtocolError, match=f"a frame of length {length}"):
        split.feed(header[6:])


def test_the_longest_frame_passes() -> None:
    body = b"x" * (FRAME_BYTES_MAX - HEADER_BYTES)
    assert frames_of(FrameReader(FRAME_BYTES_MAX), encode_frame(MESSAGE, body)) == [(MESSAGE, 0, body)]


@pytest.mark.parametrize("position", range(4, HEADER_BYTES + 4))
@pytest.mark.parametrize("split", [False, True])
def test_a_flipped_bit_behind_the_length_is_noticed(position: int, split: bool) -> None:
    frame = bytearray(encode_frame(MESSAGE, b"body"))
    frame[position] ^= 0x10
    reader = FrameReader(FRAME_BYTES_MAX)
    chunks = [bytes(frame[:7]), bytes(frame[7:])] if split else [bytes(frame)]
    with pytest.raises(PeerProtocolError, match="CRC"):
        frames_of(reader, *chunks)


def test_another_group_is_refused() -> None:
    counted = struct.pack("<BI", MESSAGE, 7)
    with pytest.raises(PeerProtocolError, match="group 7"):
        FrameReader(FRAME_BYTES_MAX).feed(struct.pack("<II", 5, crc32(counted)) + counted)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_garbage_makes_a_reader_raise_nothing_else(chunks: list[bytes]) -> None:
    reader = FrameReader(FRAME_BYTES_MAX)
    try:
        for chunk in chunks:
            reader.feed(chunk)
    except PeerProtocolError:
        return


class Stray(msgspec.Struct, tag=51, array_like=True, frozen=True):
    """Not in the union of the test's codec."""

    sender: int


MESSAGES = [
    heartbeat(1),
    VoteRequest(sender=2, term=2**63, last_index=5, last_term=4, transfer=True),
    AppendRequest(
        sender=3, term=1, base_index=0, base_term=0, commit_index=0, entries=[Entry(1, 1, 1, 0, b"payload")]
    ),
    Blob(sender=4, payload=bytes(1000)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_equal(message: Blob) -> None:
    body = codec().encode(message)
    for form in (body, bytearray(body), memoryview(body)):
        assert codec().decode(form) == message


def test_fields_of_a_later_release_are_ignored() -> None:
    body = msgspec.msgpack.encode([50, 4, b"payload", "something new"])
    assert codec().decode(body) == Blob(sender=4, payload=b"payload")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        msgspec.msgpack.encode([99, 1, 2]),  # No such tag.
        msgspec.msgpack.encode([50, 4]),  # A field is missing.
        msgspec.msgpack.encode([50, "four", b""]),  # A wrong type.
        msgspec.msgpack.encode([50, 4, b""])[:-1],  # The end is missing.
        msgspec.msgpack.encode([50, 4, b""]) + b"\0",  # Something behind it.
        b"\x93\x32\x04\xa2\xff\xff",  # Invalid UTF-8.
        b"\x94\x32\x04\xc4\x00" + b"\x91" * 200_000,  # Nested beyond all measure.
        b"\x93\x32\x04\xc6\xff\xff\xff\xff",  # Announces 4 GiB.
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="not a message"):
        codec().decode(body)


@settings(max_examples=1000)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda tag, rest: bytes([0x90 | 6, tag]) + rest, st.integers(0, 127), st.binary(max_size=60)
        ),
        st.builds(
            lambda message, position, value: _flipped(codec().encode(message), position, value),
            st.sampled_from(MESSAGES),
            st.integers(0, 10**6),
            st.integers(1, 255),
        ),
    )
)
def test_garbage_makes_the_decoder_raise_nothing_else(body: bytes) -> None:
    try:
        codec().decode(body)
    except PeerProtocolError:
        return


def test_a_message_that_no_peer_could_read_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="Stray"):
        codec().encode(Stray(sender=1))  # type: ignore[arg-type]


def _flipped(body: bytes, position: int, value: int) -> bytes:
    flipped = bytearray(body)
    flipped[position % len(body)] ^= value
    return bytes(flipped)
