"""What must hold, whatever happens: one property, one class, one sentence.

A checker is told what happens and asserts. It keeps its own books and trusts nothing that the nodes say of
themselves except what they do: what they put on disk, send, hand to their machine, and answer.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from respraft.commands.record import APART, RECORDS, VALUES, decode_record
from respraft.raft.configuration import Configuration
from respraft.raft.message import (
    KIND_CONFIGURATION,
    KIND_NORMAL,
    NOBODY,
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    Index,
    NodeId,
    Term,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import HardState, LogWrite, Role
from respraft.replica.compaction import ENTRY_BYTES
from respraft.replica.payload import KIND_BATCH, KIND_OPEN, parse_commands, parse_header
from respraft.replica.status import ReplicaMessage
from tests.simulation.client import Group, Outcome
from tests.simulation.linearizability import NEVER, Operation, Verdict, check, shortest_violation
from tests.simulation.model import Reply
from tests.simulation.node import Node

LEADERS_MESSAGES: Final = (AppendRequest, HeartbeatRequest)
"""Only a leader sends these."""

DiskId = tuple[NodeId, int]
"""Node and incarnation: an emptied disk is another one."""


class ElectionSafety:
    """At most one leader is elected in any term (Raft paper, figure 3)."""

    def __init__(self) -> None:
        self.leader_by_term: dict[Term, NodeId] = {}

    def observe(self, node_id: NodeId, term: Term) -> None:
        """A node leads, or speaks as a leader."""
        known = self.leader_by_term.setdefault(term, node_id)
        assert known == node_id, f"term {term}: n{known} and n{node_id} both lead"


class LogMatching:
    """Index and term name one entry, and everything before it (Raft paper, figure 3)."""

    def __init__(self) -> None:
        # With the term of the one before, and the disks that have had it.
        self._known: dict[tuple[Index, Term], tuple[Entry, Term, list[DiskId]]] = {}

    def written(self, disk: DiskId, entries: Sequence[Entry], term_before: Term) -> None:
        """A node writes these, behind an entry of that term."""
        for entry in entries:
            first: tuple[Entry, Term, list[DiskId]] = (entry, term_before, [])
            known, known_before, disks = self._known.setdefault((entry.index, entry.term), first)
            same = known == entry and known_before == term_before
            assert same, f"entry {entry.index} of term {entry.term} differs, or what is before it"
            if disk not in disks:
                disks.append(disk)
            term_before = entry.term

    def lost(self, disk: DiskId) -> None:
        """A disk is gone. What it alone had never was: its node may have founded the cluster by itself."""
        for place, (_, _, disks) in list(self._known.items()):
            if disk in disks:
                disks.remove(disk)
                if not disks:
                    del self._known[place]


class StateMachineSafety:
    """No two nodes apply different entries at the same index (Raft paper, figure 3)."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def applied(self, node_id: NodeId, entries: Sequence[Entry]) -> list[Entry]:
        """A node is about to apply these; return those that nobody applied before."""
        news: list[Entry] = []
        for entry in entries:
            if entry.index <= len(self.entries):
                known = self.entries[entry.index - 1]
                assert known == entry, f"n{node_id} applies another entry {entry.index} than others did"
            else:
                assert entry.index == len(self.entries) + 1, f"n{node_id} applies {entry.index} over a gap"
                self.entries.append(entry)
                news.append(entry)
        return news


class TransfersCanBeFollowed:
    """The log behind a state that is being brought to a peer is kept: within the limit on the log's size.

    What may be cut off then is not known to the byte here, so the rule holds in runs that stay below it.
    """

    def __init__(self, committed: Sequence[Entry], keep_bytes_max: int) -> None:
        """Take the log for good, which grows."""
        self._committed = committed
        self._keep_bytes_max = keep_bytes_max
        self._counted = self._bytes = 0

    def cut(self, node: Node, first_index: Index) -> None:
        """A node is about to cut its log off below `first_index`."""
        for entry in self._committed[self._counted :]:
            self._bytes += len(entry.payload) + ENTRY_BYTES
        self._counted = len(self._committed)
        for peer, index in node.states_thread.brought.items():
            assert first_index <= index + 1 or self._bytes >= self._keep_bytes_max, (
                f"n{node.id} cuts its log below {first_index} while it brings n{peer} a state as of {index}"
            )


