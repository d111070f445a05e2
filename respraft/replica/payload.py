"""Payloads: what the replica appends to the log, byte for byte (little-endian).

    BATCH   kind u8 = 1 | session u64 | sequence u64 | body
    OPEN    kind u8 = 2 | node id u64 | nonce u64
    TIME    kind u8 = 3 | 0 u64 | 0 u64
    PACKED  kind u8 = 4 | session u64 | sequence u64 | size of the body u32 | body, as an LZ4 block

A body is msgpack [commands, databases]. The header is fixed so that a leader can admit a forwarded batch
without decoding its commands. A payload of an unknown kind stops the node (`UnknownPayload`): a newer version
wrote it, and skipping it would make this node's state differ from the others'.

A batch that is packed is written to three disks, sent to two peers and summed up on each way as what it is
then. Its commands still take their time and memory when they are applied, so whatever bounds those counts
`size_of`.
"""

import struct
from collections.abc import Sequence
from typing import Final

import lz4.block
import msgspec

from respraft.replica.machine import Command

KIND_BATCH: Final = 1
KIND_OPEN: Final = 2
KIND_TIME: Final = 3
KIND_PACKED: Final = 4

PACKED_BYTES_MAX: Final = 256 << 20
"""Bodies that are larger stay as they are, and none is unpacked to more."""

PACK_SPARES: Final = 8
"""A body is packed if that saves at least one byte of so many."""

PACK_HASTE: Final = 4
"""LZ4's "acceleration": what is random takes it a third of the time, and nothing else is much larger."""

_HEADER: Final = struct.Struct("<BQQ")
_PACKED_HEADER: Final = struct.Struct("<BQQL")
_encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(tuple[list[list[bytes]], list[int]]).decode

TIME_PAYLOAD: Final = _HEADER.pack(KIND_TIME, 0, 0)
"""Carries nothing but the entry's stamp, so that due keys are removed on a quiet cluster."""


class UnknownPayload(Exception):
    """A committed payload cannot be understood. Stop the node: skipping it would fork the state."""


class Body:
    """The commands of a batch, encoded once for as many payloads as it takes."""

    __slots__ = ("_data", "_size")

    def __init__(self, commands: Sequence[Command], databases: Sequence[int], pack_bytes_min: int) -> None:
        """Encode.

        Args:
            commands: In order.
            databases: Theirs; empty: all 0.
            pack_bytes_min: What is smaller is not packed.
        """
        self._data = _encode_body((commands, databases))
        self._size = 0  # Before it was packed; 0: it was not.
        size = len(self._data)
        if pack_bytes_min <= size <= PACKED_BYTES_MAX:
            packed = lz4.block.compress(self._data, mode="fast", acceleration=PACK_HASTE, store_size=False)
            if len(packed) <= size - size // PACK_SPARES:
                self._data, self._size = packed, size

    def payload(self, session: int, sequence: int) -> bytes:
        """Return the payload that carries it."""
        if self._size:
            return _PACKED_HEADER.pack(KIND_PACKED, session, sequence, self._size) + self._data
        return _HEADER.pack(KIND_BATCH, session, sequence) + self._data


EMPTY: Final = Body((), (), PACKED_BYTES_MAX)
"""Of a batch without commands: keeps a sequence when its commands must not surface any more."""


def open_payload(node_id: int, nonce: int) -> bytes:
    """Return the payload that opens a session for a node."""
    return _HEADER.pack(KIND_OPEN, node_id, nonce)


def parse_header(payload: bytes) -> tuple[int, int, int]:
    """Return kind and the two numbers behind it: (session, sequence) or (node id, nonce).

    A packed batch is KIND_BATCH like any other.

    Raises:
        UnknownPayload: Not a payload of this version.
    """
    try:
        kind, first, second = _HEADER.unpack_from(payload)
    except struct.error as error:
        raise UnknownPayload(f"a payload of {len(payload)} bytes has no header") from error
    if not KIND_BATCH <= kind <= KIND_PACKED:
        raise UnknownPayload(f"payload kind {kind} is not known to this version of respraft")
    return KIND_BATCH if kind == KIND_PACKED else kind, first, second


def size_of(payload: bytes) -> int:
    """Return how long a payload is before it is packed: what it takes to apply it, in bytes."""
    if len(payload) > _PACKED_HEADER.size and payload[0] == KIND_PACKED:
        size: int = _PACKED_HEADER.unpack_from(payload)[3]
        return size
    return len(payload)


def parse_commands(payload: bytes) -> tuple[list[Command], list[int]]:
    """Return the commands of a batch's payload and their databases (empty: all 0).

    Raises:
        UnknownPayload: The body is not what this version writes.
    """
    try:
        if payload[0] == KIND_PACKED:
            size = _PACKED_HEADER.unpack_from(payload)[3]
            if size > PACKED_BYTES_MAX:
                raise UnknownPayload(f"a packed batch of {size} bytes; the limit is {PACKED_BYTES_MAX}")
            block = memoryview(payload)[_PACKED_HEADER.size :]
            body = lz4.block.decompress(block, uncompressed_size=size)
            if len(body) != size:
                raise UnknownPayload(f"a packed batch of {len(body)} bytes says that it has {size}")
            return _decode_body(body)
        return _decode_body(memoryview(payload)[_HEADER.size :])
    except (msgspec.DecodeError, lz4.block.LZ4BlockError, struct.error) as error:
        raise UnknownPayload(f"a batch cannot be decoded: {error}") from error
