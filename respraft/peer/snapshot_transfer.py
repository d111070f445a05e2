"""What two nodes say while a whole state travels from one to the other. No I/O, no clock.

    sender                                    receiver
      Offer(snapshot, index, files)     -->
                                        <--   Accept(held, crc)      or Decline(text)
      Chunk(position, crc, data) ...    -->
                                        <--   Ack(position) ...
                                        <--   Done                   all of it is checked and durable

The files travel one after the other in the order of the offer, so one number says how far a transfer has
come: its *position*, in bytes of all files together. A chunk lies within one file and carries the CRC-32 of
that file from its beginning to the chunk's end: each chunk vouches for everything before it.

* **A broken connection costs what was under way, no more.** Both ends outlive it. The receiver says in its
  next Accept what it holds; that goes as long as the sender offers the same `snapshot`, a random number. A
  restart of either side begins anew, since nobody then knows what of the files is on disk.
* **Flow control.** At most `WINDOW_BYTES` are sent and not yet written at the other end, so a slow disk
  there fills no memory here. Apart from that a rate is kept, so that clients do not feel the transfer.
* **Nothing in an offer is believed.** Names are plain names, numbers are within limits; what breaks the rules
  is a PeerProtocolError and ends the connection.

Use: `on_message` what comes in. The sender then says what to read next (`next_read`) and makes a chunk of it;
the receiver says of each chunk what to write where, and acknowledges when that was done.
"""

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

import msgspec

from respraft.peer.codec import Codec, PeerProtocolError
from respraft.raft.message import Index, NodeId, Term

WINDOW_BYTES: Final = 4 << 20
"""Sent and not acknowledged: at 1 Gbit/s 32 ms of transfer, more than a disk's hiccup."""

FILES_MAX: Final = 10_000
"""Files of one state. RocksDB's are 64 MiB each, so this is a state of some 600 GiB."""

FILE_BYTES_MAX: Final = 1 << 40

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")

FileSize: TypeAlias = tuple[str, int]
"""Name and size in bytes of a file that does not change any more."""


class Offer(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """Sender to receiver: my state, as of `index` or later."""

    sender: NodeId
    snapshot: int  # Random. The same number, the same bytes.
    term: Term  # The sender's current one.
    index: Index
    files: list[FileSize]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)


