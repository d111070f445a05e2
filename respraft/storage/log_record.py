"""How the Raft log is laid out in a key-value database, and what a sound one looks like.

    key                            value
    "e" | group u32 | index u64    crc32 u32 | crc32 of the record before u32 | MessagePack of the Entry
    "h" | group u32                first and last index, last term, term, vote, commit, term and log time of
                                   the entry before the first, number of the state, as u64 | crc32 u32
    "i"                            MessagePack of FORMAT and the NodeIdentity's fields | crc32 u32
    "w"                            write counter u64 | crc32 u32

Numbers are big-endian, so that keys sort by index. The group is 0 until there are several Raft groups in
one process; the write counter counts the writes of the whole store. Heads sort *behind* entries on purpose: a
file of RocksDB then reaches from its first entry to the end and overlaps only the last of the older
files, not all of them, when it is compacted.

Each record names its predecessor's checksum. Where a piece of the middle was lost or is an older version,
indexes may still be contiguous and terms in order; the chain is not. The record at the first index has
nobody to vouch for it: what it names was cut off, or was never there (0).

The head says where the log begins, so a cut and an installed snapshot are a new head and a deleted range of
entries, in one write. Format 1 ended the head with the commit index: such a log was never cut.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from respraft.raft.message import Entry, Index, SnapshotPoint, Term
from respraft.raft.ready import HardState
from respraft.storage.interface import NodeIdentity

FORMAT: Final = 2
"""Of everything above. A directory with a higher one was written by a newer respraft."""
_FORMATS_READ: Final = (1, FORMAT)

GROUP: Final = 0

KEY_HEAD: Final = b"h" + GROUP.to_bytes(4, "big")
KEY_IDENTITY: Final = b"i"
KEY_COUNTER: Final = b"w"
_ENTRY_PREFIX: Final = b"e" + GROUP.to_bytes(4, "big")

_LINK: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">9Q")
_HEAD_OF_FORMAT_1: Final = struct.Struct(">6Q")
_COUNTER: Final = struct.Struct(">Q")

_encode_entry: Final = msgspec.msgpack.Encoder().encode
_decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode
_decode_identity: Final = msgspec.msgpack.Decoder(list[Any]).decode


class RecordDamaged(Exception):
    """A record, or the order of records, is not what was written. The text says what and where."""

    def __init__(self, text: str, *, key: bytes) -> None:
        super().__init__(text)
        self.key = key


class UnknownFormat(Exception):
    """The log was written by a newer respraft."""


class Head(NamedTuple):
    """Where the log begins and ends, and the hard state. Changed as a whole, with every append."""

    first_index: Index = 1
    last_index: Index = 0  # first_index - 1 in an empty log.
    last_term: Term = 0
    term: Term = 0
    vote: int = 0
    commit: Index = 0
    base_term: Term = 0  # Of the entry before the first one; 0 if there never was one.
    base_time_ms: int = 0
    state_number: int = 1

    def base(self) -> SnapshotPoint:
        """The place before the first entry."""
        return SnapshotPoint(self.first_index - 1, self.base_term, self.base_time_ms)

    def hard_state(self) -> HardState:
        """The part that belongs to the core."""
        return HardState(self.term, self.vote, self.commit)


class Found(NamedTuple):
    """What a log holds besides its entries."""

    head: Head
    counter: int
    identity: NodeIdentity | None  # None: the very first start was cut short.


def entry_key(index: Index) -> bytes:
    """The key of the entry at `index`."""
    return _ENTRY_PREFIX + index.to_bytes(8, "big")


def index_of(key: bytes) -> Index | None:
    """The index of an entry's key; None for another key."""
    return int.from_bytes(key[len(_ENTRY_PREFIX) :], "big") if key.startswith(_ENTRY_PREFIX) else None


def encode_entry(entry: Entry, previous_crc: int) -> tuple[bytes, int]:
    """The record of an entry, and its checksum, which the next record names."""
    body = _encode_entry(entry)
    crc = zlib.crc32(body, zlib.crc32(_CRC.pack(previous_crc)))
    return _LINK.pack(crc, previous_crc) + body, crc


