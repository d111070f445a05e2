"""What `StateStore` promises, held by all implementations: order, atomic writes, and what a crash leaves."""

import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from respraft.storage.interface import StartRefused, StorageFailed
from respraft.storage.pieces import Rows, Step
from respraft.storage.state import RocksStateStore
from respraft.storage.state_interface import StateStore
from respraft.storage.state_memory import MemoryStateStore
from respraft.storage.state_thread import ThreadedStateStore
from tests.unit.storage.steps import step_of

LOW, HIGH = b"", b"\xff"


class Disk(Protocol):
    """Where a store lives: what is there after it was closed, and after a crash."""

    store: StateStore

    def reopen(self) -> StateStore: ...

    def crash(self) -> StateStore: ...


class RocksDisk:
    """A crash is a copy of the files as they are: what is in memory only is not in it."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._lives = 0
        self.store = self._open()

    def reopen(self) -> StateStore:
        self.store.close()
        self.store = self._open()
        return self.store

    def crash(self) -> StateStore:
        before = self._path()
        self._lives += 1
        shutil.copytree(before, self._path())
        self.store.close()
        self.store = self._open()
        return self.store

    def _path(self) -> Path:
        return self._root / str(self._lives)

    def _open(self) -> StateStore:
        return RocksStateStore(self._path(), write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)


class ThreadedDisk(RocksDisk):
    """The same, with its thread."""

    def _open(self) -> StateStore:
        return ThreadedStateStore(super()._open())


class MemoryDisk:
    def __init__(self, _path: Path) -> None:
        self.store = MemoryStateStore()

    def reopen(self) -> StateStore:
        self.store.close()
        return self.store

    def crash(self) -> StateStore:
        self.store.crash()
        return self.store


@pytest.fixture(params=[RocksDisk, ThreadedDisk, MemoryDisk])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    make: Callable[[Path], Disk] = request.param
    return make(tmp_path)


def everything(store: StateStore) -> dict[bytes, bytes]:
    return dict(store.iterate(LOW, HIGH))


def test_get_tells_missing_from_empty(disk: Disk) -> None:
    disk.store.write({b"full": b"x", b"empty": b""})
    assert disk.store.get(b"full") == b"x"
    assert disk.store.get(b"empty") == b""
    assert disk.store.get(b"missing") is None
    assert disk.store.get_many([b"missing", b"full", b"empty", b"full"]) == [None, b"x", b"", b"x"]
    assert disk.store.get_many([]) == []


def test_none_deletes_and_deleting_what_is_not_there_is_nothing(disk: Disk) -> None:
    disk.store.write({b"a": b"1", b"b": b"2"})
    disk.store.write({b"a": None, b"never": None})
    assert everything(disk.store) == {b"b": b"2"}


def test_ranges_are_cleared_before_the_puts_of_the_same_write(disk: Disk) -> None:
    disk.store.write({b"a": b"1", b"b1": b"1", b"b2": b"1", b"c": b"1"})
    disk.store.write({b"b2": b"2"}, [(b"b", b"c")])
    assert everything(disk.store) == {b"a": b"1", b"b2": b"2", b"c": b"1"}
    assert disk.store.get_many([b"b1", b"b2"]) == [None, b"2"]


def test_iteration_is_in_byte_order_from_low_to_before_high(disk: Disk) -> None:
    keys = [b"\x00", b"a", b"a\x00", b"a\xff", b"b", b"b\x00", b"c"]
    disk.store.write({key: b"v" + key for key in reversed(keys)})
    assert list(disk.store.keys(LOW, HIGH)) == keys
    assert list(disk.store.keys(b"a", b"b")) == [b"a", b"a\x00", b"a\xff"]
    assert list(disk.store.iterate(b"a\x01", b"b\x00")) == [(b"a\xff", b"va\xff"), (b"b", b"vb")]
    assert list(disk.store.keys(b"d", b"e")) == list(disk.store.keys(b"b", b"b")) == []


def test_an_iteration_shows_the_map_as_of_its_beginning(disk: Disk) -> None:
    disk.store.write({b"a": b"1", b"b": b"1"})
    rows = disk.store.iterate(LOW, HIGH)
    disk.store.write({b"b": b"2", b"c": b"2", b"a": None})
    assert list(rows) == [(b"a", b"1"), (b"b", b"1")]


def test_an_iteration_ends_at_its_bound_whoever_else_keeps_that(disk: Disk) -> None:
    # RocksDB does not copy the bound, and Python uses the memory of one that is gone for the next object.
    disk.store.write({b"a%03d" % number: b"v" for number in range(200)} | {b"b": b"v"})
    for length in range(40):
        keys = disk.store.keys(b"a", b"b" + bytes(length)[:-1])
        rows = disk.store.iterate(b"a", b"b" + bytes(length)[:-1])
        others = [b"a" * size for size in range(2, 100)]
        within = 200 + (length > 1)
        assert [len(list(keys)), len(list(rows)), len(others)] == [within, within, 98]


def test_closing_keeps_everything(disk: Disk) -> None:
    disk.store.write({b"a": b"1"})
    disk.store.write({b"b": b"2"}, [(b"a", b"b")])
    assert everything(disk.reopen()) == {b"b": b"2"}


def test_a_crash_takes_away_what_was_not_flushed_and_nothing_else(disk: Disk) -> None:
    disk.store.write({b"a": b"1", b"b": b"1"})
    disk.store.flush()
    disk.store.write({b"a": b"2", b"c": b"2"}, [(b"b", b"c")])
    store = disk.crash()
    assert everything(store) == {b"a": b"1", b"b": b"1"}
    store.write({b"a": b"3"})
    store.flush()
    assert everything(disk.crash()) == {b"a": b"3", b"b": b"1"}


def test_what_is_written_down_survives_a_crash_with_all_before_it(disk: Disk) -> None:
    disk.store.write({b"a": b"1", b"b1": b"1", b"c": b"1"})
    many = {b"%05d" % number: b"2" for number in range(2000)}
    disk.store.write_down(step_of(many | {b"a": None, b"b2": b"2"}, [(b"b", b"c")]))
    disk.store.write({b"c": b"3"})
    assert everything(disk.crash()) == many | {b"b2": b"2", b"c": b"1"}


def breaking() -> Iterator[Rows]:
    """4,000 records, the last of which cannot be had."""
    for start in range(0, 3000, 100):
        yield [b"%05d" % number for number in range(start, start + 100)], [b"2"] * 100
    raise StorageFailed("no more")


def test_half_a_large_write_does_not_survive(tmp_path: Path) -> None:
    path, copy = tmp_path / "state", tmp_path / "copy"
    store = RocksStateStore(path, write_buffer_bytes=64 << 20, block_cache_bytes=1 << 20)
    store.write({b"a": b"1"})
    with pytest.raises(StorageFailed, match="no more"):
        store.write_down(Step(breaking(), [(b"a", b"b")], 4000, 24_000))
    assert store.get(b"02000") == b"2", "it went in pieces"
    store.close()
    shutil.copytree(path, copy)
    store = RocksStateStore(copy, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    assert everything(store) == {b"a": b"1"}
    store.close()


def test_half_a_large_write_that_was_flushed_refuses_the_start(tmp_path: Path) -> None:
    store = RocksStateStore(tmp_path, write_buffer_bytes=64 << 20, block_cache_bytes=1 << 20)
    with pytest.raises(StorageFailed, match="no more"):
        store.write_down(Step(breaking(), (), 4000, 24_000))
    store.flush()  # As RocksDB does it when a full disk has room again.
    shutil.copytree(tmp_path, tmp_path / "copy")
    with pytest.raises(StartRefused, match="half a write"):
        RocksStateStore(tmp_path / "copy", write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)


def test_flush_may_run_in_another_thread_while_writes_go_on(disk: Disk) -> None:
    disk.store.write({b"before": b"1"})
    flusher = threading.Thread(target=disk.store.flush)
    flusher.start()
    for number in range(100):
        disk.store.write({b"during": b"%d" % number})
    flusher.join()
    assert disk.store.get(b"during") == b"99"
    assert disk.crash().get(b"before") == b"1"


def test_more_than_the_write_buffer_holds(disk: Disk) -> None:
    rng = random.Random(0)
    expected: dict[bytes, bytes] = {}
    for _ in range(40):
        puts = {b"%05d" % rng.randrange(20_000): rng.randbytes(1000) for _ in range(100)}
        disk.store.write(puts)
        expected |= puts
    keys = sorted(expected)
    assert list(disk.store.keys(LOW, HIGH)) == keys
    assert disk.store.get_many(keys) == [expected[key] for key in keys]


def test_a_crash_in_memory_may_keep_some_writes_whole_and_in_order() -> None:
    store = MemoryStateStore()
    store.write({b"a": b"1"})
    store.flush()
    for number in (2, 3, 4):
        store.write({b"a": b"%d" % number, b"b": b"%d" % number})
    assert store.unflushed_writes == 3
    store.crash(writes_kept=2)
    assert everything(store) == {b"a": b"3", b"b": b"3"}
    store.crash()
    assert everything(store) == {b"a": b"3", b"b": b"3"}, "what survived a crash is on disk"


def test_a_directory_that_cannot_be_opened_is_a_storage_failure(tmp_path: Path) -> None:
    store = RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    with pytest.raises(StorageFailed, match=str(tmp_path)):
        RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    store.close()


def test_a_record_at_which_rocksdb_would_hang_refuses_the_start(tmp_path: Path) -> None:
    RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20).close()
    (manifest,) = tmp_path.glob("MANIFEST-*")
    data = bytearray(manifest.read_bytes())
    data[6] = 5  # The type of the first record, now one of a recycled file.
    manifest.write_bytes(data)
    with pytest.raises(StartRefused, match=r"MANIFEST-\d+ at byte 0"):
        RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: list(store.keys(LOW, HIGH)),
        lambda store: list(store.iterate(LOW, HIGH)),
        lambda store: store.get_many([b"%05d" % number for number in range(5000)]),
    ],
)
def test_a_damaged_file_is_a_storage_failure_and_not_the_end_of_the_data(
    use: Callable[[StateStore], object], tmp_path: Path
) -> None:
    store = RocksStateStore(tmp_path, write_buffer_bytes=64 << 20, block_cache_bytes=1 << 20)
    rng = random.Random(0)
    store.write({b"%05d" % number: rng.randbytes(100) for number in range(5000)})
    store.close()
    (path,) = tmp_path.glob("*.sst")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    store = RocksStateStore(tmp_path, write_buffer_bytes=64 << 20, block_cache_bytes=1 << 20)
    with pytest.raises(StorageFailed, match="Corruption"):
        use(store)
    store.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.get(b"a"),
        lambda store: store.get_many([b"a"]),
        lambda store: list(store.iterate(LOW, HIGH)),
        lambda store: list(store.keys(LOW, HIGH)),
        lambda store: store.write({b"a": b"1"}),
        lambda store: store.flush(),
    ],
)
def test_whatever_rocksdb_raises_is_a_storage_failure(
    use: Callable[[StateStore], object], tmp_path: Path
) -> None:
    store = RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    store.close()
    with pytest.raises(StorageFailed, match="state database"):
        use(store)


def test_a_checkpoint_is_a_picture_of_its_moment(disk: Disk, tmp_path: Path) -> None:
    disk.store.write({b"a": b"1", b"b": b"1"})
    disk.store.checkpoint(tmp_path / "picture")
    disk.store.write({b"a": b"2", b"b": None})
    disk.store.flush()
    picture = opened(disk.store, tmp_path / "picture")
    assert everything(picture) == {b"a": b"1", b"b": b"1"}
    picture.write({b"a": b"3"})
    picture.flush()
    assert everything(disk.store) == {b"a": b"2"}, "the two have no more to do with each other"
    picture.close()


def test_a_checkpoint_outlives_the_store(disk: Disk, tmp_path: Path) -> None:
    rng = random.Random(0)
    puts = {b"%05d" % number: rng.randbytes(300) for number in range(10_000)}
    disk.store.write(puts)
    disk.store.checkpoint(tmp_path / "picture")
    disk.store.write(dict.fromkeys(puts))
    disk.reopen()
    picture = opened(disk.store, tmp_path / "picture")
    assert everything(picture) == puts
    picture.close()


def test_a_checkpoint_where_there_is_something_harms_nothing(disk: Disk, tmp_path: Path) -> None:
    disk.store.write({b"a": b"1"})
    disk.store.checkpoint(tmp_path / "picture")
    with pytest.raises(OSError, match="picture"):
        disk.store.checkpoint(tmp_path / "picture")
    assert everything(disk.crash()) == {b"a": b"1"}, "what a checkpoint holds is flushed in the store, too"


def opened(store: StateStore, path: Path) -> StateStore:
    """The checkpoint that a store has made."""
    if isinstance(store, MemoryStateStore):
        return MemoryStateStore.loaded(store.checkpoints[path])
    return RocksStateStore(path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)


def test_settings_are_those_of_this_start_and_not_of_the_first_one(tmp_path: Path) -> None:
    """RocksDB writes some of them down; a store that is opened again must not go by that, or do without."""
    for cache_bytes, write_buffer_bytes in ((20 << 20, 8 << 20), (10 << 20, 4 << 20)):
        store = RocksStateStore(
            tmp_path / "state", write_buffer_bytes=write_buffer_bytes, block_cache_bytes=cache_bytes
        )
        store.write({b"key": b"value"})
        said = (tmp_path / "state" / "LOG").read_text()
        assert set(re.findall(r"^ +capacity : (\d+)$", said, re.MULTILINE)) == {str(cache_bytes)}
        assert set(re.findall(r"Options.write_buffer_size: (\d+)", said)) == {str(write_buffer_bytes)}
        assert set(re.findall(r"filter_policy: (\w+)", said)) == {"bloomfilter"}
        store.close()


def test_no_get_reads_a_whole_filter_however_small_the_cache(tmp_path: Path) -> None:
    """It did, where filters were in the cache and one did not fit: 100 KB a SET with 2 million keys."""

    def bytes_read() -> int:
        lines = Path("/proc/thread-self/io").read_text().splitlines()
        return int(lines[0].removeprefix("rchar: "))

    count = 600_000
    store = RocksStateStore(tmp_path, write_buffer_bytes=64 << 20, block_cache_bytes=1 << 20)
    keys = [b"%d" % number for number in range(count)]
    store.write_down(step_of(dict.fromkeys(keys, b"v")))
    store._database.compact_range(None, None)  # Filters of the uppermost files stayed in memory even so.
    assert store.get(b"none") is None
    before = bytes_read()
    for number in range(0, count, count // 200):
        assert store.get(b"%d.5" % number) is None
    assert bytes_read() - before < 200 * (64 << 10)
    store.close()
