"""What waits to be sent on one link, and in which order; how large messages are cut and put together.

A 10 MB value must not stop heartbeats. So a message is either *small* or *bulk*:

* Small frames (body up to `SMALL_BYTES_MAX`) leave first, all that wait.
* Bulk messages leave one after the other, and of the first one at most `fragment_bytes` at a time: whole,
  or as the next fragment. Small frames that came meanwhile go between two fragments.

**Order.** Small messages overtake bulk ones, but never one of their own class: while an `AppendRequest`
waits in bulk, later `AppendRequest`s queue behind it however small they are. So messages of one class
arrive in the order in which they were sent; across classes there is no order. Raft tolerates any order,
and loss besides; keeping it within a class spares the refusal and the second sending that an append ahead
of its base would cost.

**Fragments.** Those of one message follow each other on the link, with other frames but no other
fragments in between. The message's number counts from 1 on each link. The last one carries the flag
`last`.

This module does no I/O: the link decides when to take, by whether its socket accepts more.
"""

import struct
from collections import deque
from typing import Final

from respraft.peer.codec import FRAGMENT, MESSAGE, Buffer, PeerProtocolError, encode_frame, encode_frame_head

SMALL_BYTES_MAX: Final = 16 << 10
"""Every message that is no batch and no append of entries is far below; at 1 Gbit/s it takes 0.13 ms.
Where fragments are smaller still, their size is the bound: no frame is longer than one."""

_FRAGMENT_PREFIX: Final = struct.Struct("<IB")
_NUMBER_MODULUS: Final = 1 << 32


class SendQueue:
    """Encoded messages that wait for one link, within a bound."""

    def __init__(self, *, fragment_bytes: int, bytes_max: int) -> None:
        """Begin empty.

        Args:
            fragment_bytes: Bulk bytes that may go between two looks at the small ones.
            bytes_max: Bound of `bytes`. A single message that is larger still passes, alone.
        """
        self.bytes = 0
        """Of the messages that wait, frame headers left out."""
        self._fragment_bytes = fragment_bytes
        self._small_bytes_max = min(SMALL_BYTES_MAX, fragment_bytes)
        self._bytes_max = bytes_max
        self._small: list[bytes] = []
        self._small_bytes = 0
        self._bulk: deque[tuple[type, bytes]] = deque()
        self._bulk_classes: dict[type, int] = {}  # How many of each class wait in `_bulk`.
        self._bulk_sent = 0  # Bytes of the first bulk message that were taken.
        self._bulk_number = 0  # Of the bulk message that was cut last.

    def put(self, message_class: type, body: bytes) -> bool:
        """Queue one encoded message; return False, with nothing changed, when there is no room for it."""
        size = len(body)
        # One bulk message always fits, however large: nothing smaller would carry what is in it.
        if self.bytes + size > self._bytes_max and (self._bulk or size <= self._small_bytes_max):
            return False
        self.bytes += size
        if size > self._small_bytes_max or message_class in self._bulk_classes:
            self._bulk.append((message_class, body))
            self._bulk_classes[message_class] = self._bulk_classes.get(message_class, 0) + 1
        else:
            self._small.append(encode_frame(MESSAGE, body))
            self._small_bytes += size
        return True

    def take(self) -> list[Buffer]:
        """Remove what may go in one write: all small frames, then at most `fragment_bytes` of bulk."""
        parts: list[Buffer] = []
        if self._small:
            parts.append(self._small[0] if len(self._small) == 1 else b"".join(self._small))
            self._small.clear()
            self.bytes -= self._small_bytes
            self._small_bytes = 0
        room = self._fragment_bytes
        while self._bulk and (room == self._fragment_bytes or self._first_bulk_fits(room)):
            room -= self._take_bulk(parts)
        return parts

    def _first_bulk_fits(self, room: int) -> bool:
        return len(self._bulk[0][1]) <= room

    def _take_bulk(self, parts: list[Buffer]) -> int:
        """Append the first bulk message, or its next fragment, to `parts`; return the size."""
        message_class, body = self._bulk[0]
        if len(body) <= self._fragment_bytes:
            piece: Buffer = body
            parts.append(encode_frame_head(MESSAGE, b"", piece))
        else:
            if self._bulk_sent == 0:
                self._bulk_number = (self._bulk_number + 1) % _NUMBER_MODULUS
            piece = memoryview(body)[self._bulk_sent : self._bulk_sent + self._fragment_bytes]
            last = self._bulk_sent + len(piece) == len(body)
            parts.append(encode_frame_head(FRAGMENT, _FRAGMENT_PREFIX.pack(self._bulk_number, last), piece))
        parts.append(piece)
        self.bytes -= len(piece)
        self._bulk_sent += len(piece)
        if self._bulk_sent == len(body):
            self._drop_first_bulk(message_class)
        return len(piece)

    def _drop_first_bulk(self, message_class: type) -> None:
        self._bulk.popleft()
        self._bulk_sent = 0
        left = self._bulk_classes[message_class] - 1
        if left:
            self._bulk_classes[message_class] = left
        else:
            del self._bulk_classes[message_class]


class Reassembly:
    """Puts the fragments of one link together again, one message at a time."""

    def __init__(self, message_bytes_max: int) -> None:
        """Begin with no message under way; memory grows as fragments arrive, up to `message_bytes_max`."""
        self._message_bytes_max = message_bytes_max
        self._number = 0  # Of the message under way or, when `_pieces` is empty, of the one before.
        self._pieces = bytearray()

    def add(self, body: memoryview) -> bytearray | None:
        """Take the body of a FRAGMENT frame; return the whole message's body if it was the last one.

        Raises:
            PeerProtocolError: It does not continue what came before, or the message grows too long.
        """
        if len(body) <= _FRAGMENT_PREFIX.size:
            raise PeerProtocolError("a fragment without contents")
        number, last = _FRAGMENT_PREFIX.unpack_from(body)
        expected = self._number if self._pieces else (self._number + 1) % _NUMBER_MODULUS
        if number != expected:
            raise PeerProtocolError(f"a fragment of message {number}, expected one of message {expected}")
        if len(self._pieces) + len(body) - _FRAGMENT_PREFIX.size > self._message_bytes_max:
            raise PeerProtocolError(f"a message in fragments is over {self._message_bytes_max} bytes long")
        self._number = number
        self._pieces += body[_FRAGMENT_PREFIX.size :]
        if not last:
            return None
        whole, self._pieces = self._pieces, bytearray()
        return whole
