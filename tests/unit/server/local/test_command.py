"""COMMAND: the command table as clients read it."""

import pytest

from respraft.commands.table import COMMANDS
from tests.unit.server.local.fakes import FakeServer


def test_all_commands_are_counted_and_listed_alike() -> None:
    server = FakeServer()
    everything = server.run(b"COMMAND")
    assert isinstance(everything, list)
    assert server.run(b"COMMAND COUNT") == len(everything) == len(COMMANDS)
    assert server.run(b"COMMAND INFO") == everything
    documented = server.run(b"COMMAND DOCS")
    assert isinstance(documented, dict)
    assert list(documented) == [row[0] for row in everything]


def test_info_of_some_commands() -> None:
    reply = FakeServer().run(b"COMMAND INFO nope GET client|id")
    assert isinstance(reply, list)
    assert reply[0] is None
    assert reply[1][:2] == [b"get", 2]
    assert reply[2][:2] == [b"client|id", 2]


def test_docs_of_some_commands() -> None:
    reply = FakeServer().run(b"COMMAND DOCS nope GET client|id")
    assert isinstance(reply, dict)
    assert list(reply) == [b"get", b"client|id"]


def test_list_and_its_filters() -> None:
    server = FakeServer()
    names = server.run(b"COMMAND LIST")
    assert isinstance(names, list)
    assert {b"get", b"client", b"client|id", b"raft.status"} <= set(names)
    assert server.run(b"COMMAND LIST FILTERBY PATTERN CLIENT|I*") == [b"client|id", b"client|info"]
    assert server.run(b"COMMAND LIST FILTERBY PATTERN get") == [b"get"]
    connection = server.run(b"COMMAND LIST FILTERBY ACLCAT Connection")
    assert isinstance(connection, list)
    assert {b"ping", b"client|id"} <= set(connection)
    assert b"get" not in connection
    assert server.run(b"COMMAND LIST FILTERBY ACLCAT nope") == []
    assert server.run(b"COMMAND LIST FILTERBY MODULE json") == []


def test_getkeys() -> None:
    server = FakeServer()
    assert server.run(b"COMMAND GETKEYS get a") == [b"a"]
    assert server.run(b"COMMAND GETKEYS MSET a b c d") == [b"a", b"c"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"COMMAND GETKEYS nope a", "ERR Invalid command specified"),
        (b"COMMAND GETKEYS client nope a", "ERR Invalid command specified"),
        (b"COMMAND GETKEYS client kill a", "ERR The command has no key arguments"),
        (b"COMMAND GETKEYS ping a", "ERR The command has no key arguments"),
        (b"COMMAND GETKEYS get a b", "ERR Invalid number of arguments specified for command"),
        (b"COMMAND LIST FILTERBY", "ERR syntax error"),
        (b"COMMAND LIST FILTERBY FOO x", "ERR syntax error"),
        (b"COMMAND LIST FOO PATTERN x", "ERR syntax error"),
    ],
)
def test_refusals_are_those_of_redis(line: bytes, error: str) -> None:
    assert str(FakeServer().run(line)) == error
