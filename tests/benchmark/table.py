"""The result: medians over the runs, one row per workload, peers side by side, as Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmark.workload import Measurement

OURS: Final = "respraft"

_NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Cell:
    """Medians of one workload on one peer."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


Medians = dict[tuple[str, str], Cell]
"""By workload and peer."""


def medians(measurements: Iterable[Measurement]) -> Medians:
    """Take the median of each figure by itself."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.workload, measurement.peer), []).append(measurement)
    return {
        key: Cell(
            rps=statistics.median(one.figures.rps for one in group),
            p50_ms=statistics.median(one.figures.p50_ms for one in group),
            p99_ms=statistics.median(one.figures.p99_ms for one in group),
            cpu_us=statistics.median(one.cpu_us for one in group),
        )
        for key, group in groups.items()
    }


def render(cells: Medians) -> str:
    """Return the table; peers and workloads in the order in which they first appear."""
    workloads = list(dict.fromkeys(workload for workload, _peer in cells))
    peers = list(dict.fromkeys(peer for _workload, peer in cells))
    rivals = [peer for peer in peers if peer != OURS] if OURS in peers else []
    header = ["test"]
    for peer in peers:
        header += [f"{peer} rps", "p50 ms", "p99 ms", "CPU us"]
    header += [f"rps / {rival}" for rival in rivals]
    rows = []
    for workload in workloads:
        row = [workload]
        for peer in peers:
            row += _figures(cells.get((workload, peer)))
        ours = cells.get((workload, OURS))
        row += [_ratio(ours, cells.get((workload, rival))) for rival in rivals]
        rows.append(row)
    return _markdown([header, *rows])


def _figures(cell: Cell | None) -> list[str]:
    if cell is None:
        return [_NOTHING] * 4
    return [f"{cell.rps:,.0f}", f"{cell.p50_ms:.2f}", f"{cell.p99_ms:.2f}", f"{cell.cpu_us:.1f}"]


def _ratio(ours: Cell | None, rival: Cell | None) -> str:
    return f"{ours.rps / rival.rps:.2f}" if ours and rival else _NOTHING


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Names to the left, figures to the right, in the source as well as when rendered.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
