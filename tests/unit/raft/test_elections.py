"""Who campaigns and when, who is voted for, and how a node without a past comes in. Raft paper, 5.2."""

import pytest

from respraft.config import RaftConfig
from respraft.raft.message import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import AlreadyStarted, NotLeader, Role
from tests.unit.raft.cluster import WALL_START_MS as WALL
from tests.unit.raft.cluster import Cluster, Disk, configuration_of, entries_of

ELECTION_TICKS = RaftConfig().election_ticks


def test_patience_is_drawn_anew_from_once_to_twice_the_timeout() -> None:
    seen = set()
    for seed in range(200):
        host = Cluster(3, seed=seed)[1]
        for _ in range(2):
            ticks = 0
            while host.node.role is Role.FOLLOWER:
                host.tick()
                ticks += 1
            seen.add(ticks)
            host.node.become_follower(host.node.term, 0)
    assert min(seen) == ELECTION_TICKS
    assert max(seen) == 2 * ELECTION_TICKS - 1
    assert len(seen) == ELECTION_TICKS


def test_heartbeats_keep_followers_patient() -> None:
    cluster = Cluster(5)
    cluster.elect(4)
    for _ in range(20 * ELECTION_TICKS):
        cluster.pass_ticks()
        assert [host.node.leader for host in cluster.hosts.values()] == [4] * 5


@pytest.mark.parametrize("seed", range(10))
def test_the_others_replace_a_leader_that_is_gone(seed: int) -> None:
    cluster = Cluster(3, seed=seed)
    term = cluster.elect(1).node.term
    cluster.pass_ticks(ELECTION_TICKS)
    cluster[1].crash()
    cluster.pass_ticks(4 * ELECTION_TICKS)
    leader = cluster.leader()
    assert leader is not None
    assert leader.node.term > term
    assert {cluster[2].node.leader, cluster[3].node.leader} == {leader.id}


def test_an_even_vote_elects_nobody_and_the_next_term_decides() -> None:
    cluster = Cluster(2)
    for host in cluster.hosts.values():
        host.node.campaign()
        host.turn()
    cluster.settle()
    assert [host.node.role for host in cluster.hosts.values()] == [Role.FOLLOWER] * 2
    assert [host.node.term for host in cluster.hosts.values()] == [2, 2]
    cluster.pass_ticks(4 * ELECTION_TICKS)
    leader = cluster.leader()
    assert leader is not None and leader.node.term == 3


def test_a_pre_candidate_that_is_refused_by_the_majority_goes_back_to_waiting() -> None:
    cluster = Cluster(3, terms=[1, 1, 1])
    candidate = cluster.replace(1, cluster.disk_with([1, 1]))
    candidate.node.campaign()
    candidate.turn()
    assert candidate.node.role is Role.PRE_CANDIDATE
    cluster.settle()
    assert [candidate.node.role, candidate.node.term] == [Role.FOLLOWER, 1]


def test_a_pre_candidate_falls_behind_a_leader_it_hears() -> None:
    cluster = Cluster(3)
    term = cluster.elect(1).node.term
    cluster[2].node.campaign()
    cluster[2].turn()
    cluster[2].receive(HeartbeatRequest(1, term, 1, 50, 0))
    assert (cluster[2].node.role, cluster[2].node.leader) == (Role.FOLLOWER, 1)


def test_pre_votes_are_no_votes() -> None:
    cluster = Cluster(3)
    cluster[1].node.campaign()
    cluster[1].turn()
    cluster[1].receive(PreVoteResponse(2, 2, True))
    cluster[1].persist()
    assert cluster[1].node.role is Role.CANDIDATE
    cluster[1].receive(PreVoteResponse(3, 2, True))
    assert cluster[1].node.role is Role.CANDIDATE


def test_a_vote_given_ends_an_own_pre_vote_and_restarts_patience() -> None:
    cluster = Cluster(3)
    voter = cluster[2]
    voter.tick(voter.node.election_tick)
    assert voter.node.role is Role.PRE_CANDIDATE
    voter.receive(VoteRequest(1, 1, 1, 1, transfer=False))
    assert (voter.node.role, voter.node.vote) == (Role.FOLLOWER, 1)

    voter = cluster[3]
    voter.tick(voter.node.election_tick - 1)
    voter.receive(VoteRequest(1, 1, 1, 1, transfer=False))
    assert voter.node.election_tick >= voter.node.ticks + ELECTION_TICKS


