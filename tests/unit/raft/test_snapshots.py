"""Logs without a head, and states that take the place of a log (Raft paper, section 7).

The scripts `snapshot_*.txt` and `compact_*.txt` show whole exchanges; here is what must hold in each of them.
"""

import pytest

from respraft.config import RaftConfig
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.message import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    InstallSnapshot,
    SnapshotPoint,
)
from respraft.raft.ready import Role
from tests.unit.raft.cluster import Cluster, Disk, Host, configuration_of, entries_of


def log_of(*terms: int, applied: int, cache: int = 1 << 20) -> RaftLog:
    """A log that was opened with these terms on disk, applied up to `applied`."""
    disk = Disk(entries_of(terms))
    return RaftLog(disk, applied_index=applied, commit_index=applied, cache_bytes_max=cache)


def state_at(index: int, term: int, *, voters: int = 3) -> InstallSnapshot:
    """A state as of such an entry, from the leader of its term."""
    return InstallSnapshot(
        term, SnapshotPoint(index, term, 0), configuration_of(range(1, voters + 1)).encode(), 0, None
    )


def cut_cluster() -> tuple[Cluster, Host, Host]:
    """A leader whose log begins behind entry 5, and a follower that ends at 2 and was cut off."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose(b"a", b"b", b"c")
    cluster.settle()
    leader.compact(5)
    cluster.settle()
    cluster.heal()
    return cluster, leader, cluster[3]


# The log


@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_a_cut_log_knows_its_base_and_what_lies_behind_it(cache: int) -> None:
    log = log_of(1, 1, 2, 3, 3, applied=4, cache=cache)
    log.compact_to(3)
    log.check_invariants()
    assert (log.base, log.first_index, log.last_index) == (SnapshotPoint(3, 2, 0), 4, 5)
    assert log.matches(3, 2) and not log.matches(3, 1)
    assert [entry.index for entry in log.iterate(4)] == [4, 5]
    with pytest.raises(AssertionError, match="gone"):
        log.term(2)


def test_only_what_is_applied_can_be_cut_off() -> None:
    log = log_of(1, 1, 1, applied=2)
    with pytest.raises(AssertionError, match="can't be cut off"):
        log.compact_to(3)


def test_a_log_can_be_cut_off_whole_and_grows_behind_its_base() -> None:
    log = log_of(1, 1, applied=2)
    log.compact_to(2)
    assert (log.first_index, log.last_index, log.last_term) == (3, 2, 1)
    log.splice(entries_of([2], first=3))
    log.check_invariants()
    log.splice(entries_of([3], first=3))  # A conflict right behind the base.
    log.check_invariants()
    assert log.term(2) == 1 and log.term(3) == 3


def test_terms_are_looked_for_from_the_base_on() -> None:
    log = log_of(1, 2, 4, 4, 6, applied=5)
    log.compact_to(3)
    assert log.last_of_term_at_most(5, 5) == 4
    assert log.last_of_term_at_most(5, 4) == 4
    assert log.last_of_term_at_most(5, 3) == 2  # Not behind the base: somewhere among what is gone.
    assert log.last_of_term_at_most(1, 1) == 1


def test_a_state_below_the_log_is_refused_at_the_start() -> None:
    disk = Disk(entries_of([1, 1, 1]))
    log = RaftLog(disk, applied_index=3, commit_index=3, cache_bytes_max=0)
    log.compact_to(2)
    disk._base = log.base
    del disk.log[:2]
    with pytest.raises(AssertionError, match="begins behind"):
        RaftLog(disk, applied_index=1, commit_index=3, cache_bytes_max=0)


def test_trap_14_entries_of_a_write_in_flight_are_not_durable_behind_a_state() -> None:
    log = log_of(1, applied=1)
    log.splice(entries_of([1, 1, 1], first=2))
    log.take_unstable()
    log.restore(SnapshotPoint(2, 2, 0))
    log.check_invariants()
    log.splice(entries_of([2, 2], first=3))
    log.write_done()  # The one that was in flight: it held other entries.
    log.check_invariants()
    assert log.stable_index == 0
    log.commit_to(4)
    assert not log.has_committed()
    assert log.take_base() == SnapshotPoint(2, 2, 0)
    log.write_done()
    log.check_invariants()
    assert log.stable_index == 2
    assert [entry.index for entry in log.take_unstable()] == [3, 4]
    log.write_done()
    assert [entry.index for entry in log.take_committed(1 << 20)] == [3, 4]


# A leader whose log was cut


def test_a_peer_that_needs_what_is_gone_gets_heartbeats_and_nothing_else() -> None:
    cluster, leader, follower = cut_cluster()
    cluster.pass_ticks(20)
    assert leader.snapshots == [3]
    leader.propose(b"d")
    for _ in range(3):
        cluster.pass_ticks(10, settle=False)
        assert {type(each.message) for each in cluster.mail if each.to == 3} <= {HeartbeatRequest}
        cluster.settle()
    assert leader.snapshots == [3], "asked for once"
    assert leader.node.role is Role.LEADER and follower.node.leader == 1


def test_a_link_that_ends_does_not_end_a_transfer() -> None:
    cluster, leader, _ = cut_cluster()
    cluster.pass_ticks(20)
    leader.node.peer_unreachable(3)
    cluster.pass_ticks(20)
    assert leader.snapshots == [3]
    assert leader.node.status().peers[1].snapshot


def test_who_catches_up_by_other_means_needs_no_transfer_to_end() -> None:
    cluster, leader, follower = cut_cluster()
    cluster.pass_ticks(20)
    follower.install(leader.snapshot())
    cluster.pass_ticks(20)
    assert follower.node.commit_index == 5
    leader.snapshot_ended(3)  # And its end changes nothing any more.
    assert not leader.node.status().peers[1].probing


# A follower that gets a state


def test_trap_7_a_state_at_or_below_the_commit_index_rolls_nothing_back() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"a")
    cluster.settle()
    old = leader.snapshot()
    leader.propose(b"b", b"c")
    cluster.settle()
    follower = cluster[2]
    before = follower.node.status()
    for stale in (old, leader.snapshot()):
        follower.install(stale)
        cluster.settle()
    assert follower.node.status() == before


def test_trap_7_with_a_state_comes_the_term_of_its_sender() -> None:
    """Else its receiver goes on following an older leader, whose log lacks what the state holds.

    Nodes 1 and 5 are cut off from the others, in term 2. In term 3 the others commit entries of term 1 that
    node 1 never had, and node 5, which has forgotten term 3 in a crash, is sent the state as of entry 5.
    """
    cluster = Cluster(5)
    cluster.replace(2, cluster.disk_with([1, 1, 1, 1, 1], term=2))
    old = cluster.elect_by(1, [3, 5])
    cluster.cut = {(a, b) for a in (1, 5) for b in (2, 3, 4)} | {(b, a) for a in (1, 5) for b in (2, 3, 4)}
    cluster.mail = [each for each in cluster.mail if each.to == 5]
    cluster.settle()
    cluster.replace(3, cluster.disk_with([1], term=2, vote=1))
    new = cluster.elect_by(2, [3, 4])
    cluster.settle()
    assert (new.node.term, new.node.commit_index, old.node.role) == (3, 6, Role.LEADER)

    receiver = cluster[5]
    receiver.install(InstallSnapshot(3, SnapshotPoint(5, 1, 0), cluster.configuration.encode(), 0, None))
    assert (receiver.node.term, receiver.node.leader) == (3, 0)
    old.tick(RaftConfig().heartbeat_ticks)
    old.propose(b"x")
    cluster.settle()
    assert old.node.role is Role.FOLLOWER
    assert [entry.term for entry in receiver.node.log.iterate(6)] == []


def test_a_leader_of_an_older_term_goes_when_a_state_comes() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.install(state_at(9, 4))
    assert (leader.node.role, leader.node.term, leader.node.log.base.index) == (Role.FOLLOWER, 4, 9)


def test_trap_7_a_state_carries_its_configuration() -> None:
    cluster = Cluster(3)
    follower = cluster[2]
    follower.turn()
    follower.install(state_at(7, 3, voters=5))
    assert follower.node.configuration == configuration_of(range(1, 6))
    follower.persist()
    follower.crash()
    follower.start()
    assert follower.node.configuration == configuration_of(range(1, 6))
    assert follower.node.configuration == Configuration.decode(state_at(7, 3, voters=5).configuration)


def test_what_was_acknowledged_behind_the_point_of_a_state_stays() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    follower = cluster[2]
    cluster.isolate(3)
    leader.propose(b"a", b"b")
    cluster.take(AppendResponse)
    follower.receive(cluster.take(AppendRequest, to=2)[0].message)
    follower.persist()
    assert cluster.take(AppendResponse, sender=2), "acknowledged, and not known to be committed"
    assert (follower.node.commit_index, follower.node.last_index) == (2, 4)
    follower.install(state_at(3, 2))
    assert (follower.node.commit_index, follower.node.last_index) == (3, 4)
    assert follower.write is None, "the log has the point's entry, so nothing is installed"


def test_trap_14_an_append_during_an_install_is_not_promised_before_it_is_durable() -> None:
    cluster, leader, follower = cut_cluster()
    follower.install(leader.snapshot())
    assert follower.write is not None and follower.write.snapshot is not None
    append = AppendRequest(1, 2, 5, 2, 6, entries_of([2], first=6))
    follower.receive(append)
    assert not cluster.take(AppendResponse, sender=3)
    assert follower.node.last_index == 6 and not follower.applied[2:]
    follower.persist()
    answers = [each.message for each in cluster.take(AppendResponse, sender=3)]
    assert answers == [AppendResponse(3, 2, 5, 0, 0, 0)], "the state itself was promised by its own write"
    assert 6 not in [entry.index for entry in follower.applied]
    follower.persist()
    assert cluster.take(AppendResponse, sender=3)[0].message == AppendResponse(3, 2, 6, 0, 0, 0)
    assert follower.applied[-1].index == 6


@pytest.mark.parametrize("written", [False, True])
def test_trap_13_a_crash_during_an_install_leaves_the_old_log_or_the_new_state(written: bool) -> None:
    cluster, leader, follower = cut_cluster()
    follower.install(leader.snapshot())
    follower.crash(write_survives=written)
    follower.start()
    follower.turn()
    status = follower.node.status()
    assert (status.first_index, status.last_index) == ((6, 5) if written else (1, 2))
    cluster.pass_ticks(20)
    if not written:
        follower.install(leader.snapshot())
        leader.snapshot_ended(3)
    leader.propose(b"d")
    cluster.pass_ticks(20)
    assert follower.node.commit_index == leader.node.commit_index == 6


@pytest.mark.parametrize("written", [False, True])
def test_trap_13_a_crash_during_a_cut_leaves_the_head_or_takes_it(written: bool) -> None:
    cluster = Cluster(1)
    leader = cluster.elect(1)
    leader.propose(b"a", b"b")
    cluster.settle()
    leader.compact(3)
    leader.crash(write_survives=written)
    leader.start()
    leader.turn()
    status = leader.node.status()
    assert (status.first_index, status.last_index) == ((4, 4) if written else (1, 4))
    assert not leader.applied, "the state has all of it"
    cluster.elect(1)
    leader.propose(b"c")
    cluster.settle()
    assert leader.applied[-1].payload == b"c"


def test_a_campaign_does_not_outlive_the_log_that_it_rests_on() -> None:
    cluster = Cluster(3)
    node = cluster[2]
    node.turn()
    node.node.campaign(transfer=True)
    node.turn()
    assert node.node.role is Role.CANDIDATE
    node.install(state_at(9, 1))
    assert node.node.status().role == Role.FOLLOWER
    node.persist()
    assert node.write is not None and node.write.snapshot is not None
    node.persist()
    assert node.node.log.stable_index == 9


def test_a_leader_takes_no_state() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.install(state_at(9, 1))
    assert leader.node.role is Role.LEADER and leader.node.last_index == 2


def test_a_state_that_arrives_during_another_ones_install_follows_it() -> None:
    cluster = Cluster(3)
    node = cluster[2]
    node.turn()
    node.install(state_at(5, 1))
    node.install(state_at(9, 1))
    node.persist()
    assert node.node.log.stable_index == 0 and node.node.log.restoring
    node.persist()
    assert (node.node.log.stable_index, node.disk.base().index) == (9, 9)
