"""Clients that were answered together are waited for together, and only as long as that pays."""

from respraft.replica.gathering import HOLD_MAX_MS, HOLD_MS, HOLD_PER_CLIENT_MS, SKIP_MAX, Gathering
from respraft.resp.replies import OK
from tests.unit.replica.cluster import Cluster


def test_nothing_is_held_before_anybody_was_answered() -> None:
    assert not Gathering().holds(1, 0.0)


def test_one_client_alone_is_never_held() -> None:
    gathering = Gathering()
    for now_ms in range(10):
        gathering.answered(1, 0, float(now_ms))
        assert not gathering.holds(1, float(now_ms))


def test_those_who_were_answered_are_waited_for_by_those_who_gathered() -> None:
    gathering = Gathering()
    gathering.answered(30, 20, 100.0)
    assert gathering.holds(20, 100.0)
    assert gathering.holds(43, 100.3)
    assert not gathering.holds(44, 100.4)  # All but an eighth of fifty.
    assert not gathering.holds(20, 100.4)


def test_a_hold_ends_in_time() -> None:
    gathering = Gathering()
    gathering.answered(30, 20, 100.0)
    assert gathering.holds(20, 100.0 + HOLD_MS / 2)
    assert not gathering.holds(20, 100.0 + HOLD_MS)


def test_many_are_waited_for_longer_but_not_without_end() -> None:
    for clients, hold_ms in ((256, 256 * HOLD_PER_CLIENT_MS), (100_000, HOLD_MAX_MS)):
        gathering = Gathering()
        gathering.answered(clients, 0, 100.0)
        assert gathering.holds(1, 100.0 + hold_ms - 0.1)
        assert not gathering.holds(1, 100.0 + hold_ms)
        assert hold_ms > HOLD_MS


def test_after_holds_in_vain_ever_more_batches_go_at_once_and_success_forgives() -> None:
    gathering = Gathering()

    def held(comes: int) -> bool:
        gathering.answered(10, 0, 0.0)
        was_held = gathering.holds(1, 0.0)
        gathering.holds(comes, HOLD_MS)
        return was_held

    assert [held(1) for _ in range(12)] == [
        *[True, False],
        *[True, False, False, False],
        *[True, False, False, False, False, False],
    ]
    for _ in range(1000):
        held(1)
    assert sum(held(1) for _ in range(2 * (SKIP_MAX + 1))) == 2
    while not held(10):
        pass
    assert held(1)


def test_two_groups_of_clients_become_one() -> None:
    """Without waiting, those who missed a batch would alternate with those who were in it for ever."""
    cluster = Cluster()
    leader = cluster.leader()
    for client in range(4):
        cluster.submit(leader.id, client, ["INCR n"])
    cluster.turn(leader)
    for client in range(4, 8):
        cluster.submit(leader.id, client, ["INCR n"])
    while not leader.replies(3):
        while cluster.wire:
            cluster.deliver(cluster.wire.popleft())
        for node in cluster.live():
            cluster.turn(node)
    assert leader.replica.status().outstanding == 0  # The second four are held,
    for client in range(4):
        cluster.submit(leader.id, client, ["SET k v"])  # and the first four come back.
    before = leader.core.last_index
    cluster.settle()
    assert leader.core.last_index == before + 1
    assert leader.replies(0)[1:] == [OK] and leader.replies(7) == [8]
