"""Read barriers: when may reads that need no log entry be answered from the local state?

A read is linearizable if the node that leads *after the read arrived* says how far the log was committed,
and the local state has been applied that far. On the leader the core proves leadership with one heartbeat
round; a follower asks the leader, which does the same unless the asking proves it already
(`raft/read_index.py`).

    gathering ──(asked: a number is given)──> asked ──(index confirmed)──> waiting for apply ──> run

* A read joins only a request that is sent after it came: whatever arrives while one is under way gathers
  for the next. So at most one is under way, and all reads of a busy node share it.
* Requests are numbered, and the number is in the token together with the process's start counter. An answer
  to a request that was repeated since, or that an earlier process sent, matches nothing.
* A *stale* read, which its client has asked for (READONLY), runs at once on what is applied here, if the
  newest barrier that was passed had been asked no longer ago than `max_stale_ms`. So the state holds all that
  had been acknowledged by then, whatever the network has done since, and also if this node was stopped.
  Otherwise it joins the next request like any other. While such reads come, a barrier is asked on their
  behalf whenever half of that time has passed.
* At a new (leader, term), and when no answer comes, everything that is asked is asked again under a new
  number.
"""

import math
from collections import deque
from collections.abc import Iterator

import msgspec

from respraft.config import ClientConfig, RaftConfig
from respraft.raft.message import NOBODY, Index, NodeId, Term
from respraft.replica.batch import Answer, Client, Refusal
from respraft.replica.gathering import Gathering
from respraft.replica.machine import Command, DatabaseCommand


class ReadGroup(msgspec.Struct, frozen=True):
    """One client's reads, in order."""

    client: Client
    database: int
    commands: list[Command]
    size: int  # Bytes of the requests.
    arrived_ms: float

    def database_commands(self) -> list[DatabaseCommand]:
        """Return the commands as a machine reads them."""
        return [(self.database, command) for command in self.commands]

    def refuse(self, reason: Refusal) -> Answer:
        """Return the refusal of the whole group."""
        return Answer(self.client, len(self.commands), (), reason)


class ReadBarrier:
    """The reads of this node's clients on their way to an index. No I/O; the replica drives it."""

    def __init__(self, *, client: ClientConfig, raft: RaftConfig) -> None:
        """Start empty.

        Args:
            client: How long reads may wait, with and without a leader.
            raft: A request without an answer is repeated after its election time-out.
        """
        self._client = client
        self._raft = raft
        self._gathering: list[ReadGroup] = []
        self._asked: list[ReadGroup] = []
        self._stale: list[ReadGroup] = []  # Of this turn.
        self._under_way = False  # A request is; for `_asked`, or to be fresh for stale reads.
        self._fresh_ms = -math.inf  # What had been acknowledged by then is applied here.
        self._refresh = False  # Stale reads have come since, and half of their time has passed.
        self._number = 0  # Of the request under way, or of the last one.
        self._target: tuple[NodeId, Term] = (NOBODY, 0)
        self._asked_ms = 0.0
        self._pace = Gathering()
        self.holding = False  # A request could be sent, and waits a little for more reads.
        self._confirmed: deque[tuple[Index, float, list[ReadGroup]]] = deque()  # And when it was asked.

    @property
    def waiting(self) -> int:
        """Groups that have not been answered."""
        return len(self._gathering) + len(self._asked) + sum(len(groups) for *_, groups in self._confirmed)

    def submit(self, group: ReadGroup) -> None:
        """Let a client's reads join the next request."""
        self._gathering.append(group)

    def submit_stale(self, group: ReadGroup) -> None:
        """Let a client's reads run on what is applied, if that is fresh enough; see `take_stale`."""
        self._stale.append(group)

    def take_stale(self, now_ms: float) -> list[ReadGroup]:
        """Return those that may run on what is applied now. The others have joined the next request."""
        groups, self._stale = self._stale, []
        if not groups:
            return []
        age_ms = now_ms - self._fresh_ms
        self._refresh = age_ms > self._client.max_stale_ms / 2
        if age_ms <= self._client.max_stale_ms:
            return groups
        self._gathering += groups
        return []

    def ask(self, leader: NodeId, term: Term, now_ms: float) -> int | None:
        """Return the number of a request that must be sent now, if any. Called once per turn."""
        if (leader, term) != self._target:
            self._target = (leader, term)
            self._ask_again()
        elif self._under_way and now_ms - self._asked_ms >= self._raft.election_timeout_ms:
            self._ask_again()
        self.holding = False
        if leader == NOBODY or self._under_way or not (self._gathering or self._refresh):
            return None
        if self._gathering and self._pace.holds(len(self._gathering), now_ms):
            self.holding = True
            return None
        self._asked, self._gathering = self._gathering, []
        self._under_way, self._refresh = True, False
        self._number += 1
        self._asked_ms = now_ms
        return self._number

    def confirmed(self, number: int, index: Index, now_ms: float) -> float | None:
        """A quorum confirmed request `number`; its reads run once `index` is applied. 0: refused.

        A refusal is no news of a leader: the reads are asked again when there is one, or by the time-out.

        Returns:
            How long it took, in ms; None if that confirms nothing here.
        """
        if number != self._number or not self._under_way or not index:
            return None
        self._confirmed.append((index, self._asked_ms, self._asked))
        self._asked, self._under_way = [], False
        return now_ms - self._asked_ms

    def due(self, applied_index: Index, now_ms: float) -> list[ReadGroup]:
        """Return the groups whose index has been applied. They are the caller's to answer."""
        groups: list[ReadGroup] = []
        # Indexes are confirmed in rising order within a term, and a later term's are no lower.
        while self._confirmed and self._confirmed[0][0] <= applied_index:
            _, self._fresh_ms, passed = self._confirmed.popleft()
            groups += passed
        if groups:
            self._pace.answered(len(groups), len(self._gathering), now_ms)
        return groups

    def tick(self, now_ms: float) -> list[Answer]:
        """Give up on groups that have waited too long, wherever they are."""
        leaderless = self._target[0] == NOBODY
        client = self._client
        patience = client.park_ms if leaderless else client.request_timeout_ms
        reason = Refusal.NO_LEADER if leaderless else Refusal.READ_UNCONFIRMED
        limit = now_ms - patience
        late = [*self._split(self._gathering, limit), *self._split(self._asked, limit)]
        for *_, groups in self._confirmed:
            late += self._split(groups, now_ms - client.request_timeout_ms)
        return [group.refuse(reason) for group in late]

    def refuse_all(self, reason: Refusal) -> list[Answer]:
        """Answer everything that has not been confirmed with `reason`."""
        groups = [*self._asked, *self._gathering, *self._stale]
        self._asked, self._gathering, self._stale, self._under_way = [], [], [], False
        return [group.refuse(reason) for group in groups]

    def _ask_again(self) -> None:
        self._gathering = [*self._asked, *self._gathering]
        self._asked, self._under_way = [], False

    @staticmethod
    def _split(groups: list[ReadGroup], limit: float) -> Iterator[ReadGroup]:
        """Take the groups that arrived at or before `limit` out of the front of `groups`."""
        count = 0
        while count < len(groups) and groups[count].arrived_ms <= limit:
            count += 1
        late = groups[:count]
        del groups[:count]
        return iter(late)
