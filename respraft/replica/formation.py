"""Formation: how a configured set of empty nodes becomes one cluster, exactly once.

The listed member with the lowest id waits until it has links with *all* the others and every one of them says
that its data directory is empty. It then writes the first configuration, which holds the
incarnation of every member's data directory, as entry 1 of its own log, and campaigns. From there on it is
plain Raft: the entry counts once a majority has it.

Why all: a node that lost its disk looks like a fresh one. If a majority of empty nodes could form a
cluster, two wiped nodes would begin a second history beside a third that still holds the first. With
all of them empty there is no first one.

And all of them list the same ids, which each handshake compares until the cluster has formed. Else two nodes
could each be the lowest of its own list, and each write an entry 1 of term 1 that is not the other's. (Where
the addresses differ, those of the node that forms it count.)

A member that comes back with another incarnation than the configuration names is refused by everybody who
knows the configuration (`check_peer`), so it neither votes nor counts.
"""

from collections.abc import Container, Mapping
from typing import Final

import msgspec

from respraft.config import MemberConfig
from respraft.raft.configuration import Configuration, ConfigurationHistory, Member
from respraft.raft.message import Index, NodeId


class PeerIdentity(msgspec.Struct, frozen=True):
    """What a peer's handshake said about it."""

    node_id: NodeId
    incarnation: int
    empty: bool  # Its log holds nothing yet.
    origin: int = 0  # Of the cluster that it knows; 0: none.
    address: str = ""  # Where its own log says that it is dialled,
    configured_at: Index = 0  # and as of which entry.
    founders: tuple[NodeId, ...] = ()  # It is to form a cluster of exactly these, and has not yet.


class Objection(msgspec.Struct, frozen=True):
    """Why a peer must be refused."""

    text: str  # For its operator.
    removed: bool = False  # It was a member, and the cluster has agreed that it is none any more.


class Formation:
    """The lowest listed member's wait for all the others."""

    def __init__(self, node_id: NodeId, incarnation: int, members: tuple[MemberConfig, ...]) -> None:
        """Begin with no peer seen.

        Args:
            node_id: This node.
            incarnation: Of this node's data directory.
            members: The configured members; none means that the node waits for an operator's command.
        """
        self._members = {member.id: member for member in members}
        self._node_id = node_id
        self._seen = {node_id: PeerIdentity(node_id, incarnation, True)}

    def link_up(self, peer: PeerIdentity) -> None:
        """A peer is connected, in its present life."""
        self._seen[peer.node_id] = peer

    def link_down(self, peer: NodeId) -> None:
        """What the peer said does not count any more: it may come back another."""
        self._seen.pop(peer, None)

    def configuration(self) -> Configuration | None:
        """Return the first configuration, if this node is the one to write it and all are there, empty."""
        if not self._members or min(self._members) != self._node_id:
            return None
        peers = [self._seen.get(node_id) for node_id in sorted(self._members)]
        if not all(peer is not None and peer.empty for peer in peers):
            return None
        return Configuration(
            members=tuple(
                Member(
                    id=member.id,
                    peer=member.peer,
                    client=member.client,
                    incarnation=self._seen[member.id].incarnation,
                    voter=True,
                )
                for _, member in sorted(self._members.items())
            ),
            origin=self._seen[self._node_id].incarnation,
        )


def check_peer(
    configurations: ConfigurationHistory,
    listed: Container[NodeId],
    founders: tuple[NodeId, ...],
    invited: Mapping[NodeId, int],
    peer: PeerIdentity,
) -> Objection | None:
    """Return why `peer` must be refused; None if it is welcome.

    Welcome is every member of the newest committed configuration and of those behind it, which may be cut
    off again; who is being added; and a node of this same cluster that is not known here, because this
    node's log may be behind. Only what is committed removes anybody.

    Args:
        configurations: Of this node's log; none before the cluster has formed.
        listed: Whom this node talks to before that,
        founders: and with whom it is to form the cluster, if it is.
        invited: Incarnations of nodes that are being added, by id; 0 stands for any.
        peer: Who wants to talk, or who answered.
    """
    node_id = peer.node_id
    known = configurations.known()
    if not known:
        if node_id not in listed:
            return Objection(_NOT_LISTED.format(node_id))
        if founders and peer.founders and founders != peer.founders:
            return Objection(_OTHER_FOUNDERS.format(node_id, _listing(peer.founders), _listing(founders)))
        return None
    committed = known[0]
    if node_id in committed.removed_ids:
        return Objection(_REMOVED.format(node_id), removed=True)
    if peer.origin and committed.origin and peer.origin != committed.origin:
        return Objection(_OTHER_CLUSTER.format(node_id))
    members = [member for each in known if (member := each.member(node_id)) is not None]
    if members:
        incarnation = members[-1].incarnation
        if incarnation == peer.incarnation:
            return None
        return Objection(_OTHER_DIRECTORY.format(node_id, peer.incarnation, incarnation))
    if node_id in invited and invited[node_id] in (0, peer.incarnation):
        return None
    if peer.origin and committed.origin:
        return None  # The same by now, and it knows more than this node.
    return Objection(_STRANGER.format(node_id))


def _listing(ids: tuple[NodeId, ...]) -> str:
    return ", ".join(map(str, ids))


_OTHER_FOUNDERS: Final = (
    "node id {} has nodes {} in its cluster.members, the node that it talks to has nodes {}, and no cluster "
    "has formed yet; use the same member list in every node's configuration, and start again those where it "
    "changes"
)
_NOT_LISTED: Final = (
    "node id {} is not in cluster.members of the node that it talks to; "
    "use the same member list in every node's configuration"
)
_STRANGER: Final = (
    "node id {} is not a member of this cluster: it was never added. Start it with an empty data directory "
    "and without cluster.members, and have it join: RAFT.CLUSTER JOIN"
)
_REMOVED: Final = (
    "node id {} was removed from this cluster, and an id is never used again. Stop this node; to have its "
    "machine in the cluster again, delete its data directory and let it join under a new id"
)
_OTHER_CLUSTER: Final = (
    "node id {} belongs to another cluster that has the same name (cluster.id). Check its addresses; if it "
    "is to be a member of this one, it has to join with an empty data directory"
)
_OTHER_DIRECTORY: Final = (
    "the data directory of node id {} is not the one that the cluster knows (incarnation {:016x}, expected "
    "{:016x}): it was deleted or replaced, and what it had promised is lost. Put the very same directory "
    "back if it still exists. Otherwise `respraft repair --rejoin --config FILE` brings the node back at "
    "the same addresses, under an id that has not been used"
)
