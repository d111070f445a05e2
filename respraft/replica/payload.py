"""Payloads: what the replica appends to the log, byte for byte (little-endian).

    BATCH   kind u8 = 1 | session u64 | sequence u64 | form u8 | body
    OPEN    kind u8 = 2 | node id u64 | nonce u64
    TIME    kind u8 = 3 | 0 u64 | 0 u64

Forms of a body:

    ROWS    0    msgpack [commands, databases]
    COLUMNS 1    msgpack [name, [first arguments, second arguments, ...]]: all of one name, and in database 0
    PACKED  + 2  its size u32 | one of the two, as an LZ4 block

The header is fixed so that a leader can admit a forwarded batch without decoding its commands. A payload of
an unknown kind or form stops the node (`UnknownPayload`): a newer version wrote it, and skipping it would
make this node's state differ from the others'.

A batch that is packed is written to three disks, sent to two peers and summed up on each way as what it is
then. Its commands still take their time and memory when they are applied, so whatever bounds those counts
`size_of`.
"""

import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

import lz4.block
import msgspec

from respraft.columns import Columns
from respraft.replica.machine import Command

KIND_BATCH: Final = 1
KIND_OPEN: Final = 2
KIND_TIME: Final = 3

FORM_ROWS: Final = 0
FORM_COLUMNS: Final = 1
FORM_PACKED: Final = 2  # Is added to one of those.

COLUMNS_MAX: Final = 8
"""Arguments of commands that are written by columns: with more there is nothing to gain."""

PACKED_BYTES_MAX: Final = 256 << 20
"""Bodies that are larger stay as they are, and none is unpacked to more."""

PACK_SPARES: Final = 8
"""A body is packed if that saves at least one byte of so many."""

PACK_HASTE: Final = 4
"""LZ4's "acceleration": what is random takes it a third of the time, and nothing else is much larger."""

_HEADER: Final = struct.Struct("<BQQ")
_BATCH_HEADER: Final = struct.Struct("<BQQB")
_PACKED_HEADER: Final = struct.Struct("<BQQBL")
_FORM_AT: Final = _HEADER.size
_encode = msgspec.msgpack.Encoder().encode
_decode_rows = msgspec.msgpack.Decoder(tuple[list[Command], list[int]]).decode
_decode_columns = msgspec.msgpack.Decoder(tuple[bytes, list[list[bytes]]]).decode
_name_of = itemgetter(0)

TIME_PAYLOAD: Final = _HEADER.pack(KIND_TIME, 0, 0)
"""Carries nothing but the entry's stamp, so that due keys are removed on a quiet cluster."""


class UnknownPayload(Exception):
    """A committed payload cannot be understood. Stop the node: skipping it would fork the state."""


class Body:
    """The commands of a batch, encoded once for as many payloads as it takes."""

    __slots__ = ("_data", "_form", "_size")

    def __init__(self, commands: Sequence[Command], databases: Sequence[int], pack_bytes_min: int) -> None:
        """Encode.

        Args:
            commands: In order.
            databases: Theirs; empty: all 0.
            pack_bytes_min: What is smaller is not packed.
        """
        if not databases and _are_alike(commands):
            columns = [list(map(itemgetter(place), commands)) for place in range(1, len(commands[0]))]
            self._form, self._data = FORM_COLUMNS, _encode((commands[0][0], columns))
        else:
            self._form, self._data = FORM_ROWS, _encode((commands, databases))
        self._size = size = len(self._data)
        if pack_bytes_min <= size <= PACKED_BYTES_MAX:
            packed = lz4.block.compress(self._data, mode="fast", acceleration=PACK_HASTE, store_size=False)
            if len(packed) <= size - size // PACK_SPARES:
                self._form, self._data = self._form + FORM_PACKED, packed

    def payload(self, session: int, sequence: int) -> bytes:
        """Return the payload that carries it."""
        if self._form >= FORM_PACKED:
            return _PACKED_HEADER.pack(KIND_BATCH, session, sequence, self._form, self._size) + self._data
        return _BATCH_HEADER.pack(KIND_BATCH, session, sequence, self._form) + self._data


def _are_alike(commands: Sequence[Command]) -> bool:
    """Whether they can be written by columns."""
    if not commands or not 2 <= len(commands[0]) <= COLUMNS_MAX + 1:
        return False
    return len(set(map(len, commands))) == 1 and len(set(map(_name_of, commands))) == 1


EMPTY: Final = Body((), (), PACKED_BYTES_MAX)
"""Of a batch without commands: keeps a sequence when its commands must not surface any more."""


def open_payload(node_id: int, nonce: int) -> bytes:
    """Return the payload that opens a session for a node."""
    return _HEADER.pack(KIND_OPEN, node_id, nonce)


def parse_header(payload: bytes) -> tuple[int, int, int]:
    """Return kind and the two numbers behind it: (session, sequence) or (node id, nonce).

    Raises:
        UnknownPayload: Not a payload of this version.
    """
    try:
        kind, first, second = _HEADER.unpack_from(payload)
    except struct.error as error:
        raise UnknownPayload(f"a payload of {len(payload)} bytes has no header") from error
    if not KIND_BATCH <= kind <= KIND_TIME:
        raise UnknownPayload(f"payload kind {kind} is not known to this version of respraft")
    return kind, first, second


def size_of(payload: bytes) -> int:
    """Return how long a payload is before it is packed: what it takes to apply it, in bytes."""
    if len(payload) > _PACKED_HEADER.size and payload[0] == KIND_BATCH and payload[_FORM_AT] >= FORM_PACKED:
        size: int = _PACKED_HEADER.unpack_from(payload)[4]
        return size
    return len(payload)


def parse_commands(payload: bytes) -> tuple[Sequence[Command], list[int]]:
    """Return the commands of a batch's payload and their databases (empty: all 0).

    Raises:
        UnknownPayload: The body is not what this version writes.
    """
    try:
        form = payload[_FORM_AT]
        if form > FORM_COLUMNS + FORM_PACKED:
            raise UnknownPayload(f"a batch of a form that is not known to this version of respraft: {form}")
        if form < FORM_PACKED:
            return _decode(form, memoryview(payload)[_BATCH_HEADER.size :])
        return _decode(form - FORM_PACKED, _unpacked(payload))
    except (IndexError, msgspec.DecodeError, lz4.block.LZ4BlockError, struct.error) as error:
        raise UnknownPayload(f"a batch cannot be decoded: {error}") from error


def _unpacked(payload: bytes) -> bytes:
    size: int = _PACKED_HEADER.unpack_from(payload)[4]
    if size > PACKED_BYTES_MAX:
        raise UnknownPayload(f"a packed batch of {size} bytes; the limit is {PACKED_BYTES_MAX}")
    body: bytes = lz4.block.decompress(memoryview(payload)[_PACKED_HEADER.size :], uncompressed_size=size)
    if len(body) != size:
        raise UnknownPayload(f"a packed batch of {len(body)} bytes says that it has {size}")
    return body


def _decode(form: int, body: bytes | memoryview) -> tuple[Sequence[Command], list[int]]:
    if form == FORM_ROWS:
        return _decode_rows(body)
    name, arguments = _decode_columns(body)
    if len(set(map(len, arguments))) != 1:
        raise UnknownPayload("the columns of a batch are not equally long")
    return Columns(name, arguments), []
