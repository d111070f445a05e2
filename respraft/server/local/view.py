"""What LOCAL commands see: one connection, and the node that serves it.

`ClientView` and `ServerView` are all that the functions of this package may touch, so that they can be
tested without a socket. `server/` implements both; the statuses are frozen snapshots, built anew for each
command that asks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from respraft.commands.table import CommandTable
from respraft.config import Config
from respraft.raft.message import Index, NodeId, Term
from respraft.raft.ready import Role
from respraft.replica.admin import ChangeDone
from respraft.replica.changes import Action
from respraft.resp.replies import Reply

REPLY_ON: Final = "on"
REPLY_OFF: Final = "off"
REPLY_SKIP: Final = "skip"


class NoReply:
    """The type of NO_REPLY."""

    __slots__ = ()


NO_REPLY: Final = NoReply()
"""What CLIENT REPLY OFF and SKIP return: nothing goes out, not even for the command itself."""


class Deferred:
    """The reply of a LOCAL command that has to wait for something, such as a change of membership.

    Until it is there the connection counts as having a group in flight, so what was sent behind the command
    stays behind it. Whoever makes one sees to it that it is resolved in any case, time-outs included.
    """

    __slots__ = ("_reply", "_then", "resolved")

    def __init__(self) -> None:
        """Begin without a reply."""
        self.resolved = False
        self._reply: Reply = None
        self._then: Callable[[Reply], None] | None = None

    def resolve(self, reply: Reply) -> None:
        """Give the reply; a ReplyError is an error reply. What comes behind the first one is dropped."""
        if self.resolved:
            return
        self.resolved = True
        self._reply = reply
        if self._then is not None:
            self._then(reply)

    def when_resolved(self, then: Callable[[Reply], None]) -> None:
        """Have `then` called with the reply, at once if it is there already."""
        assert self._then is None, "one connection waits for a reply"
        self._then = then
        if self.resolved:
            then(self._reply)


class ClientView(Protocol):
    """One connection. Attributes that are no properties are set by commands."""

    name: bytes
    """As CLIENT SETNAME gave it: printable, no spaces; empty for none."""
    protocol: int
    """RESP2 or RESP3. A reply is encoded in the protocol that holds after its command."""
    database: int
    lib_name: bytes
    lib_version: bytes
    stale_reads: bool
    """READONLY: its reads may be answered from a state of `client.max_stale_ms` ago."""
    no_evict: bool
    no_touch: bool
    reply_mode: str
    """REPLY_OFF drops all replies. REPLY_SKIP drops the next command's, and then becomes REPLY_ON."""

    @property
    def id(self) -> int:
        """Never given twice in the life of a process."""
        ...

    @property
    def address(self) -> str:
        """host:port of the client."""
        ...

    @property
    def local_address(self) -> str:
        """host:port on which it was accepted."""
        ...

    @property
    def created_ms(self) -> float:
        """When it connected, on the clock of `ServerView.now_ms`."""
        ...

    @property
    def last_active_ms(self) -> float:
        """When bytes last came, on the same clock."""
        ...

    @property
    def last_command(self) -> bytes:
        """First word of its last command, as it was sent; empty before the first."""
        ...

    @property
    def commands_total(self) -> int:
        """Commands that it has sent."""
        ...

    @property
    def query_bytes(self) -> int:
        """Bytes of commands that have not run."""
        ...

    @property
    def output_bytes(self) -> int:
        """Bytes of replies that it has not taken."""
        ...

    def close_after_reply(self) -> None:
        """Run none of its later commands, and close once the replies so far are written."""
        ...


