"""What a row of the command table says about a command.

A row holds the facts as Redis publishes them: arity, flags, key positions, ACL categories, tips, and the
documentation. Arity checks, routing, COMMAND INFO, COMMAND DOCS, redis-cli's hints and the README's table
all derive from it (`documentation.py`); nothing about a command is written down twice.

Names are upper-case in rows, `CLIENT|KILL` for subcommands; what goes out to clients is lower-case.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from respraft.commands.context import Context
from respraft.resp.replies import Reply

CommandFunction = Callable[[Context, list[bytes]], Reply]
"""A command's work. args[0] is the name; raises ReplyError to refuse, and then changed nothing."""


class Kind(Enum):
    """Where a command runs."""

    READ = "read"  # On this node's state, behind a read barrier.
    WRITE = "write"  # At a log entry, on every node.
    LOCAL = "local"  # In server/, on what it knows of the connection and the node.


READ: Final = Kind.READ
WRITE: Final = Kind.WRITE
LOCAL: Final = Kind.LOCAL


class KeyRange(NamedTuple):
    """Which arguments are keys: positions count from the name, which is 0; negative from the end."""

    first: int
    last: int
    step: int


ACL_CATEGORIES: Final = (
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
)
"""In Redis's order, which is the order of COMMAND INFO."""

NO_KEYS: Final = KeyRange(0, 0, 0)
ONE_KEY: Final = KeyRange(1, 1, 1)
TWO_KEYS: Final = KeyRange(1, 2, 1)
ALL_KEYS: Final = KeyRange(1, -1, 1)
KEY_VALUE_PAIRS: Final = KeyRange(1, -1, 2)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command, or several that belong together, as COMMAND DOCS describes them."""

    name: str
    type: str
    token: str | None = None  # The word that comes first, as EX before seconds.
    key: int | None = None  # Which of the row's key specifications it is.
    since: str | None = None
    deprecated_since: str | None = None
    flags: tuple[str, ...] = ()  # optional, multiple, multiple_token
    parts: tuple["Argument", ...] = ()  # Of the types oneof and block.


OPTIONAL: Final = ("optional",)


def token(word: str, *, since: str | None = None, optional: bool = False) -> Argument:
    """Return an argument that is one fixed word."""
    return Argument(word.lower(), "pure-token", word, since=since, flags=OPTIONAL if optional else ())


KEY: Final = Argument("key", "key", key=0)
KEYS: Final = Argument("key", "key", key=0, flags=("multiple",))
VALUE: Final = Argument("value", "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """One row of the command table. Never changed."""

    name: bytes
    arity: int
    """Words of the command, name included; negative: at least so many."""
    kind: Kind
    function: CommandFunction | None = None
    """None for commands that are only the beginning of their subcommands, and for LOCAL ones, save those that
    may take a place in a group (`echo.py`)."""
    flags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    """ACL categories beyond those that follow from the flags."""
    tips: tuple[str, ...] = ()
    keys: KeyRange = NO_KEYS
    access: tuple[tuple[str, ...], ...] = ()
    """What happens to the keys: one entry for all of `keys`, or one for each of them."""
    access_note: str | None = None
    summary: str
    since: str
    group: str
    complexity: str
    deprecated_since: str | None = None
    replaced_by: str | None = None
    arguments: tuple[Argument, ...] = ()
    subcommands: tuple["CommandSpec", ...] = ()
    words_min: int = field(init=False)
    words_max: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words_min", abs(self.arity))
        object.__setattr__(self, "words_max", self.arity if self.arity > 0 else sys.maxsize)

    @property
    def full_name(self) -> str:
        """Return the name as COMMAND and error texts spell it."""
        return self.name.decode("ascii").lower()

    @property
    def acl_categories(self) -> tuple[str, ...]:
        """Return all ACL categories, in Redis's order."""
        implied = {
            "read": "readonly" in self.flags,
            "write": "write" in self.flags,
            "admin": "admin" in self.flags,
            "dangerous": "admin" in self.flags,
            "fast": "fast" in self.flags,
            "slow": "fast" not in self.flags,
        }
        return tuple(name for name in ACL_CATEGORIES if implied.get(name) or name in self.categories)


def keys_of(spec: CommandSpec, args: list[bytes]) -> list[bytes]:
    """Return the keys among the arguments of a command whose arity was checked."""
    first, last, step = spec.keys
    if not step:
        return []
    return args[first : len(args) + last + 1 if last < 0 else last + 1 : step]
