"""The known traps of Raft, as far as the core alone can fall into them: one test each or more.

The whole list, and where the others are, is in `tests/unit/raft/test_trap_list.py`. "Raft paper" and "Raft
dissertation" are cited in `respraft/raft/__init__.py`.
"""

import pytest

from respraft.config import RaftConfig
from respraft.raft.lease import CLOCK_DRIFT_MAX
from respraft.raft.message import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import HardState, NotLeader, Role
from tests.unit.raft.cluster import WALL_START_MS as WALL
from tests.unit.raft.cluster import Cluster, Disk, configuration_of, entries_of, first_entry

ELECTION_TICKS = RaftConfig().election_ticks


def responses(cluster: Cluster, kind: type[AppendResponse | VoteResponse | PreVoteResponse]) -> list[object]:
    """The answers of a kind that are under way, taken out of the network."""
    return [envelope.message for envelope in cluster.take(kind)]


# 1. Commit only by counting entries of the current term.


def test_trap_1_an_older_entry_on_a_majority_is_not_committed_by_counting() -> None:
    """Raft paper, section 5.4.2 and figure 8: it may still be replaced by a later leader."""
    cluster = Cluster(3, config=RaftConfig(append_bytes_max=1))
    cluster.replace(1, cluster.disk_with([1, 2], term=3))
    cluster.replace(3, cluster.disk_with([1, 3]))
    cluster.isolate(3)
    leader = cluster[1]
    leader.node.campaign()
    leader.turn()
    seen = []
    while cluster.step():
        holders = [host for host in cluster.hosts.values() if [e.term for e in host.disk.log[1:2]] == [2]]
        seen.append((len(holders), leader.node.commit_index))
    assert (2, 1) in seen, "entry 2 of term 2 was on a majority, and not committed"
    assert seen[-1] == (2, 3), "the no-op of term 4 commits both"


# 2. A no-op on election, and no read index before it commits.


def test_trap_2_a_new_leader_appends_a_no_op_of_its_term() -> None:
    """Raft paper, section 8: a leader must have an entry of its own to know what is committed."""
    cluster = Cluster(3, terms=[1, 1])
    leader = cluster.elect(2).node
    (no_op,) = leader.log.iterate(3)
    assert (no_op.term, no_op.payload) == (leader.term, b"")
    assert leader.commit_index == 3


def test_trap_2_no_read_is_granted_before_the_no_op_is_committed() -> None:
    """Its predecessor may have acknowledged more than this leader knows to be committed."""
    cluster = Cluster(3, terms=[1, 1, 1])
    leader = cluster[1]
    leader.node.campaign()
    leader.turn()
    while leader.node.role is not Role.LEADER:
        assert cluster.step()
    leader.node.read_index("early")
    leader.turn()
    appends = cluster.take(AppendRequest)
    cluster.settle()
    assert leader.node.commit_index == 1
    assert leader.reads == {}, "a quorum has echoed heartbeats, yet nothing of this term is committed"
    for envelope in appends:
        cluster.deliver(envelope)
    cluster.settle()
    assert leader.reads == {"early": 4}


# 3. PreVote and CheckQuorum together; a removed server must not disrupt.


def test_trap_3_a_node_that_was_cut_off_comes_back_without_an_election() -> None:
    """Raft dissertation, section 9.6."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    term = leader.node.term
    cluster.isolate(3)
    cluster.pass_ticks(5 * ELECTION_TICKS)
    assert cluster[3].node.role is Role.PRE_CANDIDATE
    assert cluster[3].node.term == term
    cluster.heal()
    cluster.pass_ticks(5 * ELECTION_TICKS)
    assert (leader.node.role, leader.node.term) == (Role.LEADER, term)
    assert (cluster[3].node.leader, cluster[3].node.commit_index) == (1, leader.node.commit_index)


def test_trap_3_a_removed_node_that_does_not_know_it_disrupts_nobody() -> None:
    """Raft dissertation, section 4.2.3: it hears no heartbeats, and asks for votes for ever."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    term = leader.node.term
    others = configuration_of([1, 2, 3, 4])
    log = [first_entry(others), *entries_of([term] * 20, first=2)]  # Longer than anybody's.
    cluster.replace(4, Disk(log, HardState(term)))
    cluster.pass_ticks(8 * ELECTION_TICKS)
    assert cluster[4].node.role in (Role.PRE_CANDIDATE, Role.FOLLOWER)
    assert (leader.node.role, leader.node.term) == (Role.LEADER, term)


