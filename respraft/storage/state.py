"""The state store in RocksDB, without RocksDB's write-ahead log.

What is tuned, and why (microseconds a key, 100-byte values, batches of 50 puts, 1,000,000 keys):

* A memtable is a skip list, and memory that was not touched lately is what makes it slow: a put costs 1.0
  in one of 8 MiB, 1.4 in one of 16, 2.4 in one of 64. What comes here was gathered (`generation.py`), and
  is flushed at once: a memtable holds what was gathered, some 14 MiB, and never fills up.
* `Rdict.write` keeps the interpreter locked, 0.1 to 0.3 s for 92,000 records: a large write goes in pieces.
  They are one atomic step all the same: they are all that the memtable holds, it has room for twice as much,
  and nobody flushes before the last of them. A memtable becomes one file, which counts whole or not at all.
  Should RocksDB flush half of one after all (it does so by itself when a full disk has room again), and a
  crash come before the rest, then the first piece has left a mark, which the last one removes (`pieces.py`):
  the state is refused at the next start.
* A get of a key that does not exist searched the whole skip list, 3.5; a bloom filter over whole keys in the
  memtable makes that 0.3, and every first SET of a key asks just that. Files have bloom filters as well.
* Iterators carry an upper bound: without it, one that reaches the end of a database would walk through
  whatever was deleted behind it. (What rocksdict 0.3.29 calls the lower bound sets the upper one.)

Iterators of rocksdict that look like Python's (`items`, `keys`) end at a damaged block as if it were the end
of the data. So the loops here are written out, and ask for the status when there is no more to come.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from respraft.storage.give_way import give_way
from respraft.storage.interface import StartRefused, StorageFailed
from respraft.storage.log_scan import find_recycled_record
from respraft.storage.opening import open_database
from respraft.storage.pieces import BYTES_AT_ONCE, HALF_WAY, PUTS_AT_ONCE, Step, in_pieces
from respraft.storage.state_interface import StateStore

MEMTABLES: Final = 2
"""One being filled, one on its way to a file."""

ARENA_BLOCK_BYTES: Final = 1 << 20
"""What a memtable takes at a time."""

FILES_TO_COMPACT: Final = 12
"""Flushed files that gather before they are merged into the level below. With 8, merging values of 10 KB was
a third of all work, and a fourth less was done; 16 are no better and take more room."""

FILES_TO_SLOW_DOWN: Final = 24
FILES_TO_STOP: Final = 40
"""Where RocksDB slows writes down, and stops them, because compaction is behind."""

BLOOM_BITS: Final = 10
"""Bits a key in the filters of files: one get in a hundred of a key that is not there reads a block."""

BLOCK_BYTES: Final = 4 << 10
"""What is read at once, about. RocksDB's default."""

MEMTABLE_BLOOM_BYTES: Final = 160 << 10
"""The filter of a memtable, enough for 130,000 keys."""

OPEN_FILES_MAX: Final = 512
"""Descriptors the database may hold. Each costs the memory of an index and a filter, 1.3 MB for 64 MiB."""

BACKGROUND_JOBS: Final = 2
"""Threads that flush and compact. Nodes share their machine with others."""

RECORD_OVERHEAD_BYTES: Final = 100
"""What a record takes in a memtable besides key and value, at most: about 40."""

INFO_LOGS_MAX: Final = 2
"""RocksDB's own text logs that are kept."""


