"""How throughput changes with size: `python -m tests.benchmark.scale nodes|connections|keys|values`.

One table per question. All settings are the defaults, and each figure is the median of some short runs of
redis-benchmark against the leader. Nothing is interleaved here: what counts is the shape of a column, and
not a tenth.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.benchmark.load import Volume, measure, write_keys
from tests.benchmark.machine import end_servers_on_sigterm
from tests.benchmark.peers import RespraftCluster
from tests.benchmark.table import markdown
from tests.benchmark.workload import VALUE_BYTES, Measurement, Workload

NODES: Final = (1, 3, 5, 7)
CONNECTIONS: Final = (1, 10, 50, 256, 1_000, 5_000)
KEYS: Final = (10_000, 100_000, 1_000_000, 3_000_000)
VALUES: Final = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
FILL_KEYS: Final = 20_000
"""Written before reads are measured, where the number of keys is not the question."""
RUN_BYTES: Final = 200_000_000
"""About what a run of large values sends, at most."""

Row = list[str]


def main() -> int:
    """Answer one question, in the order of its rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.scale", description=__doc__)
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("--runs", type=int, default=3, help="per figure; the median counts (default 3)")
    parser.add_argument("--requests", type=int, default=30_000, help="per run at P=1; others scale with it")
    parser.add_argument("--of", type=int, nargs="+", help="other sizes than the usual ones")
    parser.add_argument("--dir", type=Path, help="disk for the servers' files (default: the temporary one)")
    end_servers_on_sigterm()
    options = parser.parse_args()
    header, rows = QUESTIONS[options.question](options)
    shown = [header]
    for row in rows:
        print(" | ".join(row), file=sys.stderr, flush=True)
        shown.append(row)
    print(markdown(shown))
    return 0


def by_nodes(options: argparse.Namespace) -> tuple[Row, Iterator[Row]]:
    """Nodes of the cluster, all on this machine: more of them share its cores."""
    workloads = (
        Workload("SET", 50, 1),
        Workload("SET", 50, 16),
        Workload("GET", 50, 1),
        Workload("GET", 50, 16),
    )

    def rows() -> Iterator[Row]:
        for nodes in options.of or NODES:
            with running(options, nodes) as peer:
                yield [str(nodes), *_figures(peer, workloads, options, cpu=True)]

    return ["nodes", *_titles(workloads, cpu=True)], rows()


def by_connections(options: argparse.Namespace) -> tuple[Row, Iterator[Row]]:
    """Clients, without pipelining."""

    def rows() -> Iterator[Row]:
        with running(options) as peer:
            for clients in options.of or CONNECTIONS:
                few = (Workload("SET", clients, 1), Workload("GET", clients, 1))
                yield [f"{clients:,}", *_figures(peer, few, options, latency=True)]

    return ["clients", *_titles((Workload("SET", 0, 1), Workload("GET", 0, 1)), latency=True)], rows()


def by_keys(options: argparse.Namespace) -> tuple[Row, Iterator[Row]]:
    """Keys in the store, all of them written before, and drawn at random."""
    workloads = (
        Workload("SET", 50, 1),
        Workload("SET", 50, 16),
        Workload("GET", 50, 1),
        Workload("GET", 50, 16),
    )

    def rows() -> Iterator[Row]:
        with running(options, filled=0) as peer:
            for keys in sorted(options.of or KEYS):
                write_keys(peer.endpoint().port, keys, VALUE_BYTES)
                chosen = [replace(workload, keys=keys) for workload in workloads]
                yield [f"{keys:,}", *_figures(peer, chosen, options)]

    return ["keys", *_titles(workloads)], rows()


def by_values(options: argparse.Namespace) -> tuple[Row, Iterator[Row]]:
    """Bytes of a value; MB/s is what clients write."""

    def rows() -> Iterator[Row]:
        for value_bytes in options.of or VALUES:
            with running(options, filled=0) as peer:
                workload = Workload("SET", 50, 1, value_bytes=value_bytes, keys=1_000)
                requests = min(options.requests, max(100, RUN_BYTES // value_bytes))
                [set_] = _measurements(peer, [workload], options.runs, requests)
                [get] = _measurements(peer, [replace(workload, command="GET")], options.runs, requests)
                rate = statistics.median(one.figures.rps for one in set_)
                figures = [f"{rate:,.0f}", f"{rate * value_bytes / 1e6:,.1f}", _p99(set_)]
                yield [
                    f"{value_bytes:,}",
                    *figures,
                    f"{statistics.median(one.figures.rps for one in get):,.0f}",
                ]

    return ["value B", "SET/s", "MB/s", "p99 ms", "GET/s"], rows()


@contextmanager
def running(
    options: argparse.Namespace, nodes: int = 3, filled: int = FILL_KEYS
) -> Iterator[RespraftCluster]:
    """A cluster for a while."""
    peer = RespraftCluster(nodes)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="respraft-scale-") as home:
        try:
            peer.start(Path(home) / "cluster")
            if filled:
                write_keys(peer.endpoint().port, filled, VALUE_BYTES)
            yield peer
        finally:
            peer.stop()


def _measurements(
    peer: RespraftCluster, workloads: Sequence[Workload], runs: int, requests: int
) -> list[list[Measurement]]:
    """Return the runs of each workload."""
    # The volume is given for values of the usual size, and cut to a fourth for larger ones.
    return [
        [
            measure(
                peer,
                [],
                workload,
                run,
                Volume(4 * requests if workload.value_bytes > VALUE_BYTES else requests),
            )
            for run in range(runs)
        ]
        for workload in workloads
    ]


def _figures(
    peer: RespraftCluster,
    workloads: Sequence[Workload],
    options: argparse.Namespace,
    *,
    cpu: bool = False,
    latency: bool = False,
) -> Row:
    row = []
    for runs in _measurements(peer, workloads, options.runs, options.requests):
        row.append(f"{statistics.median(one.figures.rps for one in runs):,.0f}")
        if latency:
            row += [f"{statistics.median(one.figures.p50_ms for one in runs):.2f}", _p99(runs)]
        if cpu:
            row.append(f"{statistics.median(one.cpu_us for one in runs):.1f}")
    return row


def _titles(workloads: Sequence[Workload], *, cpu: bool = False, latency: bool = False) -> Row:
    row = []
    for workload in workloads:
        row.append(f"{workload.command} P={workload.pipeline} /s")
        row += ["p50 ms", "p99 ms"] if latency else []
        row += ["CPU us"] if cpu else []
    return row


def _p99(runs: Sequence[Measurement]) -> str:
    return f"{statistics.median(one.figures.p99_ms for one in runs):.2f}"


QUESTIONS: Final[dict[str, Callable[[argparse.Namespace], tuple[Row, Iterator[Row]]]]] = {
    "nodes": by_nodes,
    "connections": by_connections,
    "keys": by_keys,
    "values": by_values,
}

if __name__ == "__main__":
    sys.exit(main())