def test_trap_3_votes_against_a_live_leader_are_ignored_with_their_term() -> None:
    cluster = Cluster(3)
    term = cluster.elect(1).node.term
    cluster.pass_ticks(1)
    for node_id in (1, 2):
        cluster[node_id].receive(VoteRequest(3, term + 5, 99, term + 4, transfer=False))
        assert cluster[node_id].node.term == term
        assert responses(cluster, VoteResponse) == []


def test_trap_3_a_voter_protects_its_leader_for_one_election_timeout_and_no_longer() -> None:
    cluster = Cluster(3)
    term = cluster.elect(1).node.term
    cluster.pass_ticks(1)
    voter = cluster[2]
    cluster.isolate(1)
    voter.receive(HeartbeatRequest(1, term, 2, 99, 0))
    voter.node.patience_ticks = voter.node.election_tick = 10**6  # It never loses patience itself.
    request = PreVoteRequest(3, term + 1, 99, term)
    voter.tick(ELECTION_TICKS - 1)
    voter.receive(request)
    assert responses(cluster, PreVoteResponse) == [PreVoteResponse(2, term, False)]
    voter.tick()
    voter.receive(request)
    assert responses(cluster, PreVoteResponse) == [PreVoteResponse(2, term + 1, True)]


def test_trap_3_a_handover_asked_for_by_the_leader_is_not_refused() -> None:
    cluster = Cluster(3)
    term = cluster.elect(1).node.term
    cluster.pass_ticks(1)
    cluster[2].node.campaign(transfer=True)
    cluster[2].turn()
    cluster.settle()
    assert (cluster[2].node.role, cluster[2].node.term) == (Role.LEADER, term + 1)


def test_trap_3_a_node_whose_term_ran_ahead_is_not_stuck() -> None:
    """It heeds no leader of an older term, and gets no vote from those who hear that one.

    Its answer to the older leader's heartbeat is what ends this.
    """
    cluster = Cluster(3)
    term = cluster.elect(1).node.term
    cluster.replace(3, cluster.disk_with([1], term=term + 7, vote=3))
    cluster.pass_ticks(4 * ELECTION_TICKS)
    leader = cluster.leader()
    assert leader is not None and leader.node.term > term + 7
    assert all(host.node.leader == leader.id for host in cluster.hosts.values())


# 4. Delete log entries on conflict only. `test_log.py` has the log's side of it.


def test_trap_4_a_late_shorter_append_leaves_the_log_alone() -> None:
    """Raft paper, figure 2, AppendEntries step 3: the answer to the longer one is out already."""
    cluster = Cluster(3)
    follower = cluster[2]
    long = AppendRequest(1, 2, 1, 1, 1, entries_of([2, 2, 2], first=2))
    short = AppendRequest(1, 2, 1, 1, 1, entries_of([2], first=2))
    empty = AppendRequest(1, 2, 1, 1, 1, [])
    for request in (long, short, empty, long):
        follower.receive(request)
        assert follower.node.last_index == 4
    follower.persist()
    assert len(follower.disk.log) == 4


# 5. Term and vote are on disk before any answer that rests on them.


def test_trap_5_a_vote_is_on_disk_before_it_is_sent() -> None:
    cluster = Cluster(3)
    voter = cluster[2]
    voter.receive(VoteRequest(1, 2, 1, 1, transfer=False))
    assert responses(cluster, VoteResponse) == []
    voter.persist()
    assert (voter.disk.hard_state.term, voter.disk.hard_state.vote) == (2, 1)
    (response,) = cluster.take(VoteResponse)
    assert isinstance(response.message, VoteResponse) and response.message.granted


def test_trap_5_a_vote_outlives_a_crash() -> None:
    cluster = Cluster(3)
    cluster[2].receive(VoteRequest(1, 2, 1, 1, transfer=False))
    cluster[2].persist()
    cluster[2].crash()
    cluster[2].start()
    cluster.mail.clear()
    cluster[2].receive(VoteRequest(3, 2, 1, 1, transfer=False))
    assert [each.message for each in cluster.take(VoteResponse)] == [VoteResponse(2, 2, False, WALL)]


def test_trap_5_a_vote_that_was_never_written_was_never_sent() -> None:
    cluster = Cluster(3)
    cluster[2].receive(VoteRequest(1, 2, 1, 1, transfer=False))
    cluster[2].crash()
    cluster[2].start()
    assert (cluster[2].node.term, cluster[2].node.vote) == (1, 0)
    assert cluster.take(VoteResponse) == []


