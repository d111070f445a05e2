"""A peer that is slow costs its leader a window, by bytes and by number, and nothing that grows.

What waits for it stays in the log, once; the log keeps a bounded part of itself in memory. Appends of a
window are in `test_replication.py`, real processes in `tests/process/test_flow_control.py`.
"""

import pytest

from respraft.config import RaftConfig
from respraft.raft.log import ENTRY_OVERHEAD_BYTES
from respraft.raft.message import AppendRequest
from tests.unit.raft.cluster import Cluster

KIB = 1024
CONFIG = RaftConfig(
    append_bytes_max=64 * KIB, inflight_bytes_max=256 * KIB, inflight_appends_max=16, entry_cache_bytes=0
)


def settle_but(cluster: Cluster, silent: int) -> None:
    """Deliver everything but what goes to a node that stands still; it stays under way."""
    while True:
        for place, envelope in enumerate(cluster.mail):
            if envelope.to != silent:
                del cluster.mail[place]
                cluster.deliver(envelope)
                break
        else:
            writers = [host for host in cluster.hosts.values() if host.write is not None]
            if not writers:
                return
            writers[0].persist()


def under_way(cluster: Cluster, to: int) -> list[AppendRequest]:
    """Appends with entries; those without are notices of a commit, and few."""
    messages = [each.message for each in cluster.mail if each.to == to]
    return [each for each in messages if isinstance(each, AppendRequest) and each.entries]


@pytest.mark.parametrize("size", [1, KIB, 100 * KIB])
def test_a_peer_that_stands_still_costs_a_window_and_catches_up(size: int) -> None:
    cluster = Cluster(3, config=CONFIG)
    leader = cluster.elect(1)
    payload = b"x" * size
    for _ in range(100):
        leader.propose(*[payload] * 10)
        settle_but(cluster, silent=3)
        appends = under_way(cluster, 3)
        assert len(appends) <= CONFIG.inflight_appends_max
        sizes = [sum(len(entry.payload) for entry in append.entries) for append in appends]
        # The last append may begin just below the bound. An entry that is larger than an append goes alone.
        assert sum(sizes) < CONFIG.inflight_bytes_max + max(CONFIG.append_bytes_max, size)
        assert max(sizes, default=0) <= max(CONFIG.append_bytes_max, size)
    assert leader.node.commit_index == leader.node.last_index, "the others are not held up"
    assert leader.node.log._cache_bytes < 10 * (size + ENTRY_OVERHEAD_BYTES)

    cluster.settle()
    assert cluster[3].disk.log == leader.disk.log
    assert not any(peer.in_flight for peer in leader.node.status().peers)


def test_a_peer_that_comes_back_is_served_through_the_window_again() -> None:
    """After its link has ended nothing of what was in flight before counts any more."""
    cluster = Cluster(3, config=CONFIG)
    leader = cluster.elect(1)
    for _ in range(50):
        leader.propose(b"x" * 64 * KIB)
        settle_but(cluster, silent=3)
    assert leader.node.status().peers[1].in_flight == 4
    cluster.mail.clear()
    leader.node.peer_unreachable(3)
    for _ in range(5):
        leader.propose(b"x" * 64 * KIB)
        leader.tick(CONFIG.heartbeat_ticks)
        settle_but(cluster, silent=3)
    assert under_way(cluster, 3) == [], "heartbeats alone, until it answers one"
    cluster.settle()
    assert cluster[3].disk.log == leader.disk.log
