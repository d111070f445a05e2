"""How much slower the slowest become when a cluster is at work on itself: `python -m tests.benchmark.tails`.

Fifty clients write without pause to the leader, and meanwhile

* nothing else happens (quiet),
* all nodes flush their state and cut their log, once a second (compaction),
* a follower whose entries are gone is sent the whole state (transfer),
* a follower that was away comes back and catches up from the log (rejoin).

The rounds of all four alternate, and medians count. The aim is a 99th percentile of at most three times the
quiet one.
"""

import argparse
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.benchmark.load import Volume, measure, write_keys
from tests.benchmark.machine import end_servers_on_sigterm
from tests.benchmark.peers import RespraftCluster
from tests.benchmark.table import markdown
from tests.benchmark.workload import Figures, Workload
from tests.process.cluster import Cluster
from tests.process.eventually import eventually

KEYS: Final = 300_000
VALUE_BYTES: Final = 300
"""A state of about 90 MiB: its transfer takes some seconds at the default rate."""
LOAD: Final = Workload("SET", 50, 1)
COMPACTION_PERIOD_S: Final = 1.0

TOOK_OVER: Final = "took over the state"


class Stage:
    """The cluster, and what happens on it while clients write."""

    def __init__(self, peer: RespraftCluster, cluster: Cluster) -> None:
        self._peer = peer
        self._cluster = cluster

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing."""
        yield

    @contextmanager
    def compaction(self) -> Iterator[None]:
        """Flush and cut on every node, again and again."""
        stopping = threading.Event()

        def compact() -> None:
            while not stopping.wait(COMPACTION_PERIOD_S):
                self._cut()

        thread = threading.Thread(target=compact)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """A follower gets the whole state, because what it lacks was cut meanwhile."""
        cluster = self._cluster
        follower = cluster.followers()[0]
        installs = cluster.log_text(follower).count(TOOK_OVER)
        cluster.kill(follower)
        # More than the 8 MiB that are kept for those who were away (`raft.keep_bytes`).
        measure(self._peer, [], Workload("SET", 50, 16), 0, Volume(40_000))
        self._cut()
        cluster.launch(follower)
        yield
        self._back(follower)
        assert cluster.log_text(follower).count(TOOK_OVER) == installs + 1, "it was not sent a state"

    @contextmanager
    def rejoin(self) -> Iterator[None]:
        """A follower catches up from the log."""
        cluster = self._cluster
        follower = cluster.followers()[0]
        installs = cluster.log_text(follower).count(TOOK_OVER)
        cluster.kill(follower)
        measure(self._peer, [], LOAD, 0, Volume(20_000))
        cluster.launch(follower)
        yield
        self._back(follower)
        assert cluster.log_text(follower).count(TOOK_OVER) == installs, "it was sent a state"

    def _cut(self) -> None:
        for node_id in self._cluster.living():
            with self._cluster.client(node_id) as client:
                client.execute_command("RAFT.SNAPSHOT", "NOW")

    def _back(self, follower: int) -> None:
        cluster = self._cluster
        cluster.wait_ready(follower)
        last = cluster.status(cluster.leader())["last_index"]
        eventually(lambda: cluster.status(follower)["applied_index"] >= last, what="the follower is back")


def play(peer: RespraftCluster, cluster: Cluster, rounds: int, requests: int) -> dict[str, list[Figures]]:
    """Return what the clients saw, by stage."""
    stage = Stage(peer, cluster)
    seen: dict[str, list[Figures]] = {}
    for number in range(rounds):
        for happening in (stage.quiet, stage.compaction, stage.transfer, stage.rejoin):
            with happening():
                figures = measure(peer, [], LOAD, number, Volume(requests)).figures
            seen.setdefault(happening.__name__, []).append(figures)
            print(f"round {number + 1} {happening.__name__}: {figures}", file=sys.stderr, flush=True)
    return seen


def table(seen: dict[str, list[Figures]]) -> str:
    """Return the medians, and each 99th percentile as a multiple of the quiet one."""
    rows = [["meanwhile", "SET/s", "p50 ms", "p99 ms", "p99 / quiet"]]
    quiet = statistics.median(one.p99_ms for one in seen["quiet"])
    for name, runs in seen.items():
        rps, p50, p99 = (
            statistics.median(getattr(one, figure) for one in runs) for figure in ("rps", "p50_ms", "p99_ms")
        )
        rows.append([name, f"{rps:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{p99 / quiet:.2f}"])
    return markdown(rows)


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.tails", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=80_000, help="per round and stage")
    parser.add_argument("--dir", type=Path, help="disk for the servers' files (default: the temporary one)")
    end_servers_on_sigterm()
    options = parser.parse_args()
    peer = RespraftCluster()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="respraft-tails-") as home:
        try:
            peer.start(Path(home) / "cluster")
            write_keys(peer.endpoint().port, KEYS, VALUE_BYTES)
            print(table(play(peer, peer.cluster, options.rounds, options.requests)))
        finally:
            peer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
