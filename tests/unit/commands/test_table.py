"""The command table: rows that agree with themselves, lookups, refusals, and what COMMAND says.

The facts in the rows are compared with Redis's own in test_differential.py.
"""

import pytest

from respraft.commands.documentation import command_docs, command_info, syntax
from respraft.commands.spec import ACL_CATEGORIES, LOCAL, NO_KEYS, READ, WRITE, CommandSpec, keys_of
from respraft.commands.table import COMMANDS, KEYSPACE, lookup
from respraft.resp.errors import ReplyError
from respraft.resp.replies import RESP2, RESP3, encode

ROWS = [row for spec in COMMANDS for row in (spec, *spec.subcommands)]


def row(name: str) -> CommandSpec:
    spec = KEYSPACE.named(name.encode())
    assert spec is not None
    return spec


@pytest.mark.parametrize("spec", ROWS, ids=lambda spec: spec.full_name)
def test_a_row_agrees_with_itself(spec: CommandSpec) -> None:
    assert spec.name == spec.name.upper()
    assert (spec.kind is READ) == ("readonly" in spec.flags)
    assert (spec.kind is WRITE) == ("write" in spec.flags)
    assert (spec.function is None) == (spec.kind is LOCAL) or spec.name in (b"PING", b"ECHO")
    assert (spec.keys == NO_KEYS) == (not spec.access)
    assert set(spec.categories) <= set(ACL_CATEGORIES)
    assert spec.words_min <= spec.words_max
    for text in (spec.summary, spec.since, spec.group, spec.complexity):
        assert text
    for protocol in (RESP2, RESP3):
        assert encode([command_info(spec), command_docs(spec)], protocol)


def test_names_are_given_once() -> None:
    assert len({spec.name for spec in ROWS}) == len(ROWS)
    assert len(KEYSPACE.by_name) == 2 * len(COMMANDS)


@pytest.mark.parametrize("name", [b"GET", b"get", b"Get", b"gEt"])
def test_any_case_is_looked_up(name: bytes) -> None:
    assert lookup(name) is KEYSPACE.by_name[b"GET"]


@pytest.mark.parametrize("name", [b"", b"GETX", b"client|kill", b"\xff"])
def test_what_is_no_command_is_not_found(name: bytes) -> None:
    assert lookup(name) is None


@pytest.mark.parametrize("name", [b"client|kill", b"CLIENT|KILL", b"Client|Kill"])
def test_subcommands_have_full_names(name: bytes) -> None:
    spec = KEYSPACE.named(name)
    assert spec is not None
    assert spec.name == b"CLIENT|KILL"
    assert KEYSPACE.named(b"client|nosuch") is None


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("GET k", b"GET"),
        ("set k v", b"SET"),
        ("Set k v EX 1 NX", b"SET"),
        ("COMMAND", b"COMMAND"),
        ("command docs get", b"COMMAND|DOCS"),
        ("CLIENT SetName x", b"CLIENT|SETNAME"),
        ("RAFT status", b"RAFT|STATUS"),
        ("raft.status", b"RAFT.STATUS"),
    ],
)
def test_check_returns_the_row(words: str, name: bytes) -> None:
    spec = KEYSPACE.check(words.encode().split())
    assert isinstance(spec, CommandSpec)
    assert spec.name == name


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("foo a b", "unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("foo", "unknown command 'foo', with args beginning with: "),
        ("client|id", "unknown command 'client|id', with args beginning with: "),
        ("CLIENT x y", "unknown subcommand 'x'. Try CLIENT HELP."),
        ("raft x", "unknown subcommand 'x'. Try RAFT HELP."),
        ("GET", "wrong number of arguments for 'get' command"),
        ("GET a b", "wrong number of arguments for 'get' command"),
        ("SET a", "wrong number of arguments for 'set' command"),
        ("CLIENT", "wrong number of arguments for 'client' command"),
        ("CLIENT SETNAME", "wrong number of arguments for 'client|setname' command"),
        ("RAFT STATUS x", "wrong number of arguments for 'raft|status' command"),
        ("RAFT.STATUS x", "wrong number of arguments for 'raft.status' command"),
    ],
)
def test_check_refuses(words: str, text: str) -> None:
    assert KEYSPACE.check(words.encode().split()) == ReplyError("ERR", text)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("GET k", "k"),
        ("SET k v EX 10", "k"),
        ("MGET a b c", "a b c"),
        ("MSET a 1 b 2", "a b"),
        ("DEL a", "a"),
        ("RENAME a b", "a b"),
        ("COPY a b DB 1", "a b"),
        ("DBSIZE", ""),
        ("SCAN 0", ""),
        ("PING x", ""),
    ],
)
def test_keys_of(words: str, keys: str) -> None:
    args = words.encode().split()
    spec = lookup(args[0])
    assert spec is not None
    assert keys_of(spec, args) == keys.encode().split()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("get", "GET key"),
        ("mset", "MSET key value [key value ...]"),
        ("del", "DEL key [key ...]"),
        (
            "set",
            "SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
            "PXAT unix-time-milliseconds | KEEPTTL]",
        ),
        ("copy", "COPY source destination [DB destination-db] [REPLACE]"),
        ("info", "INFO [section [section ...]]"),
        ("client|no-evict", "CLIENT NO-EVICT ON | OFF"),
        ("raft.status", "RAFT.STATUS"),
    ],
)
def test_syntax(name: str, text: str) -> None:
    assert syntax(row(name)) == text


def test_docs_name_the_subcommands() -> None:
    docs = command_docs(row("raft"))
    assert list(docs[b"subcommands"]) == [
        b"raft|cluster",
        b"raft|help",
        b"raft|leader",
        b"raft|node",
        b"raft|server",
        b"raft|snapshot",
        b"raft|status",
        b"raft|transfer_leader",
    ]
    assert docs[b"group"] == b"raft"


def test_docs_of_a_deprecated_command() -> None:
    docs = command_docs(row("substr"))
    assert docs[b"deprecated_since"] == b"2.0.0"
    assert docs[b"replaced_by"] == b"`GETRANGE`"