class NodeState(StrEnum):
    """How far a node has come with being part of its cluster."""

    UNINITIALIZED = "uninitialized"  # Waits to be told which cluster it belongs to.
    JOINING = "joining"
    LOADING = "loading"  # Replays its log and is far behind.
    UP = "up"
    REFUSED = "refused"  # The cluster does not take it, for instance because it lost its disk.


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """One member of the cluster, as this node sees it."""

    id: NodeId
    peer: str
    """host:port for the other nodes."""
    client: str
    """host:port for clients."""
    voter: bool
    """Its vote is asked for now."""
    becoming: str
    """What the change under way makes of it: "voter", "learner" or "removed"; "" when it stays as it is."""
    match_index: Index | None
    """Up to where its log is known to agree with the leader's; None where only the leader knows."""
    connected: bool
    """Whether this node's link to it is up. Always, for the node itself."""
    conn_oks: int
    """Connections that were made to it."""
    conn_errors: int
    """Attempts that failed."""
    last_conn_secs: int | None
    """Seconds since the last connection was made; None: there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """This node's view of itself and of the cluster, for RAFT.STATUS and INFO."""

    node_id: NodeId
    """NOBODY while no cluster has given it an id."""
    cluster_id: str
    """Empty while it knows none."""
    state: NodeState
    membership: str
    """Whether a change is under way: "settled", "planned" or "joint"; "none" without a configuration."""
    replaces: NodeId
    """The id in whose place this node has come since a repair, which its configuration file names; or 0."""
    next_node_id: NodeId
    """An id that was never used in this cluster."""
    role: Role
    term: Term
    leader_id: NodeId
    """NOBODY while none is known, and so for `voted_for`."""
    leader_addr: str | None
    """Where clients reach the leader."""
    voted_for: NodeId
    first_index: Index
    last_index: Index
    last_term: Term
    commit_index: Index
    applied_index: Index
    members: tuple[MemberStatus, ...]
    """Of the newest configuration in the log, sorted by id; empty before there is one."""
    fsync_count: int
    """Log writes since the start."""
    fsync_max_us: int
    fsync_avg_us: int
    log_file_bytes: int
    snapshot_index: Index
    """Up to here the state is durable by itself; 0: nothing was applied when it was flushed last."""
    snapshot_term: Term
    snapshots_created: int
    """Flushes of the state since the start."""
    snapshots_received: int
    """States of other nodes that took the place of this node's, since the start."""
    proxy_reqs: int
    """Batches handed to a leader on another node since the start."""
    proxy_outstanding_reqs: int
    """Batches of this node that were handed over and are not applied yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStatus:
    """A state that the node keeps, for RAFT.SNAPSHOT LIST."""

    number: int
    """Its name in the data directory."""
    index: Index
    """Up to this entry it is durable."""
    term: Term
    time_ms: int
    """Stamp of that entry, Unix epoch."""
    size_bytes: int
    sent_to: tuple[NodeId, ...]
    """Peers that a picture of it is being sent to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSize:
    """One database that is not empty."""

    keys: int
    expires: int
    """Keys among them that have a deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What was counted since the process started."""

    commands: int
    connections: int
    """Accepted connections, closed ones included."""
    rejected: int
    """Connections refused because of `max_clients`."""
    input_bytes: int
    output_bytes: int


class ClusterView(Protocol):
    """What can be done about the membership. Refusals are raised, or resolve the reply, as ReplyError."""

    def found(self, cluster_id: str) -> Reply:
        """Found a cluster of this node alone; an empty id: the configuration's, or a random one."""
        ...

    def join(self, addresses: list[str], node_id: NodeId, *, voter: bool) -> Deferred:
        """Join a cluster through its members' client addresses; NOBODY: an id is chosen."""
        ...

    def invite(self, address: str, node_id: NodeId, *, voter: bool) -> Deferred:
        """Have the node whose clients are served at `address` join this cluster."""
        ...

    def change(self, action: Action, then: Callable[[ChangeDone], Reply]) -> Deferred:
        """Have the leader carry out an action; `then` makes the reply when it is done."""
        ...


class FrontView(Protocol):
    """The process that serves the connection, which need not be the node's own (`server/workers/`)."""

    @property
    def table(self) -> CommandTable:
        """The commands that it understands."""
        ...

    @property
    def now_ms(self) -> float:
        """A clock that only runs forward, from no particular moment; for ages. All processes of a node have
        the same one."""
        ...


class ServerView(FrontView, Protocol):
    """The node, as its commands see it."""

    @property
    def cluster(self) -> ClusterView:
        """The membership."""
        ...

    @property
    def node_config(self) -> Config:
        """What the node was started with."""
        ...

    @property
    def run_id(self) -> str:
        """Forty random hex digits, new with each start."""
        ...

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        ...

    def wall_ms(self) -> int:
        """Unix time, as reads see it: the later of the log's time and the node's own clock."""
        ...

    def clients(self) -> Iterable[ClientView]:
        """All connections, ordered by id. Stays valid while some of them are killed."""
        ...

    def kill(self, client: ClientView) -> None:
        """Close a connection at once. Not used for the one whose command is running."""
        ...

    def raft_status(self) -> NodeStatus:
        """A snapshot of this node."""
        ...

    def snapshot_now(self) -> Deferred:
        """Flush the state and cut the log; OK when that is done."""
        ...

    def snapshots(self) -> Iterable[SnapshotStatus]:
        """The states that the node keeps."""
        ...

    def transfer_leadership(self, to: NodeId) -> Reply | Deferred:
        """Hand leadership over to `to`, or to the best voter (NOBODY); the reply of RAFT.TRANSFER_LEADER.

        Raises:
            ReplyError: It cannot even begin; nothing has changed.
        """
        ...

    def database_sizes(self) -> Mapping[int, DatabaseSize]:
        """The databases that are not empty."""
        ...

    def counters(self) -> Counters:
        """A snapshot of the counters."""
        ...
