"""All links of one node with its peers.

Each node dials every other and sends on that link; on links that it accepted it only receives. So two
links join a pair of nodes, and either node finds out by itself whether it can reach the other.

    PeerNetwork --- one Dialer per peer --- SendingLink      (dialer.py, link.py)
         |
         +--- one ReceivingLink per peer that dialled us     (link.py)
         |
         +--- SnapshotNetwork: whole states, over connections of their own (snapshot_network.py)

Promises:

* A message arrives whole or not at all, at most once, from the node that it names as its sender. It may
  be lost whenever a link ends. Messages of one class arrive in order as long as the link stands
  (`fragments.py`).
* Nothing blocks, and everything is bounded: a message for which there is no link or no room is dropped,
  counted, and `send` says so.
* What strangers send ends their connection and nothing else.

It leaves to its owner: who may be talked to (`Gatekeeper`), sending again, and finding out whether a
silent peer is alive. It runs on one event loop, and all of it on that loop's thread.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic

from respraft.config import PeerConfig
from respraft.peer.codec import Codec
from respraft.peer.complaints import Complaints
from respraft.peer.dialer import Backoff, Dialer
from respraft.peer.handshake import (
    FOR_A_LOOK,
    FOR_MESSAGES,
    FOR_SNAPSHOT,
    NONCE_BYTES,
    REMOVED,
    Accepting,
    Dialing,
)
from respraft.peer.interface import Gatekeeper, Identity, Introduction, M, PeerStatus, Receiver
from respraft.peer.link import ReceivingLink, SendingLink, Traffic
from respraft.peer.look import look
from respraft.peer.snapshot_network import SnapshotFailed, SnapshotNetwork, SnapshotOwner
from respraft.peer.snapshot_transfer import Offer
from respraft.raft.message import NodeId

STRANGERS_MAX: Final = 64
"""Accepted connections that may be in their handshake at a time. Each holds a few KiB, for some seconds."""

_CLOSE_S: Final = 1.0
"""How long `close` waits for what was written to leave."""

_LOG: Final = logging.getLogger("respraft.peer")


@dataclass(slots=True)
class _Peer(Generic[M]):
    """One other node, from either side."""

    address: str = ""  # Where it is dialled; "" while it only dials us.
    dialer: Dialer[M] | None = None
    receiving: ReceivingLink[M] | None = None
    receiving_ended_by_peer: bool = False
    traffic: Traffic = field(default_factory=Traffic)


class PeerNetwork(Generic[M]):
    """All links of one node."""

    def __init__(
        self,
        *,
        identity: Identity,
        codec: Codec[M],
        config: PeerConfig,
        gatekeeper: Gatekeeper,
        receiver: Receiver[M],
        rng: random.Random,
        snapshots: SnapshotOwner | None = None,
        secret: bytes | None = None,
    ) -> None:
        """Begin with no peer and no link.

        Args:
            identity: Who this node is.
            codec: For the union of message classes that the nodes exchange.
            config: Limits and time-outs.
            gatekeeper: Asked in each handshake, by both sides, and again by `set_peers`.
            receiver: Gets messages and events.
            rng: Spreads redials; never used for secrets.
            snapshots: Gets whole states that peers send; None: they are not taken.
            secret: The cluster secret; None when the cluster has none.
        """
        self._identity = identity
        self._codec = codec
        self._config = config
        self._gatekeeper = gatekeeper
        self._receiver = receiver
        self._rng = rng
        self._secret = secret
        self._complaints = Complaints(lambda: asyncio.get_running_loop().time())
        self._snapshots = (
            SnapshotNetwork(
                own_id=identity.node_id, config=config, owner=snapshots, complaints=self._complaints
            )
            if snapshots is not None
            else None
        )
        self._peers: dict[NodeId, _Peer[M]] = {}
        self._strangers: dict[ReceivingLink[M], None] = {}  # In their handshake.
        self._server: asyncio.Server | None = None
        self._closed = False

    async def start(self, listen: str) -> None:
        """Accept links at `listen` (host:port; port 0 lets the system choose, see `port`).

        Raises:
            OSError: The address cannot be listened on.
        """
        host, port = _split(listen)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_receiving_link, host, port)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None, "not started"
        return int(self._server.sockets[0].getsockname()[1])

    def adopt(self, identity: Identity) -> None:
        """This node has been given an id and a cluster. Links that told another one end."""
        self.set_peers({})
        for peer in self._peers.values():
            if peer.receiving is not None:
                peer.receiving.end("this node has another id by now")
        self._identity = identity
        if self._snapshots is not None:
            self._snapshots.adopt(identity.node_id)

    def set_peers(self, peers: Mapping[NodeId, str]) -> None:
        """Dial exactly these nodes (id to host:port) from now on; this node's own id is passed over.

        The gatekeeper is asked again about all standing links, since a new list of peers comes with news
        about who may take part. On links from other nodes it alone decides. And a link on which this node
        could not say its address yet is begun anew once it can.
        """
        for node_id, peer in sorted(self._peers.items()):
            if peer.dialer is not None and peers.get(node_id) != peer.address:
                peer.dialer.stop("it is no peer at this address any more")
                peer.dialer, peer.address = None, ""
        has_address = bool(self._gatekeeper.own_address()[0])
        for node_id, address in sorted(peers.items()):
            if node_id != self._identity.node_id:
                self._dial(node_id, address)
                if has_address:
                    self._say_address(node_id)
        for node_id, peer in sorted(self._peers.items()):
            self._check_again(peer)
            self._forget_if_gone(node_id, peer)
        if self._snapshots is not None:
            self._snapshots.check_again(self._gatekeeper.check)

    def send(self, to: NodeId, message: M) -> bool:
        """Queue `message` for the next `flush`.

        Returns:
            False if it was dropped: no link stands, or its queue is full.
        """
        peer = self._peers.get(to)
        if peer is None:
            return False
        if peer.dialer is None or peer.dialer.up is None:
            peer.traffic.messages_dropped += 1
            return False
        return peer.dialer.up.send(message)

    async def send_snapshot(self, to: NodeId, offer: Offer, read: Callable[[str, int, int], bytes]) -> None:
        """Bring a whole state to a peer; return once it is durable there. Cancel it at will.

        Args:
            to: The peer, which this node dials.
            offer: What is sent; goes on where a transfer of the same one broke off.
            read: Called on a thread with a file's name, an offset and a size. May raise OSError.

        Raises:
            SnapshotFailed: It did not get there, for the reason that the text says.
        """
        peer = self._peers.get(to)
        if peer is None or not peer.address or self._snapshots is None:
            raise SnapshotFailed(f"node {to} is no peer of this node")
        handshake = partial(self._new_dialing, to, FOR_SNAPSHOT)
        await self._snapshots.send(_split(peer.address), offer, read, handshake)

    async def look(self, for_: NodeId, address: str) -> None:
        """Return if this node meets that one at `address`, whatever links they have.

        Raises:
            NotThere: It does not.
        """
        handshake = self._new_dialing(for_, FOR_A_LOOK)
        own_id = self._identity.node_id
        await look(_split(address), handshake=handshake, own_id=own_id, config=self._config)

    def flush(self) -> None:
        """Write what was queued: once per turn, one write per link. Long messages go on by themselves."""
        for peer in self._peers.values():
            if peer.dialer is not None and peer.dialer.up is not None:
                peer.dialer.up.flush()

    def ended_by_peer(self, peer: NodeId) -> bool:
        """Return whether there were links both ways with `peer`, and it ended the last of each.

        Together with `Receiver.on_dial_refused` it means that the peer's process is gone.
        """
        known = self._peers.get(peer)
        if known is None or known.receiving is not None or not known.receiving_ended_by_peer:
            return False
        return known.dialer is not None and known.dialer.up is None and known.dialer.ended_by_peer

    def links_to(self, peer: NodeId) -> int:
        """Return how many links to `peer` have come up, ever."""
        known = self._peers.get(peer)
        return known.dialer.oks if known is not None and known.dialer is not None else 0

    def status(self) -> dict[NodeId, PeerStatus]:
        """Return what is known of each peer, by id."""
        now = asyncio.get_running_loop().time()
        return {node_id: _status_of(node_id, peer, now) for node_id, peer in sorted(self._peers.items())}

    async def close(self) -> None:
        """End all links, when what was sent has left or a second has passed. The receiver hears no more."""
        assert not self._closed, "closed twice"
        self._closed = True
        if self._snapshots is not None:
            await self._snapshots.close()
        if self._server is not None:
            self._server.close()
        links = list(self._strangers)
        links += [peer.receiving for peer in self._peers.values() if peer.receiving is not None]
        for link in links:
            link.end("this node stops")
        dialers = [peer.dialer for peer in self._peers.values() if peer.dialer is not None]
        await asyncio.gather(*(dialer.close("this node stops", _CLOSE_S) for dialer in dialers))
        if links:
            await asyncio.wait([link.lost for link in links], timeout=_CLOSE_S)

    # --- LinkOwner, for receiving links

    def link_up(self, link: ReceivingLink[M]) -> None:
        """A peer has dialled us: from now on its messages come this way, and this way only."""
        assert link.peer is not None
        node_id = link.peer.node_id
        del self._strangers[link]
        if link.purpose == FOR_SNAPSHOT:
            self._serve_snapshot(link)
            return
        if link.purpose == FOR_A_LOOK:
            link.finish("it has seen who is here")
            return
        peer = self._peers.setdefault(node_id, _Peer())
        if peer.receiving is not None:
            peer.receiving.end("replaced by a newer link")
        peer.receiving = link
        peer.receiving_ended_by_peer = False
        link.traffic = peer.traffic
        _LOG.debug(f"the link from node {node_id} at {link.remote} is up")
        if peer.dialer is not None:
            peer.dialer.hasten()

    def link_lost(self, link: ReceivingLink[M]) -> None:
        """A peer that was there is gone, or a stranger did not become one."""
        self._strangers.pop(link, None)
        if self._closed:
            return
        if link.peer is None:
            self._complain_of_stranger(link)
            return
        node_id = link.peer.node_id
        _LOG.debug(f"the link from node {node_id} at {link.remote} is down: {link.reason}")
        peer = self._peers.get(node_id)
        if peer is not None and peer.receiving is link:
            peer.receiving = None
            peer.receiving_ended_by_peer = link.ended_by_peer
            self._forget_if_gone(node_id, peer)
            if peer.dialer is not None and link.ended_by_peer:
                peer.dialer.hasten()
        if link.refusal is not None and link.refusal.by_peer:
            self._complaints.warn(f"node {node_id} at {link.remote} refuses this node: {link.reason}")
            removed = link.refusal.code == REMOVED
            self._receiver.on_refused(node_id, link.refusal.text, removed=removed)

    # --- private

    def _dial(self, node_id: NodeId, address: str) -> None:
        peer = self._peers.setdefault(node_id, _Peer())
        if peer.dialer is not None:
            return
        peer.address = address
        peer.dialer = Dialer(
            peer=node_id,
            address=_split(address),
            new_link=lambda dialer: self._new_sending_link(node_id, dialer, peer.traffic),
            receiver=self._receiver,
            complaints=self._complaints,
            backoff=Backoff(rng=self._rng, pause_ms_max=self._config.reconnect_ms_max),
            connect_timeout_ms=self._config.handshake_timeout_ms,
        )
        peer.dialer.dial()

    def _say_address(self, to: NodeId) -> None:
        """Begin a link anew that was dialled before this node was a member, and so had no address to say.

        A peer whose log is behind cannot answer without it, should this node come to lead. Those with whom
        it has founded the cluster have all addresses in their lists.
        """
        dialer = self._peers[to].dialer
        said = dialer.introduced if dialer is not None else None
        if dialer is not None and said is not None and not (said.address or said.founders):
            dialer.renew()

    def _new_sending_link(self, to: NodeId, owner: Dialer[M], traffic: Traffic) -> SendingLink[M]:
        return SendingLink(
            handshake=self._new_dialing(to, FOR_MESSAGES),
            own_id=self._identity.node_id,
            owner=owner,
            config=self._config,
            codec=self._codec,
            traffic=traffic,
        )

    def _new_dialing(self, to: NodeId, purpose: int) -> Dialing:
        return Dialing(
            own=self._introduction(),
            to=to,
            check=self._gatekeeper.check,
            nonce=secrets.token_bytes(NONCE_BYTES),
            secret=self._secret,
            purpose=purpose,
        )

    def _serve_snapshot(self, link: ReceivingLink[M]) -> None:
        if self._snapshots is None or self._closed:
            link.end("this node takes no states of others")
        else:
            self._snapshots.serve(link)

    def _new_receiving_link(self) -> ReceivingLink[M]:
        handshake = Accepting(
            own=self._introduction(),
            check=self._gatekeeper.check,
            nonce=secrets.token_bytes(NONCE_BYTES),
            secret=self._secret,
        )
        link = ReceivingLink(
            handshake=handshake,
            own_id=self._identity.node_id,
            owner=self,
            config=self._config,
            codec=self._codec,
            deliver=self._receiver.on_message,
        )
        self._strangers[link] = None
        if len(self._strangers) > STRANGERS_MAX:
            # The oldest is the least likely to be a peer, whose handshake takes milliseconds.
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.end("too many connections that have not said who they are")
        return link

    def _introduction(self) -> Introduction:
        address, configured_at = self._gatekeeper.own_address()
        return Introduction(
            cluster_id=self._identity.cluster_id,
            node_id=self._identity.node_id,
            incarnation=self._identity.incarnation,
            start_counter=self._identity.start_counter,
            empty=self._gatekeeper.log_is_empty(),
            origin=self._gatekeeper.origin(),
            address=address,
            configured_at=configured_at,
            founders=self._gatekeeper.founders(),
        )

    def _complain_of_stranger(self, link: ReceivingLink[M]) -> None:
        if link.refusal is not None:
            self._complaints.warn(f"a node at {link.remote} is refused: {link.reason}")
        else:
            self._complaints.warn(f"a connection of {link.remote} to the peer port is closed: {link.reason}")

    def _check_again(self, peer: _Peer[M]) -> None:
        sending = peer.dialer.up if peer.dialer is not None else None
        for link in (sending, peer.receiving):
            if (
                link is not None
                and link.peer is not None
                and (objection := self._gatekeeper.check(link.peer))
            ):
                link.refuse(objection)

    def _forget_if_gone(self, node_id: NodeId, peer: _Peer[M]) -> None:
        if peer.dialer is None and peer.receiving is None:
            del self._peers[node_id]


def _status_of(node_id: NodeId, peer: _Peer[M], now: float) -> PeerStatus:
    dialer = peer.dialer
    up = dialer.up if dialer is not None else None
    standing = up if up is not None else peer.receiving
    introduction = standing.peer if standing is not None else None
    traffic = peer.traffic
    return PeerStatus(
        peer=node_id,
        address=peer.address,
        connected=up is not None,
        accepted=peer.receiving is not None,
        incarnation=introduction.incarnation if introduction is not None else 0,
        dial_attempts=dialer.attempts if dialer is not None else 0,
        dial_errors=dialer.errors if dialer is not None else 0,
        dial_oks=dialer.oks if dialer is not None else 0,
        last_connect_age_s=now - dialer.up_at if dialer is not None and dialer.oks else -1.0,
        refusal=dialer.refusal if dialer is not None else "",
        messages_sent=traffic.messages_sent,
        messages_received=traffic.messages_received,
        messages_dropped=traffic.messages_dropped,
        bytes_sent=traffic.bytes_sent,
        bytes_received=traffic.bytes_received,
        queue_bytes=up.queue_bytes if up is not None else 0,
    )


def _split(address: str) -> tuple[str, int]:
    # The configuration has checked its form; port 0 is for those who listen and do not care.
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
