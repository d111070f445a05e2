"""The cluster grows, shrinks and moves under load: no client of a member sees an error, INCR counts once."""

import threading
from typing import Any

import pytest
import redis

from tests.process.clients import Incrementer, assert_counted_once, assert_no_errors, progress
from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually


def run(cluster: Cluster, node_id: int, *words: object) -> Any:
    """Give one command to a node."""
    with cluster.client(node_id, protocol=3, decode_responses=True) as client:
        return client.execute_command(*words)


def refused(cluster: Cluster, node_id: int, *words: object) -> str:
    """The error that a command is refused with."""
    with pytest.raises(redis.ResponseError) as error:
        run(cluster, node_id, *words)
    return str(error.value)


def address(cluster: Cluster, node_id: int) -> str:
    return f"127.0.0.1:{cluster.nodes[node_id].client_port}"


def peer_address(cluster: Cluster, node_id: int) -> str:
    return f"127.0.0.1:{cluster.nodes[node_id].peer_port}"


def members(cluster: Cluster, node_id: int) -> dict[int, str]:
    """Id and role of each member, as a node sees them."""
    return {row["id"]: row["role"] for row in run(cluster, node_id, "RAFT.NODE", "LIST")}


def voters(cluster: Cluster, node_id: int) -> set[int]:
    return {number for number, role in members(cluster, node_id).items() if role != "learner"}


def settled(cluster: Cluster, node_id: int, expected: set[int]) -> bool:
    status = cluster.status(node_id)
    return status["membership"] == "settled" and {each["id"] for each in status["members"]} == expected


def test_nodes_with_different_member_lists_form_no_cluster(make_cluster: ClusterFactory) -> None:
    """Nodes 1 and 2 do not list each other, and node 3 lists both: either could found a cluster with it."""
    cluster = make_cluster()
    for number, unknown in ((1, 2), (2, 1)):
        path = cluster.nodes[number].directory / "respraft.toml"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if f"id = {unknown}, peer" not in line))
    for number in cluster.nodes:
        cluster.launch(number)
    told = "node id 3 has nodes 1, 2, 3 in its cluster.members, the node that it talks to has nodes {}, 3"
    for number in (1, 2):
        eventually(
            lambda number=number: told.format(number) in cluster.log_text(number),  # type: ignore[misc]
            what=f"node {number} complains",
        )
    cluster.wait_listening(*cluster.nodes)  # Node 3 talks to its peers first.
    for number in cluster.nodes:
        assert cluster.status(number)["last_index"] == 0
        assert cluster.http(number, "/readyz")[0] == 503

    for number in (1, 2):
        cluster.stop(number)
        cluster.configure(number)
        cluster.launch(number)
    cluster.wait_ready()
    assert run(cluster, 3, "SET", "k", "v")
    eventually(lambda: all(settled(cluster, number, {1, 2, 3}) for number in cluster.nodes))


def test_a_cluster_grows_from_one_to_five_and_shrinks_under_load(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=0)
    cluster.newcomer(1)
    with cluster.client(1) as client, pytest.raises(redis.ResponseError, match="No Raft Cluster"):
        client.set("k", "v")
    assert cluster.http(1, "/readyz")[0] == 503
    reply = run(cluster, 1, "RAFT.CLUSTER", "INIT", "demo")
    assert reply == "OK demo"
    cluster.wait_ready(1)
    clients = [Incrementer(cluster, "n", 1) for _ in range(2)]
    progress(clients, 20)

    for number in (2, 3, 4, 5):
        cluster.newcomer(number)
        assert run(cluster, number, "RAFT.CLUSTER", "JOIN", address(cluster, number - 1)) == "OK"
        assert voters(cluster, number) == set(range(1, number + 1))
        clients.append(Incrementer(cluster, "n", number))
        progress(clients, 20)

    leader = cluster.leader()
    for client in clients:
        client.move(leader % 5 + 1)
    progress(clients, 20)
    asked = (leader + 1) % 5 + 1
    assert run(cluster, asked, "RAFT.NODE", "REMOVE", leader) == "OK"
    progress(clients, 20)
    assert cluster.leader(among=cluster.others(leader)) != leader
    eventually(lambda: is_turned_away(cluster, leader), what="the removed node serves nobody")
    follower = next(each for each in cluster.others(leader, asked) if each != clients[0]._home)
    if follower != cluster.leader(among=cluster.others(leader)):
        assert run(cluster, asked, "RAFT NODE", "REMOVE", follower) == "OK"
    progress(clients, 20)

    for client in clients:
        client.stop()
    assert_no_errors(clients)
    with cluster.client(clients[0]._home) as reader:
        assert_counted_once(clients, int(reader.get("n") or 0))


