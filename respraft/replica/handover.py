"""Handing leadership over, as those who asked for it and the origins of batches see it.

While it is under way the leader appends nothing. Own batches wait where they are; an origin whose batches
came meanwhile is answered when it is over: another leader is sent everything anyway, and this one, if it
goes on, says which sequence it expects.

Any node may be asked: one that follows passes it on, and sees for itself who leads (`ask`).

Whoever asked is answered once: with the new leader's id, or with a refusal if after an election timeout this
node still leads, or no new leader was heard of.
"""

import contextlib

import msgspec

from respraft.config import RaftConfig
from respraft.raft.message import NOBODY, Index, NodeId, Term
from respraft.raft.node import RaftNode
from respraft.raft.ready import NotLeader, Role, TransferRefused
from respraft.replica.batch import Answer, Client, Refusal
from respraft.replica.message import TransferRequest


class _PassedOn(msgspec.Struct, frozen=True):
    client: Client
    to: NodeId
    leader: NodeId  # Who was asked.
    end_ms: float


class Handover:
    """The handovers of one node's leadership. No I/O; the replica drives it each turn."""

    def __init__(self, raft: RaftConfig) -> None:
        """Begin with none under way; the election time-out bounds them."""
        self.begun_total = 0
        self.done_total = 0  # Those that ended with another leader.
        self._patience_ms = 2 * raft.election_timeout_ms  # For both halves: catching up, and the election.
        self._term: Term = 0  # In which one was begun that has not ended; 0: none.
        self._end_ms = 0.0
        self._waiting: list[tuple[Client, NodeId]] = []  # Who asked, for whom.
        self._passed_on: list[_PassedOn] = []  # Who asked while another node led.
        self._held: dict[NodeId, Index] = {}  # Origins that offered batches, and their sessions.

    def begin(self, core: RaftNode, to: NodeId, client: Client, now_ms: float) -> None:
        """Begin, or join what has begun. `client` is answered in a later turn.

        Raises:
            NotLeader: This node does not lead.
            TransferRefused: That cannot be; nothing has changed.
        """
        self._begin(core, to, now_ms)
        self._waiting.append((client, to))

    def _begin(self, core: RaftNode, to: NodeId, now_ms: float) -> None:
        core.transfer_leadership(to)
        if core.transfer is not None and self._term != core.term:
            self.begun_total += 1
            self._term = core.term
            self._end_ms = now_ms + self._patience_ms

    def ask(
        self, core: RaftNode, to: NodeId, client: Client, now_ms: float
    ) -> list[tuple[NodeId, TransferRequest]]:
        """Begin, or return what to send to the leader that this node follows. `client` is answered later.

        Raises:
            NotLeader: None is known.
            TransferRefused: That cannot be; nothing has changed.
        """
        if core.role is Role.LEADER:
            self.begin(core, to, client, now_ms)
            return []
        core.check_transfer(to)
        self._passed_on.append(_PassedOn(client, to, core.leader, now_ms + self._patience_ms))
        return [(core.leader, TransferRequest(core.node_id, core.term, to))]

    def on_request(self, core: RaftNode, request: TransferRequest, now_ms: float) -> None:
        """A node passes on what its client asks. One that was late is about a leadership that has ended."""
        if request.term == core.term:
            with contextlib.suppress(NotLeader, TransferRefused):
                self._begin(core, request.to, now_ms)

    def hold(self, origin: NodeId, session: Index) -> None:
        """Batches of that origin came while nothing is appended."""
        self._held[origin] = session

    def look(self, core: RaftNode, now_ms: float) -> list[Answer]:
        """See whether it has ended, once per turn, and answer whoever waits for that."""
        answers = self._seen(core, now_ms) if self._passed_on else []
        if self._waiting or self._term:
            answers += self._ended(core, now_ms)
        return answers

    def _seen(self, core: RaftNode, now_ms: float) -> list[Answer]:
        """Answer those who see the leader that they wanted, or have waited for long enough."""
        answers, waiting = [], []
        for each in self._passed_on:
            leader = core.leader
            wanted = leader != each.leader if each.to == NOBODY else leader == each.to
            done = wanted and leader != NOBODY
            if done:
                answers.append(Answer(each.client, 1, (leader,)))
            elif now_ms >= each.end_ms:
                answers.append(Answer(each.client, 1, (), Refusal.NOT_HANDED_OVER))
            else:
                waiting.append(each)
        self._passed_on = waiting
        return answers

    def _ended(self, core: RaftNode, now_ms: float) -> list[Answer]:
        if core.role is Role.LEADER:
            if core.transfer is not None:
                return []
            leader = core.node_id  # It went on leading, or was asked to hand over to itself.
        elif core.leader == NOBODY and now_ms < self._end_ms:
            return []
        else:
            leader = core.leader
        self._term = 0
        self.done_total += leader not in (NOBODY, core.node_id)
        waiting, self._waiting = self._waiting, []
        return [_answer(client, to, leader) for client, to in waiting]

    def release(self, core: RaftNode) -> list[tuple[NodeId, Index]]:
        """Return the origins that have to be told where to go on, since this node still leads."""
        if not self._held or core.transfer is not None:
            return []
        held, self._held = self._held, {}
        return list(held.items()) if core.role is Role.LEADER else []


def _answer(client: Client, to: NodeId, leader: NodeId) -> Answer:
    done = leader == to or (to == NOBODY and leader != NOBODY)
    if done:
        return Answer(client, 1, (leader,))
    return Answer(client, 1, (), Refusal.NOT_HANDED_OVER)
