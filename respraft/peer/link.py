"""One TCP connection between two nodes, from its handshake to its end.

A `SendingLink` was dialled by this node and carries messages away; a `ReceivingLink` was accepted and
brings them. Nothing but the handshake, and a refusal after it, ever goes the other way. A link reports
exactly two things to its owner: that it stands, at most once, and that it is lost, once. Why it was lost
stands in its attributes.

**Pacing.** A write goes to the transport only while its buffer holds less than a fragment, and the kernel
is asked to hold no more than one unsent either. So a heartbeat waits behind about two fragments, never
behind the 10 MB that a message may be long. Of a long message one fragment is cut per turn of the event
loop.

**Silence.** A peer that does not finish its handshake in time is cut off by a timer, one that stops
acknowledging what was sent by the kernel (`UNACKNOWLEDGED_MS_MAX`): after a partition a fresh connection
works at once, where the old one would wait for a retransmission that has backed off. Whether a peer that
acknowledges is alive is for Raft's heartbeats to tell.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, Self, TypeVar, cast

from respraft.config import PeerConfig
from respraft.peer.codec import (
    FRAGMENT,
    HANDSHAKE,
    MESSAGE,
    Codec,
    FrameReader,
    PeerProtocolError,
)
from respraft.peer.fragments import Reassembly, SendQueue
from respraft.peer.handshake import (
    HANDSHAKE_FRAME_BYTES_MAX,
    Handshake,
    Refusal,
    code_of,
    decode_refused,
    encode_refused,
)
from respraft.peer.interface import Introduction, M, Objection
from respraft.raft.message import NodeId

UNACKNOWLEDGED_MS_MAX: Final = 3000
"""Several election time-outs: by then Raft has given the peer up, and only a new connection can help."""

_LOG: Final = logging.getLogger("respraft.peer")
_KEEPALIVE_S: Final = 5
"""Silence after which the kernel asks whether the peer still knows the connection."""


@dataclass(slots=True)
class Traffic:
    """Counters of one peer. They outlive its links."""

    messages_sent: int = 0
    messages_received: int = 0
    messages_dropped: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


L_contra = TypeVar("L_contra", bound="Link", contravariant=True)


class LinkOwner(Protocol[L_contra]):
    """Who made the link and wants to know what becomes of it."""

    def link_up(self, link: L_contra) -> None:
        """The handshake succeeded; `link.peer` says who is there."""
        ...

    def link_lost(self, link: L_contra) -> None:
        """The connection is gone. Called once for each link that was ever connected."""
        ...


class Link(asyncio.Protocol):
    """What both kinds of links have in common: handshake, time-out, and how they end."""

    def __init__(
        self, *, handshake: Handshake, own_id: NodeId, owner: LinkOwner[Self], config: PeerConfig
    ) -> None:
        """Begin unconnected.

        Args:
            handshake: This side's, unused.
            own_id: This node, as the sender of a refusal.
            owner: Gets `link_up` and `link_lost`.
            config: Limits and time-outs.
        """
        self.peer: Introduction | None = None
        """Who is there; None until the link stands."""
        self.refusal: Refusal | None = None
        """Why one side would not talk, if that ended the link."""
        self.reason = ""
        """Why the link ended, for the log."""
        self.ended_by_peer = False
        """The other side closed or reset the connection, and we had not."""
        self.remote = ""
        """Host of the other side, for the log."""
        self.ended = False
        """Nothing more is sent, nor delivered."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the connection is gone."""
        self.handshake = handshake
        self._own_id = own_id
        self._owner = owner
        self._config = config
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # --- called by the owner

    @property
    def connected(self) -> bool:
        """There is, or was, a connection; so `link_lost` has come or will come."""
        return self._transport is not None

    def end(self, reason: str) -> None:
        """Close the connection, now; `link_lost` follows."""
        if (transport := self._stop(reason)) is not None:
            transport.abort()

    def finish(self, reason: str) -> None:
        """Close the connection once everything written has left; `link_lost` follows."""
        if (transport := self._stop(reason)) is not None:
            transport.close()

    def abort(self) -> None:
        """Do not wait any longer for what `finish` left to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def refuse(self, objection: Objection) -> None:
        """Tell the peer that it is not welcome any more, and close."""
        if self.ended or self._transport is None:
            return
        code, text = code_of(objection), objection.text
        self.refusal = Refusal(code, text, by_peer=False)
        self._transport.write(encode_refused(self._own_id, code, text))
        self.finish(text)

    @property
    def purpose(self) -> int:
        """What the connection is for, as the handshake has it."""
        return self.handshake.purpose

    def hand_over(self, successor: "Link") -> None:
        """Give a standing connection to a link of another kind. This one's owner hears no more of it."""
        transport = self._stop("handed over")
        assert transport is not None and self.peer is not None
        successor._transport, successor.peer, successor.remote = transport, self.peer, self.remote
        transport.set_protocol(successor)
        self.lost.set_result(None)

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket's options and begin the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        if self.ended:  # Before it began.
            self._transport.abort()
            return
        self.remote = str((transport.get_extra_info("peername") or ("an unknown host",))[0])
        _set_socket_options(transport.get_extra_info("socket"), self._config)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._config.handshake_timeout_ms / 1000, self._on_deadline)
        if opening := self.handshake.start():
            self._transport.write(opening)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer. What breaks the protocol ends this link and nothing else."""
        if self.ended:
            return
        try:
            if self.peer is None:
                self._on_handshake(data)
            else:
                self._on_data(data)
        except PeerProtocolError as error:
            self.end(str(error))

    def eof_received(self) -> None:
        """Take the end of the stream for the end of the link: peers never close one direction alone."""
        self.ended_by_peer = not self.ended
        self.end("closed by the peer")

    def connection_lost(self: Self, error: Exception | None) -> None:
        """Find out who ended it, and tell the owner."""
        if isinstance(error, ConnectionError) and not self.ended:
            self.ended_by_peer = True
        self.reason = self.reason or str(error or "closed")
        self.ended = True
        self._cancel_deadline()
        self.lost.set_result(None)
        self._owner.link_lost(self)

    # --- for the two kinds

    def _on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def _on_late_refusal(self, body: memoryview) -> None:
        self.refusal = decode_refused(body)
        self.end(self.refusal.text)

    # --- private

    def _on_handshake(self: Self, data: bytes) -> None:
        answer = self.handshake.feed(data)
        assert self._transport is not None
        if answer:
            self._transport.write(answer)
        self.refusal = self.handshake.refusal
        if self.refusal is not None:
            self.finish(self.refusal.text)
        elif self.handshake.peer is not None:
            self.peer = self.handshake.peer
            self._cancel_deadline()
            self._owner.link_up(self)

    def _on_deadline(self) -> None:
        self.end(f"no handshake within {self._config.handshake_timeout_ms} ms")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop(self, reason: str) -> asyncio.Transport | None:
        if self.ended:
            return None
        self.ended = True
        self.reason = reason
        return self._transport


class SendingLink(Link, Generic[M]):
    """A link that this node dialled: messages leave here."""

    def __init__(
        self,
        *,
        handshake: Handshake,
        own_id: NodeId,
        owner: LinkOwner[Self],
        config: PeerConfig,
        codec: Codec[M],
        traffic: Traffic,
    ) -> None:
        """Begin unconnected, with an empty queue; `traffic` is the peer's."""
        super().__init__(handshake=handshake, own_id=own_id, owner=owner, config=config)
        self._encode = codec.encode
        self._traffic = traffic
        self._queue = SendQueue(fragment_bytes=config.fragment_bytes, bytes_max=config.queue_bytes_max)
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._paused = False
        self._continuing = False  # A call of `_continue` is due.

    @property
    def queue_bytes(self) -> int:
        """What waits here and was not handed to the transport."""
        return self._queue.bytes

    def send(self, message: M) -> bool:
        """Queue a message for the next `flush`; return False if there is no room for it."""
        body = self._encode(message)
        size_max = self._config.message_bytes_max
        if len(body) > size_max:
            _LOG.error("a message of %d bytes was dropped: peer.message_bytes_max is %d", len(body), size_max)
            self._traffic.messages_dropped += 1
            return False
        if self.ended or not self._queue.put(type(message), body):
            self._traffic.messages_dropped += 1
            return False
        self._traffic.messages_sent += 1
        return True

    def flush(self) -> None:
        """Write what waits and may go: one write, and the rest in later turns."""
        if self._paused or self.ended or not self._queue.bytes:
            return
        parts = self._queue.take()
        assert self._transport is not None
        self._traffic.bytes_sent += sum(map(len, parts))
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)
        if self._queue.bytes and not self._continuing:
            self._continuing = True
            asyncio.get_running_loop().call_soon(self._continue)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the transport buffer about one fragment, then begin the handshake."""
        high = self._config.fragment_bytes
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=high, low=high // 4)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """Keep everything in the queue, where small messages can overtake."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on where the transport's buffer was full."""
        self._paused = False
        self.flush()

    def _continue(self) -> None:
        self._continuing = False
        self.flush()

    def _on_data(self, data: bytes) -> None:
        for kind, _group, body in self._reader.feed(data):
            if kind != HANDSHAKE:
                raise PeerProtocolError(f"a frame of kind {kind} on a link that only carries messages away")
            self._on_late_refusal(body)