def decode_entry(record: bytes, index: Index) -> Entry:
    """The entry that must be at `index`. Raises RecordDamaged and nothing else."""
    view = memoryview(record)
    if len(record) < _LINK.size or zlib.crc32(view[_CRC.size :]) != _CRC.unpack_from(record)[0]:
        raise RecordDamaged(f"the checksum of entry {index} is wrong", key=entry_key(index))
    try:
        entry = _decode_entry(view[_LINK.size :])
    except msgspec.DecodeError as error:
        raise RecordDamaged(f"entry {index} cannot be decoded: {error}", key=entry_key(index)) from error
    if entry.index != index:
        raise RecordDamaged(f"entry {index} is missing, {entry.index} in its place", key=entry_key(index))
    return entry


def record_crc(record: bytes) -> int:
    """The checksum that the record behind this one names."""
    crc: int = _CRC.unpack_from(record)[0]
    return crc


def encode_head(head: Head) -> bytes:
    """The value of a head."""
    return _seal(_HEAD.pack(*head))


def decode_head(value: bytes) -> Head:
    """The head that `encode_head` wrote. Raises RecordDamaged."""
    body = _unseal(value, KEY_HEAD, (_HEAD.size, _HEAD_OF_FORMAT_1.size))
    return Head(*(_HEAD if len(body) == _HEAD.size else _HEAD_OF_FORMAT_1).unpack(body))


def encode_counter(counter: int) -> bytes:
    """The value of the write counter."""
    return _seal(_COUNTER.pack(counter))


def decode_counter(value: bytes) -> int:
    """The write counter. Raises RecordDamaged."""
    counter: int = _COUNTER.unpack(_unseal(value, KEY_COUNTER, (_COUNTER.size,)))[0]
    return counter


def encode_identity(identity: NodeIdentity) -> bytes:
    """The value of the identity."""
    return _seal(_encode_entry((FORMAT, *msgspec.structs.astuple(identity))))


def decode_identity(value: bytes) -> NodeIdentity:
    """The identity. Raises RecordDamaged, or UnknownFormat."""
    body = _unseal(value, KEY_IDENTITY)
    try:
        version, *fields = _decode_identity(body) or [None]
        if version in _FORMATS_READ:
            return msgspec.convert(fields, NodeIdentity)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnknownFormat(f"its identity record has another shape than format {FORMAT}: {error}") from error
    raise UnknownFormat(f"it has format {version}, and this respraft knows format {FORMAT}")


def next_identity(known: NodeIdentity, node_id: int, cluster_id: str) -> NodeIdentity | None:
    """The identity of a further start on a directory; None: it belongs to somebody else.

    A node that is not told its id (0) or cluster ("") takes the directory's. A directory without them takes
    what the node is told.
    """
    if cluster_id not in ("", known.cluster_id) and known.cluster_id:
        return None
    known = msgspec.structs.replace(known, cluster_id=known.cluster_id or cluster_id)
    if known.node_id == known.replaces == 0:
        known = msgspec.structs.replace(known, node_id=node_id)
    elif node_id not in (0, known.node_id, known.replaces):
        return None
    return msgspec.structs.replace(known, start_counter=known.start_counter + 1)


def check_adoption(head: Head, node_id: int, cluster_id: str) -> None:
    """Assert that a directory may be given this id in this cluster."""
    assert node_id > 0 and cluster_id, f"{node_id} in {cluster_id!r} is no place in a cluster"
    assert head.last_index == 0, "who has a log keeps its id"


def next_head(head: Head, hard_state: HardState, entries: list[Entry]) -> Head:
    """The head after an append. Asserts what the core must keep to: a breach here is never written."""
    _assert_promises(head, hard_state)
    last_index, last_term = head.last_index, head.last_term
    if entries:
        expected = entries[0].index
        assert head.first_index <= expected <= last_index + 1, f"a gap: {expected} behind {last_index}"
        assert expected > head.commit, f"entry {expected} is committed and cannot be replaced"
        for entry in entries:
            assert entry.index == expected, f"a gap: {entry.index} where {expected} is next"
            expected += 1
        last_index, last_term = entries[-1].index, entries[-1].term
    assert last_term <= hard_state.term, f"an entry of term {last_term} in term {hard_state.term}"
    assert hard_state.commit <= last_index, f"commit index {hard_state.commit} is past {last_index}"
    return head._replace(
        last_index=last_index,
        last_term=last_term,
        term=hard_state.term,
        vote=hard_state.vote,
        commit=hard_state.commit,
    )


