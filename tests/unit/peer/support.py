"""Doubles for the owner of a peer network, and for a transport whose writability the test decides."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import uvloop

from respraft.config import PeerConfig
from respraft.peer.codec import Buffer, Codec
from respraft.peer.interface import Identity, Introduction, Objection
from respraft.peer.network import PeerNetwork
from respraft.peer.snapshot_network import SnapshotOwner
from respraft.raft.message import HeartbeatRequest, Message, NodeId

PATIENCE_S: Final = 60.0
"""Only a failing test waits this long."""


class Blob(msgspec.Struct, tag=50, array_like=True, frozen=True):
    """A message of any size, as the layers above the core have them."""

    sender: NodeId
    payload: bytes


AnyMessage = Message | Blob


def codec() -> Codec[AnyMessage]:
    return Codec(AnyMessage)


def heartbeat(sender: NodeId, number: int = 0) -> HeartbeatRequest:
    return HeartbeatRequest(sender=sender, term=1, commit_index=2, round=number, time_ms=3)


def introduction(node_id: NodeId, **changes: Any) -> Introduction:
    plain = Introduction(
        cluster_id="test", node_id=node_id, incarnation=1000 + node_id, start_counter=1, empty=False
    )
    return msgspec.structs.replace(plain, **changes)


def peer_config(**changes: Any) -> PeerConfig:
    plain = PeerConfig(listen="127.0.0.1:1", reconnect_ms_max=20, handshake_timeout_ms=int(PATIENCE_S * 1000))
    return replace(plain, **changes)


@dataclass
class Owner:
    """Gatekeeper and receiver that notes everything, and lets a test wait for what it expects."""

    refusals: dict[NodeId, str] = field(default_factory=dict)
    empty: bool = False
    address: str = ""
    messages: list[tuple[NodeId, int, AnyMessage]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    checked: list[Introduction] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self, peer: Introduction) -> Objection | None:
        self.checked.append(peer)
        self._changed.set()
        text = self.refusals.get(peer.node_id)
        return None if text is None else Objection(text, removed="removed" in text)

    def origin(self) -> int:
        return 0

    def founders(self) -> tuple[NodeId, ...]:
        return ()

    def log_is_empty(self) -> bool:
        return self.empty

    def own_address(self) -> tuple[str, int]:
        return self.address, 1 if self.address else 0

    def on_message(self, sender: NodeId, incarnation: int, message: AnyMessage) -> None:
        self.messages.append((sender, incarnation, message))
        self._changed.set()

    def on_link_up(self, peer: NodeId, incarnation: int, start_counter: int, empty: bool) -> None:
        self._note("up", peer, incarnation, start_counter, empty)

    def on_link_down(self, peer: NodeId, *, by_peer: bool) -> None:
        self._note("down", peer, by_peer)

    def on_refused(self, peer: NodeId, text: str, *, removed: bool) -> None:
        self._note("refused", peer, text, removed)

    def on_dial_refused(self, peer: NodeId) -> None:
        self._note("dial refused", peer)

    def kinds(self) -> list[tuple[Any, ...]]:
        return [event[:2] for event in self.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at after each callback."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_event(self, *event: Any) -> None:
        await self.until(lambda: any(each[: len(event)] == event for each in self.events))

    async def until_messages(self, count: int) -> None:
        await self.until(lambda: len(self.messages) >= count)

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()


class Nodes:
    """Peer networks on loopback, closed at the end of the test."""

    def __init__(self) -> None:
        self.owners: dict[NodeId, Owner] = {}
        self.networks: dict[NodeId, PeerNetwork[AnyMessage]] = {}

    async def start(
        self,
        node_id: NodeId,
        *,
        config: PeerConfig | None = None,
        secret: bytes | None = None,
        cluster_id: str = "test",
        incarnation: int | None = None,
        listen: str = "127.0.0.1:0",
        snapshots: SnapshotOwner | None = None,
    ) -> tuple[PeerNetwork[AnyMessage], Owner]:
        owner = Owner()
        network = PeerNetwork(
            identity=Identity(
                cluster_id=cluster_id,
                node_id=node_id,
                incarnation=1000 + node_id if incarnation is None else incarnation,
                start_counter=1,
            ),
            codec=codec(),
            config=config or peer_config(),
            gatekeeper=owner,
            receiver=owner,
            rng=random.Random(node_id),
            snapshots=snapshots,
            secret=secret,
        )
        await network.start(listen)
        self.owners[node_id] = owner
        self.networks[node_id] = network
        return network, owner

    async def connect_all(self) -> None:
        """Make everybody dial everybody, and wait until all links stand both ways."""
        addresses = self.addresses()
        for network in self.networks.values():
            network.set_peers(addresses)
        for node_id, owner in self.owners.items():
            for peer in self.networks:
                if peer != node_id:
                    await owner.until_event("up", peer)

    def addresses(self) -> dict[NodeId, str]:
        return {node_id: f"127.0.0.1:{network.port}" for node_id, network in self.networks.items()}

    async def stop(self, node_id: NodeId) -> None:
        await self.networks.pop(node_id).close()

    async def stop_all(self) -> None:
        for node_id in list(self.networks):
            await self.stop(node_id)


def run_with_nodes(test: Callable[[Nodes], Coroutine[Any, Any, None]]) -> None:
    """Run a test on the event loop that production uses."""

    async def whole() -> None:
        nodes = Nodes()
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await test(nodes)
        finally:
            await nodes.stop_all()

    run(whole())


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop; an error that reaches the loop's exception handler fails the test."""
    errors: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        await coroutine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
    assert errors == []


async def turns(count: int = 10) -> None:
    """Let the loop go round, so that callbacks which are due can run."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeTransport(asyncio.Transport):
    """Takes what is written; pauses the protocol past the high-water mark until the test drains it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.buffered = 0
        self.high = 64 << 10
        self.low = 16 << 10
        self.paused = False
        self.closed = ""
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None and low is not None
        self.high, self.low = high, low

    def write(self, data: Buffer) -> None:
        self.writes.append(bytes(data))
        self.buffered += len(data)
        if self.buffered > self.high and not self.paused:
            self.paused = True
            self._protocol.pause_writing()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def drain(self) -> None:
        """The socket took everything that was buffered."""
        self.buffered = 0
        if self.paused:
            self.paused = False
            self._protocol.resume_writing()

    def close(self) -> None:
        self.closed = self.closed or "close"

    def abort(self) -> None:
        self.closed = self.closed or "abort"

    def lose(self, error: Exception | None = None) -> None:
        self._protocol.connection_lost(error)
