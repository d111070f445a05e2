"""Glob patterns: the same answers as Redis's own function, without its time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.commands.glob import PATTERN_BYTES_MAX, STEPS_MAX, compile_glob
from respraft.resp.errors import ReplyError

LETTERS = "ab*?[]^-\\"


def stringmatchlen(pattern: bytes, key: bytes) -> bool:
    """Redis's function of that name, step by step, recursion included."""
    while pattern and key:
        if pattern[:1] == b"*":
            while pattern[1:2] == b"*":
                pattern = pattern[1:]
            return len(pattern) == 1 or any(stringmatchlen(pattern[1:], key[at:]) for at in range(len(key)))
        if pattern[:1] == b"[":
            matches, pattern = _class(pattern[1:], key[0])
        elif pattern[:1] == b"\\" and len(pattern) >= 2:
            pattern = pattern[1:]
            matches = pattern[0] == key[0]
        else:
            matches = pattern[:1] == b"?" or pattern[0] == key[0]
        if not matches:
            return False
        pattern, key = pattern[1:], key[1:]
        if not key:
            pattern = pattern.lstrip(b"*")
    return not pattern and not key


def _class(pattern: bytes, byte: int) -> tuple[bool, bytes]:
    """Match a class; return what is left of the pattern, from the `]` on."""
    negated = pattern[:1] == b"^"
    pattern = pattern[negated:]
    matches = False
    while pattern and pattern[:1] != b"]":
        if pattern[:1] == b"\\" and len(pattern) >= 2:
            pattern = pattern[1:]
            matches = matches or pattern[0] == byte
        elif len(pattern) >= 3 and pattern[1:2] == b"-":
            matches = matches or min(pattern[0], pattern[2]) <= byte <= max(pattern[0], pattern[2])
            pattern = pattern[2:]
        else:
            matches = matches or pattern[0] == byte
        pattern = pattern[1:]
    return matches != negated, pattern


@given(st.text(LETTERS, max_size=12).map(str.encode), st.text(LETTERS, max_size=8).map(str.encode))
@settings(max_examples=3000)
def test_same_as_redis(pattern: bytes, key: bytes) -> None:
    if pattern != b"*":  # Redis does not call its function for that one.
        assert compile_glob(pattern)(key) == stringmatchlen(pattern, key)


@given(st.binary(max_size=8), st.binary(max_size=8))
@settings(max_examples=1000)
def test_any_bytes(pattern: bytes, key: bytes) -> None:
    if pattern != b"*":
        assert compile_glob(pattern)(key) == stringmatchlen(pattern, key)


@pytest.mark.parametrize("key", [b"", b"a", b"\n", b"\xff"])
def test_a_star_matches_everything(key: bytes) -> None:
    assert compile_glob(b"*")(key)


def test_an_escaped_pattern_matches_itself_only() -> None:
    key = bytes(range(256))
    matches = compile_glob(b"".join(b"\\" + bytes((byte,)) for byte in key))
    assert matches(key)
    assert not matches(key[::-1])


@pytest.mark.parametrize(
    "pattern", [b"*a" * 1000 + b"b", b"a*" * 1000 + b"b", b"*?" * 1000 + b"b", b"*[a-b]" * 500 + b"c"]
)
def test_many_stars_do_not_take_exponential_time(pattern: bytes) -> None:
    # A plain translation would not come back within the age of the universe.
    assert not compile_glob(pattern)(b"a" * 2000)


def test_a_pattern_may_not_be_too_long() -> None:
    compile_glob(b"a" * PATTERN_BYTES_MAX)
    with pytest.raises(ReplyError, match="pattern is longer than"):
        compile_glob(b"a" * (PATTERN_BYTES_MAX + 1))


def test_steps_are_counted_over_all_keys() -> None:
    piece = 1 << 13
    matches = compile_glob(b"*" + b"a" * piece + b"*")
    key = b"b" * (1 << 12)
    for _ in range(STEPS_MAX // (piece * len(key))):
        assert not matches(key)
    with pytest.raises(ReplyError, match="too many steps"):
        matches(key)


def test_usual_patterns_are_good_for_as_many_keys_as_a_read_may_touch() -> None:
    matches = compile_glob(b"user:*:profile?[0-9]*")
    key = b"user:1234567890:profile_77:something-longer-than-most"
    assert all(matches(key) for _ in range(250_000))
