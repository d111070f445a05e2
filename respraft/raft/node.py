"""One node of a Raft group, without I/O: what goes in, and what has to be done about it.

In: `step(message)`, `tick()`, `propose(payload)`, `read_index(token)`, `persisted(number)`, `applied(index)`,
`peer_unreachable(peer)`, `peer_gone(peer)`, `campaign()`, `transfer_leadership(to)`,
`change_membership(members)`, `retire()`, `compact_to(index)`, `install_snapshot(...)`,
`snapshot_ended(peer)`, and the clock, which is observed from outside. Out: `take_ready()`, whose contract is
`ready.py`. Nothing else has an effect on the world, and nothing here blocks, reads a clock or draws
randomness of its own: the same calls give the same answers.

Not thread-safe; one owner calls everything. An assertion that fails is a bug in this package or a broken
contract, and the process must stop: whatever it would say next can't be trusted.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from respraft.raft import election, follower, leader, membership, transfer
from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import (
    KIND_CONFIGURATION,
    NOBODY,
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Index,
    InstallSnapshot,
    Message,
    NodeId,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import AlreadyStarted, NotLeader, PeerStatus, RaftStatus, Ready, Role
from respraft.raft.state import RaftState

COMMITTED_BYTES_MAX: Final = 1 << 20
"""Payload bytes in one `Ready.committed`. One larger entry still goes, alone."""


class RaftNode(RaftState):
    """What a driver calls. Readable besides: role, term, leader, configuration, commit_index, last_index.

    To start a node again, build it from the durable log and hard state, with a `RaftLog` that is told what
    the machine has applied, and with the configuration *as of that applied index* (None: none yet). Newer
    ones are found in the log.
    """

    # Inputs

    def tick(self) -> None:
        """One tick has passed. Give what has come from peers before this, not after."""
        self.ticks += 1
        self.clock.tick()
        if self.role is Role.LEADER:
            leader.tick(self)
        else:
            election.tick(self)

    def step(self, message: Message) -> None:
        """Take one message of a peer. The driver has checked that it is `message.sender`'s."""
        if message.term != self.term and not _is_hypothetical(message):
            if message.term < self.term:
                self._answer_older_term(message)
                return
            if not self._adopt_term(message):
                return
        _STEPS[type(message)](self, message)

    def propose(self, payload: bytes) -> Index:
        """Append an entry, on the leader. Returns its index; it counts once it comes back committed.

        It may be lost with the leadership, and another one committed at that index.

        Raises:
            NotLeader: Nothing was appended. Also while leadership is being handed over.
        """
        if not self.takes_proposals:
            raise NotLeader
        return leader.append(self, payload)

    @property
    def takes_proposals(self) -> bool:
        """Whether this node leads, and isn't just handing leadership over."""
        return self.role is Role.LEADER and self.transfer is None

    def read_index(self, token: object) -> None:
        """Ask from which index on a read that came just now may run; a `Ready` will hold the answer.

        Raises:
            NotLeader: Ask the leader, by `ReadIndexRequest`.
        """
        if self.role is not Role.LEADER:
            raise NotLeader
        self.reads.add(NOBODY, token)

    def persisted(self, number: int) -> None:
        """Write `number` is durable. Its messages may leave, save those of an older term than ours."""
        self.end_write(number)
        if self.role is Role.LEADER:
            leader.advance_commit(self)
        elif self.role is Role.CANDIDATE:
            election.own_vote_durable(self)

    def applied(self, index: Index) -> None:
        """The machine has applied everything up to `index`."""
        self.log.applied_to(index)

    def expect_commit(self, peer: NodeId, index: Index) -> None:
        """On the leader: clients of `peer` wait for `index`, so it is told of the commit without delay.

        A driver that calls this whenever it is so may set `notices_at_once` to False: everybody else then
        hears of a commit with the next entries, or by a notice within a tick.
        """
        leader.expect_commit(self, peer, index)

    def peer_unreachable(self, peer: NodeId) -> None:
        """The link to a peer has ended. Messages that were sent on it may be lost."""
        leader.peer_unreachable(self, peer)

    def install_snapshot(self, install: InstallSnapshot) -> None:
        """A whole state has arrived: take it, unless this log is as far or can get there by itself."""
        follower.install_snapshot(self, install)

    def snapshot_ended(self, peer: NodeId) -> None:
        """The transfer that `Ready.snapshots` asked for has ended, however. Nothing is assumed of it.

        One that failed is asked for again after the peer's next sign of life: who fails at once waits before
        it says so.
        """
        leader.snapshot_ended(self, peer)

    def peer_gone(self, peer: NodeId) -> None:
        """The process of `peer` has ended: both links were ended by its side, and a redial was refused.

        A follower of that leader stands within 50 ms instead of waiting for its timer. Should it live after
        all, behind a middlebox that does such things, those who still hear it refuse the votes.
        """
        election.peer_gone(self, peer)

    def needed_by_peers(self) -> list[Index]:
        """On the leader: up to where the peers that answer have the log; from there on they need it.

        Not those that get a snapshot: what they need is gone already.
        """
        return leader.needed_by_peers(self)

    def campaign(self, *, transfer: bool = False) -> None:
        """Try to become leader now. Does nothing on a leader, and on a node without a vote.

        With `transfer` the present leader has asked for it, so no voter protects that one.
        """
        election.campaign(self, transfer=transfer)

    def transfer_leadership(self, to: NodeId = NOBODY) -> None:
        """Hand leadership over to that voter, or to the best one (NOBODY); to this node: nothing to do.

        Until it ends nothing can be proposed. It ends with another leader of a newer term, or after an
        election timeout with this one going on; `transfer` says whether it is under way.

        Raises:
            NotLeader: Ask the leader.
            TransferRefused: That can't be; nothing has changed.
        """
        if self.role is not Role.LEADER:
            raise NotLeader
        if to != self.node_id:
            transfer.begin(self, to)

    def check_transfer(self, to: NodeId) -> None:
        """See whether it is of use to ask the leader that this node follows to hand over to `to`.

        Raises:
            NotLeader: None is known, or this node's log does not know the cluster yet.
            TransferRefused: That can't be.
        """
        if self.leader == NOBODY or self.configuration is None:
            raise NotLeader
        transfer.check(self, to)

    def bootstrap(self, configuration: Configuration) -> None:
        """Found a cluster: write its first configuration as entry 1, term 1, of this node's empty log.

        It is for the caller to make sure that only one node of the cluster ever does so. The entry's time
        is 0, since nobody has agreed on one yet. Call `campaign()` to go on without waiting for the timer.

        Raises:
            AlreadyStarted: The log isn't empty, or this node has been in an election.
        """
        if self.last_index or self.term:
            raise AlreadyStarted(f"term {self.term}, last index {self.last_index}")
        self.enter_term(1, NOBODY)
        self.append(Entry(1, 1, 0, KIND_CONFIGURATION, configuration.encode()))

    def change_membership(self, wanted: Iterable[Member]) -> Index | None:
        """Begin to change the members to exactly `wanted`, on the leader; see `membership.py`.

        The change is complete once a settled configuration at or behind the returned index is committed.
        None: there is nothing to change.

        Raises:
            NotLeader: Nothing was changed.
            ChangeRefused: Nothing was changed; the class and the text say why.
        """
        if self.role is not Role.LEADER:
            raise NotLeader
        return membership.change(self, wanted)

    def check_change(self, wanted: Iterable[Member]) -> None:
        """Raise what `change_membership` would, and change nothing."""
        if self.role is not Role.LEADER:
            raise NotLeader
        membership.check(self, wanted)

    def has_caught_up(self, member: NodeId) -> bool:
        """On the leader: whether that member keeps up with the log, so that it may be given a vote."""
        return membership.has_caught_up(self, member)

    def adopt(self, node_id: NodeId) -> None:
        """This node is given its id, before it has taken part in anything."""
        assert not self.last_index and not self.term, "who has taken part has an id"
        self.node_id = node_id

    def retire(self) -> None:
        """The other members say that this node was removed. It stands for election no more.

        For the driver to be sure of: an id that was removed is never a member's again.
        """
        self.retired = True
        if self.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
            self.become_follower(self.term, NOBODY)

    # Outputs

    def take_ready(self, *, write_allowed: bool) -> Ready:
        """Everything that is to be done now. Call it once at the end of each turn; see `ready.py`.

        Args:
            write_allowed: False keeps `Ready.write` None, while the disk is busy with another one's
                write. This node's own one in flight is known here and need not be named.
        """
        more = self.role is Role.LEADER and leader.prepare_output(self)
        write = self.begin_write() if write_allowed and self.write_in_flight is None else None
        self.release_durable()
        # What a leader says of commits counts once its term is on disk. A node that applied it and forgot
        # the term in a crash would meet an older leader that never had those entries.
        settled = self.durable_term == self.term
        committed = self.log.take_committed(COMMITTED_BYTES_MAX) if settled else []
        ready = Ready(
            self.messages,
            write,
            committed,
            self.reads_confirmed,
            self.reads_refused,
            self.snapshots,
            more or (settled and self.log.has_committed()),
        )
        self.messages = []
        self.reads_confirmed = []
        self.reads_refused = []
        self.snapshots = []
        return ready

    @property
    def due(self) -> bool:
        """Whether a write that has ended left something that only `take_ready()` hands out."""
        log = self.log
        return bool(
            self.messages
            or self.durable_messages
            or self.accepted
            or log.stable_index != log.last_index
            or log.has_committed()
        )

    def status(self) -> RaftStatus:
        """A snapshot of this node."""
        log = self.log
        peers = tuple(
            PeerStatus(
                peer_id,
                peer.match_index,
                peer.next_index,
                peer.probing,
                peer.snapshot,
                peer.hint_index,
                len(peer.inflight),
                self.ticks - peer.heard_tick,
            )
            for peer_id, peer in self.peers.items()
        )
        return RaftStatus(
            id=self.node_id,
            role=self.role,
            term=self.term,
            vote=self.vote,
            leader=self.leader,
            base=log.base,
            first_index=log.first_index,
            last_index=log.last_index,
            last_term=log.last_term,
            stable_index=log.stable_index,
            commit_index=log.commit_index,
            commit_term=log.term(log.commit_index),
            applied_index=log.applied_index,
            configuration=self.configuration,
            peers=peers,
            reads_waiting=len(self.reads),
            transfer_to=self.transfer.target if self.transfer is not None else NOBODY,
            clock_skew_ms=self.clock.skew_ms,
        )

    def check_invariants(self) -> None:
        """Assert what must hold between two calls. For tests: it looks at the whole cached log."""
        self.log.check_invariants()
        assert self.log.last_term <= self.term, "the log holds entries of a term not reached"
        assert self.durable_term <= self.term, "a term was written that was never entered"
        assert (self.role is Role.LEADER) == (self.leader == self.node_id)
        assert (self.role is Role.LEADER) == self.clock.leading
        if self.role in (Role.CANDIDATE, Role.LEADER):
            assert self.vote == self.node_id, "who stands votes for itself"
        if self.role is not Role.LEADER:
            assert not self.peers and not len(self.reads), "only a leader serves"
            assert self.transfer is None, "only a leader hands over"
            return
        assert self.durable_term == self.term, "a leader's term is on disk"
        for peer in self.peers.values():
            assert peer.match_index < peer.next_index <= self.last_index + 1
            assert peer.match_index <= self.last_index
            assert peer.inflight_bytes == sum(size for _, size in peer.inflight)
            assert not (peer.probing and peer.inflight), "a probe is no stream"
            assert peer.probing or not peer.snapshot, "who gets a snapshot is sent no entries"

    # Other terms

    def _adopt_term(self, message: Message) -> bool:
        """A newer term: follow into it. Returns False where the message is to be ignored altogether."""
        if (
            isinstance(message, VoteRequest)
            and not message.transfer
            and (self.has_live_leader() or self.is_bound())
        ):
            return False
        leads = isinstance(message, AppendRequest | HeartbeatRequest)
        self.become_follower(message.term, message.sender if leads else NOBODY)
        return True

    def _answer_older_term(self, message: Message) -> None:
        """An older term: its leader or candidate has to learn ours; an answer to ourselves is too late."""
        if isinstance(message, AppendRequest):
            follower.refuse_older_append(self, message)
        elif isinstance(message, HeartbeatRequest):
            follower.refuse_older_heartbeat(self, message)
        elif isinstance(message, VoteRequest):
            election.refuse_older_vote(self, message)
        elif isinstance(message, ReadIndexRequest):
            self.answer_read(message.sender, message.token, 0)


def _is_hypothetical(message: Message) -> bool:
    """Whether its term is one that a pre-candidate would enter, and nobody has."""
    if isinstance(message, PreVoteRequest):
        return True
    return isinstance(message, PreVoteResponse) and message.granted


def _on_read_index_response(state: RaftState, response: ReadIndexResponse) -> None:
    """The driver made the request and takes the answer; only its term concerns the core."""


_STEPS: Final[dict[type, Callable[[RaftState, Any], None]]] = {
    PreVoteRequest: election.on_pre_vote_request,
    PreVoteResponse: election.on_pre_vote_response,
    VoteRequest: election.on_vote_request,
    VoteResponse: election.on_vote_response,
    AppendRequest: follower.on_append,
    AppendResponse: leader.on_append_response,
    HeartbeatRequest: follower.on_heartbeat,
    HeartbeatResponse: leader.on_heartbeat_response,
    ReadIndexRequest: leader.on_read_index_request,
    ReadIndexResponse: _on_read_index_response,
    TimeoutNow: election.on_timeout_now,
}
