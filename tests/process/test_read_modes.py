"""Reads under a lease, and reads that may be a little old, on real processes."""

import pytest
import redis

from tests.process.cluster import STEADY, ClusterFactory


def test_under_a_lease_a_write_is_seen_through_every_node_at_once(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings={"raft": {"read_mode": "lease"}}).start()
    for round_ in range(2):
        clients = [cluster.client(each, single_connection_client=True) for each in cluster.living()]
        for number in range(300):
            writer, reader = clients[number % len(clients)], clients[(number + 1) % len(clients)]
            writer.set("k", f"{round_}.{number}")
            assert reader.get("k") == f"{round_}.{number}".encode()
        for client in clients:
            client.close()
        if not round_:
            cluster.kill(cluster.leader())
            cluster.leader()


def test_a_node_that_is_left_alone_serves_those_who_take_old_reads(make_cluster: ClusterFactory) -> None:
    patience = {"park_ms": 2000, "request_timeout_ms": 2000, "max_stale_ms": 3_600_000}
    cluster = make_cluster(settings={"client": patience, **STEADY}).start()
    alone, *others = cluster.nodes
    with (
        cluster.client(alone, single_connection_client=True) as old,
        cluster.client(alone, single_connection_client=True) as new,
    ):
        old.set("k", "v")
        assert new.get("k") == b"v"  # A barrier, so that the node knows how old its state is.
        assert old.execute_command("READONLY")  # redis-py makes True of OK.
        for each in others:
            cluster.pause(each)
        for _ in range(100):
            assert old.get("k") == b"v"
        with pytest.raises(redis.RedisError, match="No raft leader|no quorum"):
            new.get("k")
        for each in others:
            cluster.resume(each)
