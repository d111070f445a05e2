"""Exactly once: the rules of sessions, each on whole replicas. Design section 1, "Sessions"."""

import pytest

from respraft.raft.message import KIND_NORMAL, Entry
from respraft.replica.applier import META_SESSIONS
from respraft.replica.batch import Batch, Refusal
from respraft.replica.message import ForwardRefusal, ForwardRequest
from respraft.replica.payload import (
    KIND_BATCH,
    KIND_OPEN,
    open_payload,
    parse_commands,
    parse_header,
)
from respraft.replica.session import SessionTable
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Node, Sent


def payload_kinds(node: Node) -> list[int]:
    entries = node.core.log.iterate(1)
    return [parse_header(e.payload)[0] for e in entries if e.kind == KIND_NORMAL and e.payload]


def batches(node: Node) -> list[tuple[int, int, int]]:
    """Session, sequence and number of commands of every batch in a node's log."""
    out = []
    for entry in node.core.log.iterate(1):
        if entry.kind == KIND_NORMAL and entry.payload:
            kind, session, sequence = parse_header(entry.payload)
            if kind == KIND_BATCH:
                out.append((session, sequence, len(parse_commands(entry.payload)[0])))
    return out


def forwards(sent: Sent) -> bool:
    return isinstance(sent.message, ForwardRequest)


def test_a_session_number_is_the_index_of_the_entry_that_opened_it() -> None:
    cluster = Cluster()
    for node in cluster.live():
        number = node.replica.status().session
        (entry,) = node.core.log.entries(number, number + 1, 1)
        assert parse_header(entry.payload) == (KIND_OPEN, node.id, node.replica.identity.nonce)


def test_an_open_with_the_current_nonce_is_a_repeat_and_any_other_replaces() -> None:
    table = SessionTable()
    assert table.open(1, nonce=7, index=3)
    assert table.advance(3, 1)
    assert not table.open(1, nonce=7, index=4)
    assert table.expected(3) == 2
    assert table.open(1, nonce=8, index=5)
    assert table.expected(3) == 0
    assert not table.advance(3, 2)
    assert table.advance(5, 1)


@pytest.mark.parametrize("sequence", [0, 1, 3, 4])
def test_only_the_next_sequence_applies(sequence: int) -> None:
    table = SessionTable()
    table.open(1, nonce=7, index=3)
    table.advance(3, 1)
    assert not table.advance(3, sequence)
    assert table.advance(3, 2)


def test_a_session_table_survives_its_encoding() -> None:
    table = SessionTable()
    table.open(2, nonce=1 << 62, index=9)
    table.open(1, nonce=5, index=4)
    table.advance(9, 1)
    copy = SessionTable.decode(table.encode())
    assert copy.encode() == table.encode()
    assert copy.advance(9, 2) and not table.copy().advance(9, 3)


def test_a_batch_of_a_follower_counts_once_however_often_it_is_sent() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.turn(follower)
    request = next(sent for sent in cluster.wire if forwards(sent))
    for _ in range(3):
        cluster.wire.append(request)
    cluster.settle()
    assert follower.replies("c") == [1]
    assert cluster.ask(1, "GET n") == [b"1"]


def test_a_lost_forward_is_noticed_by_asking_and_sent_again() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.lose = forwards
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.settle()
    cluster.lose = lambda sent: False
    assert len(cluster.lost) == 1
    cluster.until(lambda: follower.replies("c") == [1], ms=1500)


def test_a_gap_is_refused_and_everything_from_it_is_sent_again_in_order() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.lose = forwards
    cluster.submit(follower.id, "a", ["APPEND k a"])
    cluster.settle()
    cluster.lose = lambda sent: False
    full = cluster.config(1).raft.batch_bytes_max  # Full batches do not wait for the one that was lost.
    follower.replica.submit("b", [[b"APPEND", b"k", b"b"]], [], 0, full)
    follower.replica.submit("c", [[b"APPEND", b"k", b"c"]], [], 0, full)
    cluster.settle()
    assert [follower.replies(client) for client in "abc"] == [[1], [2], [3]]
    assert cluster.ask(1, "GET k") == [b"abc"]
    assert follower.replica.counters.forwards_refused > 0


