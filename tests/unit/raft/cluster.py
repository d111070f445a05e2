"""A cluster of Raft cores in memory: the harness of the core's tests and scripts.

`Cluster` is a network that keeps every message until somebody delivers it, and one `Host` per node. A host
is the smallest driver there is: it carries out what a `Ready` asks for, and holds each log write until
somebody completes it. A crash loses everything that no completed write holds. Time passes by calls only.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from respraft.config import RaftConfig
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration, Member
from respraft.raft.log import RaftLog
from respraft.raft.message import (
    KIND_CONFIGURATION,
    KIND_NORMAL,
    Entry,
    Index,
    InstallSnapshot,
    Message,
    NodeId,
    ReadIndexResponse,
    SnapshotPoint,
    Term,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.node import RaftNode
from respraft.raft.ready import HardState, LogWrite, Ready, Role

TICK_MS = 10
WALL_START_MS = 1_700_000_000_000


def configuration_of(voters: Iterable[NodeId], learners: Iterable[NodeId] = ()) -> Configuration:
    """A configuration of nodes whose addresses don't matter."""
    roles = {**dict.fromkeys(voters, True), **dict.fromkeys(learners, False)}
    return Configuration(tuple(Member(each, "", "", each, roles[each]) for each in sorted(roles)))


def first_entry(configuration: Configuration) -> Entry:
    """What `bootstrap` writes."""
    return Entry(1, 1, 0, KIND_CONFIGURATION, configuration.encode())


def entries_of(terms: Sequence[Term], *, first: Index = 1) -> list[Entry]:
    """Entries with these terms, each with a payload that names its place and term."""
    return [
        Entry(index, term, 0, KIND_NORMAL, b"%d/%d" % (index, term))
        for index, term in enumerate(terms, first)
    ]


class Disk:
    """A durable log and hard state in memory, with what a state holds besides. Implements `LogReader`."""

    def __init__(self, entries: Iterable[Entry] = (), hard_state: HardState | None = None) -> None:
        self.log = list(entries)  # From behind the base on.
        self.hard_state = hard_state or HardState()
        self.flushed_index: Index = 0  # A machine keeps this much over a crash.
        self._base = SnapshotPoint()
        self._base_configuration: Configuration | None = None

    def write(self, write: LogWrite) -> None:
        """Make one write durable, as a whole."""
        assert write.hard_state.term >= self.hard_state.term
        if write.snapshot is not None:
            assert not write.entries and not write.first_index
            self._base = write.snapshot.point
            self._base_configuration = Configuration.decode(write.snapshot.configuration)
            self.flushed_index = self._base.index
            self.log.clear()
        if write.first_index:
            self._cut(write.first_index)
        if write.entries:
            place = write.entries[0].index - self.first_index()
            assert 0 <= place <= len(self.log), "a gap in the durable log"
            self.log[place:] = write.entries
        self.hard_state = write.hard_state

    def _cut(self, first_index: Index) -> None:
        assert first_index > self.first_index(), "a cut that cuts nothing"
        assert first_index <= self.flushed_index + 1, "entries were cut off that no state holds"
        self._base_configuration = self.configuration_at(first_index - 1)
        last = self.log[first_index - 1 - self.first_index()]
        del self.log[: first_index - self.first_index()]
        self._base = SnapshotPoint(last.index, last.term, last.time_ms)

    def configuration_at(self, index: Index) -> Configuration | None:
        """The newest configuration up to `index`."""
        configuration = self._base_configuration
        for entry in self.log[: index - self._base.index]:
            if entry.kind == KIND_CONFIGURATION:
                configuration = Configuration.decode(entry.payload)
        return configuration

    def has(self, entry: Entry) -> bool:
        """Whether the very entry is there, or in the state: only what is committed gets into one."""
        place = entry.index - self.first_index()
        return place < 0 or self.log[place : place + 1] == [entry]

    def base(self) -> SnapshotPoint:
        return self._base

    def first_index(self) -> Index:
        return self._base.index + 1

    def last_index(self) -> Index:
        return self._base.index + len(self.log)

    def term(self, index: Index) -> Term:
        return self.log[index - self.first_index()].term

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        assert self.first_index() <= low < high <= self.last_index() + 1, f"{low} to {high} is not all there"
        low, high = low - self._base.index, high - self._base.index
        taken = self.log[low - 1 : low]
        for entry in self.log[low : high - 1]:
            bytes_max -= len(entry.payload)
            if bytes_max < len(taken[0].payload):
                break
            taken.append(entry)
        return taken


@dataclass
class Envelope:
    """A message on its way."""

    sender: NodeId
    to: NodeId
    message: Message


