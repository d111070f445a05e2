"""Time comes from the log. Design section 1, "Time comes from the log"."""

from respraft.replica.payload import KIND_TIME, parse_header
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Node


def time_entries(node: Node) -> int:
    return sum(
        1
        for e in node.core.log.iterate(1)
        if e.payload and not e.kind and parse_header(e.payload)[0] == KIND_TIME
    )


def test_stamps_never_decrease_and_every_node_sees_the_same() -> None:
    cluster = Cluster()
    for step in range(20):
        cluster.ask(1 + step % 3, "INCR n")
        cluster.advance(50)
    stamps = [[e.time_ms for e in node.core.log.iterate(1)] for node in cluster.live()]
    assert stamps[0] == sorted(stamps[0])
    assert stamps[0] == stamps[1] == stamps[2]


def test_a_key_is_expired_exactly_when_the_logs_time_has_reached_its_deadline() -> None:
    cluster = Cluster()
    assert cluster.ask(1, "SET k v PX 200") == [OK]
    cluster.advance(190)
    assert [cluster.ask(i, "GET k") for i in (1, 2, 3)] == [[b"v"]] * 3
    cluster.advance(10)
    assert [cluster.ask(i, "GET k") for i in (1, 2, 3)] == [[None]] * 3


def test_a_read_of_a_key_that_is_due_by_the_nodes_clock_only_takes_a_log_entry() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.ask(follower.id, "SET k v PX 200", "SET other w")
    follower.wall_offset_ms = 2000
    last = follower.core.last_index
    assert cluster.ask(follower.id, "GET k") == [b"v"]  # At the log's time it is not due.
    assert follower.core.last_index == last + 1
    assert cluster.ask(follower.id, "GET other") == [b"w"]
    assert follower.core.last_index == last + 1
    assert follower.replica.counters.reads_at_entry == 1


def test_once_a_node_has_answered_nil_none_answers_the_value_again() -> None:
    cluster = Cluster()
    fast, slow = cluster.followers()
    fast.wall_offset_ms, slow.wall_offset_ms = 2000, -2000
    cluster.ask(fast.id, "SET k v PX 200")
    seen_nil = False
    for _ in range(60):
        cluster.advance(10)
        for node in cluster.live():
            (reply,) = cluster.ask(node.id, "GET k")
            assert reply is None or not seen_nil
            seen_nil = seen_nil or reply is None
    assert seen_nil


def test_a_quiet_leader_appends_one_time_entry_for_a_due_deadline() -> None:
    cluster = Cluster()
    cluster.ask(1, "SET k v PX 200")
    cluster.advance(190)
    assert time_entries(cluster.leader()) == 0
    cluster.advance(20)
    assert time_entries(cluster.leader()) == 1
    assert {node.machine.next_deadline() for node in cluster.live()} == {None}
    cluster.advance(1000)
    assert time_entries(cluster.leader()) == 1


def test_expired_keys_are_removed_a_bounded_number_at_a_time_until_none_is_left() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    writes = [[b"SET", b"k%d" % i, b"v", b"PX", b"100"] for i in range(1000)]
    leader.replica.submit("c", writes, [], 0, 1000)
    cluster.settle()
    assert cluster.ask(1, "DBSIZE") == [1000]
    cluster.advance(300)
    assert cluster.ask(1, "DBSIZE") == [0]
    assert time_entries(leader) > 1


def test_a_new_leader_carries_the_time_on_without_a_jump() -> None:
    """Clocks 2 s apart: the median of the quorum that elects is another one, and no key may feel it."""
    cluster = Cluster()
    first, second = cluster.followers()
    first.wall_offset_ms, second.wall_offset_ms = 2000, 4000
    cluster.advance(500)
    cluster.ask(1, "SET k v PX 3000")
    begin = cluster.now_ms
    cluster.crash(cluster.leader_id())
    cluster.until(lambda: cluster.leader_id() != 0)
    node = cluster.leader()
    while cluster.now_ms < begin + 2900:
        assert cluster.ask(node.id, "GET k") == [b"v"]
        cluster.advance(50)
    cluster.advance(250)
    assert cluster.ask(node.id, "GET k") == [None]


def test_relative_deadlines_are_the_same_at_every_replay() -> None:
    cluster = Cluster()
    cluster.ask(1, "SET a v PX 100000", "SET b v EX 50")
    digest = cluster.leader().machine.digest()
    victim = cluster.followers()[0]
    cluster.crash(victim.id)  # Its state was never flushed: all of it comes from the log again.
    cluster.advance(1000)
    cluster.restart(victim.id)
    cluster.until(lambda: cluster.leader_id() != 0 and bool(victim.replica.status().session))
    cluster.ask(victim.id, "GET a")
    assert victim.machine.meta(b"applied") == cluster.leader().machine.meta(b"applied")
    assert victim.machine.digest() == cluster.leader().machine.digest() != digest
