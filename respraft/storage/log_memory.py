"""The Raft log in memory, with a disk that can fail in the ways a disk can.

A `MemoryDisk` is what survives; a `MemoryLog` is one life of a process on it. The disk is a run of bytes,
framed and checksummed like a write-ahead log, so that a torn write is really torn:

    length u32 | crc32 u32 | MessagePack of a write          (big-endian)

What it can do to a node:

* `crash(keep)` takes away what was written and not synced, save for the first `keep` bytes: nothing of the
  last write is left, or a torn piece, or all of it although nobody was told.
* `lie(size)` takes away bytes that *were* synced. The mark finds that out.
* `before_sync`, if set, is called before each sync. It may block (a slow disk) or raise OSError (a failed
  one).
* A write in two halves, `begin_append` or `begin_install` and then `finish_append`, lets a simulator put
  time, or a crash, between.
"""

import struct
import time
import zlib
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from respraft.raft.message import Entry, Index, SnapshotPoint, Term
from respraft.raft.ready import HardState
from respraft.storage import log_record
from respraft.storage.interface import (
    DirectoryInUse,
    LogDamaged,
    LogStatus,
    LogStore,
    NodeIdentity,
    StorageFailed,
    WrongDirectory,
)
from respraft.storage.log_record import Head

_FRAME: Final = struct.Struct(">II")


class _Write(msgspec.Struct, array_like=True, frozen=True):
    """One synced write."""

    counter: int
    identity: NodeIdentity | None  # Set in the write that a start makes.
    hard_state: HardState
    entries: list[Entry]
    first_index: Index = 0  # Entries below it are cut off; 0: none.
    install: "_Install | None" = None


class _Install(msgspec.Struct, array_like=True, frozen=True):
    point: SnapshotPoint
    state_number: int
    keep_tail: bool


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Write).decode


class MemoryDisk:
    """What is left of a node when its process ends."""

    def __init__(self) -> None:
        self.before_sync: Callable[[], None] | None = None
        self.content = bytearray()
        self.synced_bytes = 0
        self.mark = 0
        self.user: MemoryLog | None = None

    def crash(self, keep: int = 0) -> None:
        """End the process that uses the disk, by power loss; of the unsynced bytes `keep` survive."""
        del self.content[self.synced_bytes + keep :]
        self.synced_bytes = len(self.content)
        if self.user is not None:
            self.user.abandon()
            self.user = None

    def unsynced_bytes(self) -> int:
        """How much a crash may take."""
        return len(self.content) - self.synced_bytes

    def lie(self, size: int) -> None:
        """Lose the last `size` bytes, synced or not."""
        del self.content[max(0, len(self.content) - size) :]
        self.synced_bytes = len(self.content)

    def sync(self) -> None:
        """Make durable what was written. Raises what `before_sync` raises."""
        if self.before_sync is not None:
            self.before_sync()
        self.synced_bytes = len(self.content)


