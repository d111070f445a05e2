"""A run next to a kept one: what counts as slower."""

import json
from dataclasses import asdict

from tests.benchmark.compare import compare, read, render_changes
from tests.benchmark.table import Cell, Medians


def run(**rps: float) -> Medians:
    """Medians by peer, of one workload."""
    return {("SET", peer): Cell(figure, 1.0, 2.0, 30.0) for peer, figure in rps.items()}


def test_a_slower_machine_is_no_regression() -> None:
    [change] = compare(run(respraft=500.0, redis=1000.0), run(respraft=1000.0, redis=2000.0))
    assert change.relative
    assert (change.then, change.now, change.regression) == (0.5, 0.5, False)


def test_a_smaller_share_of_the_same_machine_is_one() -> None:
    [change] = compare(run(respraft=500.0, redis=2000.0), run(respraft=1000.0, redis=2000.0))
    assert change.regression
    assert "SLOWER" in render_changes([change])


def test_without_redis_requests_a_second_count() -> None:
    [change] = compare(run(respraft=950.0), run(respraft=1000.0, redis=2000.0))
    assert not change.relative
    assert not change.regression
    assert "1,000/s" in render_changes([change])
    assert "SLOWER" not in render_changes([change])


def test_what_only_one_of_them_has_is_left_out() -> None:
    assert compare(run(respraft=1.0), run(redis=1.0)) == []


def test_medians_come_back_from_a_file() -> None:
    cells = run(respraft=1.0, redis=2.0)
    medians = [
        {"workload": workload, "peer": peer, **asdict(cell)} for (workload, peer), cell in cells.items()
    ]
    assert read(json.loads(json.dumps({"medians": medians}))) == cells
