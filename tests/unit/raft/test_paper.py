"""What the Raft paper says in sections 5.1 to 5.6 and 8: one test quotes one sentence (`>`).

"Raft paper": Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", extended version.
Where respraft goes another way than the letter (a pre-vote before each election, answers that name the
highest accepted index), the docstring says so below the sentence. Section 5.3 is in
`test_paper_replication.py`, sections 6 and 7 in `test_paper_changes.py`.
"""

import pytest

from respraft.config import ConfigError, RaftConfig
from respraft.raft.message import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    PreVoteRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import Role
from tests.unit.raft.cluster import WALL_START_MS as WALL
from tests.unit.raft.cluster import Cluster, Host, entries_of

CONFIG = RaftConfig()
ELECTION_TICKS = CONFIG.election_ticks


def answers(cluster: Cluster) -> list[object]:
    """Everything under way, taken out of the network."""
    mail, cluster.mail = cluster.mail, []
    return [envelope.message for envelope in mail]


def candidate_in(cluster: Cluster, node_id: int = 1) -> Host:
    """A node that stands for election, its term durable and its requests for votes under way."""
    host = cluster[node_id]
    host.node.campaign(transfer=True)  # Without a pre-vote, which the paper does not know.
    host.turn()
    host.persist()
    assert host.node.role is Role.CANDIDATE
    return host


# 5.1 Raft basics


def test_5_1_terms_travel_and_the_smaller_is_updated() -> None:
    """> If one server's current term is smaller than the other's, then it updates its current term to the
    larger value."""
    cluster = Cluster(3)
    cluster[2].receive(HeartbeatRequest(1, 7, 0, 1, 0))
    assert cluster[2].node.term == 7
    cluster[2].receive(AppendRequest(3, 9, 1, 1, 1, []))
    assert cluster[2].node.term == 9


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.LEADER])
def test_5_1_who_learns_that_its_term_is_out_of_date_follows(role: Role) -> None:
    """> If a candidate or leader discovers that its term is out of date, it immediately reverts to follower
    state."""
    cluster = Cluster(3)
    host = candidate_in(cluster) if role is Role.CANDIDATE else cluster.elect(1)
    term = host.node.term + 3
    host.receive(AppendResponse(2, term, 0, 1, 0, 0))
    assert (host.node.role, host.node.term) == (Role.FOLLOWER, term)


def test_5_1_requests_of_a_stale_term_are_rejected() -> None:
    """> If a server receives a request with a stale term number, it rejects the request."""
    cluster = Cluster(3, terms=[1, 1])
    host = cluster.replace(2, cluster.disk_with([1, 1], term=5))
    host.receive(AppendRequest(1, 4, 2, 1, 2, entries_of([4], first=3)))
    host.receive(VoteRequest(1, 4, 9, 4, transfer=False))
    host.receive(HeartbeatRequest(1, 4, 2, 3, 0))
    host.receive(PreVoteRequest(1, 5, 9, 4))
    host.receive(ReadIndexRequest(1, 4, (1, 1)))
    assert {type(each).__name__ for each in answers(cluster)} == {
        "AppendResponse",
        "VoteResponse",
        "HeartbeatResponse",
        "PreVoteResponse",
        "ReadIndexResponse",
    }
    node = host.node
    assert (node.term, node.vote, node.leader, node.last_index, node.commit_index) == (5, 0, 0, 2, 1)


# 5.2 Leader election


def test_5_2_servers_begin_as_followers() -> None:
    """> When servers start up, they begin as followers.

    Also one that was leader when it stopped.
    """
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.crash()
    leader.start()
    assert [host.node.role for host in cluster.hosts.values()] == [Role.FOLLOWER] * 3
    assert leader.node.leader == 0


@pytest.mark.parametrize("kind", ["heartbeat", "append"])
def test_5_2_a_server_that_hears_its_leader_stays_a_follower(kind: str) -> None:
    """> A server remains in follower state as long as it receives valid RPCs from a leader or candidate."""
    cluster = Cluster(3)
    host = cluster[2]
    for round_ in range(1, 20):
        if kind == "heartbeat":
            host.receive(HeartbeatRequest(1, 1, 0, round_, 0))
        else:
            host.receive(AppendRequest(1, 1, 1, 1, 0, []))
        host.tick(ELECTION_TICKS - 1)
        assert host.node.role is Role.FOLLOWER


def test_5_2_a_vote_given_keeps_a_server_a_follower() -> None:
    """The same sentence, for "or candidate": who has voted waits for a whole election timeout anew."""
    cluster = Cluster(3)
    host = cluster[2]
    host.tick(host.node.election_tick - 1)
    host.receive(VoteRequest(1, 2, 1, 1, transfer=False))
    host.tick(ELECTION_TICKS - 1)
    assert host.node.role is Role.FOLLOWER


