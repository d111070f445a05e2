"""How long a leader waits for a peer to go over to a state that has arrived there.

That the peer has, it says to the core, and when it is asked for a later entry it says where its log ends. But
the word may be lost, or be about a state that the log has been cut behind meanwhile, or be meant for an
earlier term; and the peer may die before it has anything to say. As long as somebody waits here the peer is
sent no entries, so each of these has an end.
"""

from typing import Final

from respraft.raft.message import Index, NodeId
from respraft.raft.ready import RaftStatus

INSTALL_S: Final = 30.0
"""How long a peer may take to open a state that has arrived, before it is looked at again."""

UNSURE_S: Final = 1.0
"""The same once its link was renewed or there was an election: it may have died with what had arrived, or
have said that it is done to somebody else."""


class Installing:
    """One peer that has a state."""

    def __init__(self, peer: NodeId, index: Index, raft: RaftStatus, links: int, now_s: float) -> None:
        """Begin to wait.

        Args:
            peer: Who has it.
            index: Everything up to there is in the state.
            raft: What the core knows at the moment,
            links: and how many links to the peer have come up so far.
            now_s: Monotonic.
        """
        self._peer = peer
        self._index = index
        self._course = (raft.term, links)
        self._hints = self._hinted(raft)
        self._end_s = now_s + INSTALL_S

    def is_over(self, raft: RaftStatus, links: int, now_s: float) -> bool:
        """Whether the peer is to be looked at anew."""
        if self._course != (raft.term, links):
            self._course = (raft.term, links)
            self._end_s = min(self._end_s, now_s + UNSURE_S)
        if self._hints != (hints := self._hinted(raft)):  # Nothing else changes its log meanwhile.
            return True
        return not hints or now_s >= self._end_s

    def _hinted(self, raft: RaftStatus) -> list[Index]:
        """Where the peer's log ends, if it still waits for what it has been brought; else nothing."""
        return [
            each.hint_index
            for each in raft.peers
            if each.id == self._peer and each.snapshot and each.match_index < self._index
        ]
