"""How entries get from a leader to the others: streams, windows, back-off, writes. Raft paper, 5.3."""

import pytest

from respraft.config import RaftConfig
from respraft.raft.leader import NOTICE_BYTES
from respraft.raft.message import (
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    ReadIndexRequest,
    VoteRequest,
)
from respraft.raft.node import COMMITTED_BYTES_MAX
from respraft.raft.progress import Progress
from respraft.raft.ready import HardState, NotLeader, Role
from tests.unit.raft.cluster import Cluster, Disk, Host, entries_of

CONFIG = RaftConfig()


def appends(cluster: Cluster, to: int) -> list[AppendRequest]:
    """The appends under way to a node, taken out of the network."""
    envelopes = cluster.take(AppendRequest, to=to)
    return [each.message for each in envelopes if isinstance(each.message, AppendRequest)]


def leading(nodes: int = 3, config: RaftConfig = CONFIG) -> tuple[Cluster, Host]:
    cluster = Cluster(nodes, config=config)
    return cluster, cluster.elect(1)


# Streaming


def test_all_proposals_of_a_turn_are_one_write_and_one_append_per_peer() -> None:
    cluster, leader = leading()
    leader.propose(b"a", b"b", b"c")
    assert leader.write is not None
    assert [entry.payload for entry in leader.write.entries] == [b"a", b"b", b"c"]
    for peer in (2, 3):
        (append,) = appends(cluster, peer)
        assert append.entries == leader.write.entries
        assert (append.base_index, append.base_term) == (2, 2)


def test_only_a_leader_takes_proposals() -> None:
    cluster, _ = leading()
    with pytest.raises(NotLeader):
        cluster[2].node.propose(b"x")


def test_appends_follow_each_other_without_waiting_for_answers() -> None:
    cluster, leader = leading()
    for payload in (b"a", b"b", b"c"):
        leader.propose(payload)
    assert [each.base_index for each in appends(cluster, 2)] == [2, 3, 4]
    assert leader.node.status().peers[0].in_flight == 3


def test_the_window_bounds_what_is_in_flight_by_count() -> None:
    cluster, leader = leading(config=RaftConfig(inflight_appends_max=2))
    for payload in (b"a", b"b", b"c", b"d"):
        leader.propose(payload)
    assert len(appends(cluster, 2)) == 2
    leader.receive(AppendResponse(2, 2, 3, 0, 0, 0))
    (append,) = appends(cluster, 2)
    assert [entry.payload for entry in append.entries] == [b"c", b"d"]


def test_the_window_bounds_what_is_in_flight_by_bytes_but_one_huge_entry_passes() -> None:
    cluster, leader = leading(config=RaftConfig(inflight_bytes_max=10))
    leader.propose(b"x" * 1000)
    leader.propose(b"y")
    (append,) = appends(cluster, 2)
    assert len(append.entries[0].payload) == 1000
    leader.receive(AppendResponse(2, 2, 3, 0, 0, 0))
    (append,) = appends(cluster, 2)
    assert append.entries[0].payload == b"y"


def test_an_append_is_cut_at_a_number_of_bytes_and_the_rest_follows_in_the_next_turns() -> None:
    cluster, leader = leading(config=RaftConfig(append_bytes_max=4))
    leader.observe()
    for payload in (b"aa", b"bb", b"cc", b"x" * 9):
        leader.node.propose(payload)
    ready = leader.node.take_ready(write_allowed=True)
    (append,) = [each for to, each in ready.messages if to == 2 and isinstance(each, AppendRequest)]
    assert [entry.payload for entry in append.entries] == [b"aa", b"bb"]
    assert ready.more
    leader.turn()  # Goes on while there is more.
    payloads = [[entry.payload for entry in each.entries] for each in appends(cluster, 2)]
    assert payloads == [[b"cc"], [b"x" * 9]]


def test_a_commit_is_told_at_once_also_when_no_entries_leave() -> None:
    cluster, leader = leading()
    leader.propose(b"a")
    leader.persist()
    appends(cluster, 2)
    leader.receive(AppendResponse(3, 2, 3, 0, 0, 0))
    (notice,) = appends(cluster, 2)
    assert (notice.base_index, notice.commit_index, notice.entries) == (3, 3, [])
    leader.turn()
    assert appends(cluster, 2) == [], "once"


