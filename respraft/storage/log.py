"""The Raft log in RocksDB: every write synced, and damage refused rather than cut off.

A write is one atomic batch (`log_record.py` says of what) and returns when three things have happened, in
this order: RocksDB has synced its write-ahead log, the mark (`mark.py`) says so, the fields that
readers look at have moved. Whoever is told of the write is told after that.

Entries that are cut off below, and the log that an installed state replaces, go in such a batch as well, as
one deleted range; their space comes back later (`log_reclaim.py`).

How a log is opened (`open_log`), with nothing changed on disk before the last step:

1. The directory is locked. Record files are looked through for what RocksDB would choke on.
2. RocksDB opens it *read-only*, which replays its write-ahead log and writes nothing. Recovery mode
   `tolerate_corrupted_tail_records`: what is unreadable anywhere but at the end is an error. (The default
   mode drops synced writes behind a flipped bit without a word. This mode does so for some bits, too.)
3. The write counter is compared with the mark: a log that ends before it has lost something.
4. Every entry is read: checksum, index, term, and that it follows the one before.
5. RocksDB opens it for writing. The start counter goes up, durably.

A mark that is missing beside a log is refused as well. The log may be whole, but a directory in which one
file is missing may lack others (a copy that went wrong), and the mark is what would tell.
"""

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
from rocksdict import Rdict, WriteBatch

from respraft.raft.message import Entry, Index, SnapshotPoint, Term
from respraft.raft.ready import HardState
from respraft.storage import log_record
from respraft.storage.directory import DataDirectory, make_directory, sync_directory
from respraft.storage.interface import LogStatus, LogStore, NodeIdentity, StorageFailed, WrongDirectory
from respraft.storage.log_check import check_log, is_new
from respraft.storage.log_damage import refusal_of
from respraft.storage.log_options import log_options
from respraft.storage.log_reclaim import Reclaimer
from respraft.storage.log_record import Found, Head, RecordDamaged
from respraft.storage.mark import Mark
from respraft.storage.opening import open_database


