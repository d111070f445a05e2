"""The known traps of Raft servers in the path of a command; all: `tests/unit/raft/test_trap_list.py`."""

from respraft.raft.message import AppendRequest
from respraft.replica.batch import Refusal
from respraft.replica.message import ForwardRequest
from tests.unit.replica.cluster import Cluster

# 12. A refusal before proposing is a failure; anything after is an unknown outcome, and says so.


def test_trap_12_what_was_never_handed_over_is_refused_and_never_happens() -> None:
    """Also when a leader appears right afterwards, and the origin still knows the commands."""
    cluster = Cluster()
    leader, origin = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: origin.id in (sent.to, sent.sender)
    cluster.until(lambda: origin.core.leader == 0)
    cluster.submit(origin.id, "c", ["INCR n"])
    cluster.advance(3100)
    assert origin.replies("c") == [Refusal.NO_LEADER]
    cluster.lose = lambda sent: False
    cluster.until(lambda: origin.core.leader != 0)
    cluster.advance(1000)
    assert cluster.ask(leader.id, "GET n") == [None]


def test_trap_12_what_was_handed_over_and_lost_is_unknown_and_does_not_happen_later() -> None:
    cluster = Cluster()
    leader, origin = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: isinstance(sent.message, ForwardRequest)
    cluster.submit(origin.id, "c", ["INCR n"])
    cluster.advance(5100)
    assert origin.replies("c") == [Refusal.OUTCOME_UNKNOWN]
    cluster.lose = lambda sent: False
    cluster.advance(3000)
    assert origin.replica.status().outstanding == 0, "its sequence was taken by an empty batch"
    assert cluster.ask(leader.id, "GET n") == [None]


def test_trap_12_what_was_appended_and_not_committed_in_time_is_unknown_and_may_happen() -> None:
    """On the leader itself, which has proposed it: to call it refused would be a lie a moment later."""
    cluster = Cluster()
    leader = cluster.leader()
    cluster.lose = lambda sent: isinstance(sent.message, AppendRequest)
    cluster.submit(leader.id, "c", ["INCR n"])
    cluster.advance(5100)
    assert leader.replies("c") == [Refusal.OUTCOME_UNKNOWN]
    cluster.lose = lambda sent: False
    cluster.advance(1000)
    assert cluster.ask(leader.id, "GET n") == [b"1"]
    assert leader.replies("c") == [Refusal.OUTCOME_UNKNOWN], "answered once"
