"""The mark: which write of the log was the last one that somebody may have been told of.

    magic "rspM" | write counter u64 | crc32 u32 of the two          (16 bytes, big-endian)

RocksDB takes what it cannot read at the end of its write-ahead log for a write that was torn by a crash,
and drops it; so do some flipped bits in the middle, with everything behind them. It cannot know better. The
mark does: it says, in a file of its own, how far the log had got when the last write was
acknowledged. A log that ends before it has lost something.

It is written after each sync of the log and is itself not synced. Hence it is never ahead of the log: after
a crash of the process it is exact, after power loss it may be some seconds old, and then a torn tail is
just not told from a lost one that far back. Sixteen bytes within one sector are not torn.

Only once it is synced, at each start: a mark of 0 on disk means that no start was ever completed.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final

_MAGIC: Final = b"rspM"
_FIELDS: Final = struct.Struct(">4sQ")
_CRC: Final = struct.Struct(">I")
MARK_BYTES: Final = _FIELDS.size + _CRC.size


class MarkUnreadable(Exception):
    """The file holds no mark: it was damaged, cut or replaced."""


def read_mark(path: Path) -> int | None:
    """The counter in the mark file; None if there is no such file.

    Raises:
        MarkUnreadable: There is one, but its content is no mark.
        OSError: It could not be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) != MARK_BYTES:
        raise MarkUnreadable(f"it is {len(content)} bytes long and should be {MARK_BYTES}")
    magic, counter = _FIELDS.unpack_from(content)
    if magic != _MAGIC or _CRC.unpack_from(content, _FIELDS.size)[0] != zlib.crc32(content[: _FIELDS.size]):
        raise MarkUnreadable("its checksum is wrong")
    assert isinstance(counter, int)
    return counter


class Mark:
    """An open mark file. Written by the disk thread only."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create one that says 0. Raises OSError.

        A new one gets its name when its content is durable, so a crash leaves no empty one. The name itself
        is the caller's to make durable.
        """
        if path.exists():
            self._descriptor = os.open(path, os.O_RDWR)
            return
        unnamed = path.with_name(path.name + ".new")
        self._descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self.write(0)
        self.sync()
        unnamed.rename(path)

    def write(self, counter: int) -> None:
        """Note that this write is durable in the log. Raises OSError."""
        fields = _FIELDS.pack(_MAGIC, counter)
        os.pwrite(self._descriptor, fields + _CRC.pack(zlib.crc32(fields)), 0)

    def sync(self) -> None:
        """Make the mark itself durable. Raises OSError."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
