"""What a replica is told at its start, says at the end of a turn, and shows of itself."""

from collections.abc import Callable

import msgspec

from respraft.raft.configuration import Configuration
from respraft.raft.message import Index, Message, NodeId, SnapshotPoint, Term
from respraft.raft.ready import LogWrite, RaftStatus
from respraft.replica.batch import Answer
from respraft.replica.message import (
    AdminRequest,
    AdminResponse,
    ForwardRefusal,
    ForwardRequest,
    TransferRequest,
)

ReplicaMessage = Message | ForwardRequest | ForwardRefusal | AdminRequest | AdminResponse | TransferRequest
Outgoing = tuple[NodeId, ReplicaMessage]


class Identity(msgspec.Struct, frozen=True):
    """Which life of which node this is."""

    node_id: NodeId
    incarnation: int  # Of the data directory.
    start_counter: int  # Of the process in that directory.
    nonce: int  # Names this process's session.


class Output(msgspec.Struct):
    """What a turn asks of the driver first: others wait for it, and none of it rests on what is applied."""

    messages: list[Outgoing]  # Send now.
    write: LogWrite | None  # Start now; none is in flight.


class Outcome(msgspec.Struct):
    """What became of a turn once everything that could be applied has been."""

    answers: list[Answer]
    applied: int  # Entries that were applied.
    again: bool  # Something is left to do that needs no further input: take another turn soon.
    holding: bool  # Commands wait for others (`gathering.py`): take another turn within HOLD_MS.
    flush: Callable[[], None] | None = None  # Call on another thread, then `Replica.flushed`. None under way.
    snapshots: list[NodeId] = []  # Start a transfer to each; `Replica.snapshot_ended` whatever comes of it.
    peers: dict[NodeId, str] | None = None  # Dial exactly these nodes from now on; None: as before.


class ReplicaCounters(msgspec.Struct):
    """Totals since the start, for metrics."""

    batches_applied: int = 0
    commands_applied: int = 0
    own_batches: int = 0
    own_commands: int = 0  # Writes of this node's clients that were applied.
    batches_skipped: int = 0
    forwards_sent: int = 0
    forwards_received: int = 0
    forwards_refused: int = 0
    barriers_asked: int = 0
    reads_answered: int = 0
    reads_stale: int = 0  # Among those answered: from a state that need not be the newest.
    reads_at_entry: int = 0  # Reads that took a log entry because a key was due.
    time_entries: int = 0
    flushes: int = 0  # Of the state, completed.
    snapshots_installed: int = 0
    replies_lost: int = 0  # Own groups of commands that were applied through a snapshot.


class Samples(msgspec.Struct):
    """What histograms are made of, since the driver last took it; times in ms of the driver's clock."""

    batch_ms: list[float]  # From the oldest command of each own batch to its answer.
    batch_commands: list[int]  # Writes in each of them.
    barrier_ms: list[float]  # From asking for each read barrier to its confirmation.

    def take(self) -> "Samples":
        """Return what there is, and begin anew."""
        taken = Samples(self.batch_ms, self.batch_commands, self.barrier_ms)
        self.batch_ms, self.batch_commands, self.barrier_ms = [], [], []
        return taken


class ReplicaStatus(msgspec.Struct, frozen=True):
    """A replica at one moment."""

    raft: RaftStatus
    applied_index: Index
    applied_term: Term
    durable: SnapshotPoint  # Up to here the state survives a crash by itself.
    log_time_ms: int  # Stamp of the last applied entry.
    session: Index  # 0: none is open yet.
    outstanding: int  # Own batches handed over and not applied.
    refused_total: int  # Own batches that were never handed over.
    lost_total: int  # Own batches whose outcome their clients were told is unknown.
    in_flight_bytes: int
    reads_waiting: int
    handovers_begun: int  # Of this node's leadership, since the start,
    handovers_done: int  # and how many of them ended with another leader.
    skew_ms: float  # Largest distance of a known clock from the median.
    loading: bool
    refused: str | None  # Why the cluster does not know this node, if it said so.
    removed: bool  # For good: it was a member.
    waiting: bool  # It belongs to no cluster, and was not told of any.
    applied_configuration: Configuration | None
    invited: tuple[NodeId, ...]  # Being reached by this leader, to be added.
