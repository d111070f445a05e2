"""Directories of states: numbers that are never used twice at a time, and what a start clears away."""

from pathlib import Path

from respraft.storage.state_directory import StateDirectories, remove_state


def test_the_next_state_has_the_next_number(tmp_path: Path) -> None:
    states = StateDirectories(tmp_path)
    assert states.path(1) == tmp_path / "state" / "1"
    assert states.new_state() == (1, tmp_path / "state" / "1")
    assert states.new_state() == (2, tmp_path / "state" / "2")
    remove_state(states.path(1))
    assert states.new_state() == (3, tmp_path / "state" / "3")
    assert states.path(3).stat().st_mode & 0o777 == 0o700


def test_a_checkpoint_has_a_place_that_is_free(tmp_path: Path) -> None:
    states = StateDirectories(tmp_path)
    path = states.new_checkpoint()
    assert path == tmp_path / "checkpoint" / "1"
    assert not path.exists()
    path.mkdir()
    assert states.new_checkpoint() == tmp_path / "checkpoint" / "2"


def test_a_start_removes_what_does_not_count_and_nothing_else(tmp_path: Path) -> None:
    states = StateDirectories(tmp_path)
    for _ in range(3):
        (states.new_state()[1] / "CURRENT").touch()
    states.new_checkpoint().mkdir()
    (tmp_path / "state" / "notes").mkdir()
    removed = states.clean(2)
    assert removed == [states.path(1), states.path(3), tmp_path / "checkpoint" / "1"]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["2", "notes"]
    assert states.clean(2) == []


def test_a_new_directory_has_nothing_to_clean(tmp_path: Path) -> None:
    assert StateDirectories(tmp_path / "data").clean(1) == []


def test_a_state_that_has_arrived_is_sealed(tmp_path: Path) -> None:
    states = StateDirectories(tmp_path)
    number, path = states.new_state()
    (path / "000001.sst").write_bytes(b"x")
    states.seal(number)
    assert states.free_bytes() > 0
