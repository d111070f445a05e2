"""Run the benchmark: `python -m tests.benchmark --full --json result.json --picture result.svg`.

All peers run at the same time and take turns, workload by workload and run by run, in an order that rotates:
on a shared machine the minutes differ more than the peers, and only neighbours in time compare. While one is
measured the others are stopped (SIGSTOP). The table is made of medians.

A workload that fails on a peer leaves a gap in the table, and the exit code is 1; so it is where `--compare`
finds that something has become slower. A long run can be made in pieces: with `--add` the workloads that the
file of `--json` has already are kept and not measured again.
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

from tests.benchmark.compare import compare, read, render_changes
from tests.benchmark.generator import LoadFailed
from tests.benchmark.load import Volume, fill, measure
from tests.benchmark.machine import Machine, end_servers_on_sigterm, examine
from tests.benchmark.peers import EtcdCluster, Peer, RedisServer, RespraftCluster
from tests.benchmark.picture import draw
from tests.benchmark.pysyncobj import PysyncobjCluster
from tests.benchmark.table import BRIEF, COLUMNS, Medians, medians, render
from tests.benchmark.workload import FULL, KEYS, STANDARD, VALUE_BYTES, Figures, Measurement, Workload

PEERS: Final = (RespraftCluster, RedisServer, EtcdCluster, PysyncobjCluster)

SETTLE_S: Final = 1.5
"""After a pause a cluster may elect a leader anew; that is not what is measured."""
_QUICK_REQUESTS: Final = 10_000


@dataclass(slots=True)
class _Result:
    measurements: list[Measurement] = field(default_factory=list)
    failures: int = 0

    def sort(self) -> None:
        """Bring what came in pieces into the order of the table."""
        places = {workload.title: place for place, workload in enumerate(FULL)}
        self.measurements.sort(key=lambda one: places.get(one.workload, len(places)))


def main() -> int:
    """Measure what the command line asks for, and print it."""
    end_servers_on_sigterm()
    options = _parse()
    kept = _kept(options.json) if options.add else None
    result = _Result(_measurements(kept) if kept else [])
    known = {one.workload for one in result.measurements}
    workloads = [
        one
        for one in (FULL if options.full else STANDARD)
        if one.title not in known and _chosen(one, options.only)
    ]
    peers = _present([kind() for kind in PEERS if not options.peers or kind.name in options.peers])
    if not peers or not (workloads or kept):
        print("nothing to measure", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="respraft-bench-") as home, ExitStack() as stack:
        machine = Machine(**kept["machine"]) if kept else examine(Path(home))
        versions = dict(kept["versions"]) if kept else {}
        for peer in peers if workloads else ():
            versions[peer.name] = peer.version()
            stack.callback(peer.stop)
            peer.start(Path(home) / peer.name)
        filled = False
        for workload in workloads:
            if workload.command == "GET" and not filled:
                filled = True
                for peer in peers:
                    fill(peer)
            _measure_one(result, peers, workload, options.runs, Volume(options.requests))
            result.sort()
            if options.json:  # After each: what was measured stays, whatever ends the run.
                options.json.write_text(_document(machine, versions, result.measurements), encoding="utf-8")
    cells = medians(result.measurements)
    _print_result(machine, versions, cells, result.measurements, BRIEF if options.brief else tuple(COLUMNS))
    if options.picture:
        options.picture.write_text(draw(cells), encoding="utf-8")
    regressions = _compare(cells, options.compare) if options.compare else 0
    return 1 if result.failures or regressions else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="repetitions, interleaved (default 5)")
    parser.add_argument("--requests", type=int, default=100_000, help="per run at P=1; others scale with it")
    parser.add_argument("--quick", action="store_true", help="one short run: does it work, not how fast")
    parser.add_argument(
        "--full", action="store_true", help="also 1 and 256 clients, P=64, 10 KB values, other nodes"
    )
    parser.add_argument("--only", action="append", help="workloads whose title contains this, e.g. 'SET 50'")
    parser.add_argument("--peers", action="append", choices=[kind.name for kind in PEERS])
    parser.add_argument("--dir", type=Path, help="disk for the servers' files (default: the temporary one)")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    parser.add_argument(
        "--add", action="store_true", help="measure what the file of --json does not have yet"
    )
    parser.add_argument("--picture", type=Path, help="also draw the result into this file, as SVG")
    parser.add_argument("--compare", type=Path, help="a file of --json: exit code 1 if something got slower")
    parser.add_argument("--brief", action="store_true", help="print throughput and CPU only")
    options = parser.parse_args()
    if options.add and not options.json:
        parser.error("--add needs --json")
    if options.quick:
        options.runs, options.requests = 1, _QUICK_REQUESTS
    return options


def _kept(path: Path) -> dict[str, Any] | None:
    """Return what `--json` wrote before, if it did."""
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _measurements(document: dict[str, Any]) -> list[Measurement]:
    return [Measurement(**{**one, "figures": Figures(**one["figures"])}) for one in document["measurements"]]


def _compare(now: Medians, path: Path) -> int:
    changes = compare(now, read(json.loads(path.read_text(encoding="utf-8"))))
    print(f"\nCompared with {path}:\n\n{render_changes(changes)}")
    return sum(change.regression for change in changes)


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


def _measure_one(
    result: _Result, peers: Sequence[Peer], workload: Workload, runs: int, volume: Volume
) -> None:
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
    versions: dict[str, str],
    cells: Medians,
    measurements: Sequence[Measurement],
    columns: Sequence[str],
) -> None:
    idle = max((one.idle_share for one in measurements), default=0.0)
    runs = max((one.run + 1 for one in measurements), default=0)
    print(render(cells, columns))
    print()
    print(machine)
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(
        f"{VALUE_BYTES}-byte values, {KEYS:,} random keys, {runs} interleaved run(s), medians. CPU: all the "
        f"peer's processes, per request. Idle peers took at most {idle:.2f} cores."
    )


def _document(machine: Machine, versions: dict[str, str], measurements: Sequence[Measurement]) -> str:
    cells = medians(measurements)
    document = {
        "machine": asdict(machine),
        "versions": versions,
        "medians": [{"workload": key[0], "peer": key[1], **asdict(cell)} for key, cell in cells.items()],
        "measurements": [asdict(one) for one in measurements],
    }
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
