"""Reads without a log entry (Raft dissertation, section 6.4). Traps 2 and 9 have their share of them, too."""

from respraft.config import RaftConfig
from respraft.raft.message import (
    AppendRequest,
    HeartbeatRequest,
    HeartbeatResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)
from respraft.raft.ready import Role
from tests.unit.raft.cluster import Cluster, Host, configuration_of

CONFIG = RaftConfig()


def ask(host: Host, *tokens: object) -> None:
    """Reads of one turn."""
    host.observe()
    for token in tokens:
        host.node.read_index(token)
    host.turn()


def test_all_reads_of_a_turn_share_one_round() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    ask(leader, *range(100))
    assert len(cluster.take(HeartbeatRequest, to=2)) == 1
    assert leader.node.status().reads_waiting == 100
    leader.receive(HeartbeatResponse(3, 2, leader.node.reads.round, 0))
    assert leader.reads == dict.fromkeys(range(100), 2)


def test_reads_that_come_meanwhile_wait_for_the_next_round() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    ask(leader, "first")
    ask(leader, "second")
    ask(leader, "third")
    first = leader.node.reads.round
    assert len(cluster.take(HeartbeatRequest, to=2)) == 1, "one round at a time"
    leader.receive(HeartbeatResponse(2, 2, first, 0))
    assert leader.reads == {"first": 2}
    assert len(cluster.take(HeartbeatRequest, to=2)) == 1, "the next one starts at once"
    leader.receive(HeartbeatResponse(3, 2, first, 0))
    assert leader.reads == {"first": 2}, "an echo of the older round confirms nothing sent later"
    leader.receive(HeartbeatResponse(3, 2, first + 1, 0))
    assert leader.reads == {"first": 2, "second": 2, "third": 2}


def test_a_round_that_was_lost_is_repeated_at_the_next_heartbeat_for_all_who_wait_by_then() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    ask(leader, "first")
    ask(leader, "second")
    cluster.take(HeartbeatRequest)
    leader.tick(CONFIG.heartbeat_ticks)
    cluster.settle()
    assert leader.reads == {"first": 2, "second": 2}


def test_a_round_needs_a_majority() -> None:
    cluster = Cluster(5)
    leader = cluster.elect(1)
    ask(leader, "read")
    leader.receive(HeartbeatResponse(2, 2, leader.node.reads.round, 0))
    leader.receive(HeartbeatResponse(2, 2, leader.node.reads.round, 0))
    assert leader.reads == {}
    leader.receive(HeartbeatResponse(5, 2, leader.node.reads.round, 0))
    assert leader.reads == {"read": 2}


def test_learners_confirm_nothing() -> None:
    cluster = Cluster(3, learners=[4, 5])
    leader = cluster.elect(1)
    ask(leader, "read")
    for learner in (4, 5):
        leader.receive(HeartbeatResponse(learner, 2, leader.node.reads.round, 0))
    assert leader.reads == {}


def test_a_single_voter_confirms_at_once_and_asks_nobody() -> None:
    cluster = Cluster(1, learners=[2])
    leader = cluster.elect(1)
    cluster.mail.clear()
    ask(leader, "read")
    assert leader.reads == {"read": 2}
    assert cluster.mail == []


def test_the_index_is_what_was_committed_when_the_round_was_sent() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"a")
    cluster.settle()
    ask(leader, "read")
    leader.propose(b"b")
    cluster.settle()
    assert leader.node.commit_index == 4
    assert leader.reads == {"read": 3}


def test_a_request_is_its_askers_echo_and_in_a_cluster_of_three_the_whole_round() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.receive(ReadIndexRequest(3, 2, (9, 4)))
    assert cluster.take(HeartbeatRequest) == []
    (answer,) = cluster.take(ReadIndexResponse)
    assert (answer.to, answer.message) == (3, ReadIndexResponse(1, 2, (9, 4), 2))


def test_a_follower_of_five_waits_in_the_same_queue() -> None:
    cluster = Cluster(5)
    leader = cluster.elect(1)
    cluster[2].cluster.send(2, 1, ReadIndexRequest(2, 2, (7, 1)))
    leader.observe()
    leader.node.read_index("own")
    leader.node.step(ReadIndexRequest(3, 2, (9, 4)))
    leader.turn()
    assert len(cluster.take(HeartbeatRequest, to=3)) == 1
    leader.receive(HeartbeatResponse(2, 2, leader.node.reads.round, 0))
    assert cluster.take(ReadIndexResponse) == []
    leader.receive(HeartbeatResponse(4, 2, leader.node.reads.round, 0))
    (answer,) = cluster.take(ReadIndexResponse)
    assert (answer.to, answer.message) == (3, ReadIndexResponse(1, 2, (9, 4), 2))
    assert leader.reads == {"own": 2}
    cluster.settle()
    assert cluster[2].reads == {(7, 1): 2}


