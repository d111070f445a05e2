"""The seven defects of toniq raft, an earlier Raft server in Elixir that respraft replaces: one test each.

The docstrings quote the defect (`>`). All seven are silent until a day on which they lose something.
"""

import pytest

from respraft.config import RaftConfig
from respraft.raft.message import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import Role
from tests.unit.raft.cluster import WALL_START_MS as WALL
from tests.unit.raft.cluster import Cluster, entries_of


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    # Of each pair one number is lower and the other higher than the voter's: compared the other way round,
    # every answer is wrong.
    [(9, 1, False), (2, 3, True)],
)
def test_toniq_1_the_vote_check_compares_term_and_then_index(
    last_index: int, last_term: int, granted: bool
) -> None:
    """> Vote check compares (index, term) swapped.

    A long log of an old term would win, and what was committed since would be overwritten.
    """
    cluster = Cluster(3, terms=[1, 2, 2])
    cluster[2].receive(PreVoteRequest(1, 3, last_index, last_term))
    (answer,) = [each.message for each in cluster.take(PreVoteResponse)]
    assert isinstance(answer, PreVoteResponse) and answer.granted == granted
    cluster[2].receive(VoteRequest(1, 3, last_index, last_term, transfer=False))
    assert cluster[2].node.vote == (1 if granted else 0)


def test_toniq_2_votes_are_counted_anew_in_each_election() -> None:
    """> Votes not reset between elections.

    Two minorities would make a majority, and two leaders a term.
    """
    cluster = Cluster(5)
    candidate = cluster[1]
    cluster.isolate(1)
    for _ in range(2):  # Two candidacies; each gets one vote besides its own, and three are needed.
        candidate.node.campaign(transfer=True)
        candidate.turn()
        candidate.persist()
        voter = candidate.node.term  # Another one each time.
        candidate.receive(VoteResponse(voter, candidate.node.term, True, WALL))
    assert candidate.node.role is Role.CANDIDATE
    candidate.receive(VoteResponse(2, candidate.node.term - 1, True, WALL))
    assert candidate.node.role is Role.CANDIDATE, "an answer to the earlier candidacy came late"


@pytest.mark.parametrize(
    "message",
    [
        AppendRequest(2, 9, 1, 1, 1, []),
        HeartbeatRequest(2, 9, 1, 1, 0),
        VoteRequest(2, 9, 9, 8, transfer=True),
        ReadIndexRequest(2, 9, (1, 1)),
        AppendResponse(2, 9, 0, 1, 0, 0),
        HeartbeatResponse(2, 9, 1, 0),
        PreVoteResponse(2, 9, False),
        VoteResponse(2, 9, False, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_toniq_3_a_leader_heeds_a_newer_term_in_any_message(message: Message) -> None:
    """> Leader ignores higher terms in requests.

    It would go on answering clients beside its successor. Not so for a pre-vote: nobody has entered its
    term.
    """
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.receive(message)
    assert (leader.node.role, leader.node.term) == (Role.FOLLOWER, 9)


def test_toniq_4_a_conflicting_suffix_is_cut_and_not_overwritten_in_place() -> None:
    """> Conflicting suffix overwritten, not cut.

    Behind the new entries the old ones would stay, and be counted in the next election.
    """
    cluster = Cluster(3)
    follower = cluster.replace(2, cluster.disk_with([1, 2, 2, 2, 2]))
    follower.receive(AppendRequest(1, 3, 1, 1, 1, entries_of([3], first=2)))
    follower.persist()
    assert [entry.term for entry in follower.disk.log] == [1, 3]
    assert (follower.node.last_index, follower.node.log.last_term) == (2, 3)


def test_toniq_5_a_match_is_what_the_append_proves_and_not_the_followers_end() -> None:
    """> Match index taken from the follower's last index.

    Behind the append's last entry the follower may hold what no leader ever committed.
    """
    cluster = Cluster(3)
    follower = cluster.replace(2, cluster.disk_with([1, 2, 2, 2]))
    follower.receive(AppendRequest(1, 3, 2, 2, 4, []))
    assert follower.node.commit_index == 2, "the stale tail is not committed either"
    follower.persist()
    assert [each.message for each in cluster.take(AppendResponse)] == [AppendResponse(2, 3, 2, 0, 0, 0)]


def test_toniq_6_a_read_is_not_released_by_an_answer_to_what_was_sent_before_it() -> None:
    """> Reads released by an older append's answer.

    That proves who led before the read came, and another leader may have committed in between.
    """
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose(b"x")
    leader.tick(RaftConfig().heartbeat_ticks)
    appends, beats = cluster.take(AppendRequest), cluster.take(HeartbeatRequest)
    leader.node.read_index("late")
    leader.turn()
    rounds = cluster.take(HeartbeatRequest)
    for envelope in [*appends, *beats]:
        cluster.deliver(envelope)
    cluster.settle()
    assert leader.node.commit_index == 3
    assert leader.reads == {}
    cluster.deliver(rounds[0])
    cluster.settle()
    assert leader.reads == {"late": 2}


def test_toniq_7_no_read_before_a_commit_in_the_current_term() -> None:
    """> Reads before a commit in the current term.

    A new leader has all that its predecessor acknowledged, and does not know yet how much that is.
    """
    cluster = Cluster(3)
    first = cluster.elect(1)
    first.propose(b"acknowledged")
    cluster.cut |= {(1, 3)}
    while first.node.commit_index < first.node.last_index:
        assert cluster.step()  # Nobody but the leader knows that it is committed.
    cluster.mail.clear()
    first.crash()
    second = cluster[2]
    second.node.campaign(transfer=True)
    second.turn()
    while second.node.role is not Role.LEADER:
        assert cluster.step()
    second.node.read_index("r")
    second.turn()
    appends = cluster.take(AppendRequest)
    cluster.settle()
    assert second.reads == {}, "its commit index does not include what was acknowledged"
    for envelope in appends:
        cluster.deliver(envelope)
    cluster.settle()
    assert [entry.payload for entry in second.applied][-2:] == [b"acknowledged", b""]
    assert second.reads == {"r": 4}
