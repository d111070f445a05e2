"""Going over to another node's state: what clients are told, and what comes with the state."""

import pytest

from respraft.raft.message import AppendRequest
from respraft.replica.batch import Refusal
from respraft.replica.message import ForwardRequest
from respraft.replica.payload import open_payload
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Node, Sent


def is_append(sent: Sent) -> bool:
    return isinstance(sent.message, AppendRequest)


def left_behind(cluster: Cluster, *lines: str) -> Node:
    """A follower that hears its leader and gets no entries, and that lacks what the leader has cut off."""
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: sent.to == follower.id and is_append(sent)
    for line in lines or ("SET key old", "SET key new"):
        assert cluster.ask(leader.id, line) != []
    cut_all(cluster, leader)
    return follower


def cut_all(cluster: Cluster, leader: Node) -> None:
    """Cut a leader's log off, also what a follower still needs: as if that were too much to keep."""
    leader.machine.flush()
    leader.core.compact_to(leader.core.status().applied_index)
    cluster.settle()


def catch_up(cluster: Cluster) -> None:
    """Let the network work again, and snapshots be sent."""
    cluster.lose = lambda sent: False
    for _ in range(20):
        cluster.advance(50)
        cluster.catch_up()
    assert len({node.core.commit_index for node in cluster.live()}) == 1


def test_a_node_that_was_left_behind_serves_from_the_state_it_was_sent() -> None:
    cluster = Cluster()
    follower = left_behind(cluster)
    catch_up(cluster)
    assert follower.replica.counters.snapshots_installed == 1
    assert cluster.ask(follower.id, "GET key", "SET other 1", "GET other") == [b"new", OK, b"1"]
    cluster.advance(50)
    assert len({node.machine.digest() for node in cluster.live()}) == 1
    assert follower.log.state_number() == 2


def test_a_node_that_was_down_is_sent_a_state() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.crash(follower.id)
    cluster.ask(cluster.leader_id(), "SET key new")
    cluster.advance(1000)
    cluster.compact(cluster.leader())
    assert cluster.leader().core.log.first_index == cluster.leader().core.last_index + 1
    cluster.restart(follower.id)
    catch_up(cluster)
    assert follower.replica.counters.snapshots_installed == 1
    assert cluster.ask(follower.id, "GET key") == [b"new"]


def test_who_waits_for_a_batch_that_came_with_the_state_is_told_that_the_reply_is_lost() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: sent.to == follower.id and is_append(sent)
    cluster.submit(follower.id, "writer", ["INCR counter"])
    cluster.settle()
    assert cluster.ask(leader.id, "GET counter") == [b"1"]
    cut_all(cluster, leader)
    assert follower.replies("writer") == []
    catch_up(cluster)
    assert follower.replies("writer") == [Refusal.REPLY_LOST]
    assert cluster.ask(follower.id, "GET counter") == [b"1"]
    assert follower.replica.status().outstanding == follower.replica.status().in_flight_bytes == 0


def test_a_batch_behind_the_state_is_sent_again_and_counts_once() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: (
        (follower.id == sent.to and is_append(sent))
        or (sent.sender == follower.id and isinstance(sent.message, ForwardRequest))
    )
    cluster.submit(follower.id, "writer", ["INCR counter"])
    cluster.settle()
    cluster.ask(leader.id, "SET key new")
    cut_all(cluster, leader)
    catch_up(cluster)
    assert follower.replica.counters.snapshots_installed == 1
    assert follower.replies("writer") == [1]
    assert cluster.ask(leader.id, "GET counter") == [b"1"]


def test_a_batch_that_came_with_the_state_and_is_on_its_way_again_counts_once() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: sent.to == follower.id and is_append(sent)
    cluster.submit(follower.id, "writer", ["INCR counter"])
    cluster.settle()
    session = follower.replica.status().session
    payloads = [batch.payload(session, 0) for batch in follower.replica._origin._outstanding]
    again = ForwardRequest(follower.id, leader.core.term, session, payloads)
    cut_all(cluster, leader)
    catch_up(cluster)
    leader.replica.receive(follower.id, follower.incarnation, again)
    cluster.settle()
    assert cluster.ask(follower.id, "GET counter") == [b"1"]
    assert cluster.ask(follower.id, "INCR counter") == [2]


