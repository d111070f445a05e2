"""Deliberately broken variants of compaction and snapshots; see `mutations.py`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from zlib import crc32

from msgspec.structs import replace

from respraft.commands.generation import Generation
from respraft.commands.machine import KeyspaceMachine
from respraft.config import RaftConfig
from respraft.node.installing import Installing
from respraft.peer.snapshot_transfer import Chunk, Offer, SnapshotMessage, SnapshotReceiver, Write
from respraft.raft.log import RaftLog
from respraft.raft.message import Index, InstallSnapshot, NodeId, SnapshotPoint
from respraft.raft.progress import Progress
from respraft.raft.ready import RaftStatus
from respraft.replica.batch import Answer
from respraft.replica.compaction import Compaction
from respraft.replica.machine import META_PREFIX
from respraft.replica.origin import Origin
from respraft.replica.session import Session, SessionTable
from respraft.replica.snapshots import Snapshots
from respraft.storage import pieces
from respraft.storage.pieces import HALF_WAY, Piece, Step
from tests.simulation import state_disk
from tests.simulation.mutations import Mutation, Replacement
from tests.simulation.state_disk import StateDisk

# Little log is kept, and nodes are away for long enough to need a state.
_CUTS: Final = {
    "nodes": 3,
    "raft": RaftConfig(
        heartbeat_ms=20,
        election_timeout_ms=160,
        compact_entries=3,
        keep_entries=0,
        keep_bytes=0,
        keep_bytes_max=1024,
    ),
    "crashes": 2.0,
    "partitions": 2.0,
    "down_ms": 300,
    "loss": 0.0,
    "wipes": 0.0,
}


# The same, and what is written becomes durable with a flush only.
_LATE: Final = {**_CUTS, "gathered": 1000}

# The same, and words are lost.
_LOSSES: Final = {**_CUTS, "loss": 0.1, "resets": 4.0, "kills": 0.0}

# The same, and nodes die while they open what has arrived.
_CRASHES: Final = {**_CUTS, "crashes": 0.5, "opening_crashes": 0.5, "transfers": 0.0, "changes": 0.0}

# What is written gathers in memory, and goes down in pieces, with many a crash between two of them.
_GATHERED: Final = {
    "nodes": 3,
    "raft": RaftConfig(heartbeat_ms=20, election_timeout_ms=160, compact_entries=20, keep_entries=10),
    "gathered": 30,
    "piece_puts": 1,
    "half_steps": 1.0,
    "storage_crashes": 0.01,
    "flushes": 5.0,
    "looks": 0.1,
    "partitions": 0.4,
    "down_ms": 20,
    "changes": 0.0,
    "wipes": 0.0,
    "rejoins": 0.0,
    "loss": 0.0,
    "clients": 10,
    "think_ms": 20,
}

# The same, and states travel long, in pieces, on connections that break.
_TRANSFERS: Final = {
    **_CUTS,
    "raft": RaftConfig(
        heartbeat_ms=20, election_timeout_ms=160, compact_entries=3, keep_entries=0, keep_bytes=0
    ),
    "transfer_us": 200_000,
    "broken_transfers": 0.2,
    "garbled": 0.1,
    "clients": 10,
    "think_ms": 20,
}

# The same with little to write, so that two states are likely to be of one size.
_ALIKE: Final = {**_TRANSFERS, "clients": 3, "think_ms": 100, "group_max": 1}


def _state_without_sessions() -> Sequence[Replacement]:
    def go_over(self: Snapshots, install: InstallSnapshot) -> None:
        original(self, install)
        self._applier.sessions = SessionTable()

    original = Snapshots.go_over
    return [(Snapshots, "go_over", go_over)]


def _flushed_up_to_its_end() -> Sequence[Replacement]:
    def flushed(self: Snapshots) -> None:
        if self._flushing is not None:
            self._flushing = self._applied_point()
        original(self)

    original = Snapshots.flushed
    return [(Snapshots, "flushed", flushed)]


def _cut_without_a_flush() -> Sequence[Replacement]:
    def flush_due(self: Snapshots) -> Any:
        if self._compaction.due:
            self._compaction.flush_begun()
            self._cut_log(self._applier.index)

    return [(Snapshots, "flush_due", flush_due)]


def _sent_again_after_the_session_was_lost() -> Sequence[Replacement]:
    def installed(self: Origin, session: Session | None, now_ms: float) -> tuple[list[Answer], list[object]]:
        for batch in self._outstanding:
            batch.sequence = 0
        self._waiting.extendleft(reversed(self._outstanding))
        self._outstanding.clear()
        if session is None or session.nonce != self._nonce:
            self._session = self._applied = self._sent = 0
        else:
            self._session, self._applied = session.number, session.sequence
            self._sent = self._applied
        return [], []

    return [(Origin, "installed", installed)]


def _base_has_no_term() -> Sequence[Replacement]:
    def compact_to(self: RaftLog, index: int) -> None:
        original(self, index)
        self.base = SnapshotPoint(self.base.index, 0, self.base.time_ms)

    original = RaftLog.compact_to
    return [(RaftLog, "compact_to", compact_to)]


def _cut_past_a_transfer() -> Sequence[Replacement]:
    def transfer_begun(self: Compaction, peer: NodeId, index: Index) -> None:
        return

    return [(Compaction, "transfer_begun", transfer_begun)]


def _damaged_chunks_are_taken() -> Sequence[Replacement]:
    def on_message(self: SnapshotReceiver, message: SnapshotMessage) -> Write:
        assert isinstance(message, Chunk)
        return original(self, replace(message, crc=crc32(message.data, self._course.crc)))

    original = SnapshotReceiver.on_message
    return [(SnapshotReceiver, "on_message", on_message)]


def _another_state_is_carried_on() -> Sequence[Replacement]:
    def continues(self: SnapshotReceiver, offer: Offer) -> bool:
        return self.offer.files == offer.files

    return [(SnapshotReceiver, "continues", continues)]


def _state_is_not_asked_for() -> Sequence[Replacement]:
    def answered_heartbeat(self: Progress, tick: int, patience_ticks: int) -> None:
        if not self.snapshot:
            original(self, tick, patience_ticks)

    original = Progress.answered_heartbeat
    return [(Progress, "answered_heartbeat", answered_heartbeat)]


def _dead_receivers_are_waited_for() -> Sequence[Replacement]:
    def is_over(self: Installing, raft: RaftStatus, links: int, now_s: float) -> bool:
        self._course = (raft.term, links)
        return original(self, raft, links, now_s)

    original = Installing.is_over
    return [(Installing, "is_over", is_over)]


def _steps_have_no_mark() -> Sequence[Replacement]:
    def in_pieces(step: Step, at_once: int) -> Iterator[Piece]:
        for keys, values, ranges in original(step, at_once):
            yield (keys, values, ranges) if HALF_WAY not in keys else ((), (), ranges)

    original = pieces.in_pieces
    return [(state_disk, "in_pieces", in_pieces)]


def _mark_goes_first() -> Sequence[Replacement]:
    def in_pieces(step: Step, at_once: int) -> Iterator[Piece]:
        first, *records, last = original(step, at_once)
        yield from (first, last, *records)

    original = pieces.in_pieces
    return [(state_disk, "in_pieces", in_pieces)]


def _what_lay_apart_stays() -> Sequence[Replacement]:
    def has_large(self: Generation, key: bytes) -> bool:
        return True

    return [(Generation, "_has_large", has_large)]


def _index_goes_down_first() -> Sequence[Replacement]:
    def write_down(self: StateDisk, step: Step) -> None:
        rows = [row for keys, values in step.rows for row in zip(keys, values, strict=True)]
        own = [row for row in rows if row[0].startswith(META_PREFIX)]
        for cleared, some in ((), own), (step.cleared, [row for row in rows if row not in own]):
            keys, values = [key for key, _ in some], [value for _, value in some]
            original(self, Step(iter([(keys, values)]), cleared, len(some), step.size))

    original = StateDisk.write_down
    return [(StateDisk, "write_down", write_down)]


def _a_flush_waits_for_nothing() -> Sequence[Replacement]:
    def begin_flush(self: KeyspaceMachine) -> Callable[[], None]:
        self._hand_over()
        return lambda: None

    return [(KeyspaceMachine, "begin_flush", begin_flush)]


STATE_MUTATIONS: Final = (
    Mutation("a state comes without its sessions", 30, _state_without_sessions, _CUTS, first=1),
    Mutation("a flush counts up to its end", 60, _flushed_up_to_its_end, _LATE, first=8),
    Mutation("the log is cut without a flush", 30, _cut_without_a_flush, _LATE),
    Mutation(
        "what came with a state is sent again", 60, _sent_again_after_the_session_was_lost, _CUTS, first=2
    ),
    Mutation("a base forgets its term", 30, _base_has_no_term, _CUTS),
    Mutation("the log is cut past a transfer", 60, _cut_past_a_transfer, _TRANSFERS),
    Mutation("nobody is asked whether a state is there", 60, _state_is_not_asked_for, _LOSSES, first=2),
    Mutation(
        "who died with a state is waited for",
        300,
        _dead_receivers_are_waited_for,
        _CRASHES,
        first=15,
    ),
    Mutation("half a step has no mark", 60, _steps_have_no_mark, _GATHERED, first=4),
    Mutation("the mark of half a step goes too early", 60, _mark_goes_first, _GATHERED, first=1),
    Mutation("the index goes down before its records", 60, _index_goes_down_first, _GATHERED, first=1),
    Mutation(
        "a flush waits for nothing that has gathered", 60, _a_flush_waits_for_nothing, _GATHERED, first=2
    ),
    Mutation("damaged chunks of a state are taken", 60, _damaged_chunks_are_taken, _TRANSFERS, first=3),
    Mutation(
        "half a state is made whole with another one", 150, _another_state_is_carried_on, _ALIKE, first=13
    ),
    Mutation("values that lay apart stay", 30, _what_lay_apart_stays),
)
