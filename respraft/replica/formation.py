"""Formation: how a configured set of empty nodes becomes one cluster, exactly once.

The listed member with the lowest id waits until it has links with *all* the others and every one of them says
that its data directory is empty. It then writes the first configuration, which holds the
incarnation of every member's data directory, as entry 1 of its own log, and campaigns. From there on it is
plain Raft: the entry counts once a majority has it.

Why all: a node that lost its disk looks like a fresh one. If a majority of empty nodes could form a
cluster, two wiped nodes would begin a second history beside a third that still holds the first. With
all of them empty there is no first one. A member that comes back with another incarnation than the
configuration names is refused by everybody who knows the configuration (`check_peer`), so it neither
votes nor counts.
"""

import msgspec

from respraft.config import MemberConfig
from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import NodeId


class PeerIdentity(msgspec.Struct, frozen=True):
    """What a peer's handshake said about it."""

    node_id: NodeId
    incarnation: int
    empty: bool  # Its log holds nothing yet.


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
            old_voters=(),
        )


def check_peer(configuration: Configuration | None, listed: set[NodeId], peer: PeerIdentity) -> str | None:
    """Return why `peer` must be refused, as a text for its operator; None if it is welcome.

    Args:
        configuration: The newest one in this node's log; None before the cluster has formed.
        listed: The member ids of this node's configuration file.
        peer: Who wants to talk, or who answered.
    """
    if configuration is None:
        if peer.node_id in listed:
            return None
        return (
            f"node id {peer.node_id} is not in cluster.members of the node that it talks to; "
            "use the same member list in every node's configuration"
        )
    member = configuration.member(peer.node_id)
    if member is None:
        return (
            f"node id {peer.node_id} is not a member of this cluster: "
            "it was never added, and this version cannot add members to a cluster that has formed"
        )
    if member.incarnation != peer.incarnation:
        return (
            f"the data directory of node id {peer.node_id} is not the one that the cluster knows "
            f"(incarnation {peer.incarnation:016x}, expected {member.incarnation:016x}): it was deleted or "
            "replaced, and what it had promised is lost. Put the very same directory back if it still "
            "exists. Otherwise leave this node stopped: the others go on without it as long as they are a "
            "majority. It can come back only under an id that has not been used, and this version cannot "
            "add members to a cluster that has formed"
        )
    return None