class Accept(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Receiver to sender: go on at position `held`. `crc` is of the file there, up to there."""

    sender: NodeId
    held: int
    crc: int


class Decline(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Receiver to sender, at any time: no, or no more, and here is why."""

    sender: NodeId
    text: str


class Chunk(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """Sender to receiver: the bytes at `position`."""

    sender: NodeId
    position: int
    crc: int  # Of the file, from its beginning to the end of `data`.
    data: bytes


class Ack(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """Receiver to sender: everything before `position` is written."""

    sender: NodeId
    position: int


class Done(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """Receiver to sender: the whole state is here, checked and durable."""

    sender: NodeId


SnapshotMessage: TypeAlias = Offer | Accept | Decline | Chunk | Ack | Done
CODEC: Final[Codec[SnapshotMessage]] = Codec(SnapshotMessage)


class Read(NamedTuple):
    """What the sender has to read."""

    name: str
    offset: int
    size: int


class Write(NamedTuple):
    """What the receiver has to write."""

    name: str
    offset: int
    data: bytes
    last: bool  # It completes the file.


class _Course:
    """How far a transfer has come."""

    def __init__(self, files: Sequence[FileSize]) -> None:
        self.position = 0
        self.crc = 0  # Of the file there, up to there.
        self._files = [file for file in files if file[1]]  # Empty ones are there when they are named.
        self._at = 0
        self._offset = 0

    @property
    def name(self) -> str:
        return self._files[self._at][0]

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def left(self) -> int:
        """Bytes to the end of the file; 0 behind the last one."""
        return self._files[self._at][1] - self._offset if self._at < len(self._files) else 0

    def advance(self, count: int, crc: int) -> bool:
        """Go on within the file. Returns whether its end was reached."""
        assert 0 < count <= self.left
        self.position += count
        self._offset += count
        self.crc = crc
        if self.left:
            return False
        self._at, self._offset, self.crc = self._at + 1, 0, 0
        return True

    def seek(self, position: int, crc: int) -> None:
        """Go on at another place, from the beginning on."""
        self.position = self._at = self._offset = self.crc = 0
        while self.left and position - self.position >= self.left:
            self.advance(self.left, 0)
        if position > self.position:
            self.advance(position - self.position, crc)


class SnapshotSender:
    """The sending end of one transfer. Outlives connections: call `start` on each."""

    def __init__(self, offer: Offer, *, chunk_bytes: int, bytes_per_second: int) -> None:
        """Begin with nothing said; `chunk_bytes` must fit into a frame."""
        self.done = False
        self.declined: str | None = None
        """Why the receiver does not want it."""
        self._offer = offer
        self._size = offer.size
        self._chunk_bytes = chunk_bytes
        self._seconds_per_byte = 1 / bytes_per_second
        self._course = _Course(offer.files)
        self._acknowledged = 0
        self._accepted = False
        self._reading: Read | None = None
        self._next_s = -math.inf  # The rate allows no chunk before.

    @property
    def position(self) -> int:
        """What the receiver has written for certain."""
        return self._acknowledged

    def start(self) -> Offer:
        """Begin on a new connection; return what to send first."""
        self._accepted = False
        self._reading = None
        return self._offer

    def on_message(self, message: SnapshotMessage) -> None:
        """Take an answer.

        Raises:
            PeerProtocolError: It is not the receiver's turn to say that.
        """
        match message:
            case Accept() if not self._accepted:
                if not 0 <= message.held <= self._size:
                    raise PeerProtocolError(f"it says that it holds {message.held} of {self._size} bytes")
                self._accepted = True
                self._acknowledged = message.held
                self._course.seek(message.held, message.crc)
            case Ack() if self._accepted:
                if not self._acknowledged <= message.position <= self._course.position:
                    raise PeerProtocolError(f"it acknowledges {message.position}, which was not sent")
                self._acknowledged = message.position
            case Done() if self._accepted and self._course.position == self._size:
                self._acknowledged = self._size
                self.done = True
            case Decline():
                self.declined = "".join(each if each.isprintable() else "?" for each in message.text[:1000])
            case _:
                raise PeerProtocolError(f"{type(message).__name__} out of turn")

    def next_read(self, now_s: float) -> Read | float:
        """Return what to read for the next chunk, or in how many seconds to ask again.

        Infinity: not before a message has come. `now_s` is a monotonic clock's.
        """
        course = self._course
        assert self._reading is None, "one chunk at a time"
        in_flight = course.position - self._acknowledged
        if not self._accepted or not course.left or in_flight >= WINDOW_BYTES:
            return math.inf
        if now_s < self._next_s:
            return self._next_s - now_s
        read = Read(course.name, course.offset, min(self._chunk_bytes, course.left))
        # What was not sent while the receiver was slow is not made up for.
        self._next_s = max(self._next_s, now_s - read.size * self._seconds_per_byte)
        self._next_s += read.size * self._seconds_per_byte
        self._reading = read
        return read

    def chunk(self, data: bytes) -> Chunk:
        """Return the message that carries what was to be read."""
        read, course = self._reading, self._course
        assert read is not None and len(data) == read.size
        self._reading = None
        position, crc = course.position, crc32(data, course.crc)
        course.advance(len(data), crc)
        return Chunk(self._offer.sender, position, crc, data)


class SnapshotReceiver:
    """The receiving end of one transfer. Outlives connections: call `accept` on each."""

    def __init__(self, own_id: NodeId, offer: Offer) -> None:
        """Take an offer.

        Raises:
            PeerProtocolError: No honest node offers that.
        """
        _check_offer(offer)
        self.offer = offer
        self._own_id = own_id
        self._course = _Course(offer.files)
        self._writing: tuple[int, int] | None = None  # Size and checksum of the write under way.

    @property
    def complete(self) -> bool:
        """Everything has been written."""
        return self._course.position == self.offer.size

    @property
    def position(self) -> int:
        """How much has been written."""
        return self._course.position

    def continues(self, offer: Offer) -> bool:
        """Return whether this is what is offered now, so that what has arrived of it is of use.

        Checksums would not tell: the sender carries on with the one that it is told.
        """
        return (self.offer.snapshot, self.offer.files) == (offer.snapshot, offer.files)

    def accept(self) -> Accept:
        """Return the answer to the offer, on a new connection. No write is under way."""
        assert self._writing is None
        return Accept(self._own_id, self._course.position, self._course.crc)

    def on_message(self, message: SnapshotMessage) -> Write:
        """Take the next chunk; return what to write. Say `written` when that is done.

        Raises:
            PeerProtocolError: It is no chunk, not the next one, or damaged.
        """
        assert self._writing is None, "one write at a time"
        course = self._course
        if not isinstance(message, Chunk):
            raise PeerProtocolError(f"{type(message).__name__} out of turn")
        if message.position != course.position or not 0 < len(message.data) <= course.left:
            raise PeerProtocolError(
                f"a chunk of {len(message.data)} bytes at {message.position}, where {course.position} is next"
            )
        crc = crc32(message.data, course.crc)
        if crc != message.crc:
            raise PeerProtocolError(f"the checksum of {course.name} is wrong before {course.offset}")
        self._writing = len(message.data), crc
        return Write(course.name, course.offset, message.data, len(message.data) == course.left)

    def written(self) -> Ack:
        """The write is done; return what to tell the sender."""
        assert self._writing is not None
        self._course.advance(*self._writing)
        self._writing = None
        return Ack(self._own_id, self._course.position)


def _check_offer(offer: Offer) -> None:
    if not 1 <= len(offer.files) <= FILES_MAX:
        raise PeerProtocolError(f"a state of {len(offer.files)} files; allowed is 1 to {FILES_MAX}")
    names = set()
    for name, size in offer.files:
        if not _NAME.fullmatch(name) or name in names:
            raise PeerProtocolError(f"a state with a file {name[:80]!r}")
        if not 0 <= size <= FILE_BYTES_MAX:
            raise PeerProtocolError(f"a state whose file {name} has {size} bytes")
        names.add(name)
