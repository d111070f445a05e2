"""Requests: the bytes that a client sends, as commands.

A command is an array of bulk strings, or one line of words (*inline*, for people with telnet):

    *2 \\r\\n  $3 \\r\\n GET \\r\\n  $5 \\r\\n hello \\r\\n
    GET hello \\r\\n

Two parsers share the work:

* **By splitting.** A chunk that holds whole commands in their canonical form, which is nearly every chunk
  there is, is split at its line ends, and all announced lengths are compared with what is there. That
  costs half a microsecond per command. On any doubt (a value that holds a line end, a form that a client
  library would not write, a malformed chunk) it gives up and has promised nothing.
* **Step by step.** Everything else, and the rest of a chunk behind its last whole command, is parsed
  incrementally. This one decides what is malformed, in Redis 7.0's words. A large value costs one copy
  into the buffer and one out of it, in whatever pieces it comes.

Both give the same commands wherever both can; a test holds them to that. As in Redis, the two bytes behind
a value are skipped unread, and so is the byte behind the `\\r` of a header.

Memory grows with the bytes that came, never with a length that was only announced.
"""

import re
from dataclasses import dataclass
from typing import Final

from respraft.resp.errors import ReplyError

_SPLIT_ARGUMENTS_MAX: Final = 1024
"""Commands with more arguments are parsed step by step."""

_LARGE_BYTES: Final = 2048
"""From this size on a chunk may be one command with a large value, in which nobody should look for line ends:
that would be 8 us for 10 KB, and a tenth of the leader's work for a SET of it."""

_HEADER_END_MAX: Final = len(b"*1024\r")

_ARRAY: Final = ord("*")

_CANONICAL_INTEGER: Final = re.compile(rb"-?[1-9][0-9]{0,18}|0")
_INT64_MIN: Final = -(1 << 63)

# One word of an inline command: plain bytes, then perhaps one quoted part, which ends the word.
_INLINE_WORD: Final = re.compile(
    rb"""
    \s*+ ([^ \n\r\t"']*+)
    (?: "((?:\\.|[^"\\])*+)" (?=\s|\Z) | '((?:\\'|[^'])*+)' (?=\s|\Z) | (?=[ \n\r\t]|\Z) )
    """,
    re.DOTALL | re.VERBOSE,
)
_INLINE_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}

