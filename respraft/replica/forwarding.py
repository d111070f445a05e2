"""The way of batches to the log of whoever leads, and what comes back if they are not taken there.

An origin hands its payloads over here: into this node's own log, or to the leader over a link. Those of other
nodes are taken where this one leads. What cannot be appended is answered with the sequence that is expected,
and its origin goes on from there (`admission.py`, `origin.py`).
"""

from collections.abc import Callable

from respraft.raft.message import NOBODY, Index, NodeId
from respraft.raft.node import RaftNode
from respraft.replica.leading import Leading
from respraft.replica.message import ForwardRefusal, ForwardRequest
from respraft.replica.origin import Origin
from respraft.replica.status import ReplicaCounters, ReplicaMessage


class Forwarding:
    """Batches between an origin and a leader, on either side. No I/O."""

    def __init__(
        self,
        *,
        core: RaftNode,
        origin: Origin,
        leading: Leading,
        send: Callable[[NodeId, ReplicaMessage], None],
        counters: ReplicaCounters,
    ) -> None:
        """Begin with nothing on its way.

        Args:
            core: Knows the leader, and this node's id.
            origin: This node's own batches; told what of them is refused.
            leading: Appends where this node leads.
            send: Takes a message for another node.
            counters: Increased here.
        """
        self._core = core
        self._origin = origin
        self._leading = leading
        self._send = send
        self._counters = counters

    def deliver(self, session: Index, payloads: list[bytes]) -> None:
        """Hand over this node's own payloads; see `origin.Deliver`."""
        core = self._core
        if core.transfer is not None:
            return  # A question to ourselves; whoever leads in the end will be asked.
        if self._leading.active:
            answer = self._leading.append(payloads, session, core.node_id)
            if answer is not None:
                self._origin.refused(core.node_id, core.term, session, *answer)
            return
        if core.leader == NOBODY:
            return  # Lost in this tick; the next `flush` will tell the origin.
        self._counters.forwards_sent += len(payloads)
        self._send(core.leader, ForwardRequest(core.node_id, core.term, session, payloads))

    def on_request(self, request: ForwardRequest) -> None:
        """Append what another node has handed over, or say why not."""
        core = self._core
        self._counters.forwards_received += len(request.payloads)
        self._leading.refresh()
        if core.transfer is not None:
            self._leading.handover.hold(request.sender, request.session)
            return
        if not self._leading.active:
            answer: tuple[int, int] | None = (0, 0)
        else:
            answer = self._leading.append(request.payloads, request.session, request.sender)
            # Its clients wait for what was appended now, or for what was appended before and sent again.
            core.expect_commit(request.sender, core.last_index)
        if answer is not None:
            refusal = ForwardRefusal(core.node_id, core.term, request.session, *answer)
            self._send(request.sender, refusal)

    def on_refusal(self, refusal: ForwardRefusal) -> None:
        """The leader did not append what this node had handed over."""
        self._counters.forwards_refused += 1
        self._origin.refused(refusal.sender, refusal.term, refusal.session, refusal.offered, refusal.expected)

    def release(self) -> None:
        """Tell origins that a handover has held up where to go on, if it came to nothing."""
        for origin, session in self._leading.released():
            self.on_request(ForwardRequest(origin, self._core.term, session, []))
