"""How a node that belongs to no cluster comes into one: RAFT.CLUSTER INIT and RAFT.CLUSTER JOIN.

    joining node                              a member, at its client address
      RAFT.STATUS ─────────────────────────>  cluster id, members, the next free id
      takes that id, durably
      RAFT.NODE ADD id peer client INCARNATION ...
                                              the leader dials the node, then changes the membership
      <──────────── appends, over peer links ──────────
      its own log says that it is a member, and it has caught up: joined

The id is durable before anybody hears of it, and can be given up as long as the log is empty. All waiting is
done in a task of the event loop; what fails for good says why, what may pass is tried again.

It is tried until what is *committed* says that this node is a member. A configuration that is in its log only
may be cut off again: its leader can die before a majority has it, and then nobody else knows of this node.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from respraft.config import ConfigError, parse_address
from respraft.node.node import Node
from respraft.raft.message import NOBODY, NodeId
from respraft.resp.errors import ReplyError
from respraft.server.ask import CannotConnect, NoAnswer, ask

ASK_S: Final = 5.0
"""How long a member may take to say what it knows."""
ADD_S: Final = 15.0
"""How long it may take to have this node added; after that it is asked again, which changes nothing twice."""
RETRY_S: Final = 0.3
LOOK_S: Final = 0.02
"""How often a joining node looks whether its log has made it a member."""
UNREACHABLE_ROUNDS_MAX: Final = 3
"""How often all given addresses are tried in vain before that is an error."""

# What passes by itself: another change is under way, there is no leader just now, or it is not known.
_PASSING: Final = frozenset({"INPROG", "CLUSTERDOWN", "TIMEOUT", "BUSY", "LOADING"})

_log: Final = logging.getLogger("respraft.server")


def found(node: Node[Any], cluster_id: str) -> str:
    """Found a cluster of this node alone; return its id. It leads within moments.

    Raises:
        ReplyError: It belongs to one already, or the id or an address cannot be.
    """
    check_alone(node)
    configured = node.config.cluster.id
    if cluster_id and configured and cluster_id != configured:
        raise ReplyError("ERR", f"cluster.id is {configured!r} in this node's configuration")
    name = cluster_id or configured or secrets.token_hex(16)
    if not (len(name) <= 64 and all(each.isalnum() or each in "-_." for each in name) and name.isascii()):
        raise ReplyError("ERR", "invalid cluster id: it must be 1 to 64 letters, digits, '-', '_' or '.'")
    peer, client = own_addresses(node)
    _take_place(node, node.config.node.id or 1, name)
    node.found(peer, client)
    _log.info("founded cluster %s as node %d", name, node.node_id)
    return name


def check_alone(node: Node[Any]) -> None:
    """Raise ReplyError unless this node belongs to no cluster."""
    state = node.replica.status()
    if state.removed:
        raise ReplyError("NOCLUSTER", state.refused or "")
    replaces = node.log_store.identity().replaces
    if state.raft.configuration is not None or (node.config.cluster.members and not replaces):
        raise ReplyError("ERR", "Already cluster member")


def is_listed(node: Node[Any]) -> bool:
    """Whether this node is a member of its cluster for good, though maybe without a vote so far."""
    configuration = node.replica.status().applied_configuration
    return configuration is not None and configuration.member(node.node_id) is not None


def _check_may_join(node: Node[Any]) -> None:
    """Raise ReplyError if this node is a member, or was one. Who has tried to become one may try again."""
    founds = bool(node.config.cluster.members) and not node.log_store.identity().replaces
    if founds or is_listed(node) or node.replica.status().raft.configuration is None:
        check_alone(node)
    elif node.replica.status().removed:
        raise ReplyError("NOCLUSTER", node.replica.status().refused or "")


def own_addresses(node: Node[Any]) -> tuple[str, str]:
    """Return where the other nodes and clients reach this one. Raises ReplyError where that is nowhere."""
    addresses = []
    for key, config in (("peer", node.config.peer), ("client", node.config.client)):
        address = config.advertise or config.listen
        host = parse_address(address)[0]
        if host in ("0.0.0.0", "::"):
            raise ReplyError(
                "ERR",
                f"invalid node address: {key}.listen is {address}, where nobody can reach this node; "
                f"set {key}.advertise in its configuration",
            )
        addresses.append(address)
    return addresses[0], addresses[1]


def _take_place(node: Node[Any], node_id: NodeId, cluster_id: str) -> None:
    """Make this the node of that id. Raises ReplyError where it has promised something as another one."""
    if (node.node_id, node.cluster_id) == (node_id, cluster_id):
        return
    raft = node.replica.status().raft
    if raft.last_index or raft.term:
        raise ReplyError(
            "ERR",
            f"this node has taken part in cluster {node.cluster_id!r} as node {node.node_id}: to have it in "
            "another place, delete its data directory and start it again",
        )
    node.adopt(node_id, cluster_id)


class Joining:
    """One node's way into a cluster. `join` is its body; it is run once, as a task."""

    def __init__(
        self,
        node: Node[Any],
        addresses: Sequence[str],
        *,
        node_id: NodeId = NOBODY,
        voter: bool = True,
        in_place_at: Sequence[str] = (),
    ) -> None:
        """Prepare to join through any of `addresses`, the client addresses of members.

        Args:
            node: This node, which belongs to no cluster.
            addresses: Where to ask.
            node_id: The id that it shall have; NOBODY: its configuration's, or the next free one.
            voter: False: it stays a learner.
            in_place_at: Addresses for peers that its file has. If there are any, it takes the place of who
                has its own in the cluster, or else one of these.

        Raises:
            ReplyError: It cannot join at all.
        """
        _check_may_join(node)
        for address in addresses:
            try:
                parse_address(address)
            except ConfigError as error:
                raise ReplyError("ERR", f"invalid node address: {error}") from error
        self._node = node
        self._addresses = list(addresses)
        identity = node.log_store.identity()
        self._replaces = identity.replaces
        configured = 0 if self._replaces else node.config.node.id
        self._fixed_id = node_id or configured
        self._id_taken = False  # The one that was chosen last.
        self._voter = voter
        self._in_place_at = [address.encode() for address in in_place_at]
        self._peer, self._client = own_addresses(node)
        self._tried_elsewhere = False

    async def join(self) -> None:
        """Return when this node is a member and has caught up.

        Raises:
            ReplyError: It is not, and trying on would not help. Nothing was changed.
        """
        asked_s = -math.inf  # When this node was last added, as far as a member could say.
        while not self._is_member():
            if self._node.replica.status().removed:
                raise ReplyError("ERR", "this node was removed while it joined")
            if is_listed(self._node) or time.monotonic() < asked_s + ADD_S:
                await asyncio.sleep(LOOK_S)
            elif await self._added():
                asked_s = time.monotonic()
            else:
                await asyncio.sleep(RETRY_S)
        _log.info("joined cluster %s as node %d", self._node.cluster_id, self._node.node_id)

    async def _added(self) -> bool:
        """Try once to be added. False: for a reason that passes."""
        address, status = await self._ask_a_member()
        self._adopt(status)
        words = ["RAFT.NODE", "ADD", str(self._node.node_id), self._peer, self._client]
        words += ["INCARNATION", f"{self._node.log_store.identity().incarnation:x}"]
        words += [] if self._voter else ["LEARNER"]
        replaces = self._replaced(status)
        words += ["REPLACES", str(replaces)] if replaces else []
        try:
            await ask(address, *words, timeout_s=ADD_S)
        except NoAnswer as error:
            _log.warning("joining: %s; asking again", error)
            return False
        except ReplyError as error:
            # By another node that joins at the same time.
            self._id_taken = "already been used" in error.text and not self._fixed_id
            if "cannot reach node" in error.text and self._go_elsewhere(status):
                return False
            if error.code not in _PASSING and not self._id_taken:
                raise ReplyError(error.code, f"{error.text} (said the node at {address})") from error
            _log.info("joining: %s %s; asking again", error.code, error.text)
            return False
        return True

    def _replaced(self, status: dict[bytes, Any]) -> NodeId:
        """Return in whose place this node comes; NOBODY: in nobody's."""
        if self._replaces or not self._in_place_at:
            return self._replaces
        at_our_address = [
            int(each[b"id"]) for each in _members(status) if each[b"peer"].decode() == self._peer
        ]
        return at_our_address[0] if at_our_address and at_our_address[0] != self._node.node_id else NOBODY

    def _go_elsewhere(self, status: dict[bytes, Any]) -> bool:
        """Nobody reaches this node where its file says; the cluster may know where it has moved since.

        Returns:
            Whether there is another place to try: that of the node it comes for, by its id, or by what else
            its file has if that one came in somebody's place itself.
        """
        if not self._in_place_at or self._tried_elsewhere:
            return False
        self._tried_elsewhere = True
        for member in _members(status):
            if int(member[b"id"]) == self._replaces or member[b"peer"] in self._in_place_at:
                _log.info("joining: not reached at %s; trying %s", self._peer, member[b"peer"].decode())
                self._peer, self._client = member[b"peer"].decode(), member[b"client"].decode()
                return True
        return False

    async def _ask_a_member(self) -> tuple[str, dict[bytes, Any]]:
        """Return the first address that answers as a member of a cluster, and what it says."""
        complaints: list[str] = []
        for round_ in range(UNREACHABLE_ROUNDS_MAX):
            complaints = []
            for address in self._addresses:
                try:
                    reply = await ask(address, "RAFT.STATUS", timeout_s=ASK_S)
                    status = dict(zip(reply[::2], reply[1::2], strict=True))
                    if not status[b"members"]:
                        raise ReplyError("ERR", "it belongs to no cluster itself")
                    return address, status
                except (NoAnswer, CannotConnect) as error:
                    complaints.append(str(error))
                except ReplyError as error:
                    complaints.append(f"{address}: {error.text}")
                except (TypeError, ValueError, KeyError):
                    complaints.append(f"{address}: no respraft node answers there")
            if round_ + 1 < UNREACHABLE_ROUNDS_MAX:
                await asyncio.sleep(RETRY_S)
        raise ReplyError("ERR", f"no member of a cluster can be asked: {'; '.join(complaints)}")

    def _adopt(self, status: dict[bytes, Any]) -> None:
        """Take an id in the cluster that `status` is of. Raises ReplyError where that is not ours."""
        node = self._node
        cluster_id = status[b"cluster_id"].decode()
        configured = node.config.cluster.id
        if configured and configured != cluster_id:
            raise ReplyError(
                "ERR", f"that node belongs to cluster {cluster_id!r}, but cluster.id is {configured!r} here"
            )
        chosen = node.node_id if node.cluster_id == cluster_id and not self._id_taken else NOBODY
        _take_place(node, self._fixed_id or chosen or int(status[b"next_node_id"]), cluster_id)
        node.contact({int(each[b"id"]): each[b"peer"].decode() for each in _members(status)})

    def _is_member(self) -> bool:
        configuration = self._node.replica.status().applied_configuration
        member = configuration.member(self._node.node_id) if configuration is not None else None
        if configuration is None or member is None:
            return False
        return not self._voter or (member.voter and configuration.settled)


def _members(status: dict[bytes, Any]) -> list[dict[bytes, Any]]:
    """Return the members in a reply of RAFT.STATUS."""
    return [dict(zip(each[::2], each[1::2], strict=True)) for each in status[b"members"]]
