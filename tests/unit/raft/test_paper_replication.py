"""What the Raft paper says in section 5.3, log replication: one test quotes one sentence.

See `test_paper.py`, which has the sections around it.
"""

import pytest

from respraft.config import RaftConfig
from respraft.raft.message import AppendRequest, AppendResponse, Entry, HeartbeatRequest, Term
from respraft.raft.ready import Role
from tests.unit.raft.cluster import Cluster, Envelope, Host, entries_of

CONFIG = RaftConfig()
ELECTION_TICKS = CONFIG.election_ticks

LEADER_TERMS = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
"""The log of figure 7's leader for term 8."""


def appends(cluster: Cluster, to: int) -> list[AppendRequest]:
    """The appends under way to a node, taken out of the network."""
    envelopes = cluster.take(AppendRequest, to=to)
    return [each.message for each in envelopes if isinstance(each.message, AppendRequest)]


def terms_of(host: Host) -> list[Term]:
    return [entry.term for entry in host.disk.log]


def test_5_3_a_command_is_appended_and_sent_to_everybody_in_parallel() -> None:
    """> The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel
    to each of the other servers to replicate the entry."""
    cluster = Cluster(5)
    leader = cluster.elect(1)
    leader.propose(b"x")
    (entry,) = leader.node.log.iterate(leader.node.last_index)
    assert entry.payload == b"x"
    for peer in (2, 3, 4, 5):
        (append,) = appends(cluster, peer)
        assert append.entries == [entry]


def test_5_3_an_entry_is_applied_when_it_has_been_safely_replicated() -> None:
    """> When the entry has been safely replicated [...], the leader applies the entry to its state machine
    and returns the result of that execution to the client."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"x")
    leader.persist()
    assert leader.applied[-1].payload == b""
    cluster.settle()
    assert leader.applied[-1].payload == b"x"


def test_5_3_appends_are_retried_until_all_followers_have_all_entries() -> None:
    """> If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries
    RPCs indefinitely (even after it has responded to the client) until all followers eventually store all
    log entries."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"x")
    assert appends(cluster, 3), "lost"
    cluster.settle()
    assert leader.applied[-1].payload == b"x", "the client has its answer"
    cluster.isolate(3)
    leader.propose(b"y")
    cluster.settle()
    cluster.pass_ticks(2 * ELECTION_TICKS)
    cluster.heal()
    cluster.pass_ticks(3 * ELECTION_TICKS)
    assert [entry.payload for entry in cluster[3].disk.log[-2:]] == [b"x", b"y"]


def test_5_3_a_committed_entry_commits_all_before_it() -> None:
    """> A log entry is committed once the leader that created the entry has replicated it on a majority of
    the servers [...]. This also commits all preceding entries in the leader's log, including entries
    created by previous leaders."""
    cluster = Cluster(3)
    for node_id in (1, 2):
        cluster.replace(node_id, cluster.disk_with([1, 1, 2, 2, 3]))
    cluster[3].crash()
    leader = cluster.elect(1)
    assert leader.node.commit_index == 6
    assert [entry.term for entry in leader.applied] == [1, 1, 2, 2, 3, 4]


