"""The log of one node: what is replaced, what is durable, what is handed out (Raft paper, section 5.3)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from respraft.raft.message import KIND_NORMAL, Entry
from respraft.raft.ready import HardState, LogWrite
from tests.unit.raft.cluster import Disk, entries_of

FEW = settings(max_examples=60)


def log_of(*terms: int, commit: int = 0, applied: int = 0, cache: int = 1 << 20) -> RaftLog:
    """A log that was opened with these terms on disk."""
    disk = Disk(entries_of(terms))
    return RaftLog(disk, applied_index=applied, commit_index=commit, cache_bytes_max=cache)


def terms_of(log: RaftLog) -> list[int]:
    return [entry.term for entry in log.iterate(1)]


def test_trap_4_an_append_that_ends_earlier_cuts_nothing() -> None:
    log = log_of(1, 1, 2, 2)
    assert log.splice(entries_of([1, 2], first=2)) == (0, 2)
    assert terms_of(log) == [1, 1, 2, 2]
    assert log.stable_index == 4


def test_a_conflict_cuts_everything_behind_it() -> None:
    log = log_of(1, 1, 2, 2, 2)
    assert log.splice(entries_of([1, 3], first=2)) == (3, 1)
    assert terms_of(log) == [1, 1, 3]
    assert (log.last_index, log.last_term, log.stable_index) == (3, 3, 2)
    log.check_invariants()


def test_what_is_committed_is_never_cut() -> None:
    log = log_of(1, 1, 2, commit=3)
    with pytest.raises(AssertionError, match="committed"):
        log.splice(entries_of([3], first=3))


def test_a_gap_is_refused() -> None:
    with pytest.raises(AssertionError, match="gap"):
        log_of(1, 1).splice(entries_of([1], first=4))


def test_a_write_makes_durable_what_it_holds_and_no_more() -> None:
    log = log_of(1)
    log.splice(entries_of([1, 1], first=2))
    assert [entry.index for entry in log.take_unstable()] == [2, 3]
    log.splice(entries_of([1], first=4))
    log.write_done()
    assert log.stable_index == 3
    assert [entry.index for entry in log.take_unstable()] == [4]


def test_entries_replaced_during_their_write_are_not_durable_when_it_completes() -> None:
    log = log_of(1)
    log.splice(entries_of([1, 1, 1], first=2))
    log.take_unstable()
    log.splice(entries_of([2, 2, 2], first=3))
    log.write_done()
    assert log.stable_index == 2
    assert [(entry.index, entry.term) for entry in log.take_unstable()] == [(3, 2), (4, 2), (5, 2)]
    log.write_done()
    assert log.stable_index == 5


def test_a_cut_below_the_durable_end_takes_durability_back() -> None:
    log = log_of(1, 1, 1)
    log.take_unstable()  # Of the hard state only.
    log.splice(entries_of([2], first=2))
    log.write_done()
    assert log.stable_index == 1


def test_committed_entries_are_handed_out_once_and_only_when_durable() -> None:
    log = log_of(1, 1)
    log.splice(entries_of([1, 1], first=3))
    assert log.commit_to(4)
    assert not log.commit_to(3)
    assert [entry.index for entry in log.take_committed(1 << 20)] == [1, 2]
    assert log.take_committed(1 << 20) == []
    log.take_unstable()
    log.write_done()
    assert log.has_committed()
    assert [entry.index for entry in log.take_committed(1 << 20)] == [3, 4]
    assert not log.has_committed()
    log.applied_to(4)
    with pytest.raises(AssertionError, match="never handed out"):
        log.applied_to(5)


def test_what_is_handed_out_at_once_is_bounded_by_what_the_machine_sees_of_it() -> None:
    disk = Disk(entries_of([1] * 5))  # Of three bytes each.
    log = RaftLog(
        disk, applied_index=0, commit_index=0, cache_bytes_max=0, size_of=lambda payload: 100 * len(payload)
    )
    log.commit_to(5)
    handed = []
    while log.has_committed():
        handed.append([entry.index for entry in log.take_committed(600)])
    assert handed == [[1, 2], [3, 4], [5]]
    assert log.take_committed(600) == []


def test_a_restarted_log_goes_on_behind_what_is_applied() -> None:
    log = log_of(1, 1, 1, 1, commit=2, applied=3)  # The durable commit index lags behind.
    assert log.commit_index == 3
    log.commit_to(4)
    assert [entry.index for entry in log.take_committed(1 << 20)] == [4]


def test_a_log_shorter_than_its_commit_is_not_opened() -> None:
    with pytest.raises(AssertionError, match="committed"):
        log_of(1, 1, commit=3)


@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_reads_stop_at_a_number_of_bytes_but_never_return_nothing(cache: int) -> None:
    log = log_of(cache=cache)
    log.splice([Entry(index, 1, 0, KIND_NORMAL, b"x" * 10) for index in range(1, 6)])
    disk_entries = log.take_unstable()
    assert isinstance(log._reader, Disk)
    log._reader.write(LogWrite(1, HardState(1), disk_entries, []))
    log.write_done()
    assert len(log.entries(1, 6, 25)) == 2
    assert len(log.entries(2, 6, 30)) == 3
    assert len(log.entries(3, 6, 0)) == 1
    assert len(log.entries(3, 4, 1000)) == 1
    assert [entry.index for entry in log.iterate(2)] == [2, 3, 4, 5]


def test_a_read_may_begin_on_the_disk_and_end_in_the_cache() -> None:
    log = log_of(1, 1, 1)
    log.splice(entries_of([1, 1, 1], first=4))  # Each payload takes 3 bytes.
    assert [entry.index for entry in log.entries(2, 7, 1 << 20)] == [2, 3, 4, 5, 6]
    assert [entry.index for entry in log.entries(2, 6, 12)] == [2, 3, 4, 5]
    assert [entry.index for entry in log.entries(2, 7, 9)] == [2, 3, 4]
    assert [entry.index for entry in log.entries(2, 7, 8)] == [2, 3]
    assert [entry.index for entry in log.entries(2, 7, 5)] == [2]


def test_the_cache_is_bounded_and_keeps_the_unstable_tail() -> None:
    size = ENTRY_OVERHEAD_BYTES + 10
    disk = Disk()
    log = RaftLog(disk, applied_index=0, commit_index=0, cache_bytes_max=10 * size)
    for index in range(1, 101):
        log.append(Entry(index, 1, 0, KIND_NORMAL, b"x" * 10))
    assert len(log._cache) == 100, "what is not durable is nowhere else"
    disk.write(LogWrite(1, HardState(1), log.take_unstable(), []))
    log.write_done()
    log.check_invariants()
    assert len(log._cache) <= 10
    assert [entry.index for entry in log.iterate(1)] == list(range(1, 101))


def test_a_cut_below_the_cache_reads_its_term_from_the_disk() -> None:
    log = log_of(1, 2, 2, 3, cache=0)
    log.splice(entries_of([4], first=3))
    assert (log.last_index, log.last_term, log.term(2), log.stable_index) == (3, 4, 2, 2)
    log.check_invariants()


@FEW
@given(
    terms=st.lists(st.integers(1, 5), max_size=12).map(sorted),
    term=st.integers(0, 6),
    data=st.data(),
)
def test_the_last_of_a_term_is_found_as_by_looking_at_all(
    terms: list[int], term: int, data: st.DataObject
) -> None:
    log = log_of(*terms)
    index = data.draw(st.integers(0, len(terms)))
    fitting = [each for each in range(index + 1) if log.term(each) <= term]
    assert log.last_of_term_at_most(index, term) == max(fitting)


@FEW
@given(
    ours=st.lists(st.integers(1, 3), max_size=6).map(sorted),
    theirs=st.lists(st.integers(1, 3), max_size=6).map(sorted),
    data=st.data(),
)
def test_after_a_splice_the_log_agrees_with_the_leader(
    ours: list[int], theirs: list[int], data: st.DataObject
) -> None:
    """Log matching: an index and a term name one entry, so the leader's entries win where they differ."""
    common = 0
    while ours[common : common + 1] == theirs[common : common + 1] != []:
        common += 1
    base = data.draw(st.integers(0, common))
    high = data.draw(st.integers(base, len(theirs)))
    if base == high:
        return
    log = log_of(*ours)
    log.splice(entries_of(theirs[base:high], first=base + 1))
    log.check_invariants()
    kept = ours[high:] if high <= common else []
    assert terms_of(log) == theirs[:high] + kept


class CountingDisk(Disk):
    """Counts how often a term was read from it."""

    reads = 0

    def term(self, index: int) -> int:
        self.reads += 1
        return super().term(index)


def test_the_term_of_an_entry_that_left_the_cache_is_read_once() -> None:
    """A leader asks for it in every turn, and an entry may be of many megabytes."""
    disk = CountingDisk(entries_of([1, 1, 2, 2]))
    log = RaftLog(disk, applied_index=0, commit_index=0, cache_bytes_max=0)
    assert [log.term(2) for _ in range(10)] == [1] * 10
    assert disk.reads == 1


def test_a_term_that_was_cut_off_is_not_remembered() -> None:
    disk = CountingDisk(entries_of([1, 1, 1, 1]))
    log = RaftLog(disk, applied_index=0, commit_index=0, cache_bytes_max=0)
    assert log.term(3) == 1
    log.splice(entries_of([2, 2, 2], first=2))
    assert [log.term(index) for index in range(1, 5)] == [1, 2, 2, 2]
    disk.write(LogWrite(1, HardState(2), log.take_unstable(), []))
    log.write_done()
    assert [log.term(index) for index in range(1, 5)] == [1, 2, 2, 2]
