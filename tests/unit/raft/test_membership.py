"""Changes of the membership: the traps, one test each or more (traps 2, 3 and 8; Raft paper, section 6).

The normal course of each kind of change is in the scripts, `tests/scripts/raft/membership_*.txt`.
"""

import pytest

from respraft.config import RaftConfig
from respraft.raft.configuration import Configuration, Member
from respraft.raft.membership import (
    MEMBERS_MAX,
    ChangeInProgress,
    ChangeRefused,
    IdUsed,
    LeaderNotReady,
    QuorumAtRisk,
    WrongMembers,
)
from respraft.raft.message import AppendRequest, PreVoteRequest, TimeoutNow, VoteRequest
from respraft.raft.progress import Progress
from respraft.raft.ready import NotLeader, Role
from tests.unit.raft.cluster import Cluster, Host, configuration_of

ELECTION_TICKS = RaftConfig().election_ticks


def change(host: Host, *voters: int, learners: tuple[int, ...] = ()) -> int | None:
    """Ask a leader for these members, in a turn of its own."""
    host.observe()
    index = host.node.change_membership(configuration_of(voters, learners).members)
    host.turn()
    return index


def refused(host: Host, kind: type[ChangeRefused], *voters: int, learners: tuple[int, ...] = ()) -> str:
    """The same, when it must be refused and change nothing; returns why it was."""
    before = (host.node.status(), host.node.configurations.known())
    with pytest.raises(kind) as refusal:
        change(host, *voters, learners=learners)
    assert (host.node.status(), host.node.configurations.known()) == before
    return str(refusal.value)


def known(host: Host) -> Configuration:
    configuration = host.node.configuration
    assert configuration is not None
    return configuration


def role(host: Host) -> Role:
    return host.node.role


def settled(host: Host) -> bool:
    return known(host).settled and host.node.configurations.index <= host.node.commit_index


# Trap 8: quorums by the latest appended configuration.


def test_trap_8_a_joint_configuration_counts_from_its_append_on() -> None:
    """With the old majority alone nothing is committed, nor with the new one alone."""
    cluster = Cluster(5)
    leader = cluster.elect(1)
    for node_id in (4, 5):
        cluster.isolate(node_id)
    change(leader, 1, 4, 5)
    cluster.settle()
    assert known(leader).old_voters == (1, 2, 3, 4, 5)
    assert leader.node.commit_index == 2, "three of five old voters have it, but one of three new ones"
    cluster.heal()
    cluster.isolate(2)
    cluster.isolate(3)
    cluster.pass_ticks(2 * RaftConfig().heartbeat_ticks)
    assert settled(leader), "1, 4 and 5 are a majority of either group"
    assert known(leader).voters() == (1, 4, 5)


def test_trap_8_a_candidate_needs_both_majorities() -> None:
    cluster = Cluster(5)
    leader = cluster.elect(1)
    change(leader, 1, 2, 3)
    for envelope in cluster.take(AppendRequest, to=2):
        cluster.deliver(envelope)
    cluster[2].persist()
    for node_id in (1, 3):
        cluster[node_id].crash()
    cluster[2].node.campaign(transfer=True)
    cluster[2].turn()
    cluster.settle()
    assert role(cluster[2]) is Role.CANDIDATE, "2, 4 and 5 are a majority of the old group only"
    cluster[3].start()
    cluster[2].node.campaign(transfer=True)
    cluster[2].turn()
    cluster.settle()
    assert role(cluster[2]) is Role.LEADER
    assert settled(cluster[2])


def test_trap_8_a_cut_configuration_counts_no_more() -> None:
    """The one before does, with the peers that it says (Raft paper, section 6)."""
    cluster = Cluster(3)
    old = cluster.elect(1)
    cluster.spawn(4)
    cluster.isolate(1)
    change(old, 1, 2, 3, 4)
    old.persist()
    assert known(old).planned_voters == (1, 2, 3, 4)
    cluster[2].node.campaign(transfer=True)
    cluster[2].turn()
    cluster.settle()
    cluster.heal()
    cluster.pass_ticks(10)
    assert known(old) == configuration_of([1, 2, 3])
    cluster[1].node.campaign(transfer=True)
    cluster[1].turn()
    cluster.settle()
    assert list(old.node.peers) == [2, 3]