class LeaderCompleteness:
    """A leader's log has every entry that was committed in an earlier term (Raft paper, figure 3)."""

    def __init__(self) -> None:
        self._committed: list[tuple[Entry, Term]] = []  # With the term in which that became known.

    def committed(self, entries: Iterable[Entry], term: Term) -> None:
        """Somebody in `term` says that these are committed."""
        self._committed += [(entry, term) for entry in entries]

    def leads(self, node: Node) -> None:
        """A node has become leader, in a term that may be over elsewhere."""
        log, own_term = node.core.log, node.core.term
        earlier = [entry for entry, term in self._committed[-50:] if term < own_term]
        for entry in earlier:
            if entry.index < log.base.index:
                continue  # In the state.
            there = entry.index <= log.last_index and log.term(entry.index) == entry.term
            assert there, f"n{node.id} leads term {own_term} without committed entry {entry.index}"


class SameState:
    """Two nodes that have applied the same entries have the same state, byte for byte."""

    def __init__(self) -> None:
        self._digest_at: dict[Index, tuple[bytes, NodeId]] = {}

    def observe(self, node_id: NodeId, index: Index, digest: bytes) -> None:
        """A node's state as of `index`."""
        known, other = self._digest_at.setdefault(index, (digest, node_id))
        assert known == digest, f"n{node_id} and n{other} differ at {index}"


class Durability:
    """Nothing is committed that a majority has not on disk, and nothing applied that this node has not.

    A joint configuration asks for a majority of both groups of voters. What a disk has in its state and not
    in its log any more is on disk, and was committed.
    """

    def __init__(self, committed: Sequence[Entry]) -> None:
        """Take the log for good, which grows."""
        self._committed = committed
        self._bases: dict[DiskId, Index] = {}  # Up to there a disk's log is gone, and is in its state.
        self._terms: dict[DiskId, list[Term]] = {}  # Of each entry behind that; those of lost disks stay.
        self.commit_index: Index = 0

    def booted(self, node: Node) -> None:
        """What a new life finds."""
        log, disk = node.log, (node.id, node.incarnation)
        low, high = log.first_index(), log.last_index() + 1
        self._bases[disk] = low - 1
        self._terms[disk] = [entry.term for entry in log.entries(low, high, 1 << 40)] if low < high else []

    def written(self, node: Node, write: LogWrite) -> None:
        """A write is durable."""
        disk = (node.id, node.incarnation)
        terms = self._terms[disk]
        if write.snapshot is not None:
            point = write.snapshot.point
            # What lies behind may have been acknowledged (Raft paper, section 7).
            assert self._term_at(disk, point.index) != point.term, (
                f"n{node.id} gives its log up for a state as of {point.index}, though it has that very entry"
            )
            self._bases[disk] = point.index
            terms.clear()
        if write.entries:
            del terms[write.entries[0].index - 1 - self._bases[disk] :]
            terms += [entry.term for entry in write.entries]
        if write.first_index:
            del terms[: write.first_index - 1 - self._bases[disk]]
            self._bases[disk] = write.first_index - 1

    def committed(self, node: Node, index: Index, configuration: Configuration) -> None:
        """A node says, as the first one, that everything up to `index` is committed.

        Args:
            node: The node.
            index: The last committed entry.
            configuration: The newest one in the node's log.
        """
        term = node.core.log.term(index)
        incarnations = {member.id: member.incarnation for member in configuration.members}
        groups = [[member.id for member in configuration.members if member.voter]]
        if configuration.old_voters:
            groups.append(list(configuration.old_voters))
        for voters in groups:
            disks = [(voter, incarnations[voter]) for voter in voters]
            holders = [disk for disk in disks if self._term_at(disk, index) == term]
            assert 2 * len(holders) > len(disks), (
                f"n{node.id} says that entry {index} of term {term} is committed; "
                f"it is on {holders} of {disks}"
            )
        self.commit_index = index

    def promoted(self, configuration: Configuration) -> None:
        """A leader gives these voters their votes: a new one has taken up the log, at least."""
        for member in configuration.members:
            if configuration.old_voters and member.voter and member.id not in configuration.old_voters:
                disk = (member.id, member.incarnation)
                has = self._bases.get(disk, 0) + len(self._terms.get(disk, []))
                assert has, f"n{member.id} gets a vote with an empty log"

    def applied(self, node: Node, entries: Sequence[Entry]) -> None:
        """A node is about to apply these."""
        for entry in entries:
            there = self._term_at((node.id, node.incarnation), entry.index) == entry.term
            assert there, f"n{node.id} applies entry {entry.index}, which is not on its own disk"

    def _term_at(self, disk: DiskId, index: Index) -> Term:
        base, terms = self._bases.get(disk, 0), self._terms.get(disk, [])
        if index <= base:
            return self._committed[index - 1].term
        return terms[index - 1 - base] if index - base <= len(terms) else 0


