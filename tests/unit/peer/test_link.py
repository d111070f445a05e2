"""One link over a transport whose writability the test decides: what is written when, and how links end."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import pytest

from respraft.peer.codec import HANDSHAKE, MESSAGE, FrameReader, encode_frame
from respraft.peer.fragments import Reassembly
from respraft.peer.handshake import REMOVED, Accepting, Dialing, Handshake, encode_refused
from respraft.peer.interface import Objection
from respraft.peer.link import Link, ReceivingLink, SendingLink, Traffic
from respraft.raft.message import NodeId
from tests.unit.peer.support import (
    AnyMessage,
    Blob,
    FakeTransport,
    codec,
    heartbeat,
    introduction,
    peer_config,
    run,
    turns,
)

FRAGMENT_BYTES = 256 << 10
LONG = Blob(sender=1, payload=b"x" * (10 << 20))


@dataclass
class Owner:
    up: list[Link] = field(default_factory=list)
    lost: list[Link] = field(default_factory=list)
    messages: list[tuple[NodeId, int, AnyMessage]] = field(default_factory=list)

    def link_up(self, link: Link) -> None:
        self.up.append(link)

    def link_lost(self, link: Link) -> None:
        self.lost.append(link)

    def deliver(self, sender: NodeId, incarnation: int, message: AnyMessage) -> None:
        self.messages.append((sender, incarnation, message))


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def whole(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return whole


def dialing() -> Dialing:
    return Dialing(own=introduction(1), to=2, check=lambda _: None, nonce=bytes(32), secret=None)


def accepting() -> Accepting:
    return Accepting(own=introduction(2), check=lambda _: None, nonce=bytes(32), secret=None)


@dataclass
class Sending:
    """A sending link of node 1 that stands, and what the other side makes of its bytes."""

    owner: Owner
    traffic: Traffic
    link: SendingLink[AnyMessage]
    transport: FakeTransport
    reader: FrameReader
    reassembly: Reassembly

    def received(self) -> list[AnyMessage]:
        """Return the messages that came whole with what was written since the last look."""
        messages = []
        for write in self.transport.writes:
            for kind, _group, body in self.reader.feed(write):
                whole = body if kind == MESSAGE else self.reassembly.add(body)
                if whole is not None:
                    messages.append(codec().decode(whole))
        self.transport.writes.clear()
        return messages


def sending(**changes: int) -> Sending:
    owner, traffic = Owner(), Traffic()
    link = SendingLink(
        handshake=dialing(),
        own_id=1,
        owner=owner,
        config=peer_config(**changes),
        codec=codec(),
        traffic=traffic,
    )
    transport = FakeTransport(link)
    link.connection_made(transport)
    complete(accepting(), link, transport)
    assert owner.up == [link]
    return Sending(owner, traffic, link, transport, FrameReader(1 << 20), Reassembly(64 << 20))


def complete(other: Handshake, link: Link, transport: FakeTransport) -> None:
    """Play the other side of the handshake."""
    if opening := other.start():
        link.data_received(opening)
    while transport.writes:
        if answer := other.feed(transport.writes.pop(0)):
            link.data_received(answer)
    transport.buffered = 0


@on_a_loop
async def test_the_messages_of_one_turn_leave_in_one_write() -> None:
    node = sending()
    messages = [heartbeat(1, number) for number in range(100)]
    for message in messages:
        assert node.link.send(message)
    assert node.transport.writes == []
    node.link.flush()
    assert len(node.transport.writes) == 1
    assert node.received() == messages
    node.link.flush()
    assert node.transport.writes == []


@on_a_loop
async def test_a_long_message_and_small_ones_leave_in_one_write_too() -> None:
    node = sending()
    node.link.send(Blob(sender=1, payload=bytes(100_000)))
    node.link.send(heartbeat(1))
    node.link.flush()
    assert len(node.transport.writes) == 1
    assert node.received() == [heartbeat(1), Blob(sender=1, payload=bytes(100_000))]


@on_a_loop
async def test_a_heartbeat_never_waits_behind_more_than_two_fragments() -> None:
    node = sending()
    assert node.link.send(LONG)
    node.link.flush()
    received: list[AnyMessage] = []
    number = 0
    while node.link.queue_bytes:
        await turns()
        assert node.transport.paused
        assert node.transport.buffered <= 2 * FRAGMENT_BYTES + 1000
        received += node.received()
        # The transport takes no more. What is sent now goes ahead of the rest once it does.
        number += 1
        assert node.link.send(heartbeat(1, number))
        node.link.flush()
        assert node.transport.writes == []
        node.transport.drain()
        first = node.received()[0]
        assert first == heartbeat(1, number)
        received.append(first)
    node.transport.drain()
    assert number >= 10


@on_a_loop
async def test_a_long_message_goes_on_by_itself_and_arrives_whole() -> None:
    node = sending()
    assert node.link.send(LONG)
    node.link.flush()
    received = []
    while node.link.queue_bytes or node.transport.writes:
        await turns()
        received += node.received()
        node.transport.drain()
    assert received == [LONG]
    assert node.traffic.messages_sent == 1
    assert node.traffic.bytes_sent > 10 << 20


@on_a_loop
async def test_one_turn_cuts_one_fragment_even_if_the_transport_would_take_more() -> None:
    node = sending()
    node.transport.high = 1 << 30
    node.link.send(LONG)
    node.link.flush()
    assert len(node.transport.writes) == 1
    assert len(node.transport.writes[0]) < FRAGMENT_BYTES + 100


@on_a_loop
async def test_a_full_queue_drops_and_counts() -> None:
    node = sending(queue_bytes_max=64 << 10)
    big = Blob(sender=1, payload=bytes(40_000))
    assert node.link.send(big)
    assert not node.link.send(big)
    assert node.link.send(heartbeat(1))
    assert node.traffic.messages_dropped == 1
    assert node.traffic.messages_sent == 2
    node.link.flush()
    assert node.link.queue_bytes == 0
    assert node.link.send(big)


@on_a_loop
async def test_a_message_over_the_limit_is_dropped_and_the_next_one_goes() -> None:
    node = sending(message_bytes_max=1024)
    assert not node.link.send(Blob(sender=1, payload=bytes(2000)))
    assert node.link.send(heartbeat(1))


@on_a_loop
async def test_nothing_is_sent_on_a_link_that_ended() -> None:
    node = sending()
    node.link.send(heartbeat(1))
    node.link.end("for a test")
    assert node.transport.closed == "abort"
    assert not node.link.send(heartbeat(1))
    node.link.flush()
    assert node.transport.writes == []


@on_a_loop
async def test_a_sending_link_takes_nothing_but_a_refusal() -> None:
    node = sending()
    node.link.data_received(encode_frame(MESSAGE, codec().encode(heartbeat(2))))
    assert node.transport.closed == "abort"
    assert "only carries messages away" in node.link.reason

    node = sending()
    node.link.data_received(encode_refused(2, REMOVED, "you were removed"))
    node.transport.lose()
    assert node.owner.lost == [node.link]
    assert node.link.refusal is not None and node.link.refusal.by_peer
    assert node.link.reason == "you were removed"


@dataclass
class Receiving:
    """A receiving link of node 2, with node 1 at the other end."""

    owner: Owner
    link: ReceivingLink[AnyMessage]
    transport: FakeTransport


def receiving(*, stands: bool = True, **changes: int) -> Receiving:
    owner = Owner()
    link = ReceivingLink(
        handshake=accepting(),
        own_id=2,
        owner=owner,
        config=peer_config(**changes),
        codec=codec(),
        deliver=owner.deliver,
    )
    transport = FakeTransport(link)
    link.connection_made(transport)
    if stands:
        complete(dialing(), link, transport)
        assert owner.up == [link]
    return Receiving(owner, link, transport)


def frame(message: AnyMessage) -> bytes:
    return encode_frame(MESSAGE, codec().encode(message))


@on_a_loop
async def test_messages_are_delivered_with_the_incarnation_of_the_handshake() -> None:
    node = receiving()
    node.link.data_received(frame(heartbeat(1, 1)) + frame(heartbeat(1, 2)))
    assert node.owner.messages == [(1, 1001, heartbeat(1, 1)), (1, 1001, heartbeat(1, 2))]
    assert node.link.traffic.messages_received == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(heartbeat(3)), "a message of node 3 on a link of node 1"),
        (encode_frame(MESSAGE, b"\xc1"), "not a message"),
        (encode_frame(99, b""), "kind 99"),
        (encode_frame(HANDSHAKE, b""), "not a message"),
        (b"\xff" * 20, "a frame of length"),
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of length"),
        (frame(heartbeat(1))[:-1] + b"\xee", "CRC"),
    ],
)
def test_what_breaks_the_protocol_ends_the_link(data: bytes, reason: str) -> None:
    async def whole() -> None:
        node = receiving()
        node.link.data_received(data)
        assert node.transport.closed == "abort"
        assert reason in node.link.reason
        assert node.owner.messages == []
        node.link.data_received(frame(heartbeat(1)))  # Was on its way already.
        assert node.owner.messages == []
        node.transport.lose()
        assert node.owner.lost == [node.link]
        assert not node.link.ended_by_peer

    run(whole())


@on_a_loop
async def test_a_frame_over_the_limit_ends_the_link_before_its_body_comes() -> None:
    node = receiving(frame_bytes_max=2048, fragment_bytes=1024)
    node.link.data_received(encode_frame(MESSAGE, bytes(2048))[:13])
    assert node.transport.closed == "abort"


@on_a_loop
async def test_the_owner_may_end_the_link_on_account_of_a_message() -> None:
    received = []

    def deliver(_sender: NodeId, _incarnation: int, message: AnyMessage) -> None:
        received.append(message)
        link.end("enough")

    link = ReceivingLink(
        handshake=accepting(), own_id=2, owner=Owner(), config=peer_config(), codec=codec(), deliver=deliver
    )
    transport = FakeTransport(link)
    link.connection_made(transport)
    complete(dialing(), link, transport)
    link.data_received(frame(heartbeat(1, 1)) + frame(heartbeat(1, 2)))
    assert received == [heartbeat(1, 1)]


@on_a_loop
async def test_who_ended_the_link_is_known() -> None:
    for error, by_peer in (
        (ConnectionResetError(), True),
        (BrokenPipeError(), True),
        (TimeoutError(), False),
        (None, False),
    ):
        node = receiving()
        node.transport.lose(error)
        assert node.link.ended_by_peer == by_peer

    node = receiving()
    node.link.eof_received()
    assert node.transport.closed
    node.transport.lose()
    assert node.link.ended_by_peer

    node = receiving()
    node.link.end("our own wish")
    node.link.eof_received()
    node.transport.lose(ConnectionResetError())
    assert not node.link.ended_by_peer
    assert node.link.reason == "our own wish"


@on_a_loop
async def test_a_refusal_after_the_handshake_is_told_and_closes() -> None:
    node = receiving()
    node.link.refuse(Objection("you were removed", removed=True))
    assert node.transport.writes == [encode_refused(2, REMOVED, "you were removed")]
    assert node.transport.closed == "close"
    node.link.refuse(Objection("once is enough"))
    assert len(node.transport.writes) == 1


@on_a_loop
async def test_a_peer_that_is_silent_in_the_handshake_is_cut_off() -> None:
    node = receiving(stands=False, handshake_timeout_ms=10)
    node.link.data_received(b"resp")
    while not node.transport.closed:
        await turns()
    assert node.link.reason == "no handshake within 10 ms"


@on_a_loop
async def test_a_link_that_was_ended_before_it_began_never_begins() -> None:
    owner = Owner()
    link = ReceivingLink(
        handshake=accepting(),
        own_id=2,
        owner=owner,
        config=peer_config(),
        codec=codec(),
        deliver=owner.deliver,
    )
    assert not link.connected
    link.end("too many")
    transport = FakeTransport(link)
    link.connection_made(transport)
    assert transport.closed == "abort"
    transport.lose()
    assert owner.lost == [link] and link.reason == "too many"


@on_a_loop
async def test_the_end_of_a_link_can_be_awaited() -> None:
    node = receiving()
    node.link.finish("for a test")
    assert not node.link.lost.done()
    asyncio.get_running_loop().call_soon(node.transport.lose)
    await node.link.lost
