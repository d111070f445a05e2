"""Whole states between real networks on loopback: broken connections, full disks, bad peers."""

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Callable
from zlib import crc32

import pytest

from respraft.peer import snapshot_network
from respraft.peer.codec import MESSAGE, SNAPSHOT, encode_frame
from respraft.peer.handshake import FOR_SNAPSHOT, Dialing
from respraft.peer.network import PeerNetwork
from respraft.peer.snapshot_link import LinkLost, SnapshotLink
from respraft.peer.snapshot_network import SnapshotFailed, SnapshotTarget
from respraft.peer.snapshot_transfer import (
    CODEC,
    Accept,
    Chunk,
    Decline,
    Done,
    Offer,
    SnapshotMessage,
)
from respraft.raft.message import NodeId
from tests.unit.peer.support import (
    PATIENCE_S,
    AnyMessage,
    Nodes,
    heartbeat,
    introduction,
    peer_config,
    run_with_nodes,
)


class Source:
    """A state in memory that can be read."""

    def __init__(self, size: int = 3_000_000, seed: int = 1) -> None:
        rng = random.Random(seed)
        self.files = {"000009.sst": rng.randbytes(size), "CURRENT": b"MANIFEST-000005\n", "empty": b""}
        self.offer = Offer(1, seed, 3, 500, [(name, len(data)) for name, data in self.files.items()])
        self.read_bytes = 0
        self.before_read: Callable[[int], None] = lambda _: None

    def read(self, name: str, offset: int, size: int) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        self.before_read(self.read_bytes)
        self.read_bytes += size
        return self.files[name][offset : offset + size]


class Target(SnapshotTarget):
    """A state in memory that arrives."""

    def __init__(self, owner: "Taker", offer: Offer) -> None:
        self.files = {name: bytearray() for name, _ in offer.files}
        self.sealed = self.discarded = False
        self._owner = owner

    def write(self, name: str, offset: int, data: bytes, last: bool) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert offset == len(self.files[name])
        self._owner.before_write(sum(map(len, self.files.values())))
        self.files[name] += data

    def seal(self) -> None:
        self.sealed = True

    def discard(self) -> None:
        self.discarded = True


class Taker:
    """The owner of a network that takes states."""

    def __init__(self) -> None:
        self.unwanted: str | None = None
        self.no_room: str | None = None
        self.targets: list[Target] = []
        self.arrived: list[tuple[NodeId, Offer, SnapshotTarget]] = []
        self.before_write: Callable[[int], None] = lambda _: None

    def snapshot_unwanted(self, peer: NodeId, offer: Offer) -> str | None:
        return self.unwanted

    def snapshot_target(self, offer: Offer) -> SnapshotTarget:
        if self.no_room:
            raise OSError(28, self.no_room)
        self.targets.append(Target(self, offer))
        return self.targets[-1]

    def snapshot_arrived(self, peer: NodeId, offer: Offer, target: SnapshotTarget) -> None:
        self.arrived.append((peer, offer, target))


