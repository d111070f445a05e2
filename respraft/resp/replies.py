"""Replies: the values that commands return, and their bytes in RESP2 and RESP3.

    reply                     RESP2                    RESP3
    bytes                     $5 bulk string           $5
    int                       :1                       :1
    bool                      :1, :0                   #t, #f
    float                     bulk string              ,1.5
    None                      $-1                      _
    NULL_ARRAY                *-1                      _
    list, tuple               *2                       *2
    dict                      *4, name, value, ...     %2
    SetReply                  *2                       ~2
    Push                      *2                       >2
    Verbatim                  bulk string              =8 txt:text
    SimpleString, OK          +OK                      +OK
    ReplyError                -ERR text                -ERR text

A command returns these and never bytes on the wire, so that it need not know a client's protocol.
`str` is no reply: what goes out is bytes, or a `SimpleString`.

`encode_all` is the hot path of every node, once per connection and turn; bulk strings, OK, integers and
nulls are decided first, and a large value is copied once only, by the final join.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias

from respraft.resp.errors import ReplyError

RESP2: Final = 2
RESP3: Final = 3

_CRLF: Final = b"\r\n"
_FORMAT_LETTERS: Final = 3
_SHORT: Final = 1024
_SHORT_HEADERS: Final = tuple(b"$%d\r\n" % length for length in range(_SHORT))


@dataclass(frozen=True, slots=True)
class SimpleString:
    """A status such as OK. One line: it must hold no line break."""

    text: str


@dataclass(frozen=True, slots=True)
class SetReply:
    """Elements without order and without repeats, in the order in which they go out."""

    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Push:
    """Something that the client did not ask for right now, such as a published message."""

    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text to be shown to a person as it is. `format` has three letters: txt or mkd."""

    format: str
    text: bytes


class NullArray:
    """The type of NULL_ARRAY: no array at all, as opposed to an empty one."""

    __slots__ = ()


NULL_ARRAY: Final = NullArray()
OK: Final = SimpleString("OK")
QUEUED: Final = SimpleString("QUEUED")
PONG: Final = SimpleString("PONG")

# The elements of a container are replies as well. They are `Any` here because lists are invariant: a
# command that returns list[bytes] would otherwise have to call it something else.
Reply: TypeAlias = (
    bytes
    | int
    | float
    | list[Any]
    | tuple[Any, ...]
    | dict[Any, Any]
    | SimpleString
    | SetReply
    | Push
    | Verbatim
    | NullArray
    | ReplyError
    | None
)


def encode(reply: Reply, protocol: int) -> bytes:
    """Return the bytes of one reply for a client that speaks `protocol`, RESP2 or RESP3."""
    return encode_all((reply,), protocol)


def encode_all(replies: Sequence[Reply], protocol: int) -> bytes:
    """Return the bytes of `replies`, one behind the other."""
    parts: list[bytes] = []
    _append_all(parts, replies, protocol)
    return b"".join(parts)


def _append_all(parts: list[bytes], replies: Iterable[Reply], protocol: int) -> None:
    append = parts.append
    for reply in replies:
        if type(reply) is bytes:
            length = len(reply)
            append(_SHORT_HEADERS[length] if length < _SHORT else b"$%d\r\n" % length)
            append(reply)
            append(_CRLF)
        elif reply is OK:
            append(b"+OK\r\n")
        elif type(reply) is int:
            append(b":%d\r\n" % reply)
        elif reply is None:
            append(b"$-1\r\n" if protocol == RESP2 else b"_\r\n")
        else:
            _APPEND_BY_TYPE[type(reply)](parts, reply, protocol)


def _append_array(parts: list[bytes], reply: Sequence[Reply], protocol: int) -> None:
    parts.append(b"*%d\r\n" % len(reply))
    _append_all(parts, reply, protocol)


def _append_map(parts: list[bytes], reply: dict[Reply, Reply], protocol: int) -> None:
    parts.append(b"*%d\r\n" % (2 * len(reply)) if protocol == RESP2 else b"%%%d\r\n" % len(reply))
    _append_all(parts, chain.from_iterable(reply.items()), protocol)


def _append_set(parts: list[bytes], reply: SetReply, protocol: int) -> None:
    parts.append((b"*%d\r\n" if protocol == RESP2 else b"~%d\r\n") % len(reply.items))
    _append_all(parts, reply.items, protocol)


def _append_push(parts: list[bytes], reply: Push, protocol: int) -> None:
    parts.append((b"*%d\r\n" if protocol == RESP2 else b">%d\r\n") % len(reply.items))
    _append_all(parts, reply.items, protocol)


def _append_verbatim(parts: list[bytes], reply: Verbatim, protocol: int) -> None:
    if protocol == RESP2:
        _append_all(parts, (reply.text,), protocol)
        return
    assert len(reply.format) == _FORMAT_LETTERS, "the format's length is part of the wire format"
    parts.append(b"=%d\r\n%b:%b\r\n" % (len(reply.text) + 4, reply.format.encode("ascii"), reply.text))


def _append_simple(parts: list[bytes], reply: SimpleString, protocol: int) -> None:
    del protocol
    parts.append(b"+%b\r\n" % reply.text.encode("utf-8", "surrogateescape"))


def _append_error(parts: list[bytes], reply: ReplyError, protocol: int) -> None:
    del protocol
    # The text may quote a client's bytes, line breaks among them; one reply must stay one line. As in Redis
    # they become spaces, and are gone at the ends.
    text = reply.text.strip("\r\n").replace("\r", " ").replace("\n", " ")
    line = f"-{reply.code} {text}"
    parts.append(line.encode("utf-8", "surrogateescape") + _CRLF)


def _append_bool(parts: list[bytes], reply: bool, protocol: int) -> None:
    if protocol == RESP2:
        parts.append(b":1\r\n" if reply else b":0\r\n")
    else:
        parts.append(b"#t\r\n" if reply else b"#f\r\n")


def _append_float(parts: list[bytes], reply: float, protocol: int) -> None:
    # Redis 7.0 prints all 17 digits, so that 0.1 goes out as 0.10000000000000001.
    digits = b"%.17g" % reply
    if protocol == RESP2:
        _append_all(parts, (digits,), protocol)
    else:
        parts.append(b",%b\r\n" % digits)


def _append_null_array(parts: list[bytes], reply: NullArray, protocol: int) -> None:
    del reply
    parts.append(b"*-1\r\n" if protocol == RESP2 else b"_\r\n")


_APPEND_BY_TYPE: Final[dict[type, Callable[[list[bytes], Any, int], None]]] = {
    list: _append_array,
    tuple: _append_array,
    dict: _append_map,
    SetReply: _append_set,
    Push: _append_push,
    Verbatim: _append_verbatim,
    SimpleString: _append_simple,
    ReplyError: _append_error,
    bool: _append_bool,
    float: _append_float,
    NullArray: _append_null_array,
}
