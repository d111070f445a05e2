"""One run: a seed's cluster, its faults and clients, and what is checked on the way and at the end.

    faults ......... calm: a leader within bounded time, every client answered, every node serves
    |<-- ticks -->|

Everything random comes from generators that are seeded with the seed; nothing iterates a set of anything but
integers, and no wall clock is read. So the trace of a run is a function of seed, ticks and code.
"""

import gc
import random
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from respraft.commands import stored
from respraft.config import (
    TICK_MS,
    ClientConfig,
    ClusterConfig,
    Config,
    HttpConfig,
    MemberConfig,
    NodeConfig,
    PeerConfig,
)
from respraft.node.installing import UNSURE_S
from respraft.node.states import RETRY_S
from respraft.raft.configuration import Configuration
from respraft.raft.message import (
    KIND_CONFIGURATION,
    NOBODY,
    Entry,
    Index,
    NodeId,
    Term,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import HardState, LogWrite, Ready, Role
from respraft.replica.batch import Answer
from respraft.replica.status import ReplicaMessage
from tests.simulation import checkers, faults
from tests.simulation.chaos import Chaos, calm
from tests.simulation.client import KEYS, Client, Group, Outcome
from tests.simulation.clock import NodeClock, Schedule
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.operator import Operator
from tests.simulation.trace import LINES_KEPT, Trace
from tests.simulation.transfer import CHUNKS_MAX

TICKS: Final = 500
"""How long faults last by default: 5 s, some dozens of elections."""

ELECTION_TIMEOUTS: Final = 30
"""Within so many of them a healthy cluster has a leader, and whatever was left undone is done."""

LOOK_MS: Final = 20
"""How often it is looked whether what must come about has."""

APART_BYTES: Final = 14
"""Records longer than this lie in two rows here, so that many do: values have five to seven bytes."""


@dataclass(slots=True)
class Result:
    """What became of a run."""

    seed: int
    failure: str = ""  # Why it failed; "" if it did not.
    undecided: list[bytes] = field(default_factory=list)  # Keys whose histories were too hard to check.
    trace_digest: str = ""
    last_events: list[str] = field(default_factory=list)
    commands: int = 0  # Answered ones.
    entries: int = 0  # Applied ones.
    terms: int = 0  # In which somebody led.
    lives: int = 0
    installs: int = 0  # Of other nodes' states.
    changes: int = 0  # Configurations in the log.

    @property
    def passed(self) -> bool:
        """Whether everything was checked and held."""
        return not self.failure and not self.undecided


def run_seed(seed: int, *, ticks: int = TICKS, weather: Mapping[str, Any] | None = None) -> Result:
    """Run one seed of many. Garbage is collected once and not on the way: a tenth of the time."""
    gc.disable()
    try:
        return Simulation(seed, ticks=ticks, weather=weather).run()
    finally:
        gc.enable()
        gc.collect()


class Simulation:
    """One seed's run. Implements `node.Surroundings` and `client.History`."""

    def __init__(
        self,
        seed: int,
        *,
        ticks: int = TICKS,
        keep_trace: int | None = LINES_KEPT,
        weather: Mapping[str, Any] | None = None,
    ) -> None:
        """Set everything up; nothing happens before `run`.

        Args:
            seed: Of everything.
            ticks: For how long faults last, by `TICK_MS`.
            keep_trace: How many of the last events to keep; None: all.
            weather: Fields of `Faults` that are given and not drawn.
        """
        self.seed = seed
        self.rng = random.Random(seed)
        self.faults = replace(faults.draw(self.rng), **(weather or {}))
        self.schedule = Schedule()
        self.trace = Trace(keep=keep_trace)
        self._ticks = ticks
        self._stamp = 0
        self._led: dict[NodeId, tuple[int, Term]] = {}  # Life and term that each node was last seen to lead.
        # Of which leader's time a node knew as it voted in a term.
        self._time_known: dict[tuple[NodeId, Term], Term] = {}
        self.installs = 0
        self.changes = 0
        self._commands = 0
        self._asked = 0

        self.election_safety = checkers.ElectionSafety()
        self.log_matching = checkers.LogMatching()
        self.state_machine_safety = checkers.StateMachineSafety()
        self.leader_completeness = checkers.LeaderCompleteness()
        self.same_state = checkers.SameState()
        self.durability = checkers.Durability(self.state_machine_safety.entries)
        self.transfers_can_be_followed = checkers.TransfersCanBeFollowed(
            self.state_machine_safety.entries, self.faults.raft.keep_bytes_max
        )
        self.configurations = checkers.Configurations(self.state_machine_safety.entries)
        self.revisions_are_unique = checkers.RevisionsAreUnique()
        self.heads_have_values = checkers.HeadsHaveValues()
        self.joint_consensus = checkers.JointConsensus()
        self.state_never_goes_back = checkers.StateNeverGoesBack()
        self.own_term = checkers.CommitByOwnTerm()
        self.promises_kept = checkers.PromisesKept()
        self.log_time = checkers.LogTime(self.faults.drift, 2 * self.faults.raft.election_timeout_ms)
        self.exactly_once = checkers.ExactlyOnce()
        self.nothing_lost = checkers.NothingLost(self.exactly_once.applied)
        self.linearizability = checkers.Linearizability()
        self.stale_reads = checkers.StaleReads(self.faults.drift)
        self.liveness = checkers.Liveness()

        self.configuration: Configuration | None = None
        self.nodes = self._make_nodes()
        self.network = Network(self, self.nodes)
        self.operator = Operator(self, self.nodes)
        self.chaos = Chaos(self, self.nodes, self.network, self.operator)
        self.clients = [
            Client(number, self, self.nodes, self, self.rng.getrandbits(64))
            for number in range(1, self.faults.clients + 1)
        ]

    def run(self) -> Result:
        """Do it all; never raises for what the nodes do wrong."""
        result = Result(self.seed)
        try:
            with patch.object(stored, "APART_BYTES", APART_BYTES):
                self._run()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno} {where.name}"
            result.failure = f"{type(error).__name__} in {place}: {error}"
            self.say(result.failure)
        result.undecided = self.linearizability.undecided
        result.trace_digest = self.trace.digest()
        result.last_events = list(self.trace.lines)
        result.commands = self._commands
        result.installs = self.installs
        result.changes = self.changes
        result.entries = len(self.state_machine_safety.entries)
        result.terms = len(self.election_safety.leader_by_term)
        result.lives = sum(node.lives for node in self.nodes.values())
        return result

    # -- The course of a run ---------------------------------------------------------------------------

    def _run(self) -> None:
        self.say(f"{self.faults}")
        for node in self.nodes.values():
            self.chaos.boot(node)
        for client in self.clients:
            client.start()
        if self.rng.random() < 0.7:
            self._pass_ms(300)
        self.chaos.start()
        self._pass_ms(self._ticks * TICK_MS)

        self.say("faults stop")
        most_down_ms = self.faults.down_ms + LOOK_MS
        slowest_us = max(150 * self.faults.write_us, 75 * self.faults.delay_us)  # Of what is under way.
        self.faults = calm(self.faults)
        self.chaos.stop()
        settle_ms = ELECTION_TIMEOUTS * self.faults.raft.election_timeout_ms
        answer_ms = settle_ms + self.faults.park_ms + self.faults.request_timeout_ms
        self._pass_ms(slowest_us / 1000 + self.faults.raft.election_timeout_ms)
        self._wait(most_down_ms, lambda: self.liveness.up(list(self.nodes.values())))
        self._wait(settle_ms, lambda: self.liveness.leader(self._members()))
        for client in self.clients:
            client.stop()
        self._wait(answer_ms, lambda: self.liveness.answered(self._waiting()))
        self._wait(settle_ms + self._catch_up_ms(), lambda: self.liveness.rejoined(self.operator.rejoining()))
        # Nobody asks for a change any more, so what is settled now stays so.
        catch_up_ms = self._catch_up_ms()
        settled = self.liveness.settled
        self._wait(settle_ms + catch_up_ms, lambda: settled(self.configuration, self._members()))
        last = [self._ask(node, database) for node in self._members() for database in (0, 1)]
        self._wait(answer_ms + catch_up_ms, lambda: self._served(last))
        self._wait(settle_ms + catch_up_ms, lambda: self.liveness.agreed(self._members()))
        members = self._members()
        self._count(members)
        self.linearizability.finish(self.exactly_once.applied)

    def _pass_ms(self, ms: float) -> None:
        self.schedule.run_until(self.schedule.now_us + int(ms * 1000))

    def _wait(self, most_ms: int, condition: Callable[[], None]) -> None:
        """Let time pass until `condition` raises no AssertionError any more. It must come about in time."""
        end_us = self.schedule.now_us + most_ms * 1000
        while True:
            try:
                condition()
                return
            except AssertionError:
                if self.schedule.now_us >= end_us:
                    raise
            self._pass_ms(LOOK_MS)

    def _catch_up_ms(self) -> int:
        """Return how long a member may take that has to be brought everything: the state, then the log.

        At worst, each append waits for the answer to the one before (`inflight_appends_max`,
        `inflight_bytes_max`). Two that follow each other carry more than `append_bytes_max` together, or
        each has one entry only. The size of what is not committed yet is not known: one append per entry.
        """
        faults, known = self.faults, self.state_machine_safety.entries
        bytes_known = sum(len(entry.payload) for entry in known)
        appends = min(len(known), 2 * bytes_known // faults.raft.append_bytes_max + 1)
        appends += max(node.core.last_index for node in self._members()) - len(known)
        longest = 1.5  # Times the usual time: `Network.send` and `process.py` draw from half of it to this.
        round_trip_us = longest * (2 * faults.delay_us + faults.write_us)
        # At the worst moment a transfer begins anew, of a state and then of the next one.
        retries_us = max(RETRY_S, UNSURE_S) * 1e6
        transfers_us = 2 * (faults.transfer_us + 4 * CHUNKS_MAX * round_trip_us + retries_us)
        return int(transfers_us + appends * round_trip_us) // 1000

    def _members(self) -> list[Node]:
        """The nodes that the cluster knows: not one that was wiped after the cluster had formed."""
        configuration = self.configuration
        if configuration is None:
            return [node for node in self.nodes.values() if node.listed]
        return [
            self.nodes[member.id]
            for member in configuration.members
            if self.nodes[member.id].incarnation == member.incarnation
        ]

    def _waiting(self) -> list[object]:
        groups = [client.group for client in self.clients if client.group is not None]
        return [*groups, *self.operator.waiting]

    def _ask(self, node: Node, database: int) -> Group:
        """Send a write, and reads of everything."""
        client = Client(100 * node.id + database, self, self.nodes, self, 0)
        client.stop()
        self._asked += 1
        value = b"<last.%d>" % self._asked
        return client.ask(node, database, [(b"SET", KEYS[0], value), *((b"GET", key) for key in KEYS)])

    def _served(self, groups: list[Group]) -> None:
        """Ask again where an answer did not come in time: that is no error if the next one does.

        Who is asked is looked up each time: nobody owes an answer who has been removed meanwhile.
        """
        members = [node.id for node in self._members()]
        groups[:] = [group for group in groups if group.node_id in members]
        for place, group in enumerate(groups):
            if group.outcome in (Outcome.REFUSED, Outcome.UNKNOWN):
                groups[place] = self._ask(self.nodes[group.node_id], group.database)
        self.liveness.served(groups)

    def _count(self, members: list[Node]) -> None:
        """What was counted is what is there."""
        for node in members:
            log_time_ms = node.replica.log_time_ms
            self.revisions_are_unique.observe(node)
            self.heads_have_values.observe(node)
            for counter, count in sorted(self.exactly_once.counts.items()):
                key, _, database = counter.partition(b"@")
                replies = node.machine.read([(int(database), [b"GET", key])], log_time_ms, log_time_ms)
                assert replies == [b"%d" % count], f"{counter!r} is {replies}, but {count} INCR were applied"

    # -- client.History --------------------------------------------------------------------------------

    def stamp(self) -> int:
        """Return the next place in the order of all events."""
        self._stamp += 1
        return self._stamp

    def ended(self, group: Group) -> None:
        """A client knows as much of its group as it ever will."""
        self.nothing_lost.ended(group)
        self.exactly_once.ended(group)
        self.linearizability.ended(group)
        self._commands += sum(each.returned is not None for each in group.operations)

    # -- node.Surroundings -----------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Add to the trace."""
        self.trace.say(self.schedule.now_us, text)

    def send(self, node: Node, to: NodeId, message: ReplicaMessage) -> None:
        """Put a message on its way."""
        disk = (node.id, node.incarnation)
        if isinstance(message, VoteRequest | VoteResponse):
            # A voter that died with its vote, and gives it again, knows nothing any more.
            self._time_known[node.id, message.term] = node.core.clock.heard().term
        if isinstance(message, checkers.LEADERS_MESSAGES):
            self.election_safety.observe(node.id, message.term)
        elif isinstance(message, VoteResponse):
            self.promises_kept.voted(disk, to, message)
        else:
            self.promises_kept.sent(disk, message)
        self.network.send(node, to, message)

    def reach(self, node: Node, to: NodeId) -> Node | None:
        """Return the peer, if a connection to it can be made just now."""
        link, peer = self.network.links[node.id, to], self.nodes[to]
        return peer if link.up and not link.broken and not link.cuts and peer.up else None

    def links_to(self, node: Node, to: NodeId) -> int:
        """Return how many links from `node` to a peer have come up."""
        return self.network.links[node.id, to].ups

    def set_peers(self, node: Node, peers: Mapping[NodeId, str]) -> None:
        """A node says whom it dials."""
        self.network.set_peers(node, peers)

    def answered(self, node: Node, answer: Answer) -> None:
        """A client gets its answer."""
        group = answer.client
        if isinstance(group, Group) and answer.refusal is None:
            index = node.replica.status().applied_index
            if group.stale:
                self.stale_reads.answered(
                    self.schedule.now_us, group.asked_us, index, self.faults.max_stale_ms
                )
            else:
                self.stale_reads.told(self.schedule.now_us, index)
        group.answered(answer)

    def add_node(self, replaces: NodeId = NOBODY) -> Node:
        """Set up one more node, and start it. Who waits to join is told of it: it may lead soon."""
        node_id = max(self.nodes) + 1
        self.nodes[node_id] = node = self._make_node(node_id, ())
        node.replaces = replaces
        self.network.add(node_id)
        for other in self.nodes.values():
            other.give(other.hear_of_members)
        self.chaos.boot(node)
        return node

    def contacts(self) -> Mapping[NodeId, str]:
        """Return everybody."""
        return {node_id: f"127.0.0.1:{7100 + node_id}" for node_id in sorted(self.nodes)}

    def died(self, node: Node) -> None:
        """A life is over."""
        self.network.died(node)
        self.operator.node_died(node.id)
        for client in self.clients:
            client.node_died(node.id)
        self.chaos.died(node)

    def may_lose(self, node: Node) -> bool:
        """Return whether the cluster can do without a disk, and its node may come back."""
        return self.chaos.may_lose(node)

    def ruined(self, node: Node) -> None:
        """A node's disk is of no use any more: the operator repairs it."""
        self.chaos.lose(node)

    def wiped(self, node: Node) -> None:
        """A node loses its disk."""
        self.log_matching.lost((node.id, node.incarnation))

    def booted(self, node: Node, hard_state: HardState) -> None:
        """A life has begun."""
        self.promises_kept.booted((node.id, node.incarnation), hard_state)
        self.durability.booted(node)
        self.state_never_goes_back.booted((node.id, node.incarnation), node.core.log.applied_index)
        self.network.booted(node)

    def ready(self, node: Node, ready: Ready) -> None:
        """The core asks for this: look before it is carried out."""
        core = node.core
        if core.role is Role.LEADER and self._led.get(node.id) != (node.lives, core.term):
            self._led[node.id] = (node.lives, core.term)
            self.say(f"n{node.id} leads term {core.term}, last {core.last_index} commit {core.commit_index}")
            self.election_safety.observe(node.id, core.term)
            self.leader_completeness.leads(node)
        if ready.write is not None and ready.write.first_index:
            self.transfers_can_be_followed.cut(node, ready.write.first_index)
        if ready.write is not None and ready.write.entries:
            entries = ready.write.entries
            disk = (node.id, node.incarnation)
            self.log_matching.written(disk, entries, core.log.term(entries[0].index - 1))
        if ready.committed:
            self.durability.applied(node, ready.committed)
            known = self.state_machine_safety.entries
            before = known[-1] if known else None
            news = self.state_machine_safety.applied(node.id, ready.committed)
            self.leader_completeness.committed(news, core.term)
            for entry in news:
                self.log_time.committed(before, entry)
                self.exactly_once.committed(entry)
                if entry.kind == KIND_CONFIGURATION:
                    self.configuration = Configuration.decode(entry.payload)
                    self.changes += 1
                    self.joint_consensus.committed(self.configuration)
                    self.exactly_once.configured(self.configuration)
                    self.say(f"entry {entry.index}: {self.configuration}")
                before = entry

    def appended(self, node: Node, entry: Entry) -> None:
        """A leader has made an entry. The first of its term is made as it is elected."""
        core = node.core
        if core.log.term(entry.index - 1) != entry.term:
            voters = [node.id, *core.clock._offsets]  # All whose votes came.
            known = [self._time_known.get((voter, entry.term), 0) for voter in voters]
            self.log_time.leads(entry.term, max(known))
        self.log_time.appended(entry, node.observed_us)
        self.configurations.appended(entry)
        if entry.kind == KIND_CONFIGURATION:
            self.durability.promoted(Configuration.decode(entry.payload))

    def committed(self, node: Node) -> None:
        """More is committed: look at once, by the configuration that counts now."""
        index = node.core.commit_index
        if index > self.durability.commit_index:
            self.own_term.committed(node, index)
            self.durability.committed(node, index, self.configurations.of(node))

    def durable(self, node: Node, write: LogWrite) -> None:
        """A log write is durable."""
        self.say(f"n{node.id} wrote {write.number}: {write.hard_state} +{len(write.entries)}")
        self.promises_kept.written((node.id, node.incarnation), write.hard_state)
        self.durability.written(node, write)

    def flushed(self, node: Node, index: Index) -> None:
        """The state in use survives a crash as of `index`."""
        self.state_never_goes_back.flushed((node.id, node.incarnation), index)

    def turned(self, node: Node, applied: int) -> None:
        """A turn is over. To look at the state means to write what has gathered: not always."""
        if applied:
            index = node.replica.status().applied_index
            self.state_never_goes_back.applied((node.id, node.incarnation), index)
            if self.rng.random() < self.faults.looks:
                self.same_state.observe(node.id, index, node.machine.digest())

    def installed(self, node: Node) -> None:
        """A node has gone over to another node's state."""
        index = node.replica.status().applied_index
        self.installs += 1
        self.state_never_goes_back.applied((node.id, node.incarnation), index)
        self.same_state.observe(node.id, index, node.machine.digest())

    # -- Private -----------------------------------------------------------------------------------

    def _make_nodes(self) -> dict[NodeId, Node]:
        members = tuple(
            MemberConfig(id=each, peer=f"127.0.0.1:{7100 + each}", client=f"127.0.0.1:{7000 + each}")
            for each in range(1, self.faults.nodes + 1)
        )
        return {member.id: self._make_node(member.id, members) for member in members}

    def _make_node(self, node_id: NodeId, members: tuple[MemberConfig, ...]) -> Node:
        rng, run = self.rng, self.faults
        config = Config(
            node=NodeConfig(id=node_id, data_dir=Path("unused")),
            client=ClientConfig(
                listen=f"127.0.0.1:{7000 + node_id}",
                park_ms=run.park_ms,
                request_timeout_ms=run.request_timeout_ms,
                max_stale_ms=run.max_stale_ms,
            ),
            peer=PeerConfig(listen=f"127.0.0.1:{7100 + node_id}"),
            http=HttpConfig(listen=f"127.0.0.1:{7200 + node_id}"),
            cluster=ClusterConfig(id="simulation", members=members),
            raft=replace(run.raft, pack_bytes_min=run.pack_bytes_min),
        )
        clock = NodeClock(
            self.schedule,
            rate=1 + rng.uniform(-run.drift, run.drift),
            wall_offset_ms=rng.randint(-run.wall_spread_ms, run.wall_spread_ms),
        )
        return Node(self, node_id, config, clock, incarnation=100 + node_id)
