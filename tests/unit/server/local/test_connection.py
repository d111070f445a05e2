"""PING, ECHO, HELLO, SELECT, READONLY, READWRITE, QUIT, RESET and TIME."""

import pytest

from respraft.resp.errors import ReplyError
from tests.unit.server.local.fakes import FakeServer

HELLO_RESP2 = (
    b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n"
    b"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
)


def test_ping_and_echo() -> None:
    server = FakeServer()
    assert server.wire(b"PING") == b"+PONG\r\n"
    assert server.wire(b"ping hello") == b"$5\r\nhello\r\n"
    assert server.wire(b"ECHO hello") == b"$5\r\nhello\r\n"


def test_hello_tells_what_redis_tells() -> None:
    server = FakeServer()
    assert server.wire(b"HELLO") == HELLO_RESP2
    assert server.wire(b"HELLO 2") == HELLO_RESP2


def test_hello_switches_the_protocol_for_its_own_reply() -> None:
    server = FakeServer()
    assert server.wire(b"HELLO 3").startswith(b"%7\r\n")
    assert server.wire(b"HELLO").startswith(b"%7\r\n"), "without a version the protocol stays"
    assert server.wire(b"HELLO 2 SETNAME bob") == HELLO_RESP2
    assert server.caller.name == b"bob"


@pytest.mark.parametrize("line", [b"AUTH secret", b"AUTH default secret"])
def test_who_sends_a_password_learns_that_there_is_none(line: bytes) -> None:
    assert str(FakeServer().run(line)) == (
        "ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?"
    )


def test_other_users_are_not_known() -> None:
    server = FakeServer()
    refused = "WRONGPASS invalid username-password pair or user is disabled."
    assert str(server.run(b"AUTH bob secret")) == refused
    assert str(server.run(b"AUTH a b c")) == "ERR syntax error"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"HELLO 4", "NOPROTO unsupported protocol version"),
        (b"HELLO 1", "NOPROTO unsupported protocol version"),
        (b"HELLO x", "ERR Protocol version is not an integer or out of range"),
        (b"HELLO 3 foo", "ERR Syntax error in HELLO option 'foo'"),
        (b"HELLO 3 f\0oo", "ERR Syntax error in HELLO option 'f'"),
        (b"HELLO 3 AUTH a", "ERR Syntax error in HELLO option 'AUTH'"),
        (b"HELLO 3 SETNAME bob SETNAME", "ERR Syntax error in HELLO option 'SETNAME'"),
        (
            b"HELLO 3 AUTH default secret",
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?",
        ),
        (b"HELLO 3 AUTH a b", "WRONGPASS invalid username-password pair or user is disabled."),
        (
            b"HELLO 3 SETNAME a\xff",
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ),
    ],
)
def test_hello_refused_changes_nothing(line: bytes, error: str) -> None:
    server = FakeServer()
    assert str(server.run(line)) == error
    assert server.caller.protocol == 2
    assert server.caller.name == b""


def test_select() -> None:
    server = FakeServer()
    assert server.wire(b"SELECT 15") == b"+OK\r\n"
    assert server.caller.database == 15
    for line, error in (
        (b"SELECT 16", "DB index is out of range"),
        (b"SELECT -1", "DB index is out of range"),
        (
            b"SELECT 2147483648",
            "value is out of range, value must between -2147483648 and 2147483647",
        ),
        (b"SELECT x", "value is not an integer or out of range"),
        (b"SELECT 01", "value is not an integer or out of range"),
    ):
        assert server.run(line) == ReplyError("ERR", error)
    assert server.caller.database == 15


def test_quit_answers_before_it_closes() -> None:
    server = FakeServer()
    assert server.wire(b"QUIT now") == b"+OK\r\n"
    assert server.caller.closes


def test_reset_forgets_everything_but_the_library() -> None:
    server = FakeServer()
    for line in (
        b"HELLO 3 SETNAME bob",
        b"SELECT 3",
        b"CLIENT SETINFO LIB-NAME redis-py",
        b"CLIENT NO-EVICT ON",
        b"CLIENT NO-TOUCH ON",
        b"CLIENT REPLY OFF",
    ):
        server.run(line)
    assert server.wire(b"RESET") == b"+RESET\r\n"
    caller = server.caller
    assert (caller.protocol, caller.database, caller.name) == (2, 0, b"")
    assert (caller.no_evict, caller.no_touch, caller.reply_mode) == (False, False, "on")
    assert caller.lib_name == b"redis-py"


def test_reset_says_nothing_where_a_skip_is_for_it() -> None:
    server = FakeServer()
    server.run(b"CLIENT REPLY SKIP")
    server.run(b"RESET")
    assert server.caller.reply_mode == "skip"


def test_time_is_the_time_that_reads_see() -> None:
    assert FakeServer().run(b"TIME") == [b"1700000000", b"123000"]


def test_readonly_and_back() -> None:
    server = FakeServer()
    assert server.wire(b"READONLY") == b"+OK\r\n"
    assert server.caller.stale_reads
    assert b" flags=r " in server.wire(b"CLIENT INFO")
    assert server.wire(b"READWRITE") == b"+OK\r\n"
    assert b" flags=N " in server.wire(b"CLIENT INFO")


def test_reset_ends_readonly() -> None:
    server = FakeServer()
    server.run(b"READONLY")
    server.run(b"RESET")
    assert b" flags=N " in server.wire(b"CLIENT INFO")