def test_trap_8_two_disjoint_majorities_never_decide() -> None:
    """Raft paper, figure 10: from {1,2,3} to {1,4,5} neither 2 and 3 nor 4 and 5 may elect alone."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.spawn(4)
    cluster.spawn(5)
    change(leader, 1, 4, 5)
    cluster.settle()
    cluster.pass_ticks(settle=False)
    cluster.settle()
    assert settled(leader)
    joint = [entry for entry in leader.node.log.iterate(1) if entry.kind]
    assert [Configuration.decode(entry.payload).old_voters for entry in joint] == [(), (), (1, 2, 3), ()]


# Trap 2: none before an entry of the own term is committed.


def test_trap_2_a_new_leader_changes_nothing_before_its_no_op_is_committed() -> None:
    """Two leaders could otherwise each change one member, with majorities that don't overlap."""
    cluster = Cluster(3)
    leader = cluster[1]
    leader.node.campaign()
    while role(leader) is not Role.LEADER:
        leader.turn()
        cluster.step()
    refused(leader, LeaderNotReady, 1, 2)
    cluster.settle()
    assert change(leader, 1, 2) == 3


# Trap 3: removed servers do not disrupt.


def test_trap_3_who_is_removed_and_told_so_never_campaigns() -> None:
    cluster = Cluster(4)
    leader = cluster.elect(1)
    change(leader, 1, 2, 3)
    cluster.settle()
    assert known(cluster[4]).voters() == (1, 2, 3), "it is sent the configuration that is without it"
    assert cluster[4].node.commit_index == leader.node.commit_index, "and told that this is committed"
    cluster.isolate(4)
    cluster.pass_ticks(10 * ELECTION_TICKS)
    assert role(cluster[4]) is Role.FOLLOWER
    assert not cluster[4].node.may_campaign()
    assert list(leader.node.peers) == [2, 3]


def test_trap_3_who_was_removed_while_cut_off_disturbs_nobody_when_it_comes_back() -> None:
    cluster = Cluster(4)
    leader = cluster.elect(1)
    cluster.isolate(4)
    cluster.pass_ticks(ELECTION_TICKS)
    change(leader, 1, 2, 3)
    cluster.settle()
    cluster.pass_ticks(2 * ELECTION_TICKS)
    assert list(leader.node.peers) == [2, 3], "a dead one is not sent the log for ever"
    cluster.heal()
    term = leader.node.term
    cluster.pass_ticks(10 * ELECTION_TICKS)
    assert (role(leader), leader.node.term) == (Role.LEADER, term)
    assert role(cluster[4]) in (Role.PRE_CANDIDATE, Role.FOLLOWER)
    cluster[4].node.retire()
    cluster.mail.clear()
    cluster[4].tick(5 * ELECTION_TICKS)
    assert not cluster.take(PreVoteRequest) and not cluster.take(VoteRequest)


# The leader itself goes.


