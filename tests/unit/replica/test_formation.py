"""How a cluster forms once, and how a node that lost its disk is kept out. Design section 4."""

from respraft.raft.message import VoteRequest
from respraft.replica.batch import Refusal
from respraft.replica.formation import PeerIdentity
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster, Sent


def test_a_cluster_forms_once_all_listed_members_are_there_and_empty() -> None:
    cluster = Cluster(form=False)
    first = cluster.nodes[1]
    for peer in (2, 3):
        assert first.core.configuration is None
        first.replica.link_up(PeerIdentity(peer, cluster.nodes[peer].incarnation, True))
        cluster.turn(first)
    configuration = first.core.configuration
    assert configuration is not None
    assert [(m.id, m.incarnation) for m in configuration.members] == [(1, 101), (2, 102), (3, 103)]


def test_a_member_that_is_not_empty_keeps_the_cluster_from_forming() -> None:
    cluster = Cluster(form=False)
    first = cluster.nodes[1]
    first.replica.link_up(PeerIdentity(2, 102, True))
    first.replica.link_up(PeerIdentity(3, 103, False))
    cluster.advance(3000)
    assert first.core.configuration is None


def test_what_a_peer_said_does_not_count_once_its_link_has_ended() -> None:
    cluster = Cluster(form=False)
    first = cluster.nodes[1]
    first.replica.link_up(PeerIdentity(2, 102, True))
    first.replica.link_down(2)
    first.replica.link_up(PeerIdentity(3, 103, True))
    cluster.turn(first)
    assert first.core.configuration is None


def test_only_the_lowest_id_forms() -> None:
    cluster = Cluster(form=False)
    second = cluster.nodes[2]
    second.replica.link_up(PeerIdentity(1, 101, True))
    second.replica.link_up(PeerIdentity(3, 103, True))
    cluster.advance(3000)
    assert second.core.configuration is None


def test_a_single_node_forms_and_serves_alone() -> None:
    cluster = Cluster(1)
    assert cluster.ask(1, "SET k v", "GET k") == [OK, b"v"]
    assert cluster.ask(1, "GET k") == [b"v"]


def test_a_node_that_lost_its_disk_is_refused_by_those_who_know_the_cluster() -> None:
    cluster = Cluster()
    wiped = PeerIdentity(2, 999, True)
    objection = cluster.nodes[1].replica.check_peer(wiped)
    assert objection is not None
    assert "node id 2" in objection.text and "under an id that has not been used" in objection.text
    assert not objection.removed
    assert cluster.nodes[1].replica.check_peer(PeerIdentity(2, 102, False)) is None


def test_strangers_are_refused_before_and_after_the_cluster_has_formed() -> None:
    for cluster in (Cluster(form=False), Cluster()):
        assert cluster.nodes[1].replica.check_peer(PeerIdentity(9, 109, True)) is not None


def test_nodes_that_list_other_members_do_not_form_a_cluster_together() -> None:
    cluster = Cluster(form=False)
    check = cluster.nodes[3].replica.check_peer
    own = cluster.nodes[3].replica.membership.founders
    assert own == (1, 2, 3)
    # Node 1 would found one of {1, 3}, node 2 one of {2, 3}, and node 3 would get two entries 1 of term 1.
    for node_id, theirs in ((1, (1, 3)), (2, (2, 3)), (1, (1, 2, 3, 4))):
        objection = check(PeerIdentity(node_id, 100 + node_id, True, founders=theirs))
        assert objection is not None and not objection.removed
        assert f"node id {node_id} has nodes {', '.join(map(str, theirs))} in its" in objection.text
        assert "has nodes 1, 2, 3, and no cluster" in objection.text
    assert check(PeerIdentity(1, 101, True, founders=own)) is None


def test_a_list_counts_until_the_cluster_has_formed() -> None:
    cluster = Cluster()
    node = cluster.nodes[1].replica
    assert node.membership.founders == ()
    assert node.check_peer(PeerIdentity(2, 102, True, founders=(2, 3))) is None


def test_messages_of_another_incarnation_do_not_reach_the_core() -> None:
    cluster = Cluster()
    node = cluster.followers()[0]
    term = node.core.term
    request = VoteRequest(3 if node.id != 3 else 2, term + 50, 10_000, term + 49, True)
    cluster.deliver(Sent(node.id, request.sender, 999, request))
    cluster.settle()
    assert node.core.term == term


def test_a_refused_node_tells_its_clients_at_once_and_executes_nothing() -> None:
    cluster = Cluster(form=False)
    node = cluster.nodes[2]
    cluster.submit(2, "early", ["SET k v"])
    cluster.submit(2, "reader", ["GET k"])
    node.replica.refused(1, "the data directory of node id 2 is not the one it knows", removed=False)
    cluster.turn(node)
    assert node.replies("early") == node.replies("reader") == [Refusal.NO_CLUSTER]
    assert cluster.ask(2, "SET k v") == [Refusal.NO_CLUSTER]
    assert cluster.ask(2, "GET k") == [Refusal.NO_CLUSTER]
    assert node.replica.status().refused


def test_two_wiped_nodes_form_no_second_cluster_beside_a_third_that_remembers() -> None:
    cluster = Cluster()
    remembers = cluster.nodes[3]
    cluster.ask(3, "SET k v")
    empty = Cluster(form=False)  # The same ids, with nothing on disk.
    first = empty.nodes[1]
    first.replica.link_up(PeerIdentity(2, 102, True))
    first.replica.link_up(PeerIdentity(3, remembers.incarnation, remembers.core.last_index == 0))
    empty.advance(5000)
    assert first.core.configuration is None
    assert empty.ask(1, "SET k other") in ([], [Refusal.NO_LEADER])
