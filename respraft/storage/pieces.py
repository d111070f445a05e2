"""A large write in pieces, with a mark that tells half of it from a whole one.

    {mark} and the ranges to clear | some records | some more | ... | {no mark}

Whoever carries the pieces out makes one atomic step of them, unless something goes wrong. The mark is for
that: what goes down first is the mark, and what goes down last takes it away, so that half a step is known by
it at the next start, whichever half. It would hold newer records under an older applied index, and what the
log brings back then would count twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

HALF_WAY: Final = b"\0half"
"""The mark: a key that is there while a write is under way in pieces. No other key begins so."""

Piece = tuple[Mapping[bytes, bytes | None], Sequence[tuple[bytes, bytes]]]
"""Puts and cleared ranges, as of one write of a state store."""


def in_pieces(
    puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]], at_once: int
) -> Iterator[Piece]:
    """Yield a write in pieces of up to `at_once` puts, in the order in which they are to be made."""
    yield {HALF_WAY: b""}, cleared
    rest = iter(puts.items())
    while piece := dict(islice(rest, at_once)):
        yield piece, ()
    yield {HALF_WAY: None}, ()