def test_5_3_the_commit_index_travels_with_appends_and_heartbeats() -> None:
    """> The leader keeps track of the highest index it knows to be committed, and it includes that index in
    future AppendEntries RPCs (including heartbeats) so that the other servers eventually find out."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    commit = leader.node.commit_index
    leader.propose(b"x")
    (append,) = appends(cluster, 2)
    assert append.commit_index == commit
    leader.tick(CONFIG.heartbeat_ticks)
    beats = [each.message for each in cluster.take(HeartbeatRequest, to=2)]
    assert [each.commit_index for each in beats if isinstance(each, HeartbeatRequest)] == [commit]


def test_5_3_entries_are_applied_in_log_order_once_known_to_be_committed() -> None:
    """> Once a follower learns that a log entry is committed, it applies the entry to its local state machine
    (in log order)."""
    cluster = Cluster(3)
    host = cluster[2]
    host.receive(AppendRequest(1, 1, 1, 1, 1, entries_of([1, 1, 1], first=2)))
    host.persist()
    assert [entry.index for entry in host.applied] == [1]
    host.receive(HeartbeatRequest(1, 1, 3, 1, 0))
    assert [entry.index for entry in host.applied] == [1, 2, 3]


def test_5_3_one_entry_per_index_and_term() -> None:
    """> A leader creates at most one entry with a given log index in a given term, and log entries never
    change their position in the log.

    Whatever is proposed while leaders come and go.
    """
    cluster = Cluster(3, seed="one entry per index and term")
    known: dict[tuple[int, int], Entry] = {}
    for turn in range(12):
        leader = cluster[turn % 3 + 1]
        leader.node.campaign(transfer=True)
        leader.turn()
        cluster.settle()
        if leader.node.role is not Role.LEADER:
            continue  # Its log lacks what it missed while another one was cut off.
        leader.propose(b"%d" % turn)
        if turn % 2:
            cluster.isolate(leader.id)
            leader.propose(b"lost %d" % turn)
        cluster.settle()
        cluster.heal()
        for host in cluster.hosts.values():
            for entry in host.node.log.iterate(1):
                assert known.setdefault((entry.index, entry.term), entry) == entry


def test_5_3_an_append_names_the_entry_before_its_own() -> None:
    """> When sending an AppendEntries RPC, the leader includes the index and term of the entry in its log
    that immediately precedes the new entries."""
    cluster = Cluster(3, terms=[1, 2, 2])
    leader = cluster.elect(1)
    leader.propose(b"x")
    (append,) = appends(cluster, 2)
    assert (append.base_index, append.base_term, append.entries[0].index) == (4, 3, 5)


@pytest.mark.parametrize(
    ("base_index", "base_term", "taken"),
    [(3, 2, True), (2, 2, True), (3, 1, False), (3, 3, False), (4, 2, False), (9, 2, False)],
)
def test_5_3_a_follower_without_the_entry_before_refuses(
    base_index: int, base_term: int, taken: bool
) -> None:
    """> If the follower does not find an entry in its log with the same index and term, then it refuses the
    new entries."""
    cluster = Cluster(3, terms=[1, 2, 2])
    host = cluster[2]
    host.receive(AppendRequest(1, 4, base_index, base_term, 1, entries_of([4], first=base_index + 1)))
    if host.write is not None:
        host.persist()
    (answer,) = [each.message for each in cluster.take(AppendResponse)]
    assert isinstance(answer, AppendResponse)
    assert (answer.reject_index == 0) == taken
    assert answer.match_index == (base_index + 1 if taken else 0)
    assert (4 in terms_of(host)) == taken


@pytest.mark.parametrize(
    "follower",
    [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],  # (a)
        [1, 1, 1, 4],  # (b)
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],  # (c)
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],  # (d)
        [1, 1, 1, 4, 4, 4, 4],  # (e)
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],  # (f)
    ],
    ids="abcdef",
)
def test_5_3_figure_7_the_leader_makes_the_followers_logs_like_its_own(follower: list[Term]) -> None:
    """> The leader handles inconsistencies by forcing the followers' logs to duplicate its own. This means
    that conflicting entries in follower logs will be overwritten with entries from the leader's log."""
    cluster = Cluster(3)
    cluster.replace(1, cluster.disk_with(LEADER_TERMS, term=7))
    cluster.replace(2, cluster.disk_with(LEADER_TERMS, term=7))
    cluster.replace(3, cluster.disk_with(follower, term=7))
    cluster.elect(1)
    cluster.pass_ticks(CONFIG.heartbeat_ticks)
    assert cluster[3].disk.log == cluster[1].disk.log
    assert terms_of(cluster[3]) == [*LEADER_TERMS, 8]


def test_5_3_a_new_leader_begins_behind_its_own_last_entry() -> None:
    """> When a leader first comes to power, it initializes all nextIndex values to the index just after the
    last one in its log (11 in Figure 7)."""
    cluster = Cluster(3)
    for node_id in (1, 2):
        cluster.replace(node_id, cluster.disk_with(LEADER_TERMS, term=7))
    cluster.cut.add((1, 3))
    leader = cluster.elect(1)
    assert [peer.next_index for peer in leader.node.status().peers if peer.id == 3] == [11]


@pytest.mark.parametrize(
    ("leader_log", "follower_log"),
    [([1] + [4] * 200, [1] + [2] * 50 + [3] * 50), ([1] * 100 + [4], [1] + [2] * 50 + [3] * 49)],
    ids=["the leader's terms are newer", "the follower's terms are newer"],
)
def test_5_3_one_round_trip_per_term_with_conflicting_entries(
    leader_log: list[Term], follower_log: list[Term]
) -> None:
    """> The leader can decrement nextIndex to bypass all of the conflicting entries in that term; one
    AppendEntries RPC will be required for each term with conflicting entries, rather than one RPC per
    entry."""
    cluster = Cluster(3)
    cluster.replace(3, cluster.disk_with(follower_log, term=9))
    for node_id in (1, 2):
        cluster.replace(node_id, cluster.disk_with(leader_log, term=9))
    refusals: list[Envelope] = []

    def watch(envelope: Envelope) -> None:
        if isinstance(envelope.message, AppendResponse) and envelope.message.reject_index:
            refusals.append(envelope)

    cluster.watch_mail = watch
    cluster.elect(1)
    assert cluster[3].disk.log == cluster[1].disk.log
    assert len(refusals) <= 2, "two terms conflict"


def test_5_3_a_leader_never_overwrites_or_deletes_its_own_entries() -> None:
    """> A leader never overwrites or deletes entries in its own log (the Leader Append-Only Property in
    Figure 3).

    Not by any answer that could come in its term.
    """
    cluster = Cluster(3, terms=[1, 2, 2, 3])
    leader = cluster.elect(1)
    leader.propose(b"x", b"y")
    before = list(leader.node.log.iterate(1))
    term = leader.node.term
    for reject, hint in ((4, 1), (5, 0), (3, 2)):
        leader.receive(AppendResponse(3, term, 0, reject, hint, 1))
    leader.receive(AppendResponse(2, term, 2, 0, 0, 0))
    cluster.settle()
    assert leader.node.role is Role.LEADER
    assert list(leader.node.log.iterate(1)) == before
