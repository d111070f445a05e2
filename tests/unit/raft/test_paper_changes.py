"""What the Raft paper says in sections 6 and 7, membership and snapshots: one test quotes one sentence.

See `test_paper.py`. C-old is nodes 1 to 3 in these tests, C-new nodes 4 to 6, and C-old,new the joint one.
"""

import pytest
from msgspec.structs import replace

from respraft.config import RaftConfig
from respraft.raft.configuration import Configuration
from respraft.raft.message import (
    KIND_CONFIGURATION,
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    NodeId,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import HardState, Role
from tests.unit.raft.cluster import WALL_START_MS as WALL
from tests.unit.raft.cluster import Cluster, Disk, Host, configuration_of, first_entry

CONFIG = RaftConfig()
ELECTION_TICKS = CONFIG.election_ticks

OLD = configuration_of([1, 2, 3])
JOINT = replace(configuration_of([4, 5, 6], [1, 2, 3]), old_voters=(1, 2, 3), leaving=(1, 2, 3))
JOINT_TO_TWO = replace(configuration_of([4, 5], [1, 2, 3]), old_voters=(1, 2, 3), leaving=(1, 2, 3))


def joint_cluster(joint: Configuration = JOINT, *, committed: bool = False) -> Cluster:
    """All nodes hold C-old and C-old,new, which may be known to be committed."""
    cluster = Cluster(0)
    cluster.configuration = joint
    for node_id in joint.voters():
        entry = Entry(2, 1, 0, KIND_CONFIGURATION, joint.encode())
        cluster.replace(node_id, Disk([first_entry(OLD), entry], HardState(1, 0, 2 if committed else 1)))
    return cluster


def change(host: Host, *voters: NodeId, learners: tuple[NodeId, ...] = ()) -> None:
    """Ask a leader for these members, in a turn of its own."""
    host.observe()
    host.node.change_membership(configuration_of(voters, learners).members)
    host.turn()


def known(host: Host) -> Configuration:
    configuration = host.node.configuration
    assert configuration is not None
    return configuration


# 6 Cluster membership changes


def test_6_a_server_uses_the_latest_configuration_in_its_log() -> None:
    """> A server always uses the latest configuration in its log, regardless of whether the entry is
    committed."""
    cluster = Cluster(3)
    follower = cluster[3]
    entry = Entry(2, 1, 0, KIND_CONFIGURATION, JOINT.encode())
    follower.receive(AppendRequest(1, 1, 1, 1, 1, [entry]))
    assert known(follower) == JOINT
    assert follower.node.commit_index == 1
    follower.persist()
    follower.crash()
    follower.start()
    assert known(follower) == JOINT


def test_6_entries_go_to_all_servers_of_both_configurations() -> None:
    """> Log entries are replicated to all servers in both configurations."""
    cluster = joint_cluster()
    leader = cluster.elect_by(1, [2, 4, 5])
    assert leader.node.last_index == 3
    for peer in (2, 3, 4, 5, 6):
        (append,) = [each.message for each in cluster.take(AppendRequest, to=peer)]
        assert isinstance(append, AppendRequest)
        assert [entry.index for entry in append.entries] == [3]


@pytest.mark.parametrize("node_id", [3, 6])
def test_6_any_server_of_either_configuration_may_lead(node_id: NodeId) -> None:
    """> Any server from either configuration may serve as leader."""
    cluster = joint_cluster(committed=True)
    assert cluster.elect_by(node_id, [1, 2, 4, 5]).node.role is Role.LEADER


@pytest.mark.parametrize(
    ("voters", "wins"),
    [([2, 3, 4], False), ([4, 5, 6], False), ([2, 4], False), ([2, 4, 5], True), ([3, 5, 6], True)],
)
def test_6_elections_need_separate_majorities(voters: list[NodeId], wins: bool) -> None:
    """> Agreement (for elections and entry commitment) requires separate majorities from both the old and new
    configurations."""
    cluster = joint_cluster()
    host = cluster[1]
    host.node.campaign(transfer=True)
    host.turn()
    host.persist()
    assert [each.to for each in cluster.take(VoteRequest)] == [2, 3, 4, 5, 6]
    for voter in voters:
        host.receive(VoteResponse(voter, host.node.term, True, WALL))
    assert (host.node.role is Role.LEADER) == wins


@pytest.mark.parametrize(
    ("holders", "committed"),
    [([2, 3, 4], False), ([4, 5, 6], False), ([2, 4], False), ([2, 4, 5], True), ([3, 5, 6], True)],
)
def test_6_commitment_needs_separate_majorities(holders: list[NodeId], committed: bool) -> None:
    """The same sentence, for entry commitment. The leader has its own entry on disk."""
    cluster = joint_cluster()
    leader = cluster.elect_by(1, [2, 3, 4, 5])
    leader.persist()
    for holder in holders:
        leader.receive(AppendResponse(holder, leader.node.term, 3, 0, 0, 0))
    assert leader.node.commit_index == (3 if committed else 1)


def test_6_the_leader_ends_the_joint_configuration_once_it_is_committed() -> None:
    """> Once C-old,new has been committed, neither C-old nor C-new can make decisions without approval of the
    other [...] It is now safe for the leader to create a log entry describing C-new and replicate it to
    the cluster."""
    cluster = joint_cluster()
    leader = cluster.elect_by(4, [1, 2, 5, 6])
    leader.persist()
    for holder in (1, 5):
        leader.receive(AppendResponse(holder, leader.node.term, 3, 0, 0, 0))
        assert known(leader) == JOINT
    leader.receive(AppendResponse(2, leader.node.term, 3, 0, 0, 0))
    assert (known(leader).voters(), known(leader).settled) == ((4, 5, 6), True)
    assert leader.node.configurations.index == 4


def test_6_new_servers_join_without_a_vote_until_they_have_caught_up() -> None:
    """> Raft introduces an additional phase before the configuration change, in which the new servers join
    the cluster as non-voting members (the leader replicates log entries to them, but they are not
    considered for majorities)."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(*[b"x"] * 10)
    cluster.settle()
    cluster.spawn(4)
    cluster.cut.add((4, 1))  # It hears the leader, and nothing that it says arrives.
    change(leader, 1, 2, 3, 4)
    cluster.settle()
    assert known(leader).new_voters() == (1, 2, 3)
    assert leader.node.commit_index == leader.node.last_index
    cluster.heal()
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert known(leader).new_voters() == (1, 2, 3, 4)
    assert cluster[4].disk.log == leader.disk.log


def test_6_a_leader_that_is_not_part_of_the_new_configuration_steps_down() -> None:
    """> In this case, the leader steps down (returns to follower state) once it has committed the C-new log
    entry. [...] while it is committing C-new [...] it replicates log entries but does not count itself in
    majorities."""
    cluster = joint_cluster(JOINT_TO_TWO)
    leader = cluster.elect_by(1, [2, 3, 4, 5])
    leader.persist()
    for holder in (2, 4, 5):
        leader.receive(AppendResponse(holder, leader.node.term, 3, 0, 0, 0))
    leader.persist()
    assert known(leader).voters() == (4, 5)
    leader.receive(AppendResponse(4, leader.node.term, 4, 0, 0, 0))
    assert (leader.node.commit_index, leader.node.role) == (3, Role.LEADER)
    leader.receive(AppendResponse(5, leader.node.term, 4, 0, 0, 0))
    assert leader.node.commit_index == 4
    cluster.pass_ticks(2 * ELECTION_TICKS)
    assert leader.node.role is Role.FOLLOWER


def test_6_removed_servers_do_not_disrupt() -> None:
    """> If a server receives a RequestVote RPC within the minimum election timeout of hearing from a current
    leader, it does not update its term or grant its vote."""
    cluster = Cluster(3)
    term = cluster.elect(1).node.term
    voter = cluster[2]
    voter.receive(HeartbeatRequest(1, term, 1, 50, 0))
    voter.node.patience_ticks = voter.node.election_tick = 10**6  # It never loses patience itself.
    voter.tick(ELECTION_TICKS - 1)
    voter.receive(VoteRequest(9, term + 1, 99, term, transfer=False))
    assert (voter.node.term, voter.write) == (term, None)
    voter.tick()
    voter.receive(VoteRequest(9, term + 1, 99, term, transfer=False))
    assert (voter.node.term, voter.node.vote) == (term + 1, 9)


# 7 Log compaction


def cut_off(*, entries: int) -> tuple[Cluster, Host, Host]:
    """A leader that has discarded its log behind a follower that was away, which ends at 2."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose(*[b"x"] * entries)
    cluster.settle()
    leader.compact(leader.node.commit_index)
    cluster.settle()
    cluster.heal()
    return cluster, leader, cluster[3]


def test_7_the_last_included_index_and_term_support_the_consistency_check() -> None:
    """> These are preserved to support the AppendEntries consistency check for the first log entry following
    the snapshot, since that entry needs a previous log index and term."""
    cluster, leader, _ = cut_off(entries=3)
    assert (leader.node.log.base.index, leader.node.log.base.term) == (5, 2)
    leader.propose(b"y")
    (append,) = [each.message for each in cluster.take(AppendRequest, to=2)]
    assert isinstance(append, AppendRequest)
    assert (append.base_index, append.base_term) == (5, 2)
    leader.crash()
    leader.start()
    assert leader.node.log.matches(5, 2) and not leader.node.log.matches(5, 1)


def test_7_a_snapshot_includes_the_latest_configuration() -> None:
    """> To enable cluster membership changes (Section 6), the snapshot also includes the latest configuration
    in the log as of last included index."""
    cluster, leader, follower = cut_off(entries=1)
    cluster.isolate(3)
    change(leader, 1, 2, 3, learners=(4,))
    cluster.settle()
    leader.compact(leader.node.commit_index)
    follower.install(leader.snapshot())
    assert known(follower) == known(leader) != cluster.configuration


def test_7_a_snapshot_is_sent_when_the_next_entry_has_been_discarded() -> None:
    """> The leader must occasionally send snapshots to followers that lag behind. This happens when the
    leader has already discarded the next log entry that it needs to send to a follower."""
    cluster, leader, follower = cut_off(entries=3)
    assert leader.snapshots == []
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert leader.snapshots == [3]
    follower.install(leader.snapshot())
    leader.snapshot_ended(3)
    cluster.settle()
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert follower.node.last_index == leader.node.last_index


def test_7_a_snapshot_with_new_information_replaces_the_entire_log() -> None:
    """> Usually the snapshot will contain new information not already in the recipient's log. In this case,
    the follower discards its entire log; it is all superseded by the snapshot and may possibly have
    uncommitted entries that conflict with the snapshot."""
    cluster, leader, _ = cut_off(entries=3)
    follower = cluster.replace(3, cluster.disk_with([1] * 8))
    follower.install(leader.snapshot())
    follower.persist()
    assert (follower.node.log.first_index, follower.node.last_index) == (6, 5)
    assert follower.disk.log == []


def test_7_a_snapshot_of_a_prefix_keeps_what_follows_it() -> None:
    """> If instead the follower receives a snapshot that describes a prefix of its log (due to retransmission
    or by mistake), then log entries covered by the snapshot are deleted but entries following the snapshot
    are still valid and must be retained.

    The first half is left to the follower's own compaction: its own state is as good.
    """
    cluster, leader, _ = cut_off(entries=3)
    state = leader.snapshot()
    leader.propose(b"y")
    cluster.take(AppendResponse)
    cluster.settle()
    other = cluster[2]
    before = list(other.node.log.iterate(other.node.log.first_index))
    assert before[-1].index == 6
    other.install(state)
    cluster.settle()
    assert list(other.node.log.iterate(other.node.log.first_index)) == before