def cut_head(head: Head, base: SnapshotPoint) -> Head:
    """The head after everything up to `base` was cut off."""
    assert head.first_index <= base.index <= head.last_index, f"entry {base.index} is not in the log"
    assert base.index <= head.commit, f"entry {base.index} may yet be replaced, and cannot be cut off"
    return head._replace(first_index=base.index + 1, base_term=base.term, base_time_ms=base.time_ms)


def installed_head(
    head: Head, hard_state: HardState, point: SnapshotPoint, state_number: int, *, keep_tail: bool
) -> Head:
    """The head after an install. Asserts what the core must keep to, as `next_head` does."""
    _assert_promises(head, hard_state)
    assert state_number > head.state_number, f"state {state_number} is no newer than {head.state_number}"
    assert point.index >= head.first_index, f"a state as of {point.index}, from before {head.first_index}"
    assert point.term <= hard_state.term, f"a state of term {point.term} in term {hard_state.term}"
    last_index, last_term = (head.last_index, head.last_term) if keep_tail else (point.index, point.term)
    assert point.index <= hard_state.commit <= last_index, (
        f"commit index {hard_state.commit} in a log that reaches from {point.index} to {last_index}"
    )
    return Head(
        first_index=point.index + 1,
        last_index=last_index,
        last_term=last_term,
        term=hard_state.term,
        vote=hard_state.vote,
        commit=hard_state.commit,
        base_term=point.term,
        base_time_ms=point.time_ms,
        state_number=state_number,
    )


def _assert_promises(head: Head, hard_state: HardState) -> None:
    assert hard_state.term >= head.term, f"term goes back from {head.term} to {hard_state.term}"
    assert hard_state.term > head.term or head.vote in (0, hard_state.vote), "a vote was taken back"


def check_entries(head: Head, records: Iterable[bytes]) -> int:
    """Hold a whole log to its head, and return the checksum of the last record (0 in an empty log).

    Args:
        head: What must be there.
        records: The records from the first index on. May end early or go on behind the last one; what is
            missing is the caller's to find.

    Raises:
        RecordDamaged: A record is wrong, is missing, or does not follow the one before it.
    """
    first, index, term, crc = head.first_index, head.first_index, head.base_term, 0
    last = head.last_index
    for record in records:
        if index > last:
            break
        entry = decode_entry(record, index)
        link_crc, previous_crc = _LINK.unpack_from(record)
        if entry.term < term:
            raise RecordDamaged(f"terms fall from {term} to {entry.term} at {index}", key=entry_key(index))
        if previous_crc != crc and index > first:
            raise RecordDamaged(f"entry {index} does not follow {index - 1}", key=entry_key(index))
        term, crc = entry.term, link_crc
        index += 1
    if index <= last:
        raise RecordDamaged(f"entry {index} is missing; the log should reach to {last}", key=entry_key(index))
    _check_head(head, term)
    return crc


def _check_head(head: Head, last_term: Term) -> None:
    """The head against itself and the last entry found."""
    sound = head.first_index - 1 <= head.commit <= head.last_index
    if not sound or last_term != head.last_term or last_term > head.term:
        raise RecordDamaged(
            f"the last entry, {head.last_index} of term {last_term}, does not fit what is noted about it: "
            f"first entry {head.first_index}, last term {head.last_term}, current term {head.term}, commit "
            f"index {head.commit}",
            key=KEY_HEAD,
        )


def _seal(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _unseal(value: bytes, key: bytes, sizes: tuple[int, ...] = ()) -> bytes:
    body = value[: -_CRC.size]
    if len(value) < _CRC.size or _CRC.unpack_from(value, len(body))[0] != zlib.crc32(body):
        raise RecordDamaged(f"the checksum of record {key.decode('latin-1')[0]!r} is wrong", key=key)
    if sizes and len(body) not in sizes:
        raise RecordDamaged(f"record {key.decode('latin-1')[0]!r} has the wrong length", key=key)
    return body