def test_5_2_leaders_send_periodic_heartbeats_to_all() -> None:
    """> Leaders send periodic heartbeats [...] to all followers in order to maintain their authority."""
    cluster = Cluster(5)
    leader = cluster.elect(1)
    cluster.pass_ticks(CONFIG.heartbeat_ticks)
    for _ in range(3):
        leader.tick(CONFIG.heartbeat_ticks)
        beats = cluster.take(HeartbeatRequest)
        assert sorted(each.to for each in beats) == [2, 3, 4, 5]
        for each in beats:
            cluster.deliver(each)
        cluster.settle()


def test_5_2_a_follower_that_hears_nothing_begins_an_election() -> None:
    """> If a follower receives no communication over a period of time called the election timeout, then it
    assumes there is no viable leader and begins an election.

    It asks for pre-votes first.
    """
    cluster = Cluster(3)
    cluster[2].tick(2 * ELECTION_TICKS)
    assert {each.to for each in cluster.take(PreVoteRequest)} == {1, 3}
    cluster[2].tick(2 * ELECTION_TICKS)
    cluster.settle()
    assert cluster[2].node.role is Role.LEADER


def test_5_2_a_candidate_increments_its_term_votes_for_itself_and_asks_everybody() -> None:
    """> To begin an election, a follower increments its current term and transitions to candidate state. It
    then votes for itself and issues RequestVote RPCs in parallel to each of the other servers."""
    cluster = Cluster(5, terms=[1, 1])
    host = candidate_in(cluster)
    assert (host.node.term, host.node.vote, host.node.role) == (2, 1, Role.CANDIDATE)
    requests = cluster.take(VoteRequest)
    assert [each.to for each in requests] == [2, 3, 4, 5]
    assert {each.message for each in requests} == {VoteRequest(1, 2, 2, 1, transfer=True)}


@pytest.mark.parametrize(
    ("nodes", "votes", "wins"),
    [
        (1, [], True),
        (2, [], False),
        (2, [2], True),
        (3, [], False),
        (3, [2], True),
        (4, [2], False),
        (4, [2, 3], True),
        (5, [2], False),
        (5, [2, 2, 2], False),
        (5, [2, 3], True),
    ],
)
def test_5_2_a_majority_of_the_full_cluster_elects(nodes: int, votes: list[int], wins: bool) -> None:
    """> A candidate wins an election if it receives votes from a majority of the servers in the full cluster
    for the same term."""
    cluster = Cluster(nodes)
    host = candidate_in(cluster) if nodes > 1 else cluster.elect(1)
    for voter in votes:
        host.receive(VoteResponse(voter, host.node.term, True, WALL))
    assert (host.node.role is Role.LEADER) == wins


def test_5_2_votes_of_an_earlier_term_elect_nobody() -> None:
    """The same sentence, for "the same term"."""
    cluster = Cluster(3)
    host = candidate_in(cluster)
    term = host.node.term
    host = candidate_in(cluster)
    assert host.node.term == term + 1
    host.receive(VoteResponse(2, term, True, WALL))
    assert host.node.role is Role.CANDIDATE


def test_5_2_one_vote_per_term_first_come_first_served() -> None:
    """> Each server will vote for at most one candidate in a given term, on a first-come-first-served
    basis."""
    cluster = Cluster(3)
    voter = cluster[2]
    voter.receive(VoteRequest(3, 2, 1, 1, transfer=False))
    voter.receive(VoteRequest(1, 2, 5, 1, transfer=False))  # A longer log does not change it.
    voter.persist()
    given = {each.to: each.message for each in cluster.take(VoteResponse)}
    assert given == {1: VoteResponse(2, 2, False, WALL), 3: VoteResponse(2, 2, True, WALL)}


def test_5_2_a_new_leader_tells_everybody_at_once() -> None:
    """> Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the
    other servers to establish its authority and prevent new elections."""
    cluster = Cluster(3)
    host = candidate_in(cluster)
    host.receive(VoteResponse(2, host.node.term, True, WALL))
    assert host.node.role is Role.LEADER
    assert [each.to for each in cluster.take(HeartbeatRequest)] == [2, 3]