async def two(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> tuple[PeerNetwork[AnyMessage], Taker]:
    """Nodes 1, which sends, and 2, which takes."""
    monkeypatch.setattr(snapshot_network, "RETRY_S", 0.01)
    taker = Taker()
    first, _ = await nodes.start(1, snapshots=Taker())
    await nodes.start(2, snapshots=taker)
    await nodes.connect_all()
    return first, taker


def assert_arrived(taker: Taker, source: Source) -> None:
    ((peer, offer, target),) = taker.arrived
    assert (peer, offer) == (1, source.offer)
    assert isinstance(target, Target)
    assert target.files == source.files
    assert target.sealed and not target.discarded


def test_a_state_arrives_beside_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        source = Source()
        sending = asyncio.create_task(network.send_snapshot(2, source.offer, source.read))
        await asyncio.sleep(0)
        assert network.send(2, heartbeat(1))
        network.flush()
        await nodes.owners[2].until_messages(1)
        await sending
        assert_arrived(taker, source)
        assert nodes.owners[1].kinds() == [("up", 2)], "the links stand as before"

    run_with_nodes(test)


def test_a_broken_connection_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        source, loop, breaks = Source(), asyncio.get_running_loop(), [700_000, 1_700_000]

        def break_off(position: int) -> None:
            if breaks and position > breaks[0]:
                breaks.pop(0)
                snapshots = nodes.networks[2]._snapshots
                assert snapshots is not None
                (link,) = snapshots._links
                loop.call_soon_threadsafe(link.end, "broken by the test")

        taker.before_write = break_off
        await network.send_snapshot(2, source.offer, source.read)
        assert_arrived(taker, source)
        assert breaks == []
        assert len(taker.targets) == 1, "it went on where it was, as `Target.write` sees"

    run_with_nodes(test)


def test_another_state_of_the_same_peer_replaces_half_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        half, whole = Source(seed=1), Source(seed=2)
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop(size: int) -> None:
            if size > 1_000_000:
                loop.call_soon_threadsafe(reached.set)

        half.before_read = stop
        sending = asyncio.create_task(network.send_snapshot(2, half.offer, half.read))
        await reached.wait()
        sending.cancel()
        await asyncio.wait([sending])
        while taker.arrived == []:
            # Declined until the other end has seen that the first one is over.
            with contextlib.suppress(SnapshotFailed):
                await network.send_snapshot(2, whole.offer, whole.read)
        assert_arrived(taker, whole)
        await until_discarded(taker.targets[0])

    run_with_nodes(test)


def test_the_receiver_says_why_it_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        source = Source()
        taker.unwanted = "node 2 has all that"
        with pytest.raises(SnapshotFailed, match="node 2 has all that"):
            await network.send_snapshot(2, source.offer, source.read)
        taker.unwanted, taker.no_room = None, "No space left on device"
        with pytest.raises(SnapshotFailed, match="No space left on device"):
            await network.send_snapshot(2, source.offer, source.read)
        assert taker.targets == []

    run_with_nodes(test)


def test_a_disk_that_fills_up_ends_the_transfer_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        source = Source()

        def fill_up(position: int) -> None:
            if position > 1_000_000:
                raise OSError(28, "No space left on device")

        taker.before_write = fill_up
        with pytest.raises(SnapshotFailed, match="node 2 cannot write .* No space left on device"):
            await network.send_snapshot(2, source.offer, source.read)
        await until_discarded(taker.targets[0])
        assert "No space left on device. This node goes on with the state that it has" in caplog.text
        taker.before_write = lambda _: None
        await network.send_snapshot(2, source.offer, source.read)
        assert_arrived(taker, source)

    run_with_nodes(test)


def test_a_file_that_cannot_be_read_ends_the_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        source = Source()

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        source.before_read = fail
        with pytest.raises(SnapshotFailed, match=r"000009.sst cannot be read.*Input/output error"):
            await network.send_snapshot(2, source.offer, source.read)
        assert taker.arrived == []

    run_with_nodes(test)


def test_a_peer_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, _ = await two(nodes, monkeypatch)
        monkeypatch.setattr(snapshot_network, "FRUITLESS_MAX", 3)
        source = Source()
        with pytest.raises(SnapshotFailed, match="node 9 is no peer"):
            await network.send_snapshot(9, source.offer, source.read)
        await nodes.stop(2)
        with pytest.raises(SnapshotFailed, match="refused|Connect"):
            await network.send_snapshot(2, source.offer, source.read)

    run_with_nodes(test)


def test_a_peer_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        nodes.owners[2].refusals[1] = "node 1 is not welcome"
        source = Source()
        with pytest.raises(SnapshotFailed, match="node 1 is not welcome"):
            await network.send_snapshot(2, source.offer, source.read)
        assert taker.targets == []

    run_with_nodes(test)


OFFER = Offer(1, 7, 3, 5, [("a", 10)])


@pytest.mark.parametrize(
    "says",
    [
        encode_frame(SNAPSHOT, CODEC.encode(Done(1))),
        encode_frame(SNAPSHOT, CODEC.encode(Offer(1, 7, 3, 5, [("../a", 10)]))),
        encode_frame(SNAPSHOT, CODEC.encode(Offer(3, 7, 3, 5, [("a", 10)]))),
        encode_frame(SNAPSHOT, CODEC.encode(OFFER)) + encode_frame(SNAPSHOT, CODEC.encode(OFFER)),
        encode_frame(SNAPSHOT, CODEC.encode(OFFER))
        + encode_frame(SNAPSHOT, CODEC.encode(Chunk(1, 0, crc32(b"x") + 1, b"x"))),
        encode_frame(SNAPSHOT, CODEC.encode(OFFER))
        + encode_frame(SNAPSHOT, CODEC.encode(Chunk(1, 0, crc32(b"x" * 11), b"x" * 11))),
        encode_frame(SNAPSHOT, CODEC.encode(Decline(1, "x"))),
        encode_frame(SNAPSHOT, b"nonsense"),
        encode_frame(MESSAGE, b"nonsense"),
        b"\xff" * 100,
    ],
)
def test_a_peer_that_misbehaves_loses_its_connection(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        network, taker = await two(nodes, monkeypatch)
        link = await dialled(nodes)
        assert link._transport is not None
        link._transport.write(says)
        answers = [answer async for answer in everything(link)]
        assert all(isinstance(answer, Accept) for answer in answers)
        assert taker.arrived == []
        source = Source()
        await network.send_snapshot(2, source.offer, source.read)
        assert_arrived(taker, source)

    run_with_nodes(test)


async def everything(link: SnapshotLink) -> AsyncIterator[SnapshotMessage]:
    """What comes until the connection ends."""
    with contextlib.suppress(LinkLost):
        while True:
            yield await link.next(PATIENCE_S)


async def until_discarded(target: Target) -> None:
    """It happens on a thread."""
    while not target.discarded:
        await asyncio.to_thread(lambda: None)


async def dialled(nodes: Nodes) -> SnapshotLink:
    """A connection of node 1 to node 2, for the test to misuse."""
    handshake = Dialing(
        own=introduction(1), to=2, check=lambda _: None, nonce=bytes(32), secret=None, purpose=FOR_SNAPSHOT
    )
    link = SnapshotLink(handshake=handshake, own_id=1, config=peer_config())
    await asyncio.get_running_loop().create_connection(lambda: link, "127.0.0.1", nodes.networks[2].port)
    while link.peer is None:
        assert await link.wait(PATIENCE_S)
    return link
