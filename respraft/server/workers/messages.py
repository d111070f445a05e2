"""What a worker and its node's process say to each other, in the frames of `peer/codec.py`.

The two are always of one version: a worker that finds another one in `Welcome` ends.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from respraft.config import ClientConfig
from respraft.replica.machine import Command

FRAME_BYTES_MAX: Final = (1 << 32) - 1
"""What a frame's header can say. Memory grows with the bytes that came."""

REPLY_BYTES_MAX: Final = 1 << 30
"""Replies of one group that are carried to a worker. More of them, a gigabyte, are an error reply each."""

BACKLOG: Final = 1024
"""Connections that may wait to be accepted, at each worker."""

IDS_PER_LIFE: Final = 1_000_000_000
"""Client ids: those of the n-th worker that was started begin behind n times this, so that none is ever
given twice and each says whose it is."""


class Welcome(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """To a worker, first of all: what it serves, and within which limits."""

    version: str
    life: int  # How many workers were started up to this one.
    client: ClientConfig  # Its share of what is a limit on all clients of the node.


class Group(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One connection's group of commands, as `Server.submit` takes it."""

    connection: int
    protocol: int
    size: int
    database: int
    stale: bool
    writes: list[Command]
    reads: list[Command]
    places: list[int]  # The number of writes before each read; empty where there are no writes.


class Groups(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """From a worker: what the connections have brought in one pass of its loop."""

    groups: list[Group]


class Answers(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """To a worker: what became of groups, and of LOCAL commands."""

    answers: list[tuple[int, int, bytes, Sequence[Command]]]
    """Connection, number of replies, their bytes, and reads to be asked for anew (`Answer.unrun`)."""


class ClientPicture(msgspec.Struct, array_like=True, frozen=True):
    """What LOCAL commands see of a connection; the fields of `ClientView`."""

    id: int
    name: bytes
    protocol: int
    database: int
    lib_name: bytes
    lib_version: bytes
    stale_reads: bool
    no_evict: bool
    no_touch: bool
    address: str
    local_address: str
    created_ms: float
    last_active_ms: float
    last_command: bytes
    commands_total: int
    query_bytes: int
    output_bytes: int


class Local(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """From a worker: a LOCAL command that needs the node. Its reply is an `Answers` of one."""

    client: ClientPicture
    args: Command


class Figures(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """From a worker, about once a second and before each `Report`: its totals so far."""

    clients: int  # Connected now.
    connections: int
    rejected: int
    commands: int
    local_commands: int
    input_bytes: int
    output_bytes: int


class Ask(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """To a worker: send a `Report` under this number."""

    number: int


class Report(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """From a worker: its connections as they are."""

    number: int
    clients: list[ClientPicture]


class Kill(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """To a worker: close a connection at once, or, `politely`, when the replies so far are written."""

    connection: int
    politely: bool


class Stop(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """To a worker: accept nobody more, wait for what is in flight, and end."""

    seconds: float


Message: TypeAlias = Welcome | Groups | Answers | Local | Figures | Ask | Report | Kill | Stop
encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Message).decode
"""Of a frame's body; raises msgspec.MsgspecError."""
