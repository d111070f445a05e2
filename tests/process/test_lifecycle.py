"""Starting, stopping, starting again; what a node shows of itself meanwhile."""

import re
import signal
import subprocess
from typing import Final

import pytest

from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK

STATUS_KEYS: Final = {
    *("node_id", "cluster_id", "role", "term", "leader_id", "leader_addr", "voted_for"),
    *("first_index", "last_index", "last_term", "commit_index", "applied_index", "members"),
}


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_node_that_is_asked_to_stop_exits_with_0_and_keeps_its_data(
    make_cluster: ClusterFactory, signal_number: signal.Signals
) -> None:
    cluster = make_cluster(nodes=1).start()
    with cluster.client(1) as client:
        client.set("key", "value")
        client.set("gone", "soon", px=1)
    assert cluster.stop(1, signal_number) == 0
    cluster.start()
    with cluster.client(1) as client:
        assert client.get("key") == b"value"
        assert client.get("gone") is None


def test_all_nodes_stopped_and_started_again_have_all_data(cluster: Cluster) -> None:
    with cluster.client(1) as client:
        for number in range(500):
            client.set(f"key:{number}", number)
        client.select(3)
        client.set("elsewhere", "database 3")
    assert [cluster.stop(node_id) for node_id in cluster.nodes] == [0, 0, 0]
    cluster.start()
    for node_id in cluster.nodes:
        with cluster.client(node_id) as client, cluster.client(node_id, db=3) as third:
            assert client.mget([f"key:{number}" for number in range(500)]) == [b"%d" % n for n in range(500)]
            assert client.dbsize() == 500
            assert third.get("elsewhere") == b"database 3"


def test_stopping_the_leader_in_order_is_hardly_noticed(cluster: Cluster) -> None:
    leader = cluster.leader()
    with cluster.client(cluster.others(leader)[0]) as client:
        client.set("key", 1)
        assert cluster.stop(leader) == 0
        assert client.incr("key") == 2
    cluster.start(leader)
    with cluster.client(leader) as client:
        assert client.get("key") == b"2"


def test_a_node_that_was_away_catches_up(cluster: Cluster) -> None:
    away = cluster.followers()[0]
    cluster.kill(away)
    with cluster.client(cluster.leader()) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(5_000):
            pipeline.set(f"key:{number}", number)
        pipeline.execute()
    cluster.start(away)
    with cluster.client(away) as client:
        assert client.dbsize() == 5_000
        assert client.get("key:4999") == b"4999"


def test_status_names_the_leader_and_every_member(shared_cluster: Cluster) -> None:
    leader = shared_cluster.leader()
    reports = {node_id: shared_cluster.status(node_id) for node_id in shared_cluster.nodes}
    for node_id, report in reports.items():
        assert set(report) >= STATUS_KEYS
        assert report["node_id"] == node_id
        assert report["leader_id"] == leader
        assert report["leader_addr"] == f"{LOOPBACK}:{shared_cluster.nodes[leader].client_port}"
        assert [member["id"] for member in report["members"]] == [1, 2, 3]
        assert report["applied_index"] <= report["commit_index"] <= report["last_index"]
    assert sorted(report["role"] for report in reports.values()) == ["follower", "follower", "leader"]
    eventually(lambda: all(member["connected"] for member in shared_cluster.status(leader)["members"]))
    with shared_cluster.client(shared_cluster.others(leader)[0]) as client:
        assert client.execute_command("RAFT.LEADER") == reports[leader]["leader_addr"].encode()
        assert client.execute_command("RAFT", "LEADER") == client.execute_command("RAFT.LEADER")
        assert b"help" in b" ".join(client.execute_command("RAFT.HELP")).lower()


@pytest.mark.requires_tool("redis-cli")
@pytest.mark.parametrize("command", [["RAFT.STATUS"], ["RAFT", "STATUS"]], ids=" ".join)
def test_a_person_can_read_the_status_in_redis_cli(shared_cluster: Cluster, command: list[str]) -> None:
    # On a terminal redis-cli shows a map as one line per key; `--no-raw` and `-3` do the same for a pipe.
    printed = _redis_cli(shared_cluster, 1, "-3", "--no-raw", *command)
    assert re.search(r'^ *\d+# "role" => "(leader|follower)"$', printed, re.MULTILINE), printed
    assert re.search(r'"members" => *\n? *1\) 1# "id" => \(integer\) 1', printed), printed
    assert re.search(
        r'"role"\n *\d+\) "(leader|follower)"', _redis_cli(shared_cluster, 1, "--no-raw", *command)
    )


@pytest.mark.requires_tool("redis-cli")
def test_redis_cli_sets_on_one_node_and_gets_on_another(shared_cluster: Cluster) -> None:
    assert _redis_cli(shared_cluster, 1, "set", "hello", "world") == "OK\n"
    assert _redis_cli(shared_cluster, 3, "get", "hello") == "world\n"
    sections = _redis_cli(shared_cluster, 2, "info", "raft")
    assert re.search(r"^raft_role:(leader|follower)\r?$", sections, re.MULTILINE)
    assert re.search(r"^redis_version:7\.0\.15\r?$", _redis_cli(shared_cluster, 2, "info"), re.MULTILINE)


@pytest.mark.parametrize("node_id", [1, 2, 3])
def test_http_pages_answer(shared_cluster: Cluster, node_id: int) -> None:
    assert shared_cluster.http(node_id, "/livez")[0] == 200
    assert shared_cluster.http(node_id, "/readyz")[0] == 200
    assert shared_cluster.http(node_id, "/nothing")[0] == 404
    status, metrics = shared_cluster.http(node_id, "/metrics")
    assert status == 200
    assert re.search(r"^respraft_\w+ \d", metrics, re.MULTILINE)


def test_a_node_without_a_quorum_lives_but_is_not_ready(cluster: Cluster) -> None:
    leader = cluster.leader()
    survivor = cluster.others(leader)[0]
    cluster.kill(*cluster.others(survivor))
    eventually(lambda: cluster.http(survivor, "/readyz")[0] == 503, what="not ready")
    assert cluster.http(survivor, "/livez")[0] == 200


def test_a_wrong_configuration_is_named_and_exits_with_2(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1, settings={"raft": {"heartbeat_milliseconds": 100}})
    cluster.launch(1)
    assert cluster.wait(1) == 2
    assert "raft.heartbeat_milliseconds" in cluster.log_text(1)
    assert "Traceback" not in cluster.log_text(1)


def test_a_taken_port_is_named(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1).start()
    port = cluster.nodes[1].client_port
    second = make_cluster(nodes=1, settings={"client": {"listen": f"{LOOPBACK}:{port}"}})
    second.launch(1)
    assert second.wait(1) > 0
    assert str(port) in second.log_text(1)
    assert "Traceback" not in second.log_text(1)


def test_a_data_directory_serves_one_process_at_a_time(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1).start()
    data = str(cluster.nodes[1].data)
    second = make_cluster(nodes=1, settings={"node": {"data_dir": data}})
    second.launch(1)
    assert second.wait(1) > 0
    assert data in second.log_text(1)
    assert "Traceback" not in second.log_text(1)
    with cluster.client(1) as client:
        assert client.set("key", "value")


def _redis_cli(cluster: Cluster, node_id: int, *arguments: str) -> str:
    command = ["redis-cli", "-h", LOOPBACK, "-p", str(cluster.nodes[node_id].client_port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