def test_trap_5_a_candidates_own_vote_counts_when_it_is_on_disk() -> None:
    cluster = Cluster(1)
    cluster[1].node.campaign()
    cluster[1].turn()
    roles = [cluster[1].node.role]
    cluster[1].persist()
    assert [*roles, cluster[1].node.role] == [Role.CANDIDATE, Role.LEADER]
    assert cluster[1].disk.hard_state.vote == 1


def test_trap_5_a_candidacy_is_on_disk_before_votes_are_asked_for() -> None:
    """With it is the log that it speaks of: after a crash this node may have a shorter one."""
    cluster = Cluster(3)
    cluster[1].node.campaign()
    cluster[1].turn()
    for kind in (PreVoteRequest, PreVoteResponse):
        for envelope in cluster.take(kind):
            cluster.deliver(envelope)
    assert cluster[1].node.role is Role.CANDIDATE
    assert cluster.take(VoteRequest) == []
    cluster[1].persist()
    assert len(cluster.take(VoteRequest)) == 2


@pytest.mark.parametrize("term", [1, 2], ids=["of a term on disk", "of a new term"])
def test_trap_5_entries_are_on_disk_before_they_are_accepted(term: int) -> None:
    cluster = Cluster(3)
    cluster[2].receive(AppendRequest(1, term, 1, 1, 1, entries_of([term, term], first=2)))
    assert responses(cluster, AppendResponse) == []
    cluster[2].receive(AppendRequest(1, term, 3, term, 1, entries_of([term], first=4)))
    assert responses(cluster, AppendResponse) == []
    cluster[2].persist()
    assert responses(cluster, AppendResponse) == [AppendResponse(2, term, 3, 0, 0, 0)]
    cluster[2].persist()
    assert responses(cluster, AppendResponse) == [AppendResponse(2, term, 4, 0, 0, 0)]


def test_trap_5_what_is_on_disk_already_is_accepted_only_in_a_term_that_is_on_disk() -> None:
    """Else a crash forgets the term, and the leader of an older one may replace what was accepted."""
    cluster = Cluster(3, terms=[1, 1])
    follower = cluster[2]
    follower.receive(AppendRequest(1, 2, 2, 1, 1, entries_of([2], first=3)))
    follower.receive(AppendRequest(3, 5, 2, 1, 1, []))
    assert follower.node.log.stable_index == 2
    assert responses(cluster, AppendResponse) == []
    follower.persist()
    assert (follower.disk.hard_state.term, responses(cluster, AppendResponse)) == (2, [])
    follower.persist()
    assert follower.disk.hard_state.term == 5
    assert responses(cluster, AppendResponse) == [AppendResponse(2, 5, 2, 0, 0, 0)]


def test_trap_5_a_promise_of_an_older_term_is_void() -> None:
    """What waits for the disk when a newer term begins is not sent after all, wherever it waits."""
    cluster = Cluster(3)
    voter = cluster[2]
    voter.receive(VoteRequest(1, 2, 1, 1, transfer=False))  # Travels with the write in flight.
    voter.receive(VoteRequest(3, 3, 1, 1, transfer=False))  # These wait for the next one.
    voter.receive(AppendRequest(1, 4, 1, 1, 1, []))
    voter.receive(VoteRequest(3, 5, 1, 1, transfer=True))
    voter.persist()
    assert cluster.take(VoteResponse) == []
    assert voter.write is not None
    assert voter.write.messages == [(3, VoteResponse(2, 5, True, WALL))]


# 6. Compare last logs by term, then index.


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(2, 3, True), (9, 1, False), (3, 2, True), (4, 2, True), (2, 2, False), (2, 9, True)],
)
def test_trap_6_logs_are_compared_by_term_and_then_by_length(
    last_index: int, last_term: int, granted: bool
) -> None:
    """Raft paper, section 5.4.1. The voter's log ends at 3, in term 2."""
    cluster = Cluster(3, terms=[1, 2, 2])
    cluster[2].receive(PreVoteRequest(1, 10, last_index, last_term))
    assert responses(cluster, PreVoteResponse) == [PreVoteResponse(2, 10 if granted else 2, granted)]
    cluster[2].receive(VoteRequest(1, 10, last_index, last_term, transfer=False))
    cluster.settle()
    assert cluster[2].node.vote == (1 if granted else 0)
    assert cluster[2].node.term == 10


# 8. Quorum arithmetic with 2 and 4 nodes, and with the latest appended configuration.
#    `test_configuration.py` has the arithmetic itself.