def test_a_leader_answers_what_it_does_not_append() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    session = follower.replica.status().session
    batch = Batch(0.0)
    batch.sequence = 5
    request = ForwardRequest(follower.id, leader.core.term, session, [batch.payload(session, 0)])
    cluster.deliver(Sent(leader.id, follower.id, follower.incarnation, request))
    last = leader.core.last_index
    cluster.turn(leader)
    refusals = [sent.message for sent in cluster.wire if isinstance(sent.message, ForwardRefusal)]
    assert refusals == [ForwardRefusal(leader.id, leader.core.term, session, 5, 1)]
    assert leader.core.last_index == last


def test_a_repeat_causes_no_resend_so_refusals_and_repeats_do_not_feed_each_other() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.turn(follower)
    cluster.wire.append(next(sent for sent in cluster.wire if forwards(sent)))
    cluster.settle()
    assert follower.replica.counters.forwards_refused == 1
    assert follower.replica.counters.forwards_sent == 2  # The OPEN and the batch.


def test_an_outstanding_batch_goes_to_a_new_leader_and_counts_once() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.turn(follower)
    for sent in [s for s in cluster.wire if forwards(s)]:
        cluster.wire.remove(sent)
        cluster.deliver(sent)
    cluster.turn(leader)  # Appended and sent, and then the leader dies.
    cluster.crash(leader.id)
    cluster.until(lambda: follower.replies("c") != [])
    assert follower.replies("c") == [1]
    assert cluster.ask(follower.id, "GET n") == [b"1"]
    assert all(count <= 1 for _, _, count in batches(follower))


def test_an_entry_that_reached_one_follower_before_the_leader_died_counts_once() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    origin, other = cluster.followers()
    cluster.lose = lambda sent: sent.to == origin.id and sent.sender == leader.id
    cluster.submit(origin.id, "c", ["INCR n"])
    cluster.settle()  # Committed by the leader and the other follower; the origin heard nothing.
    assert origin.replies("c") == []
    cluster.crash(leader.id)
    cluster.lose = lambda sent: False
    cluster.until(lambda: origin.replies("c") != [])
    assert origin.replies("c") == [1]
    assert cluster.ask(other.id, "GET n") == [b"1"]


def test_a_sequence_is_given_only_when_a_leader_takes_the_batch() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    for node in cluster.live():
        if node is not follower:
            cluster.crash(node.id)
    cluster.until(lambda: follower.core.leader == 0)
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.advance(2900)
    assert follower.replies("c") == []
    assert follower.replica.status().outstanding == 0
    cluster.advance(300)
    assert follower.replies("c") == [Refusal.NO_LEADER]
    for node_id in (1, 2, 3):
        if not cluster.nodes[node_id].up:
            cluster.restart(node_id)
    cluster.until(lambda: cluster.leader_id() != 0)
    assert cluster.ask(follower.id, "GET n") == [None]


def test_what_timed_out_is_sent_again_empty_and_leaves_no_gap() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.lose = forwards
    cluster.submit(follower.id, "late", ["INCR n"])
    cluster.advance(5100)
    assert follower.replies("late") == [Refusal.OUTCOME_UNKNOWN]
    cluster.lose = lambda sent: False
    assert cluster.ask(follower.id, "INCR n") in ([1], [])
    cluster.until(lambda: follower.replica.status().outstanding == 0)
    assert cluster.ask(follower.id, "GET n") == [b"1"]
    session = follower.replica.status().session
    assert [(seq, count) for s, seq, count in batches(follower) if s == session] == [(1, 0), (2, 1)]


def test_a_timed_out_batch_that_was_in_the_log_already_happens_once() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    origin, other = cluster.followers()
    leader.disk_held = origin.disk_held = other.disk_held = True
    cluster.submit(leader.id, "c", ["INCR n"])
    cluster.advance(400)
    for node in (origin, other):
        node.disk_held = False
        cluster.finish_write(node)
    cluster.settle()
    assert leader.replies("c") == []  # Committed, but not durable where its clients are.
    cluster.now_ms += 6000
    cluster.observe(leader)
    leader.replica.tick()
    cluster.turn(leader)
    assert leader.replies("c") == [Refusal.OUTCOME_UNKNOWN]
    leader.disk_held = False
    cluster.finish_write(leader)
    cluster.until(lambda: cluster.leader_id() != 0)
    assert cluster.ask(origin.id, "GET n") == [b"1"]
    assert leader.replies("c") == [Refusal.OUTCOME_UNKNOWN]