def is_turned_away(cluster: Cluster, node_id: int) -> bool:
    """Whether it knows that it was removed. Had it not led any more by then, it would hear so later."""
    try:
        run(cluster, node_id, "GET", "n")
    except redis.ResponseError as error:
        return str(error).startswith(("NOCLUSTER", f"node id {node_id} was removed"))
    return False


def test_a_wiped_node_comes_back_under_a_new_id(cluster: Cluster) -> None:
    victim = cluster.followers()[0]
    others = cluster.others(victim)
    clients = [Incrementer(cluster, "n", home) for home in others]
    progress(clients, 20)
    cluster.kill(victim)
    cluster.wipe(victim)

    cluster.newcomer(4)
    assert run(cluster, 4, "RAFT.CLUSTER", "JOIN", address(cluster, others[0])) == "OK"
    assert run(cluster, 4, "RAFT.NODE", "REMOVE", victim) == "OK"
    progress(clients, 20)
    for client in clients:
        client.stop()
    assert_no_errors(clients)
    assert voters(cluster, 4) == {*others, 4}
    with cluster.client(4) as reader:
        assert_counted_once(clients, int(reader.get("n") or 0))


def test_a_removed_node_that_comes_back_is_told_and_disturbs_nobody(steady_cluster: Cluster) -> None:
    cluster = steady_cluster
    victim = cluster.followers()[0]
    others = cluster.others(victim)
    cluster.kill(victim)
    assert run(cluster, others[0], "RAFT.NODE", "REMOVE", victim) == "OK"
    term = cluster.status(others[0])["term"]

    cluster.launch(victim)
    eventually(lambda: cluster.nodes[victim].alive and is_removed(cluster, victim), what="it is told")
    assert "was removed" in refused(cluster, victim, "SET", "k", "v")
    cluster.wait_listening(victim)
    assert cluster.http(victim, "/readyz")[0] == 503
    assert cluster.status(others[0])["term"] == term
    assert "never used again" in cluster.log_text(victim)
    assert "already been used" in refused(
        cluster, others[0], "RAFT.NODE", "ADD", victim, "h:1", "h:2", "INCARNATION", "ff"
    )


def is_removed(cluster: Cluster, node_id: int) -> bool:
    try:
        return bool(cluster.status(node_id)["state"] == "refused")
    except redis.ConnectionError:
        return False


def test_a_node_moves_to_other_addresses(cluster: Cluster) -> None:
    moved = cluster.followers()[0]
    others = cluster.others(moved)
    clients = [Incrementer(cluster, "n", home) for home in others]
    progress(clients, 20)
    cluster.stop(moved)
    node = cluster.nodes[moved]
    old_peer = f"127.0.0.1:{node.peer_port}"
    assert "nobody is there" in refused(cluster, others[0], "RAFT.NODE", "MOVE", moved, old_peer)
    cluster.move(moved)
    cluster.launch(moved)
    eventually(lambda: is_up(cluster, moved), what="it listens at its new address")
    new = (f"127.0.0.1:{node.peer_port}", f"127.0.0.1:{node.client_port}")
    mistakes = {
        (peer_address(cluster, others[1]), new[1]): f"node {others[1]} answers where node {moved} should be",
        (new[0], address(cluster, others[1])): f"node {others[1]} of cluster 'test' serves clients at",
        (new[0], new[0]): "closed the connection",
        (new[1], new[1]): "",  # A Redis port says nothing, or something else, to our Hello.
    }
    for wrong, words in mistakes.items():
        said = refused(cluster, others[0], "RAFT.NODE", "MOVE", moved, *wrong)
        assert said.startswith("invalid node address") and said.endswith("nothing was changed"), said
        assert words in said, said
    assert peer_address(cluster, moved) not in str(run(cluster, others[0], "RAFT.NODE", "LIST"))
    assert run(cluster, others[0], "RAFT.NODE", "MOVE", moved, *new) == "OK"
    cluster.wait_ready(moved)
    rows = {row["id"]: row for row in run(cluster, moved, "RAFT.NODE", "LIST")}
    assert (rows[moved]["peer"], rows[moved]["client"]) == new
    # A node finds itself, too, and what it has already changes nothing.
    for asked in cluster.nodes:
        assert run(cluster, asked, "RAFT.NODE", "MOVE", moved, *new) == "OK"
    progress(clients, 20)
    for client in clients:
        client.stop()
    assert_no_errors(clients)


def test_a_node_does_not_move_to_its_copy(cluster: Cluster, make_cluster: ClusterFactory) -> None:
    """The right ids at the address, and the data directory of another cluster."""
    double = make_cluster().start()
    said = refused(cluster, 1, "RAFT.NODE", "MOVE", 2, peer_address(double, 2), address(double, 2))
    assert "belongs to another cluster that has the same name" in said, said
    assert said.endswith("nothing was changed")


def is_up(cluster: Cluster, node_id: int) -> bool:
    try:
        return bool(cluster.status(node_id))
    except redis.ConnectionError:
        return False


