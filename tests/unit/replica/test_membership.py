"""Changes of the membership through whole replicas: asked anywhere, done by the leader, seen applied."""

import pytest

from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import TimeoutNow
from respraft.raft.ready import Role
from respraft.replica.admin import ChangeDone
from respraft.replica.batch import Answer, Refusal
from respraft.replica.changes import (
    Action,
    AddMember,
    MoveMember,
    PromoteMember,
    RemoveMember,
    SetMembers,
    next_id,
)
from respraft.replica.formation import PeerIdentity
from respraft.replica.message import AdminRequest, AdminResponse
from respraft.replica.session import SessionTable
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Node, Sent


def member(node_id: int, *, voter: bool = True, incarnation: int = 0) -> Member:
    return Member(node_id, f"127.0.0.1:{7100 + node_id}", f"127.0.0.1:{7000 + node_id}", incarnation, voter)


def outcome(cluster: Cluster, node_id: int, client: object) -> ChangeDone | Refusal | None:
    """What the client was told, if it was."""
    answers: list[Answer] = cluster.nodes[node_id].answers.get(client, [])
    if not answers:
        return None
    (answer,) = answers
    reply = answer.refusal or answer.replies[0]
    assert isinstance(reply, ChangeDone | Refusal)
    return reply


def linked(cluster: Cluster) -> bool:
    """Let links come and go; always True."""
    cluster.link()
    return True


def applied(node: Node) -> Configuration:
    configuration = node.replica.status().applied_configuration
    assert configuration is not None
    return configuration


def change(cluster: Cluster, node_id: int, action: Action) -> ChangeDone | Refusal | None:
    """Ask, and wait for the end with links coming and going."""
    client = cluster.change(node_id, action)

    def done() -> bool:
        cluster.link()
        return outcome(cluster, node_id, client) is not None

    cluster.until(done)
    return outcome(cluster, node_id, client)


def add(cluster: Cluster, node_id: int, *, through: int = 1) -> Node:
    """Add a new node and wait until it votes."""
    newcomer = cluster.newcomer(node_id)
    assert change(cluster, through, AddMember(member(node_id))) == ChangeDone(node_id, "", "")
    cluster.until(lambda: linked(cluster) and applied(newcomer).is_voter(node_id))
    return newcomer


def test_a_node_is_added_through_any_other_and_serves() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    newcomer = add(cluster, 4, through=follower.id)
    assert applied(newcomer).voters() == (1, 2, 3, 4)
    found = applied(newcomer).member(4)
    assert found is not None and found.incarnation == newcomer.incarnation, "told by the handshake"
    cluster.until(lambda: newcomer.replica.status().session != 0)
    assert cluster.ask(4, "SET k v", "GET k") == [OK, b"v"]
    assert cluster.ask(1, "GET k") == [b"v"]


def test_an_id_is_chosen_where_none_is_given() -> None:
    """The node has to have that id by then, since it is dialled under it."""
    cluster = Cluster()
    newcomer = cluster.newcomer(4)
    wanted = member(0, incarnation=newcomer.incarnation)
    assert change(cluster, 2, AddMember(wanted)) == ChangeDone(4, "", "")


def test_a_node_that_cannot_be_reached_is_not_added() -> None:
    cluster = Cluster()
    before = applied(cluster.nodes[1])
    done = change(cluster, cluster.followers()[0].id, AddMember(member(9)))
    assert isinstance(done, ChangeDone)
    assert done.code == "Unreachable" and "127.0.0.1:7109" in done.text and "nothing was changed" in done.text
    assert applied(cluster.nodes[1]) == before
    assert all(9 not in (node.targets or {}) for node in cluster.live())


def test_another_node_at_the_address_is_not_added() -> None:
    cluster = Cluster()
    cluster.newcomer(4)
    done = change(cluster, 1, AddMember(member(4, incarnation=999)))
    assert isinstance(done, ChangeDone) and done.code == "Unreachable"
    assert applied(cluster.nodes[1]).member(4) is None