def test_a_leader_that_leaves_leads_until_it_is_committed_and_does_not_count_itself() -> None:
    """Raft paper, section 6: it manages a cluster that does not include itself."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(leader, 2, 3)
    while not known(leader).settled:
        assert role(leader) is Role.LEADER
        cluster.step()
    cluster.isolate(3)
    cluster.settle()
    assert role(leader) is Role.LEADER
    assert leader.node.commit_index == leader.node.last_index - 1, "its own disk and that of 2 are one of two"
    cluster.heal()
    cluster.pass_ticks(2 * RaftConfig().heartbeat_ticks)
    assert role(leader) is Role.FOLLOWER
    successor = cluster.leader()
    assert successor is not None and successor.id == 2, "it has handed over without any time passing"
    assert leader.node.commit_index == 4, "and hears nothing of the new term"
    cluster.pass_ticks(4 * ELECTION_TICKS)
    assert role(leader) is Role.FOLLOWER


def test_a_leader_that_leaves_steps_down_also_when_nobody_takes_over() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(leader, 2, 3)
    while not known(leader).settled:
        cluster.step()
    for _ in range(2 * ELECTION_TICKS):
        cluster.take(TimeoutNow)
        cluster.pass_ticks(settle=False)
        while cluster.take(TimeoutNow) or cluster.step():
            pass
    assert role(leader) is Role.FOLLOWER
    cluster.pass_ticks(4 * ELECTION_TICKS)
    assert cluster.leader() is not None


def test_a_leader_may_become_a_learner() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(leader, 2, 3, learners=(1,))
    cluster.pass_ticks()
    assert role(leader) is Role.FOLLOWER
    cluster.pass_ticks(4 * ELECTION_TICKS)
    successor = cluster.leader()
    assert successor is not None and successor.id in (2, 3)
    assert leader.node.leader == successor.id
    assert known(leader).removed_ids == ()


def test_reads_that_wait_at_a_leader_that_leaves_are_refused() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(leader, 2, 3)
    while not known(leader).settled:
        cluster.step()
    leader.node.read_index("late")
    cluster.pass_ticks(2 * ELECTION_TICKS)
    assert role(leader) is Role.FOLLOWER
    assert leader.reads_refused == ["late"] or "late" in leader.reads


# One at a time, and what else is refused.


def test_one_change_at_a_time() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(leader, 1, 2)
    refused(leader, ChangeInProgress, 1, 3)
    while not known(leader).settled:
        refused(leader, ChangeInProgress, 1, 3)
        cluster.step()
    refused(leader, ChangeInProgress, 1)  # Appended, and not committed.
    cluster.settle()
    assert change(leader, 1) is not None


def test_what_is_there_already_is_no_change() -> None:
    leader = Cluster(3).elect(1)
    last_index = leader.node.last_index
    assert change(leader, 1, 2, 3) is None
    assert leader.node.last_index == last_index


def test_only_a_leader_changes_anything() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    with pytest.raises(NotLeader):
        change(cluster[2], 1, 2)


def test_ids_are_never_used_again_and_belong_to_one_directory() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    other = Member(3, "", "", 99, True)
    with pytest.raises(IdUsed, match="3 is another node's"):
        leader.node.change_membership([*configuration_of([1, 2]).members, other])
    change(leader, 1, 2)
    cluster.settle()
    assert "3 was a node that was removed" in refused(leader, IdUsed, 1, 2, learners=(3,))
    with pytest.raises(IdUsed):
        leader.node.change_membership([*configuration_of([1, 2]).members, other])


def test_a_change_without_a_living_majority_is_refused() -> None:
    cluster = Cluster(4)
    leader = cluster.elect(1)
    cluster.isolate(4)
    cluster.pass_ticks(2 * ELECTION_TICKS)
    assert "not: 4" in refused(leader, QuorumAtRisk, 1, 4)
    assert change(leader, 1, 2, 3) is not None, "to remove the dead one is what helps"


def test_a_member_whose_link_has_ended_does_not_count_as_alive() -> None:
    """It may be missed for a while before it is missed for an election timeout."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.pass_ticks(12)
    leader.node.peer_unreachable(3)
    refused(leader, QuorumAtRisk, 1, 3)
    cluster.pass_ticks(12)
    assert change(leader, 1, 3) is not None, "it was heard again"


def test_lists_that_contradict_themselves_are_refused() -> None:
    leader = Cluster(3).elect(1)
    refused(leader, WrongMembers, learners=(1, 2, 3))
    refused(leader, WrongMembers, 1, 2, 3, learners=tuple(range(4, MEMBERS_MAX + 2)))
    same = [Member(each, "", "host:1", each, True) for each in (1, 2)]
    with pytest.raises(WrongMembers, match="client address host:1"):
        leader.node.change_membership(same)
    with pytest.raises(WrongMembers, match="node id 1"):
        leader.node.change_membership([*configuration_of([1]).members] * 2)


# Learners are promoted when they keep up, and only then.


def test_a_learner_that_is_dead_is_never_promoted() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(leader, 1, 2, 3, 4)
    cluster.settle()
    cluster.pass_ticks(20 * ELECTION_TICKS)
    assert known(leader).voters() == (1, 2, 3)
    assert not leader.node.has_caught_up(4)
    assert change(leader, 1, 2, 3) is not None, "the plan can be withdrawn"
    cluster.settle()
    assert known(leader).removed_ids == (4,)


