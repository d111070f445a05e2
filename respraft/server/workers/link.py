"""One end of the socket pair between a worker and its node's process: messages in, messages out."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

import msgspec

from respraft.peer.codec import WORKER, FrameReader, PeerProtocolError, encode_frame_head
from respraft.server.workers.messages import FRAME_BYTES_MAX, Message, decode, encode

_log: Final = logging.getLogger("respraft.workers")


class Link(asyncio.Protocol):
    """A stream of messages. What breaks its form ends it: nothing else of the other side can be relied on."""

    def __init__(self, receive: Callable[[Message], None], ended: Callable[[], None]) -> None:
        """`receive` takes each message, `ended` is called once, when there will be no more."""
        self._receive = receive
        self._ended = ended
        self._reader = FrameReader(FRAME_BYTES_MAX)
        self._transport: asyncio.Transport | None = None

    def send(self, message: Message) -> None:
        """Write a message; dropped when the link has ended."""
        if self._transport is not None:
            body = encode(message)
            self._transport.writelines((encode_frame_head(WORKER, b"", body), body))

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the stream."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are complete."""
        try:
            for kind, _group, body in self._reader.feed(data):
                if kind != WORKER:
                    raise PeerProtocolError(f"a frame of kind {kind}")
                self._receive(decode(body))
        except (PeerProtocolError, msgspec.MsgspecError) as error:
            _log.error("the link between node and worker is broken: %s", error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no other side any more."""
        self._transport = None
        self._ended()