class RocksLog(LogStore):
    """See the module's docstring. Opened by `open_log`."""

    def __init__(
        self,
        directory: DataDirectory,
        database: Rdict,
        mark: Mark,
        found: Found,
        identity: NodeIdentity,
        last_crc: int,
    ) -> None:
        """Take over what `open_log` has opened and checked."""
        self._directory = directory
        self._database = database
        self._mark = mark
        self._identity = identity
        self._head = found.head  # One reference, so that readers see it change as a whole.
        self._counter = found.counter
        self._last_crc = last_crc  # Of the record at the head's last index. For the writing thread only.
        self._failure: str | None = None
        self._closed = False
        self._reclaimer = Reclaimer(database)
        self._fsync_count = 0
        self._fsync_ns_total = 0
        self._fsync_ns_max = 0
        self._written_bytes = 0

    # Writing: the disk thread

    def append(self, hard_state: HardState, entries: list[Entry], *, first_index: Index = 0) -> None:
        self._check_usable()
        head = self._head
        after = log_record.next_head(head, hard_state, entries)
        batch = WriteBatch(raw_mode=True)
        if first_index > head.first_index:
            after = log_record.cut_head(after, self._point(first_index - 1))
            batch.delete_range(log_record.entry_key(head.first_index), log_record.entry_key(first_index))
        crc, size = self._last_crc, 0
        if entries:
            if entries[0].index <= head.last_index:
                crc = self._give_up_tail(entries[0].index)
                for index in range(after.last_index + 1, head.last_index + 1):
                    batch.delete(log_record.entry_key(index))
            for entry in entries:
                record, crc = log_record.encode_entry(entry, crc)
                batch.put(log_record.entry_key(entry.index), record)
                size += len(record)
        batch.put(log_record.KEY_HEAD, log_record.encode_head(after))
        self._write(batch)
        self._last_crc = crc
        self._written_bytes += size
        self._head = after
        if after.first_index != head.first_index:
            self._reclaimer.reclaim(after)

    def install(
        self, hard_state: HardState, point: SnapshotPoint, state_number: int, *, keep_tail: bool
    ) -> None:
        self._check_usable()
        head = self._head
        after = log_record.installed_head(head, hard_state, point, state_number, keep_tail=keep_tail)
        assert not keep_tail or self.term(point.index) == point.term, "the log has another entry there"
        removed = point.index if keep_tail else head.last_index
        batch = WriteBatch(raw_mode=True)
        if removed >= head.first_index:
            batch.delete_range(log_record.entry_key(head.first_index), log_record.entry_key(removed + 1))
        batch.put(log_record.KEY_HEAD, log_record.encode_head(after))
        self._write(batch)
        if not keep_tail:
            self._last_crc = 0
        self._head = after
        self._reclaimer.reclaim(after)

    def _point(self, index: Index) -> SnapshotPoint:
        entry = self.entries(index, index + 1, 0)[0]
        return SnapshotPoint(index, entry.term, entry.time_ms)

    def _give_up_tail(self, index: Index) -> int:
        """Let readers no longer see what is being replaced; return the checksum to go on from."""
        head = self._head
        crc, term = 0, head.base_term
        if index > head.first_index:
            try:
                record = self._database.get(log_record.entry_key(index - 1)) or b""
                term = log_record.decode_entry(record, index - 1).term
            except Exception as error:
                self._fail(f"entry {index - 1} in {self._directory.raft} cannot be read: {error}", error)
            crc = log_record.record_crc(record)
        self._head = head._replace(last_index=index - 1, last_term=term)
        return crc

    def _write(self, batch: WriteBatch) -> None:
        """Write, sync, and note in the mark that it was done."""
        counter = self._counter + 1
        batch.put(log_record.KEY_COUNTER, log_record.encode_counter(counter))
        begin_ns = time.perf_counter_ns()
        try:
            # In two steps: rocksdict keeps the interpreter locked in a synced write, so that the event loop
            # would wait for the disk, and gives the lock up where it only syncs. A crash between the two is
            # one before: nobody was told of the write.
            self._database.write(batch)
            self._database.flush_wal(sync=True)
            self._mark.write(counter)
        except Exception as error:
            self._fail(f"write {counter} to the Raft log in {self._directory.raft} failed: {error}", error)
        took_ns = time.perf_counter_ns() - begin_ns
        self._counter = counter
        self._fsync_count += 1
        self._fsync_ns_total += took_ns
        self._fsync_ns_max = max(self._fsync_ns_max, took_ns)

    def adopt(self, node_id: int, cluster_id: str) -> None:
        self._check_usable()
        log_record.check_adoption(self._head, node_id, cluster_id)
        identity = msgspec.structs.replace(self._identity, node_id=node_id, cluster_id=cluster_id)
        batch = WriteBatch(raw_mode=True)
        batch.put(log_record.KEY_IDENTITY, log_record.encode_identity(identity))
        self._write(batch)
        self._identity = identity

    def start(self) -> None:
        """Make the identity durable, and the mark: the end of `open_log`."""
        assert self._counter == 0 or self._database.get(log_record.KEY_COUNTER) == log_record.encode_counter(
            self._counter
        ), "opened for writing, RocksDB has another log than it showed when it was opened for reading"
        batch = WriteBatch(raw_mode=True)
        batch.put(log_record.KEY_IDENTITY, log_record.encode_identity(self._identity))
        batch.put(log_record.KEY_HEAD, log_record.encode_head(self._head))
        self._write(batch)
        try:
            self._mark.sync()
        except OSError as error:
            self._fail(f"the mark of the log, {self._directory.mark}, cannot be synced: {error}", error)
        self._reclaimer.reclaim(self._head)  # A crash may have come before it was done.

    # Reading: any thread

    def first_index(self) -> Index:
        self._check_usable()
        return self._head.first_index

    def last_index(self) -> Index:
        self._check_usable()
        return self._head.last_index

    def base(self) -> SnapshotPoint:
        self._check_usable()
        return self._head.base()

    def state_number(self) -> int:
        self._check_usable()
        return self._head.state_number

    def term(self, index: Index) -> Term:
        self._check_usable()
        head = self._head
        if index == head.last_index:
            return head.last_term
        if index == head.first_index - 1:
            return head.base_term
        return self.entries(index, index + 1, 0)[0].term

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        self._check_usable()
        head = self._head
        assert head.first_index <= low < high <= head.last_index + 1, f"no entries {low} to {high - 1} here"
        try:
            return self._read(low, high, bytes_max)
        except Exception as error:
            self._fail(f"entries from {low} on in {self._directory.raft} cannot be read: {error}", error)

    def _read(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        found: list[Entry] = []
        size, index = 0, low
        for record in self._database.values(from_key=log_record.entry_key(low)):
            entry = log_record.decode_entry(record, index)
            size += len(entry.payload)
            if found and size > bytes_max:
                return found
            found.append(entry)
            index += 1
            if index == high:
                return found
        # An iterator of rocksdict ends at an error as it does at the end. A get says what it was.
        self._database.get(log_record.entry_key(index))
        raise RecordDamaged(f"entry {index} is missing", key=log_record.entry_key(index))

    def hard_state(self) -> HardState:
        self._check_usable()
        return self._head.hard_state()

    def identity(self) -> NodeIdentity:
        return self._identity

    def status(self) -> LogStatus:
        self._check_usable()
        head, database = self._head, self._database
        size_bytes = sum(
            database.property_int_value(name) or 0
            for name in ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        )
        return LogStatus(
            first_index=head.first_index,
            last_index=head.last_index,
            size_bytes=size_bytes,
            fsync_count=self._fsync_count,
            fsync_us_total=self._fsync_ns_total // 1000,
            fsync_us_max=self._fsync_ns_max // 1000,
            written_bytes=self._written_bytes,
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._reclaimer.close()
        # After a failed write RocksDB may complain once more. What is on disk is the next start's to see.
        with contextlib.suppress(Exception) if self._failure else contextlib.nullcontext():
            self._database.close()
        self._mark.close()
        self._directory.close()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise StorageFailed(self._failure)

    def _fail(self, text: str, cause: Exception | None) -> NoReturn:
        self._failure = text
        raise StorageFailed(text) from cause


def new_incarnation() -> int:
    """63 random bits; never 0, which means "not known"."""
    return secrets.randbits(63) or 1


def open_log(
    path: Path,
    node_id: int,
    cluster_id: str,
    *,
    replaces: int = 0,
    incarnation: Callable[[], int] = new_incarnation,
) -> RocksLog:
    """Open the Raft log of the data directory `path`, or create both. Holds the directory until closed.

    Args:
        path: The data directory, not the log's own in it.
        node_id: The directory must belong to this node, or have come in its place; a new one does from now
            on. 0: any; a new one has no id yet.
        cluster_id: The same for the cluster.
        replaces: The id in whose place a new directory comes; see `NodeIdentity`.
        incarnation: Where a new directory gets its incarnation from.

    Raises:
        StartRefused: LogDamaged, WrongDirectory or DirectoryInUse, with a text for the operator.
        StorageFailed: The disk gave out, or the directory cannot be created or read.
    """
    directory = DataDirectory(path)
    try:
        found, last_crc = Found(Head(), 0, None), 0
        if not is_new(directory):
            found, last_crc = check_log(directory)
        if found.identity is None:
            identity = NodeIdentity(node_id, cluster_id, incarnation(), 1, replaces)
        else:
            identity = _next_identity(directory, found.identity, node_id, cluster_id)
        log = _open_for_writing(directory, found, identity, last_crc)
    except OSError as error:
        directory.close()
        raise StorageFailed(f"data directory {directory.path}: {error}") from error
    except BaseException:
        directory.close()
        raise
    try:
        log.start()
    except BaseException:
        log.close()
        raise
    return log


def _next_identity(
    directory: DataDirectory, known: NodeIdentity, node_id: int, cluster_id: str
) -> NodeIdentity:
    """The identity of this start. Raises WrongDirectory."""
    identity = log_record.next_identity(known, node_id, cluster_id)
    if identity is None:
        raise WrongDirectory(
            f"data directory {directory.path} belongs to node {known.node_id} of cluster "
            f"{known.cluster_id!r}, but this is node {node_id} of cluster {cluster_id!r}. Nothing was "
            f"changed. Correct node.data_dir, node.id or cluster.id in the configuration"
        )
    return identity


def _open_for_writing(
    directory: DataDirectory, found: Found, identity: NodeIdentity, last_crc: int
) -> RocksLog:
    """The first step that writes. Raises LogDamaged, StorageFailed or OSError."""
    mark = Mark(directory.mark)
    try:
        # The mark's name is durable before there is a log, so that a log without one is never the work of
        # a crash.
        sync_directory(directory.path)
        make_directory(directory.raft)
        options = log_options()
        options.create_if_missing(found.identity is None)
        try:
            database = open_database(directory.raft, options)
        except Exception as error:
            raise refusal_of(directory, error) from error
        return RocksLog(directory, database, mark, found, identity, last_crc)
    except BaseException:
        mark.close()
        raise
