"""Run the benchmark: `python -m tests.benchmark --runs 3 --json result.json`.

All peers run at the same time and take turns, workload by workload and run by run, in an order that rotates:
on a shared machine the minutes differ more than the peers, and only neighbours in time compare. While one is
measured the others are stopped (SIGSTOP). The table is made of medians.

A workload that fails on a peer leaves a gap in the table, and the exit code is 1.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmark.generator import LoadFailed
from tests.benchmark.load import Volume, fill, measure
from tests.benchmark.machine import Machine, examine
from tests.benchmark.peers import EtcdCluster, Peer, RedisServer, RespraftCluster
from tests.benchmark.table import Medians, medians, render
from tests.benchmark.workload import FULL, KEYS, STANDARD, VALUE_BYTES, Measurement, Workload

PEERS: Final = (RespraftCluster, RedisServer, EtcdCluster)

SETTLE_S: Final = 1.5
"""After a pause a cluster may elect a leader anew; that is not what is measured."""
_QUICK_REQUESTS: Final = 10_000


@dataclass(slots=True)
class _Result:
    measurements: list[Measurement] = field(default_factory=list)
    failures: int = 0


def main() -> int:
    """Measure what the command line asks for, and print it."""
    options = _parse()
    workloads = [one for one in (FULL if options.full else STANDARD) if _chosen(one, options.only)]
    peers = _present([kind() for kind in PEERS if not options.peers or kind.name in options.peers])
    if not workloads or not peers:
        print("nothing to measure", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="respraft-bench-") as home, ExitStack() as stack:
        machine = examine(Path(home))
        for peer in peers:
            stack.callback(peer.stop)
            peer.start(Path(home) / peer.name)
        result = _measure_all(peers, workloads, options.runs, Volume(options.requests))
    cells = medians(result.measurements)
    _print_result(machine, peers, cells, result.measurements, options.runs)
    if options.json:
        document = _document(machine, peers, cells, result.measurements)
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if result.failures else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="repetitions, interleaved (default 3)")
    parser.add_argument("--requests", type=int, default=100_000, help="per run at P=1; others scale with it")
    parser.add_argument("--quick", action="store_true", help="one short run: does it work, not how fast")
    parser.add_argument(
        "--full", action="store_true", help="also 1 and 256 clients, P=64, 10 KB values, followers"
    )
    parser.add_argument("--only", action="append", help="workloads whose title contains this, e.g. 'SET 50'")
    parser.add_argument("--peers", action="append", choices=[kind.name for kind in PEERS])
    parser.add_argument("--dir", type=Path, help="disk for the servers' files (default: the temporary one)")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.requests = 1, _QUICK_REQUESTS
    return options


def _chosen(workload: Workload, words: Sequence[str] | None) -> bool:
    return not words or any(word in workload.title for word in words)


def _present(peers: Sequence[Peer]) -> list[Peer]:
    present = []
    for peer in peers:
        reason = peer.missing()
        if reason is None:
            present.append(peer)
        else:
            print(f"{peer.name} is left out: {reason}", file=sys.stderr)
    return present


def _measure_all(peers: Sequence[Peer], workloads: Sequence[Workload], runs: int, volume: Volume) -> _Result:
    result = _Result()
    filled = False
    for workload in workloads:
        if workload.command == "GET" and not filled:
            filled = True
            for peer in peers:
                fill(peer)
        for run in range(runs):
            first = run % len(peers)
            for peer in (*peers[first:], *peers[:first]):
                if not peer.takes(workload):
                    continue
                others = [other for other in peers if other is not peer]
                try:
                    with _alone(others):
                        measurement = measure(peer, others, workload, run, volume)
                except LoadFailed as error:
                    result.failures += 1
                    print(f"{workload.title} on {peer.name} failed: {error}", file=sys.stderr)
                    continue
                _print_progress(measurement)
                result.measurements.append(measurement)
    return result


@contextmanager
def _alone(others: Sequence[Peer]) -> Iterator[None]:
    """Stop the other peers for a while: even idle ones take a part of a machine of two cores."""
    pids = [pid for other in others for pid in other.pids()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _print_progress(one: Measurement) -> None:
    figures = one.figures
    print(
        f"{one.workload:32} run {one.run + 1} {one.peer:9} {figures.rps:10,.0f}/s "
        f"p50 {figures.p50_ms:7.2f} ms  p99 {figures.p99_ms:7.2f} ms  CPU {one.cpu_us:6.1f} us  "
        f"generator {one.generator_share:.2f} cores",
        file=sys.stderr,
        flush=True,
    )


def _print_result(
    machine: Machine,
    peers: Sequence[Peer],
    cells: Medians,
    measurements: Sequence[Measurement],
    runs: int,
) -> None:
    idle = max((one.idle_share for one in measurements), default=0.0)
    print(render(cells))
    print()
    print(machine)
    print(", ".join(f"{peer.name} {peer.version()}" for peer in peers))
    print(
        f"{VALUE_BYTES}-byte values, {KEYS:,} random keys, {runs} interleaved run(s), medians. CPU: all the "
        f"peer's processes, per request. Idle peers took at most {idle:.2f} cores."
    )


def _document(
    machine: Machine, peers: Sequence[Peer], cells: Medians, measurements: Sequence[Measurement]
) -> dict[str, Any]:
    return {
        "machine": asdict(machine),
        "versions": {peer.name: peer.version() for peer in peers},
        "medians": [{"workload": key[0], "peer": key[1], **asdict(cell)} for key, cell in cells.items()],
        "measurements": [asdict(one) for one in measurements],
    }


if __name__ == "__main__":
    sys.exit(main())