@pytest.mark.parametrize(("nodes", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_trap_8_commit_needs_a_majority_of_disks(nodes: int, needed: int) -> None:
    cluster = Cluster(nodes)
    leader = cluster.elect(1)
    leader.propose(b"x")
    index = leader.node.last_index
    for host in list(cluster.hosts.values())[: needed - 1]:
        while cluster.mail:
            cluster.step()
        host.persist()
    while cluster.mail:
        cluster.step()
    assert leader.node.commit_index == index - 1, f"{needed - 1} of {nodes} disks are no majority"
    cluster[needed].persist()
    while cluster.mail:
        cluster.step()
    assert leader.node.commit_index == index


def test_trap_8_the_newest_appended_configuration_counts_committed_or_not() -> None:
    """Raft paper, section 6."""
    cluster = Cluster(3)
    wider = configuration_of([1, 2, 3, 4, 5])
    change = first_entry(wider)
    entry = type(change)(2, 1, 0, change.kind, change.payload)
    node = cluster.replace(1, Disk([*cluster[1].disk.log, entry], cluster[1].disk.hard_state)).node
    assert node.configuration == wider
    node.campaign()
    cluster[1].turn()
    cluster.settle()
    assert node.role is Role.LEADER, "three of five are there"
    cluster.isolate(3)
    cluster[1].propose(b"x")
    cluster.settle()
    assert node.commit_index == node.last_index - 1, "two of five are no majority, though two of three are"


def test_trap_8_a_configuration_that_is_cut_off_counts_no_more() -> None:
    cluster = Cluster(3)
    wider = configuration_of([1, 2, 3, 4, 5])
    change = first_entry(wider)
    entry = type(change)(2, 2, 0, change.kind, change.payload)
    cluster[3].receive(AppendRequest(1, 2, 1, 1, 1, [entry]))
    assert cluster[3].node.configuration == wider
    cluster[3].receive(AppendRequest(2, 3, 1, 1, 1, entries_of([3], first=2)))
    assert cluster[3].node.configuration == cluster.configuration


# 9. A leader without a quorum steps down within an election timeout and serves nothing.


def test_trap_9_a_leader_that_hears_no_majority_steps_down_and_serves_nothing() -> None:
    """Raft dissertation, section 6.2."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.pass_ticks(3 * ELECTION_TICKS)
    assert leader.node.role is Role.LEADER
    cluster.isolate(1)
    leader.node.read_index("before")
    leader.propose(b"lost")
    leader.tick(ELECTION_TICKS)
    assert (leader.node.role, leader.node.leader) == (Role.FOLLOWER, 0)
    assert leader.reads == {}
    assert leader.reads_refused == ["before"]
    assert leader.applied[-1].payload == b""
    with pytest.raises(NotLeader):
        leader.node.propose(b"after")
    with pytest.raises(NotLeader):
        leader.node.read_index("after")


def test_trap_9_one_of_two_followers_is_enough() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.pass_ticks(3 * ELECTION_TICKS)
    assert leader.node.role is Role.LEADER


def test_trap_9_learners_do_not_keep_a_leader_in_office() -> None:
    cluster = Cluster(3, learners=[4, 5])
    leader = cluster.elect(1)
    cluster.isolate(2)
    cluster.isolate(3)
    cluster.pass_ticks(ELECTION_TICKS)
    assert leader.node.role is not Role.LEADER


# 10. Lease reads rest on bounded clock drift and on no pause: ReadIndex is the default, the lease is opt-in.
# The driver's part, pauses, is in `tests/unit/node/test_driver.py`.


def test_trap_10_by_default_each_read_takes_a_round() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.pass_ticks(ELECTION_TICKS)
    leader.node.read_index("r")
    leader.turn()
    assert leader.reads == {}
    rounds = [each.message for each in cluster.mail if isinstance(each.message, HeartbeatRequest)]
    assert [each.promise_ms for each in rounds] == [0, 0], "nobody has to promise anything"
    cluster.settle()
    assert "r" in leader.reads


def with_lease(nodes: int = 3) -> Cluster:
    """A cluster with leases, in which node 1 has led for a while."""
    cluster = Cluster(nodes, config=RaftConfig(read_mode="lease"))
    cluster.pass_ticks(ELECTION_TICKS + 1)  # Until nobody is bound by an earlier process.
    leader = cluster.leader()
    if leader is None or leader.id != 1:
        for host in cluster.hosts.values():
            host.node.bound_until_ms = 0.0
            host.node.leader = 0
        cluster.elect(1)
    cluster.pass_ticks(ELECTION_TICKS)
    return cluster


def reads_at_once(cluster: Cluster, token: str) -> bool:
    """Whether the leader grants a read without a word to anybody."""
    leader = cluster[1]
    leader.observe()
    leader.node.read_index(token)
    leader.turn()
    return token in leader.reads


def test_trap_10_a_lease_is_over_before_any_voter_is_free() -> None:
    """By the slowest clock of a leader and the fastest of a voter that the assumption allows."""
    cluster = with_lease()
    assert reads_at_once(cluster, "now")
    last_ms = max(cluster[2].node.bound_until_ms, cluster[3].node.bound_until_ms)
    cluster.isolate(1)
    start_ms = cluster.time_ms
    while reads_at_once(cluster, f"{cluster.time_ms}"):
        cluster.time_ms += 1
    held_ms = cluster.time_ms - start_ms
    bound_ms = last_ms - start_ms
    assert held_ms / (1 - CLOCK_DRIFT_MAX) <= bound_ms + 1
    assert held_ms > 300, "which is no reason for it to be short"


def test_trap_10_an_echo_renews_a_lease_as_of_the_sending() -> None:
    cluster = with_lease()
    cluster.pass_ticks(10, settle=False)  # Sends a round.
    cluster.time_ms += 400
    cluster.settle()
    assert reads_at_once(cluster, "soon")
    cluster.time_ms += 40
    assert not reads_at_once(cluster, "late")


def test_trap_10_a_bound_voter_elects_nobody_whatever_it_knows() -> None:
    cluster = with_lease()
    voter, term = cluster[2], cluster[1].node.term
    last_index, last_term = voter.node.last_index, voter.node.log.last_term
    voter.node.peer_gone(1)
    assert not voter.node.has_live_leader()
    voter.receive(PreVoteRequest(3, term + 1, last_index, last_term))
    assert responses(cluster, PreVoteResponse) == [PreVoteResponse(2, term, False)]
    voter.receive(VoteRequest(3, term + 1, last_index, last_term, False))
    assert voter.node.term == term
    voter.node.become_follower(term + 1, 0)  # By some other message of that term.
    voter.receive(VoteRequest(3, term + 1, last_index, last_term, False))
    assert voter.node.vote == 0
    voter.receive(VoteRequest(3, term + 1, last_index, last_term, True))
    assert voter.node.vote == 3, "the leader itself has asked for that"


def test_trap_10_a_change_of_those_who_count_ends_the_lease_until_they_have_promised() -> None:
    cluster = with_lease(4)
    assert reads_at_once(cluster, "before")
    cluster[1].node.change_membership([each for each in cluster.configuration.members if each.id != 4])
    cluster[1].turn()
    assert not reads_at_once(cluster, "now")
    cluster.settle()
    cluster.pass_ticks(11)
    assert reads_at_once(cluster, "again")


# 15. A large value must not stop heartbeats. `peer/` cuts it in pieces; the core's part is here.


def test_trap_15_heartbeats_leave_though_the_window_is_full_and_the_disk_is_busy() -> None:
    """Neither an append that is on its way for long nor a write that takes long holds them up."""
    cluster = Cluster(3, config=RaftConfig(inflight_bytes_max=10))
    leader = cluster.elect(1)
    leader.propose(b"x" * 10_000_000)
    leader.propose(b"y")
    assert len(cluster.take(AppendRequest)) == 2, "one to each follower, and the window is full"
    assert leader.write is not None
    for _ in range(3):
        leader.tick(RaftConfig().heartbeat_ticks)
        assert [each.to for each in cluster.take(HeartbeatRequest)] == [2, 3]


def test_trap_15_a_follower_echoes_heartbeats_though_its_disk_is_busy() -> None:
    """Else its leader would step down, and a slow disk would be an election."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"x" * 10_000_000)
    for envelope in cluster.take(AppendRequest):
        cluster.deliver(envelope)
    assert all(host.write is not None for host in cluster.hosts.values())
    for _ in range(2 * ELECTION_TICKS // RaftConfig().heartbeat_ticks):
        leader.tick(RaftConfig().heartbeat_ticks)
        for envelope in cluster.take(HeartbeatRequest):
            cluster.deliver(envelope)
        for envelope in cluster.take(HeartbeatResponse):
            cluster.deliver(envelope)
    assert leader.node.role is Role.LEADER
