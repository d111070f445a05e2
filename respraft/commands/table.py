"""The command table: every command of this server by name, and the refusal of everything else.

`check` is called for each command that a client sends, so the usual case is one dictionary lookup and two
comparisons: the table holds each name in both usual spellings, upper-case and lower-case.
"""

from typing import Final

from respraft.commands.spec import CommandSpec
from respraft.commands.table_connection import CONNECTION_COMMANDS
from respraft.commands.table_keys import KEY_COMMANDS
from respraft.commands.table_raft import RAFT_COMMANDS
from respraft.commands.table_server import SERVER_COMMANDS
from respraft.commands.table_strings import STRING_COMMANDS
from respraft.resp.errors import ReplyError, unknown_command, unknown_subcommand, wrong_arity

COMMANDS: Final[tuple[CommandSpec, ...]] = (
    *STRING_COMMANDS,
    *KEY_COMMANDS,
    *CONNECTION_COMMANDS,
    *SERVER_COMMANDS,
    *RAFT_COMMANDS,
)
"""Each command once, without subcommands: what COMMAND and COMMAND COUNT list."""

TABLE: Final[dict[bytes, CommandSpec]] = {
    spelling: spec for spec in COMMANDS for spelling in (spec.name, spec.name.lower())
}
"""Each command under two spellings of its name."""

_SUBCOMMANDS: Final[dict[bytes, CommandSpec]] = {
    subcommand.name: subcommand for spec in COMMANDS for subcommand in spec.subcommands
}


def lookup(name: bytes) -> CommandSpec | None:
    """Return the command of that name, in any mix of upper and lower case."""
    return TABLE.get(name) or TABLE.get(name.upper())


def named(full_name: bytes) -> CommandSpec | None:
    """Return the command or the subcommand (`client|kill`) of that name, as COMMAND INFO looks it up."""
    return lookup(full_name) or _SUBCOMMANDS.get(full_name.upper())


def check(args: list[bytes]) -> CommandSpec | ReplyError:
    """Return the row of what a client sent, or why it is refused. `args` holds one word at least.

    For `CLIENT KILL ...` that is the row of the subcommand, whose name is `CLIENT|KILL`. When a row is
    returned, the number of words is right; what they say is still to be looked at.
    """
    name = args[0]
    spec = TABLE.get(name) or TABLE.get(name.upper())
    if spec is None:
        return unknown_command(name, args[1:])
    if spec.subcommands and len(args) > 1:
        subcommand = _SUBCOMMANDS.get(b"%b|%b" % (spec.name, args[1].upper()))
        if subcommand is None:
            return unknown_subcommand(spec.name.decode("ascii"), args[1])
        spec = subcommand
    if spec.words_min <= len(args) <= spec.words_max:
        return spec
    return wrong_arity(spec.full_name)
