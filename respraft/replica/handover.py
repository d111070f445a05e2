"""Handing leadership over, as those who asked for it and the origins of batches see it.

While it is under way the leader appends nothing. Own batches wait where they are; an origin whose batches
came meanwhile is answered when it is over: another leader is sent everything anyway, and this one, if it
goes on, says which sequence it expects.

Whoever asked is answered once: with the new leader's id, or with a refusal if after an election timeout this
node still leads, or no new leader was heard of.
"""

from respraft.config import RaftConfig
from respraft.raft.message import NOBODY, Index, NodeId, Term
from respraft.raft.node import RaftNode
from respraft.raft.ready import Role
from respraft.replica.batch import Answer, Client, Refusal


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
        self._held: dict[NodeId, Index] = {}  # Origins that offered batches, and their sessions.

    def begin(self, core: RaftNode, to: NodeId, client: Client, now_ms: float) -> None:
        """Begin, or join what has begun. `client` is answered in a later turn.

        Raises:
            NotLeader: This node does not lead.
            TransferRefused: That cannot be; nothing has changed.
        """
        core.transfer_leadership(to)
        self._waiting.append((client, to))
        if core.transfer is not None and self._term != core.term:
            self.begun_total += 1
            self._term = core.term
            self._end_ms = now_ms + self._patience_ms

    def hold(self, origin: NodeId, session: Index) -> None:
        """Batches of that origin came while nothing is appended."""
        self._held[origin] = session

    def look(self, core: RaftNode, now_ms: float) -> list[Answer]:
        """See whether it has ended, once per turn, and answer whoever waits for that."""
        if not self._waiting and not self._term:
            return []
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
