"""Leadership changes hands on purpose: by command, and when a leader is stopped."""

import pytest
import redis

from tests.process.clients import Incrementer, assert_counted_once, assert_no_errors, progress
from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually


def test_a_leader_that_is_stopped_hands_over_first(steady_cluster: Cluster) -> None:
    """An election timeout would be an error to every client here, and nobody waits for one."""
    cluster = steady_cluster
    clients = [Incrementer(cluster, "n", home) for home in cluster.followers()]
    for _ in range(3):
        leader = cluster.leader()
        for client, home in zip(clients, cluster.others(leader), strict=True):
            client.move(home)
        progress(clients, 20)
        term = cluster.status(leader)["term"]

        assert cluster.stop(leader) == 0
        progress(clients, 20)
        assert cluster.status(cluster.leader())["term"] == term + 1
        cluster.start(leader)
    for client in clients:
        client.stop()
    assert_no_errors(clients)
    with cluster.client(cluster.leader()) as reader:
        assert_counted_once(clients, int(reader.get("n") or 0))


def test_transfer_by_command(steady_cluster: Cluster) -> None:
    cluster = steady_cluster
    clients = [Incrementer(cluster, "n", home) for home in cluster.nodes]
    progress(clients, 20)
    for _ in range(5):
        leader = cluster.leader()
        target = cluster.others(leader)[0]
        with cluster.client(leader) as client:
            assert client.execute_command("RAFT.TRANSFER_LEADER", target) == b"OK"
        assert cluster.leader() == target
        progress(clients, 20)
        # Any node may be asked, and sees to it that it comes about.
        with cluster.client(cluster.others(leader, target)[0]) as client:
            assert client.execute_command("RAFT TRANSFER_LEADER") == b"OK"
            with pytest.raises(redis.ResponseError, match="node id does not exist"):
                client.execute_command("RAFT.TRANSFER_LEADER", 9)
        eventually(lambda old=target: cluster.leader() != old)  # type: ignore[misc]
    for client in clients:
        client.stop()
    assert_no_errors(clients)
    with cluster.client(cluster.leader()) as reader:
        assert_counted_once(clients, int(reader.get("n") or 0))


def test_transfer_that_cannot_be(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings={"raft": {"election_timeout_ms": 3000}}).start()
    leader = cluster.leader()
    follower, other = cluster.others(leader)
    with cluster.client(leader) as client:
        for words, error in (
            (["RAFT.TRANSFER_LEADER", "9"], "node id does not exist"),
            (["RAFT.TRANSFER_LEADER", "x"], "invalid node id"),
        ):
            with pytest.raises(redis.ResponseError, match=error):
                client.execute_command(*words)
        cluster.pause(other)
        with pytest.raises(redis.ResponseError, match="transfer timed out"):
            client.execute_command("RAFT.TRANSFER_LEADER", other)
        assert client.set("still", "writes")
    cluster.resume(other)
    with cluster.client(follower) as client:
        assert client.get("still") == b"writes"


def test_the_links_of_a_killed_leader_tell_its_followers(steady_cluster: Cluster) -> None:
    cluster = steady_cluster
    clients = [Incrementer(cluster, "n", home) for home in cluster.followers()]
    for _ in range(3):
        leader = cluster.leader()
        for client, home in zip(clients, cluster.others(leader), strict=True):
            client.move(home)
        progress(clients, 20)
        cluster.kill(leader)
        progress(clients, 20)
        cluster.start(leader)
    for client in clients:
        client.stop()
    assert_no_errors(clients)
