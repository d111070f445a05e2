"""A large write in pieces, with a mark that tells half of it from a whole one.

    {mark} and the ranges to clear | some records | some more | ... | {no mark}

Whoever carries the pieces out makes one atomic step of them, unless something goes wrong. The mark is for
that: what goes down first is the mark, and what goes down last takes it away, so that half a step is known by
it at the next start, whichever half. It would hold newer records under an older applied index, and what the
log brings back then would count twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

HALF_WAY: Final = b"\0half"
"""The mark: a key that is there while a write is under way in pieces. No other key begins so."""

PUTS_AT_ONCE: Final = 256
"""Puts before other threads are given the interpreter's lock, about 0.3 ms: neither rocksdict's `write` nor a
compiled loop gives it up by itself."""

BYTES_AT_ONCE: Final = 256 << 10
"""Larger write batches are pages that the kernel has to give and clear anew each time (`server/memory.py`):
with 256 values of 10 KB that was a fifth of a follower's work."""

Rows: TypeAlias = tuple[Sequence[bytes], Sequence[bytes | None]]
"""Keys, and as many values; None deletes."""


@dataclass(slots=True)
class Step:
    """What is to become of a state store in one atomic step. Made on the way: to be carried out once."""

    rows: Iterator[Rows]
    """New values. No key comes twice."""
    cleared: Sequence[tuple[bytes, bytes]]
    """Ranges (low, past the end) that are emptied before that."""
    count: int
    """How many rows there are, or half as many where values lie in rows of their own,"""
    size: int
    """and how many bytes all their keys and values have, at most."""


Piece: TypeAlias = tuple[Sequence[bytes], Sequence[bytes | None], Sequence[tuple[bytes, bytes]]]
"""Keys, values, and ranges that are emptied before, as of one write."""


def in_pieces(step: Step, at_once: int) -> Iterator[Piece]:
    """Yield a step in pieces of up to `at_once` rows, in the order in which they are to be made.

    A piece of several rows has no more than `BYTES_AT_ONCE`.
    """
    yield (HALF_WAY,), (b"",), step.cleared
    for keys, values in step.rows:
        start = size = 0
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            row = len(key) + len(value or b"")
            if place > start and (place - start == at_once or size + row > BYTES_AT_ONCE):
                yield keys[start:place], values[start:place], ()
                start, size = place, 0
            size += row
        if start < len(keys):
            yield keys[start:], values[start:], ()
    yield (HALF_WAY,), (None,), ()