def test_only_those_who_wait_are_told_at_once_when_the_driver_knows_who_they_are() -> None:
    cluster, leader = leading()
    leader.node.notices_at_once = False
    leader.node.expect_commit(2, 3)
    leader.node.expect_commit(9, 3)  # No member; nothing happens.
    leader.propose(b"a")
    leader.persist()
    cluster.take(AppendRequest)
    leader.receive(AppendResponse(3, 2, 3, 0, 0, 0))
    (notice,) = appends(cluster, 2)
    assert (notice.commit_index, notice.entries) == (3, [])
    assert appends(cluster, 3) == []
    leader.tick()
    (notice,) = appends(cluster, 3)
    assert (notice.commit_index, notice.entries) == (3, [])
    assert appends(cluster, 2) == []


def test_all_are_told_at_once_of_a_large_entry() -> None:
    cluster, leader = leading()
    leader.node.notices_at_once = False
    leader.propose(bytes(NOTICE_BYTES))
    leader.persist()
    cluster.take(AppendRequest)
    leader.receive(AppendResponse(3, 2, 3, 0, 0, 0))
    for peer in (2, 3):
        assert [append.commit_index for append in appends(cluster, peer)] == [3]
    leader.turn()
    assert appends(cluster, 2) == appends(cluster, 3) == [], "once"


def test_a_reader_elsewhere_waits_for_the_index_that_it_was_given() -> None:
    cluster, leader = leading()
    leader.node.notices_at_once = False
    leader.propose(b"a")
    leader.persist()
    cluster.take(AppendRequest)
    leader.receive(AppendResponse(2, 2, 3, 0, 0, 0))
    leader.receive(AppendResponse(3, 2, 3, 0, 0, 0))
    assert appends(cluster, 3) == []
    leader.receive(ReadIndexRequest(3, 2, (1, 1)))
    (notice,) = appends(cluster, 3)
    assert notice.commit_index == 3


def test_a_commit_travels_with_entries_where_there_are_any() -> None:
    cluster, leader = leading()
    leader.propose(b"a")
    leader.persist()
    appends(cluster, 2)
    leader.observe()
    leader.node.step(AppendResponse(3, 2, 3, 0, 0, 0))
    leader.node.propose(b"b")
    leader.turn()
    (append,) = appends(cluster, 2)
    assert (append.commit_index, [entry.payload for entry in append.entries]) == (3, [b"b"])


def test_a_late_answer_takes_nothing_back() -> None:
    cluster, leader = leading()
    leader.propose(b"a")
    cluster.settle()
    before = leader.node.status()
    leader.receive(AppendResponse(2, 2, 2, 0, 0, 0))
    leader.receive(AppendResponse(2, 2, 0, 2, 1, 1))  # A refusal of what it has accepted since.
    leader.receive(AppendResponse(9, 2, 99, 0, 0, 0))  # A stranger.
    assert leader.node.status() == before


# Back-off


def test_a_short_log_is_found_in_one_round_trip() -> None:
    cluster = Cluster(3, terms=[1] * 30)
    cluster.replace(3, cluster.disk_with([1] * 5))
    cluster[1].node.campaign()
    cluster[1].turn()
    refusals = set()
    while cluster.step():
        for each in cluster.mail:
            if isinstance(each.message, AppendResponse) and each.message.reject_index:
                refusals.add((each.message.reject_index, each.message.hint_index))
    assert refusals == {(30, 5)}
    assert cluster[3].node.last_index == 31
    assert cluster[3].node.commit_index == 31