@pytest.mark.parametrize("ahead", [0, 1])
def test_5_2_a_candidate_recognizes_a_legitimate_leader(ahead: int) -> None:
    """> If the leader's term (included in its RPC) is at least as large as the candidate's current term, then
    the candidate recognizes the leader as legitimate and returns to follower state."""
    cluster = Cluster(3)
    host = candidate_in(cluster)
    term = host.node.term + ahead
    host.receive(AppendRequest(3, term, 1, 1, 1, []))
    assert (host.node.role, host.node.term, host.node.leader) == (Role.FOLLOWER, term, 3)


def test_5_2_a_candidate_rejects_a_leader_of_a_smaller_term() -> None:
    """> If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the
    RPC and continues in candidate state."""
    cluster = Cluster(3)
    host = candidate_in(cluster)
    host.receive(AppendRequest(3, host.node.term - 1, 1, 1, 1, []))
    host.receive(HeartbeatRequest(3, host.node.term - 1, 1, 4, 0))
    assert (host.node.role, host.node.leader) == (Role.CANDIDATE, 0)
    (refusal,) = [each.message for each in cluster.take(AppendResponse)]
    assert refusal == AppendResponse(1, host.node.term, 0, 1, 0, 0)


def test_5_2_a_split_vote_ends_with_a_new_election() -> None:
    """> When this happens, each candidate will time out and start a new election by incrementing its term and
    initiating another round of RequestVote RPCs."""
    cluster = Cluster(4)
    first, second = candidate_in(cluster, 1), candidate_in(cluster, 3)
    for candidate, voter in ((first, 2), (second, 4)):
        for each in cluster.take(VoteRequest, sender=candidate.id, to=voter):
            cluster.deliver(each)
    cluster.settle()
    assert cluster.leader() is None and first.node.term == second.node.term == 2
    cluster.pass_ticks(6 * ELECTION_TICKS)
    leader = cluster.leader()
    assert leader is not None and leader.node.term > 2


def test_5_2_patience_is_random_and_drawn_anew_for_each_election() -> None:
    """> Election timeouts are chosen randomly from a fixed interval. [...] Each candidate restarts its
    randomized election timeout at the start of an election."""
    drawn = set()
    for seed in range(20):
        host = Cluster(3, seed=seed)[1]
        for _ in range(5):
            host.tick(host.node.election_tick - host.node.ticks)
            assert host.node.role is Role.PRE_CANDIDATE
            drawn.add(host.node.election_tick - host.node.ticks)
    assert all(ELECTION_TICKS <= each < 2 * ELECTION_TICKS for each in drawn)
    assert len(drawn) > ELECTION_TICKS // 2


# 5.4.1 Election restriction


@pytest.mark.parametrize(
    ("own", "last_index", "last_term", "granted"),
    [
        ([1, 1, 3], 9, 2, False),  # "the log with the later term is more up-to-date"
        ([1, 1, 2], 1, 3, True),
        ([1, 2, 2], 2, 2, False),  # "whichever log is longer is more up-to-date"
        ([1, 2, 2], 3, 2, True),
        ([1, 2, 2], 4, 2, True),
    ],
)
def test_5_4_1_a_voter_denies_its_vote_to_a_log_that_is_less_up_to_date(
    own: list[int], last_index: int, last_term: int, granted: bool
) -> None:
    """> The voter denies its vote if its own log is more up-to-date than that of the candidate. [...] If the
    logs have last entries with different terms, then the log with the later term is more up-to-date. If
    the logs end with the same term, then whichever log is longer is more up-to-date."""
    cluster = Cluster(3, terms=own)
    cluster[2].receive(VoteRequest(1, 8, last_index, last_term, transfer=False))
    cluster.settle()
    assert cluster[2].node.vote == (1 if granted else 0)


def test_5_4_1_a_candidate_without_all_committed_entries_is_not_elected() -> None:
    """> Raft uses the voting process to prevent a candidate from winning an election unless its log contains
    all committed entries."""
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.isolate(5)
    cluster.isolate(4)
    cluster[1].propose(b"committed")
    cluster.settle()
    cluster.heal()
    cluster[1].crash()
    for behind in (4, 5):
        cluster[behind].node.campaign(transfer=True)
        cluster[behind].turn()
        cluster.settle()
        assert cluster[behind].node.role is not Role.LEADER
    cluster.pass_ticks(6 * ELECTION_TICKS)
    leader = cluster.leader()
    assert leader is not None and leader.id in (2, 3)


# 5.4.2 Committing entries from previous terms


