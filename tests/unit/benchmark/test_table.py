"""The table: medians, gaps and ratios."""

from tests.benchmark.table import Cell, medians, render
from tests.benchmark.workload import Figures, Measurement


def measurement(workload: str, peer: str, run: int, rps: float, cpu_us: float = 10.0) -> Measurement:
    return Measurement(workload, peer, run, 1000, Figures(rps, rps / 1000, rps / 100), cpu_us, 0.5, 0.01)


def test_each_figure_is_the_median_over_the_runs() -> None:
    runs = [measurement("SET", "redis", run, rps) for run, rps in enumerate([300.0, 100.0, 200.0])]
    assert medians(runs) == {("SET", "redis"): Cell(200.0, 0.2, 2.0, 10.0)}


def test_peers_stand_side_by_side_with_the_ratio_of_ours_to_each() -> None:
    cells = medians(
        [
            measurement("SET", "respraft", 0, 12_000.0, 97.0),
            measurement("SET", "redis", 0, 24_000.0, 12.0),
            measurement("SET", "etcd", 0, 3_000.0, 360.0),
            measurement("GET", "respraft", 0, 30_000.0, 20.0),
            measurement("GET", "redis", 0, 40_000.0, 8.0),
        ]
    )
    lines = render(cells).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == [
        *("test", "respraft rps", "p50 ms", "p99 ms", "CPU us", "redis rps", "p50 ms", "p99 ms", "CPU us"),
        *("etcd rps", "p50 ms", "p99 ms", "CPU us", "rps / redis", "rps / etcd"),
    ]
    assert rows[2][:5] == ["SET", "12,000", "12.00", "120.00", "97.0"]
    assert rows[2][-2:] == ["0.50", "4.00"]
    assert rows[3][9:13] == ["-"] * 4
    assert rows[3][-2:] == ["0.75", "-"]
    assert len({len(line) for line in lines}) == 1


def test_without_ours_there_are_no_ratios() -> None:
    header = render(medians([measurement("SET", "redis", 0, 1.0)])).splitlines()[0]
    assert header.count("|") == 6
