"""Texts that are derived from the code, so that they cannot say something else: `make generate`.

    conf/respraft.toml       from the keys of respraft/config.py and the text under each
    README.md, its commands  from the command table
    README.md, its examples  from examples/

`tests/unit/test_generated.py` holds the files to what this module makes.
"""

import ast
import dataclasses
import itertools
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from respraft import config as configuration
from respraft.commands.table import COMMANDS

PROJECT: Final = Path(__file__).parents[1]
CONFIG_PATH: Final = PROJECT / "conf/respraft.toml"
README_PATH: Final = PROJECT / "README.md"
COMMANDS_BEGIN: Final = "<!-- commands -->\n"
COMMANDS_END: Final = "<!-- /commands -->\n"
EXAMPLES: Final = ("examples/counter.py", "examples/leaderboard.py")

_COMMENT_WIDTH: Final = 108

# What stands in the example where a key has no default.
_EXAMPLES: Final = {
    "node": {"id": "1", "data_dir": '"data/node-1"'},
    "client": {"listen": '"127.0.0.1:7001"'},
    "peer": {"listen": '"127.0.0.1:7101"'},
    "http": {"listen": '"127.0.0.1:7201"'},
    "cluster": {
        "id": '"demo"',
        "members": """[
    { id = 1, peer = "127.0.0.1:7101", client = "127.0.0.1:7001" },
    { id = 2, peer = "127.0.0.1:7102", client = "127.0.0.1:7002" },
    { id = 3, peer = "127.0.0.1:7103", client = "127.0.0.1:7003" },
]""",
    },
}

_HEADER: Final = """\
# The configuration of one respraft node, every key with its default and the reason for it. Start it with
#
#     respraft server --config conf/respraft.toml
#
# Sizes are bytes and times are milliseconds, unless a name ends otherwise. A key that is left out has
# its default. An unknown key, a wrong type or an impossible value is an error that says what would be right.
#
# Made from respraft/config.py by `make generate`.
"""


def config_file() -> str:
    """The text of conf/respraft.toml."""
    documentation = _attribute_documentation(Path(configuration.__file__).read_text(encoding="utf-8"))
    parts = [_HEADER]
    for section, table in configuration.SECTIONS.items():
        assert table.__doc__
        parts.append(f"\n{_comment(table.__doc__)}[{section}]\n")
        for each in dataclasses.fields(table):
            value = _EXAMPLES.get(section, {}).get(each.name) or _value(each.name, each.default)
            parts.append(f"\n{_comment(documentation[table.__name__, each.name])}{each.name} = {value}\n")
    return "".join(parts)


def command_table() -> str:
    """The README's table of commands: one row a group, subcommands behind their command."""
    groups: dict[str, list[str]] = {}
    for spec in sorted(COMMANDS, key=lambda each: each.name):
        entry = spec.name.decode()
        if spec.subcommands:
            names = sorted(each.name.decode().partition("|")[2] for each in spec.subcommands)
            entry += f" ({', '.join(names)})"
        groups.setdefault(spec.group, []).append(entry)
    rows = [f"| {group} | {', '.join(entries)} |" for group, entries in sorted(groups.items())]
    return "\n".join(["| group | commands |", "|---|---|", *rows])


def readme(text: str) -> str:
    """The README with its command table and its examples brought up to date."""
    text = _between(text, COMMANDS_BEGIN, COMMANDS_END, f"\n{command_table()}\n\n")
    for name in EXAMPLES:
        code = (PROJECT / name).read_text(encoding="utf-8")
        text = _between(text, f"<!-- {name} -->\n", f"<!-- /{name} -->\n", f"\n```python\n{code}```\n\n")
    return text


def _between(text: str, begin: str, end: str, content: str) -> str:
    before, begins, rest = text.partition(begin)
    _, ends, after = rest.partition(end)
    assert begins and ends, f"README.md has lost the marks {begin.strip()} and {end.strip()}"
    return f"{before}{begin}{content}{end}{after}"


def _value(key: str, value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)  # The same in TOML.
    assert isinstance(value, int), f"{key} needs an example in _EXAMPLES"
    for unit, size in (("MiB", configuration.MIB), ("KiB", configuration.KIB)):
        if "bytes" in key and value >= size and value % size == 0:
            return f"{value}  # {value // size} {unit}"
    return str(value)


def _attribute_documentation(source: str) -> dict[tuple[str, str], str]:
    """The text under each attribute, by class and attribute name."""
    return {
        (kind.name, name): text
        for kind in ast.parse(source).body
        if isinstance(kind, ast.ClassDef)
        for name, text in _documented(kind.body)
    }


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, text


def _comment(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, _COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# ") + "\n"


def main() -> None:
    """Rewrite every derived text in place."""
    CONFIG_PATH.write_text(config_file(), encoding="utf-8")
    README_PATH.write_text(readme(README_PATH.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {CONFIG_PATH.name} and {README_PATH.name}")


if __name__ == "__main__":
    main()
