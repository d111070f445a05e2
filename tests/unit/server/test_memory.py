"""Large pieces of memory go back to the kernel, where glibc would keep them among small ones that stay."""

import subprocess
import sys
from typing import Final

import pytest

from respraft.server.memory import MMAP_BYTES

PIECES: Final = 64

CHILD: Final = f"""
import resource
from respraft.server.memory import limit_allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

assert {{limit}} and limit_allocator() or not {{limit}}
size = {2 * MMAP_BYTES}
for place in range({PIECES}):
    bytes(size)  # Where glibc learns that such sizes come and go,
before = resident()
large, small = [], []
for place in range({PIECES}):
    large.append(b"x" * size)
    small.append(b"y" * 100_000)  # and what stays lies between them.
del large
print(resident() - before)
"""


def kept(*, limit: bool) -> int:
    """Bytes that a process still has when its large pieces are freed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(limit=limit)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's")
def test_what_was_large_is_given_back() -> None:
    total = PIECES * 2 * MMAP_BYTES
    assert kept(limit=False) > total // 2, "the allocator gives it back by itself: this module is not needed"
    assert kept(limit=True) < total // 10