class Configurations:
    """Which configuration counts for whom: the newest one in a node's own log, committed or not.

    Kept apart from what the nodes think, from the entries that they write.
    """

    def __init__(self, committed: Sequence[Entry]) -> None:
        """Take the log for good, which grows."""
        self._committed = committed
        self._known: dict[tuple[Index, Term], Configuration] = {}

    def appended(self, entry: Entry) -> None:
        """A leader has made that entry; or a founder has, maybe anew after it lost its disk alone."""
        if entry.kind == KIND_CONFIGURATION:
            self._known[entry.index, entry.term] = Configuration.decode(entry.payload)

    def of(self, node: Node) -> Configuration:
        """Return the one that counts for a node."""
        log = node.core.log
        for index, term in sorted(self._known, reverse=True):
            if index > log.last_index:
                continue
            if (log.term(index) if index >= log.base.index else self._committed[index - 1].term) == term:
                return self._known[index, term]
        raise AssertionError(f"n{node.id} commits without a configuration")


class JointConsensus:
    """Voters change through a joint configuration only, and no id is ever given again."""

    def __init__(self) -> None:
        self._before: Configuration | None = None
        self._removed: set[NodeId] = set()

    def committed(self, configuration: Configuration) -> None:
        """The next configuration of the log for good."""
        before, self._before = self._before, configuration
        ids = {member.id for member in configuration.members}
        assert not ids & self._removed, f"{sorted(ids & self._removed)} were removed, and are back"
        if before is None:
            return
        self._removed |= {member.id for member in before.members} - ids
        voters_before, voters = (
            [member.id for member in each.members if member.voter] for each in (before, configuration)
        )
        entered = not before.old_voters and list(configuration.old_voters) == voters_before
        left = bool(before.old_voters) and not configuration.old_voters and voters == voters_before
        stayed = voters == voters_before and configuration.old_voters == before.old_voters
        assert entered or left or stayed, f"voters change at once from {before} to {configuration}"


class StateNeverGoesBack:
    """A node's state never goes back within a life, nor, over a crash, behind what was flushed."""

    def __init__(self) -> None:
        self._flushed: dict[DiskId, Index] = {}
        self._applied: dict[DiskId, Index] = {}

    def applied(self, disk: DiskId, index: Index) -> None:
        """A node's state is as of `index` now."""
        before = self._applied.get(disk, 0)
        assert index >= before, f"the state of n{disk[0]} goes back from entry {before} to {index}"
        self._applied[disk] = index

    def flushed(self, disk: DiskId, index: Index) -> None:
        """Everything up to `index` survives a crash from now on."""
        self._flushed[disk] = max(index, self._flushed.get(disk, 0))

    def booted(self, disk: DiskId, index: Index) -> None:
        """A life begins with a state as of `index`."""
        before = self._flushed.get(disk, 0)
        assert index >= before, f"n{disk[0]} is back with a state as of {index}, but {before} was flushed"
        self._applied[disk] = index


class CommitByOwnTerm:
    """A leader commits by counting entries of its own term only (Raft paper, figure 8)."""

    @staticmethod
    def committed(node: Node, index: Index) -> None:
        """A node says, as the first one, that everything up to `index` is committed."""
        core = node.core
        if core.role is Role.LEADER:
            term = core.log.term(index)
            assert term == core.term, f"n{node.id} commits entry {index} of term {term} in term {core.term}"


