"""Refusals: what a client is told when its command did not do what it asked.

A refusal is raised as `ReplyError` anywhere below `server/` and leaves as one RESP error line. Its first
word, the code, tells a program whether the write may have happened (the table of design section 1); the
text is for people. Where Redis 7.0 has a text for the case, it is that text to the letter, since clients
compare it.

Every call builds a new object: a shared exception would collect the tracebacks of all who raise it.
"""

from collections.abc import Sequence
from typing import Final

QUOTED_ARGUMENTS_BYTES_MAX: Final = 128
"""Redis quotes this much of an unknown command's name, and of its arguments."""


class ReplyError(Exception):
    """A refusal that goes to the client as one RESP error line.

    `code` is the first word on the wire; clients branch on it, so it is part of the public interface and
    is never reworded. `text` is for people. Two errors that read the same are equal.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code: Final = code
        self.text: Final = text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReplyError):
            return NotImplemented
        return self.code == other.code and self.text == other.text

    def __hash__(self) -> int:
        return hash((self.code, self.text))


# What became of the write: the codes of respraft's own.


def no_leader() -> ReplyError:
    """Nothing was proposed. The client may retry at once, here or elsewhere."""
    return ReplyError("CLUSTERDOWN", "No raft leader")


def outcome_unknown() -> ReplyError:
    """The write was handed over and not seen applied in time: it may yet happen, once at most."""
    return ReplyError("TIMEOUT", "outcome unknown: the write may still happen, once; read before you retry")


def reply_lost() -> ReplyError:
    """The write happened, once, but was applied through a snapshot, which carries no replies."""
    return ReplyError("TIMEOUT", "applied, reply lost: the write happened, once; read to see its result")


def busy() -> ReplyError:
    """Too much is in flight on this node. Nothing was executed."""
    return ReplyError("BUSY", "too much work at once on this node; not executed, retry later")


def loading() -> ReplyError:
    """The node replays its log and is far behind. Nothing was executed."""
    return ReplyError("LOADING", "respraft is replaying its log; nothing was executed, retry later")


def no_cluster(text: str) -> ReplyError:
    """The node belongs to no cluster, or no longer. Nothing was executed; `text` says what to do."""
    return ReplyError("NOCLUSTER", text)


# Wrong use of a command: Redis 7.0's texts.


def wrong_type() -> ReplyError:
    """The key holds another type than the command works on."""
    return ReplyError("WRONGTYPE", "Operation against a key holding the wrong kind of value")


def wrong_arity(name: str) -> ReplyError:
    """`name` as COMMAND spells it: lower-case, a subcommand as `client|kill`."""
    return ReplyError("ERR", f"wrong number of arguments for '{name}' command")


def unknown_command(name: bytes, arguments: Sequence[bytes]) -> ReplyError:
    """No such command. Quotes the beginning of what the client sent, name first."""
    quoted = b""
    for argument in arguments:
        room = QUOTED_ARGUMENTS_BYTES_MAX - len(quoted)
        if room <= 0:
            break
        quoted += b"'%b' " % _until_nul(argument)[:room]
    beginning = f"with args beginning with: {_text(quoted)}"
    return ReplyError("ERR", f"unknown command '{_quotable(name)}', {beginning}")


def unknown_subcommand(command: str, subcommand: bytes) -> ReplyError:
    """`command` in upper-case, as in `CLIENT`."""
    return ReplyError("ERR", f"unknown subcommand '{_quotable(subcommand)}'. Try {command} HELP.")


def syntax_error() -> ReplyError:
    """The options of a command do not fit together."""
    return ReplyError("ERR", "syntax error")


def not_an_integer() -> ReplyError:
    """An argument or a stored value is no 64-bit integer."""
    return ReplyError("ERR", "value is not an integer or out of range")


def not_a_float() -> ReplyError:
    """An argument or a stored value is no finite number."""
    return ReplyError("ERR", "value is not a valid float")


def would_overflow() -> ReplyError:
    """An increment would leave the 64-bit range."""
    return ReplyError("ERR", "increment or decrement would overflow")


def no_such_key() -> ReplyError:
    """The command needs a key that exists."""
    return ReplyError("ERR", "no such key")


def invalid_expire_time(name: str) -> ReplyError:
    """`name` in lower-case. The time is not positive where it must be, or beyond the 64-bit range."""
    return ReplyError("ERR", f"invalid expire time in '{name}' command")


def string_too_long() -> ReplyError:
    """The resulting string would be longer than any value may be."""
    return ReplyError("ERR", "string exceeds maximum allowed size (proto-max-bulk-len)")


def database_out_of_range() -> ReplyError:
    """There is no database of that number."""
    return ReplyError("ERR", "DB index is out of range")


def quoted(word: bytes) -> str:
    """Return a client's word as Redis puts it into an error's text, which is up to its first NUL."""
    return _text(_until_nul(word))


def _quotable(word: bytes) -> str:
    return _text(_until_nul(word)[:QUOTED_ARGUMENTS_BYTES_MAX])


def _until_nul(word: bytes) -> bytes:
    # Redis formats with C's %s, which ends there.
    return word.partition(b"\0")[0]


def _text(word: bytes) -> str:
    # Undone by the encoder, so that the client sees the very bytes it sent.
    return word.decode("utf-8", "surrogateescape")