def test_a_learner_that_cannot_keep_up_is_never_promoted() -> None:
    """Each round takes it longer than an election timeout, though it is never silent."""
    cluster = Cluster(1)
    leader = cluster.elect(1)
    cluster.spawn(2)
    change(leader, 1, 2)
    for number in range(20 * ELECTION_TICKS):
        cluster.time_ms += 10
        leader.tick()
        if number % 5 == 0:
            leader.propose(b"%d" % number)
        if leader.write is not None:
            leader.persist()
        slow = number % (ELECTION_TICKS + 10) == 0  # Its disk takes that long for what it is sent.
        for envelope in list(cluster.mail):
            if slow or not isinstance(envelope.message, AppendRequest):
                cluster.mail = [each for each in cluster.mail if each is not envelope]
                cluster.deliver(envelope)
        if slow and cluster[2].write is not None:
            cluster[2].persist()
        assert known(leader).planned_voters == (1, 2), f"promoted after {number} ticks"
    cluster.settle()
    cluster.pass_ticks(2)
    assert settled(leader), "it keeps up now"


def test_rounds_of_catching_up() -> None:
    """Raft dissertation, section 4.2.1."""
    peer = Progress(5, tick=100)
    keeps_up = []
    for match_index, last_index, tick in (
        (4, 9, 110),  # The first round is not over.
        (5, 9, 151),  # It took too long.
        (9, 20, 201),  # The second did not,
        (9, 20, 251),  # nor has the third, so far.
        (9, 20, 252),  # Now it has.
    ):
        peer.match_index = match_index
        peer.measure_round(last_index, tick, 50)
        keeps_up.append(peer.keeps_up)
    assert keeps_up == [False, False, True, True, False]


def test_a_learner_that_has_caught_up_is_promoted_in_one_step() -> None:
    cluster = Cluster(3, learners=[4])
    leader = cluster.elect(1)
    cluster.pass_ticks(20)
    assert leader.node.has_caught_up(4)
    change(leader, 1, 2, 3, 4)
    assert known(leader).old_voters == (1, 2, 3)


# Crashes in each phase.


@pytest.mark.parametrize("steps", range(60))
def test_a_change_is_completed_or_undone_wherever_the_leader_dies(steps: int) -> None:
    """From {1,2,3} to {2,4}; the leader stops for good after so many deliveries and writes."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for node_id in (4, 5):
        cluster.spawn(node_id)
    change(leader, 2, 4, 5)
    for number in range(steps):
        if number % 4 == 3:
            cluster.time_ms += 10
            leader.tick()
        cluster.step()
    leader.crash()
    cluster.pass_ticks(10 * ELECTION_TICKS)
    successor = cluster.leader()
    assert successor is not None, "the others elect"
    assert known(successor).settled
    assert known(successor).voters() in ((2, 4, 5), (1, 2, 3))
    successor.propose(b"after")
    cluster.settle()
    assert successor.node.commit_index == successor.node.last_index


def test_the_clock_of_a_removed_node_moves_nothing_any_more() -> None:
    """A wrong clock is a reason to remove a node; then neither the log's time nor an alarm may go by it."""
    cluster = Cluster(3)
    cluster[3].wall_skew_ms = 60_000
    leader = cluster.elect(1)
    cluster.pass_ticks(RaftConfig().heartbeat_ticks)
    assert leader.node.status().clock_skew_ms == 60_000
    change(leader, 1, 2)
    cluster.settle()
    assert settled(leader)
    assert leader.node.status().clock_skew_ms == 0


def test_a_joint_configuration_that_came_with_a_state_is_carried_on() -> None:
    """Whoever leads next knows it from the state alone: its entry is gone on every node."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for node_id in (4, 5):
        cluster.spawn(node_id)
    change(leader, 1, 2, 3, learners=(4, 5))
    cluster.settle()
    cluster.pass_ticks(2)
    cluster.isolate(5)
    change(leader, 1, 4, 5)
    while not known(leader).settled:  # It is, in its log alone, as soon as the joint one is committed.
        assert cluster.step()
    cluster.mail.clear()
    state = cluster[1].snapshot()
    leader.crash()
    cluster.heal()
    cluster[5].install(state)
    cluster.settle()
    assert (known(cluster[5]).old_voters, cluster[5].node.log.last_index) == ((1, 2, 3), state.point.index)
    cluster[5].node.campaign(transfer=True)
    cluster[5].turn()
    cluster.settle()
    assert role(cluster[5]) is Role.LEADER
    assert settled(cluster[5])
    assert known(cluster[5]).voters() == (1, 4, 5)
