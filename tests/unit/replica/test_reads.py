"""Order and reads: places in a batch, barriers, and who may answer what. Design section 1, "Order and
reads"."""

from respraft.raft.message import HeartbeatRequest, HeartbeatResponse, ReadIndexRequest, ReadIndexResponse
from respraft.replica.batch import Refusal
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Sent


def test_reads_of_a_batch_run_at_their_place_in_it() -> None:
    cluster = Cluster()
    for node in cluster.live():
        replies = cluster.ask(node.id, "SET a 1", "GET a", "SET a 2", "GET a", "DEL a", "GET a")
        assert replies == [OK, b"1", OK, b"2", 1, None]


def test_a_batch_holds_all_clients_of_a_turn_in_one_entry() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    last = leader.core.last_index
    for client in range(50):
        cluster.submit(leader.id, client, [f"SET k{client} v"])
    cluster.settle()
    assert leader.core.last_index == last + 1
    assert [leader.replies(client) for client in range(50)] == [[OK]] * 50


def test_reads_alone_take_no_log_entry() -> None:
    cluster = Cluster()
    cluster.ask(1, "SET k v")
    last = cluster.leader().core.last_index
    assert [cluster.ask(i, "GET k") for i in (1, 2, 3)] == [[b"v"]] * 3
    assert cluster.leader().core.last_index == last


def test_a_read_on_a_leader_waits_for_a_quorum_of_the_round() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    cluster.lose = lambda sent: isinstance(sent.message, HeartbeatResponse)
    cluster.submit(leader.id, "c", ["GET k"])
    cluster.settle()
    assert leader.replies("c") == []
    cluster.lose = lambda sent: False
    cluster.advance(200)
    assert leader.replies("c") == [None]


def test_all_reads_that_wait_share_one_round() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    rounds: list[Sent] = []

    def count(sent: Sent) -> bool:
        if isinstance(sent.message, HeartbeatRequest):
            rounds.append(sent)
        return False

    cluster.lose = count
    for client in range(100):
        cluster.submit(leader.id, client, ["GET k"])
    cluster.settle()
    assert len(rounds) == 2  # One to each peer.
    assert all(leader.replies(client) == [None] for client in range(100))


def test_a_read_does_not_join_a_round_that_was_sent_before_it_came() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    cluster.submit(leader.id, "first", ["GET k"])
    cluster.turn(leader)
    cluster.submit(leader.id, "second", ["GET k"])
    cluster.turn(leader)
    first_round = list(cluster.wire)
    cluster.wire.clear()
    for sent in first_round:
        cluster.deliver(sent)
    for node in cluster.followers():
        cluster.turn(node)
    for sent in list(cluster.wire):
        cluster.wire.remove(sent)
        cluster.deliver(sent)
    cluster.turn(leader)
    assert leader.replies("first") == [None]
    assert leader.replies("second") == []
    cluster.settle()
    assert leader.replies("second") == [None]


def test_a_follower_asks_once_for_all_and_waits_until_it_has_applied() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    follower.disk_held = True
    cluster.submit(leader.id, "w", ["SET k new"])
    cluster.settle()
    assert leader.replies("w") == [OK]
    for client in range(10):
        cluster.submit(follower.id, client, ["GET k"])
    cluster.settle()
    assert follower.replica.counters.barriers_asked == 1
    assert [follower.replies(client) for client in range(10)] == [[]] * 10
    follower.disk_held = False
    cluster.finish_write(follower)
    cluster.settle()
    assert [follower.replies(client) for client in range(10)] == [[b"new"]] * 10


def test_an_answer_to_an_earlier_process_confirms_nothing() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: isinstance(sent.message, ReadIndexRequest)
    cluster.submit(follower.id, "c", ["GET k"])
    cluster.settle()
    stale = ReadIndexResponse(leader.id, leader.core.term, (follower.lives - 1, 1), 1)
    cluster.deliver(Sent(follower.id, leader.id, leader.incarnation, stale))
    cluster.turn(follower)
    assert follower.replies("c") == []


def test_an_answer_to_a_request_that_was_repeated_since_confirms_nothing() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: isinstance(sent.message, ReadIndexRequest)
    cluster.submit(follower.id, "c", ["GET k"])
    cluster.advance(600)  # Asked again under number 2.
    late = ReadIndexResponse(leader.id, leader.core.term, (follower.lives, 1), 1)
    cluster.deliver(Sent(follower.id, leader.id, leader.incarnation, late))
    cluster.turn(follower)
    assert follower.replies("c") == []
    cluster.lose = lambda sent: False
    cluster.advance(600)
    assert follower.replies("c") == [None]


