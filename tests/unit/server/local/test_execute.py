"""LOCAL commands as a whole: every row of the table has its function, and refusals are Redis's."""

import pytest

from respraft.commands.spec import Kind
from respraft.commands.table import COMMANDS
from respraft.server.local import FUNCTIONS
from tests.unit.server.local.fakes import FakeServer


def test_every_local_row_of_the_table_has_a_function_and_no_other() -> None:
    rows = {
        row.name
        for spec in COMMANDS
        if spec.kind is Kind.LOCAL
        for row in (spec, *spec.subcommands)
        # The bare name of a container is a wrong number of arguments, save for COMMAND.
        if not row.subcommands or row.name == b"COMMAND"
    }
    assert rows == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"PING a b", "ERR wrong number of arguments for 'ping' command"),
        (b"ECHO", "ERR wrong number of arguments for 'echo' command"),
        (b"ECHO a b", "ERR wrong number of arguments for 'echo' command"),
        (b"TIME x", "ERR wrong number of arguments for 'time' command"),
        (b"RESET x", "ERR wrong number of arguments for 'reset' command"),
        (b"SELECT", "ERR wrong number of arguments for 'select' command"),
        (b"CLIENT", "ERR wrong number of arguments for 'client' command"),
        (b"CLIENT ID x", "ERR wrong number of arguments for 'client|id' command"),
        (b"CLIENT KILL", "ERR wrong number of arguments for 'client|kill' command"),
        (b"CLIENT REPLY", "ERR wrong number of arguments for 'client|reply' command"),
        (b"CLIENT NO-EVICT", "ERR wrong number of arguments for 'client|no-evict' command"),
        (b"CLIENT SETINFO LIB-NAME", "ERR wrong number of arguments for 'client|setinfo' command"),
        (b"client nO", "ERR unknown subcommand 'nO'. Try CLIENT HELP."),
        (b"CONFIG GET", "ERR wrong number of arguments for 'config|get' command"),
        (b"CONFIG SET dir /", "ERR unknown subcommand 'SET'. Try CONFIG HELP."),
        (b"COMMAND FOO", "ERR unknown subcommand 'FOO'. Try COMMAND HELP."),
        (b"COMMAND COUNT x", "ERR wrong number of arguments for 'command|count' command"),
        (b"COMMAND GETKEYS get", "ERR wrong number of arguments for 'command|getkeys' command"),
        (b"RAFT", "ERR wrong number of arguments for 'raft' command"),
        (b"RAFT FOO", "ERR unknown subcommand 'FOO'. Try RAFT HELP."),
        (b"RAFT STATUS x", "ERR wrong number of arguments for 'raft|status' command"),
        (b"RAFT.STATUS x", "ERR wrong number of arguments for 'raft.status' command"),
        (b"DEBUG SLEEP 1", "ERR unknown command 'DEBUG', with args beginning with: 'SLEEP' '1' "),
    ],
)
def test_refusals_are_those_of_redis(line: bytes, error: str) -> None:
    assert str(FakeServer().run(line)) == error


@pytest.mark.parametrize("container", [b"CLIENT", b"COMMAND", b"CONFIG", b"RAFT"])
def test_help_names_every_subcommand(container: bytes) -> None:
    (spec,) = (spec for spec in COMMANDS if spec.name == container)
    lines = FakeServer().wire(container + b" HELP").split(b"\r\n+")
    named = {line.split()[0] for line in lines[2:] if not line.startswith(b" ")}
    assert named - {b"(no"} == {row.name.partition(b"|")[2] for row in spec.subcommands}
    assert lines[1] == container + b" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert lines[-1].rstrip() == b"    Prints this help."
