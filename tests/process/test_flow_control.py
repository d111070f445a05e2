"""A follower that stands still while large values are written costs its leader nothing that grows."""

import random
from typing import Final

from tests.process.cluster import Cluster
from tests.process.eventually import eventually

MIB: Final = 1 << 20
VALUES: Final = 160
"""Of 1 MiB each: ten times `raft.inflight_bytes_max`, and more than a link would queue."""

ROUNDS: Final = 2
GROWTH_BYTES_MAX: Final = 128 * MIB
"""The window (16 MiB), what the link and the kernel hold of it, what the allocator does not give back, and
write buffers of RocksDB whose turn comes late on a busy machine. A copy of it all would be 320 MiB."""


def test_a_follower_that_stands_still_does_not_grow_its_leader(steady_cluster: Cluster) -> None:
    cluster = steady_cluster
    leader = cluster.leader()
    slow, other = cluster.followers()
    value = random.Random(1).randbytes(MIB)

    def write(prefix: str) -> int:
        peak = 0
        with cluster.client(leader) as client:
            for number in range(VALUES):
                assert client.set(f"{prefix}:{number % 8}", value)
                peak = max(peak, cluster.rss_bytes(leader))
        return peak

    usual = max(write("usual") for _ in range(ROUNDS))  # Caches and write buffers are full now.
    cluster.pause(slow)
    peak = max(write("slow") for _ in range(ROUNDS))
    assert cluster.leader(among=[leader, other]) == leader
    growth = peak - usual
    assert growth <= GROWTH_BYTES_MAX, f"{growth / MIB:.0f} MiB more than with all nodes running"

    cluster.resume(slow)
    last = cluster.status(leader)["commit_index"]
    eventually(lambda: cluster.status(slow)["applied_index"] >= last)
    with cluster.client(slow) as client:
        assert client.get(f"slow:{(VALUES - 1) % 8}") == value