def test_one_vote_per_term_repeated_when_asked_again() -> None:
    cluster = Cluster(3)
    voter = cluster[2]
    for candidate, granted in [(1, True), (3, False), (1, True)]:
        voter.receive(VoteRequest(candidate, 2, 5, 1, transfer=False))
        cluster.settle()
        assert voter.node.vote == 1, f"and {candidate} is told {granted}"


def test_the_log_begins_at_the_median_of_those_who_elected_its_leader() -> None:
    """Not of those who voted for it in an election that came to nothing."""
    cluster = Cluster(5)
    candidate = cluster[1]
    cluster.isolate(1)
    for votes in ({2: -60_000}, {3: 10_000, 4: 10_000}):
        candidate.observe()
        candidate.node.campaign(transfer=True)
        candidate.turn()
        candidate.persist()
        for voter, skew_ms in votes.items():
            candidate.receive(VoteResponse(voter, candidate.node.term, True, WALL + skew_ms))
    assert candidate.node.role is Role.LEADER
    assert candidate.node.log.last_time_ms == WALL + 10_000


def test_nobody_is_voted_for_in_a_term_that_has_a_leader() -> None:
    cluster = Cluster(3)
    cluster[3].receive(HeartbeatRequest(1, 2, 1, 1, 0))
    cluster[3].receive(VoteRequest(2, 2, 9, 1, transfer=False))
    cluster.settle()
    assert cluster[3].node.vote == 0


def test_a_refused_pre_vote_tells_the_current_term() -> None:
    cluster = Cluster(3)
    cluster.replace(2, cluster.disk_with([1], term=7))
    for asked in (2, 7):
        cluster[2].receive(PreVoteRequest(1, asked, 9, 6))
        assert [each.message for each in cluster.take(PreVoteResponse)] == [PreVoteResponse(2, 7, False)]
    cluster[1].receive(PreVoteResponse(2, 7, False))
    assert cluster[1].node.term == 7


def test_a_grant_of_an_older_pre_vote_counts_no_more() -> None:
    cluster = Cluster(5)
    cluster[1].receive(HeartbeatRequest(2, 4, 1, 1, 0))
    cluster[1].tick(2 * ELECTION_TICKS)
    assert cluster[1].node.role is Role.PRE_CANDIDATE
    for voter in (2, 3, 4):
        cluster[1].receive(PreVoteResponse(voter, 4, True))
    assert cluster[1].node.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (AppendRequest(1, 2, 1, 1, 1, []), AppendResponse(2, 5, 0, 1, 0, 0)),
        (HeartbeatRequest(1, 2, 1, 8, 0), HeartbeatResponse(2, 5, 8, WALL)),
        (VoteRequest(1, 2, 9, 1, False), VoteResponse(2, 5, False, WALL)),
        (ReadIndexRequest(1, 2, (1, 1)), ReadIndexResponse(2, 5, (1, 1), 0)),
        (AppendResponse(1, 2, 9, 0, 0, 0), None),
        (HeartbeatResponse(1, 2, 8, 0), None),
        (VoteResponse(1, 2, True, 0), None),
        (PreVoteResponse(1, 2, False), None),
    ],
)
def test_who_speaks_in_an_older_term_is_told_and_otherwise_ignored(
    message: AppendRequest | HeartbeatRequest, answer: AppendResponse | None
) -> None:
    cluster = Cluster(3)
    cluster.replace(2, cluster.disk_with([1], term=5))
    cluster[2].turn()
    before = cluster[2].node.status()
    cluster[2].receive(message)
    assert [each.message for each in cluster.mail] == ([] if answer is None else [answer])
    assert cluster[2].node.status() == before


