"""Without a majority nothing is served and nothing is promised; with it back, work goes on by itself."""

import threading
import time
from collections.abc import Callable
from typing import Final

import pytest
import redis
from redis.exceptions import ClusterDownError

from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually

PARK_S: Final = 0.7
REQUEST_TIMEOUT_S: Final = 1.5
SLACK_S: Final = 15.0
"""How much later than promised a reply may come on a busy machine. Never earlier."""

ELECTION_TIMEOUT_MS: Final = 3000
"""Long enough for a leader to take a write before it knows that it is alone."""


@pytest.fixture
def impatient(make_cluster: ClusterFactory) -> Cluster:
    """A cluster that gives up sooner than by default, so that the tests need not wait long.

    Without a leader a client of it sees an error, so it takes part in no election that is not meant.
    """
    client = {"park_ms": int(PARK_S * 1000), "request_timeout_ms": int(REQUEST_TIMEOUT_S * 1000)}
    raft = {"election_timeout_ms": ELECTION_TIMEOUT_MS}
    return make_cluster(settings={"client": client, "raft": raft}).start()


def test_a_write_handed_over_is_unknown_and_one_never_sent_is_refused(impatient: Cluster) -> None:
    cluster = impatient
    leader = cluster.leader()
    followers = cluster.others(leader)
    with cluster.client(leader) as client:
        client.set("key", "before")
        client.ping()
        # Paused, not killed: the leader cannot know yet, so that it takes the write into its log.
        for follower in followers:
            cluster.pause(follower)
        error, taken_s = _refusal(lambda: client.incr("handed-over"))
        assert str(error).startswith("TIMEOUT"), error
        assert REQUEST_TIMEOUT_S <= taken_s < REQUEST_TIMEOUT_S + SLACK_S

        cluster.kill(*followers)
        eventually(lambda: cluster.status(leader)["role"] != "leader", what="the leader steps down")
        for attempt in (lambda: client.incr("never-sent"), lambda: client.get("key")):
            error, taken_s = _refusal(attempt)
            assert isinstance(error, ClusterDownError)
            assert str(error) == "No raft leader"
            assert PARK_S <= taken_s < PARK_S + SLACK_S

        cluster.start(*followers)
        cluster.wait_ready()
        for node_id in cluster.nodes:
            with cluster.client(node_id) as other:
                assert other.get("key") == b"before"
                assert other.get("never-sent") is None
                assert int(other.get("handed-over") or 0) in (0, 1)
        before = int(client.get("handed-over") or 0)
        assert client.incr("handed-over") == before + 1


def test_a_follower_without_a_quorum_refuses_too(impatient: Cluster) -> None:
    cluster = impatient
    leader = cluster.leader()
    survivor, other = cluster.others(leader)
    with cluster.client(survivor) as client:
        client.set("key", "before")
        cluster.kill(leader, other)
        eventually(lambda: not cluster.status(survivor)["leader_id"], what="the leader is given up")
        error, _taken_s = _refusal(lambda: client.get("key"))
        assert isinstance(error, ClusterDownError)
        # One of the two is enough.
        cluster.start(other)
        cluster.wait_ready(survivor)
        assert client.get("key") == b"before"
        client.set("key", "after")


def test_parked_commands_are_served_when_the_quorum_returns(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster().start()
    leader = cluster.leader()
    for follower in cluster.others(leader):
        cluster.pause(follower)
    eventually(lambda: cluster.status(leader)["role"] != "leader", what="the leader steps down")

    replies: list[object] = []

    def run() -> None:
        with cluster.client(leader) as client:
            replies.append(client.incr("parked"))
            replies.append(client.get("parked"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with cluster.client(leader, decode_responses=True) as bystander:
        eventually(lambda: any(each["cmd"].startswith("incr") for each in bystander.client_list()))
        # Whatever needs no leader is answered meanwhile.
        assert bystander.ping()
        assert bystander.time()
    assert replies == []
    for follower in cluster.others(leader):
        cluster.resume(follower)
    thread.join()
    assert replies == [1, b"1"]


def _refusal(attempt: Callable[[], object]) -> tuple[redis.ResponseError, float]:
    """Return the error reply to a command, and the seconds it took."""
    start = time.monotonic()
    with pytest.raises(redis.ResponseError) as caught:
        attempt()
    return caught.value, time.monotonic() - start