class Host:
    """One node with its disk; the smallest driver that keeps the contract of `ready.py`."""

    def __init__(self, cluster: "Cluster", node_id: NodeId, disk: Disk, *, wall_skew_ms: int = 0) -> None:
        self.cluster = cluster
        self.id = node_id
        self.disk = disk
        self.up = False
        self.starts = 0
        self.write: LogWrite | None = None  # On its way to the disk.
        self.wall_skew_ms = wall_skew_ms
        self.applied: list[Entry] = []  # By this process, since its start.
        self.snapshots: list[NodeId] = []  # Peers that the node wants to be sent a state.
        self.reads: dict[object, Index] = {}
        self.reads_refused: list[object] = []
        self.node: RaftNode
        self.start()

    def start(self) -> None:
        """Build the node from what is durable, as after a crash."""
        assert not self.up, "it runs already"
        self.up = True
        self.starts += 1
        log = RaftLog(
            self.disk,
            applied_index=self.disk.flushed_index,
            commit_index=self.disk.hard_state.commit,
            cache_bytes_max=self.cluster.config.entry_cache_bytes,
        )
        self.node = RaftNode(
            node_id=self.id,
            config=self.cluster.config,
            log=log,
            hard_state=self.disk.hard_state,
            configuration=self.disk.configuration_at(self.disk.flushed_index),
            clock=LogClock(),
            rng=random.Random(f"{self.cluster.seed}/{self.id}/{self.starts}"),
        )
        self.applied = []
        self.snapshots = []

    def crash(self, *, write_survives: bool = False) -> None:
        """Stop at once. A write that was under way is lost, or done though nobody was told."""
        if write_survives and self.write is not None:
            self.disk.write(self.write)
        self.up = False
        self.write = None

    def observe(self) -> None:
        """A turn begins."""
        monotonic_ms = float(self.cluster.time_ms)
        self.node.clock.observe(monotonic_ms, WALL_START_MS + self.cluster.time_ms + self.wall_skew_ms)

    def turn(self) -> Ready:
        """End the turn: carry out what the node asks for."""
        while True:
            ready = self.node.take_ready(write_allowed=True)
            self.node.check_invariants()
            self.cluster.on_ready(self, ready)
            for to, message in ready.messages:
                self.cluster.send(self.id, to, message)
            if ready.write is not None:
                assert self.write is None, "two writes at a time"
                self.write = ready.write
            self.snapshots += ready.snapshots
            if ready.committed:
                self.applied += ready.committed
                self.node.applied(ready.committed[-1].index)
            self.reads.update(ready.reads)
            self.reads_refused += ready.reads_refused
            if not ready.more:
                return ready

    def persist(self) -> None:
        """Complete the write that is under way."""
        assert self.write is not None, f"n{self.id} writes nothing"
        write, self.write = self.write, None
        self.disk.write(write)
        self.observe()
        self.node.persisted(write.number)
        for to, message in write.messages:
            if message.term == self.node.term:
                self.cluster.send(self.id, to, message)
        self.turn()

    def receive(self, message: Message) -> None:
        """Take a message in a turn of its own."""
        self.observe()
        if isinstance(message, ReadIndexResponse):
            self.reads[message.token] = message.index
        self.node.step(message)
        self.turn()

    def tick(self, count: int = 1) -> None:
        """Let ticks pass, each in a turn of its own. Time itself passes with the cluster's."""
        for _ in range(count):
            self.observe()
            self.node.tick()
            self.turn()

    def flush(self, index: Index) -> None:
        """The machine's state is durable up to `index` from now on."""
        assert self.disk.flushed_index <= index <= self.node.log.applied_index
        self.disk.flushed_index = index

    def compact(self, index: Index) -> None:
        """Flush, and cut the log off up to `index`, in a turn of its own."""
        self.flush(self.node.log.applied_index)
        self.observe()
        self.node.compact_to(index)
        self.turn()

    def snapshot(self) -> InstallSnapshot:
        """A copy of this node's state as of its last applied entry, as a transfer would bring it."""
        log = self.node.log
        index = log.applied_index
        at = self.disk.base()
        if index > at.index:
            entry = self.disk.entries(index, index + 1, 0)[0]
            at = SnapshotPoint(entry.index, entry.term, entry.time_ms)
        configuration = self.disk.configuration_at(index)
        assert configuration is not None
        return InstallSnapshot(self.node.term, at, configuration.encode(), 0, None)

    def install(self, snapshot: InstallSnapshot) -> None:
        """A whole state has arrived; in a turn of its own."""
        self.observe()
        self.node.install_snapshot(snapshot)
        self.turn()

    def snapshot_ended(self, peer: NodeId) -> None:
        """The transfer to a peer has ended; in a turn of its own."""
        self.snapshots.remove(peer)
        self.observe()
        self.node.snapshot_ended(peer)
        self.turn()

    def propose(self, *payloads: bytes) -> None:
        """Propose in one turn."""
        self.observe()
        for payload in payloads:
            self.node.propose(payload)
        self.turn()


