"""A damaged log is refused with nothing changed, and no damage makes an acknowledged entry vanish.

For each way to damage a data directory only two outcomes are allowed: LogDamaged, or all that was
acknowledged is there.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from respraft.raft.message import Entry
from respraft.raft.ready import HardState
from respraft.storage.interface import LogDamaged
from respraft.storage.log import open_log
from respraft.storage.log_scan import find_recycled_record
from respraft.storage.mark import Mark, read_mark
from tests.unit.storage.log_samples import CLUSTER, NODE, content, entries, filled_directory

COUNT: Final = 400
_BYTES: Final = random.Random(4)
_WAL_HEADER_BYTES: Final = 7


@pytest.fixture(scope="module", params=["whole", "cut"])
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Entry]]:
    """A sound directory as SIGKILL leaves it, and what it holds. Never opened: tests take copies."""
    path = tmp_path_factory.mktemp("sound") / "data"
    cut = request.param == "cut"
    return path, filled_directory(path, COUNT, lambda _: _BYTES.randbytes(100), cut=cut)


@pytest.fixture
def victim(sound: tuple[Path, list[Entry]], tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(sound[0], tmp_path / "data")


def test_the_sound_one_opens(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    assert opens_whole(victim, sound[1])


def test_flipped_bits_all_over_the_write_ahead_log(sound: tuple[Path, list[Entry]], tmp_path: Path) -> None:
    data = sound[0]
    name, size = wal(data).name, wal(data).stat().st_size
    positions = [size * step // 80 for step in range(80)]
    outcomes = [
        opens_whole(flipped(data, tmp_path, name, position, position % 8), sound[1]) for position in positions
    ]
    assert not any(outcomes[:-1]), "each of these bytes counts"


def test_every_byte_of_a_record_in_the_middle(sound: tuple[Path, list[Entry]], tmp_path: Path) -> None:
    """The record's header and all of its data, with every bit of the type byte, and the lengths."""
    data = sound[0]
    name = wal(data).name
    start, end = middle_record(wal(data))
    for position in range(start, end):
        bits = range(8) if position < start + _WAL_HEADER_BYTES else [position % 8]
        for bit in bits:
            assert not opens_whole(flipped(data, tmp_path, name, position, bit), sound[1])


