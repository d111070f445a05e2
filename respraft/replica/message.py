"""What replicas say to each other besides Raft: batches and operators' wishes on their way to the leader."""

import msgspec

from respraft.raft.message import Index, NodeId, Term
from respraft.replica.changes import Action


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


class AdminRequest(msgspec.Struct, tag=34, array_like=True, frozen=True):
    """Any node to the leader: change the membership. Who doesn't lead is silent; it is sent again."""

    sender: NodeId
    term: Term
    token: tuple[int, int]  # Start counter of the asking process, number of the request in it.
    action: Action


class TransferRequest(msgspec.Struct, tag=36, array_like=True, frozen=True):
    """Any node to the leader of `term`: hand leadership over to `to`, or to the best voter (NOBODY).

    There is no answer, and it is not sent again: who asked sees who leads.
    """

    sender: NodeId
    term: Term
    to: NodeId


class AdminResponse(msgspec.Struct, tag=35, array_like=True, frozen=True):
    """Leader to the asking node: accepted at `index`, or refused with nothing changed (`code` is set).

    An accepted action is complete once a configuration that fulfils it is applied, at or behind `index`.
    """

    sender: NodeId
    term: Term
    token: tuple[int, int]
    index: Index  # 0 when refused.
    node_id: NodeId  # Of a member that is being added, else 0.
    code: str  # Name of the refusal's class; "" when accepted.
    text: str
