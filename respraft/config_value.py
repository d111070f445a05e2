"""What a value of the configuration may be: ranges, addresses, words, and the error that refuses one.

`config.py` has the keys. It is meant for reading from top to bottom, so what holds its values is here.
"""

import dataclasses
import ipaddress
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

NO_ADDRESS: Final = ""
"""Of a port that a node does not have. Only for configurations that are built in code: the library's nodes
need no Redis port and have no HTTP port."""

_PORT_MAX: Final = 65535
_RANGE: Final = "range"


class ConfigError(Exception):
    """The configuration cannot be used. Shown to the operator as it is."""


def limit(default: int, low: int, high: int) -> int:
    """Declare a whole-number key with its default and the range that makes sense, ends included."""
    return field(default=default, metadata={_RANGE: (low, high)})


def parse_address(text: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host stands in brackets, which are not part of the result.

    Raises:
        ConfigError: It is no such address; the text says what one looks like.
    """
    host, separator, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    well_formed = separator and host and not host[0].isspace() and bracketed == (":" in host)
    if not well_formed or any(character in "[]/ \t\r\n" for character in host):
        raise ConfigError(f"{text!r} is no address; write host:port, such as 127.0.0.1:7001 or [::1]:7001")
    if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text[:6]) <= _PORT_MAX):
        raise ConfigError(f"{text!r} has no usable port; it must be a number between 1 and {_PORT_MAX}")
    return host, int(port_text)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Names are taken at their word; only localhost counts."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_ranges(section: str, table: Any) -> None:
    """Refuse a section of which a key declared by `limit` lies outside its range."""
    for each in dataclasses.fields(table):
        if _RANGE in each.metadata:
            low, high = each.metadata[_RANGE]
            value = getattr(table, each.name)
            if not low <= value <= high:
                raise ConfigError(f"{section}.{each.name} is {value}; it must be between {low} and {high}")


def check_address(key: str, text: str) -> None:
    """Refuse what is no address; the error names the key."""
    try:
        parse_address(text)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def check_distinct(where: str, what: str, values: Iterable[str]) -> None:
    """Refuse a value that stands there twice."""
    seen = set[str]()
    for value in values:
        if value == NO_ADDRESS:
            continue
        if value in seen:
            raise ConfigError(f"{where}: {what} {value} stands there twice; each must be different")
        seen.add(value)


def is_word(text: str) -> bool:
    """Whether there are only letters, digits, '-', '_' and '.' in it."""
    return all(character.isalnum() or character in "-_." for character in text)
