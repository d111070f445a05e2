"""Handing leadership over: what the origins of batches and those who asked for it notice."""

import pytest

from respraft.raft.message import NOBODY, TimeoutNow, VoteRequest, VoteResponse
from respraft.raft.ready import NotLeader, Role, TransferRefused
from respraft.replica.batch import Refusal
from respraft.replica.message import TransferRequest
from tests.unit.replica.cluster import Cluster, Node


def hand_over(node: Node, to: int = NOBODY) -> object:
    client = object()
    node.replica.transfer_leadership(to, client)
    return client


def test_who_asked_is_told_the_new_leader() -> None:
    cluster = Cluster()
    old, target = cluster.leader(), cluster.followers()[1]
    asked, joined = hand_over(old, target.id), hand_over(old)
    cluster.settle()
    assert old.replies(asked) == old.replies(joined) == [target.id]
    assert cluster.leader_id() == target.id
    status = old.replica.status()
    assert (status.handovers_begun, status.handovers_done) == (1, 1)


def test_batches_of_all_nodes_wait_and_apply_once() -> None:
    cluster = Cluster()
    old, target = cluster.leader(), cluster.followers()[0]
    cluster.ask(old.id, "SET n 0")
    hand_over(old, target.id)
    clients = {node.id: object() for node in cluster.live()}
    for node_id, client in clients.items():
        assert cluster.submit(node_id, client, ["INCR n"]) is None
    cluster.settle()
    assert sorted(cluster.nodes[each].replies(client) for each, client in clients.items()) == [[1], [2], [3]]
    assert cluster.leader_id() == target.id


def test_it_times_out_and_the_leader_goes_on_with_what_came_meanwhile() -> None:
    cluster = Cluster()
    old, other = cluster.leader(), cluster.followers()[0]
    cluster.ask(old.id, "SET n 0")
    cluster.lose = lambda sent: isinstance(sent.message, TimeoutNow)
    asked = hand_over(old, other.id)
    clients = {node.id: object() for node in cluster.live()}
    for node_id, client in clients.items():
        assert cluster.submit(node_id, client, ["INCR n"]) is None
    cluster.advance(490)
    assert old.replies(asked) == []
    assert not any(cluster.nodes[each].replies(client) for each, client in clients.items())
    cluster.advance(10)
    assert old.replies(asked) == [Refusal.NOT_HANDED_OVER]
    assert cluster.leader_id() == old.id
    assert sorted(cluster.nodes[each].replies(client) for each, client in clients.items()) == [[1], [2], [3]]


def test_somebody_else_leads_in_the_end() -> None:
    cluster = Cluster()
    old = cluster.leader()
    target, other = cluster.followers()
    cluster.lose = lambda sent: isinstance(sent.message, TimeoutNow)
    asked = hand_over(old, target.id)
    cluster.settle()
    other.core.campaign(transfer=True)
    cluster.settle()
    assert cluster.leader_id() == other.id
    assert old.replies(asked) == [Refusal.NOT_HANDED_OVER]


def test_nobody_leads_in_the_end() -> None:
    cluster = Cluster()
    old, target = cluster.leader(), cluster.followers()[0]
    asked = hand_over(old, target.id)
    cluster.lose = lambda sent: not isinstance(sent.message, TimeoutNow | VoteRequest | VoteResponse)
    cluster.advance(100)
    assert target.core.role is Role.LEADER, "elected, and cannot say so"
    cluster.advance(890)
    assert old.replies(asked) == []
    cluster.advance(10)
    assert old.replies(asked) == [Refusal.NOT_HANDED_OVER]


def test_leadership_is_handed_to_nobody_whose_link_has_ended() -> None:
    """Heard a moment ago, with as much of the log as the other, and dead."""
    cluster = Cluster()
    old = cluster.leader()
    gone, other = sorted(node.id for node in cluster.followers())
    cluster.crash(gone)
    old.replica.link_down(gone)
    asked = hand_over(old)
    cluster.advance(200)
    assert old.replies(asked) == [other]

    cluster = Cluster()
    last = cluster.leader()
    for each in cluster.followers():
        cluster.crash(each.id)
        last.replica.link_down(each.id)
    with pytest.raises(TransferRefused, match="no other voter"):
        hand_over(last)


