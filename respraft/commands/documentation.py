"""What COMMAND INFO and COMMAND DOCS say of a row, in Redis 7.0's own form, and how people write it."""

from typing import Any

from respraft.commands.spec import Argument, CommandSpec
from respraft.resp.replies import Reply, SetReply, SimpleString


def command_info(spec: CommandSpec) -> list[Any]:
    """Return the element of COMMAND INFO's reply for one command."""
    subcommands: Reply = SetReply(())  # Redis's own oddity: a set when empty, an array otherwise.
    if spec.subcommands:
        subcommands = [command_info(subcommand) for subcommand in spec.subcommands]
    return [
        spec.full_name.encode(),
        spec.arity,
        _statuses(spec.flags),
        *spec.keys,
        _statuses(tuple(f"@{category}" for category in spec.acl_categories)),
        SetReply([tip.encode() for tip in spec.tips]),
        SetReply(_key_specifications(spec)),
        subcommands,
    ]


def command_docs(spec: CommandSpec) -> dict[bytes, Any]:
    """Return the value of COMMAND DOCS's reply for one command."""
    docs: dict[bytes, Any] = {
        b"summary": spec.summary.encode(),
        b"since": spec.since.encode(),
        b"group": spec.group.encode(),
        b"complexity": spec.complexity.encode(),
    }
    if spec.deprecated_since is not None:
        docs[b"doc_flags"] = _statuses(("deprecated",))
        docs[b"deprecated_since"] = spec.deprecated_since.encode()
    if spec.replaced_by is not None:
        docs[b"replaced_by"] = spec.replaced_by.encode()
    if spec.arguments:
        docs[b"arguments"] = [_argument_docs(argument) for argument in spec.arguments]
    if spec.subcommands:
        docs[b"subcommands"] = {
            subcommand.full_name.encode(): command_docs(subcommand) for subcommand in spec.subcommands
        }
    return docs


def syntax(spec: CommandSpec) -> str:
    """Return the command as people write it: `GETEX key [EX seconds | PX milliseconds | PERSIST]`."""
    words = [spec.name.decode("ascii").replace("|", " ")]
    words += [_argument_syntax(argument) for argument in spec.arguments]
    return " ".join(words)


def _statuses(words: tuple[str, ...]) -> SetReply:
    return SetReply([SimpleString(word) for word in words])


def _key_specifications(spec: CommandSpec) -> list[dict[bytes, Any]]:
    first, last, step = spec.keys
    if len(spec.access) == 1:
        # Redis counts the last key from the first one here, and from the end when it is negative.
        distance = last if last < 0 else last - first
        return [_key_specification(spec, spec.access[0], first, distance, step)]
    return [_key_specification(spec, access, first + at, 0, 1) for at, access in enumerate(spec.access)]


def _key_specification(
    spec: CommandSpec, access: tuple[str, ...], index: int, distance: int, step: int
) -> dict[bytes, Any]:
    specification: dict[bytes, Any] = {}
    if spec.access_note is not None:
        specification[b"notes"] = spec.access_note.encode()
    specification[b"flags"] = _statuses(access)
    specification[b"begin_search"] = {b"type": b"index", b"spec": {b"index": index}}
    specification[b"find_keys"] = {
        b"type": b"range",
        b"spec": {b"lastkey": distance, b"keystep": step, b"limit": 0},
    }
    return specification


def _argument_docs(argument: Argument) -> dict[bytes, Any]:
    docs: dict[bytes, Any] = {b"name": argument.name.encode(), b"type": argument.type.encode()}
    if argument.key is not None:
        docs[b"key_spec_index"] = argument.key
    if argument.token is not None:
        docs[b"token"] = argument.token.encode()
    if argument.since is not None:
        docs[b"since"] = argument.since.encode()
    if argument.deprecated_since is not None:
        docs[b"deprecated_since"] = argument.deprecated_since.encode()
    if argument.flags:
        docs[b"flags"] = _statuses(argument.flags)
    if argument.parts:
        docs[b"arguments"] = [_argument_docs(part) for part in argument.parts]
    return docs


def _argument_syntax(argument: Argument) -> str:
    if argument.type == "oneof":
        text = " | ".join(_argument_syntax(part) for part in argument.parts)
    elif argument.type == "block":
        text = " ".join(_argument_syntax(part) for part in argument.parts)
    else:
        text = "" if argument.type == "pure-token" else argument.name
    if argument.token is not None:
        text = f"{argument.token} {text}".rstrip()
    if "multiple" in argument.flags:
        text += f" [{text} ...]"
    return f"[{text}]" if "optional" in argument.flags else text
