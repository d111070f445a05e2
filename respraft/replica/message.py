"""What replicas say to each other besides Raft: batches on their way to the leader."""

import msgspec

from respraft.raft.message import NodeId, Term


class ForwardRequest(msgspec.Struct, tag=32, array_like=True, frozen=True):
    """Origin to leader: append these payloads, in order.

    With no payloads it is a question: which sequence of `session` do you expect? The answer is a
    `ForwardRefusal`, which costs less than sending everything again on a mere suspicion of loss.
    """

    sender: NodeId
    term: Term
    session: int  # Session number; 0 when the payload opens one.
    payloads: list[bytes]


class ForwardRefusal(msgspec.Struct, tag=33, array_like=True, frozen=True):
    """Leader to origin: `offered` was not the next sequence of `session`; `expected` is.

    `offered` 0 answers a question. `expected` 0: the session is not known here, or this node does not lead.
    """

    sender: NodeId
    term: Term
    session: int
    offered: int
    expected: int