def test_after_a_session_was_replaced_within_the_state_the_outcome_is_unknown() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: sent.to == follower.id and is_append(sent)
    cluster.submit(follower.id, "writer", ["INCR counter"])
    cluster.settle()
    # A late OPEN of an earlier life replaces the session; the follower's own one must come back.
    request = ForwardRequest(follower.id, leader.core.term, 0, [open_payload(follower.id, 999)])
    leader.replica.receive(follower.id, follower.incarnation, request)
    cluster.settle()
    cut_all(cluster, leader)
    catch_up(cluster)
    assert follower.replies("writer") == [Refusal.OUTCOME_UNKNOWN]
    assert cluster.ask(follower.id, "INCR counter") == [2], "it was applied, and is not sent again"


def test_reads_that_wait_for_an_index_are_answered_when_a_state_has_reached_it() -> None:
    cluster = Cluster()
    follower = left_behind(cluster)
    cluster.submit(follower.id, "reader", ["GET key"])
    cluster.advance(200)
    assert follower.replies("reader") == []
    catch_up(cluster)
    assert follower.replies("reader") == [b"new"]


def test_a_read_that_took_an_entry_is_read_anew_when_its_entry_came_with_the_state() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    assert cluster.ask(leader.id, "SET brief x PX 500", "SET key old") == [OK, OK]
    cluster.advance(100)  # The follower hears of it.
    cluster.lose = lambda sent: sent.to == follower.id and is_append(sent)
    follower.wall_offset_ms = 2000  # By its own clock the key is due, by the log's it is not.
    cluster.submit(follower.id, "reader", ["EXISTS brief", "GET key"])
    cluster.settle()
    assert follower.replica.status().outstanding == 1
    cluster.ask(leader.id, "SET key new")
    follower.wall_offset_ms = 0
    cut_all(cluster, leader)
    catch_up(cluster)
    assert follower.replica.counters.snapshots_installed == 1
    assert follower.replies("reader") == [1, b"new"]


@pytest.mark.parametrize("durable", [False, True])
def test_trap_13_a_crash_around_the_install_leaves_one_state_or_the_other(durable: bool) -> None:
    cluster = Cluster()
    follower = left_behind(cluster)
    leader = cluster.leader()
    cluster.lose = lambda sent: False
    cluster.advance(300)
    picture = cluster.take_snapshot(leader, follower.id)
    follower.disk_held = not durable
    assert cluster.install(follower, picture)
    cluster.turn(follower)
    cluster.crash(follower.id)
    leader.replica.snapshots.ended(follower.id)
    leader.wants.clear()
    follower.disk_held = False
    cluster.restart(follower.id)
    assert (follower.log.state_number(), set(follower.states)) == ((2, {2}) if durable else (1, {1}))
    catch_up(cluster)
    assert cluster.ask(follower.id, "GET key") == [b"new"]
    assert len({node.machine.digest() for node in cluster.live()}) == 1


def test_trap_7_a_state_that_comes_again_changes_nothing() -> None:
    cluster = Cluster()
    follower = left_behind(cluster)
    leader = cluster.leader()
    picture = cluster.take_snapshot(leader, follower.id)
    catch_up(cluster)
    cluster.ask(follower.id, "SET key newest")
    for _ in range(2):
        assert not cluster.install(follower, picture)
        cluster.settle()
    assert cluster.ask(follower.id, "GET key") == [b"newest"]
    assert follower.replica.counters.snapshots_installed == 1


def test_a_flush_of_the_state_before_cuts_nothing_of_the_log_behind_the_new_one() -> None:
    cluster = Cluster()
    follower = left_behind(cluster)
    follower.flush_held = True
    follower.replica.snapshots.want_flush()
    cluster.settle()
    assert follower.flush is not None
    catch_up(cluster)
    cluster.ask(follower.id, "SET key newest")
    base = follower.core.log.base
    follower.flush_held = False
    cluster.finish_flush(follower)
    assert follower.core.log.base == base
    cluster.compact(follower)
    assert follower.core.log.base.index > base.index


def test_the_clock_and_the_deadlines_come_with_the_state() -> None:
    cluster = Cluster()
    follower = left_behind(cluster, "SET brief x PX 60000", "SET key new")
    catch_up(cluster)
    assert follower.machine.next_deadline() == cluster.leader().machine.next_deadline()
    cluster.advance(60_000)
    assert cluster.ask(follower.id, "GET brief") == [None]