class PromisesKept:
    """Neither term nor vote go back across a restart, and no node votes twice in a term."""

    def __init__(self) -> None:
        self._written: dict[DiskId, HardState] = {}
        self._promised_term: dict[DiskId, Term] = {}
        self._votes: dict[tuple[DiskId, Term], NodeId] = {}

    def written(self, disk: DiskId, hard_state: HardState) -> None:
        """A write is durable."""
        self._written[disk] = hard_state

    def booted(self, disk: DiskId, hard_state: HardState) -> None:
        """A life begins with this."""
        before = self._written.get(disk, HardState())
        promised = max(before.term, self._promised_term.get(disk, 0))
        assert hard_state.term >= promised, f"n{disk[0]} is back in term {hard_state.term} of {promised}"
        vote = self._votes.get((disk, hard_state.term), NOBODY)
        assert vote in (NOBODY, hard_state.vote), f"n{disk[0]} forgot its vote of term {hard_state.term}"

    def sent(self, disk: DiskId, message: ReplicaMessage) -> None:
        """A node promises something."""
        if isinstance(message, VoteRequest):
            self._vote(disk, message.term, disk[0])
        elif isinstance(message, AppendResponse) and not message.reject_index:
            self._promised_term[disk] = max(message.term, self._promised_term.get(disk, 0))

    def voted(self, disk: DiskId, to: NodeId, message: VoteResponse) -> None:
        """A node answers a candidate."""
        if message.granted:
            self._vote(disk, message.term, to)

    def _vote(self, disk: DiskId, term: Term, candidate: NodeId) -> None:
        known = self._votes.setdefault((disk, term), candidate)
        assert known == candidate, f"n{disk[0]} votes for n{known} and n{candidate} in term {term}"
        self._promised_term[disk] = max(term, self._promised_term.get(disk, 0))


class LogTime:
    """The stamps in the log never decrease, and never run faster than the leader's clock may."""

    SPEED_MAX = 1.1
    SLACK_MS = 20.0

    def __init__(self, drift: float, vote_ms: int) -> None:
        """Take the largest error of a node's clock, and how long a vote may be under way.

        A vote waits for its voter's disk, and what it says of the time is as old by then.
        """
        self._vote_ms = vote_ms
        self._speed_max = self.SPEED_MAX * (1 + drift)
        self._born_us: dict[tuple[Index, Term], int] = {}
        self._fresh_terms: set[Term] = set()
        self._known_term: dict[Term, Term] = {}

    def leads(self, term: Term, known_term: Term) -> None:
        """Somebody leads, and goes on by the time of `known_term`, the newest that those who voted know.

        Where none of them has heard a leader since its start (0), it begins anew by the voters' clocks, and
        others may follow its time without any entry of its being committed. The next one who leads may go
        back to the time before, if all that it can hear of is that.
        """
        self._known_term[term] = known_term
        if not known_term:
            self._fresh_terms.add(term)

    def appended(self, entry: Entry, observed_us: int) -> None:
        """A leader appends an entry; it has looked at its clock at that time."""
        self._born_us[entry.index, entry.term] = observed_us

    def committed(self, before: Entry | None, entry: Entry) -> None:
        """`entry` follows `before` in the log for good."""
        if before is None or not before.time_ms:
            return
        step_ms = entry.time_ms - before.time_ms
        assert step_ms >= 0, f"time goes back by {-step_ms} ms at entry {entry.index}"
        if entry.term != before.term:
            oldest = min(before.term, self._known_term.get(entry.term, 0) + 1)
            if any(oldest <= term <= entry.term for term in self._fresh_terms):
                return
        born_us, before_us = (self._born_us[each.index, each.term] for each in (entry, before))
        most_ms = (born_us - before_us) / 1000 * self._speed_max + self.SLACK_MS
        if entry.term != before.term:
            most_ms += self._vote_ms
        assert step_ms <= most_ms, f"time jumps by {step_ms} ms, not {most_ms:.0f}, at entry {entry.index}"


class NothingLost:
    """Every acknowledged write is in the log for good."""

    def __init__(self, applied: Mapping[bytes, int]) -> None:
        """Take the values that name the commands in the log for good, which grow."""
        self._applied = applied

    def ended(self, group: Group) -> None:
        """A client knows what became of its group."""
        if group.outcome is Outcome.ANSWERED:
            for operation in group.operations:
                lost = len(operation.command) > 2 and operation.command[2] not in self._applied
                assert not lost, f"{operation.command!r} was acknowledged, not applied"