def test_a_restarted_node_opens_a_new_session_and_its_old_batches_never_apply() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.submit(follower.id, "old life", ["INCR n"])
    cluster.turn(follower)
    late = next(sent for sent in cluster.wire if forwards(sent))
    cluster.crash(follower.id)
    cluster.restart(follower.id)
    cluster.until(lambda: bool(follower.replica.status().session))
    cluster.deliver(late)
    cluster.settle()
    assert cluster.ask(leader.id, "GET n") == [None]
    assert cluster.ask(follower.id, "INCR n") == [1]


def test_an_origin_whose_session_was_replaced_numbers_anew_what_was_not_applied() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    before = follower.replica.status().session
    cluster.lose = forwards
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.settle()
    cluster.lose = lambda sent: False
    usurper = ForwardRequest(follower.id, leader.core.term, 0, [open_payload(follower.id, 424242)])
    cluster.deliver(Sent(leader.id, follower.id, follower.incarnation, usurper))
    cluster.settle()
    cluster.until(lambda: follower.replies("c") != [], ms=2000)
    assert follower.replies("c") == [1]
    assert follower.replica.status().session > before
    assert cluster.ask(leader.id, "GET n") == [b"1"]


def test_results_come_from_the_committed_payload_and_not_from_the_local_copy() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    command = [b"SET", b"k", b"as committed"]
    leader.replica.submit("c", [command], [], 0, 10)
    output = leader.replica.take_output()
    leader.replica.finish_turn()
    assert output.write is not None
    command[2] = b"changed behind the log's back"
    leader.write = output.write
    cluster.finish_write(leader)
    for to, message in output.messages:
        cluster.wire.append(Sent(to, leader.id, leader.incarnation, message))
    cluster.settle()
    assert leader.replies("c") == [OK]
    assert {str(cluster.ask(i, "GET k")) for i in (1, 2, 3)} == {"[b'as committed']"}


def test_sessions_are_the_same_on_every_node() -> None:
    cluster = Cluster()
    for node_id in (1, 2, 3):
        cluster.ask(node_id, "INCR n")
    cluster.advance(20)
    tables = {node.machine.meta(META_SESSIONS) for node in cluster.live()}
    assert len(tables) == 1
    assert len({node.machine.digest() for node in cluster.live()}) == 1


def test_a_new_leader_counts_what_its_log_holds_beyond_its_state() -> None:
    """Without the tail of the log a new leader would append the sequence a second time."""
    cluster = Cluster()
    leader = cluster.leader()
    origin, heir = cluster.followers()
    cluster.lose = lambda sent: sent.sender == heir.id or sent.to == origin.id
    cluster.submit(origin.id, "c", ["INCR n"])
    cluster.settle()  # In the logs of the leader and of the heir, committed nowhere.
    cluster.crash(leader.id)
    cluster.lose = lambda sent: False
    cluster.until(lambda: origin.replies("c") != [])
    assert origin.replies("c") == [1]
    assert [count for _, _, count in batches(origin)] == [1]


def test_the_same_entry_twice_in_the_log_is_skipped_and_the_origin_resends_once() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    cluster.ask(leader.id, "INCR n")
    session = leader.replica.status().session
    repeat = next(
        entry
        for entry in leader.core.log.iterate(1)
        if entry.kind == KIND_NORMAL
        and entry.payload
        and parse_header(entry.payload)[:2] == (KIND_BATCH, session)
    )
    leader.core.propose(repeat.payload)
    cluster.advance(20)
    assert isinstance(repeat, Entry)
    assert {node.replica.counters.batches_skipped for node in cluster.live()} == {1}
    assert cluster.ask(leader.id, "GET n") == [b"1"]
    assert cluster.ask(leader.id, "INCR n") == [2]


def test_in_flight_bytes_past_the_hard_limit_are_refused_as_busy() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    hard = cluster.config(1).client.in_flight_bytes_hard_max
    replica = leader.replica
    assert replica.submit("big", [[b"SET", b"k", b"v"]], [], 0, hard) is None
    congested = [replica.congested]
    assert replica.submit("next", [[b"SET", b"k", b"w"]], [], 0, 1) is Refusal.BUSY
    cluster.settle()
    congested.append(replica.congested)
    assert congested == [True, False]
    assert leader.replies("big") == [OK]
    assert cluster.ask(leader.id, "GET k") == [b"v"]
