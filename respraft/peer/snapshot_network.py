"""Whole states on their way between nodes: connections, tasks and threads around `snapshot_transfer.py`.

Sending is a coroutine per peer: it dials, and dials again as long as that gets it further. Receiving is one
state at a time; what has arrived of it outlives a broken connection for `RESUME_S`. Files are read and
written on threads, since the event loop never waits for a disk.

Trouble stays here. What a peer does wrong ends its connection. A disk that is full or fails under a state
that arrives ends that transfer, with a line in both nodes' logs; the node itself goes on with what it has.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from respraft.config import PeerConfig
from respraft.peer.codec import PeerProtocolError
from respraft.peer.complaints import Complaints
from respraft.peer.dialer import connect_to_any
from respraft.peer.handshake import Handshake
from respraft.peer.interface import Introduction, Objection
from respraft.peer.link import Link
from respraft.peer.snapshot_link import LinkLost, SnapshotLink
from respraft.peer.snapshot_transfer import (
    Decline,
    Done,
    Offer,
    Read,
    SnapshotReceiver,
    SnapshotSender,
)
from respraft.raft.message import NodeId

SILENCE_S: Final = 30.0
"""The other end of a transfer that says nothing for so long is given up. A disk may be slow, but not that."""

RETRY_S: Final = 0.5
"""Pause before a broken transfer is taken up again."""

FRUITLESS_MAX: Final = 10
"""Connections in a row that got the transfer no further, after which it is given up."""

RESUME_S: Final = 60.0
"""For so long half of a state is kept after its connection broke."""

_LOG: Final = logging.getLogger("respraft.peer")

P = ParamSpec("P")
R = TypeVar("R")


class SnapshotFailed(Exception):
    """The state did not get there. The text says why."""


class SnapshotTarget(Protocol):
    """Where a state arrives. Called on threads, one call at a time; every method may raise OSError."""

    def write(self, name: str, offset: int, data: bytes, last: bool) -> None:
        """Put the next bytes into a file of the offer. Behind the `last` ones of a file it is durable."""
        ...

    def seal(self) -> None:
        """Every file is complete: make the whole durable, names included."""
        ...

    def discard(self) -> None:
        """It will never be complete, or nobody wants it any more."""
        ...


class SnapshotOwner(Protocol):
    """Who takes states that arrive."""

    def snapshot_unwanted(self, peer: NodeId, offer: Offer) -> str | None:
        """Return why an offer is declined, or None. The peer is told."""
        ...

    def snapshot_target(self, offer: Offer) -> SnapshotTarget:
        """Make room for a state. Called on a thread; raises OSError where there is none."""
        ...

    def snapshot_arrived(self, peer: NodeId, offer: Offer, target: SnapshotTarget) -> None:
        """A whole state is there, and durable."""
        ...


@dataclass
class _Reception:
    """One state that arrives, over one connection or several."""

    peer: NodeId
    receiver: SnapshotReceiver
    target: SnapshotTarget
    link: SnapshotLink
    begun_s: float
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)  # Held by the connection that serves it.
    expiry: asyncio.TimerHandle | None = None


class SnapshotNetwork:
    """All transfers of one node."""

    def __init__(
        self, *, own_id: NodeId, config: PeerConfig, owner: SnapshotOwner, complaints: Complaints
    ) -> None:
        self._own_id = own_id
        self._config = config
        self._owner = owner
        self._complaints = complaints
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[SnapshotLink] = set()
        self._reception: _Reception | None = None
        self._choosing = asyncio.Lock()  # Only one connection at a time decides what is received.

    def adopt(self, own_id: NodeId) -> None:
        """This node has been given an id."""
        self._own_id = own_id

    async def close(self) -> None:
        """End what is received; the next start clears it away. Sending is cancelled by whoever does it."""
        if self._reception is not None and self._reception.expiry is not None:
            self._reception.expiry.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def check_again(self, check: Callable[[Introduction], Objection | None]) -> None:
        """End connections with nodes that are not welcome any more."""
        for link in list(self._links):
            if link.peer is not None and (objection := check(link.peer)):
                link.refuse(objection)

    # --- sending

    async def send(
        self,
        address: tuple[str, int],
        offer: Offer,
        read: Callable[[str, int, int], bytes],
        new_handshake: Callable[[], Handshake],
    ) -> None:
        """Bring a state to a peer; return once it is durable there.

        Args:
            address: Where the peer listens.
            offer: What is sent.
            read: Called on a thread with name, offset and size.
            new_handshake: This side's for each connection, made for a snapshot.

        Raises:
            SnapshotFailed: The peer declines, or cannot be reached, or a file cannot be read.
        """
        sender = SnapshotSender(
            offer,
            chunk_bytes=self._config.fragment_bytes,
            bytes_per_second=self._config.snapshot_bytes_per_second,
        )
        fruitless = 0
        while True:
            before = sender.position
            link = SnapshotLink(handshake=new_handshake(), own_id=self._own_id, config=self._config)
            self._links.add(link)
            try:
                await self._connect(link, address)
                await _stream(link, sender, read)
                return
            except (LinkLost, PeerProtocolError) as error:
                fruitless = fruitless + 1 if sender.position == before else 0
                if fruitless >= FRUITLESS_MAX:
                    raise SnapshotFailed(str(error)) from error
                _LOG.info("a transfer of the state broke off and is tried again: %s", error)
            finally:
                self._links.discard(link)
                link.finish("the transfer is over")
            await asyncio.sleep(RETRY_S)

    async def _connect(self, link: SnapshotLink, address: tuple[str, int]) -> None:
        try:
            async with asyncio.timeout(self._config.handshake_timeout_ms / 1000):
                await connect_to_any(lambda: link, address)
        except OSError as error:  # TimeoutError is one.
            raise LinkLost(str(error) or "no answer") from error
        while link.peer is None and not link.ended:
            await link.wait(SILENCE_S)
        if link.refusal is not None:
            raise SnapshotFailed(link.refusal.text)
        if link.ended:
            raise LinkLost(link.reason)

    # --- receiving

    def serve(self, link: Link) -> None:
        """Take over a connection on which a peer wants to send a state."""
        taken = SnapshotLink(handshake=link.handshake, own_id=self._own_id, config=self._config)
        link.hand_over(taken)
        self._links.add(taken)
        self._spawn(self._serve(taken))

    async def _serve(self, link: SnapshotLink) -> None:
        assert link.peer is not None
        try:
            offer = await link.next(SILENCE_S)
            if not isinstance(offer, Offer):
                raise PeerProtocolError(f"{type(offer).__name__} where an offer is due")
            async with self._choosing:
                reception = await self._choose(link, link.peer.node_id, offer)
            if reception is not None:
                await self._receive(reception, link)
        except LinkLost as error:
            _LOG.info("the connection for the state of node %d is lost: %s", link.peer.node_id, error)
        except PeerProtocolError as error:
            self._complaints.warn(f"node {link.peer.node_id} at {link.remote} broke off a transfer: {error}")
        except Exception:
            _LOG.exception("the state of node %d is not received any further", link.peer.node_id)
        finally:
            self._links.discard(link)
            link.finish("the transfer is over")

    async def _choose(self, link: SnapshotLink, peer: NodeId, offer: Offer) -> _Reception | None:
        """Begin to receive what is offered, or go on with it; None: it was declined."""
        known = self._reception
        if known is not None and known.peer == peer and known.receiver.continues(offer):
            known.link.end("replaced by a newer connection")
            known.link = link
            return known
        if known is not None and not known.link.ended:
            self._decline(link, f"node {self._own_id} is receiving a state from node {known.peer}")
            return None
        if text := self._owner.snapshot_unwanted(peer, offer):
            self._decline(link, text)
            return None
        receiver = SnapshotReceiver(self._own_id, offer)
        self._forget()
        try:
            target = await _in_thread(self._owner.snapshot_target, offer)
        except OSError as error:
            self._fail(link, f"node {self._own_id} cannot take a state of {offer.size} bytes: {error}")
            return None
        _LOG.info("receiving the state of node %d: %d bytes in %d files", peer, offer.size, len(offer.files))
        now_s = asyncio.get_running_loop().time()
        self._reception = _Reception(peer, receiver, target, link, now_s)
        return self._reception

    async def _receive(self, reception: _Reception, link: SnapshotLink) -> None:
        receiver, target = reception.receiver, reception.target
        async with reception.busy:  # The last write of the connection before is done.
            if reception is not self._reception:
                return
            if reception.expiry is not None:
                reception.expiry.cancel()
            try:
                link.write(receiver.accept())
                while not receiver.complete:
                    write = receiver.on_message(await link.next(SILENCE_S))
                    await _in_thread(target.write, *write)
                    link.write(receiver.written())
                await _in_thread(target.seal)
            except OSError as error:
                self._forget()
                self._fail(link, f"node {self._own_id} cannot write a state that arrives: {error}")
                return
            except (LinkLost, PeerProtocolError):
                if reception.link is link:
                    self._expire(reception)
                raise
            self._reception = None
            seconds = asyncio.get_running_loop().time() - reception.begun_s
            _LOG.info(
                "the state of node %d has arrived: %d bytes in %.1f s",
                reception.peer,
                receiver.position,
                seconds,
            )
            link.write(Done(self._own_id))
            self._owner.snapshot_arrived(reception.peer, receiver.offer, target)

    def _decline(self, link: SnapshotLink, text: str) -> None:
        link.write(Decline(self._own_id, text))

    def _fail(self, link: SnapshotLink, text: str) -> None:
        _LOG.error("%s. This node goes on with the state that it has", text)
        self._decline(link, text)

    def _expire(self, reception: _Reception) -> None:
        """Keep what has arrived for a while."""
        reception.expiry = asyncio.get_running_loop().call_later(RESUME_S, self._forget)

    def _forget(self) -> None:
        """Drop what has arrived of a state."""
        known, self._reception = self._reception, None
        if known is None:
            return
        if known.expiry is not None:
            known.expiry.cancel()
        _LOG.info(
            "what has arrived of the state of node %d, %d bytes, is dropped",
            known.peer,
            known.receiver.position,
        )
        self._spawn(_discard(known))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _stream(link: SnapshotLink, sender: SnapshotSender, read: Callable[[str, int, int], bytes]) -> None:
    """Send over one connection, to the end."""
    loop = asyncio.get_running_loop()
    link.write(sender.start())
    while True:
        while (message := link.take()) is not None:
            sender.on_message(message)
        if sender.declined is not None:
            raise SnapshotFailed(sender.declined)
        if sender.done:
            return
        if link.ended:
            raise LinkLost(link.reason)
        want = math.inf if link.full else sender.next_read(loop.time())
        if isinstance(want, Read):
            link.write(sender.chunk(await _read(read, want)))
        elif not await link.wait(min(want, SILENCE_S)) and want > SILENCE_S:
            link.end(f"nothing was heard for {SILENCE_S:.0f} s")


async def _read(read: Callable[[str, int, int], bytes], want: Read) -> bytes:
    try:
        data = await _in_thread(read, *want)
    except OSError as error:
        raise SnapshotFailed(f"{want.name} cannot be read: {error}") from error
    if len(data) != want.size:
        raise SnapshotFailed(f"{want.name} is shorter than it was")
    return data


async def _discard(reception: _Reception) -> None:
    async with reception.busy:
        try:
            await _in_thread(reception.target.discard)
        except OSError as error:
            _LOG.warning("half a state cannot be removed, the next start tries again: %s", error)


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
