"""The same commands on a real redis-server 7.0 and on our machine give the same bytes.

Three kinds of proof: scripts (`differential/`) that go through each command's options and errors by hand;
sequences that hypothesis makes up, always the same ones; and the facts of the command table against COMMAND
INFO and COMMAND DOCS.

What depends on the clock is compared within CLOCK_TOLERANCE_MS, what comes in no order as a sorted list.
"""

import re
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings

from respraft.commands.documentation import command_docs, command_info
from respraft.commands.spec import CommandSpec, Kind
from respraft.commands.table import COMMANDS
from respraft.resp.replies import RESP2, RESP3, SetReply, encode
from tests.unit.commands.command_lines import COMMAND_LINES, STATE
from tests.unit.commands.keyspace import Keyspace
from tests.unit.commands.redis_server import VERSION, RedisServer

pytestmark = pytest.mark.requires_tool("redis-server")

CLOCK_TOLERANCE_MS: Final = 60_000
"""Two commands of one sequence run on the two sides within this time. All deadlines are farther apart."""

TIMED_MS: Final = {b"TTL": 1000, b"EXPIRETIME": 1000, b"PTTL": 1, b"PEXPIRETIME": 1}
UNORDERED: Final = (b"KEYS", b"SCAN")

SCRIPTS: Final = sorted(Path(__file__).with_name("differential").glob("*.txt"))
BLOCKS: Final = [
    pytest.param(block.splitlines()[1:], id=block.splitlines()[0].removeprefix("# "))
    for path in SCRIPTS
    for block in path.read_text(encoding="ascii").strip().split("\n\n")
]

DATA_COMMANDS: Final = [spec for spec in COMMANDS if spec.kind is not Kind.LOCAL]
COMMANDS_OF_REDIS: Final = [
    spec
    for command in COMMANDS
    for spec in (command, *command.subcommands)
    if spec.group != "raft" and spec.since < "7.1"
]
# Where Redis's text tells of Redis's insides.
TEXT_DIFFERS: Final = {
    "append",
    "copy",
    "del",
    "flushall",
    "flushdb",
    "getrange",
    "keys",
    "scan",
    "setrange",
    "substr",
    "touch",
    "unlink",
}


def _spec_name(spec: CommandSpec) -> str:
    return spec.full_name


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    # Not tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
        if not server.version().startswith(VERSION):
            pytest.skip(f"compares with Redis {VERSION}x, found {server.version()}")
        yield server


@pytest.mark.parametrize("lines", BLOCKS)
def test_scripts(redis: RedisServer, lines: list[str]) -> None:
    compare(redis, [_words(line) for line in lines])


@given(COMMAND_LINES)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_made_up_sequences(redis: RedisServer, commands: list[list[bytes]]) -> None:
    compare(redis, [*commands, *STATE])


@pytest.mark.parametrize("spec", DATA_COMMANDS, ids=_spec_name)
def test_number_of_words(redis: RedisServer, spec: CommandSpec) -> None:
    """Whatever the number of words, the reply is the same, mostly that it is the wrong number."""
    for count in range(8):
        compare(redis, [[spec.name, *[b"1"] * count]])


@pytest.mark.parametrize("protocol", [RESP2, RESP3])
def test_command_info(redis: RedisServer, protocol: int) -> None:
    redis.run([b"HELLO", b"%d" % protocol])
    for spec in COMMANDS_OF_REDIS:
        theirs = redis.run([b"COMMAND", b"INFO", spec.full_name.encode()])
        # Redis has more subcommands than we do; each of ours is compared by itself.
        ours = encode([command_info(replace(spec, subcommands=()))], protocol)
        if spec.subcommands:
            ours = ours.removesuffix(encode(SetReply(()), protocol))
            assert theirs.startswith(ours), spec.full_name
        else:
            assert theirs == ours, spec.full_name
    redis.run([b"HELLO", b"2"])


@pytest.mark.parametrize("spec", COMMANDS_OF_REDIS, ids=_spec_name)
def test_command_docs(redis: RedisServer, spec: CommandSpec) -> None:
    name = spec.full_name
    theirs = _docs(redis.run([b"COMMAND", b"DOCS", name.encode()]))
    ours = _docs(encode({name.encode(): command_docs(spec)}, RESP2))
    ignored = {b"history", b"subcommands"}
    if name in TEXT_DIFFERS:
        ignored |= {b"summary", b"complexity"}
    for docs in (ours, theirs):
        for field in ignored:
            docs.pop(field, None)
    assert ours == theirs


def compare(redis: RedisServer, commands: list[list[bytes]]) -> None:
    """Run the same commands on both sides, from nothing, and hold each reply against the other."""
    redis.run([b"FLUSHALL"])
    redis.run([b"SELECT", b"0"])
    keyspace = Keyspace(now_ms=int(time.time() * 1000))
    database = 0
    for args in commands:
        theirs = redis.run(args)
        if args[0] == b"SELECT" and len(args) == 2:  # The connection's, hence not for the machine.
            database = int(args[1]) if theirs == b"+OK\r\n" else database
            continue
        ours = encode(keyspace.run(args, database), RESP2)
        _assert_same(args, ours, theirs)


def _assert_same(args: list[bytes], ours: bytes, theirs: bytes) -> None:
    name = args[0].upper()
    if ours == theirs:
        return
    if name in TIMED_MS and ours[:1] == theirs[:1] == b":":
        ours_ms, theirs_ms = (int(reply[1:]) * TIMED_MS[name] for reply in (ours, theirs))
        assert min(ours_ms, theirs_ms) >= 0, (args, ours, theirs)
        assert abs(ours_ms - theirs_ms) <= CLOCK_TOLERANCE_MS, (args, ours, theirs)
    elif name in UNORDERED and ours[:1] == theirs[:1] == b"*":
        assert _sorted(ours) == _sorted(theirs), (args, ours, theirs)
    else:
        pytest.fail(f"{args}: {ours!r} here, {theirs!r} in Redis")


def _words(line: str) -> list[bytes]:
    """Take a line of a script apart at the spaces outside quotes; \\xff, \\r and \\n are single bytes."""
    words = [word.encode("ascii") for word in shlex.split(line)]
    return [re.sub(rb"\\(?:x(..)|([rn]))", _unescaped, word) for word in words]


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else {b"r": b"\r", b"n": b"\n"}[match[2]]


def _decoded(reply: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def _sorted(reply: bytes) -> Any:
    """Sort the keys of KEYS, or those of SCAN, which follow the cursor."""
    decoded = _decoded(reply)
    if decoded and isinstance(decoded[-1], list):
        return [decoded[0], sorted(decoded[1])]
    return sorted(decoded)


def _docs(reply: bytes) -> dict[bytes, Any]:
    """Return what COMMAND DOCS says of the one command that was asked for."""
    _name, fields = _decoded(reply)
    return dict(zip(fields[::2], fields[1::2], strict=True))