class ReceivingLink(Link, Generic[M]):
    """A link that the peer dialled: its messages arrive here."""

    def __init__(
        self,
        *,
        handshake: Handshake,
        own_id: NodeId,
        owner: LinkOwner[Self],
        config: PeerConfig,
        codec: Codec[M],
        deliver: Callable[[NodeId, int, M], None],
    ) -> None:
        """Begin unconnected; `deliver` gets sender, incarnation and message, each as it is complete."""
        super().__init__(handshake=handshake, own_id=own_id, owner=owner, config=config)
        self.traffic = Traffic()
        """The peer's; the owner sets it when the link stands."""
        self._decode = codec.decode
        self._deliver = deliver
        self._reader = FrameReader(config.frame_bytes_max)
        self._reassembly = Reassembly(config.message_bytes_max)

    def _on_data(self, data: bytes) -> None:
        assert self.peer is not None
        peer, incarnation = self.peer.node_id, self.peer.incarnation
        self.traffic.bytes_received += len(data)
        for kind, _group, body in self._reader.feed(data):
            if kind == MESSAGE:
                message = self._decode(body)
            elif kind == FRAGMENT:
                whole = self._reassembly.add(body)
                if whole is None:
                    continue
                message = self._decode(whole)
            elif kind == HANDSHAKE:
                self._on_late_refusal(body)
                return
            else:
                raise PeerProtocolError(f"a frame of kind {kind}, which is not known here")
            if message.sender != peer:
                raise PeerProtocolError(f"a message of node {message.sender} on a link of node {peer}")
            self.traffic.messages_received += 1
            self._deliver(peer, incarnation, message)
            if self.ended:  # The owner may have ended this link on account of the message.
                return


def _set_socket_options(connection: socket.socket | None, config: PeerConfig) -> None:
    """Send small frames at once, hold little back, notice a dead host: as far as this system can."""
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", _KEEPALIVE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_S),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS_MAX),
        ("TCP_NOTSENT_LOWAT", config.fragment_bytes),
    ):
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
