"""A snapshot is replaced as a whole or not at all, however many writes it takes."""

from collections.abc import Iterator

import pytest

from respraft.library import snapshot_store
from respraft.library.snapshot_store import SnapshotStore
from respraft.storage.state_memory import MemoryStateStore

PIECES = [b"x" * 100, b"", b"y"]


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_store, "STEP_BYTES", 1)


def test_pieces_come_back_as_they_were_in_their_order() -> None:
    store = MemoryStateStore()
    snapshots = SnapshotStore(store)
    assert not snapshots.exists
    assert snapshots.write(PIECES, {b"applied": b"7"}) == 101
    again = SnapshotStore(store)
    assert again.exists
    assert list(again.pieces()) == PIECES
    assert again.meta(b"applied") == b"7"
    assert again.meta(b"other") is None


def test_the_next_one_replaces_it_and_leaves_nothing_behind() -> None:
    store = MemoryStateStore()
    SnapshotStore(store).write(PIECES, {b"applied": b"7", b"sessions": b"s"})
    SnapshotStore(store).write([b"new"], {b"applied": b"8"})
    assert list(SnapshotStore(store).pieces()) == [b"new"]
    assert SnapshotStore(store).meta(b"applied") == b"8"
    assert SnapshotStore(store).meta(b"sessions") == b"s"
    assert len(list(store.keys(b"", b"\xff"))) == 4  # Its number, two values, one piece.


@pytest.mark.parametrize("writes_kept", range(6))
def test_a_crash_between_any_two_writes_leaves_the_old_one_or_the_new_one(writes_kept: int) -> None:
    store = MemoryStateStore()
    SnapshotStore(store).write([b"old", b"one"], {b"applied": b"7"})
    store.flush()
    SnapshotStore(store).write(PIECES, {b"applied": b"8"})
    store.crash(writes_kept=writes_kept)
    found = SnapshotStore(store)
    assert (list(found.pieces()), found.meta(b"applied")) in (([b"old", b"one"], b"7"), (PIECES, b"8"))
    found.write([b"next"], {})
    assert len(list(store.keys(b"s", b"t"))) == 1


def test_one_that_cannot_be_made_leaves_the_old_one() -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    store = MemoryStateStore()
    snapshots = SnapshotStore(store)
    snapshots.write(PIECES, {b"applied": b"7"})
    with pytest.raises(ValueError, match="no more"):
        snapshots.write(broken(), {b"applied": b"8"})
    assert list(snapshots.pieces()) == PIECES
    assert snapshots.meta(b"applied") == b"7"
    snapshots.write([b"z"], {b"applied": b"9"})
    assert list(SnapshotStore(store).pieces()) == [b"z"]
