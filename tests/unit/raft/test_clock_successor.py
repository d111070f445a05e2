"""The log's time over two changes of leadership. Found by simulation."""

from respraft.raft.clock import LogClock
from respraft.raft.message import NO_TIME, HeardTime, VoteRequest
from tests.unit.raft.cluster import Cluster

WALL = 1_700_000_000_000


def test_a_follower_goes_on_from_its_leaders_time_though_it_knew_a_later_one() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.enter_term(1)
    clock.follow(WALL)  # The first leader,
    clock.observe(1_900.0, WALL + 900)
    clock.follow(WALL + 900)  # and its last heartbeat.
    clock.observe(2_000.0, WALL + 1_000)
    clock.enter_term(2)
    clock.follow(WALL + 100)  # The second was paused, and then read old heartbeats: it is behind.
    clock.follow(WALL + 50)  # An old message of its own.
    clock.observe(2_500.0, WALL + 1_500)
    clock.enter_term(3)
    clock.lead(last_time_ms=WALL + 200)
    assert clock.now_ms() == WALL + 600, "clients of the second leader saw its time: no jump from there"


def test_until_a_new_leader_is_heard_the_old_ones_time_goes_on() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.follow(WALL - 5_000)
    clock.enter_term(4)
    clock.observe(2_000.0, WALL + 1_000)
    assert clock.now_ms() == WALL - 4_000


def test_a_restarted_leader_goes_on_by_what_its_voters_have_heard() -> None:
    cluster = Cluster(3)
    for node_id, skew_ms in ((1, 5_000), (2, 0), (3, 9_000)):
        cluster[node_id].wall_skew_ms = skew_ms
    cluster.elect(1)
    cluster.pass_ticks(20)
    time_ms = cluster[1].node.clock.now_ms()
    cluster[3].crash()
    cluster[3].start()
    cluster.isolate(1)
    cluster.time_ms += 1_000
    cluster[2].tick(50)  # No leader's protection any more.
    cluster.elect(3)
    assert abs(cluster[3].node.clock.now_ms() - (time_ms + 1_000)) <= 20, "the time was voter 2's to know"


def test_knowledge_of_a_newer_term_counts_more_than_a_higher_guess() -> None:
    clock = LogClock()
    clock.observe(10_000.0, WALL)
    clock.enter_term(7)
    clock.learn(HeardTime(term=5, said_ms=WALL - 4_000, ago_ms=100))
    clock.learn(HeardTime(term=4, said_ms=WALL + 9_000, ago_ms=900))
    clock.learn(HeardTime(term=5, said_ms=WALL - 4_200, ago_ms=900))  # Heard earlier: a longer guess.
    clock.learn(NO_TIME)
    clock.lead(last_time_ms=0)
    assert clock.now_ms() == WALL - 3_900


def test_what_piled_up_during_a_pause_is_no_news_of_the_time() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.enter_term(1)
    clock.follow(WALL)
    clock.observe(2_500.0, WALL + 1_500)  # A pause. Meanwhile another leader has begun, and has died.
    clock.resume()
    clock.enter_term(2)
    clock.follow(WALL + 300)  # 1200 ms old, but who can tell?
    clock.follow_entry(WALL + 310)
    assert clock.heard() == HeardTime(term=1, said_ms=WALL, ago_ms=1_500)
    clock.tick()
    clock.follow(WALL + 1_500)
    assert clock.heard() == HeardTime(term=2, said_ms=WALL + 1_500, ago_ms=0)


def test_a_vote_that_waited_during_a_pause_is_no_better_than_what_is_known_here() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.enter_term(3)
    clock.follow(WALL)
    clock.enter_term(4)
    clock.observe(2_500.0, WALL + 1_500)
    clock.resume()
    clock.learn(HeardTime(term=3, said_ms=WALL + 20, ago_ms=100))  # As of 1300 ms ago.
    clock.lead(last_time_ms=0)
    assert clock.now_ms() == WALL + 1_500


def test_what_a_leader_stamped_itself_is_of_its_own_term() -> None:
    clock = LogClock()
    clock.observe(1_000.0, WALL)
    clock.enter_term(3)
    clock.lead(last_time_ms=WALL + 50)
    clock.enter_term(4)
    clock.step_down()
    clock.observe(1_200.0, WALL + 200)
    assert clock.heard() == HeardTime(term=3, said_ms=WALL + 50, ago_ms=200)


def test_a_refused_vote_and_a_voter_that_heard_nobody_say_nothing_of_the_time() -> None:
    cluster = Cluster(3)
    voter = cluster[2]
    voter.receive(VoteRequest(1, 2, 1, 1, False))
    assert voter.write is not None
    ((_, response),) = voter.write.messages
    assert response.granted and response.log_time == NO_TIME  # type: ignore[union-attr]