class ExactlyOnce:
    """No write is applied more than once, however often it was sent, and no refused one at all."""

    def __init__(self) -> None:
        self._sessions: dict[NodeId, tuple[Index, int, int]] = {}  # Number, nonce, sequence.
        self._nodes: dict[Index, NodeId] = {}  # Of each session number.
        self._members: set[NodeId] = set()
        self.applied: dict[bytes, int] = {}  # Place in the log, by the value that names the command.
        self._refused: set[bytes] = set()
        self._increments: dict[bytes, set[Reply]] = {}  # Replies, by counter.
        self.counts: dict[bytes, int] = {}  # Increments that were applied, by counter.

    def committed(self, entry: Entry) -> None:
        """The next entry of the log for good."""
        if entry.kind != KIND_NORMAL or not entry.payload:
            return
        kind, first, second = parse_header(entry.payload)
        if kind == KIND_OPEN:
            if first in self._members and self._sessions.get(first, (0, 0, 0))[1] != second:
                self._sessions[first] = (entry.index, second, 0)
                self._nodes[entry.index] = first
        elif kind == KIND_BATCH:
            number, nonce, sequence = self._sessions.get(self._nodes.get(first, NOBODY), (0, 0, 0))
            if number == first and second == sequence + 1:
                self._sessions[self._nodes[first]] = (number, nonce, second)
                self._batch(*parse_commands(entry.payload))

    def configured(self, configuration: Configuration) -> None:
        """These are the members now: what comes next in the log from others is not applied."""
        self._members = {member.id for member in configuration.members}
        for node_id in [each for each in self._sessions if each not in self._members]:
            del self._sessions[node_id]

    def ended(self, group: Group) -> None:
        """A client knows what became of its group."""
        for operation in group.operations:
            name, value = operation.command[0], b"".join(operation.command[2:3])
            if group.outcome is Outcome.REFUSED and value:
                assert value not in self.applied, f"{operation.command!r} was refused and applied"
                self._refused.add(value)
            elif group.outcome is Outcome.ANSWERED and name == b"INCR":
                replies = self._increments.setdefault(operation.key, set())
                assert operation.reply not in replies, f"{operation.key!r}: two INCR got {operation.reply!r}"
                replies.add(operation.reply)

    def _batch(self, commands: Sequence[list[bytes]], databases: list[int]) -> None:
        for place, command in enumerate(commands):
            database = databases[place] if databases else 0
            if command[0] == b"INCR":
                key = b"%s@%d" % (command[1], database)
                self.counts[key] = self.counts.get(key, 0) + 1
            elif len(command) > 2:
                value = command[2]
                assert value not in self.applied, f"{command!r} was applied twice"
                self.applied[value] = len(self.applied)
                assert value not in self._refused, f"{command!r} was refused, and applied later"


class StaleReads:
    """A stale read sees everything that anybody had been told `max_stale_ms` before, or before it was asked.

    The latter where it had to wait like any other read.
    """

    def __init__(self, drift: float) -> None:
        self._slowest = 1 - drift  # A node measures the age by its own clock.
        self._told: list[tuple[int, Index]] = []  # When, and as of which index; both rise.

    def told(self, now_us: int, index: Index) -> None:
        """A client was answered from a state as of `index`, because that was known to be the newest."""
        if not self._told or index > self._told[-1][1]:
            self._told.append((now_us, index))

    def answered(self, now_us: int, asked_us: int, index: Index, max_stale_ms: int) -> None:
        """A stale read was answered from a state as of `index`."""
        oldest_us = min(asked_us, now_us - max_stale_ms * 1000 / self._slowest)
        place = bisect(self._told, oldest_us, key=lambda each: each[0])
        seen = self._told[place - 1][1] if place else 0
        assert index >= seen, f"a stale read at {index}, though {seen} was known {max_stale_ms} ms ago"


class RevisionsAreUnique:
    """Every key that is there was written by another command, so no two have the same revision."""

    @staticmethod
    def observe(node: Node) -> None:
        """Look at a node's whole state."""
        seen: dict[int, bytes] = {}
        for key, stored in node.store.iterate(*_rows(RECORDS)):
            revision = decode_record(stored).revision
            other = seen.setdefault(revision, key)
            assert other == key, f"n{node.id} has {other!r} and {key!r} of the same revision {revision:x}"


