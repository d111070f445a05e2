"""A tick in which leadership is lost: the rest of it must not act on what was true before it."""

from respraft.config import TICK_MS
from respraft.raft.message import NOBODY
from respraft.raft.ready import Role
from tests.unit.replica.cluster import Cluster, Node


def late_tick(cluster: Cluster, node: Node) -> None:
    """One tick after a pause, so that everything that depends on time is due in it."""
    cluster.now_ms += 20_000
    cluster.observe(node)
    node.replica.tick()


def test_a_leader_that_steps_down_appends_no_time() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    cluster.ask(leader.id, "SET k v PX 10000")
    cluster.lose = lambda sent: True
    while any(peer.heard_ticks_ago + 1 < leader.core.election_ticks for peer in leader.core.status().peers):
        cluster.advance(TICK_MS)
    last_index = leader.core.last_index
    late_tick(cluster, leader)
    assert leader.core.role is not Role.LEADER
    assert leader.core.last_index == last_index


def test_a_question_is_not_sent_to_nobody() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.lose = lambda sent: True
    cluster.submit(follower.id, "client", ["SET k v"])
    while follower.core.election_tick - follower.core.ticks > 1:
        cluster.advance(TICK_MS)
    assert follower.core.leader != NOBODY
    late_tick(cluster, follower)
    assert follower.core.leader == NOBODY
    assert NOBODY not in [to for to, _ in follower.replica.take_output().messages]