def test_what_is_refused_says_why_and_changes_nothing() -> None:
    cluster = Cluster()
    before = applied(cluster.nodes[1])
    refused: dict[str, Action] = {
        "UnknownMember": RemoveMember(9),
        "IdUsed": AddMember(member(2, incarnation=999)),
        "WrongMembers": SetMembers((member(1, voter=False),)),
    }
    for code, action in refused.items():
        done = change(cluster, cluster.followers()[0].id, action)
        assert isinstance(done, ChangeDone) and done.code == code, done
    assert applied(cluster.nodes[1]) == before


def test_a_removed_follower_knows_and_says_so() -> None:
    cluster = Cluster()
    leader, (gone, other) = cluster.leader(), cluster.followers()
    cluster.submit(gone.id, "waits", ["SET k v"])
    assert change(cluster, gone.id, RemoveMember(gone.id)) == ChangeDone(0, "", "")
    assert gone.replies("waits") == [OK]
    assert gone.replica.status().removed
    assert cluster.ask(gone.id, "SET k w") == [Refusal.NO_CLUSTER]
    assert cluster.ask(gone.id, "GET k") == [Refusal.NO_CLUSTER]
    cluster.advance(50)  # Nobody waits at the other one, so it hears of the commit with the next tick.
    for node in (leader, other):
        assert applied(node).removed_ids == (gone.id,)
        assert gone.id not in (node.targets or {})
        objection = node.replica.check_peer(cluster.identity(gone))
        assert objection is not None and objection.removed
    cluster.advance(5000)
    assert gone.core.role is Role.FOLLOWER
    assert gone.targets == {}


def test_sessions_of_removed_nodes_go_on_all_nodes_alike() -> None:
    cluster = Cluster()
    gone = cluster.followers()[0]
    assert cluster.ask(gone.id, "SET k v") == [OK]
    change(cluster, cluster.leader().id, RemoveMember(gone.id))
    cluster.advance(50)
    for node in cluster.nodes.values():
        node.machine.flush()
        sessions = SessionTable.decode(node.machine.meta(b"sessions") or b"")
        assert sessions.of(gone.id) is None
        assert sessions.of(cluster.leader().id) is not None


def test_a_node_that_was_removed_while_it_was_down_is_told() -> None:
    cluster = Cluster()
    gone = cluster.followers()[0]
    cluster.crash(gone.id)
    cluster.advance(1000)
    assert change(cluster, cluster.leader().id, RemoveMember(gone.id)) == ChangeDone(0, "", "")
    cluster.boot(gone)
    cluster.settle()
    cluster.link()
    assert gone.replica.status().removed
    assert cluster.ask(gone.id, "GET k") == [Refusal.NO_CLUSTER]
    cluster.advance(5000)
    assert gone.core.role is Role.FOLLOWER
    assert "RAFT.CLUSTER" not in (gone.replica.status().refused or "")


def test_the_leader_removes_itself_under_load_and_the_others_go_on() -> None:
    cluster = Cluster()
    leader, (one, two) = cluster.leader(), cluster.followers()
    for number in range(20):
        cluster.submit(one.id, f"a{number}", ["INCR n"])
        cluster.submit(two.id, f"b{number}", ["INCR n"])
        cluster.turn(one)
        cluster.turn(two)
        if number == 5:
            cluster.change(two.id, RemoveMember(leader.id))
    cluster.until(lambda: cluster.ask(one.id, "GET n") == [b"40"])
    numbers = [node.replies(f"{name}{n}") for node, name in ((one, "a"), (two, "b")) for n in range(20)]
    assert {reply for replies in numbers for reply in replies} == set(range(1, 41))
    assert {one.core.role, two.core.role} == {Role.LEADER, Role.FOLLOWER}
    assert leader.replica.status().removed


