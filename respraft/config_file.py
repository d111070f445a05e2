"""Reading the configuration file: TOML into the sections of `config.py`.

Every refusal is a `ConfigError` that names file and key, and says what would be right.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from respraft.config import SECTIONS, Config, ConfigError, MemberConfig

_Table = TypeVar("_Table")


def load(path: Path) -> Config:
    """Read the configuration file of one node.

    Raises:
        ConfigError: The file cannot be read or used; the text names file and key, and the remedy.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text, as TOML must be: {error.reason}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str) -> Config:
    """The configuration that `text`, a TOML document, describes. Raises ConfigError; names no file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}") from error
    for name, table in document.items():
        if name not in SECTIONS:
            raise ConfigError(_unknown(name, SECTIONS))
        if not isinstance(table, dict):
            raise ConfigError(f"{name} must be a section: write [{name}] on a line of its own")
    sections = {name: _table_of(name, kind, document.get(name, {})) for name, kind in SECTIONS.items()}
    return Config(**sections)


def _table_of(name: str, kind: type[_Table], values: Mapping[str, Any]) -> _Table:
    """Build the dataclass of one section (or one member) from its TOML table."""
    fields = {each.name: each for each in dataclasses.fields(cast(Any, kind))}
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(_unknown_key(name, key, fields))
        if value == "" == fields[key].default:
            arguments[key] = value  # Says that the key has no value.
        else:
            arguments[key] = _value_of(f"{name}.{key}", hints[key], value)
    for key, each in fields.items():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and key not in arguments:
            raise ConfigError(f"{name}.{key} is missing; it has no default")
    return kind(**arguments)


def _value_of(key: str, kind: Any, value: Any) -> Any:
    if kind is int:
        if type(value) is not int:
            raise ConfigError(f"{key} is {value!r}; it must be a whole number, without quotes")
        return value
    if kind in (str, Path):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{key} is {value!r}; it must be text in quotes")
        return kind(value)
    assert kind == tuple[MemberConfig, ...], f"{key} has a type that TOML values are not converted to"
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        raise ConfigError(f'{key} must be a list of {{ id = 1, peer = "host:port", client = "host:port" }}')
    return tuple(_table_of(f"{key}[{place}]", MemberConfig, member) for place, member in enumerate(value))


def _unknown_key(section: str, key: str, known: Iterable[str]) -> str:
    homes = [f"[{name}]" for name, kind in SECTIONS.items() if key in get_type_hints(kind)]
    if homes:
        return f"{section}.{key} is not known; {key} belongs under {' or '.join(homes)}"
    return _unknown(f"{section}.{key}", [f"{section}.{each}" for each in known])


def _unknown(name: str, known: Iterable[str]) -> str:
    choices = list(known)
    nearest = difflib.get_close_matches(name, choices, n=1)
    if nearest:
        return f"{name} is not known; did you mean {nearest[0]}?"
    return f"{name} is not known; what can stand there: {', '.join(choices)}"
