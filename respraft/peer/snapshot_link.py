"""A connection that carries a snapshot: messages of `snapshot_transfer.py`, both ways, and nothing else.

It is read by a task, one message at a time. While that is busy (it writes to a disk) a few messages wait
here, and then the socket is not read any more.
"""

import asyncio
from collections import deque
from typing import Final, Self, cast

from respraft.config import PeerConfig
from respraft.peer.codec import HANDSHAKE, SNAPSHOT, FrameReader, PeerProtocolError, encode_frame
from respraft.peer.handshake import Handshake
from respraft.peer.link import Link
from respraft.peer.snapshot_transfer import CODEC, SnapshotMessage
from respraft.raft.message import NodeId

WAITING_MAX: Final = 4
"""Messages that wait before the socket is not read any more."""


class LinkLost(Exception):
    """The connection has ended, or its other end says nothing. The text says why."""


class SnapshotLink(Link):
    """Either end. Its own owner: whoever waits for news is woken."""

    def __init__(self, *, handshake: Handshake, own_id: NodeId, config: PeerConfig) -> None:
        """Begin unconnected, to be dialled or to be handed a connection."""
        super().__init__(handshake=handshake, own_id=own_id, owner=self, config=config)
        self.full = False
        """What was written last waits in the transport."""
        self._news = asyncio.Event()
        self._waiting: deque[SnapshotMessage] = deque()
        self._reader = FrameReader(config.frame_bytes_max)
        self._reading = True

    def write(self, message: SnapshotMessage) -> None:
        """Send a message. What is written to a lost connection is lost with it."""
        if not self.ended and self._transport is not None:
            self._transport.write(encode_frame(SNAPSHOT, CODEC.encode(message)))

    def take(self) -> SnapshotMessage | None:
        """Return the next message, if one waits."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        if not self._reading and not self._waiting and not self.ended and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()
        return message

    async def wait(self, seconds: float) -> bool:
        """Wait for news: a message, room to write, the end. Returns False if none came in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    async def next(self, seconds: float) -> SnapshotMessage:
        """Wait for the next message.

        Raises:
            LinkLost: The connection ended, or nothing came in that time.
        """
        while (message := self.take()) is None:
            if self.ended:
                raise LinkLost(self.reason)
            if not await self.wait(seconds):
                self.end(f"nothing was heard for {seconds:.0f} s")
        return message

    # --- called by the event loop, and by Link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the transport buffer about one chunk."""
        high = self._config.fragment_bytes
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=high, low=high // 4)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """Note that the transport is full."""
        self.full = True

    def resume_writing(self) -> None:
        """Go on."""
        self.full = False
        self._news.set()

    def link_up(self, link: Self) -> None:
        """Wake who waits for the handshake."""
        self._news.set()

    def link_lost(self, link: Self) -> None:
        """Wake who waits for anything."""
        self._news.set()

    def end(self, reason: str) -> None:
        """Close the connection, now."""
        super().end(reason)
        self._news.set()

    def _on_data(self, data: bytes) -> None:
        assert self.peer is not None and self._transport is not None
        for kind, _group, body in self._reader.feed(data):
            if kind == HANDSHAKE:
                self._on_late_refusal(body)
                return
            if kind != SNAPSHOT:
                raise PeerProtocolError(f"a frame of kind {kind} on a connection for a snapshot")
            message = CODEC.decode(body)
            if message.sender != self.peer.node_id:
                raise PeerProtocolError(
                    f"a message of node {message.sender} on a connection of node {self.peer.node_id}"
                )
            self._waiting.append(message)
        self._news.set()
        if len(self._waiting) >= WAITING_MAX and self._reading:
            self._reading = False
            self._transport.pause_reading()