def test_5_4_2_entries_of_previous_terms_are_committed_by_one_of_the_current_term_only() -> None:
    """> Only log entries from the leader's current term are committed by counting replicas; once an entry
    from the current term has been committed in this way, then all prior entries are committed indirectly
    because of the Log Matching Property."""
    cluster = Cluster(3)
    for node_id in (1, 2, 3):
        cluster.replace(node_id, cluster.disk_with([1, 2, 2], term=2))
    leader = candidate_in(cluster)
    leader.receive(VoteResponse(2, 3, True, WALL))
    cluster.mail.clear()
    leader.persist()
    leader.receive(AppendResponse(2, 3, 3, 0, 0, 0))
    leader.receive(AppendResponse(3, 3, 3, 0, 0, 0))
    assert leader.node.commit_index == 1, "all three hold entries 2 and 3, which are of term 2"
    leader.receive(AppendResponse(2, 3, 4, 0, 0, 0))
    assert leader.node.commit_index == 4


# 5.5 Follower and candidate crashes


def test_5_5_a_crashed_follower_is_served_when_it_restarts() -> None:
    """> Raft handles these failures by retrying indefinitely; if the crashed server restarts, then the RPC
    will complete successfully."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster[3].crash()
    leader.node.peer_unreachable(3)
    leader.propose(b"missed")
    cluster.pass_ticks(20 * ELECTION_TICKS)
    cluster[3].start()
    cluster.pass_ticks(2 * CONFIG.heartbeat_ticks)
    assert [entry.payload for entry in cluster[3].applied][-1:] == [b"missed"]


def test_5_5_a_crashed_voter_votes_when_it_restarts() -> None:
    """The same sentence, for RequestVote: here a candidate asks anew in its next election."""
    cluster = Cluster(3)
    cluster[2].crash()
    cluster[3].crash()
    cluster.pass_ticks(10 * ELECTION_TICKS)
    assert cluster.leader() is None
    cluster[3].start()
    cluster.pass_ticks(4 * ELECTION_TICKS)
    assert cluster.leader() is not None


def test_5_5_a_repeated_append_does_no_harm() -> None:
    """> If a follower receives an AppendEntries request that includes log entries already present in its log,
    it ignores those entries in the new request."""
    cluster = Cluster(3)
    host = cluster[2]
    request = AppendRequest(1, 1, 1, 1, 1, entries_of([1, 1], first=2))
    for _ in range(2):
        host.receive(request)
        if host.write is not None:
            host.persist()
        (answer,) = [each.message for each in cluster.take(AppendResponse)]
        assert answer == AppendResponse(2, 1, 3, 0, 0, 0)
    assert host.disk.log[1:] == request.entries
    assert host.write is None, "nothing is written twice"


# 5.6 Timing and availability


def test_5_6_heartbeats_are_far_more_frequent_than_elections() -> None:
    """> Raft will be able to elect and maintain a steady leader as long as the system satisfies [...]
    broadcastTime << electionTimeout << MTBF.

    What configuration can break of that is refused.
    """
    with pytest.raises(ConfigError, match="heartbeat_ms"):
        RaftConfig(heartbeat_ms=200, election_timeout_ms=300)


# 8 Client interaction (sessions, which make commands count once: tests/unit/replica/test_sessions.py)


def test_8_each_leader_commits_a_blank_entry_at_the_start_of_its_term() -> None:
    """> Raft handles this by having each leader commit a blank no-op entry into the log at the start of its
    term."""
    cluster = Cluster(3)
    for term, node_id in enumerate((1, 2, 3), 2):
        host = candidate_in(cluster, node_id)
        cluster.settle()
        last = host.applied[-1]
        assert (last.term, last.payload, host.node.commit_index) == (term, b"", last.index)


def test_8_a_leader_exchanges_heartbeats_with_a_majority_before_it_answers_a_read() -> None:
    """> Raft handles this by having the leader exchange heartbeat messages with a majority of the cluster
    before responding to read-only requests."""
    cluster = Cluster(5)
    leader = cluster.elect(1)
    leader.node.read_index("r")
    leader.turn()
    beats = cluster.take(HeartbeatRequest)
    round_ = max(each.message.round for each in beats if isinstance(each.message, HeartbeatRequest))
    leader.receive(HeartbeatResponse(2, leader.node.term, round_, WALL))
    assert leader.reads == {}, "two of five"
    leader.receive(HeartbeatResponse(3, leader.node.term, round_, WALL))
    assert leader.reads == {"r": leader.node.commit_index}


def test_8_who_is_no_leader_sends_its_readers_elsewhere() -> None:
    """> If the client's first choice is not the leader, that server will reject the client's request.

    Here clients never see it: their node asks the leader in their place, and this is the rejection.
    """
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[2].receive(ReadIndexRequest(3, cluster[2].node.term, (1, 4)))
    assert answers(cluster) == [ReadIndexResponse(2, cluster[2].node.term, (1, 4), 0)]
