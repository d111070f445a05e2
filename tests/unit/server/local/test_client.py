"""CLIENT: what connections say of themselves, and what they can do to each other."""

import pytest

from respraft.resp.replies import OK, Verbatim
from respraft.server.local.view import NO_REPLY
from tests.unit.server.local.fakes import FakeServer


def lines_of(reply: object) -> list[dict[str, str]]:
    """CLIENT LIST as clients parse it."""
    assert isinstance(reply, Verbatim)
    assert reply.text == b"" or reply.text.endswith(b"\n")
    return [
        dict(field.split("=", 1) for field in line.split(" ")) for line in reply.text.decode().splitlines()
    ]


def test_id_and_names() -> None:
    server = FakeServer()
    assert server.run(b"CLIENT ID") == 1
    assert server.run(b"CLIENT GETNAME") is None
    assert server.run(b"CLIENT SETNAME worker-1") is OK
    assert server.run(b"CLIENT GETNAME") == b"worker-1"
    assert server.run_words([b"CLIENT", b"SETNAME", b""]) is OK
    assert server.run(b"CLIENT GETNAME") is None


@pytest.mark.parametrize("word", [b"a b", b"a\n", b"\x7f", b"\xc3\xa4", b"\0"])
def test_a_name_that_would_break_client_list_is_refused(word: bytes) -> None:
    server = FakeServer()
    refusal = "cannot contain spaces, newlines or special characters."
    assert str(server.run_words([b"CLIENT", b"SETNAME", word])) == f"ERR Client names {refusal}"
    assert str(server.run_words([b"CLIENT", b"SETINFO", b"LIB-NAME", word])) == f"ERR lib-name {refusal}"
    assert str(server.run_words([b"CLIENT", b"SETINFO", b"LIB-VER", word])) == f"ERR lib-ver {refusal}"
    assert server.caller.name == server.caller.lib_name == server.caller.lib_version == b""


def test_setinfo_shows_in_info() -> None:
    server = FakeServer()
    assert server.run(b"CLIENT SETINFO lib-name redis-py") is OK
    assert server.run(b"CLIENT SETINFO LIB-VER 5.0") is OK
    (line,) = lines_of(server.run(b"CLIENT INFO"))
    assert (line["lib-name"], line["lib-ver"]) == ("redis-py", "5.0")
    assert str(server.run(b"CLIENT SETINFO LIB x")) == "ERR Unrecognized option 'LIB'"


def test_info_is_a_line_in_the_form_of_redis() -> None:
    server = FakeServer()
    caller = server.caller
    caller.name, caller.database, caller.protocol = b"bob", 3, 3
    caller.created_ms, caller.last_active_ms = 30_000.0, 90_499.0
    caller.query_bytes, caller.output_bytes, caller.commands_total = 10, 20, 5
    reply = server.run(b"CLIENT INFO")
    assert reply == Verbatim(
        "txt",
        b"id=1 addr=127.0.0.1:50001 laddr=127.0.0.1:7001 fd=-1 name=bob age=60 idle=0 flags=N db=3 sub=0 "
        b"psub=0 ssub=0 multi=-1 qbuf=10 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=20 "
        b"tot-mem=30 events=r cmd=client|info user=default redir=-1 resp=3 lib-name= lib-ver= tot-cmds=5\n",
    )


