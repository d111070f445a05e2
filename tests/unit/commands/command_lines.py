"""Made-up sequences of commands: few keys, awkward values, options in any order, right and wrong.

Numbers are chosen so that no reply depends on when a command runs: what expires does so in a day or more,
or at once; and so that no valid command builds a string of more than a few bytes. DBSIZE is left out, as
Redis counts a key that was set with a deadline in the past.
"""

from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Words = SearchStrategy[list[bytes]]


def _one_of(text: bytes) -> SearchStrategy[bytes]:
    return st.sampled_from(text.split(b" "))


KEY_NAMES: Final = (b"a", b"b", b"c", b"", b"\x00\xff\r\n")
KEY: Final = st.sampled_from(KEY_NAMES)
INTEGER: Final = _one_of(
    b"0 1 -1 2 5 -3 10 01 +1 x 1.5  9223372036854775807 9223372036854775808 -9223372036854775808 "
    b"-9223372036854775809"
)
FLOAT: Final = st.sampled_from(
    [
        b"0.1",
        b"-0.2",
        b"3.0e3",
        b"1e-17",
        b"1e-18",
        b"1e4932",
        b"-1e4932",
        b"inf",
        b"nan",
        b"0x1p-4",
        b".",
        b"",
    ]
)
VALUE: Final = st.one_of(st.binary(max_size=8), INTEGER, FLOAT)
OFFSET: Final = st.sampled_from([b"0", b"1", b"3", b"9", b"-1", b"536870912", b"9223372036854775807", b"x"])
TTL: Final = st.sampled_from([b"86400", b"172800", b"864000000", b"0", b"-1", b"9223372036854775807", b"x"])
MOMENT: Final = st.sampled_from([b"4102444800", b"4102444800123", b"1", b"0", b"-7", b"9223372036854775807"])
# Milliseconds that are all days away or past.
TTL_MS: Final = st.sampled_from([b"86400000", b"172800000", b"0", b"-1", b"9223372036854775807", b""])
MOMENT_MS: Final = st.sampled_from([b"4102444800123", b"4102444900499", b"1", b"9223372036854775807", b"1x"])


def _line(*words: bytes | SearchStrategy[bytes]) -> Words:
    parts = [st.just(word) if isinstance(word, bytes) else word for word in words]
    return st.tuples(*parts).map(list)


def _joined(*parts: Words) -> Words:
    return st.tuples(*parts).map(lambda lists: [word for words in lists for word in words])


def _options(*choices: Words, most: int = 3) -> Words:
    return st.lists(st.one_of(*choices), max_size=most).map(
        lambda lists: [word for words in lists for word in words]
    )


_TIME: Final = st.one_of(
    _line(_one_of(b"EX ex"), TTL),
    _line(b"PX", TTL_MS),
    _line(b"EXAT", MOMENT),
    _line(b"PXAT", MOMENT_MS),
    _line(_one_of(b"EX PX EXAT PXAT")),
)
_SET_OPTIONS: Final = _options(_line(_one_of(b"NX XX GET KEEPTTL nx get keepttl PERSIST")), _TIME)
_GETEX_OPTIONS: Final = _options(_line(_one_of(b"PERSIST persist KEEPTTL")), _TIME, most=2)
# GT and LT between two relative times would depend on how long a command takes.
_EXPIRE_OPTIONS: Final = _options(_line(_one_of(b"NX XX nx xx FOO")), most=2)
_EXPIREAT_OPTIONS: Final = _options(_line(_one_of(b"NX XX GT LT nx gt")), most=2)
_COPY_OPTIONS: Final = _options(_line(b"REPLACE"), _line(b"DB", _one_of(b"0 1 16 -1 x")), _line(b"DB"))
_KEYS: Final = st.lists(KEY, min_size=1, max_size=4)
_PAIRS: Final = st.lists(st.tuples(KEY, VALUE).map(list), min_size=1, max_size=3).map(
    lambda pairs: [word for pair in pairs for word in pair]
)
_PATTERN: Final = st.text(alphabet="ab*?[]^-\\", max_size=6).map(str.encode)

COMMAND_LINE: Final = st.one_of(
    _line(b"SET", KEY, VALUE),
    _joined(_line(b"SET", KEY, VALUE), _SET_OPTIONS),
    _line(_one_of(b"GET GETDEL STRLEN INCR DECR TYPE PERSIST"), KEY),
    _line(_one_of(b"TTL PTTL EXPIRETIME PEXPIRETIME"), KEY),
    _joined(_line(b"GETEX", KEY), _GETEX_OPTIONS),
    _line(_one_of(b"SETNX GETSET APPEND"), KEY, VALUE),
    _line(b"SETEX", KEY, TTL, VALUE),
    _line(b"PSETEX", KEY, TTL_MS, VALUE),
    _joined(_line(_one_of(b"MSET MSETNX")), _PAIRS),
    _joined(_line(_one_of(b"MGET DEL UNLINK EXISTS TOUCH")), _KEYS),
    _line(_one_of(b"GETRANGE SUBSTR"), KEY, INTEGER, INTEGER),
    _line(b"SETRANGE", KEY, OFFSET, st.binary(max_size=4).filter(bool)),
    _line(b"SETRANGE", KEY, OFFSET, b""),
    _line(_one_of(b"INCRBY DECRBY"), KEY, INTEGER),
    _line(b"INCRBYFLOAT", KEY, st.one_of(FLOAT, INTEGER)),
    _joined(_line(b"EXPIRE", KEY, TTL), _EXPIRE_OPTIONS),
    _joined(_line(b"PEXPIRE", KEY, TTL_MS), _EXPIRE_OPTIONS),
    _joined(_line(b"EXPIREAT", KEY, MOMENT), _EXPIREAT_OPTIONS),
    _joined(_line(b"PEXPIREAT", KEY, MOMENT_MS), _EXPIREAT_OPTIONS),
    _line(_one_of(b"RENAME RENAMENX"), KEY, KEY),
    _joined(_line(b"COPY", KEY, KEY), _COPY_OPTIONS),
    _line(b"KEYS", _PATTERN),
    _line(b"SCAN", b"0", b"COUNT", b"1000", b"MATCH", _PATTERN),
    _line(b"SELECT", _one_of(b"0 1 16 x")),
    _line(_one_of(b"FLUSHDB FLUSHALL")),
    _line(_one_of(b"get SET sEtNx mset keys copy nosuch Client")),
)
COMMAND_LINES: Final = st.lists(COMMAND_LINE, min_size=1, max_size=40)

STATE: Final = [[command, key] for key in KEY_NAMES for command in (b"GET", b"PEXPIRETIME")] + [
    [b"KEYS", b"*"]
]
"""Commands that show all that a sequence left behind."""
