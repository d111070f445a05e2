"""COMMAND: what the command table says, for clients and redis-cli's hints."""

from collections.abc import Callable, Iterator
from typing import Final

from respraft.commands.documentation import command_docs, command_info
from respraft.commands.glob import compile_glob
from respraft.commands.spec import CommandSpec, keys_of
from respraft.commands.table import CommandTable
from respraft.resp.errors import ReplyError, syntax_error
from respraft.resp.replies import Reply
from respraft.server.local.help import help_reply
from respraft.server.local.view import ClientView, FrontView

_HELP: Final = (
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
)


def command(server: FrontView, _client: ClientView, _args: list[bytes]) -> Reply:
    """COMMAND."""
    return [command_info(spec) for spec in server.table.commands]


def count(server: FrontView, _client: ClientView, _args: list[bytes]) -> Reply:
    """COMMAND COUNT."""
    return len(server.table.commands)


def info(server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """COMMAND INFO [command-name ...]. Nil for each unknown one."""
    if len(args) == 2:
        return [command_info(spec) for spec in server.table.commands]
    specs = [server.table.named(name) for name in args[2:]]
    return [None if spec is None else command_info(spec) for spec in specs]


def docs(server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """COMMAND DOCS [command-name ...]. Unknown ones are left out."""
    table = server.table
    named = (table.named(name) for name in args[2:])
    specs = table.commands if len(args) == 2 else [spec for spec in named if spec is not None]
    return {spec.full_name.encode("ascii"): command_docs(spec) for spec in specs}


def list_(server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """COMMAND LIST [FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]."""
    matches = _filter(args)
    return [spec.full_name.encode("ascii") for spec in _with_subcommands(server.table) if matches(spec)]


def getkeys(server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """COMMAND GETKEYS command [argument ...]."""
    words = args[2:]
    spec = _looked_up(server.table, words)
    if spec is None:
        raise ReplyError("ERR", "Invalid command specified")
    if not spec.keys.step:
        raise ReplyError("ERR", "The command has no key arguments")
    if not spec.words_min <= len(words) <= spec.words_max:
        raise ReplyError("ERR", "Invalid number of arguments specified for command")
    return keys_of(spec, words)


def help_(_server: FrontView, _client: ClientView, _args: list[bytes]) -> Reply:
    """COMMAND HELP."""
    return help_reply("COMMAND", _HELP)


def _looked_up(table: CommandTable, words: list[bytes]) -> CommandSpec | None:
    spec = table.lookup(words[0])
    if spec is None or not spec.subcommands or len(words) == 1:
        return spec
    return table.named(b"%b|%b" % (words[0], words[1]))


def _with_subcommands(table: CommandTable) -> Iterator[CommandSpec]:
    for spec in table.commands:
        yield spec
        yield from spec.subcommands


def _filter(args: list[bytes]) -> Callable[[CommandSpec], bool]:
    if len(args) == 2:
        return lambda _spec: True
    if len(args) != 5 or args[2].lower() != b"filterby":
        raise syntax_error()
    kind, value = args[3].lower(), args[4].lower()
    if kind == b"module":
        return lambda _spec: False  # There are no modules.
    if kind == b"aclcat":
        return lambda spec: value in (category.encode("ascii") for category in spec.acl_categories)
    if kind == b"pattern":
        matches = compile_glob(value)
        return lambda spec: matches(spec.full_name.encode("ascii"))
    raise syntax_error()


FUNCTIONS: Final = {
    b"COMMAND": command,
    b"COMMAND|COUNT": count,
    b"COMMAND|INFO": info,
    b"COMMAND|DOCS": docs,
    b"COMMAND|LIST": list_,
    b"COMMAND|GETKEYS": getkeys,
    b"COMMAND|HELP": help_,
}
