"""A batch: the commands of one turn, and the log payload that carries its writes.

Payload (little-endian), the unit of Raft's log for everything that the replica appends:

    BATCH  kind u8 = 1 | session u64 | sequence u64 | msgpack [commands, databases]
    OPEN   kind u8 = 2 | node id u64 | nonce u64
    TIME   kind u8 = 3

The header is fixed so that a leader can admit a forwarded batch without decoding its commands. A payload of
an unknown kind stops the node (`UnknownPayload`): a newer version wrote it, and skipping it would make
this node's state differ from the others'.

The reads of a batch are not in the payload. They are kept here, with the position at which they
run, and so are the clients that wait.
"""

import enum
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from respraft.replica.machine import AttachedRead, Command, Reply

KIND_BATCH: Final = 1
KIND_OPEN: Final = 2
KIND_TIME: Final = 3

_HEADER: Final = struct.Struct("<BQQ")
_encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(tuple[list[list[bytes]], list[int]]).decode

EMPTY_BODY: Final = _encode_body(((), ()))
"""The body of a batch without commands: keeps a sequence when its commands must not surface any more."""
TIME_PAYLOAD: Final = _HEADER.pack(KIND_TIME, 0, 0)
"""Carries nothing but the entry's stamp, so that due keys are removed on a quiet cluster."""

Client: TypeAlias = Any
"""Whoever waits for replies; opaque here, handed back with them."""


class UnknownPayload(Exception):
    """A committed payload cannot be understood. Stop the node: skipping it would fork the state."""


class Refusal(enum.Enum):
    """Why a group gets an error instead of its replies, and so whether its writes may have happened."""

    NO_LEADER = enum.auto()
    """Never handed over: not executed."""
    BUSY = enum.auto()
    """Past the limit on what is in flight: not executed."""
    NO_CLUSTER = enum.auto()
    """This node is not a member of a cluster: not executed."""
    LOADING = enum.auto()
    """This node still replays its log: not executed."""
    REPLY_LOST = enum.auto()
    """Applied through a snapshot, which carries no replies: executed, once."""
    OUTCOME_UNKNOWN = enum.auto()
    """Handed over and not seen applied in time: executed once or not at all."""
    READ_UNCONFIRMED = enum.auto()
    """No quorum confirmed the leader in time; only reads, and none was executed."""
    NOT_HANDED_OVER = enum.auto()
    """Leadership went to nobody, or not to whom it was to go, in time."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one client's group of commands has been waiting for: its replies in order, or a refusal."""

    client: Client
    count: int  # Commands in the group; len(replies) unless refused.
    replies: Sequence[Reply]  # Empty when refused.
    refusal: Refusal | None = None
    unrun: Sequence[Command] = ()  # Reads behind those that were answered, to be asked for again.


class Batch:
    """The commands that this node's clients gave in one turn, in the order in which they came.

    `groups` says whose replies are whose: a client has one group in a batch, and the counts add up to
    `len(commands) + len(reads)`.
    """

    __slots__ = (
        "_body",
        "bytes_total",
        "commands",
        "created_ms",
        "databases",
        "groups",
        "handed_ms",
        "reads",
        "repeatable",
        "sequence",
    )

    def __init__(self, created_ms: float) -> None:
        self.commands: list[Command] = []
        self.databases: list[int] = []  # Empty while every command is in database 0.
        self.reads: list[AttachedRead] = []
        self.groups: list[tuple[Client, int]] = []
        self.repeatable: dict[int, object] = {}  # Groups without writes, by place: what was given with them.
        self.bytes_total = 0
        self.created_ms = created_ms
        self.handed_ms = 0.0  # When a sequence was given; 0 before.
        self.sequence = 0
        self._body: bytes | None = None

    def add(
        self,
        client: Client,
        writes: list[Command],
        reads: Sequence[tuple[int, Command]],
        database: int,
        size: int,
        repeatable: object = None,
    ) -> None:
        """Append one client's group. A read's position counts the writes of its own group before it."""
        if repeatable is not None:
            self.repeatable[len(self.groups)] = repeatable
        base = len(self.commands)
        if database and not self.databases:
            self.databases = [0] * base
        if database or self.databases:
            self.databases += [database] * len(writes)
        self.commands += writes
        for position, command in reads:
            self.reads.append((base + position, database, command))
        self.groups.append((client, len(writes) + len(reads)))
        self.bytes_total += size

    def withdraw(self, client: Client, size: int) -> bool:
        """Take a client's group out again, as if it had never come; tell whether it was here.

        Only of a batch that was not handed over, and whose groups hold one write each and no read: what else
        a group holds is not known any more.
        """
        if self.reads or len(self.groups) != len(self.commands):
            return False
        for place, (each, _) in enumerate(self.groups):
            if each is client:
                del self.groups[place], self.commands[place]
                if self.databases:
                    del self.databases[place]
                self._body = None
                self.bytes_total -= size
                return True
        return False

    def payload(self, session: int) -> bytes:
        """Return the log payload under `session` and this batch's sequence. The body is encoded once."""
        if self._body is None:
            self._body = _encode_body((self.commands, self.databases))
        return _HEADER.pack(KIND_BATCH, session, self.sequence) + self._body

    def answers(self, replies: Sequence[Reply]) -> list[Answer]:
        """Share `replies`, in merged order, out to the clients. A refused batch has none left."""
        groups = self.groups
        if len(groups) == 1:
            return [Answer(groups[0][0], len(replies), replies)]
        out = []
        start = 0
        for client, count in groups:
            out.append(Answer(client, count, replies[start : start + count]))
            start += count
        return out

    def refuse(self, reason: Refusal) -> list[Answer]:
        """Answer everybody with `reason`, and let nothing of the batch run later than that.

        What is sent again under this sequence is empty from here on. The commands may still run if a
        payload that was sent before is in a log already.
        """
        out = [Answer(client, count, (), reason) for client, count in self.groups]
        self.groups = []
        self.reads = []
        self.commands = []
        self._body = EMPTY_BODY
        return out

    def lose_replies(self) -> tuple[list[Answer], list[object]]:
        """It was applied where nobody could see its replies: tell those who wrote.

        Returns:
            Their answers, and what was given with groups that only read: those can be read anew.
        """
        out = [
            Answer(client, count, (), Refusal.REPLY_LOST)
            for place, (client, count) in enumerate(self.groups)
            if place not in self.repeatable
        ]
        repeatable = list(self.repeatable.values()) if self.groups else []
        self.groups = []
        return out, repeatable


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


def parse_commands(payload: bytes) -> tuple[list[Command], list[int]]:
    """Return the commands of a BATCH payload and their databases (empty: all 0).

    Raises:
        UnknownPayload: The body is not what this version writes.
    """
    try:
        return _decode_body(memoryview(payload)[_HEADER.size :])
    except msgspec.DecodeError as error:
        raise UnknownPayload(f"a batch cannot be decoded: {error}") from error
