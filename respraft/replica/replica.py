"""The replica: the core, the machine and the clients' batches, in one order.

One *turn* is: inputs in any order (`receive`, `submit_*`, `persisted`, `tick`, link events), then
`take_output`, which

1. hands this node's gathered batches to the leader, and asks for a read barrier if reads wait,
2. takes what the core has ready, and says what to send and to write,

and then `finish_turn`, which

3. applies what is committed and locally durable, in one atomic write of the machine,
4. answers: own batches from the results of their committed payloads, reads whose barrier has been reached.

Between the two the driver sends `Output.messages` and starts `Output.write` on the disk thread, so that disk
and peers have their work while this node applies. It sends the write's own messages when it reports
completion through `persisted`, and delivers `Outcome.answers`.

What this module promises:

* An answer is given only after the entry was committed, durable here and applied.
* Nothing is applied twice, whatever was sent again (`session.py`).
* A read is answered only from a state that includes everything acknowledged before it arrived.
"""

from typing import Final, cast

import msgspec

from respraft.config import Config
from respraft.raft.message import Entry, Index, InstallSnapshot, Message, NodeId, ReadIndexResponse
from respraft.raft.node import RaftNode
from respraft.raft.ready import Ready
from respraft.replica.applier import Applier
from respraft.replica.barrier import ReadBarrier, ReadGroup
from respraft.replica.batch import Answer, Client, Refusal
from respraft.replica.formation import Objection, PeerIdentity
from respraft.replica.forwarding import Forwarding
from respraft.replica.leading import Leading
from respraft.replica.machine import Command, Machine
from respraft.replica.membership import Membership
from respraft.replica.message import (
    AdminRequest,
    AdminResponse,
    ForwardRefusal,
    ForwardRequest,
    TransferRequest,
)
from respraft.replica.origin import Origin
from respraft.replica.reading import Reading
from respraft.replica.snapshots import Snapshots
from respraft.replica.status import (
    Identity,
    Outcome,
    Outgoing,
    Output,
    ReplicaCounters,
    ReplicaMessage,
    ReplicaStatus,
    Samples,
)

LOADING_ENTRIES: Final = 5_000
"""A restarted node further than this behind its known commit says -LOADING rather than let clients wait."""


