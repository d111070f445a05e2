"""A state leaves as files and arrives as files."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from respraft.storage.state import RocksStateStore
from respraft.storage.state_directory import StateDirectories
from respraft.storage.state_files import ArrivingState, StateFiles


def opened(path: Path) -> RocksStateStore:
    return RocksStateStore(path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)


def test_a_state_that_was_copied_in_pieces_opens(tmp_path: Path) -> None:
    store = opened(tmp_path / "a" / "state" / "1")
    puts = {b"%05d" % number: os.urandom(100) for number in range(20_000)}
    store.write(puts)
    sender = StateDirectories(tmp_path / "a")
    store.checkpoint(path := sender.new_checkpoint())
    store.close()

    source = StateFiles(path)
    target = ArrivingState(StateDirectories(tmp_path / "b"), source.sizes())
    for name, size in source.sizes():
        for offset in range(0, size, 100_000):
            piece = source.read(name, offset, min(100_000, size - offset))
            target.write(name, offset, piece, offset + len(piece) == size)
    target.seal()

    arrived = opened(target.path)
    assert dict(arrived.iterate(b"", b"\xff")) == puts
    arrived.close()
    assert target.path == tmp_path / "b" / "state" / "1"


def test_the_files_of_a_checkpoint_are_all_plain(tmp_path: Path) -> None:
    """Nothing that an offer may not name, and no folder in it."""
    store = opened(tmp_path / "state")
    store.write({b"a": b"1"})
    store.checkpoint(tmp_path / "picture")
    store.close()
    names = [name for name, _ in StateFiles(tmp_path / "picture").sizes()]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "picture").iterdir())
    assert "CURRENT" in names
    assert any(name.endswith(".sst") for name in names)


def test_a_state_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(300 << 20))
    with pytest.raises(OSError, match="314572800 bytes left"):
        ArrivingState(StateDirectories(tmp_path), [("a", 100 << 20)])
    assert list((tmp_path / "state").iterdir()) == []


def test_what_is_discarded_is_gone(tmp_path: Path) -> None:
    target = ArrivingState(StateDirectories(tmp_path), [("a", 3), ("empty", 0)])
    target.write("a", 0, b"xy", False)
    assert sorted(path.name for path in target.path.iterdir()) == ["a", "empty"]
    target.discard()
    target.discard()
    assert not target.path.exists()
