"""Deliberately broken variants: the simulator has to find every one of them, or its silence means nothing.

A mutation replaces one function of production code while it is active.
What it breaks is a sentence; `seeds` is within how many seeds it has to be found, with room to spare.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from respraft.commands.execution import Execution
from respraft.commands.machine import KeyspaceMachine
from respraft.config import RaftConfig
from respraft.raft import election, follower, leader, membership, node, transfer
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.message import (
    KIND_NORMAL,
    AppendRequest,
    Entry,
    HeardTime,
    Index,
    InstallSnapshot,
    NodeId,
    ReadIndexRequest,
    VoteRequest,
)
from respraft.raft.progress import Progress
from respraft.raft.read_index import ReadIndex
from respraft.raft.ready import HardState, Role
from respraft.raft.state import RaftState
from respraft.replica import changes
from respraft.replica import membership as replica_membership
from respraft.replica.barrier import ReadBarrier, ReadGroup
from respraft.replica.batch import Batch, Refusal
from respraft.replica.origin import Origin
from respraft.replica.replica import Replica
from respraft.replica.session import SessionTable
from respraft.replica.status import Output
from respraft.storage.log_memory import MemoryLog
from tests.simulation.faults import WITHOUT_NEWER
from tests.simulation.simulation import Result, run_seed

Replacement = tuple[Any, Any, Any]
"""A module or a class, the name of something in it, and what takes its place; or a dict, a key, a value."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to be wrong."""

    breaks: str
    seeds: int
    replacements: Callable[[], Sequence[Replacement]]
    weather: Mapping[str, Any] = field(
        default_factory=dict
    )  # Not drawn but given, where it is rare otherwise.
    first: int = 0  # The hunt begins with this seed, which found it when this was written.
    rare: bool = False  # In every weather tried: it takes many seeds, and is left to `make mutations`.

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be wrong for a while."""
        replacements = self.replacements()
        originals = [_replace(*each) for each in replacements]
        try:
            yield
        finally:
            for (owner, name, _), original in zip(replacements, originals, strict=True):
                _replace(owner, name, original)

    def hunt(self, *, ticks: int) -> Result | None:
        """Run seeds until one fails; None if none does."""
        return next(self.found(range(self.first, self.first + self.seeds), ticks=ticks), None)

    def found(self, seeds: Iterable[int], *, ticks: int) -> Iterator[Result]:
        """Run these seeds, and yield those that fail."""
        with self.active():
            for seed in seeds:
                result = run_seed(seed, ticks=ticks, weather={**WITHOUT_NEWER, **self.weather})
                if result.failure:
                    yield result


def _replace(owner: Any, name: Any, value: Any) -> Any:
    """Put `value` in its place and return what was there."""
    if isinstance(owner, dict):
        original, owner[name] = owner[name], value
    else:
        original = vars(owner)[name]
        setattr(owner, name, value)
    return original


# -- Elections ---------------------------------------------------------------------------------------


def _vote_not_persisted() -> Sequence[Replacement]:
    def hard_state(self: MemoryLog) -> HardState:
        head = self._head
        return HardState(head.term, 0, head.commit)

    return [(MemoryLog, "hard_state", hard_state)]


def _promises_before_the_disk() -> Sequence[Replacement]:
    def take_output(self: Replica) -> Output:
        output = original(self)
        if output.write is not None:
            term = self._core.term
            output.messages += [each for each in output.write.messages if each[1].term == term]
        return output

    original = Replica.take_output
    return [(Replica, "take_output", take_output)]


def _length_before_term() -> Sequence[Replacement]:
    def is_up_to_date(self: RaftLog, last_index: Index, last_term: int) -> bool:
        return (last_index, last_term) >= (self.last_index, self.last_term)

    return [(RaftLog, "is_up_to_date", is_up_to_date)]


def _two_votes_per_term() -> Sequence[Replacement]:
    def on_vote_request(state: RaftState, request: VoteRequest) -> None:
        if state.role is not Role.LEADER:
            state.vote = 0
        original(state, request)

    original = election.on_vote_request
    return [(election, "on_vote_request", on_vote_request), (node._STEPS, VoteRequest, on_vote_request)]


def _half_is_a_majority() -> Sequence[Replacement]:
    def has_quorum(self: Configuration, ids: Sequence[NodeId]) -> bool:
        return all(2 * sum([voter in ids for voter in group]) >= len(group) for group in self._groups())

    return [(Configuration, "has_quorum", has_quorum)]


def _wiped_node_votes() -> Sequence[Replacement]:
    def check_peer(*_: object) -> None:
        return None

    def receive(self: Replica, sender: NodeId, incarnation: int, message: Any) -> None:
        configuration = self._core.configuration
        member = configuration.member(sender) if configuration is not None else None
        original(self, sender, member.incarnation if member is not None else incarnation, message)

    original = Replica.receive
    return [
        (replica_membership, "check_peer", check_peer),
        (Replica, "receive", receive),
    ]


# -- The log -------------------------------------------------------------------------------------------


def _commit_by_older_term() -> Sequence[Replacement]:
    def advance_commit(state: RaftState) -> None:
        configuration = state.configuration
        assert configuration is not None
        match = {peer_id: peer.match_index for peer_id, peer in state.peers.items()}
        match[state.node_id] = state.log.stable_index
        state.commit_to(configuration.committed_index(match))

    return [(leader, "advance_commit", advance_commit)]


def _commit_counts_own_unwritten() -> Sequence[Replacement]:
    def advance_commit(state: RaftState) -> None:
        configuration = state.configuration
        assert configuration is not None
        match = {peer_id: peer.match_index for peer_id, peer in state.peers.items()}
        match[state.node_id] = state.log.last_index
        index = configuration.committed_index(match)
        if index > state.log.commit_index and state.log.term(index) == state.term:
            state.commit_to(index)

    return [(leader, "advance_commit", advance_commit)]


def _upper_middle_is_committed() -> Sequence[Replacement]:
    def committed_index(self: Configuration, match: dict[NodeId, Index]) -> Index:
        numbers = sorted([match.get(voter, 0) for voter in self.voters()])
        return numbers[len(numbers) // 2]

    return [(Configuration, "committed_index", committed_index)]


def _stale_tail_is_committed() -> Sequence[Replacement]:
    def on_append(state: RaftState, request: AppendRequest) -> None:
        original(state, request)
        state.commit_to(min(request.commit_index, state.log.last_index))

    original = follower.on_append
    return [(follower, "on_append", on_append), (node._STEPS, AppendRequest, on_append)]


def _stale_tail_is_confirmed() -> Sequence[Replacement]:
    def accept(self: RaftState, match_index: Index) -> None:
        original(self, self.log.last_index)

    original = RaftState.accept
    return [(RaftState, "accept", accept)]


def _cut_without_conflict() -> Sequence[Replacement]:
    def splice(self: RaftLog, entries: list[Entry]) -> tuple[Index, int]:
        if self.commit_index < entries[-1].index < self.last_index:
            self._truncate(entries[-1].index + 1)
        return original(self, entries)

    original = RaftLog.splice
    return [(RaftLog, "splice", splice)]


def _log_not_compared() -> Sequence[Replacement]:
    def matches(self: RaftLog, index: Index, term: int) -> bool:
        return index <= self.last_index

    return [(RaftLog, "matches", matches)]


def _acknowledged_though_replaced() -> Sequence[Replacement]:
    def write_done(self: RaftLog) -> None:
        self._write_high = self.last_index
        original(self)

    original = RaftLog.write_done
    return [(RaftLog, "write_done", write_done)]


def _applied_before_durable() -> Sequence[Replacement]:
    def take_committed(self: RaftLog, bytes_max: int) -> list[Entry]:
        if self.commit_index <= self.handed_index:
            return []
        entries = self.entries(self.handed_index + 1, self.commit_index + 1, bytes_max)
        self.handed_index += len(entries)
        return entries

    return [(RaftLog, "take_committed", take_committed)]


def _lost_append_is_lost() -> Sequence[Replacement]:
    def answered_heartbeat(self: Progress, tick: int, patience_ticks: int) -> None:
        return

    return [(Progress, "answered_heartbeat", answered_heartbeat)]


def _time_jumps() -> Sequence[Replacement]:
    def lead(self: LogClock, last_time_ms: int) -> None:
        self._time_ms = max(float(last_time_ms), float(self.wall_ms))
        self.leading = True

    return [(LogClock, "lead", lead)]


def _time_of_voters_not_heard() -> Sequence[Replacement]:
    def learn(self: LogClock, known: HeardTime) -> None:
        return

    return [(LogClock, "learn", learn)]


def _time_is_wall_clock() -> Sequence[Replacement]:
    def append(state: RaftState, payload: bytes) -> Index:
        index = state.log.last_index + 1
        state.append(Entry(index, state.term, state.clock.wall_ms, KIND_NORMAL, payload))
        return index

    return [(leader, "append", append)]


# -- Reads ---------------------------------------------------------------------------------------------


def _reads_before_own_term() -> Sequence[Replacement]:
    def is_proven(state: RaftState) -> bool:
        return True

    return [(leader, "_is_proven", is_proven)]


def _asker_is_a_majority() -> Sequence[Replacement]:
    def on_read_index_request(state: RaftState, request: ReadIndexRequest) -> None:
        if state.role is Role.LEADER and leader._is_proven(state):
            leader._let_read(state, request.sender, request.token, state.log.commit_index)
        else:
            original(state, request)

    original = leader.on_read_index_request
    return [(node._STEPS, ReadIndexRequest, on_read_index_request)]


def _read_joins_older_round() -> Sequence[Replacement]:
    def add(self: ReadIndex, asker: NodeId, token: object) -> None:
        if self._under_way:
            self._under_way[0][2].append((asker, token))
        else:
            original(self, asker, token)

    original = ReadIndex.add
    return [(ReadIndex, "add", add)]


def _read_without_a_round() -> Sequence[Replacement]:
    def begin_round(self: ReadIndex, commit_index: Index | None) -> int:
        number = original(self, commit_index)
        if self._under_way:
            self._under_way[-1] = (0, *self._under_way[-1][1:])
        return number

    original = ReadIndex.begin_round
    return [(ReadIndex, "begin_round", begin_round)]


def _stale_reads_of_any_age() -> Sequence[Replacement]:
    def take_stale(self: ReadBarrier, now_ms: float) -> list[ReadGroup]:
        self._fresh_ms = now_ms
        return original(self, now_ms)

    original = ReadBarrier.take_stale
    return [(ReadBarrier, "take_stale", take_stale)]


def _age_from_the_answer() -> Sequence[Replacement]:
    def confirmed(self: ReadBarrier, number: int, index: Index, now_ms: float) -> float | None:
        self._asked_ms = now_ms
        return original(self, number, index, now_ms)

    original = ReadBarrier.confirmed
    return [(ReadBarrier, "confirmed", confirmed)]


def _lease_from_the_echo() -> Sequence[Replacement]:
    def confirm_reads(state: RaftState) -> None:
        state.lease._sent = deque((number, state.clock.monotonic_ms) for number, _ in state.lease._sent)
        original(state)

    original = leader._confirm_reads
    return [(leader, "_confirm_reads", confirm_reads)]


def _reset_ends_a_promise() -> Sequence[Replacement]:
    def peer_gone(state: RaftState, peer: NodeId) -> None:
        if state.leader == peer:
            state.bound_until_ms = 0.0
        original(state, peer)

    original = election.peer_gone
    return [(election, "peer_gone", peer_gone)]


def _handover_keeps_the_lease() -> Sequence[Replacement]:
    def begin(state: RaftState, to: NodeId) -> None:
        original(state, to)
        state.lease_void_term = 0

    original = transfer.begin
    return [(transfer, "begin", begin)]


def _read_before_applied() -> Sequence[Replacement]:
    def due(self: ReadBarrier, applied_index: Index, now_ms: float) -> list[ReadGroup]:
        return original(self, 1 << 60, now_ms)

    original = ReadBarrier.due
    return [(ReadBarrier, "due", due)]


def _reads_expire_by_own_clock() -> Sequence[Replacement]:
    def read(self: KeyspaceMachine, commands: Any, log_time_ms: int, now_ms: int) -> Any:
        return original(self, commands, now_ms, now_ms)

    original = KeyspaceMachine.read
    return [(KeyspaceMachine, "read", read)]


# -- Batches and sessions ------------------------------------------------------------------------------


def _sequence_not_checked() -> Sequence[Replacement]:
    def advance(self: SessionTable, number: Index, sequence: int) -> bool:
        session = self._by_number.get(number)
        if session is not None:
            session.sequence = sequence
        return session is not None

    return [(SessionTable, "advance", advance)]


def _gap_accepted() -> Sequence[Replacement]:
    def advance(self: SessionTable, number: Index, sequence: int) -> bool:
        session = self._by_number.get(number)
        if session is None or sequence <= session.sequence:
            return False
        session.sequence = sequence
        return True

    return [(SessionTable, "advance", advance)]


def _sessions_lost_at_restart() -> Sequence[Replacement]:
    def decode(cls: type[SessionTable], data: bytes) -> SessionTable:
        return cls()

    return [(SessionTable, "decode", classmethod(decode))]


def _results_from_local_copy() -> Sequence[Replacement]:
    def applied(self: Origin, sequence: int, now_ms: float) -> Batch:
        batch = original(self, sequence, now_ms)
        local.append((batch.commands, batch.databases))
        return batch

    def apply(
        self: KeyspaceMachine, index: int, time_ms: int, commands: Any, databases: Any, reads: Any
    ) -> Any:
        if local:
            commands, databases = local.pop()
        return original_apply(self, index, time_ms, commands, databases, reads)

    local: list[tuple[list[list[bytes]], list[int]]] = []
    original, original_apply = Origin.applied, KeyspaceMachine.apply
    return [(Origin, "applied", applied), (KeyspaceMachine, "apply", apply)]


def _unknown_called_refused() -> Sequence[Replacement]:
    def refuse(self: Origin, batch: Batch, reason: Refusal) -> list[Any]:
        return original(self, batch, Refusal.NO_LEADER)

    original = Origin._refuse
    return [(Origin, "_refuse", refuse)]


def _never_sent_again() -> Sequence[Replacement]:
    def flush(self: Origin, leader_id: NodeId, term: int, now_ms: float) -> None:
        if leader_id and self._target[0]:
            self._target = (leader_id, term)
        original(self, leader_id, term, now_ms)

    def nothing(self: Origin, *_: object) -> None:
        return

    original = Origin.flush
    return [(Origin, "flush", flush), (Origin, "refused", nothing), (Origin, "link_restored", nothing)]


def _replies_change_places() -> Sequence[Replacement]:
    def answers(self: Batch, replies: Sequence[Any]) -> list[Any]:
        if len(self.groups) > 1 and len({count for _, count in self.groups}) == 1:
            self.groups.reverse()
        return original(self, replies)

    original = Batch.answers
    return [(Batch, "answers", answers)]


def _state_and_index_in_two_writes() -> Sequence[Replacement]:
    def commit(self: KeyspaceMachine, meta: dict[bytes, bytes]) -> None:
        original(self, {})
        original(self, meta)

    original = KeyspaceMachine.commit
    return [(KeyspaceMachine, "commit", commit)]


def _revision_without_the_place() -> Sequence[Replacement]:
    def run_writes(self: Execution, batch: Any, revision: int, start: int, end: int, replies: Any) -> None:
        for place in range(start, end):
            original(self, batch, revision - place, place, place + 1, replies)

    original = Execution._run_writes
    return [(Execution, "_run_writes", run_writes)]


# -- Compaction and snapshots --------------------------------------------------------------------------


def _install_rolls_back() -> Sequence[Replacement]:
    def install_snapshot(state: RaftState, install: InstallSnapshot) -> None:
        log = state.log
        if install.point.index <= log.commit_index and state.role is not Role.LEADER:
            log.commit_index = log.handed_index = log.applied_index = install.point.index - 1
            state.restore(install)
        original(state, install)

    original = follower.install_snapshot
    return [(follower, "install_snapshot", install_snapshot)]


# -- Membership ----------------------------------------------------------------------------------------


def _quorum_of_the_old_alone() -> Sequence[Replacement]:
    def groups(self: Configuration) -> tuple[tuple[NodeId, ...], ...]:
        return (self.old_voters or self.new_voters(),)

    return [(Configuration, "_groups", groups)]


def _no_joint_phase() -> Sequence[Replacement]:
    def joint(
        current: Configuration, voters: tuple[NodeId, ...], leaving: tuple[NodeId, ...]
    ) -> Configuration:
        return membership._settled(original(current, voters, leaving))

    original = membership._joint
    return [(membership, "_joint", joint)]


def _promotion_too_early() -> Sequence[Replacement]:
    def has_caught_up(state: RaftState, node_id: NodeId) -> bool:
        return True

    return [(membership, "has_caught_up", has_caught_up)]


def _removed_ids_are_forgotten() -> Sequence[Replacement]:
    def retain(self: SessionTable, members: Any) -> None:
        return

    return [(SessionTable, "retain", retain)]


def _replaced_one_stays() -> Sequence[Replacement]:
    def without(members: dict[NodeId, Any], node_id: NodeId, address: str) -> dict[NodeId, Any]:
        return members

    return [(changes, "_without", without)]


# Leaders are cut off and stopped, on fast machines, so that two of them overlap.
_TWO_LEADERS: Final = {
    "nodes": 3,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=320),
    "partitions": 3.0,
    "pauses": 3.0,
    "crashes": 0.0,
    "leaders_share": 0.9,
    "drift": 0.05,
    "delay_us": 100,
    "delay_tail": 0.0,
    "write_us": 50,
    "clients": 10,
    "crowd": 0.0,
    "think_ms": 20,
}
# Clients take old states, and their nodes are cut off or stop.
_STALE: Final = {
    **_TWO_LEADERS,
    "nodes": 5,
    "stale": 0.5,
    "max_stale_ms": 60,
    "delay_us": 30_000,
    "leaders_share": 0.3,
}
# The same with leases; middleboxes fence leaders off, and leaders hand over.
_LEASES: Final = {
    **_TWO_LEADERS,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=320, read_mode="lease"),
    "fences": 3.0,
    "transfers": 3.0,
    "pauses": 1.0,
    "delay_us": 8_000,
    "delay_tail": 0.1,
}
# Leaders that are heard by nobody go on hearing others, late.
_LATE_ECHOES: Final = {
    **_LEASES,
    "readers": 0.6,
    "clients": 20,
    "park_ms": 100,
    "request_timeout_ms": 150,
    "crashes": 0.0,
    "restarts": 0.0,
    "cuts": 2.0,
    "slows": 3.0,
    "partitions": 0.0,
    "pauses": 0.0,
    "fences": 0.0,
    "transfers": 0.0,
    "delay_us": 1_000,
    "delay_tail": 0.0,
    "loss": 0.0,
    "wipes": 0.0,
    "changes": 0.0,
}
# Nothing is slow, but middleboxes say that leaders are gone which go on serving their clients.
_FENCED: Final = {**_LEASES, "delay_us": 100, "delay_tail": 0.0, "partitions": 0.0, "fences": 4.0}
# Leaders hand over all the time, and are cut off before they hear that it has worked.
_DEAF: Final = {
    **_FENCED,
    "fences": 0.0,
    "pauses": 0.0,
    "partitions": 1.5,
    "kills": 0.0,
    "wipes": 0.0,
    "delay_us": 8_000,
    "transfers": 10.0,
}
# The same without leases; a follower of five stays with the old leader, and asks it.
_DEAF_WITH_ANOTHER: Final = {
    **_DEAF,
    "nodes": 5,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=320),
    "clients": 25,
    "readers": 0.6,
}
# Leaders fall while their followers are apart.
_SHORT_REIGNS: Final = {
    "nodes": 5,
    "raft": RaftConfig(heartbeat_ms=10, election_timeout_ms=50, append_bytes_max=1, inflight_appends_max=1),
    "partitions": 4.0,
    "crashes": 4.0,
    "down_ms": 100,
    "leaders_share": 0.9,
    "delay_tail": 0.1,
    "in_order": False,
    "clients": 10,
    "think_ms": 20,
}
# Leaders are cut off while many clients write to them: long logs that lose against short ones.
_LONG_LOSERS: Final = {
    "nodes": 3,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=320, batch_commands_max=1),
    "park_ms": 100,
    "request_timeout_ms": 150,
    "partitions": 3.0,
    "pauses": 0.0,
    "crashes": 2.0,
    "down_ms": 1000,
    "leaders_share": 0.9,
    "loss": 0.0,
    "clients": 5,
    "crowd": 1.0,
    "think_ms": 20,
    "group_max": 1,
}
# The same, and they are back before the others have written as much.
_LONGER_LOSERS: Final = {**_LONG_LOSERS, "partitions": 5.0, "down_ms": 300}
# Leaders are followed by nodes that were started again just before, with clocks that are far apart.
_RESTARTS: Final = {
    "nodes": 3,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=200),
    "crashes": 4.0,
    "down_ms": 100,
    "leaders_share": 0.5,
    "wall_spread_ms": 3000,
    "loss": 0.0,
    "think_ms": 20,
}
# Small logs, and nodes that are away for long enough to need a state.
_SNAPSHOTS: Final = {
    "nodes": 3,
    "raft": RaftConfig(
        heartbeat_ms=20, election_timeout_ms=160, compact_entries=5, keep_entries=0, keep_bytes_max=1024
    ),
    "partitions": 3.0,
    "crashes": 3.0,
    "down_ms": 300,
    "changes": 0.0,
    "loss": 0.0,
    "repeat": 0.2,
    "transfer_us": 1_000_000,
    "clients": 10,
    "think_ms": 20,
}
# The voters change all the time.
_CHANGES: Final = {"nodes": 3, "changes": 6.0, "crashes": 1.0, "partitions": 1.0, "wipes": 0.0, "loss": 0.0}
# Disks are lost all the time, and their nodes come back in their old places.
_REJOINS: Final = {**_CHANGES, "changes": 0.0, "rejoins": 3.0}
# Many small batches on their way, of which some vanish and some overtake others.
_GAPS: Final = {
    "nodes": 3,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=320, batch_commands_max=1),
    "loss": 0.1,
    "in_order": False,
    "clients": 10,
    "think_ms": 20,
}
# Two halves that both want to lead.
_EVEN: Final = {"nodes": 4, "partitions": 4.0, "crashes": 2.0, "loss": 0.0}
# A disk is lost early, and others are slow to see their next leader.
_WIPES: Final = {"nodes": 3, "wipes": 2.0, "crashes": 2.0, "partitions": 2.0}
# Much traffic and nothing broken, but every message takes its own time.
_OWN_TIME: Final = {
    "nodes": 5,
    "raft": RaftConfig(heartbeat_ms=40, election_timeout_ms=320),
    "partitions": 0.0,
    "crashes": 0.0,
    "pauses": 0.0,
    "loss": 0.0,
    "repeat": 0.2,
    "delay_us": 1_000,
    "delay_tail": 0.1,
    "in_order": False,
    "clients": 10,
    "crowd": 0.0,
    "think_ms": 20,
}

MUTATIONS: Final = (
    Mutation("vote not persisted", 30, _vote_not_persisted, first=4),
    Mutation("promises leave before the disk has them", 30, _promises_before_the_disk, first=3),
    Mutation("logs compared by length, then term", 150, _length_before_term, _LONGER_LOSERS, first=3),
    Mutation("two votes in a term", 30, _two_votes_per_term, _EVEN, first=4),
    Mutation("half of the voters elect", 30, _half_is_a_majority, _EVEN, first=7),
    Mutation("a wiped node votes", 150, _wiped_node_votes, _WIPES, first=3),
    Mutation("commit by counting older terms", 30, _commit_by_older_term, _SHORT_REIGNS, first=1),
    Mutation("commit counts what the leader has not written", 30, _commit_counts_own_unwritten, first=3),
    Mutation("commit by half of the voters", 30, _upper_middle_is_committed),
    Mutation("commit reaches into a stale tail", 150, _stale_tail_is_committed, _LONG_LOSERS),
    Mutation(
        "acceptance covers a stale tail", 150, _stale_tail_is_confirmed, _SHORT_REIGNS, first=20, rare=True
    ),
    Mutation("the log is cut where a late append ends", 30, _cut_without_conflict, _OWN_TIME, first=2),
    Mutation("the log is not compared", 30, _log_not_compared, first=9),
    Mutation("replaced entries count as written", 30, _acknowledged_though_replaced, first=3),
    Mutation("applied before it is durable here", 30, _applied_before_durable, first=1),
    Mutation("a lost append is not sent again", 30, _lost_append_is_lost, first=2),
    Mutation("time jumps at an election", 30, _time_jumps, first=10),
    Mutation("time is the leader's wall clock", 30, _time_is_wall_clock, first=3),
    Mutation(
        "a restarted leader asks no voter for the time", 150, _time_of_voters_not_heard, _RESTARTS, first=57
    ),
    Mutation("reads before an entry of the own term", 150, _reads_before_own_term, _SHORT_REIGNS, first=1),
    Mutation("a read joins an older round", 150, _read_joins_older_round, _OWN_TIME, first=27, rare=True),
    Mutation("reads without a round", 150, _read_without_a_round, _TWO_LEADERS, first=45),
    Mutation(
        "a read's asker and its leader are enough", 150, _asker_is_a_majority, _DEAF_WITH_ANOTHER, first=28
    ),
    Mutation("stale reads of any age", 150, _stale_reads_of_any_age, _STALE, first=2),
    Mutation("the age of a state counts from the answer", 150, _age_from_the_answer, _STALE, first=2),
    Mutation("a lease counts from the echo", 150, _lease_from_the_echo, _LATE_ECHOES, first=32),
    Mutation("a reset link ends a voter's promise", 150, _reset_ends_a_promise, _FENCED, first=7),
    Mutation("a lease goes on through a handover", 150, _handover_keeps_the_lease, _DEAF, first=60),
    Mutation("reads before the index is applied", 30, _read_before_applied, first=3),
    Mutation("reads expire keys by the node's clock", 30, _reads_expire_by_own_clock, first=7),
    Mutation("sequence not checked", 30, _sequence_not_checked, first=3),
    Mutation("a gap in the sequence is accepted", 30, _gap_accepted, _GAPS, first=3),
    Mutation("sessions lost at a restart", 30, _sessions_lost_at_restart, first=1),
    Mutation("results from the local copy of a batch", 150, _results_from_local_copy, first=10),
    Mutation("an unknown outcome is called a refusal", 150, _unknown_called_refused, first=8),
    Mutation("batches are not sent again to a new leader", 150, _never_sent_again, first=4),
    Mutation("replies of two clients change places", 30, _replies_change_places),
    Mutation("revision without the place in the entry", 30, _revision_without_the_place),
    Mutation("an install rolls back", 150, _install_rolls_back, _SNAPSHOTS, first=17),
    Mutation("quorum by the old configuration", 60, _quorum_of_the_old_alone, _CHANGES, first=5),
    Mutation("no joint phase", 30, _no_joint_phase, _CHANGES, first=1),
    Mutation("promotion before catching up", 30, _promotion_too_early, _CHANGES, first=2),
    Mutation("who comes in a lost one's place leaves it there", 30, _replaced_one_stays, _REJOINS, first=4),
    Mutation("sessions of removed nodes stay", 60, _removed_ids_are_forgotten, _CHANGES, first=34),
    Mutation("state and applied index in two writes", 150, _state_and_index_in_two_writes, first=9),
)
