"""Each kind of reply has exactly one form in RESP2 and one in RESP3."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from respraft.resp import errors
from respraft.resp.replies import (
    NULL_ARRAY,
    OK,
    PONG,
    QUEUED,
    RESP2,
    RESP3,
    Push,
    Reply,
    SetReply,
    SimpleString,
    Verbatim,
    encode,
    encode_all,
)


@pytest.mark.parametrize(
    ("reply", "resp2", "resp3"),
    [
        (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
        (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
        (b"x" * 1023, b"$1023\r\n" + b"x" * 1023 + b"\r\n", b"$1023\r\n" + b"x" * 1023 + b"\r\n"),
        (b"x" * 1024, b"$1024\r\n" + b"x" * 1024 + b"\r\n", b"$1024\r\n" + b"x" * 1024 + b"\r\n"),
        (0, b":0\r\n", b":0\r\n"),
        (-(1 << 63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (3.0, b"$1\r\n3\r\n", b",3\r\n"),
        (0.1, b"$19\r\n0.10000000000000001\r\n", b",0.10000000000000001\r\n"),
        (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
        (float("-inf"), b"$4\r\n-inf\r\n", b",-inf\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ([b"a", 1, None], b"*3\r\n$1\r\na\r\n:1\r\n$-1\r\n", b"*3\r\n$1\r\na\r\n:1\r\n_\r\n"),
        ((b"a", [OK]), b"*2\r\n$1\r\na\r\n*1\r\n+OK\r\n", b"*2\r\n$1\r\na\r\n*1\r\n+OK\r\n"),
        (
            {b"a": 1, b"b": []},
            b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*0\r\n",
            b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*0\r\n",
        ),
        (SetReply([b"a"]), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
        (Push([b"message", 1]), b"*2\r\n$7\r\nmessage\r\n:1\r\n", b">2\r\n$7\r\nmessage\r\n:1\r\n"),
        (Verbatim("txt", b"hello"), b"$5\r\nhello\r\n", b"=9\r\ntxt:hello\r\n"),
        (OK, b"+OK\r\n", b"+OK\r\n"),
        (QUEUED, b"+QUEUED\r\n", b"+QUEUED\r\n"),
        (PONG, b"+PONG\r\n", b"+PONG\r\n"),
        (SimpleString("string"), b"+string\r\n", b"+string\r\n"),
        (errors.no_leader(), b"-CLUSTERDOWN No raft leader\r\n", b"-CLUSTERDOWN No raft leader\r\n"),
        ([errors.syntax_error()], b"*1\r\n-ERR syntax error\r\n", b"*1\r\n-ERR syntax error\r\n"),
    ],
)
def test_one_form_per_protocol(reply: Reply, resp2: bytes, resp3: bytes) -> None:
    assert encode(reply, RESP2) == resp2
    assert encode(reply, RESP3) == resp3


def test_replies_follow_each_other() -> None:
    assert encode_all([b"a", OK, 1, None], RESP2) == b"$1\r\na\r\n+OK\r\n:1\r\n$-1\r\n"
    assert encode_all([], RESP2) == b""


def test_an_error_that_quotes_line_breaks_stays_one_line() -> None:
    error = errors.unknown_command(b"a\r\n-ERR forged", [b"\xff"])
    assert encode(error, RESP2) == (
        b"-ERR unknown command 'a  -ERR forged', with args beginning with: '\xff' \r\n"
    )


def test_text_is_no_reply() -> None:
    with pytest.raises(KeyError):
        encode("text", RESP2)  # type: ignore[arg-type]


@given(
    st.recursive(
        st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=40),
        lambda items: st.lists(items, max_size=4) | st.dictionaries(st.binary(max_size=5), items, max_size=3),
        max_leaves=12,
    )
)
def test_a_client_library_reads_what_was_meant(reply: Reply) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(reply, RESP3))
    assert reader.gets() == reply
    assert not reader.has_data()
