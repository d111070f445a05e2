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
"""

from typing import Final

__version__: Final = "0.1.0"
