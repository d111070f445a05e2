"""A connection and a node that only exist in memory, for the tests of LOCAL commands."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from respraft.commands.table import KEYSPACE, CommandTable
from respraft.config import ClientConfig, ClusterConfig, Config, HttpConfig, NodeConfig, PeerConfig
from respraft.raft.ready import Role
from respraft.replica.admin import ChangeDone
from respraft.replica.changes import Action
from respraft.resp.replies import OK, RESP2, Reply, encode
from respraft.server.local import execute
from respraft.server.local.view import (
    ClientView,
    Counters,
    DatabaseSize,
    Deferred,
    MemberStatus,
    NodeState,
    NodeStatus,
    NoReply,
    SnapshotStatus,
)

CONFIG = Config(
    node=NodeConfig(id=1, data_dir=Path("/data/node-1")),
    client=ClientConfig(listen="127.0.0.1:7001", max_clients=500, idle_timeout_s=60),
    peer=PeerConfig(listen="127.0.0.1:7101"),
    http=HttpConfig(listen="127.0.0.1:7201"),
    cluster=ClusterConfig(id="demo"),
)


def member(node_id: int) -> MemberStatus:
    return MemberStatus(
        id=node_id,
        peer=f"127.0.0.1:710{node_id}",
        client=f"127.0.0.1:700{node_id}",
        voter=True,
        becoming="",
        match_index=40 + node_id,
        connected=True,
        conn_oks=2,
        conn_errors=1,
        last_conn_secs=5,
    )


STATUS = NodeStatus(
    node_id=1,
    replaces=0,
    cluster_id="demo",
    state=NodeState.UP,
    membership="settled",
    next_node_id=4,
    role=Role.LEADER,
    term=3,
    leader_id=1,
    leader_addr="127.0.0.1:7001",
    voted_for=1,
    first_index=1,
    last_index=42,
    last_term=3,
    commit_index=41,
    applied_index=40,
    members=(member(1), member(2), replace(member(3), connected=False, last_conn_secs=None)),
    fsync_count=30,
    fsync_max_us=900,
    fsync_avg_us=300,
    log_file_bytes=12345,
    snapshot_index=35,
    snapshot_term=2,
    snapshots_created=4,
    snapshots_received=1,
    proxy_reqs=7,
    proxy_outstanding_reqs=2,
)


@dataclass(eq=False)
class FakeClient:
    id: int
    address: str = "127.0.0.1:50001"
    local_address: str = "127.0.0.1:7001"
    created_ms: float = 0.0
    last_active_ms: float = 0.0
    last_command: bytes = b""
    commands_total: int = 0
    query_bytes: int = 0
    output_bytes: int = 0
    name: bytes = b""
    protocol: int = RESP2
    database: int = 0
    lib_name: bytes = b""
    lib_version: bytes = b""
    stale_reads: bool = False
    no_evict: bool = False
    no_touch: bool = False
    reply_mode: str = "on"
    closes: bool = False

    def close_after_reply(self) -> None:
        self.closes = True


@dataclass
class FakeCluster:
    """Notes what it is asked for, and says that it is done."""

    asked: list[tuple[object, ...]] = field(default_factory=list)
    done: ChangeDone = field(default_factory=lambda: ChangeDone(4, "", ""))

    def found(self, cluster_id: str) -> Reply:
        self.asked.append(("found", cluster_id))
        return OK

    def join(self, addresses: list[str], node_id: int, *, voter: bool) -> Deferred:
        return self._note("join", addresses, node_id, voter)

    def invite(self, address: str, node_id: int, *, voter: bool) -> Deferred:
        return self._note("invite", address, node_id, voter)

    def change(self, action: Action, then: Callable[[ChangeDone], Reply]) -> Deferred:
        reply = Deferred()
        self.asked.append(("change", action))
        reply.resolve(then(self.done))
        return reply

    def _note(self, *asked: object) -> Deferred:
        self.asked.append(asked)
        return Deferred()


@dataclass
class FakeServer:
    """One node with the clients 1, 2 and 3. Commands come from client 1 unless a test says otherwise."""

    table: CommandTable = KEYSPACE
    node_config: Config = CONFIG
    run_id: str = "0123456789" * 4
    uptime_s: float = 100_000.5
    now_ms: float = 90_500.0
    status: NodeStatus = STATUS
    connections: list[FakeClient] = field(
        default_factory=lambda: [
            FakeClient(id=number, address=f"127.0.0.1:5000{number}") for number in (1, 2, 3)
        ]
    )
    killed: list[int] = field(default_factory=list)
    handed_to: list[int] = field(default_factory=list)
    flushes: list[Deferred] = field(default_factory=list)
    cluster: FakeCluster = field(default_factory=FakeCluster)

    def wall_ms(self) -> int:
        return 1_700_000_000_123

    def clients(self) -> Iterable[ClientView]:
        return list(self.connections)

    def kill(self, client: ClientView) -> None:
        self.killed.append(client.id)

    def raft_status(self) -> NodeStatus:
        return self.status

    def snapshot_now(self) -> Deferred:
        self.flushes.append(Deferred())
        return self.flushes[-1]

    def snapshots(self) -> Iterable[SnapshotStatus]:
        return [
            SnapshotStatus(
                number=2, index=35, term=2, time_ms=1_700_000_000_000, size_bytes=54321, sent_to=(3,)
            )
        ]

    def transfer_leadership(self, to: int) -> Reply | Deferred:
        self.handed_to.append(to)
        return OK

    def database_sizes(self) -> Mapping[int, DatabaseSize]:
        return {3: DatabaseSize(keys=1, expires=0), 0: DatabaseSize(keys=10, expires=2)}

    def counters(self) -> Counters:
        return Counters(commands=99, connections=8, rejected=1, input_bytes=1000, output_bytes=2000)

    @property
    def caller(self) -> FakeClient:
        return self.connections[0]

    def run(self, line: bytes) -> Reply | NoReply | Deferred:
        """Execute the words of a line for client 1."""
        return self.run_words(line.split())

    def run_words(self, words: list[bytes]) -> Reply | NoReply | Deferred:
        return execute(self, self.caller, words)

    def wire(self, line: bytes) -> bytes:
        """Execute, and return the bytes of the reply."""
        reply = self.run(line)
        assert not isinstance(reply, NoReply | Deferred)
        return encode(reply, self.caller.protocol)
