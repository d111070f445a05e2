"""Looks through RocksDB's record files for the one kind of damage on which RocksDB never returns.

Write-ahead logs and MANIFESTs have one format: blocks of 32 KiB that hold records

    crc32c u32 | length u16 | type u8 | data                (little-endian)

of types 1 to 4 (whole, first, middle, last), 0 being space not yet written. The types that are listed below
belong to files that are reused ("recycled"), which the log never has. If a flipped bit makes such a type out
of another, RocksDB as rocksdict 0.3.29 brings it reads that record again and again, for ever (compare
facebook/rocksdb#13333): the node would hang at its start, at full speed and without a word. So
types are looked at before it opens anything. Everything else that can be wrong with a record it finds itself.
"""

import mmap
import struct
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 32 * 1024
_HEADER_BYTES: Final = 7
_LENGTH_AND_TYPE: Final = struct.Struct("<HB")
_RECYCLED_TYPES: Final = frozenset({5, 6, 7, 8, 11, 131})


def find_recycled_record(directory: Path) -> tuple[Path, int] | None:
    """The first record of a type that cannot be there: its file and offset. None: there is none.

    Raises OSError.
    """
    for path in sorted(directory.iterdir()):
        if path.suffix == ".log" or path.name.startswith("MANIFEST-"):
            offset = _scan(path)
            if offset is not None:
                return path, offset
    return None


def _scan(path: Path) -> int | None:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return None  # Cannot be mapped.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _scan_blocks(content, len(content))


def _scan_blocks(content: mmap.mmap, size: int) -> int | None:
    unpack = _LENGTH_AND_TYPE.unpack_from
    position = 0
    while position + _HEADER_BYTES <= size:
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left >= _HEADER_BYTES:
            length, kind = unpack(content, position + 4)
            if kind in _RECYCLED_TYPES:
                return position
            if kind != 0 and _HEADER_BYTES + length <= left:
                position += _HEADER_BYTES + length
                continue
        # The rest of a block: too small for a record, never written, or a length that leads nowhere.
        position += left
    return None
