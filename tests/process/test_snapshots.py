"""Logs that are cut and states that travel, on real processes: nothing acknowledged is lost on the way."""

import random
import time
from typing import Final

from tests.process.clients import Incrementer, assert_counted_once, assert_no_errors, progress
from tests.process.cluster import Cluster, ClusterFactory, Settings
from tests.process.eventually import eventually

CUT_OFTEN: Final[Settings] = {
    "raft": {"compact_entries": 200, "keep_entries": 20, "compact_bytes": 1 << 20, "keep_bytes": 1 << 16}
}
SLOW_TRANSFER: Final[Settings] = {**CUT_OFTEN, "peer": {"snapshot_bytes_per_second": 1 << 20}}
"""A few MiB take some seconds, in which processes can be killed."""


def fill(cluster: Cluster, node_id: int, name: str, count: int, size: int = 1000) -> dict[str, bytes]:
    """Write so many keys; return what was written."""
    values = {f"{name}:{number}": random.Random(number).randbytes(size) for number in range(count)}
    with cluster.client(node_id) as client, client.pipeline(transaction=False) as pipe:
        for place, (key, value) in enumerate(values.items(), 1):
            pipe.set(key, value)
            if place % 20 == 0:
                pipe.execute()
        pipe.execute()
    return values


def assert_serves(cluster: Cluster, node_id: int, values: dict[str, bytes]) -> None:
    with cluster.client(node_id) as client:
        assert dict(zip(values, client.mget(list(values)), strict=True)) == values


def left_behind(cluster: Cluster, follower: int) -> dict[str, bytes]:
    """Kill a follower, and write until the others' logs begin behind all that it has."""
    cluster.kill(follower)
    leader = cluster.leader()
    has = cluster.status(leader)["last_index"]
    values = fill(cluster, leader, "missed", 4000)
    write_until_cut(cluster, leader, has + 1)
    return values


def write_until_cut(cluster: Cluster, leader: int, index: int) -> None:
    """Go on writing until every log begins behind `index`.

    For a while after a follower has gone the log is kept for it, and what was written in that time is cut
    with later writes only.
    """

    def is_cut() -> bool:
        fill(cluster, leader, "more", 200)
        return all(cluster.status(each)["first_index"] > index for each in cluster.living())

    eventually(is_cut, what="the log cut off")


def state_numbers(cluster: Cluster, node_id: int) -> list[str]:
    return sorted(path.name for path in (cluster.nodes[node_id].data / "state").iterdir())


def caught_up(cluster: Cluster, node_id: int) -> bool:
    leader, follower = cluster.status(cluster.leader()), cluster.status(node_id)
    return bool(follower["applied_index"] >= leader["commit_index"] - 100)


def test_a_follower_that_lacks_what_was_cut_catches_up_under_load(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=CUT_OFTEN).start()
    follower = cluster.followers()[0]
    values = left_behind(cluster, follower)
    clients = [Incrementer(cluster, "counter", home) for home in cluster.living()]
    progress(clients, 50)
    cluster.start(follower)
    eventually(lambda: caught_up(cluster, follower), what="the follower caught up")
    assert "took over the state" in cluster.log_text(follower)
    clients.append(Incrementer(cluster, "counter", follower))
    progress(clients, 50)
    assert_serves(cluster, follower, values)
    for client in clients:
        client.stop()
    assert_no_errors(clients)
    with cluster.client(follower) as reader:
        assert_counted_once(clients, int(reader.get("counter") or 0))
    assert state_numbers(cluster, follower) == ["2"], "the state before is gone"
    assert not list((cluster.nodes[cluster.leader()].data / "checkpoint").iterdir())


def test_kills_during_the_transfer_cost_nothing_but_time(make_cluster: ClusterFactory) -> None:
    """The receiver is killed, then the sender, each at another point of the transfer, several times."""
    cluster = make_cluster(settings=SLOW_TRANSFER).start()
    follower = cluster.followers()[0]
    values = left_behind(cluster, follower)
    for pause_s in (0.0, 0.5, 1.5):
        cluster.launch(follower)
        eventually(lambda: "receiving the state" in cluster.log_text(follower), what="a transfer begun")
        time.sleep(pause_s)  # At another point each time; none of them matters to what is asserted.
        cluster.kill(follower)
        assert len(state_numbers(cluster, follower)) <= 2
    cluster.launch(follower)
    for _ in range(2):
        sender = cluster.leader(among=cluster.others(follower))
        time.sleep(0.5)
        cluster.kill(sender)
        cluster.start(sender)
    eventually(lambda: caught_up(cluster, follower), what="the follower caught up")
    cluster.wait_ready(follower)
    assert_serves(cluster, follower, values)
    assert len(state_numbers(cluster, follower)) == 1
    cluster.kill(*cluster.living())
    cluster.start()
    for node_id in cluster.nodes:
        assert_serves(cluster, node_id, values)


