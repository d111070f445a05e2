"""What the peer network and its owner ask of each other.

The owner (`node/`) implements `Gatekeeper` and `Receiver` and gets `PeerNetwork` in return. Nothing here
does I/O. All callbacks run on the event loop's thread and must not block; an exception that leaves one
ends the link it was called for and reaches the loop's exception handler.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from respraft.raft.message import NodeId


class PeerMessage(Protocol):
    """What every message that travels between nodes has: the node that built it."""

    @property
    def sender(self) -> NodeId: ...


M = TypeVar("M", bound=PeerMessage)
M_contra = TypeVar("M_contra", bound=PeerMessage, contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this node is, for as long as the process lives."""

    cluster_id: str
    node_id: NodeId
    incarnation: int
    """64 random bits of its data directory, durable before first contact."""
    start_counter: int
    """How often this data directory was started, this time included."""


class Introduction(msgspec.Struct, array_like=True, frozen=True):
    """What one side of a link says about itself in the handshake."""

    cluster_id: str
    node_id: NodeId
    incarnation: int
    start_counter: int
    empty: bool  # Its log holds nothing yet: it may take part in forming a cluster.
    origin: int = 0  # Of the cluster that it belongs to (`Configuration.origin`); 0: it knows of none.
    address: str = ""  # Where its own log says that it is dialled; "": it does not say.
    configured_at: int = 0  # And as of which entry.
    founders: tuple[NodeId, ...] = ()  # It is to form a cluster of exactly these, and has not yet.


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a node is not talked to."""

    text: str
    """For the operator of that node: what to do."""
    removed: bool = False
    """It was a member and is none any more, for good: the cluster has agreed on that."""


class Gatekeeper(Protocol):
    """Decides which nodes this one talks to. Asked by both sides of every handshake."""

    def check(self, peer: Introduction) -> Objection | None:
        """Return None to welcome `peer`, or the reason for which it is refused.

        Protocol version, cluster id, node id and secret were checked before. The reason is logged on both
        sides, so it should tell the operator of the refused node what to do.
        """
        ...

    def origin(self) -> int:
        """Return this node's own `Introduction.origin`, as of now."""
        ...

    def founders(self) -> tuple[NodeId, ...]:
        """Return this node's own `Introduction.founders`, as of now."""
        ...

    def log_is_empty(self) -> bool:
        """Return this node's own `Introduction.empty`, as of now."""
        ...

    def own_address(self) -> tuple[str, int]:
        """Return this node's own `Introduction.address` and `configured_at`, as of now."""
        ...


class Receiver(Protocol[M_contra]):
    """What the network tells its owner.

    Two links join a pair of nodes: the *sending* link, dialled by this node, and the *receiving* link,
    dialled by the other. `on_link_up` and `on_link_down` are about the sending link alone, since it decides
    whether what is sent can arrive.
    """

    def on_message(self, sender: NodeId, incarnation: int, message: M_contra) -> None:
        """Take one message; `message.sender == sender`, whose incarnation the handshake told."""
        ...

    def on_link_up(self, peer: NodeId, incarnation: int, start_counter: int, empty: bool) -> None:
        """Messages to `peer` travel from now on. What was sent before may be lost: send it again."""
        ...

    def on_link_down(self, peer: NodeId, *, by_peer: bool) -> None:
        """The sending link ended. `by_peer`: the other side ended it (end of stream or reset).

        A redial is under way already; if it is refused, `on_dial_refused` follows within a round trip.
        """
        ...

    def on_refused(self, peer: NodeId, text: str, *, removed: bool) -> None:
        """`peer` does not accept this node, for the reason in `text`. Called at each attempt.

        `removed`: it says that the cluster has removed this node for good.
        """
        ...

    def on_dial_refused(self, peer: NodeId) -> None:
        """Nothing listens at the address of `peer` (ECONNREFUSED). Called at each attempt.

        `PeerNetwork.ended_by_peer(peer)` then says whether both links were ended by the other side, which
        together means that its process is gone.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """One peer as the network sees it. Counters grow for as long as the peer is known."""

    peer: NodeId
    address: str
    """Where it is dialled; "" when it only dialled us."""
    connected: bool
    """The sending link stands."""
    accepted: bool
    """The receiving link stands."""
    incarnation: int
    """As a standing link has it; 0 without one."""
    dial_attempts: int
    dial_errors: int
    dial_oks: int
    last_connect_age_s: float
    """Seconds since the sending link was last established; -1.0 means never."""
    refusal: str
    """Why the newest attempt ended in a refusal, by either side; "" when it did not."""
    messages_sent: int
    messages_received: int
    messages_dropped: int
    """Not sent, for want of a link or of room in its queue."""
    bytes_sent: int
    bytes_received: int
    queue_bytes: int
    """Encoded, not yet handed to the socket."""
