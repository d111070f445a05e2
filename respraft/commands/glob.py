"""Redis's glob patterns: `*` `?` `[a-z]` `[^a-z]` and `\\` before what is meant literally.

A pattern is compiled once per command and matched against many keys, so it becomes a regular expression,
built such that a client cannot make it slow: each `*` with what follows it up to the next `*` is an atomic
group. That group takes the earliest place where it fits and never tries another, which is all that a glob
needs, and so a match takes at most as many steps as the key is long, times the length of the longest piece
between two stars; a plain translation takes len(key) to the power of the number of stars. `STEPS_MAX` bounds
the sum of these products.

Oddities of Redis's `stringmatchlen` that are kept: a class without its `]` ends where the pattern ends;
`[a-]` is a range up to `]`; a range may be given backwards; no pattern but the empty one matches the
empty key (KEYS * and SCAN MATCH * match it, because Redis does not compare at all then). Not kept: on
machines whose `char` is signed, Redis orders bytes above 127 below the others in ranges.
"""

import re
from collections.abc import Callable
from typing import Final

from respraft.resp.errors import ReplyError

PATTERN_BYTES_MAX: Final = 16 * 1024
"""Longest pattern: compiling one of this length takes some 20 ms."""

STEPS_MAX: Final = 1 << 29
"""Most steps that one compiled pattern may be good for: 0.7 s at worst, during which a node does nothing
else. Patterns and keys as people use them need a small part of that for as many keys as a read may touch."""

_STAR: Final = ord("*")
_ANY: Final = ord("?")
_OPEN: Final = ord("[")
_CLOSE: Final = ord("]")
_RANGE: Final = ord("-")
_ESCAPE: Final = ord("\\")
_NEVER: Final = b"(?!)"


def compile_glob(pattern: bytes) -> Callable[[bytes], bool]:
    """Return a function that tells whether a key matches; it is for one command and counts its steps.

    Raises:
        ReplyError: The pattern is too long. The function raises it once STEPS_MAX are spent.
    """
    if pattern == b"*":
        return _always
    if len(pattern) > PATTERN_BYTES_MAX:
        raise ReplyError("ERR", f"pattern is longer than {PATTERN_BYTES_MAX} bytes")
    if not pattern:
        return _is_empty
    segments = _segments(pattern)
    fullmatch = re.compile(_to_expression(segments), re.DOTALL).fullmatch
    # What comes before the first star is tried at one place only.
    steps_per_byte = max([1, *map(len, segments[1:])])
    steps_left = STEPS_MAX

    def matches(key: bytes) -> bool:
        nonlocal steps_left
        steps_left -= len(key) * steps_per_byte
        if steps_left < 0:
            raise ReplyError("ERR", "pattern takes too many steps on the keys of this database")
        return bool(key) and fullmatch(key) is not None

    return matches


def _always(_key: bytes) -> bool:
    return True


def _is_empty(key: bytes) -> bool:
    return not key


def _to_expression(segments: list[list[bytes]]) -> bytes:
    """Return a regular expression for `fullmatch`."""
    head, *rest = (b"".join(segment) for segment in segments)
    if not rest:
        return head
    *middle, tail = rest
    # The last segment must end where the key ends, so it is the one that may not settle for its earliest
    # place. It is tried at most once at each place, so the bound on the steps holds for it as well.
    return head + b"".join(b"(?>.*?%b)" % segment for segment in middle) + b".*" + tail


def _segments(pattern: bytes) -> list[list[bytes]]:
    """Translate what lies between the stars: lists of expressions that match one byte each."""
    segments: list[list[bytes]] = [[]]
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == _STAR:
            if segments[-1] or len(segments) == 1:  # A run of stars is one star.
                segments.append([])
        elif byte == _ANY:
            segments[-1].append(b".")
        elif byte == _OPEN:
            expression, at = _class(pattern, at)
            segments[-1].append(expression)
        else:
            if byte == _ESCAPE and at < len(pattern):
                byte = pattern[at]
                at += 1
            segments[-1].append(re.escape(bytes((byte,))))
    return segments


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Translate a class whose `[` lies before `at`; return its expression and where it ends."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at] != _CLOSE:
        if pattern[at] == _ESCAPE and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif at + 2 < len(pattern) and pattern[at + 1] == _RANGE:
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    if not members:
        return (b"." if negated else _NEVER), at + 1
    return b"[%b%b]" % (b"^" if negated else b"", _ranges(members)), at + 1


def _ranges(members: set[int]) -> bytes:
    """List bytes as ranges, so that the expression is never much longer than the pattern was."""
    ranges: list[tuple[int, int]] = []
    for member in sorted(members):
        if ranges and ranges[-1][1] == member - 1:
            ranges[-1] = (ranges[-1][0], member)
        else:
            ranges.append((member, member))
    return b"".join(b"\\x%02x-\\x%02x" % bounds for bounds in ranges)
