"""Damaged files, lost directories, failing disks: the node says so and stops; the others go on."""

import os
from pathlib import Path
from typing import Final

import pytest
import redis

from tests.process.clients import Incrementer, progress
from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually
from tests.process.injection import injected

KEYS: Final = 200


def test_a_flipped_byte_in_the_log_is_refused(cluster: Cluster) -> None:
    victim = cluster.followers()[0]
    others = cluster.others(victim)
    _write(cluster, others[0])
    # Killed, since a node that stops in order may leave nothing in its log that could be damaged.
    cluster.kill(victim)
    damaged = _flip_middle_byte(cluster.nodes[victim].data / "raft")
    printed_before = len(cluster.log_text(victim))

    cluster.launch(victim)
    assert cluster.wait(victim) > 0
    words = cluster.log_text(victim)[printed_before:]
    assert str(damaged.parent) in words, "it says where"
    assert "Traceback" not in words
    assert "id that has not been used" in words, "it says what to do"
    # Nothing was changed: it is refused again, with the same words.
    cluster.launch(victim)
    assert cluster.wait(victim) > 0
    _check_that_the_others_go_on(cluster, victim)


def test_a_log_cut_short_by_a_crash_is_no_damage(cluster: Cluster) -> None:
    """A torn last write was never acknowledged by this node; a missing synced one would be refused."""
    victim = cluster.followers()[0]
    _write(cluster, victim)
    cluster.kill(victim)
    log = _newest_log(cluster.nodes[victim].data / "raft")
    with log.open("r+b") as file:
        # The beginning of a record whose end did not reach the disk.
        beginning = file.read(20)
        file.seek(0, os.SEEK_END)
        file.write(beginning)
    cluster.start(victim)
    with cluster.client(victim) as client:
        assert client.get(f"key:{KEYS - 1}") == b"%d" % (KEYS - 1)


def test_a_log_that_lost_synced_writes_is_refused(cluster: Cluster) -> None:
    victim = cluster.followers()[0]
    _write(cluster, victim)
    cluster.kill(victim)
    log = _newest_log(cluster.nodes[victim].data / "raft")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size * 3 // 4)
    cluster.launch(victim)
    assert cluster.wait(victim) > 0
    assert "Traceback" not in cluster.log_text(victim)
    _check_that_the_others_go_on(cluster, victim)


def test_a_wiped_node_is_refused_under_its_old_id(make_cluster: ClusterFactory) -> None:
    # Several elections fit into `park_ms`; who is refused at last waits for all of it.
    cluster = make_cluster(settings={"client": {"park_ms": 8000}}).start()
    victim, witness = cluster.followers()
    _write(cluster, victim)
    cluster.kill(victim)
    cluster.wipe(victim)
    cluster.launch(victim)
    eventually(lambda: "id that has not been used" in cluster.log_text(victim), what="it is told what to do")
    cluster.wait_listening(victim)
    assert cluster.http(victim, "/readyz")[0] == 503
    _check_that_the_others_go_on(cluster, victim)

    # It has no vote: one node beside it is no majority, so nothing acknowledged can be forgotten.
    leader = cluster.leader(among=cluster.others(victim))
    survivor = next(iter(cluster.others(victim, leader)))
    assert survivor == witness or leader == witness
    cluster.kill(leader)
    eventually(lambda: not cluster.status(survivor)["leader_id"], what="the leader is given up")
    with (
        cluster.client(survivor) as client,
        pytest.raises(redis.ResponseError, match="No raft leader"),
    ):
        client.set("key:0", "by a minority")
    cluster.start(leader)
    _check_that_the_others_go_on(cluster, victim)


@pytest.mark.requires_tool("strace")
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_failed_fdatasync_stops_the_node(cluster: Cluster, role: str) -> None:
    leader = cluster.leader()
    victim = leader if role == "leader" else cluster.others(leader)[0]
    _write(cluster, victim)
    on_victim = Incrementer(cluster, "on-victim", victim)
    elsewhere = Incrementer(cluster, "elsewhere", cluster.others(victim)[0])
    progress([on_victim, elsewhere], 20)

    # Its connections end with it; what it did not acknowledge is unknown.
    with cluster.nodes[victim].ending(), injected(cluster.pid(victim), "fdatasync:error=EIO:when=1"):
        assert cluster.wait(victim) > 0
    words = cluster.log_text(victim)
    assert "to the Raft log" in words and "Input/output error. The node stops." in words

    progress([elsewhere], 50)
    on_victim.stop()
    elsewhere.stop()
    assert on_victim.errors == []
    assert elsewhere.errors == []
    with cluster.client(elsewhere_home := cluster.others(victim)[0]) as client:
        assert int(client.get("elsewhere") or 0) == len(elsewhere.replies)
        counted = int(client.get("on-victim") or 0)
        assert len(on_victim.replies) <= counted <= len(on_victim.replies) + on_victim.unknown
    _check_that_the_others_go_on(cluster, victim)
    # The disk is well again: what the node had promised is all there.
    cluster.start(victim)
    with cluster.client(victim) as client, cluster.client(elsewhere_home) as other:
        assert client.get("on-victim") == other.get("on-victim")


def _write(cluster: Cluster, node_id: int) -> None:
    """Write keys one by one: each is a log entry, and a synced write on every node that has it."""
    with cluster.client(node_id) as client:
        for number in range(KEYS):
            client.set(f"key:{number}", number)


def _check_that_the_others_go_on(cluster: Cluster, victim: int) -> None:
    """All that was acknowledged is there, and writes go on, on every node but the victim."""
    for node_id in cluster.others(victim):
        with cluster.client(node_id) as client:
            values = client.mget([f"key:{number}" for number in range(KEYS)])
            assert values == [b"%d" % number for number in range(KEYS)]
            assert client.set(f"still-writable:{node_id}", "yes")


def _newest_log(directory: Path) -> Path:
    """RocksDB's write-ahead log of the Raft log: the only file there that holds the latest entries."""
    logs = [path for path in directory.rglob("*.log") if path.stat().st_size > 0]
    assert logs, f"no log with anything in it: {sorted(directory.rglob('*'))}"
    return max(logs, key=lambda path: path.stat().st_mtime_ns)


def _flip_middle_byte(directory: Path) -> Path:
    path = _newest_log(directory)
    with path.open("r+b") as file:
        middle = path.stat().st_size // 2
        file.seek(middle)
        [byte] = file.read(1)
        file.seek(middle)
        file.write(bytes([byte ^ 0x01]))
    return path
