"""When a peer that has a state is looked at again: as soon as it has gone over to it, or may never do so."""

from types import SimpleNamespace
from typing import Any

from respraft.node.installing import INSTALL_S, UNSURE_S, Installing
from respraft.raft.message import Index, NodeId


def status(
    *, term: int = 4, peer: NodeId = 2, snapshot: bool = True, match: Index = 0, hint: Index = 70
) -> Any:
    peers = (SimpleNamespace(id=peer, snapshot=snapshot, match_index=match, hint_index=hint),)
    return SimpleNamespace(term=term, peers=peers)


def waiting() -> Installing:
    return Installing(2, 100, status(), links=1, now_s=50.0)


def test_it_has_long_to_open_a_state() -> None:
    installing = waiting()
    assert not installing.is_over(status(), 1, 50.0 + INSTALL_S - 1)
    assert installing.is_over(status(), 1, 50.0 + INSTALL_S)


def test_it_is_over_when_the_core_has_heard_so() -> None:
    assert waiting().is_over(status(snapshot=False, match=120), 1, 51.0)
    assert waiting().is_over(status(peer=3), 1, 51.0), "it is no peer any more"


def test_what_it_went_over_to_may_be_too_old_by_then() -> None:
    """The log was cut behind the state: the peer needs another one, and says so when it is probed."""
    installing = waiting()
    assert not installing.is_over(status(match=99), 1, 51.0)
    assert installing.is_over(status(match=100), 1, 51.0)


def test_what_it_went_over_to_may_be_too_old_and_the_word_lost() -> None:
    """Asked for what the log begins with now, it says where its own one ends."""
    assert waiting().is_over(status(hint=100), 1, 51.0)


def test_it_may_have_died_with_what_had_arrived() -> None:
    installing = waiting()
    assert not installing.is_over(status(), 2, 60.0)
    assert not installing.is_over(status(), 2, 60.0 + UNSURE_S - 0.1)
    assert installing.is_over(status(), 2, 60.0 + UNSURE_S)


def test_its_word_may_have_gone_to_the_leader_of_an_earlier_term() -> None:
    installing = waiting()
    assert not installing.is_over(status(term=5), 1, 60.0)
    assert installing.is_over(status(term=5), 1, 60.0 + UNSURE_S)


def test_renewals_without_end_do_not_prolong_it() -> None:
    installing = waiting()
    for number in range(10):
        assert not installing.is_over(status(), 2 + number, 60.0 + number * UNSURE_S / 10)
    assert installing.is_over(status(), 12, 60.0 + UNSURE_S)