def test_a_removed_leader_is_heard_until_it_has_handed_over() -> None:
    """Under load its successor has something to catch up with, and must be able to say that it has."""
    cluster = Cluster()
    leader, (one, two) = cluster.leader(), cluster.followers()
    cluster.link()
    held: list[Sent] = []

    def lose(sent: Sent) -> bool:
        if isinstance(sent.message, TimeoutNow):
            held.append(sent)
        return isinstance(sent.message, TimeoutNow)

    cluster.lose = lose
    cluster.change(one.id, RemoveMember(leader.id))
    cluster.advance(30)
    assert held, "it hands over"
    for node in (one, two):
        assert applied(node).removed_ids == (leader.id,)
        assert node.targets is not None and leader.id in node.targets
        assert node.replica.check_peer(cluster.identity(leader)) is None
    cluster.lose = lambda sent: False
    cluster.until(lambda: one.core.leader == two.core.leader != leader.id, ms=300)
    for node in (one, two):
        assert leader.id not in (node.targets or {})
        objection = node.replica.check_peer(cluster.identity(leader))
        assert objection is not None and objection.removed


def test_a_request_that_was_lost_is_sent_again_and_happens_once() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    add(cluster, 4)
    lost: list[object] = []

    def lose(sent: object) -> bool:
        message = getattr(sent, "message", None)
        if isinstance(message, AdminRequest | AdminResponse) and len(lost) < 2:
            lost.append(message)
            return True
        return False

    cluster.lose = lose
    assert change(cluster, follower.id, RemoveMember(4)) == ChangeDone(0, "", "")
    assert len(lost) == 2
    assert applied(follower).removed_ids == (4,)


def test_a_change_whose_leader_dies_is_carried_on_by_the_next() -> None:
    cluster = Cluster()
    add(cluster, 4)
    add(cluster, 5)
    leader, asker = cluster.leader(), cluster.followers()[0]
    target = next(node.id for node in cluster.followers() if node is not asker)
    cluster.lose = lambda sent: isinstance(sent.message, AdminResponse)
    client = cluster.change(asker.id, RemoveMember(target), timeout_ms=20_000)
    cluster.crash(leader.id)
    cluster.lose = lambda sent: False
    cluster.until(lambda: linked(cluster) and outcome(cluster, asker.id, client) is not None)
    assert outcome(cluster, asker.id, client) == ChangeDone(0, "", "")


def test_without_a_leader_nothing_is_done_and_without_an_answer_nothing_is_known() -> None:
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.lose = lambda sent: True
    asked = cluster.change(follower.id, RemoveMember(1))
    cluster.advance(6000)
    assert outcome(cluster, follower.id, asked) == Refusal.OUTCOME_UNKNOWN
    parked = cluster.change(follower.id, RemoveMember(1), timeout_ms=60_000)
    cluster.advance(6000)
    assert outcome(cluster, follower.id, parked) == Refusal.NO_LEADER


def test_an_address_changes_and_the_links_follow() -> None:
    cluster = Cluster()
    follower, other = cluster.followers()
    action = MoveMember(other.id, "10.0.0.9:7101", "")
    assert change(cluster, follower.id, action) == ChangeDone(0, "", "")
    moved = applied(follower).member(other.id)
    assert moved is not None
    assert (moved.peer, moved.client) == ("10.0.0.9:7101", f"127.0.0.1:{7000 + other.id}")
    assert follower.targets is not None and follower.targets[other.id] == "10.0.0.9:7101"


def test_several_members_are_replaced_in_one_change() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    for node_id in (4, 5):
        cluster.newcomer(node_id)
    wanted = SetMembers((member(leader.id), member(4), member(5)))
    assert change(cluster, leader.id, wanted) == ChangeDone(0, "", "")
    assert applied(leader).voters() == tuple(sorted((leader.id, 4, 5)))
    assert len(applied(leader).removed_ids) == 2