class HeadsHaveValues:
    """A record that lies in two rows has both of them, and there is no row of a value without its head."""

    @staticmethod
    def observe(node: Node) -> None:
        """Look at a node's whole state, once all of it is in the store."""
        node.machine.flush()
        heads = [key for key, row in node.store.iterate(*_rows(RECORDS)) if row[0] & APART]
        values = list(node.store.keys(*_rows(VALUES)))
        assert [key[1:] for key in heads] == [key[1:] for key in values], f"n{node.id}: {heads} but {values}"


def _rows(kind: bytes) -> tuple[bytes, bytes]:
    return kind, bytes((kind[0] + 1,))


class Linearizability:
    """Each key has one order of its operations, within their real times, that explains all replies."""

    def __init__(self) -> None:
        self.operations: dict[bytes, list[Operation]] = {}
        self.undecided: list[bytes] = []

    def ended(self, group: Group) -> None:
        """A client knows what became of its group."""
        if group.outcome is Outcome.REFUSED or group.stale:
            return
        for operation in group.operations:
            if group.outcome is Outcome.ANSWERED or operation.command[0] != b"GET":
                self.operations.setdefault(operation.key, []).append(operation)

    def finish(self, log_places: Mapping[bytes, int]) -> None:
        """Search, key by key; `log_places` says where the log has the command of each value."""
        for key, operations in sorted(self.operations.items()):
            for each in operations:
                if len(each.command) > 2:
                    each.log_place = log_places.get(each.command[2], NEVER)
            verdict = check(operations)
            if verdict is Verdict.UNDECIDED:
                self.undecided.append(key)
            assert verdict is not Verdict.VIOLATED, self._report(key, operations)

    @staticmethod
    def _report(key: bytes, operations: Sequence[Operation]) -> str:
        lines = [
            f"  {each.invoked:6} to {each.returned or '?':>6}: "
            f"{b' '.join(each.command).decode()} -> {each.reply!r}"
            for each in sorted(shortest_violation(operations), key=lambda each: each.invoked)[-30:]
        ]
        return "\n".join([f"no order explains the replies of {key.decode()}:", *lines])


class Liveness:
    """Once faults have stopped, somebody leads within bounded time and every waiting client is answered."""

    def up(self, nodes: Sequence[Node]) -> None:
        """Everybody has been started again."""
        down = [node.id for node in nodes if not node.up and not node.gone]
        assert not down, f"still down: {down}"

    def leader(self, nodes: Sequence[Node]) -> None:
        """The time for an election has passed."""
        leaders = {node.core.leader for node in nodes}
        assert len(leaders) == 1, f"no common leader: {[(n.id, n.core.role, n.core.leader) for n in nodes]}"
        assert NOBODY not in leaders, "nobody leads"

    def rejoined(self, nodes: Sequence[Node]) -> None:
        """The time to come back, for those who were lost and join again, has passed."""
        assert not nodes, f"not back: {[node.id for node in nodes]}"

    def settled(self, configuration: Configuration | None, nodes: Sequence[Node]) -> None:
        """The time for a change of the membership to be completed has passed.

        `configuration` is the last committed one. A leader that has a later one in its log is amid a change
        too, and may be for long: its first entry is committed only once the remaining voters have it.
        """
        assert configuration is None or configuration.settled, f"no end of a change: {configuration}"
        leaders = [node for node in nodes if node.core.role is Role.LEADER]
        assert leaders, "nobody leads"
        leader = max(leaders, key=lambda node: node.core.term)
        wanted = leader.core.configuration
        assert wanted == configuration, f"n{leader.id} has not committed a change: {wanted}"

    def answered(self, waiting: Sequence[object]) -> None:
        """The time for an answer has passed."""
        assert not waiting, f"still waiting: {waiting}"

    def served(self, groups: Sequence[Group]) -> None:
        """These were sent to a healthy cluster."""
        for group in groups:
            answered = group.outcome is Outcome.ANSWERED
            assert answered, f"n{group.node_id}: {group.outcome.name} for {group}"

    def agreed(self, nodes: Sequence[Node]) -> None:
        """Nothing has happened for some time."""
        indexes = {node.id: node.replica.status().applied_index for node in nodes}
        assert len(set(indexes.values())) == 1, f"some are left behind: {indexes}"