@pytest.mark.parametrize(
    ("leader_terms", "follower_terms", "probes"),
    [
        # Raft paper, figure 7: the leader of term 8, and followers (a) to (f).
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 4, 4, 5, 5, 6, 6], 2),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 4], 2),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], 1),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], 1),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 4, 4, 4, 4], 2),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6], [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], 2),
        # Long tails of terms that the other never saw cost one round trip, not one per entry.
        ([1, *[5] * 40], [1, *[2] * 40], 2),
        ([1, *[2] * 40], [1, *[5] * 40], 2),
        ([1, *[2] * 10, *[6] * 10], [1, *[2] * 3, *[4] * 20], 3),
    ],
)
def test_a_differing_log_is_repaired_within_a_round_trip_per_term(
    leader_terms: list[int], follower_terms: list[int], probes: int
) -> None:
    """Raft paper, section 5.3, figure 7."""
    cluster = Cluster(3)
    cluster.replace(1, cluster.disk_with(leader_terms, term=7))
    cluster.replace(2, cluster.disk_with(leader_terms, term=7))
    follower = cluster.replace(3, cluster.disk_with(follower_terms, term=7))
    leader = cluster[1]
    leader.node.campaign()
    leader.turn()
    sent = 0
    while cluster.mail or any(host.write for host in cluster.hosts.values()):
        if not leader.node.peers or leader.node.peers[3].probing:
            head = cluster.mail[0] if cluster.mail else None
            sent += head is not None and head.to == 3 and isinstance(head.message, AppendRequest)
        cluster.step()
    assert leader.node.role is Role.LEADER
    assert [entry.term for entry in follower.disk.log] == [*leader_terms, 8]
    assert follower.node.commit_index == len(leader_terms) + 1
    assert sent == probes


def test_a_late_refusal_does_not_disturb_a_newer_probe() -> None:
    progress = Progress(10, 0)
    progress.refused(9, 4)
    assert progress.next_index == 5
    progress.refused(9, 1)
    assert progress.next_index == 5
    progress.accepted(4)
    progress.refused(4, 1)
    assert (progress.next_index, progress.probing) == (5, False)


def test_a_refusal_never_goes_below_what_is_known_to_match() -> None:
    progress = Progress(10, 0)
    progress.accepted(9)
    progress.sent(12, 1, 0)
    progress.sent(15, 1, 0)
    progress.refused(12, 3)
    assert (progress.next_index, progress.probing, len(progress.inflight)) == (10, True, 0)


def test_only_the_answer_to_a_probe_ends_probing() -> None:
    """After a gap in a stream, refusals come at once and the acceptances of what came before it later."""
    progress = Progress(10, 0)
    progress.accepted(9)
    for last_index in (10, 11, 12, 13, 14):
        progress.sent(last_index, 1, 0)
    progress.refused(13, 12)  # The peer has 10 to 12 in memory, and never got 13.
    progress.sent(20, 1, 0)
    for match_index in (10, 11, 12):
        assert progress.accepted(match_index)
        assert progress.probing and progress.paused
    assert progress.next_index == 13
    progress.refused(13, 12)  # Of what was sent behind the gap.
    assert progress.paused
    assert progress.accepted(20)
    assert (progress.probing, progress.next_index) == (False, 21)


# Loss


def test_an_append_that_was_lost_is_noticed_by_the_next_one() -> None:
    cluster, leader = leading()
    leader.propose(b"a")
    appends(cluster, 3)
    leader.propose(b"b")
    cluster.settle()
    assert cluster[3].node.commit_index == 4


def test_an_append_that_was_lost_is_noticed_though_nothing_follows_it() -> None:
    """The peer answers heartbeats while an append stands out: ask whether its log still fits."""
    cluster, leader = leading()
    leader.propose(b"a")
    appends(cluster, 2)
    appends(cluster, 3)
    cluster.settle()
    assert leader.node.commit_index == 2
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert leader.node.commit_index == 3


def test_a_probe_that_was_lost_is_repeated_once_the_peer_shows_up() -> None:
    cluster = Cluster(3)
    cluster.isolate(3)
    leader = cluster.elect(1)
    cluster.pass_ticks(10 * CONFIG.heartbeat_ticks)
    cluster.cut.clear()
    assert appends(cluster, 3) == [], "a node that says nothing is sent heartbeats only"
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert cluster[3].node.commit_index == leader.node.commit_index


def test_the_end_of_a_link_stops_the_stream_until_the_peer_shows_up() -> None:
    cluster, leader = leading()
    leader.propose(b"a")
    cluster.take(AppendRequest, to=3)
    leader.node.peer_unreachable(3)
    leader.node.peer_unreachable(9)  # No member; nothing happens.
    leader.propose(b"b")
    assert appends(cluster, 3) == []
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert cluster[3].node.commit_index == 4


