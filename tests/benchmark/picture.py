"""The result as a picture: throughput and latency side by side, one group of bars per workload, as SVG.

Both scales are logarithmic: one client and a pipeline of 64 are a factor of 500 apart. A latency is a bar to
the median with a thin line to the 99th percentile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tests.benchmark.table import Medians

COLOURS: Final = {"respraft": "#c0392b", "redis": "#7f8c8d", "etcd": "#2980b9", "pysyncobj": "#d4a017"}
BAR: Final = 9
GAP: Final = 12
LABELS: Final = 210
WIDTH: Final = 330
"""Of each of the two diagrams, in pixels."""
MARGIN: Final = 60
TOP: Final = 58


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to pixels, over whole decades."""

    left: float
    low: int
    high: int

    @classmethod
    def over(cls, values: Sequence[float], left: float) -> "Scale":
        """Return one that holds all these values."""
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(left, low, max(high, low + 1))

    def x(self, value: float) -> float:
        """Return the place of a value."""
        return self.left + WIDTH * (math.log10(value) - self.low) / (self.high - self.low)

    def decades(self) -> list[float]:
        """Return the values at which a line is drawn."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(cells: Medians) -> str:
    """Return the picture of a run that has measured something."""
    workloads = list(dict.fromkeys(workload for workload, _peer in cells))
    peers = list(dict.fromkeys(peer for _workload, peer in cells))
    throughput = Scale.over([cell.rps for cell in cells.values()], LABELS)
    latency = Scale.over(
        [each for cell in cells.values() for each in (cell.p50_ms, cell.p99_ms)], LABELS + WIDTH + MARGIN
    )
    bars: list[str] = []
    y = float(TOP)
    for workload in workloads:
        shown = [peer for peer in peers if (workload, peer) in cells]
        bars.append(_text(LABELS - 8, y + len(shown) * BAR / 2 + 4, workload, "end"))
        for peer in shown:
            cell, colour = cells[workload, peer], COLOURS.get(peer, "#555555")
            bars.append(_bar(throughput, y, cell.rps, colour))
            bars.append(_bar(latency, y, cell.p50_ms, colour))
            middle, p50, p99 = y + BAR / 2, latency.x(cell.p50_ms), latency.x(cell.p99_ms)
            bars.append(f'<path d="M{p50:.1f} {middle:.1f}H{p99:.1f}" stroke="{colour}"/>')
            y += BAR
        y += GAP
    titles = ("requests a second (longer is better)", "ms: p50, line to p99 (shorter is better)")
    body = [*_legend(peers)]
    for scale, title in zip((throughput, latency), titles, strict=True):
        body += _axis(scale, title, y)
    width, height = LABELS + 2 * WIDTH + 2 * MARGIN, y + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, *bars, "</svg>", ""])


def _legend(peers: Sequence[str]) -> list[str]:
    lines = []
    for place, peer in enumerate(peers):
        x = 12 + 110 * place
        lines.append(f'<rect x="{x}" y="8" width="10" height="10" fill="{COLOURS.get(peer, "#555555")}"/>')
        lines.append(_text(x + 15, 17, peer))
    return lines


def _axis(scale: Scale, title: str, bottom: float) -> list[str]:
    lines = [_text(scale.left, 36, title)]
    for value in scale.decades():
        x = scale.x(value)
        lines.append(f'<path d="M{x:.1f} {TOP - 4}V{bottom:.0f}" stroke="#dddddd"/>')
        lines.append(_text(x, TOP - 7, f"{value:,.12g}", "middle"))
    return lines


def _bar(scale: Scale, y: float, value: float, colour: str) -> str:
    width = max(1.0, scale.x(value) - scale.left)
    return f'<rect x="{scale.left}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
