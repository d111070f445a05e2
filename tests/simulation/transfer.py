"""States on their way between simulated nodes: sender and receiver of production, and what carries them.

Chunks and answers travel in order on a connection, which may break with each of them; then the sender
connects again, and goes on where the receiver has come to. What has arrived is lost with the receiver's life.
Connections, retries and patience are written anew here, since in production they are asyncio's
(`peer/snapshot_network.py`).
"""

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from respraft.peer.codec import PeerProtocolError
from respraft.peer.snapshot_network import FRUITLESS_MAX
from respraft.peer.snapshot_transfer import (
    Chunk,
    Decline,
    Done,
    FileSize,
    Offer,
    Read,
    SnapshotMessage,
    SnapshotReceiver,
    SnapshotSender,
    Write,
)
from respraft.raft.message import NodeId
from respraft.raft.ready import Role

if TYPE_CHECKING:
    from tests.simulation.node import Node

PUMP_US: Final = 100
"""A sender looks again not sooner."""

LOOK_US: Final = 20_000
"""How often a sender sees whether its connection stands, and how long it waits with the next one."""

CHUNKS_MAX: Final = 12
"""Of one state, about: the more, the more can break."""


def files_of(picture: bytes, pieces: int) -> dict[str, bytes]:
    """Return a state as files, of which one is empty."""
    size = len(picture) // pieces + 1
    files = {f"{at // size:06}.sst": picture[at : at + size] for at in range(0, len(picture), size)}
    return {"EMPTY": b"", **files}


class Connection:
    """Between two lives, for one transfer."""

    def __init__(self, dialer: "Node", acceptor: "Node") -> None:
        self._ends = (dialer, acceptor)
        self._lives = (dialer.lives, acceptor.lives)
        self._last_us = {dialer.id: 0, acceptor.id: 0}
        self._broken = False

    @property
    def stands(self) -> bool:
        """Whether anything can arrive."""
        lives = tuple(node.lives for node in self._ends)
        return not self._broken and lives == self._lives and all(node.up for node in self._ends)

    def end(self) -> None:
        """Nothing arrives any more."""
        self._broken = True

    def carry(self, to: "Node", deliver: Callable[[], None]) -> None:
        """Bring something to one end, behind what was sent before."""
        world = to.world
        delay_us = int(world.faults.delay_us * (0.5 + world.rng.random()))
        self._last_us[to.id] = max(self._last_us[to.id], world.schedule.now_us + delay_us)
        world.schedule.after(self._last_us[to.id] - world.schedule.now_us, lambda: self._arrive(to, deliver))

    def _arrive(self, to: "Node", deliver: Callable[[], None]) -> None:
        dialer, acceptor = self._ends
        if not self.stands:
            return
        broken = to.world.rng.random() < to.world.faults.broken_transfers
        if broken or to.world.reach(dialer, acceptor.id) is None:
            self.end()
            return
        to.give(lambda: deliver() if self.stands else None)