def test_flipped_bits_in_a_table_file(sound: tuple[Path, list[Entry]], tmp_path: Path) -> None:
    """Entries, index and properties: what RocksDB never looks at may pass, with all entries there."""
    data = sound[0]
    table = next((data / "raft").glob("*.sst"))
    size = table.stat().st_size
    outcomes = [
        opens_whole(flipped(data, tmp_path, table.name, size * step // 100, step % 8), sound[1])
        for step in range(100)
    ]
    assert not any(outcomes[10:80]), "entries lie in front, and behind those that were cut off"


def test_flipped_bits_in_the_manifest(sound: tuple[Path, list[Entry]], tmp_path: Path) -> None:
    data = sound[0]
    manifest = next((data / "raft").glob("MANIFEST-*"))
    for position in range(manifest.stat().st_size):
        for bit in (position % 8, 2):  # Bit 2 turns type 1 into 5, on which RocksDB would loop for ever.
            opens_whole(flipped(data, tmp_path, manifest.name, position, bit), sound[1])


def test_a_write_ahead_log_cut_short(sound: tuple[Path, list[Entry]], tmp_path: Path) -> None:
    data = sound[0]
    size = wal(data).stat().st_size
    for cut in [*range(1, 30), 300, size // 2, size]:
        damaged = fresh_copy(data, tmp_path)
        truncate(wal(damaged), cut)
        assert not opens_whole(damaged, sound[1])


def test_a_torn_write_that_nobody_was_told_of(sound: tuple[Path, list[Entry]], tmp_path: Path) -> None:
    """The mark still stands at the write before: what is torn was never acknowledged."""
    data = sound[0]
    start, end = last_record(wal(data))
    marked = read_mark(data / "log.mark")
    assert marked is not None
    for cut in range(1, end - start + 1, 7):
        torn = fresh_copy(data, tmp_path)
        truncate(wal(torn), cut)
        write_mark(torn, marked - 1)
        assert opens_whole(torn, sound[1][:-1])


def test_space_that_was_never_written_is_no_damage(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    """Power loss may leave a file longer than what was written to it, with zeros behind."""
    with wal(victim).open("ab") as file:
        file.write(bytes(100_000))
    assert opens_whole(victim, sound[1])


def test_a_mark_older_than_the_log_is_no_damage(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    """Power loss may take the mark's latest values: it is not synced."""
    write_mark(victim, 1)
    assert opens_whole(victim, sound[1])
    assert (read_mark(victim / "log.mark") or 0) > COUNT


def test_a_missing_mark_is_refused(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    (victim / "log.mark").unlink()
    assert not opens_whole(victim, sound[1])


def test_a_damaged_mark_is_refused(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    (victim / "log.mark").write_bytes(b"nonsense")
    assert "log.mark" in refusal(victim)


@pytest.mark.parametrize("pattern", ["*.log", "*.sst", "MANIFEST-*", "CURRENT"])
def test_a_missing_file_is_refused(sound: tuple[Path, list[Entry]], victim: Path, pattern: str) -> None:
    for path in (victim / "raft").glob(pattern):
        if path.stat().st_size:
            path.unlink()
    assert not opens_whole(victim, sound[1])


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT", "*.sst"])
def test_a_truncated_file_is_refused(sound: tuple[Path, list[Entry]], victim: Path, pattern: str) -> None:
    for path in (victim / "raft").glob(pattern):
        truncate(path, path.stat().st_size // 2)
    assert not opens_whole(victim, sound[1])


@pytest.mark.parametrize("pattern", ["IDENTITY", "LOCK", "LOG", "OPTIONS-*", "rocksdict-config.json"])
def test_files_of_no_account(sound: tuple[Path, list[Entry]], victim: Path, pattern: str) -> None:
    for path in (victim / "raft").glob(pattern):
        path.unlink()
    assert opens_whole(victim, sound[1])


def test_a_missing_log_directory_is_refused(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    shutil.rmtree(victim / "raft")
    assert not opens_whole(victim, sound[1])
    assert not (victim / "raft").exists()


def test_an_emptied_log_directory_is_refused(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    shutil.rmtree(victim / "raft")
    (victim / "raft").mkdir()
    assert not opens_whole(victim, sound[1])


def test_an_older_log_beside_the_present_mark_is_refused(
    sound: tuple[Path, list[Entry]], tmp_path: Path
) -> None:
    older = tmp_path / "older"
    log = open_log(older, NODE, CLUSTER)
    log.append(HardState(1, 0, 0), entries(1, 5))
    log.close()
    shutil.copy(sound[0] / "log.mark", older / "log.mark")
    assert "was acknowledged" in refusal(older)


def test_swapped_files_are_refused(sound: tuple[Path, list[Entry]], victim: Path) -> None:
    table, log = next((victim / "raft").glob("*.sst")), wal(victim)
    spare = victim / "spare"
    table.rename(spare)
    log.rename(table)
    spare.rename(log)
    assert not opens_whole(victim, sound[1])


def test_another_logs_write_ahead_log_is_refused(
    sound: tuple[Path, list[Entry]], victim: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    filled_directory(other, COUNT, lambda _: b"foreign")
    shutil.copy(wal(other), wal(victim))
    assert not opens_whole(victim, sound[1])


def test_a_piece_cut_out_between_two_write_ahead_logs(tmp_path: Path) -> None:
    """RocksDB takes a log with a torn end for whole, even if a later one follows: the chain does not."""
    path = tmp_path / "work"
    log = open_log(path, NODE, CLUSTER)
    log.append(HardState(1, 0, 0), entries(1, 9))
    shutil.copytree(path, tmp_path / "early")
    log.append(HardState(2, 0, 0), entries(5, 9, term=2))
    log.append(HardState(2, 0, 0), entries(10, 10, term=2))
    shutil.copytree(path, tmp_path / "late")
    log.close()
    # The write that replaced 5 to 9 goes; terms stay in order, and indexes contiguous.
    pieced = tmp_path / "early"
    late = wal(tmp_path / "late").read_bytes()
    start, _ = last_record(wal(tmp_path / "late"))
    older = wal(pieced)
    number = int(older.stem)
    older.with_name(f"{number + 1:06}.log").write_bytes(late[start:])
    shutil.copy(tmp_path / "late" / "log.mark", pieced / "log.mark")
    assert "entry 10 does not follow 9" in refusal(pieced)


def test_the_words_of_a_refusal(victim: Path) -> None:
    """They name the file, say that nothing was changed, what to do, and what not to."""
    truncate(wal(victim), 1000)
    words = refusal(victim)
    assert str(wal(victim)) in words
    assert "writes are lost" in words
    assert "Nothing on disk was changed" in words
    assert "id that has not been used" in words
    assert "Never put back an older copy" in words
    assert str(victim) in words


def test_the_words_name_the_file_that_rocksdb_names(victim: Path) -> None:
    table = next((victim / "raft").glob("*.sst"))
    flip(table, 5000, 3)
    words = refusal(victim)
    assert str(table) in words
    assert "checksum mismatch" in words


def test_a_start_that_was_cut_short_is_no_damage(tmp_path: Path) -> None:
    """The mark exists, says 0, and there is no log yet: nothing was ever acknowledged."""
    path = tmp_path / "data"
    path.mkdir()
    Mark(path / "log.mark").close()
    (path / "raft").mkdir()
    (path / "raft" / "LOCK").touch()
    log = open_log(path, NODE, CLUSTER)
    assert log.identity().start_counter == 1
    log.close()


def test_the_data_directory_is_private(tmp_path: Path) -> None:
    path = tmp_path / "several" / "levels" / "data"
    open_log(path, NODE, CLUSTER).close()
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "raft").stat().st_mode & 0o777 == 0o700


def test_the_scan_passes_what_rocksdb_writes(tmp_path: Path) -> None:
    """Records over several blocks, and blocks whose rest is too small for a header."""
    path = tmp_path / "data"
    filled_directory(path, 60, lambda index: bytes(index * 1500 % 70_001))
    assert wal(path).stat().st_size > 20 * 32 * 1024
    assert find_recycled_record(path / "raft") is None


# What the tests are written with


def opens_whole(path: Path, expected: list[Entry]) -> bool:
    """True: it opened, and all is there. False: it was refused, and nothing was changed."""
    before = snapshot(path)
    try:
        log = open_log(path, NODE, CLUSTER)
    except LogDamaged:
        assert snapshot(path) == before
        return False
    try:
        assert content(log) == expected, "opened, but not with everything that was acknowledged"
        assert log.hard_state().term == expected[-1].term
    finally:
        log.close()
    return True


def refusal(path: Path) -> str:
    """The text with which it is refused."""
    before = snapshot(path)
    with pytest.raises(LogDamaged) as caught:
        open_log(path, NODE, CLUSTER)
    assert snapshot(path) == before
    return str(caught.value)


def snapshot(path: Path) -> dict[Path, bytes | None]:
    """Every file and its bytes; None for directories. The lock file is of no account, and may appear."""
    return {
        item.relative_to(path): None if item.is_dir() else item.read_bytes()
        for item in path.rglob("*")
        if item.name != "lock"
    }


def fresh_copy(data: Path, tmp_path: Path) -> Path:
    """A copy to damage, instead of the one before."""
    target = tmp_path / "copy"
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(data, target)


def flipped(data: Path, tmp_path: Path, name: str, position: int, bit: int) -> Path:
    """A copy with one bit of one file turned over."""
    target = fresh_copy(data, tmp_path)
    flip(target / "raft" / name, position, bit)
    return target


def flip(path: Path, position: int, bit: int) -> None:
    """Turn one bit over."""
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1 << bit
    path.write_bytes(damaged)


def truncate(path: Path, cut: int) -> None:
    """Cut that many bytes off the end."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)


def write_mark(path: Path, counter: int) -> None:
    """Set the mark of a data directory."""
    mark = Mark(path / "log.mark")
    mark.write(counter)
    mark.close()


def wal(path: Path) -> Path:
    """The write-ahead log of a data directory that has something in it."""
    return max((path / "raft").glob("*.log"), key=lambda file: file.stat().st_size)


def records(path: Path) -> Iterator[tuple[int, int]]:
    """Where each record of a write-ahead log begins and ends."""
    data, position = path.read_bytes(), 0
    while position + _WAL_HEADER_BYTES < len(data):
        if 32768 - position % 32768 < _WAL_HEADER_BYTES:
            position += 32768 - position % 32768
            continue
        end = position + _WAL_HEADER_BYTES + int.from_bytes(data[position + 4 : position + 6], "little")
        yield position, end
        position = end


def middle_record(path: Path) -> tuple[int, int]:
    """One from the middle."""
    found = list(records(path))
    return found[len(found) // 2]


def last_record(path: Path) -> tuple[int, int]:
    """The last one."""
    return list(records(path))[-1]
