"""The configuration of one node: every key with its unit, its default and the reason for it.

`config_file.py` reads a TOML file into a frozen `Config`; attribute names are the file's own, so `[client]
park_ms` is `config.client.park_ms`. The text under a key explains it; `conf/respraft.toml` says the same to
the operator, and a test holds the two together.

What is checked here: that each key is known, has the right type and lies in its range, and that keys which
depend on each other agree. Every refusal is a `ConfigError` that names the file and the key, and says what
would be right. What is not checked: whether a directory can be written, a port is free or a host name
resolves. That is found out by using it.

Sizes are bytes and times are milliseconds, unless the name ends otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from respraft.config_value import (
    GIB,
    KIB,
    MIB,
    NO_ADDRESS,
    ConfigError,
    check_address,
    check_distinct,
    check_ranges,
    is_loopback,
    is_word,
    limit,
    parse_address,
)

__all__ = (
    "KIB",
    "MIB",
    "NO_ADDRESS",
    "READ_MODES",
    "SECTIONS",
    "TICK_MS",
    "ClientConfig",
    "ClusterConfig",
    "Config",
    "ConfigError",
    "HttpConfig",
    "MemberConfig",
    "NodeConfig",
    "PeerConfig",
    "RaftConfig",
    "StorageConfig",
    "is_loopback",
    "parse_address",
)

TICK_MS: Final = 10
"""Real time of one tick of the Raft core, which counts nothing else. Below it lies the noise of a busy
event loop, and a coarser tick would coarsen the time-outs."""

_DAY_MS: Final = 24 * 60 * 60 * 1000
_NODE_ID_MAX: Final = (1 << 31) - 1
_CLUSTER_ID_CHARACTERS_MAX: Final = 64
_MEMBERS_MAX: Final = 64
_ELECTION_PER_HEARTBEAT_MIN: Final = 5
READ_MODES: Final = ("read-index", "lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """[node]: who this node is and where it keeps what it must not lose."""

    data_dir: Path
    """Directory of this node alone. A relative path counts from where the server is started."""

    id: int = limit(0, 0, _NODE_ID_MAX)
    """Number of this node in its cluster, from 1. Given once: a node that lost its disk gets a new one. 0:
    the cluster that the node joins chooses it, and the data directory remembers it."""

    def __post_init__(self) -> None:
        check_ranges("node", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """[client]: the Redis port, and what one client may ask of this node."""

    listen: str
    """Address for Redis clients, host:port."""

    advertise: str = ""
    """Address that other nodes and clients are told, where it is not `listen`: behind a translation of
    addresses, or when listening on 0.0.0.0. Only for RAFT.CLUSTER INIT and JOIN; `cluster.members` says it
    itself."""

    max_clients: int = limit(10_000, 1, 1_000_000)
    """Connections at a time, as in Redis; one more is told so and closed. Each needs a file descriptor."""

    park_ms: int = limit(3000, 0, _DAY_MS)
    """How long a command waits for a leader before it is refused, unexecuted, with CLUSTERDOWN. Several
    elections fit in, so that clients see a pause and not an error. 0 refuses at once."""

    request_timeout_ms: int = limit(5000, 10, _DAY_MS)
    """How long a command that was handed over may take before the client is told TIMEOUT, outcome unknown.
    Longer than `park_ms`, since giving up here costs the client its certainty."""

    max_stale_ms: int = limit(5000, 10, _DAY_MS)
    """How old, at most, the state may be from which a connection is answered that has sent READONLY. Such
    reads need no word with the leader, and go on while there is none; past this age they wait like others."""

    bulk_bytes_max: int = limit(64 * MIB, 1, 64 * MIB)
    """Longest single argument: a key or a value."""

    arguments_max: int = limit(1_048_576, 1, 1_048_576)
    """Arguments of one command. Redis 6's own limit; memory grows as they arrive, not as announced."""

    inline_bytes_max: int = limit(64 * KIB, 64, MIB)
    """Longest line of an inline command or of a header. Redis's own limit."""

    query_buffer_bytes_max: int = limit(128 * MIB, 65, 4 * GIB)
    """Bytes of one client that may wait unparsed, thus also the size of one whole command. Room for the
    longest argument and as much again."""

    output_buffer_bytes_max: int = limit(256 * MIB, KIB, 4 * GIB)
    """Replies that all clients together may leave unread, one of them half of it; past that, those that are
    behind have to read before their next commands run. Room for libraries that send all before they read."""

    in_flight_bytes_max: int = limit(64 * MIB, KIB, 4 * GIB)
    """Writes of all clients that wait for their commit, past which client sockets are not read: the
    pressure goes back to the senders."""

    in_flight_bytes_hard_max: int = limit(256 * MIB, KIB, 16 * GIB)
    """The same, past which commands that were already read are refused with BUSY."""

    idle_timeout_s: int = limit(0, 0, 365 * 24 * 60 * 60)
    """Seconds of silence after which a client is closed. 0, as in Redis: never."""

    group_commands_max: int = limit(1024, 1, 65_536)
    """Commands of one connection taken per turn of the event loop, so that a long pipeline does not keep
    the others waiting."""

    def __post_init__(self) -> None:
        check_ranges("client", self)
        if self.advertise:
            check_address("client.advertise", self.advertise)
        if self.listen != NO_ADDRESS:
            check_address("client.listen", self.listen)
        if self.query_buffer_bytes_max < self.bulk_bytes_max + self.inline_bytes_max:
            raise ConfigError(
                f"client.query_buffer_bytes_max is {self.query_buffer_bytes_max}; it must be at least "
                f"client.bulk_bytes_max plus client.inline_bytes_max "
                f"({self.bulk_bytes_max + self.inline_bytes_max}), or the longest argument could not be sent"
            )
        if self.request_timeout_ms < self.park_ms:
            raise ConfigError(
                f"client.request_timeout_ms is {self.request_timeout_ms}; it must be at least client.park_ms "
                f"({self.park_ms}): giving up on what was handed over costs the client its certainty"
            )
        if self.in_flight_bytes_hard_max < self.in_flight_bytes_max:
            raise ConfigError(
                f"client.in_flight_bytes_hard_max is {self.in_flight_bytes_hard_max}; it must be at least "
                f"client.in_flight_bytes_max ({self.in_flight_bytes_max}): reading pauses first, refusing is "
                f"for what was read already"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """[peer]: the port on which the other nodes reach this one, and the links to them."""

    listen: str
    """Address for the other nodes, host:port."""

    advertise: str = ""
    """Address at which they reach it, where that is not `listen`; as `client.advertise`."""

    queue_bytes_max: int = limit(64 * MIB, 64 * KIB, 4 * GIB)
    """Bytes that may wait on one link. Past it messages are dropped, which Raft makes good; an unreachable
    peer must not cost memory without end."""

    frame_bytes_max: int = limit(MIB, 2 * KIB, 64 * MIB)
    """Longest frame that is accepted; a longer one closes the connection before its body is read."""

    fragment_bytes: int = limit(256 * KIB, KIB, 32 * MIB)
    """Messages longer than this travel in pieces of it, heartbeats between: 2 ms each at 1 Gbit/s."""

    message_bytes_max: int = limit(512 * MIB, KIB, 8 * GIB)
    """Longest message put together from fragments. Must hold the largest batch."""

    reconnect_ms_max: int = limit(1000, 10, 60_000)
    """Longest pause between two attempts to reach a peer; the first ones follow faster."""

    snapshot_bytes_per_second: int = limit(32 * MIB, 64 * KIB, 16 * GIB)
    """Rate at which a state goes to a node that is too far behind: clients should not feel it."""

    handshake_timeout_ms: int = limit(2000, 10, 60_000)
    """A connection that has not said who it is by then is closed."""

    def __post_init__(self) -> None:
        check_ranges("peer", self)
        check_address("peer.listen", self.listen)
        if self.advertise:
            check_address("peer.advertise", self.advertise)
        if self.frame_bytes_max < 2 * self.fragment_bytes:
            raise ConfigError(
                f"peer.frame_bytes_max is {self.frame_bytes_max}; it must be at least twice "
                f"peer.fragment_bytes ({self.fragment_bytes}), or a peer would refuse the fragments"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """[http]: metrics and health checks."""

    listen: str
    """Address for GET /metrics, /livez and /readyz, host:port."""

    def __post_init__(self) -> None:
        if self.listen != NO_ADDRESS:
            check_address("http.listen", self.listen)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """One entry of `cluster.members`: a node, and where the others and its clients reach it."""

    id: int
    """The node's `node.id`."""

    peer: str
    """Address at which the other nodes reach its peer port, host:port."""

    client: str
    """Address at which Redis clients reach it, host:port; RAFT.LEADER tells clients this."""

    def __post_init__(self) -> None:
        if not 1 <= self.id <= _NODE_ID_MAX:
            raise ConfigError(f"a member's id is {self.id}; it must be between 1 and {_NODE_ID_MAX}")
        check_address(f"peer of member {self.id}", self.peer)
        if self.client != NO_ADDRESS:
            check_address(f"client of member {self.id}", self.client)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """[cluster]: which cluster this is and who forms it. The same in every member's file."""

    id: str = ""
    """Name of the cluster. Nodes of different clusters refuse each other. Empty: RAFT.CLUSTER INIT or JOIN
    say it, and the data directory remembers it."""

    members: tuple[MemberConfig, ...] = ()
    """The nodes that form the cluster the first time; later its own log knows better. Without a list the
    node waits for RAFT.CLUSTER INIT or RAFT.CLUSTER JOIN."""

    def __post_init__(self) -> None:
        if not self.id and self.members:
            raise ConfigError("cluster.id is missing; a cluster with cluster.members needs a name")
        if self.id and (
            not 1 <= len(self.id) <= _CLUSTER_ID_CHARACTERS_MAX
            or not self.id.isascii()
            or not is_word(self.id)
        ):
            raise ConfigError(
                f"cluster.id is {self.id!r}; it must be 1 to {_CLUSTER_ID_CHARACTERS_MAX} letters, digits, "
                f"'-', '_' or '.'"
            )
        if len(self.members) > _MEMBERS_MAX:
            raise ConfigError(
                f"cluster.members lists {len(self.members)} nodes; at most {_MEMBERS_MAX} are sensible"
            )
        check_distinct("cluster.members", "id", (str(member.id) for member in self.members))
        addresses = [address for member in self.members for address in (member.peer, member.client)]
        check_distinct("cluster.members", "address", addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """[raft]: timing and size limits of the Raft core. The same on every node."""

    heartbeat_ms: int = limit(100, TICK_MS, 60_000)
    """Leader idle time before a heartbeat. A multiple of the tick, 10 ms."""

    election_timeout_ms: int = limit(500, 5 * TICK_MS, 600_000)
    """Least follower patience without a leader; the actual one is drawn anew from [n, 2n). Bounds the
    pause when a leader hangs. A multiple of the tick, 10 ms."""

    read_mode: str = "read-index"
    """How a leader proves to reads that it still leads. "read-index": by a round of heartbeats, shared by all
    reads that wait. "lease": by rounds in the last four fifths of an election timeout, which saves the round
    and rests on an assumption: no node's monotonic clock runs more than 15 % faster than another's, and none
    stands while others run, as that of a suspended virtual machine does. To change it, stop all nodes."""

    append_bytes_max: int = limit(MIB, 1, 256 * MIB)
    """Payload bytes per append message. One larger entry still goes, alone."""

    inflight_appends_max: int = limit(128, 1, 65_536)
    """Appends sent to one follower and not yet answered: the depth of the pipeline."""

    inflight_bytes_max: int = limit(16 * MIB, 1, 4 * GIB)
    """The same in bytes, so that a slow follower does not grow the leader's memory."""

    entry_cache_bytes: int = limit(8 * MIB, 0, 4 * GIB)
    """Recent log entries kept in memory; what is sent to followers and applied is nearly always there."""

    unwritten_bytes_max: int = limit(128 * MIB, KIB, 16 * GIB)
    """Entries that may wait for the leader's own disk, past which it appends no more for a while: the others
    commit without it, so nothing else would bound its memory. Twice what one node's clients have in flight
    before they are not read any more; a disk that is merely busy is never that far behind."""

    batch_commands_max: int = limit(4096, 1, 65_536)
    """Commands per log entry. More of one turn go into the next entry."""

    batch_bytes_max: int = limit(MIB, 1, 256 * MIB)
    """Command bytes per log entry. One larger command still goes, alone."""

    pack_bytes_min: int = limit(KIB, 0, 4 * GIB)
    """Log entries of at least so many command bytes are compressed (LZ4) where that makes them smaller by an
    eighth: on the way to the other nodes, in their logs and in memory. Looking costs 0.2 ms for a MiB."""

    compact_bytes: int = limit(64 * MIB, KIB, 64 * GIB)
    """When so much of the log has been applied since the last time, the state is flushed and the head of the
    log cut off. Bounds the log on disk, and its replay after a crash: 64 MiB of small SETs add 0.3 s to a
    start."""

    compact_entries: int = limit(50_000, 1, 1_000_000_000)
    """The same in entries, since each takes 2 us to check at a start, however small it is."""

    keep_bytes: int = limit(8 * MIB, 0, 64 * GIB)
    """Log kept behind a cut, so that a node that was away for a moment needs no snapshot."""

    keep_entries: int = limit(10_000, 0, 1_000_000_000)
    """The same in entries; whichever is less."""

    keep_bytes_max: int = limit(GIB, KIB, 1024 * GIB)
    """The most log that is kept for followers that are connected and behind, or are being sent a snapshot.
    Past it the head is cut off all the same, and they need another one: it must hold what is written while a
    whole state travels, or such a follower never catches up."""

    def __post_init__(self) -> None:
        check_ranges("raft", self)
        if self.read_mode not in READ_MODES:
            raise ConfigError(
                f"raft.read_mode is {self.read_mode!r}; it must be {' or '.join(map(repr, READ_MODES))}"
            )
        for key, value in (
            ("heartbeat_ms", self.heartbeat_ms),
            ("election_timeout_ms", self.election_timeout_ms),
        ):
            if value % TICK_MS:
                raise ConfigError(
                    f"raft.{key} is {value}; it must be a multiple of {TICK_MS}, the tick of the Raft core"
                )
        least = _ELECTION_PER_HEARTBEAT_MIN * self.heartbeat_ms
        if self.election_timeout_ms < least:
            raise ConfigError(
                f"raft.election_timeout_ms is {self.election_timeout_ms}; it must be at least "
                f"{_ELECTION_PER_HEARTBEAT_MIN} times raft.heartbeat_ms, so {least} or more: a few lost "
                f"heartbeats must not elect"
            )

    @property
    def heartbeat_ticks(self) -> int:
        """`heartbeat_ms` in ticks of the core."""
        return self.heartbeat_ms // TICK_MS

    @property
    def election_ticks(self) -> int:
        """`election_timeout_ms` in ticks of the core."""
        return self.election_timeout_ms // TICK_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """[storage]: memory that RocksDB may use. Durability is no setting: it is always on."""

    state_write_buffer_bytes: int = limit(64 * MIB, MIB, 4 * GIB)
    """Changes to the keyspace held in memory before they go to a file. Larger means fewer, larger files
    and a longer replay after a crash."""

    block_cache_bytes: int = limit(36 * MIB, MIB, 1024 * GIB)
    """Keyspace blocks kept in memory for reads. The one to raise on a machine with memory to spare. Besides
    them, indexes and filters take about 2.5 bytes of memory for each key on disk."""

    def __post_init__(self) -> None:
        check_ranges("storage", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """[server]: the processes of this node."""

    workers: int = limit(0, 0, 64)
    """Processes that serve the clients, so that the node's own has nothing to do with their sockets. 0: it
    serves them itself. Worth it where cores are idle and clients do not pipeline; leave one core for each
    worker, one for the node and one for its disk. Each takes about 35 MB. Linux only."""

    def __post_init__(self) -> None:
        check_ranges("server", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything one node is told at its start. Keys that depend on another section are checked here."""

    node: NodeConfig
    client: ClientConfig
    peer: PeerConfig
    http: HttpConfig
    cluster: ClusterConfig
    raft: RaftConfig = field(default_factory=RaftConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    server: ServerConfig = field(default_factory=ServerConfig)

    def __post_init__(self) -> None:
        listeners = {"client.listen": self.client.listen, "peer.listen": self.peer.listen}
        listeners["http.listen"] = self.http.listen
        check_distinct(", ".join(listeners), "address", listeners.values())
        member_ids = [member.id for member in self.cluster.members]
        if member_ids and not self.node.id:
            raise ConfigError("node.id is missing; it says which of cluster.members this node is")
        if member_ids and self.node.id not in member_ids:
            raise ConfigError(
                f"node.id is {self.node.id}, but cluster.members lists only "
                f"{', '.join(map(str, sorted(member_ids)))}; add this node to the list, or correct node.id"
            )
        largest_batch = self.client.query_buffer_bytes_max + self.raft.batch_bytes_max
        if self.peer.message_bytes_max < largest_batch + MIB:
            raise ConfigError(
                f"peer.message_bytes_max is {self.peer.message_bytes_max}; it must be at least "
                f"{largest_batch + MIB}: client.query_buffer_bytes_max plus raft.batch_bytes_max plus 1 MiB, "
                f"or the largest command could not be replicated"
            )

    def exposed_listeners(self) -> list[str]:
        """The listening keys that other machines can reach, as `key = address`; empty on loopback."""
        listeners = (("client", self.client.listen), ("peer", self.peer.listen), ("http", self.http.listen))
        return [
            f"{name}.listen = {text}"
            for name, text in listeners
            if text != NO_ADDRESS and not is_loopback(parse_address(text)[0])
        ]


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "node": NodeConfig,
    "client": ClientConfig,
    "peer": PeerConfig,
    "http": HttpConfig,
    "cluster": ClusterConfig,
    "raft": RaftConfig,
    "storage": StorageConfig,
    "server": ServerConfig,
}
"""Every section with the class that holds it, in the order of the file."""
