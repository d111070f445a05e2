"""The contract between the core and whoever drives it, stated once.

The driver feeds a `RaftNode` (`node.py`) with messages, ticks and proposals and then calls
`take_ready()`. What a `Ready` asks for, and in which order:

1. **Send `messages` at once.** They rest on nothing that is not on disk already.
2. **Write `write`, if there is one, as one atomic synced write**: hard state, removal of everything below
   `first_index` and at or above the first entry, and the entries. Or, with `snapshot`: hard state, the name
   of the state that was received, its point as the base of the log, removal of the whole log. Meanwhile go
   on: step, tick, propose, take the next `Ready`. At most one write is in flight; what gathers meanwhile is
   the next one.
3. **When it is durable**, call `persisted(write.number)`, then send `write.messages`, leaving out those
   whose term is no longer the node's. Never before: each of them is a promise about what is on disk.
4. **Apply `committed`**, in order. Each entry is handed out once in a process's life, and only when it is
   both committed and durable here, as is the term, so that flushed <= applied <= durable. Call `applied()`.
   When a write with a `snapshot` completes, the machine goes over to that state *before* `persisted()` is
   called; what is committed next lies behind it, and nothing is handed out in between.
5. **Run `reads`** once the machine has applied their index; ask again for `reads_refused`.
6. **Send a snapshot to `snapshots`**: what these peers need next is gone from the log. They are sent
   nothing but heartbeats until `snapshot_ended()` is called, or they say that they have what they lack.
7. With `more`, call `take_ready()` again without waiting for input: a bound cut this one short.

Nothing in a `Ready` belongs to the core any more once it is handed out, and nobody changes it.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from respraft.raft.configuration import Configuration
from respraft.raft.message import Entry, Index, InstallSnapshot, Message, NodeId, SnapshotPoint, Term


class NotLeader(Exception):
    """Only a leader can do that, and this node is none. Nothing was appended or queued."""


class TransferRefused(Exception):
    """Leadership can't be handed over like that. Nothing has changed; the text says why."""


class AlreadyStarted(Exception):
    """A cluster can't be formed here: this node has a log, or has taken part in an election."""


class Role(StrEnum):
    """What a node is in its current term."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"  # Asks whether an election would succeed; its term is unchanged.
    CANDIDATE = "candidate"
    LEADER = "leader"


class HardState(msgspec.Struct, array_like=True, frozen=True):
    """What must survive a crash besides the log."""

    term: Term = 0
    vote: NodeId = 0  # Whom this node voted for in `term`; 0: nobody yet.
    commit: Index = 0  # A lower bound, written along with other things; it never causes a write.


@dataclass(frozen=True, slots=True)
class LogWrite:
    """One synced write. Atomic: after a crash all of it is there, or none."""

    number: int
    """1, 2, ... in one process's life; `persisted()` names it."""
    hard_state: HardState
    entries: list[Entry]
    """Contiguous. They replace everything at or above `entries[0].index`; empty: the log stays."""
    messages: list[tuple[NodeId, Message]]
    """To be sent once this is durable, save those of an older term by then."""
    first_index: Index = 0
    """Entries below it are removed, all of them applied and flushed; 0: none."""
    snapshot: InstallSnapshot | None = None
    """This state takes the place of the machine's and of the whole log; `entries` is empty then."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What is to be done now; see the module's docstring for the order."""

    messages: list[tuple[NodeId, Message]]
    write: LogWrite | None
    committed: list[Entry]
    reads: list[tuple[object, Index]]
    """Tokens of `read_index()` and the index that must be applied before the read runs."""
    reads_refused: list[object]
    """Tokens whose leadership was lost before it was proven. Nothing is known; ask again."""
    snapshots: list[NodeId]
    """Peers that need one, each named once for every `snapshot_ended()`."""
    more: bool


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What a leader knows of one other member."""

    id: NodeId
    match_index: Index
    next_index: Index
    probing: bool
    """Its log is being compared; entries stream only once a common point is found."""
    snapshot: bool
    """It needs entries that are gone, and gets a snapshot."""
    hint_index: Index
    """Where the log ended of one that gets a snapshot, when it was last asked."""
    in_flight: int
    """Appends sent and not answered."""
    heard_ticks_ago: int


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """A snapshot of one node for people, metrics and tests. Changes nothing, holds no live object."""

    id: NodeId
    role: Role
    term: Term
    vote: NodeId
    leader: NodeId
    base: SnapshotPoint
    """The last entry that is gone from the log; all zero before the first cut."""
    first_index: Index
    last_index: Index
    last_term: Term
    stable_index: Index
    """0 while a received state is about to take the place of the log."""
    commit_index: Index
    commit_term: Term
    """Of the entry there. Below `term`, more may be committed than this node knows: it has heard of no commit
    in this term, and counts from what it had written down."""
    applied_index: Index
    configuration: Configuration | None
    peers: tuple[PeerStatus, ...]
    """Sorted by id; empty unless leading."""
    reads_waiting: int
    transfer_to: NodeId
    """Whom this leader is handing over to; NOBODY while it isn't."""
    clock_skew_ms: int
    """Largest distance of a voter's wall clock from the median; known to a leader only, else 0."""