def test_a_learner_is_promoted_on_demand_once_it_has_caught_up() -> None:
    cluster = Cluster()
    cluster.newcomer(4)
    change(cluster, 1, AddMember(member(4, voter=False)))
    assert not applied(cluster.nodes[1]).is_voter(4)
    cluster.advance(2000)
    assert not applied(cluster.nodes[1]).is_voter(4), "it is a learner for good"
    assert change(cluster, 2, PromoteMember(4)) == ChangeDone(0, "", "")
    assert applied(cluster.nodes[2]).is_voter(4)


def test_a_learner_that_lags_is_not_promoted() -> None:
    cluster = Cluster()
    cluster.newcomer(4)
    change(cluster, 1, AddMember(member(4, voter=False)))
    cluster.crash(4)
    cluster.advance(2000)
    done = change(cluster, 2, PromoteMember(4))
    assert isinstance(done, ChangeDone) and done.code == "NotCaughtUp"


def test_a_cluster_begins_with_one_node_and_grows() -> None:
    cluster = Cluster(0, form=False)
    first = cluster.newcomer(1)
    assert cluster.ask(1, "SET k v") == [Refusal.NO_CLUSTER]
    first.replica.membership.found("127.0.0.1:7101", "127.0.0.1:7001")
    cluster.until(lambda: first.replica.status().session != 0)
    assert cluster.ask(1, "SET k v") == [OK]
    second = add(cluster, 2)
    assert cluster.ask(2, "GET k") == [b"v"]
    assert applied(second).origin == first.incarnation


def test_who_is_welcome() -> None:
    cluster = Cluster()
    origin = cluster.nodes[1].replica.membership.origin
    assert origin == cluster.nodes[1].incarnation
    newer = PeerIdentity(9, 109, False, origin)
    check = cluster.nodes[1].replica.check_peer
    assert check(newer) is None, "a member of a configuration that has not come here yet"
    foreign = check(PeerIdentity(2, 102, False, 77))
    assert foreign is not None and "another cluster" in foreign.text
    stranger = check(PeerIdentity(9, 109, True, 0))
    assert stranger is not None and "RAFT.CLUSTER JOIN" in stranger.text and not stranger.removed


def test_ids_are_chosen_above_all_that_were_used() -> None:
    configuration = Configuration((member(2), member(5)), removed_ids=(7,))
    assert next_id(configuration) == 8
    assert next_id(configuration, (8, 9)) == 10


@pytest.mark.parametrize("moved", [False, True])
def test_a_node_that_was_away_answers_a_leader_that_it_does_not_know(moved: bool) -> None:
    """The leader was added, or has another address, since. Its handshake says where it is reached; without an
    answer it would send no entries, and from them alone could this node learn that."""
    cluster = Cluster(4 if moved else 3)
    away = cluster.nodes[2]
    cluster.crash(away.id)
    if moved:
        assert change(cluster, 1, MoveMember(4, "127.0.0.1:9104", "")) == ChangeDone(0, "", "")
    else:
        add(cluster, 4)
    address = "127.0.0.1:9104" if moved else "127.0.0.1:7104"
    newest = cluster.nodes[4]
    cluster.until(lambda: linked(cluster) and newest.core.last_index == cluster.leader().core.last_index)
    newest.core.campaign(transfer=True)
    cluster.until(lambda: linked(cluster) and cluster.leader_id() == 4)

    reached: list[str] = []

    def lose(sent: Sent) -> bool:
        """What the node that was away sends to where the leader is not."""
        if (sent.sender, sent.to) != (away.id, 4):
            return False
        reached.append((away.targets or {}).get(4, "nowhere"))
        return reached[-1] != address

    cluster.lose = lose
    cluster.restart(away.id)
    cluster.until(lambda: linked(cluster) and away.core.configuration == newest.core.configuration)
    assert (away.targets or {})[4] == address, "now by its log"
