"""The failover benchmark's arithmetic."""

import pytest

from tests.benchmark.failover import Gap, longest_gap, table


def test_the_gap_at_the_signal_counts_and_no_later_one() -> None:
    acknowledged = [9.9, 9.99, 10.01, 10.08, 10.1, 10.7, 10.71]
    assert longest_gap(acknowledged, 10.0) == Gap(10.01, 10.08)


def test_a_gap_that_begins_before_the_signal_counts_if_it_lasts() -> None:
    assert longest_gap([9.98, 10.9, 10.91], 10.0) == Gap(9.98, 10.9)


def test_an_outage_without_an_end_is_an_error() -> None:
    with pytest.raises(AssertionError, match="nothing was acknowledged"):
        longest_gap([9.8, 9.9], 10.0)


def test_the_table() -> None:
    assert table({"kill -9": [1.0, 3.0, 200.0], "SIGTERM": []}).splitlines()[2:] == [
        "| kill -9 | 3 | 3 | 200 | 200 |"
    ]
