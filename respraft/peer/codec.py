"""Frames between nodes.

    length u32 | crc32 u32 | kind u8 | group u32 | body          (little-endian)

length counts kind, group and body; crc32 (zlib's) covers them. `group` names the Raft group and is 0 for
now. A frame whose length is over the limit closes the connection before its body is read. The kinds:

    1 HANDSHAKE   a message of `handshake.py`
    2 MESSAGE     the MessagePack array of one message class: its tag, then its fields in order
    3 FRAGMENT    number u32 | last u8 | a piece of such an array (`fragments.py`)
    4 SNAPSHOT    a message of `snapshot_transfer.py`, on a connection that carries nothing else
    5 WORKER      between processes of one node (`server/workers/`), likewise

A message class may get further fields at its end: a receiver ignores those that it does not know.

This module does no I/O. What it makes of bytes from the network is a result or a `PeerProtocolError`,
never another exception; what it refuses to encode is an assertion, since only a bug of ours brings it
there. Whether the numbers in a message make sense is for its receiver to judge.
"""

import struct
import types
import typing
from typing import Any, Final, Generic, TypeAlias, cast
from zlib import crc32

import msgspec

from respraft.peer.interface import M

HANDSHAKE: Final = 1
MESSAGE: Final = 2
FRAGMENT: Final = 3
SNAPSHOT: Final = 4
WORKER: Final = 5

GROUP: Final = 0
"""The only Raft group so far."""

HEADER_BYTES: Final = 13

_LENGTH_MIN: Final = 5  # Kind and group, and an empty body.
_LENGTH_AND_CRC: Final = struct.Struct("<II")
_KIND_AND_GROUP: Final = struct.Struct("<BI")
_HEADER: Final = struct.Struct("<IIBI")
_UNCOUNTED_BYTES: Final = _LENGTH_AND_CRC.size

Buffer: TypeAlias = bytes | bytearray | memoryview
Frame: TypeAlias = tuple[int, int, memoryview]
"""Kind, group, body. The body is a view of the bytes that were fed: take what you need at once."""


class PeerProtocolError(Exception):
    """The peer broke the wire format. Close the connection; keep the node."""


class Codec(Generic[M]):
    """Messages to frame bodies and back, for one union of message classes.

    The union comes in from outside, because layers above add message classes of their own:
    `codec: Codec[Message | ForwardRequest] = Codec(Message | ForwardRequest)`.
    """

    def __init__(self, message_types: Any) -> None:
        """Take a union of array-like, tagged struct classes with distinct tags."""
        is_union = isinstance(message_types, types.UnionType)
        self._types = frozenset(typing.get_args(message_types) if is_union else (message_types,))
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(message_types).decode

    def encode(self, message: M) -> bytes:
        """Return the body of the frame for `message`."""
        assert type(message) in self._types, f"{type(message).__name__} is not in the union of this codec"
        return self._encode(message)

    def decode(self, body: Buffer) -> M:
        """Parse the body of a frame whose CRC was right.

        Raises:
            PeerProtocolError: `body` is not one of the known messages, or a field has the wrong type.
                Never raises anything else.
        """
        try:
            return cast(M, self._decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PeerProtocolError(f"not a message: {error}") from error


def encode_frame(kind: int, body: bytes) -> bytes:
    """Return the whole frame. Its receiver's limit is the caller's to keep."""
    head = _KIND_AND_GROUP.pack(kind, GROUP)
    return _LENGTH_AND_CRC.pack(len(body) + 5, crc32(body, crc32(head))) + head + body


def encode_frame_head(kind: int, prefix: bytes, rest: Buffer) -> bytes:
    """Return everything of a frame with body `prefix + rest` but `rest`, which the caller sends uncopied."""
    head = _KIND_AND_GROUP.pack(kind, GROUP) + prefix
    return _LENGTH_AND_CRC.pack(len(head) + len(rest), crc32(rest, crc32(head))) + head


class FrameReader:
    """Cuts a stream of bytes into frames. Whole frames are views of the input; only split ones are copied."""

    def __init__(self, frame_bytes_max: int) -> None:
        """Begin at a frame boundary.

        Args:
            frame_bytes_max: Longest frame accepted, header included. Memory grows as bytes arrive, never as
                a header announces.
        """
        self._length_max = frame_bytes_max - _UNCOUNTED_BYTES
        self._split = bytearray()  # The beginning of a frame whose end has not come yet.

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete.

        Raises:
            PeerProtocolError: A frame is too long or too short, of another group, or its CRC is wrong. The
                frames ahead of it are lost with it, and the reader is of no further use.
        """
        frames: list[Frame] = []
        view = memoryview(data)
        position = self._complete_split(view, frames) if self._split else 0
        end = len(view)
        while end - position >= HEADER_BYTES:
            stop = position + _UNCOUNTED_BYTES + self._length_at(view, position)
            if stop > end:
                break
            frames.append(_check_frame(view[position:stop]))
            position = stop
        if position < end:
            self._split += view[position:]
        return frames

    def _length_at(self, view: memoryview | bytearray, position: int) -> int:
        length: int = _LENGTH_AND_CRC.unpack_from(view, position)[0]
        if not _LENGTH_MIN <= length <= self._length_max:
            allowed = f"{_LENGTH_MIN} to {self._length_max}"
            raise PeerProtocolError(f"a frame of length {length}; allowed is {allowed}")
        return length

    def _complete_split(self, view: memoryview, frames: list[Frame]) -> int:
        """Move bytes of `view` to the split frame, no more than belong to it; return how many."""
        split = self._split
        used = 0
        if len(split) < HEADER_BYTES:
            used = HEADER_BYTES - len(split)
            split += view[:used]
            if len(split) < HEADER_BYTES:
                return len(view)
        missing = _UNCOUNTED_BYTES + self._length_at(split, 0) - len(split)
        split += view[used : used + missing]
        if len(view) - used < missing:
            return len(view)
        frames.append(_check_frame(memoryview(split)))
        # The frame keeps the old array alive; a new one, since an array with views cannot grow.
        self._split = bytearray()
        return used + missing


def _check_frame(frame: memoryview) -> Frame:
    _length, crc, kind, group = _HEADER.unpack_from(frame)
    if crc32(frame[_UNCOUNTED_BYTES:]) != crc:
        raise PeerProtocolError("a frame's CRC is wrong")
    if group != GROUP:
        raise PeerProtocolError(f"a frame of group {group}, which is not known here")
    return kind, group, frame[HEADER_BYTES:]