def test_list_shows_all_in_order_or_those_asked_for() -> None:
    server = FakeServer()
    server.connections[1].last_command = b"GET"
    server.connections[2].last_command = b"evil\nid=9 "
    lines = lines_of(server.run(b"CLIENT LIST"))
    assert [line["id"] for line in lines] == ["1", "2", "3"]
    assert [line["cmd"] for line in lines] == ["client|list", "get", "NULL"]
    assert [line["id"] for line in lines_of(server.run(b"CLIENT LIST ID 3 1 99"))] == ["3", "1"]
    assert [line["id"] for line in lines_of(server.run(b"CLIENT LIST ID 2 0 -1 2"))] == ["2", "2"]
    assert len(lines_of(server.run(b"CLIENT LIST TYPE normal"))) == 3
    assert lines_of(server.run(b"CLIENT LIST TYPE pubsub")) == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"CLIENT LIST TYPE foo", "ERR Unknown client type 'foo'"),
        (b"CLIENT LIST ID 1 x", "ERR Invalid client ID"),
        (b"CLIENT LIST ID", "ERR syntax error"),
        (b"CLIENT LIST TYPE", "ERR syntax error"),
        (b"CLIENT LIST foo", "ERR syntax error"),
        (b"CLIENT KILL 1.2.3.4:5", "ERR No such client"),
        (b"CLIENT KILL ID", "ERR No such client"),
        (b"CLIENT KILL ID x", "ERR client-id should be greater than 0"),
        (b"CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
        (b"CLIENT KILL TYPE foo", "ERR Unknown client type 'foo'"),
        (b"CLIENT KILL USER foo", "ERR No such user 'foo'"),
        (b"CLIENT KILL SKIPME x", "ERR syntax error"),
        (b"CLIENT KILL MAXAGE 5", "ERR syntax error"),
        (b"CLIENT KILL ID 1 TYPE", "ERR syntax error"),
        (b"CLIENT KILL USER foo TYPE", "ERR No such user 'foo'"),
        (b"CLIENT KILL USER a\0b SKIPME no", "ERR No such user 'a'"),
        (b"CLIENT REPLY foo", "ERR syntax error"),
        (b"CLIENT NO-EVICT foo", "ERR syntax error"),
        (b"CLIENT NO-TOUCH foo", "ERR syntax error"),
    ],
)
def test_wrong_options_are_refused_as_redis_does(line: bytes, error: str) -> None:
    server = FakeServer()
    assert str(server.run(line)) == error
    assert server.killed == []


@pytest.mark.parametrize(
    ("line", "killed", "caller_closes"),
    [
        (b"CLIENT KILL ID 2", [2], False),
        (b"CLIENT KILL ID 1", [], False),
        (b"CLIENT KILL ID 1 SKIPME no", [], True),
        (b"CLIENT KILL ID 99", [], False),
        (b"CLIENT KILL ADDR 127.0.0.1:50003", [3], False),
        (b"CLIENT KILL ADDR 127.0.0.1:50003 ID 2", [], False),
        (b"CLIENT KILL LADDR 127.0.0.1:7001", [2, 3], False),
        (b"CLIENT KILL LADDR 127.0.0.1:9", [], False),
        (b"CLIENT KILL TYPE normal", [2, 3], False),
        (b"CLIENT KILL TYPE pubsub", [], False),
        (b"CLIENT KILL USER default SKIPME no", [2, 3], True),
        (b"CLIENT KILL SKIPME yes TYPE normal", [2, 3], False),
        (b"CLIENT KILL ID 2 ID 3", [3], False),
    ],
)
def test_kill_takes_those_that_pass_all_filters(line: bytes, killed: list[int], caller_closes: bool) -> None:
    server = FakeServer()
    assert server.run(line) == len(killed) + caller_closes
    assert server.killed == killed
    assert server.caller.closes == caller_closes


def test_kill_in_its_old_form_may_hit_the_caller() -> None:
    server = FakeServer()
    assert server.run(b"CLIENT KILL 127.0.0.1:50002") is OK
    assert server.run(b"CLIENT KILL 127.0.0.1:50001") is OK
    assert server.killed == [2]
    assert server.caller.closes


def test_flags() -> None:
    server = FakeServer()
    assert server.run(b"CLIENT NO-EVICT on") is OK
    assert lines_of(server.run(b"CLIENT INFO"))[0]["flags"] == "e"
    assert server.run(b"CLIENT NO-TOUCH ON") is OK
    assert lines_of(server.run(b"CLIENT INFO"))[0]["flags"] == "eT"
    server.run(b"CLIENT NO-EVICT OFF")
    server.run(b"CLIENT NO-TOUCH OFF")
    assert lines_of(server.run(b"CLIENT INFO"))[0]["flags"] == "N"


def test_reply_modes() -> None:
    server = FakeServer()
    assert server.run(b"CLIENT REPLY SKIP") is NO_REPLY
    assert server.caller.reply_mode == "skip"
    assert server.run(b"CLIENT REPLY OFF") is NO_REPLY
    assert server.caller.reply_mode == "off"
    assert server.run(b"CLIENT REPLY SKIP") is NO_REPLY
    assert server.caller.reply_mode == "off", "skipping one reply must not turn the others on"
    assert server.run(b"CLIENT REPLY ON") is OK
    assert server.caller.reply_mode == "on"
