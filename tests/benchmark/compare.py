"""Is it slower than it was? A run next to a kept one, such as `benchmarks/0.1.0.json`.

Two runs are of two days and perhaps of two machines. So respraft is not compared with itself but by what it
does as a share of what redis-server does in the same run; where one of the runs has no redis-server, by
requests a second.
"""

from dataclasses import dataclass
from typing import Any, Final

from tests.benchmark.table import OURS, Cell, Medians, markdown

MEASURE: Final = "redis"
"""The peer whose figure stands for the machine."""
SLOWER: Final = 0.85
"""A figure that falls below this part of the kept one is a regression. Two runs of one build differ by up to
a tenth in their ratios."""


@dataclass(frozen=True, slots=True)
class Change:
    """One workload, then and now."""

    workload: str
    then: float
    now: float
    relative: bool
    """Shares of redis-server's throughput, rather than requests a second."""

    @property
    def factor(self) -> float:
        return self.now / self.then

    @property
    def regression(self) -> bool:
        return self.factor < SLOWER


def read(document: dict[str, Any]) -> Medians:
    """Return the medians of a result that `--json` wrote."""
    return {
        (one["workload"], one["peer"]): Cell(
            **{key: value for key, value in one.items() if key not in ("workload", "peer")}
        )
        for one in document["medians"]
    }


def compare(now: Medians, then: Medians) -> list[Change]:
    """Return what both runs have of respraft, in the order of the new one."""
    changes = []
    for workload, peer in now:
        if peer != OURS or (workload, peer) not in then:
            continue
        measure = (workload, MEASURE)
        relative = measure in now and measure in then
        new, old = now[workload, peer].rps, then[workload, peer].rps
        if relative:
            new, old = new / now[measure].rps, old / then[measure].rps
        changes.append(Change(workload, old, new, relative))
    return changes


def render_changes(changes: list[Change]) -> str:
    """Return them as Markdown; a regression says so."""
    rows = [["test", "then", "now", "now / then", "verdict"]]
    for change in changes:
        figures = [f"{one:.2f}" if change.relative else f"{one:,.0f}/s" for one in (change.then, change.now)]
        verdict = "SLOWER" if change.regression else ""
        rows.append([change.workload, *figures, f"{change.factor:.2f}", verdict])
    return markdown(rows)