def test_a_barrier_without_an_answer_is_repeated_at_a_new_leader() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.ask(leader.id, "SET k v")
    cluster.lose = lambda sent: isinstance(sent.message, ReadIndexRequest)
    cluster.submit(follower.id, "c", ["GET k"])
    cluster.settle()
    cluster.lose = lambda sent: False
    cluster.crash(leader.id)
    cluster.until(lambda: follower.replies("c") != [], ms=2500)
    assert follower.replies("c") == [b"v"]


def test_a_deposed_leader_answers_no_read_from_its_past() -> None:
    cluster = Cluster()
    old = cluster.leader()
    cluster.ask(old.id, "SET k old")
    cluster.lose = lambda sent: old.id in (sent.to, sent.sender)
    others = cluster.followers()
    cluster.submit(old.id, "c", ["GET k"])
    cluster.until(lambda: any(node.core.leader == node.id for node in others))
    new = next(node for node in others if node.core.leader == node.id)
    cluster.until(lambda: bool(new.replica.status().session))
    assert cluster.ask(new.id, "SET k new") == [OK]
    cluster.lose = lambda sent: False
    cluster.until(lambda: old.replies("c") != [])
    assert old.replies("c") in ([b"new"], [Refusal.READ_UNCONFIRMED], [Refusal.NO_LEADER])


def test_a_follower_whose_clients_wait_hears_of_a_commit_in_the_turn_in_which_it_advances() -> None:
    """No time passes here, so no heartbeat can have told it."""
    cluster = Cluster()
    writer, reader = cluster.followers()
    now = cluster.now_ms
    assert cluster.ask(writer.id, "SET k v") == [OK]
    assert cluster.ask(reader.id, "GET k") == [b"v"]
    assert cluster.now_ms == now


def test_a_follower_whose_clients_sent_again_hears_of_the_commit_of_what_came_before() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: sent.to == follower.id and sent.sender == leader.id
    cluster.submit(follower.id, "c", ["INCR n"])
    cluster.settle()
    cluster.lose = lambda sent: False
    cluster.until(lambda: follower.replies("c") == [1], ms=1500)


def test_a_follower_without_waiting_clients_hears_of_a_commit_within_a_tick() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.ask(leader.id, "SET k v")
    cluster.advance(10)
    assert follower.core.commit_index == leader.core.commit_index


def test_reads_without_a_leader_park_and_then_fail_as_clusterdown() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    for node in cluster.live():
        if node is not follower:
            cluster.crash(node.id)
    cluster.until(lambda: follower.core.leader == 0)
    cluster.submit(follower.id, "c", ["GET k"])
    cluster.advance(2900)
    assert follower.replies("c") == []
    cluster.advance(200)
    assert follower.replies("c") == [Refusal.NO_LEADER]


def test_a_read_whose_quorum_never_answers_is_given_up() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: isinstance(sent.message, ReadIndexRequest)
    cluster.submit(follower.id, "c", ["GET k"])
    cluster.advance(5100)
    assert follower.replies("c") == [Refusal.READ_UNCONFIRMED]
    assert leader.core.leader == leader.id


def test_a_batch_in_another_database_stays_there() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    cluster.submit(leader.id, "zero", ["SET k zero"])
    cluster.submit(leader.id, "five", ["SET k five", "GET k"], database=5)
    cluster.settle()
    assert leader.replies("five") == [OK, b"five"]
    cluster.submit(leader.id, "read", ["GET k"], database=5)
    cluster.settle()
    assert leader.replies("read") == [b"five"]
    assert cluster.ask(2, "GET k") == [b"zero"]


def test_reads_that_are_too_much_for_one_turn_go_on_in_the_next_and_nobody_is_left_out() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    cluster.ask(leader.id, "SETRANGE big 8000000 x", "SET small v")
    for client in range(8):
        cluster.submit(leader.id, client, ["GET big", "GET small", "GET big"])
    cluster.settle()
    turns = [answer for client in range(8) for answer in leader.answers[client]]
    assert all(len(answer.replies) + len(answer.unrun) == 3 for answer in turns)
    assert {len(answer.replies) for answer in turns} == {1, 2, 3} or {len(a.replies) for a in turns} == {3, 1}
    assert all(leader.replies(client)[0] is not None for client in range(8))
