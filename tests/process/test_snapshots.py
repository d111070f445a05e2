"""Logs that are cut and states that travel, on real processes: nothing acknowledged is lost on the way."""

import contextlib
import random
from collections.abc import Iterable
from pathlib import Path
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


def transfers_begun(cluster: Cluster, node_id: int) -> int:
    """How many states this node has begun to receive, over all of its lives."""
    return cluster.log_text(node_id).count("receiving the state")


def arriving_bytes(cluster: Cluster, node_id: int) -> int:
    """How much of another state than the first one this node has on disk."""
    return bytes_in((cluster.nodes[node_id].data / "state").glob("[2-9]/*"))


def bytes_in(files: Iterable[Path]) -> int:
    """The size of all these together, save those that are removed meanwhile."""
    size = 0
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def pictures(cluster: Cluster) -> list[Path]:
    """What nodes keep of their states to send it."""
    return [path for node in cluster.nodes.values() for path in (node.data / "checkpoint").glob("*")]


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
    # On a busy machine the log may be cut again before it has caught up, and another state comes.
    eventually(lambda: len(state_numbers(cluster, follower)) == 1, what="the state before is gone")
    assert state_numbers(cluster, follower) != ["1"]
    eventually(lambda: not pictures(cluster), what="nothing is kept to be sent")


def test_kills_during_the_transfer_cost_nothing_but_time(make_cluster: ClusterFactory) -> None:
    """The receiver is killed, then the sender, each at another point of the transfer, several times."""
    cluster = make_cluster(settings=SLOW_TRANSFER).start()
    follower = cluster.followers()[0]
    values = left_behind(cluster, follower)
    for part in (0, 300_000, 1_500_000):
        begun = transfers_begun(cluster, follower)
        cluster.launch(follower)
        eventually(lambda begun=begun: transfers_begun(cluster, follower) > begun)  # type: ignore[misc]
        eventually(lambda part=part: arriving_bytes(cluster, follower) >= part)  # type: ignore[misc]
        cluster.kill(follower)
        assert len(state_numbers(cluster, follower)) <= 2
    begun = transfers_begun(cluster, follower)
    cluster.launch(follower)
    eventually(lambda: transfers_begun(cluster, follower) > begun)
    for _ in range(2):
        eventually(lambda: arriving_bytes(cluster, follower) >= 300_000, what="some of it is there")
        sender = cluster.leader(among=cluster.others(follower))
        cluster.kill(sender)
        cluster.start(sender)
    cluster.wait_ready(follower)
    eventually(lambda: caught_up(cluster, follower), what="the follower caught up")
    assert_serves(cluster, follower, values)
    eventually(lambda: len(state_numbers(cluster, follower)) == 1, what="the state before is gone")
    cluster.kill(*cluster.living())
    cluster.start()
    for node_id in cluster.nodes:
        assert_serves(cluster, node_id, values)


def test_the_log_stays_bounded_under_an_endless_load(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=CUT_OFTEN).start()
    leader = cluster.leader()

    def is_short(node_id: int) -> bool:
        """A flush and the space of what is cut take their time, and are made good by later writes."""
        fill(cluster, leader, "same", 200)
        status = cluster.status(node_id)
        size = bytes_in((cluster.nodes[node_id].data / "raft").iterdir())
        return bool(status["last_index"] - status["first_index"] < 500 and size < 48 << 20)

    for _ in range(8):
        fill(cluster, leader, "same", 2000)
        for node_id in cluster.nodes:
            eventually(lambda node_id=node_id: is_short(node_id), what=f"a short log on node {node_id}")  # type: ignore[misc]
    assert cluster.status(leader)["last_index"] > 800, "none of it was cut"


def test_a_log_that_was_cut_starts_again(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=CUT_OFTEN).start()
    values = fill(cluster, cluster.leader(), "key", 3000)
    write_until_cut(cluster, cluster.leader(), 1)
    # Nobody is behind then, so that none of them needs another one's state.
    eventually(lambda: len({cluster.status(each)["applied_index"] for each in cluster.nodes}) == 1)
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
    cluster = make_cluster(settings={**CUT_OFTEN, "client": {"request_timeout_ms": 50_000}}).start()
    follower = cluster.followers()[0]
    clients = [Incrementer(cluster, "counter", follower) for _ in range(8)]
    ended: list[Incrementer] = []  # By a reply that was lost.
    for _ in range(3):
        progress(clients, 20)
        cluster.pause(follower)
        # More appends than a leader has under way, since those the follower finds in its socket.
        fill(cluster, cluster.leader(), "missed", 4000)
        write_until_cut(cluster, cluster.leader(), cluster.status(cluster.leader())["last_index"])
        replies = [len(client.replies) for client in clients]
        cluster.resume(follower)
        eventually(lambda: caught_up(cluster, follower), what="the follower caught up")
        for client, before in zip(clients, replies, strict=True):
            eventually(lambda client=client, before=before: client.errors or len(client.replies) > before)  # type: ignore[misc]
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
    assert cluster.log_text(follower).count("took over the state") >= 3


def test_an_operator_has_the_log_cut_and_sees_what_is_kept(cluster: Cluster) -> None:
    leader = cluster.leader()
    values = fill(cluster, leader, "key", 100)
    flushes = 0
    with cluster.client(leader, protocol=3, decode_responses=True) as client:
        before = client.info("raft")

        def is_cut() -> bool:
            """What a follower has not confirmed yet is kept for it."""
            nonlocal flushes
            assert client.execute_command("RAFT.SNAPSHOT NOW") == "OK"
            flushes += 1
            return bool(client.info("raft")["raft_log_entries"] <= 5)

        eventually(is_cut, what="the log is cut")
        after = client.info("raft")
        (state,) = client.execute_command("RAFT.SNAPSHOT LIST")
    assert before["raft_log_entries"] > 5
    assert after["raft_snapshots_created"] == before["raft_snapshots_created"] + flushes
    assert state["index"] == after["raft_snapshot_last_idx"] >= before["raft_last_applied_index"]
    assert (state["id"], state["term"], state["sent_to"]) == (1, after["raft_snapshot_last_term"], [])
    assert state["size"] == after["raft_snapshot_size"] > 0
    assert f"respraft_state_flush_seconds_count {flushes}.0" in cluster.http(leader, "/metrics")[1]
    follower = cluster.followers()[0]
    cluster.kill(follower)
    has = cluster.status(leader)["last_index"]

    def is_cut_without_it(node_id: int) -> bool:
        """For an election timeout the follower counts as connected, and what it needs is kept."""
        with cluster.client(node_id) as client:
            client.set("last", "one")
            client.execute_command("RAFT.SNAPSHOT NOW")
        return bool(cluster.status(node_id)["first_index"] > has + 1)

    for node_id in cluster.living():
        eventually(lambda node_id=node_id: is_cut_without_it(node_id))  # type: ignore[misc]
    cluster.start(follower)
    with cluster.client(follower) as client:
        assert client.get("last") == b"one"
        assert client.info("raft")["raft_snapshots_received"] == 1
    assert_serves(cluster, follower, values)
