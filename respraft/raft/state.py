"""What one node knows, and the few changes of it that every part of the protocol makes.

`node.py` is what a driver calls. `election.py`, `follower.py` and `leader.py` are the protocol: functions
that take this state and a message, change the one and queue answers to the other. This module is what
they share: role and term, timers in ticks, the two queues of messages, the write in flight.

Two queues, because a promise must not leave before the disk keeps it (Raft paper, figure 2: "updated on
stable storage before responding to RPCs"):

* `send()`: rests on nothing that a crash could take back. Refusals, heartbeats and their echoes, pre-votes,
  and a leader's appends: its own copy counts only once it is durable, so it may be written while they
  travel (Raft dissertation, section 10.2.1).
* `send_durable()`: votes, and requests for votes. The latter say how long this node's log is; a node that
  lost its unwritten tail in a crash would otherwise collect votes for a log that it no longer has.

Accepted appends are a third kind: only the highest one is answered, once the log is durable up to there.
"""

import random
from dataclasses import dataclass
from math import ceil
from typing import Final

from respraft.config import TICK_MS, RaftConfig
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration, ConfigurationHistory
from respraft.raft.lease import Lease
from respraft.raft.log import RaftLog
from respraft.raft.message import (
    KIND_CONFIGURATION,
    NOBODY,
    AppendResponse,
    Entry,
    Index,
    InstallSnapshot,
    Message,
    NodeId,
    ReadIndexResponse,
    Term,
)
from respraft.raft.progress import Progress
from respraft.raft.read_index import ReadIndex
from respraft.raft.ready import HardState, LogWrite, Role

HASTY_TICKS: Final = 5
"""50 ms: how long a survivor waits at most before its first round when its leader is gone, and at least
between two rounds. Long against a round, which takes a round trip and a log write for each of its halves."""


@dataclass(slots=True)
class Transfer:
    """A handover that a leader has begun (`transfer.py`)."""

    target: NodeId
    end_tick: int  # When it is given up.
    ask_tick: int = 0  # When the target may be told to stand, again or for the first time.


