"""When a node says that clients may be sent to it."""

from respraft.config import TICK_MS
from respraft.raft.ready import Role
from respraft.server.status import readiness
from tests.unit.replica.cluster import Cluster


def test_a_node_is_ready_once_it_knows_what_is_committed_in_its_term() -> None:
    """After a restart the log may hold far more than what was known to be committed before."""
    cluster = Cluster(1)
    cluster.until(lambda: cluster.leader_id() == 1)
    cluster.ask(1, "SET k v")
    cluster.crash(1)
    node = cluster.nodes[1]
    node.disk_held = True
    cluster.restart(1)
    while node.core.role is not Role.LEADER:
        cluster.now_ms += TICK_MS
        cluster.observe(node)
        node.replica.tick()
        cluster.turn(node)
        cluster.finish_write(node)
    assert readiness(node.replica) == (False, "not told yet how much is committed in term 3")
    node.disk_held = False
    cluster.finish_write(node)
    cluster.settle()
    assert readiness(node.replica) == (True, "ready: node 1 is leader in term 3")
