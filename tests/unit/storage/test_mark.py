"""The mark file: sixteen bytes that say how far the log had got."""

from pathlib import Path

import pytest

from respraft.storage.mark import MARK_BYTES, Mark, MarkUnreadable, read_mark


def test_a_new_mark_says_zero(tmp_path: Path) -> None:
    path = tmp_path / "log.mark"
    assert read_mark(path) is None
    Mark(path).close()
    assert read_mark(path) == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_start_that_crashed_leaves_no_half_made_mark(tmp_path: Path) -> None:
    path = tmp_path / "log.mark"
    (tmp_path / "log.mark.new").write_bytes(b"left behind")
    assert read_mark(path) is None
    Mark(path).close()
    assert read_mark(path) == 0
    assert list(tmp_path.iterdir()) == [path]


def test_it_says_what_was_written_last(tmp_path: Path) -> None:
    path = tmp_path / "log.mark"
    mark = Mark(path)
    for counter in (1, 2, 1 << 63):
        mark.write(counter)
        assert read_mark(path) == counter
        assert path.stat().st_size == MARK_BYTES
    mark.sync()
    mark.close()
    Mark(path).close()
    assert read_mark(path) == 1 << 63, "opening it leaves it as it is"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log.mark"
    mark = Mark(path)
    mark.write(77)
    mark.close()
    sound = path.read_bytes()
    for bit in range(MARK_BYTES * 8):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(MarkUnreadable):
            read_mark(path)


@pytest.mark.parametrize("size", [0, 1, MARK_BYTES - 1, MARK_BYTES + 1])
def test_another_length_is_no_mark(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log.mark"
    path.write_bytes(bytes(size))
    with pytest.raises(MarkUnreadable, match=str(size)):
        read_mark(path)
