"""This node as an origin of batches: gather, number, hand over, send again, give up.

The life of a batch:

    open ──> waiting ──(a leader and a session: numbered)──> outstanding ──(applied)──> answered
                │                                                │
                └─ park_ms: CLUSTERDOWN,                         └─ request_timeout_ms: TIMEOUT,
                   never executed                                   and empty from then on

* A sequence is given only when a batch is handed to a leader. What is refused before that was not executed.
* A numbered batch stays outstanding until it is applied, under its sequence, so no gap stays open. After
  its time-out its clients know that the outcome is unknown, and what is sent again is empty.
* At most `OUTSTANDING_MAX` batches are outstanding while more commands gather: under load the next batch
  grows instead of the number of entries (group commit, `gathering.py`). A full batch does not wait.
* Everything behind the last applied sequence is sent again to a new (leader, term), when the link comes back,
  and after an own entry was skipped; a refusal says where to begin. When nothing moves, the
  leader is asked which sequence it expects.

Deliveries go out through a callable, so that the same code serves a leader's own batches and a
follower's forwarded ones.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from respraft.config import ClientConfig, RaftConfig
from respraft.raft.message import NOBODY, Index, NodeId, Term
from respraft.replica.batch import Answer, Batch, Client, Refusal
from respraft.replica.gathering import Gathering
from respraft.replica.machine import Command
from respraft.replica.payload import open_payload
from respraft.replica.session import Session

OUTSTANDING_MAX: Final = 1
"""Batches handed over and not applied, while others gather. A batch costs every node far more than a
command in it: with two, 50 clients took 20 % more processor time per command on all nodes together. A
client waits for one batch at a time, so more of them would not serve it sooner."""

PARKED_SLICE_MS: Final = 50.0
"""While there is no leader a new batch is begun this often, so that parking times stay exact."""

Deliver = Callable[[int, list[bytes]], None]
"""Hand payloads of a session (0: none yet) to the current target, in order."""


class Origin:
    """The batches of this node's clients, and its session. No I/O; the replica drives it each turn."""

    def __init__(
        self, node_id: NodeId, nonce: int, *, client: ClientConfig, raft: RaftConfig, deliver: Deliver
    ) -> None:
        """Start with no session.

        Args:
            node_id: This node.
            nonce: Names this process's life among all lives of the node; never 0.
            client: Time-outs and limits on what is in flight.
            raft: Limits on a batch; the election time-out is the measure for "nothing moves".
            deliver: Called with payloads for the target that `flush` was given.
        """
        self.refused_total = 0  # Batches that were never handed over.
        self.lost_total = 0  # Batches whose outcome is unknown to their clients.
        self._node_id = node_id
        self._nonce = nonce
        self._client = client
        self._raft = raft
        self._deliver = deliver
        self._session: Index = 0
        self._target: tuple[NodeId, Term] = (NOBODY, 0)
        self._open = Batch(0.0)
        self._waiting: deque[Batch] = deque()
        self._outstanding: deque[Batch] = deque()
        self._applied = 0  # Last own sequence that was applied in the current session.
        self._sent = 0  # Last own sequence that was sent to the current target.
        self._moved_ms = 0.0  # When something was last sent or applied.
        self._resent_after = -1  # `_applied` when a skipped own entry last caused a resend.
        self._gap_at = 0  # The sequence from which a refused gap was last sent again.
        self._gathering = Gathering()
        self.holding = False  # The open batch could go, and waits a little for more commands.
        self._bytes = 0  # Of open, waiting and outstanding batches.

    @property
    def session(self) -> Index:
        """This node's session number; 0 until its OPEN has been applied."""
        return self._session

    @property
    def outstanding(self) -> int:
        """Batches handed over and not yet applied."""
        return len(self._outstanding)

    @property
    def in_flight_bytes(self) -> int:
        """Request bytes of everything that waits for a reply here."""
        return self._bytes

    @property
    def gathers(self) -> bool:
        """Whether there are commands which all wait for a batch under way, or for others to join them.

        The next turn can do nothing about them unless something else comes, be it that the hold ends.
        """
        gathered = len(self._open.groups)
        if not gathered or self._waiting:
            return False
        return len(self._outstanding) >= OUTSTANDING_MAX or self._gathering.lacks(gathered)

    @property
    def can_go(self) -> bool:
        """Whether there are commands that wait for nothing but a turn and, maybe, a leader."""
        gathered = len(self._open.groups)
        return gathered > 0 and not self.gathers

    @property
    def congested(self) -> bool:
        """Whether client sockets should not be read for now."""
        return self._bytes > self._client.in_flight_bytes_max

    def submit(
        self,
        client: Client,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        database: int,
        size: int,
        now_ms: float,
        repeatable: object = None,
    ) -> Refusal | None:
        """Take one client's group into the open batch.

        Args:
            client: Who gets the replies. It has nothing else in flight.
            writes: Its writes, in order. May be empty: a read that must run at a log entry.
            reads: (number of `writes` before it, command).
            database: Where all of them run.
            size: Bytes of the requests.
            now_ms: Monotonic.
            repeatable: Given back by `installed` instead of an answer, if the group must be read anew.

        Returns:
            None, or the refusal: nothing of the group was or will be executed.
        """
        if self._bytes + size > self._client.in_flight_bytes_hard_max and self._bytes:
            return Refusal.BUSY
        batch = self._open
        if not batch.groups:
            batch.created_ms = now_ms
        elif (
            len(batch.commands) + len(writes) > self._raft.batch_commands_max
            or batch.bytes_total + size > self._raft.batch_bytes_max
        ):
            self._waiting.append(batch)
            batch = self._open = Batch(now_ms)
        batch.add(client, writes, reads, database, size, repeatable)
        self._bytes += size
        return None

    def withdraw(self, client: Client, size: int) -> bool:
        """Forget a group of one write that was not handed over yet; see `Batch.withdraw`.

        Args:
            client: Who gave it. It gets no answer.
            size: Of the request, as it was submitted.

        Returns:
            True: it was not and will not be executed. False: that is not known.
        """
        for batch in (self._open, *self._waiting):
            if batch.withdraw(client, size):
                self._bytes -= size
                if not batch.groups and batch is not self._open:
                    self._waiting.remove(batch)
                return True
        return False

    def flush(self, leader: NodeId, term: Term, now_ms: float) -> None:
        """Hand over what may go to `leader`, through `deliver`. Called once per turn."""
        self.holding = False
        if leader == NOBODY:
            self._park(now_ms)
            return
        if (leader, term) != self._target:
            self._target = (leader, term)
            self._sent = self._applied
            self._gap_at = 0
            self._moved_ms = 0.0  # An unopened session asks the new leader at once.
        if not self._session:
            self._open_session(now_ms)
            return
        payloads = [self._payload(batch) for batch in self._unsent()]
        for batch in self._number(now_ms):
            payloads.append(self._payload(batch))
        if payloads:
            self._sent = self._applied + len(self._outstanding)
            self._moved_ms = now_ms
            for portion in self._portions(payloads):
                self._deliver(self._session, portion)

    def link_restored(self, peer: NodeId) -> None:
        """Send everything again if the link to the target has just come back."""
        if peer == self._target[0]:
            self._sent = self._applied
            self._moved_ms = 0.0

    def refused(self, sender: NodeId, term: Term, session: Index, offered: int, expected: int) -> None:
        """The target expects another sequence: go on from there in the next `flush`.

        Only the current target's word counts. A refusal of something *before* `expected` is of a repeat, and
        what came behind it is on its way or in the log: to send that again would cause the next refusal, and
        so on for ever. Of a gap many refusals may come, one for each message behind it; the first is enough.
        `expected` 0 says that the target does not lead, or that our log will tell us of a new session.
        """
        if (sender, term) != self._target or session != self._session or not expected:
            return
        if offered and (offered < expected or expected == self._gap_at):
            return
        self._gap_at = expected
        # The leader is never behind what has been applied here, but the answer may be older.
        self._sent = max(self._applied, min(expected - 1, self._applied + len(self._outstanding)))

    def opened(self, number: Index, nonce: int) -> None:
        """An OPEN of this node's id was applied.

        With another nonce a session of another life has replaced ours: what was numbered under the old one
        can never apply, so it is numbered anew once a session of ours is open again.
        """
        self._session = number if nonce == self._nonce else 0
        self._applied = self._sent = self._gap_at = 0
        self._resent_after = -1
        self._moved_ms = 0.0
        while self._outstanding:
            batch = self._outstanding.pop()
            batch.sequence = 0
            if batch.groups:  # Otherwise it timed out, and its clients have been told.
                self._waiting.appendleft(batch)

    def applied(self, sequence: int, now_ms: float) -> Batch:
        """The batch `sequence` of the current session applied: return it, with its clients and reads."""
        batch = self._outstanding.popleft()
        assert batch.sequence == sequence, "batches of a session apply in the order of their sequences"
        self._applied = sequence
        self._sent = max(self._sent, sequence)
        self._moved_ms = now_ms
        self._bytes -= batch.bytes_total
        gathered = len(self._open.groups)
        self._gathering.answered(len(batch.groups), gathered, now_ms)
        self.holding = gathered > 0 and self._gathering.lacks(gathered)
        return batch

    def installed(self, session: Session | None, now_ms: float) -> tuple[list[Answer], list[object]]:
        """Another node's state has taken the place of ours, and with it entries that nobody here saw applied.

        What the state says of our session says what became of our batches: those up to its sequence were
        applied, and their replies are lost; those behind it were not, and are sent again. If the session was
        replaced meanwhile, nobody can tell, and none of them may ever be sent again.

        Args:
            session: This node's in that state.
            now_ms: Monotonic.

        Returns:
            Answers, and what was given with groups that only read and can be read anew.
        """
        same = session is not None and session.nonce == self._nonce
        if same and session is not None and session.number == self._session:
            return self._jump_to(session.sequence, now_ms)
        answers: list[Answer] = []
        while self._outstanding:
            answers += self._refuse(self._outstanding.popleft(), Refusal.OUTCOME_UNKNOWN)
        self._session = session.number if same and session is not None else 0
        self._applied = self._sent = session.sequence if same and session is not None else 0
        self._gap_at, self._resent_after, self._moved_ms = 0, -1, 0.0
        return answers, []

    def _jump_to(self, sequence: int, now_ms: float) -> tuple[list[Answer], list[object]]:
        assert sequence >= self._applied, "a state that is installed lies ahead of the one before"
        answers: list[Answer] = []
        repeatable: list[object] = []
        while self._outstanding and self._outstanding[0].sequence <= sequence:
            batch = self._outstanding.popleft()
            self._bytes -= batch.bytes_total
            lost, again = batch.lose_replies()
            answers += lost
            repeatable += again
        self._applied = self._sent = sequence  # And all that lies behind it is sent again.
        self._gap_at, self._moved_ms = 0, now_ms
        return answers, repeatable

    def skipped(self) -> None:
        """An entry of the current session was skipped: send again, once until there is progress."""
        if self._resent_after != self._applied:
            self._resent_after = self._applied
            self._sent = self._applied

    def tick(self, leader: NodeId, term: Term, now_ms: float) -> list[Answer]:
        """Give up on what has waited too long, and ask the leader when nothing moves.

        Another leader than at the last `flush`, or none, is asked nothing: `flush` begins anew there.
        """
        if (
            self._session
            and leader != NOBODY
            and self._target == (leader, term)
            and self._sent > self._applied
            and now_ms - self._moved_ms >= self._raft.election_timeout_ms
        ):
            self._moved_ms = now_ms
            self._gap_at = 0
            self._deliver(self._session, [])
        return [*self._give_up_outstanding(now_ms), *self._give_up_waiting(now_ms)]

    def adopt(self, node_id: NodeId) -> None:
        """This node has been given an id."""
        assert not self._session, "who has a session has an id"
        self._node_id = node_id

    def refuse_outstanding(self, reason: Refusal) -> list[Answer]:
        """Answer what was handed over and not applied. The batches stay, empty, under their sequences."""
        return [
            answer for batch in self._outstanding if batch.groups for answer in self._refuse(batch, reason)
        ]

    def refuse_waiting(self, reason: Refusal) -> list[Answer]:
        """Answer everything that was never handed over; none of it was executed."""
        answers: list[Answer] = []
        self._close_open(0.0)
        while self._waiting:
            answers += self._refuse(self._waiting.popleft(), reason)
        return answers

    def _park(self, now_ms: float) -> None:
        self._target = (NOBODY, 0)
        if self._open.groups and now_ms - self._open.created_ms >= PARKED_SLICE_MS:
            self._close_open(now_ms)

    def _close_open(self, now_ms: float) -> None:
        if self._open.groups:
            self._waiting.append(self._open)
            self._open = Batch(now_ms)

    def _open_session(self, now_ms: float) -> None:
        if now_ms - self._moved_ms >= self._raft.election_timeout_ms or not self._moved_ms:
            self._moved_ms = now_ms
            self._deliver(0, [open_payload(self._node_id, self._nonce)])

    def _payload(self, batch: Batch) -> bytes:
        return batch.payload(self._session, self._raft.pack_bytes_min)

    def _unsent(self) -> Iterator[Batch]:
        first = self._sent - self._applied
        return (self._outstanding[place] for place in range(first, len(self._outstanding)))

    def _portions(self, payloads: list[bytes]) -> Iterator[list[bytes]]:
        """Cut what is to be sent into messages of about a full batch: links bound a message's size."""
        portion: list[bytes] = []
        size = 0
        for payload in payloads:
            if portion and size + len(payload) > self._raft.batch_bytes_max:
                yield portion
                portion, size = [], 0
            portion.append(payload)
            size += len(payload)
        yield portion

    def _number(self, now_ms: float) -> Iterator[Batch]:
        """Give sequences to waiting batches, as far as the window allows; a full batch always goes."""
        while self._waiting or (self._open.groups and len(self._outstanding) < OUTSTANDING_MAX):
            if not self._waiting:
                if self._gathering.holds(len(self._open.groups), now_ms):
                    self.holding = True
                    return
                self._close_open(now_ms)
            batch = self._waiting.popleft()
            self._outstanding.append(batch)
            batch.sequence = self._applied + len(self._outstanding)
            batch.handed_ms = now_ms
            yield batch

    def _give_up_outstanding(self, now_ms: float) -> Iterator[Answer]:
        limit = now_ms - self._client.request_timeout_ms
        for batch in self._outstanding:
            if batch.handed_ms > limit:
                return
            if batch.groups:
                yield from self._refuse(batch, Refusal.OUTCOME_UNKNOWN)

    def _give_up_waiting(self, now_ms: float) -> Iterator[Answer]:
        """Refuse what was never handed over: after park_ms, or request_timeout_ms if a leader is known."""
        client = self._client
        patience = client.park_ms if self._target[0] == NOBODY else client.request_timeout_ms
        limit = now_ms - patience
        if self._open.groups and self._open.created_ms <= limit:
            self._close_open(now_ms)
        while self._waiting and self._waiting[0].created_ms <= limit:
            yield from self._refuse(self._waiting.popleft(), Refusal.NO_LEADER)

    def _refuse(self, batch: Batch, reason: Refusal) -> list[Answer]:
        if batch.sequence:
            self.lost_total += 1
        else:
            self.refused_total += 1
        self._bytes -= batch.bytes_total
        batch.bytes_total = 0
        return batch.refuse(reason)