class Cluster:
    """Hosts and the messages between them. Nothing moves unless it is told to."""

    def __init__(
        self,
        nodes: int | Iterable[NodeId] = 3,
        *,
        learners: Iterable[NodeId] = (),
        config: RaftConfig | None = None,
        seed: object = 0,
        terms: Sequence[Term] = (1,),
    ) -> None:
        """Form a cluster whose nodes all hold the same durable log, begun by its configuration.

        Args:
            nodes: The voters, or how many there are, from 1 on.
            learners: Members without a vote.
            config: Timing and limits.
            seed: Decides what the nodes draw.
            terms: Of the log's entries; the first is the configuration's.
        """
        voters = range(1, nodes + 1) if isinstance(nodes, int) else list(nodes)
        self.config = config or RaftConfig()
        self.seed = seed
        self.time_ms = 0
        self.mail: list[Envelope] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()  # Links (from, to) that lose everything.
        self.watch: Callable[[Host, Ready], None] | None = None
        self.watch_mail: Callable[[Envelope], None] | None = None
        self.configuration = configuration_of(voters, learners)
        self.hosts: dict[NodeId, Host] = {}
        for node_id in [*voters, *learners]:
            self.hosts[node_id] = Host(self, node_id, self.disk_with(terms))

    def __getitem__(self, node_id: NodeId) -> Host:
        return self.hosts[node_id]

    def disk_with(self, terms: Sequence[Term], *, term: Term = 0, vote: NodeId = 0) -> Disk:
        """A disk whose log has these terms; the hard state's term is at least the last one."""
        log = [first_entry(self.configuration), *entries_of(terms[1:], first=2)] if terms else []
        term = max(term, terms[-1] if terms else 0)
        return Disk(log, HardState(term, vote, 1 if terms else 0))

    def replace(self, node_id: NodeId, disk: Disk) -> Host:
        """Start a node anew with another disk."""
        self.hosts[node_id] = Host(self, node_id, disk)
        return self.hosts[node_id]

    def spawn(self, node_id: NodeId) -> Host:
        """Start a node that knows nothing yet, for a later change of the membership to add."""
        assert node_id not in self.hosts, "it is there already"
        return self.replace(node_id, Disk())

    def on_ready(self, host: Host, ready: Ready) -> None:
        """A host is about to carry out a `Ready`."""
        if self.watch is not None:
            self.watch(host, ready)

    def send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        """Keep a message until it is delivered."""
        if (sender, to) not in self.cut and to in self.hosts:
            envelope = Envelope(sender, to, message)
            self.mail.append(envelope)
            if self.watch_mail is not None:
                self.watch_mail(envelope)

    def isolate(self, node_id: NodeId) -> None:
        """Lose everything to and from a node, also what is under way."""
        for other in self.hosts:
            self.cut |= {(node_id, other), (other, node_id)}
        self.mail = [each for each in self.mail if node_id not in (each.sender, each.to)]

    def heal(self) -> None:
        """Lose nothing any more."""
        self.cut.clear()

    def deliver(self, envelope: Envelope) -> None:
        """Hand over one message; a node that is down misses it."""
        host = self.hosts[envelope.to]
        if host.up:
            host.receive(envelope.message)

    def take(self, kind: type[Message], *, to: NodeId = 0, sender: NodeId = 0) -> list[Envelope]:
        """Take messages of a kind out of the network, in order."""
        taken = [
            each
            for each in self.mail
            if isinstance(each.message, kind) and to in (0, each.to) and sender in (0, each.sender)
        ]
        self.mail = [each for each in self.mail if not any(each is other for other in taken)]
        return taken

    def step(self) -> bool:
        """Deliver the oldest message, or complete the first write. Returns whether there was any."""
        if self.mail:
            self.deliver(self.mail.pop(0))
            return True
        for node_id in sorted(self.hosts):
            if self.hosts[node_id].write is not None:
                self.hosts[node_id].persist()
                return True
        return False

    def settle(self) -> None:
        """Deliver and complete until nothing is left. No time passes."""
        for _ in range(10_000):
            if not self.step():
                return
        raise AssertionError("the cluster never comes to rest")

    def pass_ticks(self, count: int = 1, *, settle: bool = True) -> None:
        """Let time pass on every node that is up."""
        for _ in range(count):
            self.time_ms += TICK_MS
            for node_id in sorted(self.hosts):
                if self.hosts[node_id].up:
                    self.hosts[node_id].tick()
            if settle:
                self.settle()

    def elect(self, node_id: NodeId) -> Host:
        """Make a node leader, with everything settled."""
        host = self.hosts[node_id]
        host.observe()
        host.node.campaign()
        host.turn()
        self.settle()
        assert host.node.role is Role.LEADER, f"n{node_id} was not elected: {host.node.status()}"
        return host

    def elect_by(self, node_id: NodeId, voters: Iterable[NodeId]) -> Host:
        """Make a node leader by the votes of these others; nothing else reaches anybody."""
        host = self.hosts[node_id]
        host.observe()
        host.node.campaign(transfer=True)
        host.turn()
        host.persist()
        for voter in voters:
            for envelope in self.take(VoteRequest, to=voter):
                self.deliver(envelope)
            self.hosts[voter].persist()
        for envelope in self.take(VoteResponse, to=node_id):
            self.deliver(envelope)
        self.take(VoteRequest)
        assert host.node.role is Role.LEADER, f"n{node_id} was not elected: {host.node.status()}"
        return host

    def leader(self) -> Host | None:
        """The leader of the newest term, if there is one."""
        leaders = [host for host in self.hosts.values() if host.up and host.node.role is Role.LEADER]
        return max(leaders, key=lambda host: host.node.term, default=None)