def test_to_itself_there_is_nothing_to_do() -> None:
    cluster = Cluster()
    old = cluster.leader()
    asked = hand_over(old, old.id)
    cluster.settle()
    assert old.replies(asked) == [old.id]
    assert old.replica.status().handovers_begun == 0


def test_what_cannot_be_is_refused_at_once() -> None:
    cluster = Cluster()
    with pytest.raises(NotLeader):
        hand_over(cluster.followers()[0])
    with pytest.raises(TransferRefused, match="node id does not exist"):
        hand_over(cluster.leader(), 9)
    alone = Cluster(1)
    with pytest.raises(TransferRefused, match="no other voter"):
        hand_over(alone.leader())


def test_no_time_entry_is_made_meanwhile() -> None:
    cluster = Cluster()
    old = cluster.leader()
    cluster.ask(old.id, "SET k v PX 50")
    cluster.lose = lambda sent: isinstance(sent.message, TimeoutNow)
    hand_over(old)
    last_index = old.core.last_index
    cluster.advance(400)
    assert old.core.last_index == last_index
    cluster.advance(300)
    assert old.core.last_index > last_index


def test_the_process_of_the_leader_is_gone() -> None:
    cluster = Cluster()
    old = cluster.leader_id()
    cluster.crash(old)
    client, node = object(), cluster.live()[0]
    cluster.submit(node.id, client, ["SET k v"])
    for each in cluster.live():
        each.replica.peer_gone(old)
    cluster.until(lambda: bool(node.replies(client)), ms=150)


def ask_follower(cluster: Cluster, to: int = NOBODY) -> tuple[Node, object]:
    follower, client = cluster.followers()[-1], object()
    follower.replica.ask_for_transfer(to, client)
    cluster.turn(follower)
    return follower, client


def test_a_follower_passes_it_on_and_sees_who_leads_then() -> None:
    for choose in (lambda _: NOBODY, lambda cluster: cluster.followers()[0].id):
        cluster = Cluster()
        old, to = cluster.leader(), choose(cluster)
        follower, asked = ask_follower(cluster, to)
        assert follower.replies(asked) == []
        cluster.settle()
        assert cluster.leader_id() != old.id and to in (NOBODY, cluster.leader_id())
        assert follower.replies(asked) == [cluster.leader_id()]
        assert old.replica.status().handovers_begun == 1


def test_what_a_follower_has_passed_on_and_was_lost_times_out() -> None:
    cluster = Cluster()
    old = cluster.leader()
    cluster.lose = lambda sent: isinstance(sent.message, TransferRequest)
    follower, asked = ask_follower(cluster)
    cluster.advance(990)
    assert follower.replies(asked) == []
    cluster.advance(10)
    assert follower.replies(asked) == [Refusal.NOT_HANDED_OVER]
    assert cluster.leader_id() == old.id


def test_what_a_follower_can_see_cannot_be_is_refused_by_it() -> None:
    cluster = Cluster()
    with pytest.raises(TransferRefused, match="node id does not exist"):
        ask_follower(cluster, 9)
    _, asked = ask_follower(cluster, cluster.leader_id())
    assert cluster.followers()[-1].replies(asked) == [cluster.leader_id()], "it leads already"


def test_what_was_passed_on_to_an_earlier_leader_is_not_carried_out_by_the_next_one() -> None:
    cluster = Cluster()
    cluster.lose = lambda sent: isinstance(sent.message, TransferRequest)
    old = cluster.leader()
    ask_follower(cluster)
    late = TransferRequest(cluster.followers()[-1].id, old.core.term, NOBODY)
    old.core.transfer_leadership()
    cluster.settle()
    new = cluster.leader()
    assert new is not old
    new.replica.receive(late.sender, 100 + late.sender, late)
    assert new.core.transfer is None