class RaftState:
    """The state of one node. Public throughout `raft/`; drivers go by `RaftNode`."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        config: RaftConfig,
        log: RaftLog,
        hard_state: HardState,
        configuration: Configuration | None,
        clock: LogClock,
        rng: random.Random,
    ) -> None:
        assert node_id != NOBODY or not (log.last_index or hard_state.term), "who takes part has an id"
        assert hard_state.term >= log.last_term, "the log holds entries of a term this node never reached"
        self.node_id = node_id
        self.config = config
        self.log = log
        self.clock = clock
        self.rng = rng
        self.lease = Lease(config)  # Only a leader's holds.
        self.configurations = ConfigurationHistory(log.applied_index, configuration)
        for entry in log.iterate(log.applied_index + 1):
            self._note_configuration(entry)
        self.configurations.commit_to(log.commit_index)
        self.retired = False  # Other members have said that this node was removed.

        self.role = Role.FOLLOWER
        self.term: Term = hard_state.term
        self.vote: NodeId = hard_state.vote
        clock.enter_term(self.term)
        self.leader: NodeId = NOBODY

        # Time, in ticks since the start.
        self.ticks = 0
        self.leader_heard_tick = 0  # Means something while `leader` is set.
        self.patience_ticks = 0  # How long this node waits for a leader, or for an election to end,
        self.election_tick = 0  # and when that is over.
        self.bound_until_ms = 0.0  # On the monotonic clock: what was promised to a leader with a lease.
        # An earlier process may have promised; what, is not known, and counts from the first tick on.
        self.bound_by_past = config.read_mode == "lease" and self.term > 0
        self.hasty_until_tick = 0  # Until then rounds are short: the last leader is known to be gone.
        self.heartbeat_tick = 0  # When a leader's next heartbeat is due.
        self.election_ticks = config.election_ticks
        self.heartbeat_ticks = config.heartbeat_ticks
        self.reset_election_timer()

        self.ballots: dict[NodeId, bool] = {}  # Answers in the election under way, own one included.
        self.ask_tick = 0  # When those who have not answered are asked again.
        self.stands_for_transfer = False  # A candidate whom the leader has asked to stand.
        self.peers: dict[NodeId, Progress] = {}  # Sorted by id; empty unless leading.
        self.reads = ReadIndex()
        self.transfer: Transfer | None = None  # Under way; only on a leader.
        self.resigning = False  # A leader that was removed has begun to hand over.
        self.lease_void_term: Term = 0  # A handover was begun in it.
        self.notices_at_once = True  # False: the driver says by `expect_commit` who waits for a commit.

        # What leaves.
        self.messages: list[tuple[NodeId, Message]] = []
        self.durable_messages: list[tuple[NodeId, Message]] = []
        self.accepted: tuple[NodeId, Index] | None = None  # Whom to tell what, once it is durable.
        self.reads_confirmed: list[tuple[object, Index]] = []
        self.reads_refused: list[object] = []
        self.snapshots: list[NodeId] = []  # Who has just turned out to need one.
        self.installing: InstallSnapshot | None = None  # Has replaced the log, and has to be written.

        # What is on disk, and what is on its way there.
        self.durable_term = self.term
        self.durable_vote = self.vote
        self.write_in_flight: LogWrite | None = None
        self.write_number = 0

    # Reading

    @property
    def configuration(self) -> Configuration | None:
        """The newest *appended* configuration; None before the first one has arrived."""
        return self.configurations.current

    @property
    def commit_index(self) -> Index:
        """Everything up to here is committed, as far as this node knows."""
        return self.log.commit_index

    @property
    def last_index(self) -> Index:
        """The end of the log, durable or not."""
        return self.log.last_index

    def may_campaign(self) -> bool:
        """Whether this node may stand for election: a voter, or one whose removal may still be undone.

        A node whose newest configuration is without it, but not known to be committed, may hold the longest
        log of those whose votes an election needs; if it kept quiet there might never be one (Raft
        dissertation, section 4.2.2 and figure 4.6). Its own vote doesn't count then.
        """
        if self.retired:
            return False
        return any(known.is_voter(self.node_id) for known in self.configurations.known())

    def has_live_leader(self) -> bool:
        """Whether this node has itself heard a leader within the base election timeout.

        While it has, it helps nobody to replace that leader: a node that was cut off or removed must not
        disrupt (Raft dissertation, section 4.2.3). A leader is alive to itself; without a majority it
        steps down by itself.
        """
        if self.leader == NOBODY:
            return False
        return self.role is Role.LEADER or self.ticks - self.leader_heard_tick < self.election_ticks

    def is_bound(self) -> bool:
        """Whether this node has promised its leader to elect nobody yet (`lease.py`)."""
        return self.bound_by_past or self.clock.monotonic_ms < self.bound_until_ms

    def bind(self, promise_ms: int) -> None:
        """Promise to elect nobody for so long from now on."""
        self.bound_until_ms = max(self.bound_until_ms, self.clock.monotonic_ms + promise_ms)

    # Role and term

    def become_follower(self, term: Term, leader: NodeId) -> None:
        """Follow `leader` in `term`, or wait in it for one to appear (NOBODY)."""
        assert term >= self.term, "terms never go back"
        was = self.role
        if term > self.term:
            self.enter_term(term, NOBODY)
        if was is not Role.FOLLOWER or leader != NOBODY:
            self.reset_election_timer()
        self.role = Role.FOLLOWER
        self.leader = leader
        self.ballots.clear()
        if was is Role.LEADER:
            self.peers.clear()
            self.transfer = None
            self.lease.end()
            self.resigning = False
            self.clock.step_down()
            for asker, token in self.reads.give_up():
                self.answer_read(asker, token, 0)

    def enter_term(self, term: Term, vote: NodeId) -> None:
        """Move to a newer term. What waits for the disk was promised in the old one and is void."""
        assert term > self.term, "a term is entered once"
        self.term = term
        self.vote = vote
        self.clock.enter_term(term)
        self.durable_messages.clear()
        self.accepted = None

    def reset_election_timer(self) -> None:
        """Draw a new patience from [n, 2n), so that two nodes seldom lose theirs together.

        While a leader is known to be gone only the next round is waited for, and that not for long.
        """
        self.patience_ticks = self.election_ticks + self.rng.randrange(self.election_ticks)
        self.election_tick = self.ticks + self.patience_ticks
        if self.ticks < self.hasty_until_tick:
            self.election_tick = self.ticks + HASTY_TICKS + self.rng.randrange(HASTY_TICKS)

    def wait_hastily(self) -> None:
        """Draw the wait before a round of one's own, so that two survivors seldom begin together.

        It begins when this node is free to stand: all were bound by the same heartbeat.
        """
        bound_ms = max(0.0, self.bound_until_ms - self.clock.monotonic_ms)
        self.election_tick = self.ticks + ceil(bound_ms / TICK_MS) + self.rng.randrange(HASTY_TICKS + 1)

    # The log

    def append(self, entry: Entry) -> None:
        """Append an entry that this node has built: as a leader, or to found a cluster."""
        self.log.append(entry)
        self._note_configuration(entry)

    def append_own(self, kind: int, payload: bytes) -> Index:
        """Append an entry as the leader, stamped with the log's time. Returns its index."""
        log = self.log
        time_ms = max(log.last_time_ms, self.clock.now_ms())
        index = log.last_index + 1
        self.append(Entry(index, self.term, time_ms, kind, payload))
        return index

    def splice(self, entries: list[Entry]) -> None:
        """Take a leader's entries; what conflicts with them is cut off, its configuration included."""
        cut, known = self.log.splice(entries)
        if cut:
            self.configurations.truncate(cut)
        for entry in entries[known:] if known else entries:
            self._note_configuration(entry)

    def restore(self, install: InstallSnapshot) -> None:
        """Put a received state in place of the log, its configurations and its time.

        A campaign ends: it rests on a log that is gone, and nobody may lead before the machine has gone over
        to the new state. (A later one can't succeed before that: it needs a write, and this one comes first.)
        """
        point = install.point
        self.log.restore(point)
        self.configurations = ConfigurationHistory(point.index, Configuration.decode(install.configuration))
        self.clock.follow_entry(point.time_ms)
        self.installing = install
        self.accepted = None  # What was accepted is in the state, or was not the leader's.
        if self.role is not Role.FOLLOWER:
            self.become_follower(self.term, NOBODY)

    def compact_to(self, index: Index) -> None:
        """Cut off the log's entries up to `index`; the state holds them durably."""
        self.log.compact_to(index)

    def commit_to(self, index: Index) -> bool:
        """Everything up to `index` is committed. Returns whether that is news."""
        if not self.log.commit_to(index):
            return False
        self.configurations.commit_to(index)
        return True

    def _note_configuration(self, entry: Entry) -> None:
        if entry.kind == KIND_CONFIGURATION:
            self.configurations.append(entry.index, Configuration.decode(entry.payload))
            self.lease.end()  # Those who count now have promised nothing yet.

    # Messages

    def send(self, to: NodeId, message: Message) -> None:
        """Queue a message that rests on nothing that isn't on disk."""
        self.messages.append((to, message))

    def send_durable(self, to: NodeId, message: Message) -> None:
        """Queue a message that must wait for the term, the vote and the log as they are now."""
        self.durable_messages.append((to, message))

    def accept(self, match_index: Index) -> None:
        """The log agrees with the leader's up to there. It is told so when all of it is on disk.

        What waits already is replaced: the higher answer says all that the lower one would.
        """
        assert self.leader != NOBODY, "only a leader's append can be accepted"
        if self.accepted is not None:
            match_index = max(match_index, self.accepted[1])
        self.accepted = (self.leader, match_index)

    def answer_read(self, asker: NodeId, token: object, index: Index) -> None:
        """End a reader's wait; index 0 refuses."""
        if asker != NOBODY:
            assert isinstance(token, tuple), "another node's token came in a message"
            self.send(asker, ReadIndexResponse(self.node_id, self.term, token, index))
        elif index:
            self.reads_confirmed.append((token, index))
        else:
            self.reads_refused.append(token)

    # Persisting

    def begin_write(self) -> LogWrite | None:
        """What has to go to disk now, if anything has. None is in flight.

        The commit index goes along but is no reason to write: a restarted node learns it again.
        """
        assert self.write_in_flight is None, "one write at a time"
        if self.installing is not None:
            return self._begin_install(self.installing)
        log = self.log
        hard_state_changed = self.term != self.durable_term or self.vote != self.durable_vote
        cut = log.first_index != log.durable_first_index
        if log.stable_index == log.last_index and not hard_state_changed and not cut:
            return None
        self.write_number += 1
        self.write_in_flight = LogWrite(
            self.write_number,
            HardState(self.term, self.vote, log.commit_index),
            log.take_unstable(),
            self.durable_messages,
            log.first_index if cut else 0,
        )
        self.durable_messages = []
        if self.accepted is not None:
            self._answer_append(self.write_in_flight.messages)
        return self.write_in_flight

    def _begin_install(self, install: InstallSnapshot) -> LogWrite:
        """The write that names a received state. Entries behind its point have to wait for the next one.

        So has everything that rests on them: only acceptances up to the point go along.
        """
        self.installing = None
        base = self.log.take_base()
        self.write_number += 1
        hard_state = HardState(self.term, self.vote, base.index)
        self.write_in_flight = LogWrite(self.write_number, hard_state, [], [], snapshot=install)
        if self.accepted is not None and self.accepted[1] <= base.index:
            self._answer_append(self.write_in_flight.messages)
        return self.write_in_flight

    def end_write(self, number: int) -> None:
        """Write `number` is durable."""
        write = self.write_in_flight
        assert write is not None and write.number == number, f"write {number} is not in flight"
        self.write_in_flight = None
        self.durable_term = write.hard_state.term
        self.durable_vote = write.hard_state.vote
        self.log.write_done()

    def release_durable(self) -> None:
        """Move to the outbox what need not wait any more. Called behind `begin_write()`."""
        log = self.log
        if self.durable_term != self.term:
            # Not even an acceptance of what is on disk may leave: after a crash that forgot this term, this
            # node would let the leader of an older one replace what it has just accepted.
            return
        if self.accepted is not None and self.accepted[1] <= log.stable_index:
            self._answer_append(self.messages)
        if self.durable_messages and self.durable_vote == self.vote and log.stable_index == log.last_index:
            self.messages += self.durable_messages
            self.durable_messages = []

    def _answer_append(self, outbox: list[tuple[NodeId, Message]]) -> None:
        assert self.accepted is not None, "nothing was accepted"
        leader, match_index = self.accepted
        self.accepted = None
        outbox.append((leader, AppendResponse(self.node_id, self.term, match_index, 0, 0, 0)))
