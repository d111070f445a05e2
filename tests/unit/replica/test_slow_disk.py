"""A leader whose disk hangs leads on, since the others commit what it sends: its memory stays bounded."""

from respraft.config import RaftConfig
from tests.unit.replica.cluster import Cluster, Node

KIB = 1024
LIMIT = 256 * KIB


def held(node: Node) -> int:
    return node.core.log.unwritten_bytes


def test_what_waits_for_a_leaders_disk_is_bounded_and_goes_on_when_it_is_written() -> None:
    cluster = Cluster(raft=RaftConfig(entry_cache_bytes=0, unwritten_bytes_max=LIMIT, pack_bytes_min=1 << 20))
    leader, origin = cluster.leader(), cluster.followers()[0]
    term = leader.core.term
    leader.disk_held = True
    for number in range(100):
        cluster.submit(origin.id, number, [f"APPEND k{number % 7} {'x' * 16 * KIB}"])
        cluster.submit(leader.id, -number, [f"APPEND own {'x' * KIB}"])
        cluster.advance(20)
        assert held(leader) <= LIMIT + 32 * KIB
    assert held(leader) > LIMIT, "it was the limit that held it up"
    assert (leader.core.term, cluster.leader_id()) == (term, leader.id)

    leader.disk_held = False
    cluster.finish_write(leader)
    cluster.until(lambda: all(origin.replies(number) for number in range(100)))
    assert [origin.replies(number) for number in range(100)] == [
        [(number // 7 + 1) * 16 * KIB] for number in range(100)
    ]
    cluster.until(lambda: leader.replica.status().outstanding == 0)
    (own,) = cluster.ask(origin.id, "GET own")
    assert isinstance(own, bytes) and len(own) == 100 * KIB


def test_a_refusal_for_want_of_room_is_no_flood() -> None:
    """The origin offers again once, and then after an election timeout without progress."""
    cluster = Cluster(raft=RaftConfig(entry_cache_bytes=0, unwritten_bytes_max=LIMIT, pack_bytes_min=1 << 20))
    leader, origin = cluster.leader(), cluster.followers()[0]
    leader.disk_held = True
    for number in range(30):
        cluster.submit(origin.id, number, [f"APPEND k {'x' * 16 * KIB}"])
        cluster.advance(20)
    refused = origin.replica.counters.forwards_refused
    cluster.advance(1000)
    assert origin.replica.counters.forwards_refused - refused <= 8