class Replica:
    """One replica of the state. Not thread-safe; every call is made by its driver."""

    def __init__(self, *, identity: Identity, config: Config, core: RaftNode, machine: Machine) -> None:
        """Join a core and a machine that were both brought up from the same data directory.

        Args:
            identity: Which life of which node this is.
            config: This node's configuration.
            core: At the log and hard state of the data directory, told the machine's applied index.
            machine: As of its last flush; the core hands out the entries behind it again.
        """
        self.identity = identity
        self.counters = ReplicaCounters()
        self.samples = Samples([], [], [])
        self._config = config
        self._core = core
        core.notices_at_once = False  # `Forwarding` says whose clients wait.
        self._machine = machine
        self._now_ms = 0.0  # Monotonic.
        self._wall_ms = 0
        self._messages: list[Outgoing] = []
        self._answers: list[Answer] = []
        self._again = False
        self._ready: Ready | None = None  # Between `take_output` and `finish_turn`.
        self._write_in_flight = 0  # Its number; 0: none.
        self._durable_messages: list[tuple[NodeId, Message]] = []  # Of the write in flight.
        self.membership = Membership(identity=identity, config=config, core=core, send=self._send)
        self._origin = Origin(
            identity.node_id,
            identity.nonce,
            client=config.client,
            raft=config.raft,
            deliver=self._deliver,
        )
        self._applier = Applier(
            node_id=identity.node_id, machine=machine, origin=self._origin, counters=self.counters
        )
        self._loading = core.commit_index - self._applier.index > LOADING_ENTRIES
        self._leading = Leading(
            core=core, applier=self._applier, machine=machine, raft=config.raft, counters=self.counters
        )
        self._forwarding = Forwarding(
            core=core,
            origin=self._origin,
            leading=self._leading,
            send=self._send,
            counters=self.counters,
        )
        self.snapshots = Snapshots(
            config=config.raft, core=core, machine=machine, applier=self._applier, counters=self.counters
        )
        self._installing: InstallSnapshot | None = None  # Is being written.
        self._barrier = ReadBarrier(client=config.client, raft=config.raft)
        self._reading = Reading(
            start_counter=identity.start_counter,
            barrier=self._barrier,
            core=core,
            machine=machine,
            applier=self._applier,
            at_entry=self._read_at_entry,
            send=self._send,
            counters=self.counters,
            samples=self.samples,
        )

    # -- Inputs --------------------------------------------------------------------------------------

    def observe(self, monotonic_ms: float, wall_ms: int) -> None:
        """Take the driver's clocks; once at the start of each turn."""
        self._now_ms = monotonic_ms
        self._wall_ms = wall_ms
        self._core.clock.observe(monotonic_ms, wall_ms)

    def resume(self) -> None:
        """This process was paused for a while: what comes in before the next tick has piled up meanwhile."""
        self._core.clock.resume()

    def tick(self) -> None:
        """One `TICK_MS` has passed. Peer input that came before must have been given already."""
        core = self._core
        core.tick()
        self._leading.refresh()  # The tick may have ended this node's leadership.
        self._leading.append_time(self._now_ms)
        self._answers += self._origin.tick(core.leader, core.term, self._now_ms)
        self._answers += self._barrier.tick(self._now_ms)
        self.membership.tick(self._now_ms)

    def submit(
        self,
        client: Client,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        database: int,
        size: int,
    ) -> Refusal | None:
        """Take a client's group that holds a write; see `Origin.submit`."""
        return self._closed() or self._origin.submit(client, writes, reads, database, size, self._now_ms)

    def submit_reads(
        self, client: Client, commands: list[Command], database: int, size: int
    ) -> Refusal | None:
        """Take a client's group that only reads. It has nothing else in flight."""
        refusal = self._closed()
        if refusal is None:
            self._barrier.submit(ReadGroup(client, database, commands, size, self._now_ms))
        return refusal

    @property
    def gathers(self) -> bool:
        """Whether commands with writes wait for each other, so that one more needs no turn; see `Origin`."""
        return self._origin.gathers

    def withdraw(self, client: Client, size: int) -> bool:
        """Forget a client's group of one write if it was not handed over yet; see `Origin.withdraw`."""
        return self._origin.withdraw(client, size)

    def submit_stale_reads(
        self, client: Client, commands: list[Command], database: int, size: int
    ) -> Refusal | None:
        """Take a client's group that only reads, and may be answered from a state of `max_stale_ms` ago."""
        refusal = self._closed()
        if refusal is None:
            self._barrier.submit_stale(ReadGroup(client, database, commands, size, self._now_ms))
        return refusal

    def receive(self, sender: NodeId, incarnation: int, message: ReplicaMessage) -> None:
        """Take a message that came over a link whose handshake named `sender` and `incarnation`."""
        if not self.membership.is_welcome(sender, incarnation):
            return  # A node that lost its promises, or was removed: `check_peer` told it so.
        if isinstance(message, ForwardRequest):
            self._forwarding.on_request(message)
        elif isinstance(message, ForwardRefusal):
            self._forwarding.on_refusal(message)
        elif isinstance(message, AdminRequest):
            self.membership.on_request(message, self._now_ms)
        elif isinstance(message, AdminResponse):
            self.membership.on_response(message)
        elif isinstance(message, TransferRequest):
            self._leading.handover.on_request(self._core, message, self._now_ms)
        else:
            self._core.step(message)
            if isinstance(message, ReadIndexResponse):
                self._reading.on_response(message, self._now_ms)

    def persisted(self, number: int) -> list[Outgoing]:
        """Write `number` is durable. Return those of its messages that may still be sent."""
        assert number == self._write_in_flight, "writes complete one at a time, in order"
        self._write_in_flight = 0
        if self._installing is not None:
            self._go_over(self._installing)  # Before the core hands out what lies behind it.
        self._core.persisted(number)
        self._again = self._core.due  # If it was written in the middle of a turn, another one follows.
        term = self._core.term
        return [(to, message) for to, message in self._durable_messages if message.term == term]

    def install_snapshot(self, install: InstallSnapshot) -> bool:
        """Another node's state has arrived. Return False where it is of no use; nobody looks at it then.

        Otherwise it is this node's as soon as the write that names it is durable.
        """
        self._core.install_snapshot(install)
        return self._core.installing is install

    def link_up(self, peer: PeerIdentity) -> None:
        """This node's link to `peer` has come up."""
        self.membership.link_up(peer)
        self._origin.link_restored(peer.node_id)

    def link_down(self, peer: NodeId) -> None:
        """This node's link to `peer` has ended: what was sent last may be lost."""
        self.membership.link_down(peer)
        self._core.peer_unreachable(peer)

    def peer_gone(self, peer: NodeId) -> None:
        """Both links with `peer` were ended by its side, and a redial is refused: its process has ended."""
        self._core.peer_gone(peer)

    def transfer_leadership(self, to: NodeId, client: Client) -> None:
        """Hand leadership over to `to`, or to the best voter (NOBODY); `client` is answered at its end.

        The answer is the new leader's id, or `Refusal.NOT_HANDED_OVER`.

        Raises:
            NotLeader: This node does not lead.
            TransferRefused: That cannot be; nothing has changed.
        """
        self._leading.handover.begin(self._core, to, client, self._now_ms)

    def ask_for_transfer(self, to: NodeId, client: Client) -> None:
        """The same, on whatever node: where another one leads, that one is asked, and this node sees to it.

        Raises:
            NotLeader: No leader is known.
            TransferRefused: That cannot be; nothing has changed.
        """
        self._messages += self._leading.handover.ask(self._core, to, client, self._now_ms)

    def refused(self, peer: NodeId, text: str, *, removed: bool) -> None:
        """A peer refuses this node; see `Membership.link_refused`."""
        if self.membership.link_refused(peer, text, removed=removed):
            self._serve_nobody(Refusal.OUTCOME_UNKNOWN)

    def check_peer(self, peer: PeerIdentity) -> Objection | None:
        """Return why a link with `peer` must not be, as a text for its operator; None if it is welcome."""
        return self.membership.check_peer(peer)

    def adopt(self, node_id: NodeId) -> None:
        """This node is given its id in a cluster, before it has taken part in anything."""
        self.identity = msgspec.structs.replace(self.identity, node_id=node_id)
        self._core.adopt(node_id)
        self._origin.adopt(node_id)
        self._applier.adopt(node_id)
        self.membership.adopt(node_id)

    # -- Output --------------------------------------------------------------------------------------

    def take_output(self) -> Output:
        """End the input of a turn: say what the driver must send and write. `finish_turn` follows."""
        assert self._ready is None, "a turn is finished before the next one is taken"
        core = self._core
        self._again = False
        self.membership.form()
        self._leading.refresh()
        self._answers += self._leading.handover.look(core, self._now_ms)
        self._forwarding.release()
        if core.transfer is None:
            self._origin.flush(core.leader, core.term, self._now_ms)
        self._reading.ask(self._now_ms)
        self.membership.flush(self._now_ms)
        ready = self._ready = core.take_ready(write_allowed=not self._write_in_flight)
        if ready.write is not None:
            self._write_in_flight = ready.write.number
            self._durable_messages = ready.write.messages
            self._installing = ready.write.snapshot
        messages, self._messages = ready.messages + self._messages, []
        return Output(messages, ready.write)

    def finish_turn(self) -> Outcome:
        """Apply what is committed, and answer. Call it once the output of the turn is on its way."""
        ready, self._ready = self._ready, None
        assert ready is not None, "a turn has been taken"
        for number, index in ready.reads:
            self._reading.confirmed(number, index, self._now_ms)
        for number in ready.reads_refused:
            self._reading.confirmed(number, 0, self._now_ms)
        if ready.committed:
            self._apply(ready.committed)
        if self.membership.applied(self._applier.index, self._applier.configuration):
            self._serve_nobody(Refusal.NO_CLUSTER)  # What would have been applied, has been.
        self._answers += self._reading.answer(self._now_ms, self._wall_ms)
        self._answers += self.membership.take_answers()
        answers, self._answers = self._answers, []
        return Outcome(
            answers,
            len(ready.committed),
            self._again or self._reading.again or ready.more or bool(self._messages),
            self._origin.holding or self._barrier.holding,
            self.snapshots.flush_due(),
            ready.snapshots,
            self.membership.changed_targets(),
        )

    def take_samples(self) -> Samples:
        """Return the samples so far and begin anew."""
        return self.samples.take()

    @property
    def leader(self) -> NodeId:
        """The leader as this node knows it; NOBODY for none."""
        return self._core.leader

    @property
    def log_time_ms(self) -> int:
        """Stamp of the last applied entry; 0 before the first."""
        return self._applier.log_time_ms

    @property
    def congested(self) -> bool:
        """Whether client sockets should not be read for now."""
        return self._origin.congested

    def status(self) -> ReplicaStatus:
        """Return a snapshot."""
        return ReplicaStatus(
            raft=self._core.status(),
            applied_index=self._applier.index,
            applied_term=self._applier.term,
            durable=self.snapshots.durable,
            log_time_ms=self._applier.log_time_ms,
            session=self._origin.session,
            outstanding=self._origin.outstanding,
            refused_total=self._origin.refused_total,
            lost_total=self._origin.lost_total,
            in_flight_bytes=self._origin.in_flight_bytes,
            reads_waiting=self._barrier.waiting,
            handovers_begun=self._leading.handover.begun_total,
            handovers_done=self._leading.handover.done_total,
            skew_ms=self._core.clock.skew_ms,
            loading=self._loading,
            refused=self.membership.refused,
            removed=self.membership.removed,
            waiting=self.membership.waiting,
            applied_configuration=self._applier.configuration,
            invited=self.membership.invited,
        )

    # -- Steps of a turn -----------------------------------------------------------------------------

    def _send(self, to: NodeId, message: ReplicaMessage) -> None:
        self._messages.append((to, message))

    def _deliver(self, session: Index, payloads: list[bytes]) -> None:
        self._forwarding.deliver(session, payloads)  # It is made after the origin, whom it tells of refusals.

    def _closed(self) -> Refusal | None:
        """Why no command can be taken at all, if so."""
        if self._loading:
            return Refusal.LOADING
        if self.membership.closed:
            return Refusal.NO_CLUSTER
        return None

    def _serve_nobody(self, outstanding: Refusal) -> None:
        """This node has no place in the cluster: tell everybody who waits."""
        self._answers += self._origin.refuse_waiting(Refusal.NO_CLUSTER)
        self._answers += self._origin.refuse_outstanding(outstanding)
        self._answers += self._barrier.refuse_all(Refusal.NO_CLUSTER)

    def _go_over(self, install: InstallSnapshot) -> None:
        """The log has named another node's state: it is this node's now.

        What waits for an index need not know how it was reached. Who waits for the reply of a batch that was
        applied in between has to be told that it is lost.
        """
        self._installing = None
        self.snapshots.go_over(install)
        node_id = self.identity.node_id
        answers, groups = self._origin.installed(self._applier.sessions.of(node_id), self._now_ms)
        self.counters.replies_lost += len(answers)
        self._answers += answers
        for group in groups:
            self._barrier.submit(cast(ReadGroup, group))
        self._loading = self._core.commit_index - self._applier.index > LOADING_ENTRIES

    def _apply(self, entries: list[Entry]) -> None:
        applier = self._applier
        session = self._origin.session
        self._answers += applier.apply(entries, self._now_ms, self.samples)
        self._core.applied(applier.index)
        self.snapshots.applied(entries)
        if self._origin.session != session or self._origin.can_go:
            self._again = True  # What has waited for a session, or for the batch before, can go.
        if self._loading and self._core.commit_index - applier.index <= LOADING_ENTRIES:
            self._loading = False

    def _read_at_entry(self, group: ReadGroup) -> Refusal | None:
        reads = [(0, command) for command in group.commands]
        return self._origin.submit(group.client, [], reads, group.database, group.size, self._now_ms, group)