def test_several_nodes_join_at_once_and_get_different_ids(cluster: Cluster) -> None:
    replies: dict[int, object] = {}

    def join(number: int) -> None:
        cluster.newcomer(number)
        replies[number] = run(cluster, number, "RAFT.CLUSTER", "JOIN", address(cluster, number - 3))

    threads = [threading.Thread(target=join, args=(number,)) for number in (4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == {4: "OK", 5: "OK"}
    assert {cluster.status(4)["node_id"], cluster.status(5)["node_id"]} == {4, 5}
    assert eventually(lambda: voters(cluster, 1) == {1, 2, 3, 4, 5})


def test_an_operator_adds_promotes_and_lists(steady_cluster: Cluster) -> None:
    cluster = steady_cluster
    cluster.newcomer(4)
    assert run(cluster, 2, "RAFT.NODE", "ADD", 0, address(cluster, 4), "LEARNER") == [4, "test"]
    eventually(lambda: members(cluster, 2).get(4) == "learner")
    assert "node id does not exist" in refused(cluster, 2, "RAFT.NODE", "PROMOTE", 9)
    promoted = eventually(lambda: promote(cluster, 4), what="it has caught up")
    assert promoted == "OK"
    assert members(cluster, 2)[4] == "voter"
    addresses = [address(cluster, number) for number in (1, 2, 3, 4)]
    eventually(
        lambda: [row["address"] for row in run(cluster, 1, "RAFT", "SERVER", "LIST")] == addresses,
        what="a node that was not asked has heard of it",
    )
    with cluster.client(4) as client:
        client.set("k", "v")
        assert client.get("k") == b"v"


def promote(cluster: Cluster, node_id: int) -> Any:
    try:
        return run(cluster, 2, "RAFT.NODE", "PROMOTE", node_id)
    except redis.ResponseError as error:
        return None if "not caught up" in str(error) else str(error)


def test_what_is_refused_changes_nothing(steady_cluster: Cluster) -> None:
    cluster = steady_cluster
    before = run(cluster, 1, "RAFT.NODE", "LIST")
    free = address(cluster, cluster_without_process(cluster))
    assert "nobody is there" in refused(cluster, 2, "RAFT.NODE", "ADD", 0, free)
    assert "node id does not exist" in refused(cluster, 2, "RAFT.NODE", "REMOVE", 9)
    assert "already been used" in refused(
        cluster, 1, *["RAFT.NODE", "ADD", "2", "h:1", "h:2", "INCARNATION", "ff"]
    )
    unreachable = refused(cluster, 1, *f"RAFT.NODE ADD 9 {free} h:2 INCARNATION ff".split())
    assert "cannot reach node 9" in unreachable and "nothing was changed" in unreachable
    assert "Already cluster member" in refused(cluster, 1, "RAFT.CLUSTER", "INIT")
    assert "Already cluster member" in refused(cluster, 1, "RAFT.CLUSTER", "JOIN", address(cluster, 2))
    leader = cluster.leader()
    dead, other = cluster.others(leader, 8)
    cluster.kill(dead)
    eventually(lambda: not linked(cluster, leader, dead), what="the leader has noticed")
    assert "stand still" in refused(cluster, leader, "RAFT.NODE", "REMOVE", other)
    rows = run(cluster, leader, "RAFT.NODE", "LIST")
    assert [(row["id"], row["peer"]) for row in rows] == [(row["id"], row["peer"]) for row in before]


def linked(cluster: Cluster, node_id: int, other: int) -> bool:
    return any(row["id"] == other and row["connected"] for row in run(cluster, node_id, "RAFT.NODE", "LIST"))


def cluster_without_process(cluster: Cluster) -> int:
    """A node that has addresses and no process."""
    cluster.newcomer(8)
    cluster.kill(8)
    return 8


def test_a_node_of_another_cluster_is_not_joined(cluster: Cluster) -> None:
    cluster.newcomer(4, cluster={"id": "elsewhere"})
    said = refused(cluster, 4, "RAFT.CLUSTER", "JOIN", address(cluster, 1))
    assert "belongs to cluster 'test', but cluster.id is 'elsewhere'" in said
    cluster.newcomer(5)
    assert "belongs to no cluster itself" in refused(cluster, 4, "RAFT.CLUSTER", "JOIN", address(cluster, 5))
    assert "Connection refused" in refused(cluster, 5, "RAFT.CLUSTER", "JOIN", "127.0.0.1:1")
    assert run(cluster, 4, "RAFT.CLUSTER", "INIT") == "OK elsewhere"
    assert voters(cluster, 1) == voters(cluster, 2) == {1, 2, 3}
    # And it is what its directory remembers.
    cluster.wait_ready(4)
    cluster.kill(4)
    cluster.start(4)
    assert cluster.status(4)["cluster_id"] == "elsewhere"
