"""The command table: every command of a server by name, and the refusal of everything else.

`check` is called for each command that a client sends, so the usual case is one dictionary lookup and two
comparisons: the table holds each name in both usual spellings, upper-case and lower-case.
"""

from collections.abc import Iterable
from typing import Final

from respraft.commands.spec import CommandSpec, Kind
from respraft.commands.table_connection import CONNECTION_COMMANDS
from respraft.commands.table_keys import KEY_COMMANDS
from respraft.commands.table_raft import RAFT_COMMANDS
from respraft.commands.table_server import SERVER_COMMANDS
from respraft.commands.table_strings import STRING_COMMANDS
from respraft.resp.errors import ReplyError, unknown_command, unknown_subcommand, wrong_arity


class CommandTable:
    """What a server understands. Never changed once it is made."""

    def __init__(self, commands: Iterable[CommandSpec]) -> None:
        """Take each command once; its subcommands are in its row."""
        self.commands: Final = tuple(commands)
        """What COMMAND and COMMAND COUNT list."""
        self.by_name: Final[dict[bytes, CommandSpec]] = {
            spelling: spec for spec in self.commands for spelling in (spec.name, spec.name.lower())
        }
        """Each command under two spellings of its name."""
        self._subcommands: Final[dict[bytes, CommandSpec]] = {
            subcommand.name: subcommand for spec in self.commands for subcommand in spec.subcommands
        }

    def lookup(self, name: bytes) -> CommandSpec | None:
        """Return the command of that name, in any mix of upper and lower case."""
        return self.by_name.get(name) or self.by_name.get(name.upper())

    def named(self, full_name: bytes) -> CommandSpec | None:
        """Return the command or the subcommand (`client|kill`) of that name, as COMMAND INFO looks it up."""
        return self.lookup(full_name) or self._subcommands.get(full_name.upper())

    def check(self, args: list[bytes]) -> CommandSpec | ReplyError:
        """Return the row of what a client sent, or why it is refused. `args` holds one word at least.

        For `CLIENT KILL ...` that is the row of the subcommand, whose name is `CLIENT|KILL`. When a row is
        returned, the number of words is right; what they say is still to be looked at.
        """
        name = args[0]
        spec = self.by_name.get(name) or self.by_name.get(name.upper())
        if spec is None:
            return unknown_command(name, args[1:])
        if spec.subcommands and len(args) > 1:
            subcommand = self._subcommands.get(b"%b|%b" % (spec.name, args[1].upper()))
            if subcommand is None:
                return unknown_subcommand(spec.name.decode("ascii"), args[1])
            spec = subcommand
        if spec.words_min <= len(args) <= spec.words_max:
            return spec
        return wrong_arity(spec.full_name)


KEYSPACE: Final = CommandTable(
    (
        *STRING_COMMANDS,
        *KEY_COMMANDS,
        *CONNECTION_COMMANDS,
        *SERVER_COMMANDS,
        *RAFT_COMMANDS,
    )
)
"""The commands of the Redis server."""

LOCAL_COMMANDS: Final = tuple(spec for spec in KEYSPACE.commands if spec.kind is Kind.LOCAL)
"""Those that need no keyspace: a server of any machine has them."""

COMMANDS: Final = KEYSPACE.commands
lookup: Final = KEYSPACE.lookup