class MemoryLog(LogStore):
    """See the module's docstring. Opened by `open_memory_log`."""

    def __init__(self, disk: MemoryDisk, node_id: int, cluster_id: str, incarnation: int) -> None:
        """Read the disk and start on it. Raises what `open_memory_log` raises."""
        self._disk = disk
        self._head = Head()
        self._entries: list[Entry] = []  # From the head's first index on.
        self._counter = 0
        self._failure: str | None = None
        self._pending: _Write | None = None
        self._fsync_count = 0
        self._fsync_ns_total = 0
        self._fsync_ns_max = 0
        self._written_bytes = 0
        known = self._replay()
        if self._counter < disk.mark:
            raise LogDamaged(f"the log ends at write {self._counter}, but write {disk.mark} was acknowledged")
        if known is None:
            self._identity = NodeIdentity(node_id, cluster_id, incarnation, 1)
        else:
            identity = log_record.next_identity(known, node_id, cluster_id)
            if identity is None:
                raise WrongDirectory(
                    f"this disk belongs to node {known.node_id} of cluster {known.cluster_id!r}, but this is "
                    f"node {node_id} of cluster {cluster_id!r}"
                )
            self._identity = identity
        self._begin(_Write(self._counter + 1, self._identity, self._head.hard_state(), []))
        self.finish_append()
        disk.user = self

    def append(self, hard_state: HardState, entries: list[Entry], *, first_index: Index = 0) -> None:
        self.begin_append(hard_state, entries, first_index=first_index)
        self.finish_append()

    def install(
        self, hard_state: HardState, point: SnapshotPoint, state_number: int, *, keep_tail: bool
    ) -> None:
        self.begin_install(hard_state, point, state_number, keep_tail=keep_tail)
        self.finish_append()

    def begin_append(self, hard_state: HardState, entries: list[Entry], *, first_index: Index = 0) -> None:
        """Write without a sync: a crash now takes it, or a part of it."""
        self._begin(_Write(self._counter + 1, None, hard_state, list(entries), first_index))

    def begin_install(
        self, hard_state: HardState, point: SnapshotPoint, state_number: int, *, keep_tail: bool
    ) -> None:
        """The same for an install."""
        install = _Install(point, state_number, keep_tail)
        self._begin(_Write(self._counter + 1, None, hard_state, [], 0, install))

    def adopt(self, node_id: int, cluster_id: str) -> None:
        log_record.check_adoption(self._head, node_id, cluster_id)
        identity = msgspec.structs.replace(self._identity, node_id=node_id, cluster_id=cluster_id)
        self._begin(_Write(self._counter + 1, identity, self._head.hard_state(), []))
        self.finish_append()
        self._identity = identity

    def finish_append(self) -> None:
        """Sync what was begun. When this returns it is durable."""
        self._check_usable()
        write = self._pending
        assert write is not None, "nothing was begun"
        begin_ns = time.perf_counter_ns()
        try:
            self._disk.sync()
        except OSError as error:
            self._fail(f"write {write.counter} to the Raft log failed: {error}", error)
        took_ns = time.perf_counter_ns() - begin_ns
        self._fsync_count += 1
        self._fsync_ns_total += took_ns
        self._fsync_ns_max = max(self._fsync_ns_max, took_ns)
        self._written_bytes += sum(len(entry.payload) for entry in write.entries)
        self._disk.mark = write.counter
        self._take(write)
        self._pending = None

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
        if index == self._head.first_index - 1:
            return self._head.base_term
        return self.entries(index, index + 1, 0)[0].term

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        self._check_usable()
        head = self._head
        assert head.first_index <= low < high <= head.last_index + 1, f"no entries {low} to {high - 1} here"
        found = self._entries[low - head.first_index : high - head.first_index]
        size = 0
        for count, entry in enumerate(found):
            size += len(entry.payload)
            if count and size > bytes_max:
                return found[:count]
        return found

    def hard_state(self) -> HardState:
        self._check_usable()
        return self._head.hard_state()

    def identity(self) -> NodeIdentity:
        return self._identity

    def status(self) -> LogStatus:
        self._check_usable()
        return LogStatus(
            first_index=self._head.first_index,
            last_index=self._head.last_index,
            size_bytes=len(self._disk.content),
            fsync_count=self._fsync_count,
            fsync_us_total=self._fsync_ns_total // 1000,
            fsync_us_max=self._fsync_ns_max // 1000,
            written_bytes=self._written_bytes,
        )

    def close(self) -> None:
        if self._disk.user is self:
            self._disk.user = None

    def abandon(self) -> None:
        """The process has crashed: whoever still holds this must not get anything done."""
        self._failure = "the process has crashed"

    def _begin(self, write: _Write) -> None:
        self._check_usable()
        assert self._pending is None, "one write at a time"
        self._head_after(write)
        body = _encode(write)
        self._disk.content += _FRAME.pack(len(body), zlib.crc32(body)) + body
        self._pending = write

    def _take(self, write: _Write) -> None:
        """Let readers see a durable write."""
        after, before = self._head_after(write), self._head
        if write.entries:
            kept = write.entries[0].index - 1
            self._head = self._head._replace(last_index=min(kept, self._head.last_index))
            del self._entries[kept + 1 - before.first_index :]
            self._entries += write.entries
        if write.install is not None and not write.install.keep_tail:
            self._entries.clear()
        del self._entries[: after.first_index - before.first_index]
        self._counter = write.counter
        self._head = after

    def _head_after(self, write: _Write) -> Head:
        """What a write makes of the head. Asserts that it may be made."""
        head, install = self._head, write.install
        if install is not None:
            point = install.point
            assert not install.keep_tail or self.term(point.index) == point.term, (
                "the log has another entry there"
            )
            return log_record.installed_head(
                head, write.hard_state, point, install.state_number, keep_tail=install.keep_tail
            )
        after = log_record.next_head(head, write.hard_state, write.entries)
        if write.first_index <= head.first_index:
            return after
        base = self.entries(write.first_index - 1, write.first_index, 0)[0]
        return log_record.cut_head(after, SnapshotPoint(base.index, base.term, base.time_ms))

    def _replay(self) -> NodeIdentity | None:
        """Take every whole write; what is behind the last one was torn, and goes."""
        content, position, identity = self._disk.content, 0, None
        while position + _FRAME.size <= len(content):
            length, crc = _FRAME.unpack_from(content, position)
            body = content[position + _FRAME.size : position + _FRAME.size + length]
            if len(body) < length or zlib.crc32(body) != crc:
                break
            write = _decode(body)
            identity = write.identity or identity
            self._take(write)
            position += _FRAME.size + length
        if self._counter >= self._disk.mark:  # Damage is refused with nothing changed.
            del content[position:]
            self._disk.synced_bytes = position
        return identity

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise StorageFailed(self._failure)

    def _fail(self, text: str, cause: Exception) -> NoReturn:
        self._failure = text
        raise StorageFailed(text) from cause


def open_memory_log(disk: MemoryDisk, node_id: int, cluster_id: str, *, incarnation: int) -> MemoryLog:
    """Start on a disk, as `log.open_log` does on a directory. A new disk gets the incarnation given.

    Raises:
        StartRefused: LogDamaged, WrongDirectory, or DirectoryInUse: the process before was neither closed
            nor has it crashed.
        StorageFailed: The sync of the start failed.
    """
    if disk.user is not None:
        raise DirectoryInUse("this disk is in use")
    return MemoryLog(disk, node_id, cluster_id, incarnation)