# Followers


def test_a_follower_answers_several_appends_by_the_highest() -> None:
    cluster = Cluster(3)
    follower = cluster[2]
    follower.receive(AppendRequest(1, 2, 1, 1, 1, entries_of([2], first=2)))
    for index in (3, 4, 5):
        follower.receive(AppendRequest(1, 2, index - 1, 2, 1, entries_of([2], first=index)))
    follower.persist()
    follower.persist()
    answers = [each.message for each in cluster.take(AppendResponse)]
    assert answers == [AppendResponse(2, 2, 2, 0, 0, 0), AppendResponse(2, 2, 5, 0, 0, 0)]


def test_an_append_below_the_commit_index_is_taken_from_there() -> None:
    cluster = Cluster(3, terms=[1, 1, 1])
    follower = cluster[2]
    follower.receive(HeartbeatRequest(1, 2, 3, 1, 0))
    follower.receive(AppendRequest(1, 2, 1, 1, 3, [*follower.disk.log[1:], *entries_of([2], first=4)]))
    assert follower.node.last_index == 4
    follower.receive(AppendRequest(1, 2, 0, 0, 3, follower.disk.log[:1]))
    assert follower.node.last_index == 4


def test_a_heartbeat_commits_no_more_than_it_says() -> None:
    cluster = Cluster(3, terms=[1, 1, 1])
    cluster[2].receive(HeartbeatRequest(1, 2, 2, 7, 0))
    assert cluster[2].node.commit_index == 2
    (echo,) = cluster.take(HeartbeatResponse)
    assert isinstance(echo.message, HeartbeatResponse) and echo.message.round == 7


def test_a_leader_tells_a_follower_of_commits_it_has_the_entries_for() -> None:
    cluster, leader = leading()
    cluster.isolate(3)
    leader.propose(b"a")
    cluster.settle()
    cluster.heal()
    leader.tick(CONFIG.heartbeat_ticks)
    commits = {
        each.to: each.message.commit_index
        for each in cluster.take(HeartbeatRequest)
        if isinstance(each.message, HeartbeatRequest)
    }
    assert commits == {2: 3, 3: 2}


# Writes


def test_entries_replaced_during_their_write_are_not_confirmed_by_it() -> None:
    """The write of the first leader's entries completes when the second one has replaced them."""
    cluster = Cluster(3)
    follower = cluster[3]
    follower.receive(AppendRequest(1, 2, 1, 1, 1, entries_of([2, 2], first=2)))
    follower.receive(AppendRequest(2, 3, 1, 1, 3, entries_of([3, 3], first=2)))
    follower.persist()
    assert cluster.take(AppendResponse) == []
    assert follower.node.log.stable_index == 1
    assert follower.applied == [], "committed, but not yet on this disk"
    follower.persist()
    assert [entry.term for entry in follower.applied] == [1, 3, 3]
    assert [each.message for each in cluster.take(AppendResponse)] == [AppendResponse(3, 3, 3, 0, 0, 0)]


def test_what_a_leader_says_of_commits_counts_once_its_term_is_on_disk() -> None:
    """A state may reach its disk before the log does. Had the node forgotten the term then, it would meet an
    older leader, and confirm to it what that one never had."""
    cluster = Cluster(3, terms=[1, 1, 1])
    follower = cluster[3]
    follower.receive(AppendRequest(2, 5, 3, 1, 3, []))
    assert (follower.node.commit_index, follower.applied) == (3, [])
    follower.persist()
    assert [entry.index for entry in follower.applied] == [1, 2, 3]
    follower.receive(HeartbeatRequest(2, 6, 3, 1, 0))
    follower.receive(AppendRequest(2, 6, 3, 1, 3, []))
    assert len(follower.applied) == 3


def test_what_gathers_during_a_write_is_the_next_one() -> None:
    _, leader = leading()
    for payload in (b"a", b"b", b"c"):
        leader.propose(payload)
    first = leader.write
    assert first is not None and [entry.payload for entry in first.entries] == [b"a"]
    leader.persist()
    second = leader.write
    assert second is not None and [entry.payload for entry in second.entries] == [b"b", b"c"]
    assert second.number == first.number + 1


