"""When the state is flushed and how much of the log goes: bounded, and no more than nobody needs."""

from typing import Any

from respraft.config import RaftConfig
from respraft.raft.message import KIND_NORMAL, Entry
from respraft.replica.compaction import ENTRY_BYTES, MARK_ENTRIES, Compaction
from respraft.replica.payload import Body
from tests.unit.replica.cluster import Cluster

SMALL = RaftConfig(compact_entries=20, keep_entries=5)


def entries(first: int, count: int, size: int = 1000) -> list[Entry]:
    return [Entry(index, 1, 0, KIND_NORMAL, bytes(size)) for index in range(first, first + count)]


def compaction(**limits: Any) -> Compaction:
    """A policy with 4,000 entries of about 1 KB behind it, in runs of 10."""
    policy = Compaction(RaftConfig(**limits), 0)
    for first in range(1, 4001, 10):
        policy.applied(entries(first, 10))
    return policy


def test_a_flush_is_due_by_bytes_or_by_entries_since_the_last_one() -> None:
    by_bytes = Compaction(RaftConfig(compact_bytes=10_000), 7)
    by_entries = Compaction(RaftConfig(compact_entries=10), 7)
    for policy, size in ((by_bytes, 1000), (by_entries, 0)):
        policy.applied(entries(8, 9, size))
        was_due = policy.due
        policy.applied(entries(17, 1, size))
        assert (was_due, policy.due) == (False, True)
        assert policy.flush_begun() == 17
        assert policy.due is False


def test_bytes_are_those_before_they_were_packed() -> None:
    policy = Compaction(RaftConfig(compact_bytes=100_000), 0)
    payload = Body([[b"SET", b"key", bytes(200_000)]], [], pack_bytes_min=0).payload(1, 1)
    assert len(payload) < 2000
    policy.applied([Entry(1, 1, 0, KIND_NORMAL, payload)])
    assert policy.due


def test_a_margin_is_kept_by_entries_or_bytes_whichever_is_less() -> None:
    by_entries = compaction(keep_entries=100)
    assert by_entries.cut(4000, [], margin=True) == 3900
    kept = 4000 - compaction(keep_bytes=1 << 20).cut(4000, [], margin=True)
    assert (1 << 20) <= kept * (1000 + ENTRY_BYTES) < (1 << 20) + MARK_ENTRIES * 2000
    assert compaction(keep_entries=100).cut(4000, [], margin=False) == 4000
    assert compaction(keep_entries=100_000).cut(4000, [], margin=True) <= 0


def test_what_followers_and_transfers_need_is_kept_within_a_limit() -> None:
    policy = compaction(keep_entries=0)
    assert policy.cut(4000, [3990, 3000], margin=True) == 3000
    policy.transfer_begun(3, 2500)
    assert policy.cut(4000, [3990], margin=True) == 2500
    policy.transfer_ended(3)
    assert policy.cut(4000, [3990], margin=True) == 3990
    limited = compaction(keep_entries=0, keep_bytes_max=1 << 20)
    limited.transfer_begun(3, 100)
    assert limited.cut(4000, [3990, 200], margin=True) == 3990


def test_marks_do_not_gather_without_end() -> None:
    policy = compaction(keep_entries=0)
    policy.cut(4000, [], margin=True)
    assert len(policy._mark_indexes) == len(policy._mark_bytes) == 1


def test_the_log_stays_bounded_under_an_endless_load() -> None:
    cluster = Cluster(raft=SMALL)
    for number in range(200):
        cluster.ask(1 + number % 3, f"SET key {number}")
    for node in cluster.live():
        status = node.core.status()
        assert status.last_index - status.base.index <= 30
        assert node.log.first_index() == status.first_index, "storage has heard of it"
        assert node.replica.counters.flushes > 5
    assert cluster.ask(2, "GET key") == [b"199"]


def test_a_margin_is_kept_for_who_was_away_for_a_moment() -> None:
    cluster = Cluster(raft=RaftConfig(compact_entries=20, keep_entries=30))
    follower = cluster.followers()[0]
    for number in range(20):
        cluster.ask(cluster.leader_id(), f"SET key {number}")
    cluster.crash(follower.id)
    for number in range(25):
        cluster.ask(cluster.leader_id(), f"SET key {number}")
    assert cluster.leader().log.first_index() > 1
    cluster.restart(follower.id)
    cluster.advance(500)
    assert follower.core.commit_index == cluster.leader().core.commit_index
    assert follower.replica.counters.snapshots_installed == 0


def test_the_log_behind_a_connected_follower_is_kept_even_when_all_may_go() -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: type(sent.message).__name__ == "AppendRequest" and sent.to == follower.id
    for number in range(10):
        cluster.ask(leader.id, f"SET key {number}")
    cluster.compact(leader)
    cluster.lose = lambda sent: False
    cluster.advance(500)
    assert leader.core.log.base.index > 0
    assert follower.core.commit_index == leader.core.commit_index
    assert not leader.wants


def test_one_flush_at_a_time_and_only_what_was_applied_when_it_began_counts() -> None:
    cluster = Cluster(1, raft=SMALL)
    node = cluster.nodes[1]
    node.flush_held = True
    for number in range(25):
        cluster.ask(1, f"SET key {number}")
    begun_at = node.core.status().applied_index
    flush = node.flush
    assert flush is not None
    for number in range(25):
        cluster.ask(1, f"SET key {number}")
    assert node.flush is flush and node.core.log.base.index == 0
    node.flush_held = False
    cluster.finish_flush(node)
    assert 0 < node.core.log.base.index <= begun_at
    cluster.settle()
    cluster.crash(1)
    cluster.restart(1)
    cluster.until(lambda: cluster.leader_id() == 1)
    assert cluster.ask(1, "GET key") == [b"24"]
