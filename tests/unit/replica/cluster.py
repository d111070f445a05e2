"""A cluster of whole replicas in one thread: real core, real machine, a network and disks that obey the test.

Time stands still unless `advance` moves it; messages arrive in the order sent unless the test takes
them out of `wire`; a log write completes at once unless the node's disk is held.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from respraft.commands.machine import KeyspaceMachine
from respraft.commands.table import lookup
from respraft.config import (
    TICK_MS,
    ClientConfig,
    ClusterConfig,
    Config,
    HttpConfig,
    MemberConfig,
    NodeConfig,
    PeerConfig,
    RaftConfig,
)
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.message import NOBODY, InstallSnapshot, NodeId, SnapshotPoint
from respraft.raft.node import RaftNode
from respraft.raft.ready import LogWrite, Role
from respraft.replica.applier import META_CONFIGURATION, load_applied
from respraft.replica.batch import Answer, Refusal
from respraft.replica.changes import Action
from respraft.replica.formation import PeerIdentity
from respraft.replica.gathering import HOLD_MS
from respraft.replica.machine import Command
from respraft.replica.payload import size_of
from respraft.replica.replica import Replica
from respraft.replica.status import Identity, ReplicaMessage
from respraft.storage.log_memory import MemoryDisk, MemoryLog, open_memory_log
from respraft.storage.state_memory import MemoryStateStore

WALL_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Sent:
    """One message on its way."""

    to: NodeId
    sender: NodeId
    incarnation: int
    message: ReplicaMessage


@dataclass
class Node:
    """One node: what survives a crash, and the replica of its present life."""

    id: NodeId
    disk: MemoryDisk
    incarnation: int
    lives: int = 0
    up: bool = True
    disk_held: bool = False
    holding: bool = False
    wall_offset_ms: int = 0
    flush_held: bool = False
    write: LogWrite | None = None
    flush: Callable[[], None] | None = None
    wants: list[NodeId] = field(default_factory=list)  # Peers that it is to send a snapshot to.
    states: dict[int, MemoryStateStore] = field(default_factory=dict)
    targets: dict[NodeId, str] | None = None
    links: set[NodeId] = field(default_factory=set)  # Brought up by `Cluster.link`.
    answers: dict[object, list[Answer]] = field(default_factory=dict)
    log: MemoryLog = field(init=False)
    replica: Replica = field(init=False)
    core: RaftNode = field(init=False)
    machine: KeyspaceMachine = field(init=False)

    @property
    def state(self) -> MemoryStateStore:
        """The state that the log names."""
        return self.states[self.log.state_number()]

    def replies(self, client: object) -> list[object]:
        """Everything that `client` was answered so far; a refusal once per command."""
        out: list[object] = []
        for answer in self.answers.get(client, []):
            out += answer.replies if answer.refusal is None else [answer.refusal] * answer.count
        return out


class Cluster:
    """Nodes 1..n, formed and led unless told otherwise."""

    def __init__(
        self, size: int = 3, *, seed: int = 1, form: bool = True, raft: RaftConfig | None = None
    ) -> None:
        self.raft = raft or RaftConfig()
        self.now_ms = 1000.0
        self.wire: deque[Sent] = deque()
        self.lost: list[Sent] = []
        self.lose: Callable[[Sent], bool] = lambda sent: False
        self.newcomers: set[NodeId] = set()  # Started without a list of members.
        self._seed = seed
        self.members = tuple(
            MemberConfig(id=i, peer=f"127.0.0.1:{7100 + i}", client=f"127.0.0.1:{7000 + i}")
            for i in range(1, size + 1)
        )
        self.nodes = {member.id: self._new_node(member.id, 100 + member.id) for member in self.members}
        for node in self.nodes.values():
            self.boot(node)
        if form:
            self.form()

    # -- Life and death ------------------------------------------------------------------------------

    def form(self) -> None:
        """Connect everybody, and wait for a leader and for everybody's session."""
        self.connect()
        self.until(
            lambda: self.leader_id() != NOBODY and all(n.replica.status().session for n in self.live())
        )

    def connect(self) -> None:
        """Bring all links up."""
        for node in self.live():
            for peer in self.live():
                if peer is not node:
                    node.replica.link_up(PeerIdentity(peer.id, peer.incarnation, peer.core.last_index == 0))
        self.settle()

    def boot(self, node: Node) -> None:
        """Start a life of `node` from its log and its state."""
        node.lives += 1
        node.up = True
        node.write = node.flush = None
        node.wants = []
        node.answers = {}
        config = self.config(node.id)
        node.log = open_memory_log(node.disk, node.id, "test", incarnation=node.incarnation)
        number = node.log.state_number()
        node.states = {number: node.states[number]}
        node.machine = KeyspaceMachine(node.state, lookup=lookup)
        applied_index = load_applied(node.machine)[0]
        configuration = node.machine.meta(META_CONFIGURATION)
        hard_state = node.log.hard_state()
        node.core = RaftNode(
            node_id=node.id,
            config=config.raft,
            log=RaftLog(
                node.log,
                applied_index=applied_index,
                commit_index=hard_state.commit,
                cache_bytes_max=config.raft.entry_cache_bytes,
                size_of=size_of,
            ),
            hard_state=hard_state,
            configuration=Configuration.decode(configuration) if configuration else None,
            clock=LogClock(),
            rng=random.Random(self._seed * 1000 + node.id * 10 + node.lives),
        )
        node.replica = Replica(
            identity=Identity(node.id, node.incarnation, node.lives, node.id * 1000 + node.lives),
            config=config,
            core=node.core,
            machine=node.machine,
        )
        self.observe(node)

    def newcomer(self, node_id: NodeId) -> Node:
        """Start a node that has an id and knows no cluster, linked with everybody who welcomes it."""
        self.nodes[node_id] = node = self._new_node(node_id, 100 + node_id)
        self.newcomers.add(node_id)
        self.boot(node)
        return node

    def link(self) -> None:
        """Bring up the links that both sides want, as the network would."""
        for node in self.live():
            for peer in self.live():
                if peer is node or node.targets is None or peer.id not in node.targets:
                    continue
                ours = node.replica.check_peer(self.identity(peer))
                theirs = peer.replica.check_peer(self.identity(node))
                if ours is None and theirs is None and peer.id not in node.links:
                    node.links.add(peer.id)
                    node.replica.link_up(self.identity(peer))
                elif theirs is not None:
                    node.links.discard(peer.id)
                    node.replica.refused(peer.id, theirs.text, removed=theirs.removed)
        self.settle()

    def identity(self, node: Node) -> PeerIdentity:
        """What a node's handshake says."""
        origin = node.replica.membership.origin
        address, configured_at = node.replica.membership.own_address
        empty = node.core.last_index == 0
        return PeerIdentity(node.id, node.incarnation, empty, origin, address, configured_at)

    def change(self, node_id: NodeId, action: Action, *, timeout_ms: float = 5000) -> object:
        """Ask a node for a change; return the client who waits for its end."""
        client = object()
        refusal = self.nodes[node_id].replica.membership.ask(client, action, self.now_ms, timeout_ms)
        if refusal is not None:
            self.nodes[node_id].answers[client] = [Answer(client, 1, (), refusal)]
        self.settle()
        self.link()
        return client

    def crash(self, node_id: NodeId) -> None:
        """End a node's life: what was not synced is gone, and so is what was on its way to it."""
        node = self.nodes[node_id]
        node.up = False
        node.disk.crash()
        for state in node.states.values():
            state.crash()
        self.wire = deque(sent for sent in self.wire if node_id not in (sent.to, sent.sender))
        for peer in self.live():
            peer.replica.link_down(node_id)

    def restart(self, node_id: NodeId) -> None:
        """Begin the next life, with links."""
        node = self.nodes[node_id]
        self.boot(node)
        for peer in self.live():
            if peer is not node:
                peer.replica.link_up(PeerIdentity(node.id, node.incarnation, node.core.last_index == 0))
                node.replica.link_up(PeerIdentity(peer.id, peer.incarnation, peer.core.last_index == 0))
        self.settle()

    # -- Clients -------------------------------------------------------------------------------------

    def submit(
        self, node_id: NodeId, client: object, commands: Sequence[str], *, database: int = 0
    ) -> Refusal | None:
        """Give a client's group to a node as `server/` would: reads keep their places among writes."""
        writes: list[Command] = []
        reads: list[tuple[int, Command]] = []
        for line in commands:
            command = line.encode().split()
            if command[0] in (b"GET", b"EXISTS", b"PTTL", b"DBSIZE"):
                reads.append((len(writes), command))
            else:
                writes.append(command)
        replica = self.nodes[node_id].replica
        if writes:
            return replica.submit(client, writes, reads, database, 100)
        return replica.submit_reads(client, [command for _, command in reads], database, 100)

    def ask(self, node_id: NodeId, *commands: str) -> list[object]:
        """Submit, settle, and return the replies."""
        client = object()
        refusal = self.submit(node_id, client, commands)
        if refusal is not None:
            return [refusal]
        self.settle()
        return self.nodes[node_id].replies(client)

    # -- Time and messages ---------------------------------------------------------------------------

    def observe(self, node: Node) -> None:
        """Show the clocks to a node."""
        node.replica.observe(self.now_ms, WALL_MS + int(self.now_ms) + node.wall_offset_ms)

    def turn(self, node: Node) -> bool:
        """Take one turn of one node; return whether anything came of it."""
        self.observe(node)
        output = node.replica.take_output()
        for to, message in output.messages:
            self._send(node, to, message)
        if output.write is not None:
            node.write = output.write
        outcome = node.replica.finish_turn()
        node.holding = outcome.holding
        if outcome.peers is not None:
            node.targets = outcome.peers
            node.links &= set(outcome.peers)
        if outcome.flush is not None:
            assert node.flush is None, "one flush at a time"
            node.flush = outcome.flush
        node.wants += outcome.snapshots
        if not node.flush_held:
            self.finish_flush(node)
        for answer in outcome.answers:
            node.answers.setdefault(answer.client, []).append(answer)
        wrote = self.finish_write(node) if not node.disk_held else False
        moved = output.messages or output.write or outcome.answers or outcome.again or wrote
        return bool(moved or outcome.holding)

    def finish_write(self, node: Node) -> bool:
        """Let the write in flight become durable."""
        write = node.write
        if write is None:
            return False
        node.write = None
        if (install := write.snapshot) is not None:
            node.log.install(write.hard_state, install.point, install.state_number, keep_tail=False)
        else:
            node.log.append(write.hard_state, write.entries, first_index=write.first_index)
        for to, message in node.replica.persisted(write.number):
            self._send(node, to, message)
        return True

    def finish_flush(self, node: Node) -> None:
        """Let the flush that is under way, if any, come to its end."""
        flush, node.flush = node.flush, None
        if flush is not None:
            flush()
            node.replica.snapshots.flushed()

    def compact(self, node: Node) -> None:
        """Flush a node's state and cut its log."""
        node.replica.snapshots.want_flush()
        self.settle()

    def take_snapshot(self, node: Node, to: NodeId) -> bytes:
        """A picture of a node's state, taken as it begins to be sent to `to`."""
        node.replica.snapshots.begun(to, node.replica.status().applied_index)
        node.machine.begin_flush()()
        path = Path(f"{to}/{len(node.state.checkpoints)}")
        node.state.checkpoint(path)
        return node.state.checkpoints[path]

    def install(self, node: Node, picture: bytes) -> bool:
        """Such a picture has arrived whole; return whether it is of use."""
        store = MemoryStateStore.loaded(picture)
        machine = KeyspaceMachine(store, lookup=lookup)
        configuration = machine.meta(META_CONFIGURATION)
        assert configuration is not None
        number = max(node.states) + 1
        node.states[number] = store
        self.observe(node)
        point = SnapshotPoint(*load_applied(machine))
        term = max(each.core.term for each in self.live())
        return node.replica.install_snapshot(InstallSnapshot(term, point, configuration, number, store))

    def catch_up(self) -> None:
        """Send every snapshot that is wanted, and settle."""
        for node in self.live():
            while node.wants:
                to = node.wants.pop()
                self.install(self.nodes[to], self.take_snapshot(node, to))
                self.settle()
                node.replica.snapshots.ended(to)
        self.settle()

    def settle(self, passes: int = 1000) -> None:
        """Deliver and take turns until nothing moves any more. Time passes only where commands are held."""
        for _ in range(passes):
            moved = False
            if not self.wire and any(node.holding for node in self.live()):
                self.now_ms += HOLD_MS
            while self.wire:
                moved = True
                self.deliver(self.wire.popleft())
            for node in self.live():
                moved |= self.turn(node)
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def deliver(self, sent: Sent) -> None:
        """Hand one message over, if its receiver lives."""
        node = self.nodes[sent.to]
        if node.up:
            self.observe(node)
            node.replica.receive(sent.sender, sent.incarnation, sent.message)

    def advance(self, ms: float) -> None:
        """Let time pass on all nodes, tick by tick, settling after each."""
        for _ in range(int(ms / TICK_MS)):
            self.now_ms += TICK_MS
            for node in self.live():
                self.observe(node)
                node.replica.tick()
            self.settle()

    def until(self, condition: Callable[[], bool], ms: float = 10_000) -> None:
        """Advance until `condition` holds."""
        for _ in range(int(ms / TICK_MS)):
            if condition():
                return
            self.advance(TICK_MS)
        raise AssertionError("it did not come about in time")

    # -- Looking -------------------------------------------------------------------------------------

    def live(self) -> list[Node]:
        """The nodes that are up, by id."""
        return [node for _, node in sorted(self.nodes.items()) if node.up]

    def leader_id(self) -> NodeId:
        """The leader that every live node agrees on, or 0."""
        leaders = {node.core.leader for node in self.live()}
        if len(leaders) != 1:
            return NOBODY
        (leader,) = leaders
        node = self.nodes.get(leader)
        return leader if node is not None and node.up and node.core.role is Role.LEADER else NOBODY

    def leader(self) -> Node:
        """The agreed leader."""
        leader = self.leader_id()
        assert leader != NOBODY, "there is a leader"
        return self.nodes[leader]

    def followers(self) -> list[Node]:
        """The live nodes that do not lead."""
        return [node for node in self.live() if node.id != self.leader_id()]

    def config(self, node_id: NodeId) -> Config:
        """A node's configuration: defaults, and the members."""
        return Config(
            node=NodeConfig(id=node_id, data_dir=Path("unused")),
            client=ClientConfig(listen=f"127.0.0.1:{7000 + node_id}"),
            peer=PeerConfig(listen=f"127.0.0.1:{7100 + node_id}"),
            http=HttpConfig(listen=f"127.0.0.1:{7200 + node_id}"),
            cluster=ClusterConfig(id="test", members=() if node_id in self.newcomers else self.members),
            raft=self.raft,
        )

    def _new_node(self, node_id: NodeId, incarnation: int) -> Node:
        return Node(node_id, MemoryDisk(), incarnation, states={1: MemoryStateStore()})

    def _send(self, node: Node, to: NodeId, message: ReplicaMessage) -> None:
        sent = Sent(to, node.id, node.incarnation, message)
        if self.lose(sent):
            self.lost.append(sent)
        else:
            self.wire.append(sent)
