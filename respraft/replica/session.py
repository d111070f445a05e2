"""Sessions: what makes a batch apply exactly once, from any node, over any failover.

A node's life as an origin of batches is a session. Its number is the index of the log entry that opened it,
so no two sessions ever share one. The rules, decided on every node alike from the log alone:

* OPEN(node, nonce): with the node's current nonce it is a repeat and is skipped; any other nonce replaces
  the session, and what was numbered under the old one can never apply again.
* A batch applies only if its session is current and its sequence is the last one + 1.
* Only members have sessions: a configuration ends those of the nodes that it is without.

The table is part of the replicated state, and is written with the applied index. A leader keeps a second
one that runs ahead of it, up to the end of its log (`admission.py`).
"""

from collections.abc import Container
from typing import Self

import msgspec

from respraft.raft.message import Index, NodeId


class Session(msgspec.Struct, array_like=True, gc=False):
    """One node's current session."""

    number: Index
    nonce: int
    sequence: int  # The last that was applied (or appended, in a leader's table); 0 before the first.


class SessionTable:
    """The current session of every node that has opened one."""

    def __init__(self, sessions: dict[NodeId, Session] | None = None) -> None:
        self._by_node = sessions or {}
        self._by_number = {session.number: session for session in self._by_node.values()}

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the table that `encode` wrote."""
        return cls(_decode(data))

    def encode(self) -> bytes:
        """Return the table as it is written into the state; the same bytes on every node."""
        return msgspec.msgpack.encode(dict(sorted(self._by_node.items())))

    def copy(self) -> "SessionTable":
        """Return a table that can be changed without changing this one."""
        return SessionTable(
            {
                node_id: Session(session.number, session.nonce, session.sequence)
                for node_id, session in self._by_node.items()
            }
        )

    def of(self, node_id: NodeId) -> Session | None:
        """Return the node's current session, if it has one."""
        return self._by_node.get(node_id)

    def open(self, node_id: NodeId, nonce: int, index: Index) -> bool:
        """Take an OPEN at `index`; return False if it only repeats the current one."""
        current = self._by_node.get(node_id)
        if current is not None:
            if current.nonce == nonce:
                return False
            del self._by_number[current.number]
        session = Session(index, nonce, 0)
        self._by_node[node_id] = session
        self._by_number[index] = session
        return True

    def retain(self, members: Container[NodeId]) -> None:
        """A configuration was applied: who is no member any more has no session any more."""
        for node_id, session in list(self._by_node.items()):
            if node_id not in members:
                del self._by_node[node_id]
                del self._by_number[session.number]

    def advance(self, number: Index, sequence: int) -> bool:
        """Take a batch; return False, and change nothing, unless it is the next of a current session."""
        session = self._by_number.get(number)
        if session is None or sequence != session.sequence + 1:
            return False
        session.sequence = sequence
        return True

    def expected(self, number: Index) -> int:
        """Return the sequence that `advance` would take, or 0 if the session is not current."""
        session = self._by_number.get(number)
        return 0 if session is None else session.sequence + 1


_decode = msgspec.msgpack.Decoder(dict[NodeId, Session]).decode
