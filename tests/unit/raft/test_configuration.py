"""Quorum arithmetic, and which configuration counts (Raft paper, section 6; trap 8)."""

import itertools

import msgspec
import pytest

from respraft.raft.configuration import Configuration, ConfigurationHistory, Member
from tests.unit.raft.cluster import configuration_of


def joint(new: range, old: range) -> Configuration:
    return Configuration(configuration_of(new).members, tuple(old))


@pytest.mark.parametrize(("voters", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_trap_8_a_majority_is_more_than_half(voters: int, majority: int) -> None:
    configuration = configuration_of(range(1, voters + 1))
    for count in range(voters + 1):
        for ids in itertools.combinations(range(1, voters + 1), count):
            assert configuration.has_quorum(ids) == (count >= majority)
            match = dict.fromkeys(ids, 9)
            assert configuration.committed_index(match) == (9 if count >= majority else 0)


@pytest.mark.parametrize("voters", range(1, 8))
def test_committed_index_is_the_highest_that_a_majority_has_reached(voters: int) -> None:
    configuration = configuration_of(range(1, voters + 1))
    for numbers in itertools.product(range(3), repeat=voters):
        match = dict(enumerate(numbers, 1))
        reached = [
            number
            for number in range(3)
            if configuration.has_quorum([voter for voter in match if match[voter] >= number])
        ]
        assert configuration.committed_index(match) == max(reached)


def test_learners_and_strangers_are_not_counted() -> None:
    configuration = configuration_of([1, 2, 3], learners=[4, 5])
    assert configuration.voters() == (1, 2, 3)
    assert not configuration.has_quorum([1, 4, 5, 9])
    assert configuration.committed_index({1: 8, 4: 8, 5: 8, 9: 8}) == 0
    assert configuration.peers_of(2) == (1, 3, 4, 5)


def test_a_joint_configuration_needs_both_majorities() -> None:
    configuration = joint(range(3, 6), range(1, 4))
    assert configuration.voters() == (1, 2, 3, 4, 5)
    assert configuration.peers_of(3) == (1, 2, 4, 5)
    assert not configuration.has_quorum([3, 4, 5])
    assert not configuration.has_quorum([1, 2, 3])
    assert configuration.has_quorum([1, 3, 4])
    assert configuration.committed_index({1: 5, 2: 4, 3: 9, 4: 9, 5: 9}) == 5
    assert configuration.committed_index({1: 9, 2: 9, 3: 9, 4: 7, 5: 1}) == 7


def test_without_voters_nothing_is_decided() -> None:
    configuration = configuration_of([], learners=[1])
    assert not configuration.has_quorum([1])
    assert configuration.committed_index({1: 9}) == 0


def test_a_configuration_survives_its_encoding() -> None:
    members = (Member(1, "a:1", "b:2", 2**64 - 1, True), Member(7, "c:3", "d:4", 0, False))
    configuration = Configuration(members, (1, 2))
    assert Configuration.decode(configuration.encode()) == configuration
    assert configuration.member(7) == members[1]
    assert configuration.member(2) is None


def test_what_is_no_configuration_is_refused() -> None:
    good = configuration_of([1, 2]).encode()
    for damaged in (b"", good[:-1], good + b"\0", b"\xc1", msgspec.msgpack.encode([[[2, "", ""]]])):
        with pytest.raises(msgspec.DecodeError):
            Configuration.decode(damaged)


@pytest.mark.parametrize("ids", [(2, 1), (1, 1)])
def test_ids_are_sorted_and_different(ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sorted"):
        Configuration(tuple(Member(each, "", "", 0, True) for each in ids))


def test_the_newest_appended_configuration_counts_until_it_is_cut_off() -> None:
    first, second, third = (configuration_of(range(1, size)) for size in (2, 3, 4))
    history = ConfigurationHistory(0, None)
    history.append(1, first)
    history.append(5, second)
    history.append(8, third)
    assert history.current == third
    history.truncate(8)
    assert history.current == second
    history.commit_to(5)
    history.truncate(6)
    assert history.current == second
    history.append(6, third)
    history.truncate(6)
    assert history.current == second


def test_the_first_configuration_can_be_cut_off_too() -> None:
    history = ConfigurationHistory(0, None)
    history.append(1, configuration_of([1]))
    history.truncate(1)
    assert history.current is None
