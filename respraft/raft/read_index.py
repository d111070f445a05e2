"""Reads that take no log entry: the leader proves that it still leads, once for all that wait.

A leader may have been replaced without knowing it. So it notes its commit index, sends a heartbeat
*round*, and once a majority has echoed that round (or a later one) it knows: when the round was sent nobody
else had committed anything beyond that index (Raft dissertation, section 6.4). The reads may run where
that index has been applied.

* A read joins only a round that is sent after it came. Rounds are sent in `take_ready()`, so all reads
  of one turn share the next one.
* One round is under way for reads at a time; who comes meanwhile waits for the next, which starts when that
  one is confirmed. Each periodic heartbeat is a round, too, so what was lost is repeated.
* No round counts for reads before the leader has committed an entry of its own term: only then does its
  commit index include everything that its predecessors acknowledged.

Readers on other nodes ask with `ReadIndexRequest`, and that is an echo, too: it says that its sender had not
left the leader's term when it asked, which was after those reads had come. So where leader and asker are a
majority, as in a cluster of three, no round is needed: until it asked, nobody else can have been elected, and
what the leader has committed when it answers is all that was acknowledged by then. Elsewhere they wait in the
same queue. This module keeps the queue; `leader.py` sends the rounds and counts the echoes.
"""

from collections import deque
from typing import TypeAlias

from respraft.raft.message import Index, NodeId

Reader: TypeAlias = tuple[NodeId, object]
"""Who asked (NOBODY: this node itself) and the token that the answer carries."""


class ReadIndex:
    """The readers of one leader, from asking to proof. Empty on every other node."""

    def __init__(self) -> None:
        self.round = 0
        """The last round that was sent. Never starts again, so no echo is taken for another's."""
        self._waiting: list[Reader] = []
        self._under_way: deque[tuple[int, Index, list[Reader]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + sum(len(readers) for _, _, readers in self._under_way)

    @property
    def wants_round(self) -> bool:
        """Whether readers wait and no round is under way that they would have to wait for."""
        return bool(self._waiting) and not self._under_way

    @property
    def under_way(self) -> bool:
        """Whether readers wait for echoes."""
        return bool(self._under_way)

    def add(self, asker: NodeId, token: object) -> None:
        """A read has come. It waits for a round that has not been sent yet."""
        self._waiting.append((asker, token))

    def take_waiting(self) -> list[Reader]:
        """No round is needed for those who wait for one to begin: they are the caller's to answer."""
        readers, self._waiting = self._waiting, []
        return readers

    def begin_round(self, commit_index: Index | None) -> int:
        """A round is being sent; return its number.

        With a commit index all who wait join it. None: no entry of this term is committed yet, so the round
        is a heartbeat and nothing more.
        """
        self.round += 1
        if self._waiting and commit_index is not None:
            self._under_way.append((self.round, commit_index, self._waiting))
            self._waiting = []
        return self.round

    def confirm(self, acked_round: int) -> list[tuple[Reader, Index]]:
        """A majority has echoed `acked_round`: return whose wait is over, and the index they may read at."""
        confirmed: list[tuple[Reader, Index]] = []
        while self._under_way and self._under_way[0][0] <= acked_round:
            _, index, readers = self._under_way.popleft()
            confirmed += [(reader, index) for reader in readers]
        return confirmed

    def give_up(self) -> list[Reader]:
        """Leadership is lost: return everybody who waited, in the order in which they came."""
        readers = [reader for _, _, group in self._under_way for reader in group] + self._waiting
        self._under_way.clear()
        self._waiting = []
        return readers
