"""A write that was handed to nobody yet can be taken back, and then never runs; later it cannot."""

from respraft.replica.batch import Refusal
from tests.unit.replica.cluster import Cluster


def without_a_leader() -> Cluster:
    cluster = Cluster()
    for node_id in (1, 2):
        cluster.crash(node_id)
    cluster.until(lambda: cluster.nodes[3].core.leader == 0)
    return cluster


def test_a_parked_write_that_is_withdrawn_never_runs_and_gets_no_answer() -> None:
    cluster = without_a_leader()
    node = cluster.nodes[3]
    for client in ("gives up", "waits"):
        assert cluster.submit(3, client, ["INCR k"]) is None
        cluster.advance(100)  # Each in a batch of its own.
    before = node.replica.status().in_flight_bytes

    assert node.replica.withdraw("gives up", 100)
    assert not node.replica.withdraw("gives up", 100)

    assert before - node.replica.status().in_flight_bytes == 100
    cluster.restart(1)
    cluster.until(lambda: bool(node.replies("waits")))
    assert node.replies("waits") == [1]
    assert node.replies("gives up") == []


def test_of_several_writes_in_a_batch_the_right_one_is_withdrawn() -> None:
    cluster = without_a_leader()
    for client in ("a", "b", "c"):
        assert cluster.submit(3, client, [f"APPEND k {client}"]) is None
    assert cluster.nodes[3].replica.withdraw("b", 100)
    cluster.restart(1)
    cluster.until(lambda: cluster.leader_id() != 0)
    assert cluster.ask(3, "GET k") == [b"ac"]


def test_a_write_that_was_handed_over_stays() -> None:
    cluster = Cluster()
    node = cluster.followers()[0]
    assert cluster.submit(node.id, "client", ["INCR k"]) is None
    cluster.turn(node)
    assert not node.replica.withdraw("client", 100)
    cluster.settle()
    assert node.replies("client") == [1]


def test_a_batch_with_reads_is_left_alone() -> None:
    cluster = without_a_leader()
    assert cluster.submit(3, "writer", ["INCR k"]) is None
    assert cluster.submit(3, "both", ["INCR k", "GET k"]) is None
    assert not cluster.nodes[3].replica.withdraw("writer", 100)
    cluster.advance(4000)
    assert cluster.nodes[3].replies("writer") == [Refusal.NO_LEADER]
