"""What a state from another node says of this node's session, when its log never did."""

from respraft.raft.message import AppendRequest
from respraft.replica.message import ForwardRequest
from tests.unit.replica.cluster import Cluster, Node


def cut_all(cluster: Cluster, leader: Node) -> None:
    """Cut a leader's log off, also what others still need."""
    leader.machine.flush()
    leader.core.compact_to(leader.core.status().applied_index)
    cluster.settle()


def catch_up(cluster: Cluster) -> None:
    """Let the network work again, for batches only behind the states that are sent."""
    cluster.lose = lambda sent: isinstance(sent.message, ForwardRequest)
    for _ in range(20):
        cluster.advance(50)
        cluster.catch_up()
    cluster.lose = lambda sent: False
    for _ in range(20):
        cluster.advance(50)
        cluster.catch_up()


def test_a_session_whose_open_came_with_the_state_is_known() -> None:
    """The leader appends no second OPEN of the same nonce: who missed the first would wait for ever."""
    cluster = Cluster()
    leader, origin = cluster.leader(), cluster.followers()[0]
    cluster.crash(origin.id)
    cluster.lose = lambda sent: sent.to == origin.id and isinstance(sent.message, AppendRequest)
    cluster.restart(origin.id)
    cluster.submit(origin.id, "early", ["INCR n"])
    cluster.advance(300)
    session = leader.replica._applier.sessions.of(origin.id)
    assert session is not None and session.nonce == origin.replica.identity.nonce
    assert origin.replica.status().session == 0
    cut_all(cluster, leader)
    catch_up(cluster)
    assert origin.replica.counters.snapshots_installed == 1
    assert origin.replica.status().session == session.number
    assert origin.replies("early") == [1]


def test_a_batch_of_a_leader_that_was_deposed_and_is_sent_a_state_counts_once() -> None:
    """It is in that leader's own log, which the state replaces: so it is handed to the next one."""
    cluster = Cluster()
    old, *others = cluster.leader(), *cluster.followers()
    cluster.lose = lambda sent: old.id in (sent.to, sent.sender)
    cluster.submit(old.id, "late", ["INCR n"])
    cluster.settle()
    assert old.core.last_index > old.core.commit_index
    cluster.until(lambda: any(node.core.leader in (others[0].id, others[1].id) for node in others))
    new = next(node for node in others if node.core.leader == node.id)
    cluster.until(lambda: new.core.commit_index == new.core.last_index)
    assert cluster.ask(new.id, "INCR n") == [1]
    cut_all(cluster, new)
    catch_up(cluster)
    assert old.replica.counters.snapshots_installed == 1
    assert old.replies("late") == [2]
    assert cluster.ask(old.id, "GET n") == [b"2"]
    assert len({node.machine.digest() for node in cluster.live()}) == 1
