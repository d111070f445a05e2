"""States and changes of the membership at once: what a state says of who belongs, and what it does not."""

from respraft.replica.admin import ChangeDone
from respraft.replica.changes import AddMember, RemoveMember
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Node
from tests.unit.replica.test_membership import applied, change, linked, member


def cut_all(cluster: Cluster, leader: Node) -> None:
    """Cut a leader's log off, also what others still need."""
    leader.machine.flush()
    leader.core.compact_to(leader.core.status().applied_index)
    cluster.settle()


def test_a_new_node_may_be_sent_a_state_from_before_it_was_added() -> None:
    """Such a state knows nothing of it, which is no removal; the log behind the state makes it a member."""
    cluster = Cluster()
    leader = cluster.leader()
    cluster.ask(leader.id, "SET k old")
    cut_all(cluster, leader)
    picture = cluster.take_snapshot(leader, 4)
    newcomer = cluster.newcomer(4)
    assert change(cluster, leader.id, AddMember(member(4))) == ChangeDone(4, "", "")
    cluster.until(lambda: linked(cluster) and bool(leader.wants))
    leader.wants.clear()
    assert cluster.install(newcomer, picture)
    cluster.settle()
    leader.replica.snapshots.ended(4)
    cluster.until(lambda: linked(cluster) and applied(newcomer).is_voter(4))
    assert not newcomer.replica.status().removed
    cluster.until(lambda: newcomer.replica.status().session != 0)
    assert cluster.ask(4, "GET k", "SET k new", "GET k") == [b"old", OK, b"new"]


def test_a_node_that_was_removed_while_it_was_away_learns_it_from_a_state() -> None:
    cluster = Cluster(4)
    leader, away = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: away.id in (sent.to, sent.sender)
    assert change(cluster, leader.id, RemoveMember(away.id)) == ChangeDone(0, "", "")
    cut_all(cluster, leader)
    picture = cluster.take_snapshot(leader, away.id)
    cluster.lose = lambda sent: False
    assert cluster.install(away, picture)
    cluster.settle()
    assert away.replica.status().removed
    term = leader.core.term
    cluster.advance(5000)
    assert (leader.core.term, cluster.nodes[leader.id].core.leader) == (term, leader.id)


def test_the_session_of_a_removed_node_does_not_come_back_with_a_state() -> None:
    cluster = Cluster(4)
    leader, behind, removed = cluster.leader(), cluster.followers()[0], cluster.followers()[1]
    cluster.ask(removed.id, "SET k v")
    cluster.lose = lambda sent: behind.id in (sent.to, sent.sender)
    assert change(cluster, leader.id, RemoveMember(removed.id)) == ChangeDone(0, "", "")
    cut_all(cluster, leader)
    picture = cluster.take_snapshot(leader, behind.id)
    cluster.lose = lambda sent: False
    assert behind.replica._applier.sessions.of(removed.id) is not None
    assert cluster.install(behind, picture)
    cluster.settle()
    assert behind.replica._applier.sessions.of(removed.id) is None
    assert applied(behind) == applied(leader)
