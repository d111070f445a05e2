"""Who is at an address? A whole handshake, secret and gatekeepers included, and nothing behind it.

For an address that an operator typed, before anything is changed because of it. It does not touch the links
that stand.
"""

import asyncio
from typing import Self

from respraft.config import PeerConfig
from respraft.peer.codec import PeerProtocolError
from respraft.peer.dialer import connect_to_any
from respraft.peer.handshake import Handshake
from respraft.peer.link import Link
from respraft.raft.message import NodeId


class NotThere(Exception):
    """The node is not at that address, for the reason that the text says."""


async def look(address: tuple[str, int], *, handshake: Handshake, own_id: NodeId, config: PeerConfig) -> None:
    """Return if the node that `handshake` is to meet is at `address`, and either side welcomes the other.

    Raises:
        NotThere: It is not, or it can't be told.
    """
    seen = _Look(handshake=handshake, own_id=own_id, config=config)
    try:
        async with asyncio.timeout(config.handshake_timeout_ms / 1000):
            await connect_to_any(lambda: seen, address)
    except OSError as error:  # TimeoutError is one.
        raise NotThere(f"nobody is there: {str(error) or 'no answer'}") from error
    await seen.lost  # The link's own deadline ends it if nothing else does.
    if seen.peer is None:
        raise NotThere(seen.reason)


class _Look(Link):
    """A link that ends as soon as it stands. Its own owner."""

    def __init__(self, *, handshake: Handshake, own_id: NodeId, config: PeerConfig) -> None:
        super().__init__(handshake=handshake, own_id=own_id, owner=self, config=config)

    def link_up(self, _link: Self) -> None:
        self.finish("seen")

    def link_lost(self, _link: Self) -> None:
        """`lost` says it."""

    def _on_data(self, data: bytes) -> None:
        raise PeerProtocolError("nothing is to be said on this connection")
