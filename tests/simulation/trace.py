"""What happened, in lines: hashed as a whole, and the last of them kept for the report of a failure."""

import zlib
from collections import deque
from hashlib import blake2b
from typing import Final

from respraft.raft.message import AppendRequest
from respraft.replica.message import ForwardRequest
from respraft.replica.status import ReplicaMessage

LINES_KEPT: Final = 80


class Trace:
    """The events of a run."""

    def __init__(self, *, keep: int | None = LINES_KEPT) -> None:
        """Keep the last `keep` lines; None: all of them."""
        self.lines: deque[str] = deque(maxlen=keep)
        self._hash = blake2b(digest_size=16)

    def say(self, now_us: int, text: str) -> None:
        """Add an event."""
        line = f"{now_us / 1000:10.3f} {text}"
        self._hash.update(line.encode())
        self.lines.append(line)

    def digest(self) -> str:
        """Return a hash over all events so far."""
        return self._hash.hexdigest()


def describe(message: ReplicaMessage) -> str:
    """Return a message in a few words; payloads by their checksums."""
    name = type(message).__name__
    if isinstance(message, AppendRequest):
        entries = " ".join(f"{each.term}:{zlib.crc32(each.payload):08x}" for each in message.entries)
        base = f"base {message.base_index}:{message.base_term} commit {message.commit_index}"
        return f"{name} term {message.term} {base} [{entries}]"
    if isinstance(message, ForwardRequest):
        payloads = " ".join(f"{zlib.crc32(payload):08x}" for payload in message.payloads)
        return f"{name} term {message.term} session {message.session} [{payloads}]"
    fields = ", ".join(str(getattr(message, field)) for field in message.__struct_fields__[1:])
    return f"{name} {fields}"