_HTTP_WORDS: Final = (b"post", b"host:")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a client may send. Others apply before it has authenticated."""

    arguments_max: int
    """Elements of one command, its name included."""

    bulk_bytes_max: int
    """Bytes of one argument."""

    inline_bytes_max: int
    """Bytes of an inline command."""

    header_bytes_max: int
    """Bytes of a header, which is a type byte and a length."""

    authenticated: bool = True
    """False: a refusal says that the limit is the one for clients that have not authenticated."""


@dataclass(frozen=True, slots=True)
class ProtocolViolation:
    """Why no more commands come out of a connection. Close it."""

    text: str
    """For the log."""

    reply: ReplyError | None
    """Sent before closing. None: close at once, whoever is there must not learn a thing."""


class RequestParser:
    """Parses the requests of one connection.

    `limits` may be replaced between two calls of `feed`. Once `error` is set the parser is spent.
    """

    __slots__ = (
        "_arguments",
        "_buffer",
        "_bulk_length",
        "_missing",
        "_position",
        "_taken",
        "error",
        "limits",
    )

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.error: ProtocolViolation | None = None
        self._buffer = bytearray()
        self._position = 0  # What lies before it in the buffer is parsed.
        self._arguments: list[bytes] = []  # Of the command begun.
        self._missing = 0  # Arguments of that command still to come; 0: none is begun.
        self._bulk_length = -1  # Length of the argument begun; -1: its header is still to come.
        self._taken = 0  # Bytes of the command begun that are no longer in the buffer.

    @property
    def pending_bytes(self) -> int:
        """Bytes held of a command that is not complete."""
        return len(self._buffer) + self._taken

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take the bytes that came and return the commands that they complete, in order.

        A command is never empty. On malformed input the commands before it are returned and `error` is
        set; all input after that is ignored. Never raises.
        """
        if self.error is not None:
            return []
        if not self._buffer and not self._missing:
            return self._feed_from_boundary(data)
        self._buffer += data
        command = self._next_command()
        if command is None:
            self._drop_parsed()
            return []
        # The command begun is complete. What follows is most often canonical again: after a large value
        # the connection is back to its former speed.
        rest = bytes(memoryview(self._buffer)[self._position :])
        self._buffer = bytearray()
        self._position = 0
        return [command, *self._feed_from_boundary(rest)]

    def _feed_from_boundary(self, data: bytes) -> list[list[bytes]]:
        """Parse what starts with a new command. The buffer is empty."""
        commands, rest = self._split(data)
        if not rest:
            return commands
        self._buffer += rest
        while (command := self._next_command()) is not None:
            commands.append(command)
        self._drop_parsed()
        return commands

    def _split(self, data: bytes) -> tuple[list[list[bytes]], bytes]:
        """Return the canonical commands at the start of `data`, and the rest; none on any doubt."""
        limits = self.limits
        if (
            not data.startswith(b"*")
            or len(data) > limits.bulk_bytes_max
            or limits.arguments_max < _SPLIT_ARGUMENTS_MAX
        ):
            return [], data
        size = len(data)
        # A line end shortly before the last one: it is a pipeline of small commands.
        if size >= _LARGE_BYTES and data.rfind(b"\r\n", size - _LARGE_BYTES // 2, size - 2) < 0:
            command = _split_one(data)
            if command is not None:
                return [command], b""
        parts = data.split(b"\r\n")
        rest = parts.pop()  # Behind the last line end: empty, or a line that is not complete.
        if not parts:
            return [], data
        header = parts[0]
        lines = _PARTS_BY_HEADER.get(header, 0)
        if lines == len(parts):
            values = parts[2::2]
            return ([values], rest) if _lengths_agree(parts[1::2], values) else ([], data)
        # Commands of one length, as in nearly every pipeline, are taken apart without a loop over them.
        if lines and parts[::lines].count(header) * lines == len(parts):
            del parts[::lines]
            values = parts[1::2]
            if not _lengths_agree(parts[::2], values):
                return [], data
            count = lines // 2
            return [values[at : at + count] for at in range(0, len(values), count)], rest
        commands, taken = _split_mixed(parts)
        return commands, b"\r\n".join([*parts[taken:], rest])

    def _next_command(self) -> list[bytes] | None:
        """Parse one command out of the buffer. None: it is not complete, or malformed (see `error`)."""
        while not self._missing:
            if self._position == len(self._buffer):
                return None
            if self._buffer[self._position] != _ARRAY:
                words = self._take_inline()
                if words is None or words:
                    return words
                continue
            start = self._position
            count = self._take_count()
            if count is None:
                return None
            if count > 0:  # An empty or a null array is passed over.
                self._missing = count
                self._taken = self._position - start
        return self._take_arguments()

    def _take_count(self) -> int | None:
        header = self._take_header("too big mbulk count string")
        if header is None:
            return None
        count = _canonical_integer(header[1:])
        if count is None or count > self.limits.arguments_max:
            known = count is None or self.limits.authenticated
            self._refuse("invalid multibulk length" if known else "unauthenticated multibulk length")
            return None
        return count

    def _take_arguments(self) -> list[bytes] | None:
        buffer = self._buffer
        start = self._position
        while self._missing:
            if self._bulk_length < 0:
                length = self._take_bulk_length()
                if length is None:
                    break
                self._bulk_length = length
            begin = self._position
            end = begin + self._bulk_length
            if len(buffer) < end + 2:
                break
            self._arguments.append(memoryview(buffer)[begin:end].tobytes())
            self._position = end + 2
            self._bulk_length = -1
            self._missing -= 1
        self._taken += self._position - start
        if self._missing:
            return None
        self._taken = 0
        arguments, self._arguments = self._arguments, []
        return arguments

    def _take_bulk_length(self) -> int | None:
        header = self._take_header("too big bulk count string")
        if header is None:
            return None
        length = _length_by_header(header)
        if 0 <= length <= self.limits.bulk_bytes_max:
            return length
        if header[:1] != b"$":
            got = (header[:1] or b"\r").decode("utf-8", "surrogateescape")
            self._refuse(f"expected '$', got '{got}'")
        elif length < 0 or self.limits.authenticated:
            self._refuse("invalid bulk length")
        else:
            self._refuse("unauthenticated bulk length")
        return None

    def _take_header(self, too_big: str) -> bytes | None:
        """Return the next header without its line end. None: not complete, or too long."""
        start = self._position
        limit = start + self.limits.header_bytes_max
        end = self._buffer.find(b"\r", start, limit + 1)
        if end < 0:
            if len(self._buffer) > limit:
                self._refuse(too_big)
            return None
        if len(self._buffer) < end + 2:
            return None
        self._position = end + 2
        return bytes(self._buffer[start:end])

    def _take_inline(self) -> list[bytes] | None:
        start = self._position
        limit = start + self.limits.inline_bytes_max
        end = self._buffer.find(b"\n", start, limit + 1)
        if end < 0:
            if len(self._buffer) > limit:
                self._refuse("too big inline request")
            return None
        self._position = end + 1
        words = split_inline(bytes(self._buffer[start:end]).removesuffix(b"\r"))
        if words is None:
            self._refuse("unbalanced quotes in request")
            return None
        if words and words[0].lower() in _HTTP_WORDS:
            # A browser that was lured into posting to this port. Its next lines could be commands.
            self.error = ProtocolViolation("Possible SECURITY ATTACK detected: HTTP on the client port", None)
            return None
        return words

    def _refuse(self, text: str) -> None:
        violation = f"Protocol error: {text}"
        self.error = ProtocolViolation(violation, ReplyError("ERR", violation))

    def _drop_parsed(self) -> None:
        if self.error is not None:
            self._buffer = bytearray()
            self._arguments = []
            self._taken = 0
        else:
            del self._buffer[: self._position]
        self._position = 0


def split_inline(line: bytes) -> list[bytes] | None:
    """Return the words of an inline command; None if its quotes are unbalanced.

    A word may end in a quoted part: "..." with the escapes \\n \\r \\t \\b \\a \\xHH, or '...' with \\' only.
    A closing quote ends the word and must be followed by white space.
    """
    words: list[bytes] = []
    position = 0
    length = len(line.rstrip())
    while position < length:
        match = _INLINE_WORD.match(line, position)
        if match is None:
            return None
        plain, double, single = match.groups()
        if double is not None:
            plain += _INLINE_ESCAPE.sub(_unescaped, double)
        elif single is not None:
            plain += single.replace(b"\\'", b"'")
        words.append(plain)
        position = match.end()
    return words


def _split_one(data: bytes) -> list[bytes] | None:
    """Return the one canonical command that `data` is; None on any doubt. Looks not into its last value."""
    end = data.find(b"\r", 0, _HEADER_END_MAX)
    lines = _PARTS_BY_HEADER.get(data[:end], 0) if end > 0 else 0
    if not lines:
        return None
    parts = data.split(b"\r\n", lines - 1)
    last = parts[-1]
    if len(parts) != lines or not last.endswith(b"\r\n"):
        return None
    parts[-1] = last[:-2]
    values = parts[2::2]
    return values if _lengths_agree(parts[1::2], values) else None


def _split_mixed(parts: list[bytes]) -> tuple[list[list[bytes]], int]:
    """Return the commands at the start of whole lines, and how many lines they take; none on any doubt."""
    commands = []
    bulks: list[bytes] = []  # Header, value, header, value, ...
    start = 0
    while start < len(parts):
        end = start + _PARTS_BY_HEADER.get(parts[start], 0)
        if end == start:
            return [], 0
        if end > len(parts):
            break
        command = parts[start + 1 : end]
        bulks += command
        commands.append(command[1::2])
        start = end
    if not _lengths_agree(bulks[::2], bulks[1::2]):
        return [], 0
    return commands, start


def _lengths_agree(headers: list[bytes], values: list[bytes]) -> bool:
    # A value that holds a line end has shifted all parts behind it, so that a header is not where it
    # belongs: then the lengths do not agree, and the other parser has to look.
    return list(map(_length_by_header, headers)) == list(map(len, values))


def _unescaped(match: re.Match[bytes]) -> bytes:
    escaped: bytes = match[1]
    if len(escaped) == 3:
        return bytes.fromhex(escaped[1:].decode("ascii"))
    return _ESCAPED_LETTERS.get(escaped, escaped)


def _canonical_integer(digits: bytes) -> int | None:
    """Return the 64-bit integer; None if it is none, or one that is usually written differently."""
    if not _CANONICAL_INTEGER.fullmatch(digits):
        return None
    value = int(digits)
    return value if value >= _INT64_MIN else None


class _LengthByHeader(dict[bytes, int]):
    """`$5` to 5. What is not in the table is computed and not kept: clients choose it."""

    def __missing__(self, header: bytes) -> int:
        length = _canonical_integer(header[1:]) if header.startswith(b"$") else None
        return -1 if length is None else length


_PARTS_BY_HEADER: Final = {b"*%d" % count: 2 * count + 1 for count in range(1, _SPLIT_ARGUMENTS_MAX + 1)}
_length_by_header: Final = _LengthByHeader({b"$%d" % length: length for length in range(1024)}).__getitem__
