"""What a node of the library is told at its start, and the values in which it describes itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from respraft.config import (
    NO_ADDRESS,
    ClientConfig,
    ClusterConfig,
    Config,
    ConfigError,
    HttpConfig,
    MemberConfig,
    NodeConfig,
    PeerConfig,
    RaftConfig,
    StorageConfig,
)
from respraft.raft.message import Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class Member:
    """One node of a cluster."""

    id: NodeId
    """From 1; given once, and never to another data directory."""
    peer: str
    """Where the other nodes reach it, host:port."""
    client: str = NO_ADDRESS
    """Where Redis clients reach it, host:port. Without one it serves none."""
    voter: bool = True
    """False: a learner, which gets the log and has no vote. Those that form a cluster are voters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One node's configuration. The same on all nodes of a cluster, save for `id` and `directory`."""

    id: NodeId
    """This node's number in its cluster, from 1. A node that lost its directory gets a new one."""

    directory: Path | str
    """Where this node, and no other, keeps its log and its state. Made if it does not exist."""

    members: Sequence[Member] = ()
    """Those that form the cluster the first time; all of them must be started then. Later the log knows
    better. Without any, the node waits until `set_members` adds it to a cluster, or founds one."""

    join: Sequence[Member] = ()
    """Of a node without `members`: some members of the cluster that it shall be added to, best all. It calls
    them until its log knows who they are."""

    cluster: str = "respraft"
    """Name of the cluster. Nodes of different clusters refuse each other."""

    peer_listen: str = NO_ADDRESS
    """Address for the other nodes; its own member's `peer` if it is not given."""

    client_listen: str = NO_ADDRESS
    """Address for Redis clients; its own member's `client` if it is not given. With neither it has none."""

    timeout_s: float = 3.0
    """How long `write` and `read` wait, in seconds, where a call does not say it."""

    max_stale_ms: int = 5000
    """How old the state may be that a `read` with `stale=True` is answered from, in milliseconds."""

    raft: RaftConfig = field(default_factory=RaftConfig)
    """Heartbeats, election time-outs, sizes of batches. The same on all nodes."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    """Memory for RocksDB."""

    def to_config(self) -> Config:
        """Return this as the node itself wants it.

        Raises:
            ConfigError: A value is impossible; the text names it and says what would be right.
        """
        own = next((member for member in self.members if member.id == self.id), None)
        if own is None and self.members:
            listed = ", ".join(str(member.id) for member in self.members)
            raise ConfigError(
                f"id is {self.id}, but members lists only {listed}; add this node to the list, or correct id"
            )
        if own is None and not self.peer_listen:
            raise ConfigError(
                "members and peer_listen are missing; say one or the other, so that peers find it"
            )
        return Config(
            node=NodeConfig(id=self.id, data_dir=Path(self.directory)),
            client=ClientConfig(
                listen=self.client_listen or (own.client if own else NO_ADDRESS),
                max_stale_ms=self.max_stale_ms,
            ),
            peer=PeerConfig(listen=self.peer_listen or (own.peer if own else NO_ADDRESS)),
            http=HttpConfig(listen=NO_ADDRESS),
            cluster=ClusterConfig(
                id=self.cluster,
                members=tuple(
                    MemberConfig(id=member.id, peer=member.peer, client=member.client)
                    for member in self.members
                ),
            ),
            raft=self.raft,
            storage=self.storage,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A node at one moment, as it sees itself and its cluster."""

    id: NodeId
    cluster: str
    role: str
    """follower, pre-candidate, candidate, leader or learner."""
    term: Term
    leader: NodeId | None
    """As far as this node knows; it may have changed since."""
    members: tuple[Member, ...]
    """Of the newest configuration in this node's log; empty before there is one."""
    first_index: Index
    last_index: Index
    last_term: Term
    commit_index: Index
    applied_index: Index
    log_time_ms: int
    """Stamp of the last applied entry, Unix milliseconds."""
    refused: str | None
    """Why the cluster does not take this node, if it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One committed entry of the log."""

    index: Index
    term: Term
    time_ms: int
    """The leader's stamp, Unix milliseconds; never decreases from entry to entry."""
    kind: str
    """commands, session (a node opened one), time (only the stamp counts), members (a configuration), or noop
    (of a new leader)."""
    commands: tuple[tuple[bytes, ...], ...] = ()
    """Of kind commands: each as its words. What `write` wrote is one word; a Redis command has its name
    first. Those of a batch that had been applied before are repeats, and count nowhere."""
    members: tuple[Member, ...] = ()
    """Of kind members."""