def test_the_log_stays_bounded_under_an_endless_load(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=CUT_OFTEN).start()
    leader = cluster.leader()
    most = dict.fromkeys(cluster.nodes, 0)
    for _ in range(8):
        fill(cluster, leader, "same", 2000)
        for node_id in cluster.nodes:
            status = cluster.status(node_id)
            most[node_id] = max(most[node_id], status["last_index"] - status["first_index"])
    assert max(most.values()) < 1500, f"entries kept: {most}"
    for node_id in cluster.nodes:
        size = sum(path.stat().st_size for path in (cluster.nodes[node_id].data / "raft").rglob("*"))
        assert size < 48 << 20, f"node {node_id}: {size >> 20} MiB of log on disk"


def test_a_log_that_was_cut_starts_again(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=CUT_OFTEN).start()
    values = fill(cluster, cluster.leader(), "key", 3000)
    eventually(lambda: all(cluster.status(each)["first_index"] > 1 for each in cluster.nodes), what="cuts")
    cluster.kill(*cluster.nodes)
    for node in cluster.nodes.values():  # What a crash may have left.
        (node.data / "state" / "7").mkdir()
        (node.data / "checkpoint" / "3").mkdir(parents=True)
    cluster.start()
    for node_id in cluster.nodes:
        assert_serves(cluster, node_id, values)
        assert state_numbers(cluster, node_id) == ["1"]
        assert not list((cluster.nodes[node_id].data / "checkpoint").iterdir())


def test_each_command_counts_once_over_an_install(make_cluster: ClusterFactory) -> None:
    """A follower with clients stands still until it needs a state; their commands are under way meanwhile."""
    cluster = make_cluster(settings={**CUT_OFTEN, "client": {"request_timeout_ms": 60_000}}).start()
    follower = cluster.followers()[0]
    clients = [Incrementer(cluster, "counter", follower) for _ in range(8)]
    ended: list[Incrementer] = []  # By a reply that was lost.
    for _ in range(3):
        progress(clients, 20)
        cluster.pause(follower)
        has = cluster.status(cluster.leader())["last_index"]
        fill(cluster, cluster.leader(), "missed", 4000)
        write_until_cut(cluster, cluster.leader(), has)
        cluster.resume(follower)
        eventually(lambda: caught_up(cluster, follower), what="the follower caught up")
        time.sleep(0.5)  # Who was told so has noted it.
        for place, client in enumerate(clients):
            if client.errors:
                assert [each for each in client.errors if "applied, reply lost" in each] == client.errors
                client.unknown += 1
                ended.append(client)
                clients[place] = Incrementer(cluster, "counter", follower)
    for client in clients:
        client.stop()
    assert_no_errors(clients)
    with cluster.client(follower) as reader:
        final = int(reader.get("counter") or 0)
    assert_counted_once([*clients, *ended], final)
    # A reply that was lost is one of a command that was executed, so nothing is left open.
    acknowledged = sum(len(client.replies) for client in [*clients, *ended])
    assert final == acknowledged + len(ended)
    assert cluster.log_text(follower).count("took over the state") == 3


def test_an_operator_has_the_log_cut_and_sees_what_is_kept(cluster: Cluster) -> None:
    leader = cluster.leader()
    values = fill(cluster, leader, "key", 100)
    with cluster.client(leader, protocol=3, decode_responses=True) as client:
        before = client.info("raft")
        assert client.execute_command("RAFT.SNAPSHOT NOW") == "OK"
        after = client.info("raft")
        (state,) = client.execute_command("RAFT.SNAPSHOT LIST")
    assert before["raft_log_entries"] > 5 >= after["raft_log_entries"]
    assert after["raft_snapshots_created"] == before["raft_snapshots_created"] + 1
    assert state["index"] == after["raft_snapshot_last_idx"] >= before["raft_last_applied_index"]
    assert (state["id"], state["term"], state["sent_to"]) == (1, after["raft_snapshot_last_term"], [])
    assert state["size"] == after["raft_snapshot_size"] > 0
    assert "respraft_state_flush_seconds_count 1.0" in cluster.http(leader, "/metrics")[1]
    follower = cluster.followers()[0]
    cluster.kill(follower)
    with cluster.client(leader) as client:
        client.set("last", "one")
        time.sleep(0.6)  # The follower counts as connected for an election timeout.
        client.execute_command("RAFT.SNAPSHOT NOW")
    cluster.start(follower)
    with cluster.client(follower) as client:
        assert client.get("last") == b"one"
        assert client.info("raft")["raft_snapshots_received"] == 1
    assert_serves(cluster, follower, values)
