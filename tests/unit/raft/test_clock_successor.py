"""The log's time over two changes of leadership. Found by simulation."""

from respraft.raft.clock import LogClock

WALL = 1_700_000_000_000


def test_a_follower_goes_on_from_its_leaders_time_though_it_knew_a_later_one() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.enter_term()
    clock.follow(WALL)  # The first leader,
    clock.observe(1_900.0, WALL + 900)
    clock.follow(WALL + 900)  # and its last heartbeat.
    clock.observe(2_000.0, WALL + 1_000)
    clock.enter_term()
    clock.follow(WALL + 100)  # The second was paused, and then read old heartbeats: it is behind.
    clock.follow(WALL + 50)  # An old message of its own.
    clock.observe(2_500.0, WALL + 1_500)
    clock.enter_term()
    clock.lead(last_time_ms=WALL + 200)
    assert clock.now_ms() == WALL + 600, "clients of the second leader saw its time: no jump from there"


def test_until_a_new_leader_is_heard_the_old_ones_time_goes_on() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.follow(WALL - 5_000)
    clock.enter_term()
    clock.observe(2_000.0, WALL + 1_000)
    assert clock.now_ms() == WALL - 4_000
