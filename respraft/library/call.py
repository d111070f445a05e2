"""A call on its way through a node, and what becomes of it: an answer, or the error that says what happened.

`AsyncNode` makes one per command. The node knows it as a `NodeClient` and answers it once, on the event loop;
the caller's patience may end before that, and then the error must still be true.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from respraft.library.errors import (
    Busy,
    ChangeRefused,
    CommandError,
    Error,
    Loading,
    NodeFailed,
    NoLeader,
    NotMember,
    OutcomeUnknown,
    ReadTimeout,
    ReplyLost,
)
from respraft.library.user_machine import UserMachine
from respraft.node.node import Node
from respraft.raft.message import NOBODY
from respraft.replica.batch import Answer, Refusal
from respraft.resp.errors import ReplyError


class Call:
    """One command on its way: a client of the node (`NodeClient`) with one group in its life."""

    __slots__ = ("future", "node", "size")

    def __init__(self, node: Node[UserMachine], future: asyncio.Future[Any], size: int) -> None:
        self.node = node
        self.future = future
        self.size = size

    def submit(self, args: list[bytes], *, write: bool, stale: bool) -> None:
        """Give the command to the node. Raises NotExecuted."""
        node = self.node
        if write:
            refusal = node.submit(self, [args], [], 0, self.size)
        elif stale:
            refusal = node.submit_stale_reads(self, [args], 0, self.size)
        else:
            refusal = node.submit_reads(self, [args], 0, self.size)
        if refusal is not None:
            raise error_of(refusal, node)

    def expire_write(self) -> None:
        """The caller waits no longer. Only a write that could be taken back is known not to happen."""
        if not self.future.done() and self.node.replica.withdraw(self, self.size):
            self.fail(NoLeader("no leader took the command in time; it was not executed"))
        else:
            self.fail(OutcomeUnknown("no answer in time; the command is executed once, or never"))

    def expire_read(self) -> None:
        """The caller waits no longer."""
        no_leader = self.node.replica.leader == NOBODY
        self.fail(NoLeader("no leader is known") if no_leader else ReadTimeout("no answer in time"))

    def answer(self, answer: Answer) -> None:
        """Take the node's answer."""
        if self.future.done():
            return  # The caller was told already, or is gone.
        if answer.refusal is not None:
            self.future.set_exception(error_of(answer.refusal, self.node))
            return
        reply = answer.replies[0] if answer.replies else None
        if isinstance(reply, ReplyError):
            self.future.set_exception(CommandError(reply.text, reply.code))
        else:
            self.future.set_result(reply)

    def abort(self) -> None:
        """`answer` raised."""
        self.fail(OutcomeUnknown("the answer was lost"))

    def fail(self, error: Error) -> None:
        """Give up on an answer."""
        if not self.future.done():
            self.future.set_exception(error)


def error_of(refusal: Refusal, node: Node[UserMachine] | None) -> Error:
    """Return the error that tells a caller of this refusal."""
    if refusal is Refusal.NO_CLUSTER:
        refused = node.replica.status().refused if node is not None else None
        return NotMember(refused or "this node belongs to no cluster")
    kind, text = _ERRORS[refusal]
    return kind(text)


def node_failed(error: BaseException) -> NodeFailed:
    """Return the error of all calls on a node that has stopped by itself; its cause is what stopped it."""
    failed = NodeFailed(f"the node has stopped by itself: {error}")
    failed.__cause__ = error
    return failed


_ERRORS: Final[Mapping[Refusal, tuple[type[Error], str]]] = {
    Refusal.NO_LEADER: (NoLeader, "no leader is known; nothing was executed"),
    Refusal.BUSY: (Busy, "too much is in flight on this node; nothing was executed"),
    Refusal.LOADING: (Loading, "this node still replays its log; nothing was executed"),
    Refusal.REPLY_LOST: (ReplyLost, "executed, once; its reply is lost, so read to see what it did"),
    Refusal.OUTCOME_UNKNOWN: (OutcomeUnknown, "no answer in time; the command is executed once, or never"),
    Refusal.NOT_HANDED_OVER: (ChangeRefused, "leadership was not handed over in time"),
    Refusal.READ_UNCONFIRMED: (ReadTimeout, "no quorum confirmed the leader in time"),
}
