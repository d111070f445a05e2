"""Whole clusters of cores under a seeded scheduler that loses, repeats, delays, reorders and crashes.

Each seed is a run with its own size and its own mix of faults and changes of the membership. Checked
throughout, over everything that any node ever did (Raft paper, figure 3): election safety, log matching,
leader completeness, state-machine safety; besides, that nothing is committed that a majority has not on
disk, and that no read is answered with an index below what was committed when it came. At the end the faults
stop, and the cluster has to agree.

A failure names its seed; `Run(SEED).execute()` repeats it.
"""

import random

import pytest
from msgspec.structs import replace

from respraft.config import RaftConfig
from respraft.raft.configuration import Member
from respraft.raft.membership import ChangeRefused
from respraft.raft.message import (
    Entry,
    Index,
    InstallSnapshot,
    NodeId,
    ReadIndexRequest,
    ReadIndexResponse,
    Term,
)
from respraft.raft.ready import Ready, Role
from tests.unit.raft.cluster import TICK_MS, Cluster, Host

SEEDS = 200
STEPS = 2_000


class Checker:
    """The history of a run: what may never be contradicted."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leaders: dict[Term, NodeId] = {}
        self.known: dict[tuple[Index, Term], tuple[Entry, Term]] = {}  # With the term before it.
        self.committed: list[Entry] = []  # Handed out by anybody.
        self.commit_index: Index = 0  # The highest that anybody knew of.
        self.reads: dict[object, Index] = {}  # Token: commit_index when the read came.
        self.reads_answered = 0

    def on_ready(self, host: Host, ready: Ready) -> None:
        """Check a node that is about to carry out `ready`."""
        node = host.node
        if node.role is Role.LEADER and node.term not in self.leaders:
            self.leader_completeness(host)
        if node.role is Role.LEADER:
            first = self.leaders.setdefault(node.term, node.node_id)
            assert first == node.node_id, f"term {node.term}: n{first} and n{node.node_id} both lead"
        for entry in ready.write.entries if ready.write else ():
            self.log_matching(entry, node.log.term(entry.index - 1))
        for entry in ready.committed:
            self.state_machine_safety(entry)
        for token, index in ready.reads:
            self.read_answered(token, index)
        self.commit_index = max(self.commit_index, node.commit_index)

    def leader_completeness(self, host: Host) -> None:
        """A new leader has everything that was ever committed."""
        if self.committed:
            last = self.committed[-1]
            assert host.node.last_index >= last.index, "a committed entry is missing"
            assert host.node.log.term(last.index) == last.term, "a committed entry was replaced"

    def log_matching(self, entry: Entry, term_before: Term) -> None:
        """Index and term name one entry, and by induction everything before it."""
        known = self.known.setdefault((entry.index, entry.term), (entry, term_before))
        assert known == (entry, term_before), f"two entries {entry.index} of term {entry.term}"

    def state_machine_safety(self, entry: Entry) -> None:
        """Nobody applies another entry at an index; and a majority had it on disk at the first time."""
        if entry.index <= len(self.committed):
            assert self.committed[entry.index - 1] == entry, f"two entries {entry.index} were applied"
            return
        assert entry.index == len(self.committed) + 1
        self.committed.append(entry)
        hosts = self.cluster.hosts.values()
        holders = [host.id for host in hosts if host.disk.has(entry)]
        # Somebody has decided so by the configuration that counts for him, and may have moved on since.
        counting = [known for host in hosts for known in host.node.configurations.known()]
        assert any(known.has_quorum(holders) for known in counting), (
            f"entry {entry.index} is committed on {holders} only"
        )

    def read_answered(self, token: object, index: Index) -> None:
        """A read sees everything that was committed when it came."""
        assert index >= self.reads[token], f"read {token} is stale: {index} < {self.reads[token]}"
        self.reads_answered += 1


class Run:
    """One seed's run."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        nodes = rng.choice([1, 2, 3, 3, 3, 4, 5])
        learners = [nodes + 1] if rng.random() < 0.2 else []
        config = RaftConfig(
            heartbeat_ms=2 * TICK_MS,
            election_timeout_ms=10 * TICK_MS,
            append_bytes_max=rng.choice([1, 20, 1 << 20]),
            inflight_appends_max=rng.choice([1, 3, 128]),
            inflight_bytes_max=rng.choice([1, 30, 1 << 20]),
            entry_cache_bytes=rng.choice([0, 500, 1 << 20]),
        )
        self.cluster = Cluster(nodes, learners=learners, config=config, seed=seed)
        self.checker = Checker(self.cluster)
        self.cluster.watch = self.checker.on_ready
        for host in self.cluster.hosts.values():
            host.wall_skew_ms = rng.randrange(-2_000, 2_000)
        self.loss = rng.choice([0.0, 0.02, 0.2])
        self.repeat = rng.choice([0.0, 0.05])
        self.in_order = rng.random() < 0.4
        self.crashes = rng.choice([0.0, 0.004, 0.02])
        self.cuts = rng.choice([0.0, 0.006])
        self.hurry = rng.choice([1, 8, 25])  # Ticks in one go: some nodes lose patience early.
        self.coups = rng.choice([0.0, 0.01])  # Elections out of the blue, which nobody may refuse.
        self.compactions = rng.choice([0.0, 0.05, 0.15])
        self.transfers: list[
            tuple[NodeId, InstallSnapshot]
        ] = []  # On their way, or done: they may come again.
        self.installs = 0
        self.persists = rng.choice([0.30, 0.45])  # Slow disks, or fast ones.
        self.numbers = 0
        self.changes = rng.choice([0.0, 0.02, 0.06, 0.15])  # Of the membership.
        self.changes_begun = 0
        self.fresh_ids = list(range(nodes + 2, nodes + 6))

    def execute(self) -> None:
        """Do it all; fails by an assertion."""
        for _ in range(STEPS):
            self.step()
        self.recover()

    def step(self) -> None:
        """One thing happens somewhere."""
        rng, cluster = self.rng, self.cluster
        host = rng.choice(list(cluster.hosts.values()))
        chance = rng.random()
        if chance < self.crashes:
            self.crash_or_restart(host)
        elif chance < self.crashes + self.cuts:
            if rng.random() < 0.5:
                cluster.isolate((cluster.leader() or host).id if rng.random() < 0.7 else host.id)
            else:
                cluster.heal()
        elif not host.up:
            if rng.random() < 0.1:
                host.start()
        elif rng.random() < self.coups:
            host.observe()
            host.node.campaign(transfer=True)
            host.turn()
        elif rng.random() < self.compactions:
            self.compact(host)
        elif rng.random() < 0.05:
            self.transfer(host)
        elif rng.random() < self.changes:
            self.change()
        elif chance < 0.12:
            cluster.time_ms += rng.choice([0, TICK_MS])
            host.tick(rng.choice([1, 1, 1, 3, self.hurry]))
        elif chance < 0.20:
            self.propose(host)
        elif chance < 0.25:
            self.read(host)
        elif chance < self.persists:
            if host.write is not None:
                host.persist()
        elif cluster.mail:
            self.deliver()

    def deliver(self) -> None:
        rng, mail = self.rng, self.cluster.mail
        envelope = mail.pop(0 if self.in_order else rng.randrange(min(len(mail), 20)))
        if rng.random() < self.loss:
            return
        if rng.random() < self.repeat:
            mail.insert(rng.randrange(len(mail) + 1), envelope)
        self.cluster.deliver(envelope)
        message = envelope.message
        if isinstance(message, ReadIndexResponse) and message.index:
            self.checker.read_answered(message.token, message.index)

    def crash_or_restart(self, host: Host) -> None:
        if not host.up:
            host.start()
            return
        applied_index = host.node.log.applied_index
        if not host.node.log.restoring:
            host.flush(self.rng.randint(host.disk.flushed_index, applied_index))
        host.crash(write_survives=self.rng.random() < 0.3)
        for other in self.cluster.hosts.values():
            if other.up and self.rng.random() < 0.7:
                other.node.peer_unreachable(host.id)

    def propose(self, host: Host) -> None:
        if host.node.takes_proposals:
            self.numbers += self.rng.choice([1, 1, 5])
            host.propose(
                *[b"%d" % number for number in range(self.rng.choice([1, 1, 5]))], b"%d" % self.numbers
            )

    def compact(self, host: Host) -> None:
        log = host.node.log
        if not log.restoring and not (host.write and host.write.snapshot):
            low = self.rng.choice([log.base.index, log.applied_index])
            host.compact(self.rng.randint(low, log.applied_index))

    def transfer(self, host: Host) -> None:
        """A transfer begins, arrives, arrives again, or ends. None of that in any order."""
        rng = self.rng
        if host.snapshots and not host.node.log.restoring and rng.random() < 0.5:
            self.transfers.append((rng.choice(host.snapshots), host.snapshot()))
        elif host.snapshots and rng.random() < 0.3:
            host.snapshot_ended(rng.choice(host.snapshots))
        elif self.transfers:
            to, state = rng.choice(self.transfers[-5:])
            if self.cluster[to].up:
                self.install(self.cluster[to], state)

    def install(self, host: Host, state: InstallSnapshot) -> None:
        was = host.node.log.base
        host.install(state)
        self.installs += host.node.log.base != was

    def read(self, host: Host) -> None:
        self.numbers += 1
        token = (host.starts, self.numbers)
        self.checker.reads[token] = self.checker.commit_index
        node = host.node
        if node.role is Role.LEADER:
            host.observe()
            node.read_index(token)
            if self.rng.random() < 0.5:  # Else it shares the turn with what comes next.
                host.turn()
        elif node.leader:
            self.cluster.send(host.id, node.leader, ReadIndexRequest(host.id, node.term, token))

    def change(self) -> None:
        """Ask the leader for other members: some more, some less, in any roles."""
        rng, leader = self.rng, self.cluster.leader()
        if leader is None or leader.node.configuration is None:
            return
        wanted = {member.id: member for member in leader.node.configuration.members}
        for _ in range(rng.choice([1, 1, 2, 3])):
            if self.fresh_ids and rng.random() < 0.3:
                node_id = self.fresh_ids.pop(0)
                self.cluster.spawn(node_id)
                wanted[node_id] = Member(node_id, "", "", node_id, rng.random() < 0.8)
                continue
            member = wanted.pop(rng.choice(sorted(wanted)), None) if wanted else None
            if member is not None and rng.random() < 0.5:
                wanted[member.id] = replace(member, voter=rng.random() < 0.7)
        leader.observe()
        try:
            self.changes_begun += leader.node.change_membership(wanted.values()) is not None
        except ChangeRefused:
            return
        if rng.random() < 0.7:
            leader.turn()

    def recover(self) -> None:
        """No more faults: a leader within bounded time, and everybody has everything it commits."""
        cluster = self.cluster
        cluster.heal()
        for host in cluster.hosts.values():
            if not host.up:
                host.start()
        self.changes = 0.0
        cluster.pass_ticks(30)  # Who was cut off as a leader has stepped down by then.
        for _ in range(200):
            cluster.pass_ticks()
            self.finish_transfers()
            leader = cluster.leader()
            if leader is not None and self.is_followed_by_all(leader):
                break
        else:
            raise AssertionError("not everybody follows one leader, 200 ticks after the last fault")
        leader.propose(b"last")
        for _ in range(10):
            cluster.pass_ticks(2)
            self.finish_transfers()
        for host in self.members(leader):
            assert host.node.commit_index == leader.node.last_index, f"n{host.id} was left behind"
            assert self.checker.committed[-1].payload == b"last"

    def finish_transfers(self) -> None:
        for host in self.cluster.hosts.values():
            for peer in list(host.snapshots) if host.write is None else []:
                self.install(self.cluster[peer], host.snapshot())
                host.snapshot_ended(peer)

    def is_followed_by_all(self, leader: Host) -> bool:
        """A node whose term ran ahead may depose a leader once more; then it follows, too."""
        configuration = leader.node.configuration
        assert configuration is not None
        # With everybody alive nothing can hold up a change that is under way.
        return (
            leader.node.takes_proposals
            and configuration.settled
            and all(
                (host.node.term, host.node.leader) == (leader.node.term, leader.id)
                for host in self.members(leader)
            )
        )

    def members(self, leader: Host) -> list[Host]:
        """Who belongs to the cluster by the leader's configuration."""
        configuration = leader.node.configuration
        assert configuration is not None
        return [self.cluster[member.id] for member in configuration.members]


@pytest.mark.parametrize("block", range(10))
def test_seeds(block: int) -> None:
    answered = entries = installs = changes = 0
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        run = Run(seed)
        try:
            run.execute()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        answered += run.checker.reads_answered
        entries += len(run.checker.committed)
        installs += run.installs
        changes += run.changes_begun
    # A scheduler under which nothing ever happens would find nothing.
    assert answered > 100
    assert entries > 400
    assert installs > 0
    assert changes > 10
