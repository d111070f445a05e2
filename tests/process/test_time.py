"""Keys that expire: never early, soon after, never back, whichever node is asked and whatever its clock."""

import threading
import time
from dataclasses import dataclass
from typing import Final

import pytest

from tests.process.clocks import clock_ahead
from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually

TTL_MS: Final = 200
SOON_MS: Final = 100
"""On a quiet cluster a key is gone this long after its time at the latest. How quiet it is the machine
decides: later is no failure, if only it is soon at another time. What holds always is `Life.check`."""

ROUNDING_MS: Final = 2
"""Deadlines are whole milliseconds: a key that was written late in one loses the part that had passed. And
the log's clock may run a little fast, to catch up with a median ahead of it: 0.2 % where that is 4 s."""


@dataclass(frozen=True, slots=True)
class Read:
    """One GET: when it was sent and answered, in monotonic milliseconds, and whether there was a value."""

    node_id: int
    sent_ms: float
    answered_ms: float
    found: bool


@dataclass(frozen=True, slots=True)
class Life:
    """The life of a key as clients saw it."""

    set_sent_ms: float
    set_answered_ms: float
    reads: list[Read]

    def check(self, ttl_ms: float) -> None:
        """It went neither early nor twice.

        No node said nil before the time that the client asked for had passed. And once one had said nil, no
        read sent after that, to any node, got the value.
        """
        first_nil_ms = min(read.answered_ms for read in self.reads if not read.found)
        for read in self.reads:
            assert read.found or read.answered_ms - self.set_sent_ms >= ttl_ms - ROUNDING_MS, read
            assert not (read.found and read.sent_ms > first_nil_ms), read

    def was_gone_by(self, ms: float) -> bool:
        """Whether no node gave the value to a read sent later than this after the write's reply."""
        return all(not read.found or read.sent_ms - self.set_answered_ms <= ms for read in self.reads)


@pytest.mark.parametrize("writer", [1, 2, 3])
def test_a_key_lives_as_long_as_it_was_told(shared_cluster: Cluster, writer: int) -> None:
    for number in range(5):
        _live_and_go_soon(shared_cluster, writer, f"quiet:{writer}:{number}")


def test_a_key_that_expires_during_a_failover_stays_gone(cluster: Cluster) -> None:
    """Two lives: one ends while there is no leader, the other after the next one has begun."""
    leader = cluster.leader()
    writer = cluster.others(leader)[0]
    for name, ttl_ms in (("during", TTL_MS), ("after", 3000)):
        leader = cluster.leader()
        writer = cluster.others(leader)[0]
        killer = threading.Timer(0.05, cluster.kill, args=(leader,))
        killer.start()
        life = _watch(cluster, writer, name, ttl_ms, for_ms=ttl_ms + 1500, nodes=cluster.others(leader))
        killer.join()
        life.check(ttl_ms)
        cluster.start(leader)


@pytest.mark.requires_tool("faketime")
@pytest.mark.parametrize("offsets", [(0, 2, 0), (2, 0, 0), (0, 2, 4)], ids=str)
def test_clocks_two_seconds_apart_change_nothing(
    make_cluster: ClusterFactory, offsets: tuple[int, int, int]
) -> None:
    environments = {1 + place: clock_ahead(seconds) for place, seconds in enumerate(offsets)}
    cluster = make_cluster(environments=environments).start()

    def spread_s() -> float:
        ahead_s = [_time_s(cluster, node_id) - time.time() for node_id in cluster.nodes]
        return max(ahead_s) - min(ahead_s)

    eventually(lambda: spread_s() > 1, what="libfaketime has an effect")
    for writer in cluster.nodes:
        _live_and_go_soon(cluster, writer, f"skewed:{writer}")


@pytest.mark.requires_tool("faketime")
def test_under_a_false_clock_the_state_is_flushed(make_cluster: ClusterFactory) -> None:
    """libfaketime refuses a sleep until an absolute time that is over."""
    cluster = make_cluster(nodes=1, environments={1: clock_ahead(2)}).start()
    with cluster.client(1) as client:
        for _ in range(5):
            client.set("key", "value")
            assert client.execute_command("RAFT.SNAPSHOT", "NOW")
        assert client.get("key") == b"value"


def _live_and_go_soon(cluster: Cluster, writer: int, key: str) -> None:
    """A key lives and goes as it should, again and again until its end was not held up by the machine."""

    def goes_soon() -> bool:
        life = _watch(cluster, writer, key, TTL_MS, for_ms=TTL_MS + 300)
        life.check(TTL_MS)
        return life.was_gone_by(TTL_MS + SOON_MS)

    eventually(goes_soon, what=f"a key is gone within {SOON_MS} ms")


def _watch(
    cluster: Cluster,
    writer: int,
    key: str,
    ttl_ms: int,
    *,
    for_ms: float,
    nodes: list[int] | None = None,
) -> Life:
    """Set a key through one node, and read it through all, without pause, one client on each.

    For so long at least, and until every node has said that it is gone.
    """
    reads: list[Read] = []
    begun = threading.Event()
    ending = threading.Event()
    errors: list[BaseException] = []

    def read(node_id: int) -> None:
        try:
            with cluster.client(node_id, single_connection_client=True) as client:
                client.ping()
                begun.wait()
                while not ending.is_set():
                    sent_ms = _now_ms()
                    found = client.get(key) is not None
                    reads.append(Read(node_id, sent_ms, _now_ms(), found))
        except BaseException as error:
            errors.append(error)

    asked = set(nodes or cluster.nodes)
    threads = [threading.Thread(target=read, args=(node_id,)) for node_id in sorted(asked)]
    for thread in threads:
        thread.start()
    with cluster.client(writer, single_connection_client=True) as client:
        client.ping()
        set_sent_ms = _now_ms()
        assert client.set(key, "value", px=ttl_ms)
        set_answered_ms = _now_ms()
    begun.set()
    ending.wait((set_answered_ms + for_ms - _now_ms()) / 1000)
    eventually(
        lambda: errors or {read.node_id for read in list(reads) if not read.found} == asked,
        what="every node has said that the key is gone",
    )
    ending.set()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return Life(set_sent_ms, set_answered_ms, reads)


def _now_ms() -> float:
    return time.monotonic() * 1000


def _time_s(cluster: Cluster, node_id: int) -> float:
    with cluster.client(node_id) as client:
        seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
