"""What Raft nodes say to each other, and the entries that their logs hold.

One kind of message is one class, and the class is the wire format: an array-like msgspec struct whose
first element is its tag. `peer/` adds frames around it and knows nothing about the contents.

Conventions that hold for every message:

* `sender` is the node that built the message; the driver checks it against the link it came in on.
* `term` is the sender's current term, save in `PreVoteRequest`, where it is the term the sender *would*
  campaign in.
* Indexes start at 1, so 0 always means "none".
* Entries of one message are contiguous and in order.

Raft paper: figure 2 (votes, appends); Raft dissertation: sections 3.10 (transfer), 6.4 (read index), 9.6
(pre-vote).
"""

from typing import Final, TypeAlias

import msgspec

NodeId: TypeAlias = int  # Given once, never reused; 0 means "nobody".
Term: TypeAlias = int  # Grows by elections only; 0 before the first election.
Index: TypeAlias = int  # Log position, from 1; 0 means "before the first entry".

NOBODY: Final = 0

KIND_NORMAL: Final = 0
"""The payload belongs to the replica; an empty one is the no-op of a new leader."""
KIND_CONFIGURATION: Final = 1
"""The payload is a `configuration.Configuration`; it counts from the moment it is appended."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One slot of the replicated log. Never changed after it is built."""

    index: Index
    term: Term
    time_ms: int  # Log time, Unix epoch; never decreases from entry to entry.
    kind: int  # KIND_NORMAL or KIND_CONFIGURATION.
    payload: bytes


class HeardTime(msgspec.Struct, array_like=True, frozen=True):
    """What a node knows of the log's time: what a leader's clock said last, and how long ago that was.

    Of two the better one is of the newer term and, within a term, the one that was heard later.
    """

    term: Term = 0  # That leader's. 0: this process has heard none, and knows nothing.
    said_ms: int = 0  # The log's time, Unix epoch.
    ago_ms: int = 0  # By the monotonic clock of the node that heard it.


NO_TIME: Final = HeardTime()


class SnapshotPoint(msgspec.Struct, array_like=True, frozen=True):
    """The last entry that a state contains; all zero for the state before the first one."""

    index: Index = 0
    term: Term = 0
    time_ms: int = 0  # Log time, Unix epoch.


class InstallSnapshot(msgspec.Struct, frozen=True):
    """Another node's whole state has arrived here and can be opened (Raft paper, section 7).

    No message: the state travels in many pieces on a connection of its own, and the receiving driver builds
    this when the last one is on disk: `term` is what the offer said, all else it finds *inside* that state.
    A state holds only what is committed, so every leader of that term or a newer one has all of it.
    """

    term: Term  # Of the leader that offered it, at that time.
    point: SnapshotPoint
    configuration: bytes  # As of the point, encoded.
    state_number: int  # The name of the state in the data directory.
    state: object  # The state, for the machine.


class PreVoteRequest(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """Would you vote for me in `term`? Changes nothing at the receiver."""

    sender: NodeId
    term: Term  # The sender's current term + 1.
    last_index: Index
    last_term: Term


class PreVoteResponse(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A grant echoes the asked term; a refusal carries the receiver's own."""

    sender: NodeId
    term: Term
    granted: bool


class VoteRequest(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Vote for me in `term`. With `transfer` the old leader asked for this election."""

    sender: NodeId
    term: Term
    last_index: Index
    last_term: Term
    transfer: bool


class VoteResponse(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """A grant is on disk before it is sent. `wall_ms` is the voter's wall clock, Unix epoch.

    A grant also says what the voter knows of the log's time, for a candidate that knows less.
    """

    sender: NodeId
    term: Term
    granted: bool
    wall_ms: int
    log_time: HeardTime = NO_TIME


class AppendRequest(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """Leader to follower: put `entries` right after `base_index`.

    An empty `entries` is a probe, or a notice that `commit_index` has moved: it asks whether the base
    matches, and tells.
    """

    sender: NodeId
    term: Term
    base_index: Index
    base_term: Term
    commit_index: Index
    entries: list[Entry]  # Contiguous, first index is base_index + 1.


class AppendResponse(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """Follower to leader: exactly one of `match_index` and `reject_index` says something.

    Accepted (`reject_index` 0): the logs agree up to `match_index`, durably. Refused: retry with a base
    at or below `hint_index`, whose entry here has `hint_term`.
    """

    sender: NodeId
    term: Term
    match_index: Index
    reject_index: Index  # The base that was refused; 0 when accepted.
    hint_index: Index
    hint_term: Term


class HeartbeatRequest(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """Leader to follower: I lead `term`. `round` is echoed; reads wait for a quorum of echoes.

    `commit_index` is at most what the follower is known to hold, so no log check is needed.
    `time_ms` is the leader's log clock, so that a successor can carry it on without a jump.
    Who echoes it promises to elect nobody for `promise_ms` from its receipt on (`lease.py`).
    """

    sender: NodeId
    term: Term
    commit_index: Index
    round: int
    time_ms: int
    promise_ms: int = 0  # 0: the leader counts on nothing but rounds.


class HeartbeatResponse(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """Echo of a heartbeat's round, with the follower's wall clock (Unix epoch) for the log clock."""

    sender: NodeId
    term: Term
    round: int
    wall_ms: int


class ReadIndexRequest(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """Follower to leader: from which index on may I answer reads that arrived before this was made?

    `term` is the sender's own as it makes this, after those reads have come: the leader takes it for an echo.
    """

    sender: NodeId
    term: Term
    token: tuple[int, int]  # Start counter of the asking process, number of the request in it.


class ReadIndexResponse(msgspec.Struct, tag=10, array_like=True, frozen=True):
    """Leader to follower: reads under `token` may run once `index` is applied.

    `index` 0 is a refusal (not the leader, or no longer): ask the leader of a newer term.
    """

    sender: NodeId
    term: Term
    token: tuple[int, int]
    index: Index


class TimeoutNow(msgspec.Struct, tag=11, array_like=True, frozen=True):
    """Leader to the voter that is to take over, and whose log is as long as its own: stand at once."""

    sender: NodeId
    term: Term


Message: TypeAlias = (
    PreVoteRequest
    | PreVoteResponse
    | VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | HeartbeatRequest
    | HeartbeatResponse
    | ReadIndexRequest
    | ReadIndexResponse
    | TimeoutNow
)
