"""respraft: a consensus server that speaks the Redis protocol.

A write is acknowledged when a majority of nodes has it on disk, and a read is never stale unless the
client asks for that. Any Redis client connects to any node and needs to know nothing about Raft.

The packages, from the ground up (`ARCHITECTURE.md` has the picture, a test keeps the arrows pointing down):

    raft      the consensus core: no I/O, no clock, no randomness of its own
    resp      RESP2 and RESP3: bytes to commands, replies to bytes
    storage   the log and the keyspace on disk
    peer      frames and links between nodes
    commands  what Redis commands do to the keyspace
    replica   one replica: batches, sessions, read barriers, the order of persist, send, apply and reply
    node      a replica with its driver, its storage and the network of its peers
    server    the process: event loop, clients, HTTP, metrics
    library   what this module offers, for machines of your own

To use it without Redis, write a `Machine` and give it to a `Node` (or an `AsyncNode`) with a `Configuration`;
README has two examples. The names below are imported when they are first used, so that `import respraft`
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from respraft.config import ConfigError, RaftConfig, StorageConfig
    from respraft.library.async_node import AsyncNode
    from respraft.library.blocking import Node
    from respraft.library.configuration import Configuration, Entry, Member, Status
    from respraft.library.errors import (
        Busy,
        ChangeRefused,
        CommandError,
        Error,
        Loading,
        NodeFailed,
        NoLeader,
        NoSuchEntry,
        NotExecuted,
        NotLeader,
        NotMember,
        OutcomeUnknown,
        ReadTimeout,
        ReplyLost,
        SnapshotFailed,
        Stopped,
    )
    from respraft.library.machine import Context, Machine
    from respraft.library.own_command import command
    from respraft.storage.interface import StartRefused, StorageFailed

__version__: Final = "0.1.0"

__all__ = (
    "AsyncNode",
    "Busy",
    "ChangeRefused",
    "CommandError",
    "ConfigError",
    "Configuration",
    "Context",
    "Entry",
    "Error",
    "Loading",
    "Machine",
    "Member",
    "NoLeader",
    "NoSuchEntry",
    "Node",
    "NodeFailed",
    "NotExecuted",
    "NotLeader",
    "NotMember",
    "OutcomeUnknown",
    "RaftConfig",
    "ReadTimeout",
    "ReplyLost",
    "SnapshotFailed",
    "StartRefused",
    "Status",
    "Stopped",
    "StorageConfig",
    "StorageFailed",
    "__version__",
    "command",
)

_HOMES: Final = {
    "respraft.config": ("ConfigError", "RaftConfig", "StorageConfig"),
    "respraft.library.async_node": ("AsyncNode",),
    "respraft.library.blocking": ("Node",),
    "respraft.library.configuration": ("Configuration", "Entry", "Member", "Status"),
    "respraft.library.machine": ("Context", "Machine"),
    "respraft.library.own_command": ("command",),
    "respraft.storage.interface": ("StartRefused", "StorageFailed"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` at its first use; the errors are those without a home of their own."""
    if name not in __all__:
        raise AttributeError(f"module 'respraft' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF.get(name, "respraft.library.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
