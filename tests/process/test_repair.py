"""A node that lost data comes back at the same addresses under a new id; nothing acknowledged is lost."""

import re
import subprocess
import sys
from typing import Any, Final

import pytest
import redis

from tests.process.clients import Incrementer, progress
from tests.process.cluster import REPOSITORY, Cluster, ClusterFactory, Node
from tests.process.eventually import eventually
from tests.process.test_damage import _flip_middle_byte

KEYS: Final = 300
COMPACT_SOON: Final = {"raft": {"compact_entries": 100, "keep_entries": 10}}


def test_a_damaged_log_is_given_up_and_the_node_comes_back(cluster: Cluster) -> None:
    victim, other = cluster.followers()
    write(cluster, other)
    on_other = Incrementer(cluster, "counter", other)
    progress([on_other], 20)
    cluster.kill(victim)
    _flip_middle_byte(cluster.nodes[victim].data / "raft")
    cluster.launch(victim)
    assert cluster.wait(victim) == 3
    assert "respraft repair --rejoin --config FILE" in cluster.log_text(victim)

    words = repair(cluster, victim)
    assert "ready to come back" in words
    cluster.launch(victim)
    assert come_back(cluster, victim, as_id=4)
    on_other.stop()
    assert on_other.errors == []
    with cluster.client(victim) as client:
        assert int(client.get("counter") or 0) == len(on_other.replies)
        assert client.mget([f"key:{number}" for number in range(KEYS)]) == values()
    assert list(cluster.nodes[victim].data.glob("set-aside-*/raft"))

    # It is a voter: with one of the others gone, the two of them are a majority.
    cluster.kill(other)
    with cluster.client(victim) as client:
        assert client.incr("counter") == len(on_other.replies) + 1
    # And it starts again with the configuration file as it always was.
    cluster.start(other)
    assert cluster.stop(victim) == 0
    cluster.start(victim)
    assert f"has come in the place of node {victim}" in cluster.log_text(victim)
    assert cluster.status(victim)["node_id"] == 4


def test_a_lost_disk_twice_with_a_log_that_was_cut(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=COMPACT_SOON).start()
    victim, other = cluster.followers()
    for round_, new_id in enumerate((4, 5)):
        eventually(lambda: is_cut(cluster, other), what="every log is cut")
        cluster.kill(victim)
        cluster.wipe(victim)
        repair(cluster, victim)
        cluster.launch(victim)
        assert come_back(cluster, victim, as_id=new_id)
        assert "took over the state of another node" in cluster.log_text(victim)
        with cluster.client(victim) as client:
            assert client.mget([f"key:{number}" for number in range(KEYS)]) == values()
            assert client.set("round", round_)


def test_a_node_whose_file_names_neither_an_id_nor_members(cluster: Cluster) -> None:
    """As of one that has joined by RAFT.CLUSTER JOIN. Whose place it takes shows from the address."""
    victim, other = cluster.followers()
    write(cluster, other)
    cluster.kill(victim)
    cluster.wipe(victim)
    config = cluster.nodes[victim].directory / "respraft.toml"
    text = re.sub(r"members = \[.*?\n\]", "", config.read_text(), flags=re.DOTALL)
    config.write_text(text.replace(f"id = {victim}\n", ""))
    repair(cluster, victim, "--contact", f"127.0.0.1:{cluster.nodes[other].client_port}")
    cluster.launch(victim)
    assert come_back(cluster, victim, as_id=4)
    with cluster.client(victim) as client:
        assert client.mget([f"key:{number}" for number in range(KEYS)]) == values()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["where it listens", "at another name"])
def test_a_node_that_had_moved_comes_back_where_it_was(cluster: Cluster, host: str) -> None:
    """Its file still lists it at the old address. The cluster knows better, also when it is lost again."""
    victim, other = cluster.followers()
    cluster.stop(victim)
    cluster.move(victim)
    node = cluster.nodes[victim]
    if host != "127.0.0.1":
        advertise(node, host)
    cluster.launch(victim)
    addresses = (f"{host}:{node.peer_port}", f"127.0.0.1:{node.client_port}")
    with cluster.client(other) as client:
        eventually(lambda: has_moved(client, victim, *addresses), what="it has moved")
    for new_id in (4, 5):
        cluster.wait_ready(victim)
        cluster.kill(victim)
        cluster.wipe(victim)
        repair(cluster, victim)
        cluster.launch(victim)
        assert come_back(cluster, victim, as_id=new_id)
        places = {each["id"]: (each["peer"], each["client"]) for each in cluster.status(other)["members"]}
        assert places[new_id] == addresses


def advertise(node: Node, host: str) -> None:
    """Have a node that does not run tell the others a name, and not the address at which it listens."""
    path = node.directory / "respraft.toml"
    text = path.read_text(encoding="utf-8")
    listen = f'[peer]\nlisten = "127.0.0.1:{node.peer_port}"\n'
    assert listen in text
    both = f'{listen}advertise = "{host}:{node.peer_port}"\n'
    path.write_text(text.replace(listen, both), encoding="utf-8")


def has_moved(client: Any, victim: int, *addresses: str) -> bool:
    """False: it does not listen there yet."""
    try:
        return bool(client.execute_command("RAFT.NODE", "MOVE", victim, *addresses))
    except redis.ResponseError:
        return False


def is_cut(cluster: Cluster, node_id: int) -> bool:
    """A log is cut with later writes only, so go on writing until it is."""
    write(cluster, node_id)
    return all(cluster.status(each)["first_index"] > 1 for each in cluster.living())


def write(cluster: Cluster, node_id: int) -> None:
    """Some keys, each an entry of its own."""
    with cluster.client(node_id) as client:
        for number in range(KEYS):
            client.set(f"key:{number}", number)


def values() -> list[bytes]:
    return [b"%d" % number for number in range(KEYS)]


def repair(cluster: Cluster, node_id: int, *options: str) -> str:
    """Run `respraft repair --rejoin`, as the operator does, and return what it says."""
    config = cluster.nodes[node_id].directory / "respraft.toml"
    command = [sys.executable, "-m", "respraft", "repair", "--rejoin", "--config", str(config), *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def come_back(cluster: Cluster, victim: int, *, as_id: int) -> bool:
    """Wait until a node is a voter again, by its own word and the others', and the old id is gone."""

    def is_back() -> bool:
        views = [cluster.status(node_id) for node_id in cluster.living()]
        return all(has_voter(view, as_id) for view in views)

    def has_voter(view: dict[str, Any], node_id: int) -> bool:
        voters = {member["id"] for member in view["members"] if member["voter"]}
        return node_id in voters and len(view["members"]) == 3

    cluster.wait_ready(victim)
    eventually(is_back, what="it is a voter")
    return bool(cluster.status(victim)["node_id"] == as_id)
