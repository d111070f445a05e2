"""What a process that is a server and nothing else does about memory: garbage collector and allocator."""

import ctypes
import gc
from typing import Final

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Batches make many short-lived objects and no cycles; collecting every 700 of them finds nothing."""

MMAP_BYTES: Final = 1 << 20
"""Allocations of this size are the kernel's, and go back to it when freed: RocksDB's memtables above all.
Left to itself glibc raises that limit up to 32 MiB, with each larger one that is freed, and keeps what comes
after: 60 MB of a node with a million keys."""

TRIM_BYTES: Final = 8 << 20
"""What is free at the heap's end goes back when it is so much. Left to itself that limit follows the other
one; where that is set it is 128 KiB, and large batches get and return the same pages each turn."""

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3


def limit_allocator() -> bool:
    """Have glibc give large pieces of memory back; call it first. Elsewhere, say on musl, do nothing.

    Returns:
        Whether that could be done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done: int = mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES) & mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)
    return done == 1


def quiet_garbage_collector() -> None:
    """What is alive now stays alive: it need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
