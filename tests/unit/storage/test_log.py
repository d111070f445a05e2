"""The Raft log's contract, held by the one on disk and the one in memory alike."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.raft.message import Entry
from respraft.raft.ready import HardState
from respraft.storage import log_options
from respraft.storage.interface import DirectoryInUse, WrongDirectory
from respraft.storage.log import open_log
from tests.unit.storage.log_samples import ALL, DiskHome, Home, MemoryHome, content, entries, entry


@pytest.fixture(params=["disk", "memory"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    if request.param == "memory":
        yield MemoryHome()
        return
    disk_home = DiskHome(tmp_path)
    yield disk_home
    disk_home.close()


def test_a_new_log_is_empty(home: Home) -> None:
    log = home.open()
    assert (log.first_index(), log.last_index()) == (1, 0)
    assert log.hard_state() == HardState()
    identity = log.identity()
    assert (identity.node_id, identity.cluster_id, identity.start_counter) == (3, "demo", 1)
    assert 0 < identity.incarnation < 1 << 63


def test_what_was_appended_is_read(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 3, 0), entries(1, 3))
    log.append(HardState(2, 1, 3), entries(4, 5, term=2))
    assert content(log) == entries(1, 3) + entries(4, 5, term=2)
    assert [log.term(index) for index in range(1, 6)] == [1, 1, 1, 2, 2]
    assert log.entries(2, 5, ALL) == [entry(2), entry(3), entry(4, 2)]
    assert log.hard_state() == HardState(2, 1, 3)


@pytest.mark.parametrize("ending", ["close", "crash"])
def test_everything_is_there_after_a_restart(home: Home, ending: str) -> None:
    log = home.open()
    log.append(HardState(1, 3, 0), entries(1, 3))
    log.append(HardState(4, 2, 3), [])
    identity = log.identity()
    if ending == "close":
        log.close()
    else:
        home.crash()

    again = home.open()
    assert content(again) == entries(1, 3)
    assert again.hard_state() == HardState(4, 2, 3)
    assert again.identity().incarnation == identity.incarnation
    assert again.identity().start_counter == 2
    again.append(HardState(4, 2, 3), entries(4, 4, term=4))
    assert again.last_index() == 4


def test_entries_replace_everything_at_or_above_the_first(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 0, 0), entries(1, 9))
    log.append(HardState(2, 0, 0), entries(4, 6, term=2))
    expected = entries(1, 3) + entries(4, 6, term=2)
    assert content(log) == expected
    assert log.term(6) == 2
    home.crash()
    again = home.open()
    assert content(again) == expected
    again.append(HardState(3, 0, 0), [entry(1, 3)])
    assert content(again) == [entry(1, 3)]
    home.crash()
    assert content(home.open()) == [entry(1, 3)]


def test_a_read_stops_before_too_many_bytes_but_not_before_one_entry(home: Home) -> None:
    log = home.open()
    log.append(HardState(1, 0, 0), [entry(index, 1, bytes(100)) for index in range(1, 11)])
    assert len(log.entries(1, 11, 0)) == 1
    assert len(log.entries(1, 11, 100)) == 1
    assert len(log.entries(1, 11, 350)) == 3
    assert len(log.entries(1, 11, 1000)) == 10
    assert len(log.entries(3, 5, 1000)) == 2


def test_a_large_entry_is_kept(home: Home) -> None:
    log = home.open()
    large = entry(1, 1, bytes(range(256)) * 40_000)
    log.append(HardState(1, 0, 0), [large])
    home.crash()
    assert content(home.open()) == [large]


def test_what_the_core_must_never_ask_for_is_not_written(home: Home) -> None:
    log = home.open()
    log.append(HardState(5, 2, 1), entries(1, 2))
    with pytest.raises(AssertionError, match="gap"):
        log.append(HardState(5, 2, 1), [entry(4)])
    with pytest.raises(AssertionError, match="gap"):
        log.append(HardState(5, 2, 1), [entry(3), entry(5)])
    with pytest.raises(AssertionError, match="term goes back"):
        log.append(HardState(4, 2, 1), [])
    with pytest.raises(AssertionError, match="vote"):
        log.append(HardState(5, 3, 1), [])
    with pytest.raises(AssertionError, match="commit index"):
        log.append(HardState(5, 2, 3), [])
    with pytest.raises(AssertionError, match="an entry of term 6"):
        log.append(HardState(5, 2, 1), [entry(3, 6)])
    with pytest.raises(AssertionError, match="is committed"):
        log.append(HardState(6, 2, 1), [entry(1, 6)])
    with pytest.raises(AssertionError, match="no entries"):
        log.entries(2, 4, ALL)
    # None of it counts as a failed disk.
    log.append(HardState(6, 3, 2), [entry(3, 6)])
    assert content(log) == [*entries(1, 2), entry(3, 6)]


def test_each_start_has_a_number_of_its_own(home: Home) -> None:
    seen = set()
    for start in range(1, 5):
        identity = home.open().identity()
        assert identity.start_counter == start
        seen.add(identity.incarnation)
        home.crash()
    assert len(seen) == 1


def test_another_nodes_directory_is_refused(home: Home) -> None:
    home.open().close()
    with pytest.raises(WrongDirectory, match=r"node 3 of cluster 'demo'.* node 4 of cluster 'demo'"):
        home.open(node_id=4)
    with pytest.raises(WrongDirectory, match=r"cluster 'demo'.* cluster 'other'"):
        home.open(cluster_id="other")
    assert home.open().identity().start_counter == 2, "a refused start is none"


def test_a_directory_without_an_id_is_given_one(home: Home) -> None:
    log = home.open(node_id=0)
    assert log.identity().node_id == 0
    incarnation = log.identity().incarnation
    log.adopt(5, "demo")  # By a member that never got around to it,
    log.adopt(7, "demo")  # and by another one.
    assert log.identity().node_id == 7
    home.crash()
    again = home.open(node_id=0)
    assert (again.identity().node_id, again.identity().incarnation) == (7, incarnation)
    again.append(HardState(1, 0, 0), entries(1, 1))
    with pytest.raises(AssertionError, match="keeps its id"):
        again.adopt(8, "demo")
    again.close()
    with pytest.raises(WrongDirectory, match="belongs to node 7"):
        home.open(node_id=5)
    assert home.open(node_id=7).identity().node_id == 7


def test_a_waiting_directory_takes_the_id_that_it_is_told(home: Home) -> None:
    home.open(node_id=0).close()
    assert home.open(node_id=4).identity().node_id == 4
    home.crash()
    assert home.open(node_id=0).identity().node_id == 4


def test_a_directory_without_a_cluster_is_given_one(home: Home) -> None:
    log = home.open(node_id=0, cluster_id="")
    log.adopt(7, "demo")
    assert (log.identity().node_id, log.identity().cluster_id) == (7, "demo")
    home.crash()
    assert home.open(node_id=0, cluster_id="").identity().cluster_id == "demo"
    home.crash()
    with pytest.raises(WrongDirectory, match="cluster 'demo'"):
        home.open(node_id=0, cluster_id="other")


def test_a_directory_that_has_come_in_anothers_place(tmp_path: Path) -> None:
    """Whose configuration file names the old id: it may go on doing so."""
    log = open_log(tmp_path, 0, "demo", replaces=3)
    log.adopt(4, "demo")
    log.close()
    for node_id in (3, 4, 0):
        log = open_log(tmp_path, node_id, "demo")
        assert (log.identity().node_id, log.identity().replaces) == (4, 3)
        log.close()
    with pytest.raises(WrongDirectory, match="belongs to node 4"):
        open_log(tmp_path, 5, "demo")


def test_settings_are_those_of_this_start_and_not_of_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for write_buffer_bytes in (8 << 20, 4 << 20):
        monkeypatch.setattr(log_options, "WRITE_BUFFER_BYTES", write_buffer_bytes)
        home = DiskHome(tmp_path)
        home.open()
        said = next(home.path.rglob("LOG")).read_text()
        assert set(re.findall(r"Options.write_buffer_size: (\d+)", said)) == {str(write_buffer_bytes)}
        home.close()


def test_one_process_at_a_time(home: Home) -> None:
    log = home.open()
    with pytest.raises(DirectoryInUse):
        home.open()
    log.close()
    log.close()  # Once more is allowed.
    home.open()


def test_status_counts(home: Home) -> None:
    log = home.open()
    before = log.status()
    log.append(HardState(1, 0, 0), entries(1, 7))
    after = log.status()
    assert (after.first_index, after.last_index) == (1, 7)
    assert after.fsync_count == before.fsync_count + 1
    assert after.written_bytes > before.written_bytes == 0
    assert after.fsync_us_total >= after.fsync_us_max >= 0
    assert after.size_bytes > 0


def test_readers_never_see_what_is_not_durable(home: Home) -> None:
    """One thread appends, another reads as the event loop would, up to what the log says it has."""
    log = home.open()
    durable: list[int] = [0]
    troubles: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            shown = log.last_index()
            if shown > durable[0] + 1:  # The append may have returned before `durable` was moved.
                troubles.append(f"{shown} is shown, {durable[0]} is durable")
            if shown:
                found = log.entries(max(1, shown - 20), shown + 1, ALL)
                if found[-1] != entry(shown) or log.term(shown) != 1:
                    troubles.append(f"{shown} is not as it was written")

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(1, 300):
        log.append(HardState(1, 0, 0), [entry(index)])
        durable[0] = index
    done.set()
    reader.join()
    assert troubles == []


STEP = st.tuples(st.integers(0, 30), st.integers(0, 4), st.integers(0, 2), st.booleans())


@settings(max_examples=60)
@given(st.lists(STEP, max_size=25))
def test_memory_agrees_with_a_model(steps: list[tuple[int, int, int, bool]]) -> None:
    _compare_with_model(MemoryHome(), steps)


@settings(max_examples=12)
@given(steps=st.lists(STEP, min_size=5, max_size=25))
def test_the_disk_agrees_with_a_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int, bool]]
) -> None:
    disk_home = DiskHome(tmp_path_factory.mktemp("log"))
    _compare_with_model(disk_home, steps)
    disk_home.close()


def _compare_with_model(home: Home, steps: list[tuple[int, int, int, bool]]) -> None:
    """Append, replace, crash and restart at random; a list of entries is the truth."""
    log, model, term, commit = home.open(), list[Entry](), 0, 0
    lives = 1
    for back, count, newer, restart in steps:
        base = max(commit, len(model) - back // 4)
        term += newer
        added = [entry(base + 1 + step, term) for step in range(count)] if term else []
        if added:
            model = model[:base] + added
        commit = (commit + base) // 2
        hard_state = HardState(term, 0, commit)
        log.append(hard_state, added)
        if restart and lives < DiskHome.LIVES_MAX:
            lives += 1
            home.crash()
            log = home.open()
        assert content(log) == model
        assert log.hard_state() == hard_state
        assert [log.term(one.index) for one in model] == [one.term for one in model]