def test_a_learner_never_campaigns_and_knows_when_its_leader_is_gone() -> None:
    cluster = Cluster(2, learners=[3])
    cluster.elect(1)
    assert cluster[3].node.leader == 1
    assert cluster[3].node.commit_index == 2
    cluster[3].node.campaign()
    cluster[3].node.campaign(transfer=True)
    cluster[3].tick(2 * ELECTION_TICKS)
    assert (cluster[3].node.role, cluster[3].node.term, cluster[3].node.leader) == (Role.FOLLOWER, 2, 0)


def test_a_leader_that_campaigns_goes_on_leading() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.node.campaign()
    leader.node.campaign(transfer=True)
    assert (leader.node.role, leader.node.term) == (Role.LEADER, 2)


# Nodes without a configuration


def empty_cluster() -> Cluster:
    cluster = Cluster(3, terms=[])
    assert all(host.node.configuration is None for host in cluster.hosts.values())
    return cluster


def test_a_cluster_is_founded_by_one_node_and_the_others_learn_it_from_the_log() -> None:
    cluster = empty_cluster()
    founder = cluster[1].node
    founder.bootstrap(cluster.configuration)
    assert founder.configuration == cluster.configuration
    assert (founder.term, founder.last_index) == (1, 1)
    cluster.elect(1)
    for host in cluster.hosts.values():
        assert host.node.configuration == cluster.configuration
        assert [(entry.index, entry.term) for entry in host.applied] == [(1, 1), (2, 2)]


def test_a_node_without_a_configuration_never_campaigns() -> None:
    cluster = empty_cluster()
    cluster[2].node.campaign()
    cluster[2].tick(10 * ELECTION_TICKS)
    assert (cluster[2].node.role, cluster[2].node.term) == (Role.FOLLOWER, 0)
    assert cluster.mail == []


def test_a_first_configuration_that_is_cut_off_leaves_none() -> None:
    cluster = empty_cluster()
    entry = Cluster([2, 3])[2].disk.log[0]
    cluster[1].receive(AppendRequest(2, 1, 0, 0, 0, [entry]))
    assert cluster[1].node.configuration == configuration_of([2, 3])
    cluster[1].receive(AppendRequest(3, 2, 0, 0, 0, entries_of([2])))
    assert cluster[1].node.configuration is None


def test_only_a_node_without_a_past_can_found_a_cluster() -> None:
    configuration = configuration_of([1, 2, 3])
    with pytest.raises(AlreadyStarted):
        Cluster(3)[1].node.bootstrap(configuration)
    voter = empty_cluster()[2]
    voter.receive(VoteRequest(1, 2, 1, 1, transfer=False))
    with pytest.raises(AlreadyStarted):
        voter.node.bootstrap(configuration)


# Restarts


def test_a_restarted_node_is_a_follower_of_its_last_term_and_keeps_its_vote() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"x")
    cluster.settle()
    leader.crash()
    leader.start()
    node = leader.node
    assert (node.role, node.term, node.vote, node.last_index) == (Role.FOLLOWER, 2, 1, 3)
    with pytest.raises(NotLeader):
        node.propose(b"y")


def test_a_restarted_node_finds_its_configuration_behind_what_is_applied() -> None:
    cluster = Cluster(3)
    disk = cluster[1].disk
    for flushed in (0, 1):
        host = cluster.replace(1, Disk(disk.log, disk.hard_state))
        host.crash()
        host.disk.flushed_index = flushed
        host.start()
        assert host.node.configuration == cluster.configuration


def test_a_restarted_node_knows_the_commit_index_that_came_with_another_write() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for payload in (b"x", b"y"):
        leader.propose(payload)
        cluster.settle()
    known = leader.disk.hard_state.commit
    assert known == 3, "the commit of y caused no write of its own"
    leader.crash()
    leader.start()
    assert leader.node.commit_index == known
    leader.turn()
    assert [entry.index for entry in leader.applied] == [1, 2, 3]


def test_entries_and_terms_that_were_not_written_are_gone() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.propose(b"x")
    leader.crash()
    leader.start()
    assert leader.node.last_index == 2
    cluster.heal()
    cluster.pass_ticks(3 * ELECTION_TICKS)
    assert {host.node.last_index for host in cluster.hosts.values()} == {3}
