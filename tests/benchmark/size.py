"""What a node takes in memory and on disk, and how soon it is back: `python -m tests.benchmark.size`.

Writes the keys to a cluster with the default settings, waits until nothing moves any more, and reports for
each node its resident memory and its files. Then all nodes get SIGKILL and start again at once; what counts
is the time from the start of the processes until each answers a linearizable GET, the interpreter's own start
included.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from tests.benchmark.load import write_keys
from tests.benchmark.machine import end_servers_on_sigterm
from tests.process.cluster import Cluster
from tests.process.eventually import eventually

KEYS: Final = 1_000_000
VALUE_BYTES: Final = 100
KEY_BYTES: Final = 16
QUIET_S: Final = 3.0
"""Nothing may change on disk for so long before it is measured: flushes and compactions have ended."""
SETTLED_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """One node."""

    node_id: int
    rss_mib: float
    disk_mib: float
    ready_s: float
    """From the start of the process after a SIGKILL to the first linearizable answer."""


def measure(cluster: Cluster, keys: int, value_bytes: int) -> list[Size]:
    """Fill the cluster, look at it, kill it and wait for it."""
    began_s = time.monotonic()
    write_keys(cluster.nodes[cluster.leader()].client_port, keys, value_bytes)
    print(f"{keys:,} keys written in {time.monotonic() - began_s:.1f} s", file=sys.stderr)
    _settle(cluster)
    rss = {node_id: cluster.rss_bytes(node_id) for node_id in cluster.nodes}
    disk = {node_id: _bytes_below(cluster.nodes[node_id].data) for node_id in cluster.nodes}
    ready_s = _restart(cluster, keys)
    return [
        Size(node_id, rss[node_id] / (1 << 20), disk[node_id] / (1 << 20), ready_s[node_id])
        for node_id in cluster.nodes
    ]


def table(sizes: list[Size], keys: int, value_bytes: int) -> str:
    """Return the figures as Markdown."""
    data_mib = keys * (KEY_BYTES + value_bytes) / (1 << 20)
    lines = [
        "| node | RSS MiB | disk MiB | disk / data | SIGKILL to serving s |",
        "| ---- | ------: | -------: | ----------: | -------------------: |",
    ]
    lines += [
        f"| {one.node_id} | {one.rss_mib:.0f} | {one.disk_mib:.0f} | {one.disk_mib / data_mib:.2f} "
        f"| {one.ready_s:.2f} |"
        for one in sizes
    ]
    return "\n".join(lines)


def _settle(cluster: Cluster) -> None:
    """Wait until the files of all nodes have kept their size for a while."""
    seen: list[tuple[float, int]] = []

    def settled() -> bool:
        time.sleep(0.2)
        now = sum(_bytes_below(node.data) for node in cluster.nodes.values())
        if seen and seen[-1][1] != now:
            seen.clear()
        seen.append((time.monotonic(), now))
        return seen[-1][0] - seen[0][0] > QUIET_S

    eventually(settled, SETTLED_S, what="files that keep their size")


def _restart(cluster: Cluster, keys: int) -> dict[int, float]:
    """Kill all nodes, start them together, and return how long each took to answer."""
    cluster.kill(*cluster.nodes)
    began_s = time.monotonic()
    for node_id in cluster.nodes:
        cluster.launch(node_id)
    answered_s: dict[int, float] = {}

    def all_answer() -> bool:
        for node_id in cluster.nodes:
            if node_id not in answered_s and _answers(cluster, node_id, keys):
                answered_s[node_id] = time.monotonic() - began_s
        return len(answered_s) == len(cluster.nodes)

    eventually(all_answer, what="all nodes answer")
    return answered_s


def _answers(cluster: Cluster, node_id: int, keys: int) -> bool:
    try:
        with cluster.client(node_id) as client:
            assert client.get(b"key:%012d" % (keys - 1)) is not None, "an acknowledged key is gone"
            return True
    except (redis.ConnectionError, redis.ResponseError):
        return False  # Not listening yet, or loading, or without a leader so far.


def _bytes_below(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # A compaction removed it meanwhile.
    return total


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.size", description=__doc__)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--value-bytes", type=int, default=VALUE_BYTES)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="disk for the servers' files (default: the temporary one)")
    end_servers_on_sigterm()
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.dir, prefix="respraft-size-") as home,
        Cluster(Path(home), nodes=options.nodes) as cluster,
    ):
        cluster.start()
        empty = statistics.mean(cluster.rss_bytes(node_id) for node_id in cluster.nodes)
        print(f"RSS of an empty node: {empty / (1 << 20):.0f} MiB", file=sys.stderr)
        sizes = measure(cluster, options.keys, options.value_bytes)
    print(table(sizes, options.keys, options.value_bytes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
