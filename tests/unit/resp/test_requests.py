"""What clients send: any chunking gives the same commands; what is malformed is refused in Redis's words."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.resp.errors import ReplyError
from respraft.resp.requests import RequestLimits, RequestParser, split_inline

KIB = 1 << 10
MIB = 1 << 20
LIMITS = RequestLimits(
    arguments_max=MIB, bulk_bytes_max=64 * MIB, inline_bytes_max=64 * KIB, header_bytes_max=64 * KIB
)
# So narrow that no chunk is parsed by splitting, and wide enough for the commands of the tests.
STEP_BY_STEP = RequestLimits(
    arguments_max=1023, bulk_bytes_max=64 * MIB, inline_bytes_max=64 * KIB, header_bytes_max=64 * KIB
)

Outcome = tuple[list[list[bytes]], str | None]


def parse(pieces: Iterable[bytes], limits: RequestLimits = LIMITS) -> Outcome:
    parser = RequestParser(limits)
    commands = [command for piece in pieces for command in parser.feed(piece)]
    return commands, parser.error.text if parser.error else None


def request(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in arguments)


STREAMS: list[tuple[bytes, Outcome]] = [
    (b"", ([], None)),
    (request(b"PING"), ([[b"PING"]], None)),
    (request(b"SET", b"k", b"") * 2, ([[b"SET", b"k", b""]] * 2, None)),
    (
        request(b"SET", b"k", b"\r\n$1\r\n") + request(b"GET", b"k"),
        ([[b"SET", b"k", b"\r\n$1\r\n"], [b"GET", b"k"]], None),
    ),
    (request(b"ECHO", b"x" * 1500), ([[b"ECHO", b"x" * 1500]], None)),
    # A command inside a value stays a value.
    (request(b"SET", b"k", request(b"FLUSHALL")), ([[b"SET", b"k", request(b"FLUSHALL")]], None)),
    # The two bytes behind a value are not looked at.
    (b"*1\r\n$4\r\nPINGxy*1\r\n$4\r\nPING\r\n", ([[b"PING"]] * 2, None)),
    (b"*1\rX$4\rXPING\r\n", ([[b"PING"]], None)),
    # Empty and null arrays, and empty lines, are passed over.
    (b"*0\r\n*-1\r\n*-5\r\n\r\n  \r\n\n" + request(b"PING"), ([[b"PING"]], None)),
    (b"PING\r\nset k 'a b'\n" + request(b"PING"), ([[b"PING"], [b"set", b"k", b"a b"], [b"PING"]], None)),
    (request(b"PING") + b"PING\r\n" + request(b"PING"), ([[b"PING"]] * 3, None)),
    # Not complete.
    (request(b"PING") + b"*", ([[b"PING"]], None)),
    (request(b"PING") + b"*2\r\n$3\r\nGET\r\n$1\r\nk\r", ([[b"PING"]], None)),
    (b"PING", ([], None)),
    # Malformed. What came before is still answered.
    (request(b"PING") + b"*x\r\n", ([[b"PING"]], "Protocol error: invalid multibulk length")),
    (b"*\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*01\r\n$4\r\nPING\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*+1\r\n$4\r\nPING\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*1\n$4\r\nPING\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*1048577\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*4294967295\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*99999999999999999999\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*-9999999999999999999\r\n", ([], "Protocol error: invalid multibulk length")),
    (b"*1\r\n:4\r\n", ([], "Protocol error: expected '$', got ':'")),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", ([], "Protocol error: expected '$', got '*'")),
    (b"*1\r\n>4000000000\r\n", ([], "Protocol error: expected '$', got '>'")),
    (b"*1\r\n+PING\r\n", ([], "Protocol error: expected '$', got '+'")),
    (b"*2\r\n$3\r\nGET\r\n\r\n", ([], "Protocol error: expected '$', got '\r'")),
    (b"*1\r\n$-1\r\n", ([], "Protocol error: invalid bulk length")),
    (b"*1\r\n$04\r\nPING\r\n", ([], "Protocol error: invalid bulk length")),
    (b"*1\r\n$67108865\r\n", ([], "Protocol error: invalid bulk length")),
    (b"*1\r\n$x\r\n", ([], "Protocol error: invalid bulk length")),
    (b'PING "\r\n', ([], "Protocol error: unbalanced quotes in request")),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\nSET k v\r\n",
        ([], "Possible SECURITY ATTACK detected: HTTP on the client port"),
    ),
    (
        b"GET / HTTP/1.1\r\nhost: a\r\n",
        ([[b"GET", b"/", b"HTTP/1.1"]], "Possible SECURITY ATTACK detected: HTTP on the client port"),
    ),
]


@pytest.mark.parametrize(("stream", "outcome"), STREAMS)
def test_a_stream_parses_whole(stream: bytes, outcome: Outcome) -> None:
    assert parse([stream]) == outcome


@pytest.mark.parametrize(("stream", "outcome"), STREAMS)
def test_a_stream_parses_the_same_split_at_each_position(stream: bytes, outcome: Outcome) -> None:
    for position in range(len(stream) + 1):
        assert parse([stream[:position], stream[position:]]) == outcome, f"split at {position}"


@pytest.mark.parametrize(("stream", "outcome"), STREAMS)
def test_a_stream_parses_the_same_byte_by_byte(stream: bytes, outcome: Outcome) -> None:
    assert parse(stream[i : i + 1] for i in range(len(stream))) == outcome


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (b"*", "Protocol error: too big mbulk count string"),
        (b"*1\r\n$", "Protocol error: too big bulk count string"),
        (b"*1\r\n", "Protocol error: too big bulk count string"),
        (b"P", "Protocol error: too big inline request"),
    ],
)
def test_a_line_without_an_end_is_refused(start: bytes, text: str) -> None:
    parser = RequestParser(LIMITS)
    assert parser.feed(start) == []
    for _ in range(64):
        assert parser.error is None
        assert parser.feed(b"1" * KIB) == []
    assert parser.feed(b"1" * KIB) == []
    assert parser.error is not None
    assert parser.error.text == text
    assert parser.error.reply == ReplyError("ERR", text)
    assert parser.pending_bytes == 0


def test_the_inline_limit_does_not_depend_on_the_pieces() -> None:
    limits = RequestLimits(arguments_max=MIB, bulk_bytes_max=MIB, inline_bytes_max=6, header_bytes_max=6)
    for line, fits in ((b"PING a", True), (b"PING ab", False)):
        stream = line + b"\n"
        for position in range(len(stream) + 1):
            commands, error = parse([stream[:position], stream[position:]], limits)
            assert (commands == [line.split()]) == fits
            assert (error is None) == fits


def test_after_an_error_input_is_ignored() -> None:
    parser = RequestParser(LIMITS)
    assert parser.feed(request(b"PING") + b"*x\r\n" + request(b"PING")) == [[b"PING"]]
    assert parser.feed(request(b"PING")) == []
    assert parser.pending_bytes == 0


def test_a_browser_gets_no_answer() -> None:
    parser = RequestParser(LIMITS)
    assert parser.feed(b"POST / HTTP/1.1\r\n") == []
    assert parser.error is not None
    assert parser.error.reply is None


def test_clients_that_have_not_authenticated_are_told_so() -> None:
    limits = RequestLimits(
        arguments_max=10,
        bulk_bytes_max=16 * KIB,
        inline_bytes_max=64 * KIB,
        header_bytes_max=64 * KIB,
        authenticated=False,
    )
    assert parse([request(*[b"a"] * 10)], limits) == ([[b"a"] * 10], None)
    assert parse([b"*11\r\n"], limits) == ([], "Protocol error: unauthenticated multibulk length")
    assert parse([b"*1\r\n$16385\r\n"], limits) == ([], "Protocol error: unauthenticated bulk length")
    assert parse([b"*1\r\n$-1\r\n"], limits) == ([], "Protocol error: invalid bulk length")
    assert parse([b"*x\r\n"], limits) == ([], "Protocol error: invalid multibulk length")


def test_a_command_with_many_arguments() -> None:
    stream = request(b"PING") + request(*[b"a"] * 1025) + request(b"PING")
    for piece_bytes in (1, 7, 4096, len(stream)):
        pieces = [stream[start : start + piece_bytes] for start in range(0, len(stream), piece_bytes)]
        assert parse(pieces) == ([[b"PING"], [b"a"] * 1025, [b"PING"]], None)


def test_limits_can_change_between_two_chunks() -> None:
    parser = RequestParser(STEP_BY_STEP)
    assert parser.feed(b"*1024\r\n") == []
    assert parser.error is not None
    parser = RequestParser(STEP_BY_STEP)
    parser.limits = LIMITS
    assert parser.feed(request(*[b"a"] * 1024)) == [[b"a"] * 1024]


def test_a_large_value_in_pieces_is_held_once() -> None:
    value = bytes(range(256)) * 4 * 10 * KIB  # 10 MiB, with line ends in it.
    stream = request(b"SET", b"k", value) + request(b"PING")
    parser = RequestParser(LIMITS)
    commands: list[list[bytes]] = []
    for start in range(0, len(stream), 64 * KIB):
        commands += parser.feed(stream[start : start + 64 * KIB])
        assert parser.pending_bytes == (0 if commands else start + 64 * KIB)
    assert commands == [[b"SET", b"k", value], [b"PING"]]


@pytest.mark.parametrize("value", [b"x" * 10_000, b"\r\n" * 5_000, request(b"SET", b"k", b"v" * 3000)])
def test_a_large_value_that_comes_at_once_is_a_value_whatever_is_in_it(value: bytes) -> None:
    whole = request(b"SET", b"key", value)
    assert parse([whole]) == ([[b"SET", b"key", value]], None)
    assert parse([whole + whole]) == ([[b"SET", b"key", value]] * 2, None)
    assert parse([whole[:-1], whole[-1:]]) == ([[b"SET", b"key", value]], None)
    assert parse([whole, request(b"PING")]) == ([[b"SET", b"key", value], [b"PING"]], None)
    assert parse([request(b"ECHO", value)]) == ([[b"ECHO", value]], None)
    assert parse([request(b"SET", value, b"short")]) == ([[b"SET", value, b"short"]], None)
    assert parse([whole.replace(b"*3", b"*4", 1)])[0] == []


def test_announced_lengths_reserve_nothing() -> None:
    parser = RequestParser(LIMITS)
    assert parser.feed(b"*1048576\r\n$67108864\r\n") == []
    assert parser.error is None
    assert parser.pending_bytes == len(b"*1048576\r\n$67108864\r\n")


def test_pending_bytes_count_the_arguments_that_came() -> None:
    parser = RequestParser(LIMITS)
    stream = request(b"PING") + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab"
    assert parser.feed(stream) == [[b"PING"]]
    assert parser.pending_bytes == len(stream) - len(request(b"PING"))
    assert parser.feed(b"cde\r\n") == [[b"SET", b"k", b"abcde"]]
    assert parser.pending_bytes == 0


ARGUMENTS = st.binary(max_size=8) | st.sampled_from(
    [b"\r\n", b"\r\n$1\r\n", b"$1", b"*1\r\n", b"x" * 1030, b"x" * 2100, b"y\r\n" * 700, b"\r"]
)
COMMANDS = st.lists(st.lists(ARGUMENTS, min_size=1, max_size=5), max_size=6)


@st.composite
def mutated_streams(draw: st.DrawFn) -> bytes:
    """A stream of commands in which a few bytes were replaced, removed or put in."""
    stream = bytearray(b"".join(request(*arguments) for arguments in draw(COMMANDS)))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(stream)))
        removed = draw(st.integers(0, 3))
        stream[position : position + removed] = draw(
            st.sampled_from(
                [b"", b"\r\n", b"*", b"$", b"0", b"9", b"-", b"+1\r\n", b"*0\r\n", b"PING\r\n", b"\xff"]
            )
        )
    return bytes(stream)


@given(COMMANDS, st.lists(st.integers(0, 400), max_size=4))
def test_what_a_client_library_writes_is_read_back(commands: list[list[bytes]], cuts: list[int]) -> None:
    stream = b"".join(request(*arguments) for arguments in commands)
    assert parse(pieces_of(stream, cuts)) == (commands, None)


@given(mutated_streams(), st.lists(st.integers(0, 400), max_size=4))
@settings(max_examples=1000)
def test_both_parsers_agree(stream: bytes, cuts: list[int]) -> None:
    expected = parse([stream], STEP_BY_STEP)
    assert parse([stream]) == expected
    assert parse(pieces_of(stream, cuts)) == expected
    assert parse((stream[i : i + 1] for i in range(len(stream))), STEP_BY_STEP) == expected


@given(st.binary(max_size=60))
def test_no_input_raises(stream: bytes) -> None:
    assert parse([stream]) == parse(stream[i : i + 1] for i in range(len(stream)))
    assert parse([b"*" + stream]) == parse([b"*", stream])


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b" \t\v\f ", []),
        (b"  set  k\tv ", [b"set", b"k", b"v"]),
        (b"k\v ", [b"k\v"]),
        (b'"a b" c', [b"a b", b"c"]),
        (b"''", [b""]),
        (b'""', [b""]),
        (b'a"b c"', [b"ab c"]),
        (b"a'b c' d", [b"ab c", b"d"]),
        (rb'"\n\r\t\b\a\\\"\q\x41\xZ1"', [b'\n\r\t\b\a\\"qAxZ1']),
        (rb"'\n\'\q'", [rb"\n'\q"]),
        (rb"'\\'", None),
        (rb"a\n", [rb"a\n"]),
        (b'"a"b', None),
        (b"'a'b", None),
        (b'"a', None),
        (b"'a", None),
        (b'a"', None),
        (b'"a\\', None),
        (b"'a\\'", None),
        (b'"a"\vb', [b"a", b"b"]),
        (b"\xff\x00 b", [b"\xff\x00", b"b"]),
    ],
)
def test_inline_words(line: bytes, words: list[bytes] | None) -> None:
    assert split_inline(line) == words
