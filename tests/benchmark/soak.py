"""Does anything grow? `python -m tests.benchmark.soak --minutes 20`.

A day of a busy small server, without its pauses: writes, overwrites, deletes, increments, keys that expire,
large values, reads through every node, connections that come and go, and once a minute a leader that hands
over and a follower that is killed and comes back. The set of keys stays the same size, so memory must, too:
after a first part in which caches fill, the resident memory of each node is fitted by a line, and its slope
is what counts.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import redis

from tests.benchmark.machine import end_servers_on_sigterm
from tests.benchmark.table import markdown
from tests.process.cluster import Cluster

KEYS: Final = 50_000
PIPELINE: Final = 50
CALLS_PER_CONNECTION: Final = 200
CLIENTS_PER_NODE: Final = 4
SAMPLE_S: Final = 2.0
TROUBLE_S: Final = 60.0
WARM_PART: Final = 0.4
"""Of the time, at the beginning: caches, memtables and the allocator's arenas fill."""


class Worker(threading.Thread):
    """A client of one node that connects anew again and again, until told to stop."""

    def __init__(self, cluster: Cluster, node_id: int, seed: int, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.commands = 0
        self.errors = 0
        self._cluster = cluster
        self._node_id = node_id
        self._random = random.Random(seed)
        self._stopping = stopping

    def run(self) -> None:
        """Work; what a killed node or a leader's end costs is counted and not an end."""
        while not self._stopping.is_set():
            try:
                with self._cluster.client(self._node_id) as client:
                    for _ in range(CALLS_PER_CONNECTION):
                        self._call(client)
                        if self._stopping.is_set():
                            return
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
                self.errors += 1
                self._stopping.wait(0.2)

    def _call(self, client: redis.Redis) -> None:
        draw = self._random
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(PIPELINE):
                key, kind = f"key:{draw.randrange(KEYS)}", draw.random()
                if kind < 0.4:
                    pipeline.set(key, draw.randbytes(100))
                elif kind < 0.5:
                    pipeline.set(key, draw.randbytes(100), px=draw.randrange(100, 5_000))
                elif kind < 0.6:
                    pipeline.delete(key)
                elif kind < 0.7:
                    pipeline.incr(f"counter:{draw.randrange(100)}")
                elif kind < 0.701:
                    pipeline.set(f"large:{draw.randrange(20)}", draw.randbytes(200_000))
                else:
                    pipeline.get(key)
            pipeline.execute()
        self.commands += PIPELINE


def trouble(cluster: Cluster, stopping: threading.Event, every_s: float) -> None:
    """A handover, then a kill and a return, again and again."""
    while not stopping.wait(every_s):
        with contextlib.suppress(redis.RedisError), cluster.client(cluster.leader()) as client:
            client.execute_command("RAFT.TRANSFER_LEADER")
        follower = cluster.followers()[0]
        cluster.kill(follower)
        cluster.start(follower)


def watch(cluster: Cluster, seconds: float) -> Iterator[tuple[float, dict[int, int]]]:
    """Yield the resident memory of the nodes, again and again: seconds since the begin, bytes by node."""
    began_s = time.monotonic()
    while (now_s := time.monotonic() - began_s) < seconds:
        with contextlib.suppress(AssertionError, FileNotFoundError):  # One that was killed just now.
            yield now_s, {node_id: cluster.rss_bytes(node_id) for node_id in cluster.nodes}
        time.sleep(SAMPLE_S)


def table(samples: list[tuple[float, dict[int, int]]], seconds: float) -> str:
    """Return what each node took after the first part, and how that grew."""
    rows = [["node", "RSS MiB, mean", "most", "growth MiB/min"]]
    late = [sample for sample in samples if sample[0] >= WARM_PART * seconds]
    for node_id in late[0][1]:
        times = [when_s for when_s, _ in late]
        sizes = [rss[node_id] / (1 << 20) for _, rss in late]
        slope = statistics.linear_regression(times, sizes).slope * 60
        rows.append([str(node_id), f"{statistics.mean(sizes):.0f}", f"{max(sizes):.0f}", f"{slope:+.2f}"])
    return markdown(rows)


def main() -> int:
    """Soak for as long as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument(
        "--calm", action="store_true", help="without handovers and kills: one life per process"
    )
    parser.add_argument("--dir", type=Path, help="disk for the servers' files (default: the temporary one)")
    end_servers_on_sigterm()
    options = parser.parse_args()
    seconds = 60 * options.minutes
    stopping = threading.Event()
    with (
        tempfile.TemporaryDirectory(dir=options.dir, prefix="respraft-soak-") as home,
        Cluster(Path(home)) as cluster,
    ):
        cluster.start()
        workers = [
            Worker(cluster, node_id, 100 * node_id + number, stopping)
            for node_id in cluster.nodes
            for number in range(CLIENTS_PER_NODE)
        ]
        threads: list[threading.Thread] = [*workers]
        if not options.calm:
            threads.append(threading.Thread(target=trouble, args=(cluster, stopping, TROUBLE_S)))
        for thread in threads:
            thread.start()
        samples = []
        for when_s, rss in watch(cluster, seconds):
            samples.append((when_s, rss))
            shown = " ".join(f"{size >> 20}" for size in rss.values())
            print(f"\r{when_s:6.0f} s  RSS MiB {shown}", end="", file=sys.stderr)
        stopping.set()
        for thread in threads:
            thread.join()
        print(file=sys.stderr)
        commands, errors = sum(each.commands for each in workers), sum(each.errors for each in workers)
    print(table(samples, seconds))
    print(f"\n{commands:,} commands in {seconds:.0f} s; {errors} connections ended by a kill")
    return 0


if __name__ == "__main__":
    sys.exit(main())
