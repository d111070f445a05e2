"""The log's time: it follows the median, never jumps and never stands, whoever leads."""

import random

import pytest

from respraft.raft.clock import LogClock

WALL = 1_700_000_000_000


def leading(walls: list[int], *, last_time_ms: int = 0) -> LogClock:
    """A leader's clock, itself at WALL, elected by voters with these other clocks."""
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    for voter, wall_ms in enumerate(walls, 2):
        clock.hear(voter, wall_ms)
    clock.lead(last_time_ms)
    return clock


def pass_ms(clock: LogClock, elapsed_ms: float, *, steps: int = 100) -> None:
    """Time passes, by the clocks of all nodes alike, in small turns."""
    start, wall_ms = clock.monotonic_ms, clock.wall_ms
    for step in range(1, steps + 1):
        passed = elapsed_ms * step / steps
        clock.observe(start + passed, wall_ms + int(passed))


@pytest.mark.parametrize(
    ("walls", "start"),
    [
        ([], 0),
        ([WALL + 2_000], 0),  # Of two, the lower one.
        ([WALL - 2_000], -2_000),
        ([WALL - 2_000, WALL + 9_000], 0),
        ([WALL + 1_000, WALL + 9_000], 1_000),
        ([WALL + 1_000, WALL + 2_000, WALL + 9_000], 1_000),  # Of four, the lower middle.
    ],
)
def test_a_leader_that_never_followed_starts_at_the_lower_median(walls: list[int], start: int) -> None:
    assert leading(walls).now_ms() == WALL + start


def test_it_starts_no_earlier_than_the_last_entry() -> None:
    assert leading([], last_time_ms=WALL + 5_000).now_ms() == WALL + 5_000


def test_it_runs_with_the_median() -> None:
    clock = leading([WALL - 500, WALL + 800])
    pass_ms(clock, 3_000)
    assert clock.now_ms() == WALL + 3_000


def test_ahead_of_the_median_it_runs_slower_in_proportion() -> None:
    clock = leading([], last_time_ms=WALL + 20_000)
    pass_ms(clock, 1_000)
    assert clock.now_ms() == WALL + 20_990  # One percent of the way.


def test_far_ahead_it_runs_at_half_speed_and_never_slower() -> None:
    clock = leading([], last_time_ms=WALL + 86_400_000)
    pass_ms(clock, 1_000)
    assert clock.now_ms() == WALL + 86_400_500


def test_behind_the_median_it_runs_faster_in_proportion() -> None:
    clock = leading([])
    clock.hear(2, WALL + 20_000)
    clock.hear(3, WALL + 20_000)
    pass_ms(clock, 1_000)
    assert clock.now_ms() == pytest.approx(WALL + 1_010, abs=1)


@pytest.mark.parametrize("error_ms", [30, -30])
def test_an_error_of_some_milliseconds_is_gone_within_two_minutes(error_ms: int) -> None:
    """Votes come late from nodes that are just starting, so a first leader may begin that far behind."""
    clock = leading([WALL + error_ms, WALL + error_ms])
    for voter in (2, 3):
        clock.hear(voter, WALL)
    pass_ms(clock, 120_000, steps=1_000)
    assert clock.now_ms() == pytest.approx(WALL + 120_000, abs=1)


def test_clocks_two_seconds_apart_move_a_short_deadline_by_less_than_a_millisecond() -> None:
    """A key with 200 ms to live must not expire early because some clock is wrong."""
    clock = leading([])
    clock.hear(2, WALL + 2_000)
    clock.hear(3, WALL + 2_000)
    pass_ms(clock, 200)
    assert clock.now_ms() == WALL + 200


def test_far_behind_it_gains_a_tenth_and_no_more() -> None:
    """Also over a long pause, after which the wall clock has been set."""
    clock = leading([])
    clock.observe(clock.monotonic_ms + 1_000.0, WALL + 86_400_000)
    assert clock.now_ms() == WALL + 1_100


@pytest.mark.parametrize("seed", range(20))
def test_never_a_jump_and_never_a_stop(seed: int) -> None:
    """Whatever the wall clocks do: at most 110 % and at least half of the time that passed."""
    rng = random.Random(seed)
    clock = leading([WALL + rng.randrange(-5_000, 5_000) for _ in range(2)])
    for _ in range(300):
        before, elapsed = clock.now_ms(), rng.choice([0.0, 0.3, 5.0, 400.0])
        clock.observe(clock.monotonic_ms + elapsed, WALL + rng.randrange(-900_000, 900_000))
        if rng.random() < 0.3:
            clock.hear(rng.choice([2, 3]), WALL + rng.randrange(-9_000, 9_000))
        assert 0.5 * elapsed - 1 <= clock.now_ms() - before <= 1.1 * elapsed + 1


def test_a_successor_goes_on_where_the_leader_was() -> None:
    """Not at the median of another majority, which may be seconds away."""
    clock = LogClock()
    clock.observe(0.0, WALL + 2_000)
    clock.follow(WALL)
    clock.observe(700.0, WALL + 2_700)
    clock.forget_voters()
    clock.hear(2, WALL + 2_700)
    clock.lead(WALL - 50)
    assert clock.now_ms() == WALL + 700


def test_entries_refine_what_heartbeats_told() -> None:
    clock = LogClock()
    clock.observe(0.0, WALL)
    clock.follow(WALL - 100)
    clock.observe(50.0, WALL + 50)
    clock.follow_entry(WALL - 40)
    clock.observe(60.0, WALL + 60)
    assert clock.now_ms() == WALL - 30


def test_old_entries_do_not_turn_the_time_back() -> None:
    """A node that catches up with the entries of last night is not in last night."""
    clock = LogClock()
    clock.observe(0.0, WALL)
    clock.follow_entry(WALL - 8 * 3_600_000)
    clock.lead(WALL - 8 * 3_600_000)
    assert clock.now_ms() == WALL

    clock = LogClock()
    clock.observe(0.0, WALL)
    clock.follow(WALL - 5)
    clock.follow_entry(WALL - 8 * 3_600_000)
    assert clock.now_ms() == WALL - 5


def test_a_late_heartbeat_changes_nothing() -> None:
    clock = LogClock()
    clock.observe(0.0, WALL)
    clock.follow(WALL)
    clock.observe(10.0, WALL + 10)
    clock.follow(WALL - 100)
    assert clock.now_ms() == WALL + 10


def test_a_leader_that_steps_down_and_is_elected_again_goes_on() -> None:
    clock = leading([], last_time_ms=WALL + 9_000)
    clock.step_down()
    pass_ms(clock, 100)
    clock.lead(WALL)
    assert clock.now_ms() == WALL + 9_100


def test_only_voters_of_the_present_election_count() -> None:
    clock = LogClock()
    clock.observe(0.0, WALL)
    clock.hear(2, WALL - 60_000)
    clock.forget_voters()
    clock.hear(3, WALL + 10)
    clock.lead(0)
    assert clock.now_ms() == WALL


def test_skew_is_the_largest_distance_from_the_median() -> None:
    clock = leading([WALL - 700, WALL + 300])
    assert clock.skew_ms == 700
    clock.hear(3, WALL + 2_500)
    assert clock.skew_ms == 2_500
    clock.step_down()
    assert clock.skew_ms == 0


def test_a_monotonic_clock_does_not_run_backwards() -> None:
    clock = LogClock()
    clock.observe(5.0, WALL)
    with pytest.raises(AssertionError, match="backwards"):
        clock.observe(4.0, WALL)