def test_no_write_begins_where_none_is_allowed() -> None:
    cluster, leader = leading()
    leader.observe()
    leader.node.propose(b"a")
    assert leader.node.take_ready(write_allowed=False).write is None
    cluster[2].observe()
    cluster[2].node.step(VoteRequest(3, 9, 9, 9, transfer=True))
    ready = cluster[2].node.take_ready(write_allowed=False)
    assert (ready.write, ready.messages) == (None, [])
    write = cluster[2].node.take_ready(write_allowed=True).write
    assert write is not None and len(write.messages) == 1


def test_a_commit_alone_causes_no_write() -> None:
    cluster = Cluster(3, terms=[1, 1, 1])
    cluster[2].receive(AppendRequest(1, 1, 3, 1, 3, []))
    assert cluster[2].node.commit_index == 3
    assert cluster[2].write is None


def test_a_leaders_disk_may_be_the_slowest() -> None:
    """The majority may be others; the leader applies when its own disk has it too."""
    cluster, leader = leading()
    leader.propose(b"a")
    held, leader.write = leader.write, None
    while cluster.step():
        pass
    assert leader.node.commit_index == 3
    assert leader.applied[-1].index == 2
    assert cluster[2].applied[-1].index == 3
    leader.write = held
    cluster.settle()
    assert leader.applied[-1].payload == b"a"


def test_committed_entries_are_handed_out_in_bounded_pieces() -> None:
    cluster = Cluster(1)
    big = [Entry(index, 1, 0, 0, b"x" * (COMMITTED_BYTES_MAX // 2)) for index in range(2, 7)]
    node = cluster.replace(1, Disk([*cluster[1].disk.log, *big], HardState(1, 1, 6))).node
    readies = [node.take_ready(write_allowed=True) for _ in range(4)]
    assert [[entry.index for entry in ready.committed] for ready in readies] == [[1, 2], [3, 4], [5, 6], []]
    assert [ready.more for ready in readies] == [True, True, False, False]


def test_entries_that_left_the_cache_are_read_from_the_disk() -> None:
    cluster = Cluster(3, config=RaftConfig(entry_cache_bytes=0, append_bytes_max=100))
    cluster.isolate(3)
    leader = cluster.elect(1)
    for number in range(50):
        leader.propose(b"%020d" % number)
        cluster.settle()
    cluster.heal()
    cluster.pass_ticks(4 * CONFIG.heartbeat_ticks)
    assert [entry.payload for entry in cluster[3].applied] == [entry.payload for entry in leader.applied]


# Time


def test_stamps_never_decrease_over_a_change_of_leader_with_clocks_seconds_apart() -> None:
    cluster = Cluster(3)
    for node_id, skew_ms in ((1, 2_000), (2, 0), (3, -2_000)):
        cluster[node_id].wall_skew_ms = skew_ms
    cluster.elect(1).propose(b"a")
    cluster.pass_ticks(100)
    cluster[1].propose(b"b")
    cluster.settle()
    before_ms, at_ms = cluster[1].applied[-1].time_ms, cluster.time_ms
    cluster[1].crash()
    cluster.pass_ticks(100)
    cluster[2].node.campaign()
    cluster.pass_ticks(5)
    leader = cluster.leader()
    assert leader is not None
    leader.propose(b"c")
    cluster.settle()
    times = [entry.time_ms for entry in leader.applied[1:]]
    assert times == sorted(times)
    passed_ms = cluster.time_ms - at_ms
    assert leader.applied[-1].time_ms - before_ms == pytest.approx(passed_ms, abs=30)


def test_learners_have_no_say_in_the_time() -> None:
    cluster = Cluster(2, learners=[3, 4, 5])
    leader = cluster.elect(1)
    for learner in (3, 4, 5):
        cluster[learner].wall_skew_ms = 10**9
    cluster.pass_ticks(3 * CONFIG.heartbeat_ticks)
    assert leader.node.clock.skew_ms < 100
