"""Stale reads: from what is applied here, if that is known to be fresh enough."""

import pytest

from respraft.raft.message import ReadIndexRequest
from respraft.replica.batch import Refusal
from tests.unit.replica.cluster import Cluster, Node

MAX_STALE_MS = 5_000


def ask_stale(cluster: Cluster, node: Node, line: str, *, settle: bool = True) -> object:
    client = object()
    assert node.replica.submit_stale_reads(client, [line.encode().split()], 0, 10) is None
    if settle:
        cluster.settle()
    return client


def fresh_cluster() -> tuple[Cluster, Node]:
    """A cluster, and a follower that has just passed a barrier."""
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.ask(follower.id, "SET k old")
    assert cluster.ask(follower.id, "GET k") == [b"old"]
    return cluster, follower


def cut_off(cluster: Cluster, node: Node) -> None:
    cluster.lose = lambda sent: node.id in (sent.to, sent.sender)


def test_without_a_passed_barrier_it_is_a_read_like_any_other() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.ask(cluster.leader_id(), "SET k v")
    client = ask_stale(cluster, follower, "GET k", settle=False)
    cluster.turn(follower)
    assert follower.replies(client) == []
    assert [type(sent.message) for sent in cluster.wire] == [ReadIndexRequest]
    cluster.settle()
    assert follower.replies(client) == [b"v"]
    assert follower.replica.counters.reads_stale == 0


def test_it_is_answered_in_its_turn_and_asks_nobody() -> None:
    cluster, follower = fresh_cluster()
    client = ask_stale(cluster, follower, "GET k", settle=False)
    cluster.turn(follower)
    assert follower.replies(client) == [b"old"]
    assert not cluster.wire
    assert follower.replica.counters.reads_stale == 1


@pytest.mark.parametrize(("age_ms", "answered"), [(MAX_STALE_MS - 20, True), (MAX_STALE_MS + 20, False)])
def test_cut_off_it_is_answered_until_the_state_is_too_old(age_ms: int, answered: bool) -> None:
    cluster, follower = fresh_cluster()
    cut_off(cluster, follower)
    cluster.advance(age_ms)
    client = ask_stale(cluster, follower, "GET k")
    assert follower.replies(client) == ([b"old"] if answered else [])
    cluster.advance(3_000)
    assert follower.replies(client) == [b"old" if answered else Refusal.NO_LEADER]


def test_the_age_counts_from_asking_and_not_from_the_answer() -> None:
    cluster, follower = fresh_cluster()
    cluster.now_ms += 2 * MAX_STALE_MS
    client = object()
    cluster.submit(follower.id, client, ["GET k"])
    cluster.turn(follower)
    held = list(cluster.wire)
    cluster.wire.clear()
    cluster.now_ms += 400  # On its way, or both were stopped.
    cluster.wire += held
    cluster.settle()
    assert follower.replies(client) == [b"old"]
    cluster.now_ms += MAX_STALE_MS - 410
    in_time = ask_stale(cluster, follower, "GET k", settle=False)
    cluster.turn(follower)
    assert follower.replies(in_time) == [b"old"]
    cluster.wire.clear()
    cluster.now_ms += 20
    late = ask_stale(cluster, follower, "GET k", settle=False)
    cluster.turn(follower)
    assert follower.replies(late) == []


def test_while_they_come_the_node_keeps_itself_fresh() -> None:
    cluster, follower = fresh_cluster()
    asked = follower.replica.counters.barriers_asked
    cluster.ask(cluster.leader_id(), "SET k new")
    cluster.advance(20)  # The follower hears that it is committed.
    for _ in range(100):
        client = ask_stale(cluster, follower, "GET k")
        assert follower.replies(client) == [b"new"]
        cluster.advance(100)
    assert follower.replica.counters.reads_stale == 100, "none of them had to wait"
    assert 3 <= follower.replica.counters.barriers_asked - asked <= 4, "one for each half of the limit"


def test_a_lost_refresh_is_asked_for_again() -> None:
    cluster, follower = fresh_cluster()
    cut_off(cluster, follower)
    cluster.advance(MAX_STALE_MS / 2 + 10)
    ask_stale(cluster, follower, "GET k")
    cluster.advance(1_500)
    cluster.lose = lambda sent: False
    cluster.until(lambda: follower.core.leader != 0)
    cluster.advance(500)
    client = ask_stale(cluster, follower, "GET k")
    assert follower.replies(client) == [b"old"]
    cluster.settle()
    cut_off(cluster, follower)
    cluster.advance(MAX_STALE_MS - 1_000)
    late = ask_stale(cluster, follower, "GET k")
    assert follower.replies(late) == [b"old"], "it was fresh again"


def test_a_key_that_is_due_by_the_clock_is_as_it_was_at_the_logs_time() -> None:
    """To look for the log's time a leader would be needed."""
    cluster, follower = fresh_cluster()
    cluster.ask(follower.id, "SET k v PX 100")
    cluster.ask(follower.id, "GET k")
    cut_off(cluster, follower)
    cluster.advance(500)
    client = ask_stale(cluster, follower, "GET k")
    assert follower.replies(client) == [b"v"]


def test_own_writes_are_seen() -> None:
    cluster, follower = fresh_cluster()
    for number in range(5):
        cluster.ask(follower.id, f"SET k {number}")
        client = ask_stale(cluster, follower, "GET k")
        assert follower.replies(client) == [b"%d" % number]
