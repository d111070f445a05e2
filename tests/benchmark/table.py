"""The result: medians over the runs, one row per workload, peers side by side, as Markdown."""

import statistics
from collections.abc import Callable, Iterable, Sequence
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


COLUMNS: Final[dict[str, Callable[[Cell], str]]] = {
    "rps": lambda cell: f"{cell.rps:,.0f}",
    "p50 ms": lambda cell: f"{cell.p50_ms:.2f}",
    "p99 ms": lambda cell: f"{cell.p99_ms:.2f}",
    "CPU us": lambda cell: f"{cell.cpu_us:.1f}",
}
"""What a peer may have a column for, and how its figure is written."""
BRIEF: Final = ("rps", "CPU us")


def render(cells: Medians, columns: Sequence[str] = tuple(COLUMNS)) -> str:
    """Return the table; peers and workloads in the order in which they first appear."""
    workloads = list(dict.fromkeys(workload for workload, _peer in cells))
    peers = list(dict.fromkeys(peer for _workload, peer in cells))
    rivals = [peer for peer in peers if peer != OURS] if OURS in peers else []
    header = ["test"]
    for peer in peers:
        header += [f"{peer} {columns[0]}", *columns[1:]]
    header += [f"rps / {rival}" for rival in rivals]
    rows = []
    for workload in workloads:
        row = [workload]
        for peer in peers:
            cell = cells.get((workload, peer))
            row += [COLUMNS[column](cell) if cell else _NOTHING for column in columns]
        ours = cells.get((workload, OURS))
        row += [_ratio(ours, cells.get((workload, rival))) for rival in rivals]
        rows.append(row)
    return markdown([header, *rows])


def _ratio(ours: Cell | None, rival: Cell | None) -> str:
    return f"{ours.rps / rival.rps:.2f}" if ours and rival else _NOTHING


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table with its columns aligned; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Names to the left, figures to the right, in the source as well as when rendered.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