class RocksStateStore(StateStore):
    """One RocksDB database with one column family: flushing several at once would not be atomic."""

    def __init__(self, path: Path, *, write_buffer_bytes: int, block_cache_bytes: int) -> None:
        """Open the database in directory `path`, or create it.

        Raises:
            StorageFailed: It could not be opened; the text is RocksDB's.
            StartRefused: A file is damaged in the one way that RocksDB does not survive, or there is half a
                write.
        """
        _refuse_damage(path)
        self._write_buffer_bytes = write_buffer_bytes
        self._half_way = False
        self._write_options = WriteOptions()
        # A property, whatever the type stubs say.
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]
        try:
            self._database = open_database(path, _options(write_buffer_bytes, block_cache_bytes))
        except Exception as error:
            raise StorageFailed(f"state database {path}: {error}") from error
        if self.get(HALF_WAY) is not None:
            self._database.close()
            raise StartRefused(
                f"the state database {path} holds half a write: the disk was full, and the node crashed "
                "just after it had room again. Nothing was changed. `respraft repair --rejoin --config FILE` "
                "gives this copy up and brings the node back as a new member"
            )

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:
            raise StorageFailed(f"state database: read: {error}") from error
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        try:
            values = self._database.get(cast(Any, keys))
        except Exception as error:
            raise StorageFailed(f"state database: read: {error}") from error
        return cast(list[bytes | None], values)

    def iterate(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return _rows(self._seek(low, high), high)

    def keys(self, low: bytes, high: bytes) -> Iterator[bytes]:
        return _keys(self._seek(low, high), high)

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._write(puts, puts.values(), cleared)

    def _write(
        self,
        keys: Iterable[bytes],
        values: Iterable[bytes | None],
        cleared: Sequence[tuple[bytes, bytes]],
    ) -> None:
        batch = WriteBatch(raw_mode=True)
        for low, high in cleared:
            batch.delete_range(low, high)
        put = batch.put
        for key, value in zip(keys, values, strict=True):
            if value is None:
                batch.delete(key)
            else:
                put(key, value)
        try:
            self._database.write(batch, self._write_options)
        except Exception as error:
            raise StorageFailed(f"state database: write: {error}") from error

    def write_down(self, step: Step) -> None:
        memory = RECORD_OVERHEAD_BYTES * step.count + step.size
        small = step.count <= PUTS_AT_ONCE and step.size <= BYTES_AT_ONCE
        if small or memory > self._write_buffer_bytes // 2:
            keys: list[bytes] = []
            values: list[bytes | None] = []
            for more_keys, more_values in step.rows:
                keys += more_keys
                values += more_values
            self._write(keys, values, step.cleared)
        else:
            self.flush()  # Nothing else in the memtable: what comes is in one file, if it is in any.
            self._write_in_pieces(step)
        self.flush()

    def _write_in_pieces(self, step: Step) -> None:
        self._half_way = True
        for keys, values, cleared in in_pieces(step, PUTS_AT_ONCE):
            self._write(keys, values, cleared)
            give_way()
        self._half_way = False

    def flush(self) -> None:
        try:
            self._database.flush(wait=True)
        except Exception as error:
            raise StorageFailed(f"state database: flush: {error}") from error

    def checkpoint(self, path: Path) -> None:
        # It would flush by itself, but with the interpreter locked; so there is next to nothing left to do.
        self.flush()
        try:
            Checkpoint(self._database).create_checkpoint(str(path))
        except Exception as error:
            raise OSError(f"checkpoint {path}: {error}") from error

    def close(self) -> None:
        if self._half_way:
            return  # It would flush half a write. What is not closed is as after a crash.
        self.flush()
        self._database.close()

    def _seek(self, low: bytes, high: bytes) -> RdictIter:
        options = ReadOptions()
        options.set_iterate_upper_bound(high)
        try:
            place = self._database.iter(options)
            place.seek(low)
        except Exception as error:
            raise StorageFailed(f"state database: seek: {error}") from error
        return place


def _refuse_damage(path: Path) -> None:
    """Look for the damage at which RocksDB would hang (`log_scan.py`)."""
    try:
        found = find_recycled_record(path) if path.is_dir() else None
    except OSError as error:
        raise StorageFailed(f"state database {path}: {error}") from error
    if found is not None:
        damaged, offset = found
        raise StartRefused(
            f"the state database is damaged: {damaged} at byte {offset}. Nothing was changed. `respraft "
            "repair --rejoin --config FILE` gives this copy up and brings the node back as a new member"
        )


def _options(write_buffer_bytes: int, block_cache_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(write_buffer_bytes)
    options.set_arena_block_size(ARENA_BLOCK_BYTES)
    options.set_max_write_buffer_number(MEMTABLES)
    options.set_level_zero_file_num_compaction_trigger(FILES_TO_COMPACT)
    options.set_level_zero_slowdown_writes_trigger(FILES_TO_SLOW_DOWN)
    options.set_level_zero_stop_writes_trigger(FILES_TO_STOP)
    options.set_memtable_prefix_bloom_ratio(min(MEMTABLE_BLOOM_BYTES / write_buffer_bytes, 0.1))
    options.set_memtable_whole_key_filtering(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(BACKGROUND_JOBS)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_keep_log_file_num(INFO_LOGS_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    tables = BlockBasedOptions()
    # Not RocksDB's default cache: that divides itself into shards of half a MiB, and keeps nothing that is
    # larger than a shard.
    tables.set_block_cache(Cache.new_hyper_clock_cache(block_cache_bytes, BLOCK_BYTES))
    tables.set_block_size(BLOCK_BYTES)
    tables.set_bloom_filter(BLOOM_BITS, False)
    # Index and filter of a file stay in memory while it is open, 2.5 B a key. In the cache they are pieces of
    # up to 0.7 MB: once some do not fit, each get reads one of them anew.
    tables.set_cache_index_and_filter_blocks(False)
    options.set_block_based_table_factory(tables)
    return options


# RocksDB reads the upper bound where Python keeps it. The iterators below hold it only so that it is there as
# long as they are: without that, an iteration ends wherever the memory's next content says.


def _rows(place: RdictIter, high: bytes) -> Iterator[tuple[bytes, bytes]]:
    while place.valid():
        yield place.key(), place.value()
        place.next()
    _check(place)


def _keys(place: RdictIter, high: bytes) -> Iterator[bytes]:
    while place.valid():
        yield place.key()
        place.next()
    _check(place)


def _check(place: RdictIter) -> None:
    try:
        place.status()
    except Exception as error:
        raise StorageFailed(f"state database: iteration: {error}") from error