class Sending:
    """A state that one life brings to a peer, over as many connections as it takes."""

    def __init__(
        self, node: "Node", peer: NodeId, offer: Offer, files: dict[str, bytes], ended: Callable[[bool], None]
    ) -> None:
        """Prepare; `ended` is told whether the state got there."""
        world = node.world
        rate = 1e6 * offer.size / (1 + world.rng.random() ** 2 * world.faults.transfer_us)
        self._sender = SnapshotSender(
            offer,
            chunk_bytes=offer.size // world.rng.randint(1, CHUNKS_MAX) + 1,
            bytes_per_second=int(rate) + 1,
        )
        self._node = node
        self._life = node.lives
        self._peer = peer
        self._files = files
        self._ended: Callable[[bool], None] | None = ended
        self._fruitless = 0
        self._before = 0  # How far it was as the connection was made.
        self._pumping = False

    def connect(self) -> None:
        """Begin, or begin again where it broke off."""
        sender, node = self._sender, self._node
        self._before = sender.position
        receiver = node.world.reach(node, self._peer)
        if receiver is None:
            self._broke_off()
            return
        connection = Connection(node, receiver)
        offer = sender.start()
        arriving = receiver.states_thread.arriving
        connection.carry(
            receiver,
            lambda: arriving.offered(connection, offer, lambda message: self._answer(connection, message)),
        )
        self._look(connection)

    def _answer(self, connection: Connection, message: SnapshotMessage) -> None:
        """The receiver says something: put it on its way."""
        connection.carry(self._node, lambda: self._took(connection, message))

    def _took(self, connection: Connection, message: SnapshotMessage) -> None:
        self._sender.on_message(message)  # An honest receiver says nothing out of turn.
        if self._sender.declined is not None or self._sender.done:
            connection.end()
            self._end(self._sender.done)
        elif not self._pumping:
            self._pump(connection)

    def _pump(self, connection: Connection) -> None:
        """Send what may be sent now."""
        self._pumping = False
        receiver = self._node.world.reach(self._node, self._peer)
        if receiver is None:
            connection.end()
        if not connection.stands or receiver is None or self._ended is None:
            return
        want = self._sender.next_read(self._node.clock.monotonic_s())
        if isinstance(want, Read):
            data = self._files[want.name][want.offset : want.offset + want.size]
            chunk = self._garbled(self._sender.chunk(data))
            arriving = receiver.states_thread.arriving
            connection.carry(receiver, lambda: arriving.took(connection, chunk))
            want = 0.0
        if want < math.inf:
            self._pumping = True
            # At least so long: what rounding leaves of a wait would be no time at all, again and again.
            self._later(max(want * 1e6, PUMP_US), lambda: self._pump(connection))

    def _garbled(self, chunk: Chunk) -> Chunk:
        rng = self._node.world.rng
        if rng.random() >= self._node.world.faults.garbled:
            return chunk
        data = bytearray(chunk.data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return replace(chunk, data=bytes(data))

    def _look(self, connection: Connection) -> None:
        if self._ended is not None:
            if connection.stands:
                self._later(LOOK_US, lambda: self._look(connection))
            else:
                self._pumping = False
                self._broke_off()

    def _broke_off(self) -> None:
        self._fruitless = self._fruitless + 1 if self._sender.position == self._before else 0
        if self._fruitless >= FRUITLESS_MAX:
            self._end(False)
        else:
            self._later(LOOK_US, self.connect)

    def _end(self, arrived: bool) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(arrived)

    def _later(self, most_us: float, action: Callable[[], None]) -> None:
        node = self._node
        delay_us = most_us * (0.5 + node.world.rng.random() / 2)
        node.world.schedule.after(
            delay_us, lambda: node.give(action) if node.lives == self._life and self._ended else None
        )


class _Reception:
    """One state that arrives, over one connection or several."""

    def __init__(self, connection: Connection, receiver: SnapshotReceiver) -> None:
        self.connection = connection
        self.answer: Callable[[SnapshotMessage], None]
        self.receiver = receiver
        self.chunks: deque[SnapshotMessage] = deque()
        self.files = {name: bytearray() for name, _ in receiver.offer.files}
        self.writing = False


class Arriving:
    """What one life receives: one state at a time."""

    def __init__(self, node: "Node", arrived: Callable[[Offer, bytes], None]) -> None:
        """Begin with none; `arrived` gets each that is whole, and durable."""
        self._node = node
        self._life = node.lives
        self._arrived = arrived
        self._reception: _Reception | None = None

    def offered(
        self, connection: Connection, offer: Offer, answer: Callable[[SnapshotMessage], None]
    ) -> None:
        """A peer offers a state; `answer` says something to it."""
        known = self._reception
        if known is not None and known.receiver.continues(offer):
            self._node.say(f"goes on with the state of n{offer.sender}, at {known.receiver.position}")
            known.connection.end()
            known.connection = connection
        elif refusal := self._refusal(offer):
            answer(Decline(self._node.id, refusal))
            return
        else:
            known = self._reception = _Reception(connection, SnapshotReceiver(self._node.id, offer))
        known.answer = answer
        known.chunks.clear()
        if not known.writing:  # Else once that is done.
            answer(known.receiver.accept())

    def took(self, connection: Connection, chunk: Chunk) -> None:
        """A chunk is here."""
        known = self._reception
        if known is not None and known.connection is connection:
            known.chunks.append(chunk)
            self._write_next(known)

    def _refusal(self, offer: Offer) -> str:
        """As in production, but for what is of no use: half of that comes too late to be declined."""
        node, known = self._node, self._reception
        if known is not None and known.connection.stands:
            return "it is receiving another state"
        if known is not None and known.writing:
            return "it is writing still"
        core = node.core
        if core.role is Role.LEADER or offer.index <= core.commit_index:
            return "it needs no state" if node.world.rng.random() < 0.5 else ""
        return ""

    def _write_next(self, known: _Reception) -> None:
        if known.writing or not known.chunks:
            return
        try:
            write = known.receiver.on_message(known.chunks.popleft())
        except PeerProtocolError as error:
            self._node.say(f"breaks off a transfer: {error}")
            known.connection.end()
            known.chunks.clear()
            return
        known.writing = True
        connection = known.connection
        write_us = self._node.world.faults.write_us * self._node.world.rng.random()
        self._later(write_us, lambda: self._written(known, connection, write))

    def _written(self, known: _Reception, connection: Connection, write: Write) -> None:
        node = self._node
        content = known.files[write.name]
        assert len(content) == write.offset, "each byte is written once, in order"
        content += write.data
        known.writing = False
        node.storage_point()
        ack = known.receiver.written()
        known.answer(ack if known.connection is connection else known.receiver.accept())
        if known.receiver.complete:
            node.storage_point()
            self._reception = None
            known.answer(Done(node.id))
            self._arrived(known.receiver.offer, b"".join(known.files.values()))
        else:
            self._write_next(known)

    def _later(self, delay_us: float, action: Callable[[], None]) -> None:
        node = self._node

        def act() -> None:
            if node.up and node.lives == self._life:
                node.guarded(action)

        node.world.schedule.after(delay_us, act)


def sizes_of(files: dict[str, bytes]) -> list[FileSize]:
    """Return what an offer says of the files."""
    return [(name, len(data)) for name, data in files.items()]