def test_the_round_of_two_voters_is_the_request_and_a_single_one_needs_none() -> None:
    for cluster, asker in (Cluster(2), 2), (Cluster(1, learners=[2]), 2):
        leader = cluster.elect(1)
        leader.receive(ReadIndexRequest(asker, 2, (9, 4)))
        assert cluster.take(HeartbeatRequest) == []
        assert len(cluster.take(ReadIndexResponse)) == 1


def test_in_a_joint_configuration_leader_and_asker_must_be_both_majorities() -> None:
    cluster = Cluster(5)
    leader = cluster.elect(1)
    for node_id in (4, 5):
        cluster.isolate(node_id)
    leader.observe()
    leader.node.change_membership(configuration_of((1, 4, 5)).members)
    leader.turn()
    cluster.settle()
    configuration = leader.node.configurations.current
    assert configuration is not None
    assert configuration.old_voters == (1, 2, 3, 4, 5)
    leader.receive(ReadIndexRequest(4, 2, (9, 4)))
    assert cluster.take(ReadIndexResponse) == [], "two of three new voters, but of five old ones"


def test_a_learners_request_is_no_echo() -> None:
    cluster = Cluster(3, learners=[4])
    leader = cluster.elect(1)
    leader.receive(ReadIndexRequest(4, 2, (9, 4)))
    assert cluster.take(ReadIndexResponse) == []
    leader.receive(HeartbeatResponse(2, 2, leader.node.reads.round, 0))
    assert len(cluster.take(ReadIndexResponse)) == 1


def test_no_request_is_answered_before_an_entry_of_the_own_term_is_committed() -> None:
    cluster = Cluster(3)
    leader = cluster.elect_by(1, [2])
    leader.receive(ReadIndexRequest(3, 2, (9, 4)))
    assert cluster.take(ReadIndexResponse) == []
    cluster.settle()
    assert cluster[3].reads == {(9, 4): 2}


def test_who_does_not_lead_refuses_at_once() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[2].receive(ReadIndexRequest(3, 2, (1, 1)))
    (answer,) = cluster.take(ReadIndexResponse)
    assert answer.message == ReadIndexResponse(2, 2, (1, 1), 0)


def test_who_loses_the_lead_refuses_all_who_wait() -> None:
    cluster = Cluster(5)
    leader = cluster.elect(1)
    ask(leader, "in a round")
    leader.receive(ReadIndexRequest(2, 2, (5, 6)))
    ask(leader, "behind it")
    leader.receive(HeartbeatRequest(3, 9, 2, 1, 0))
    assert leader.node.role is Role.FOLLOWER
    assert leader.reads_refused == ["in a round", "behind it"]
    (answer,) = cluster.take(ReadIndexResponse)
    assert (answer.to, answer.message) == (2, ReadIndexResponse(1, 9, (5, 6), 0))


def test_an_echo_of_an_earlier_leadership_confirms_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    ask(leader, "lost")
    echoes = cluster.take(HeartbeatRequest)
    leader.receive(HeartbeatRequest(3, 5, 1, 1, 0))
    cluster.settle()
    for host in (cluster[2], cluster[3]):
        host.node.leader = 0
    cluster.elect(1)
    ask(leader, "new")
    cluster.take(HeartbeatRequest)
    for envelope in echoes:
        leader.receive(HeartbeatResponse(envelope.to, 2, 10**6, 0))
    assert leader.reads == {}


def test_a_deposed_leader_confirms_nothing_though_it_does_not_know_it() -> None:
    cluster = Cluster(3)
    old = cluster.elect(1)
    cluster.isolate(1)
    new = cluster[2]
    new.tick(CONFIG.election_ticks)
    cluster[3].tick(CONFIG.election_ticks)
    cluster.elect(2)
    new.propose(b"newer")
    cluster.settle()
    ask(old, "stale")
    cluster.heal()
    old.tick(CONFIG.heartbeat_ticks)
    cluster.settle()
    assert new.node.commit_index == 4
    assert (old.reads, old.reads_refused) == ({}, ["stale"])


def test_heartbeats_go_on_while_reads_come_all_the_time() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for turn in range(3 * CONFIG.election_ticks):
        ask(leader, turn)
        cluster.pass_ticks()
    assert leader.node.role is Role.LEADER
    assert len(leader.reads) == 3 * CONFIG.election_ticks
    assert cluster.take(AppendRequest) == []
