"""A batch: the commands of one turn, and the clients that wait for it. `payload.py` has its form in the log.

The reads of a batch are not in the payload. They are kept here, with the position at which they
run, and so are the clients that wait.
"""

import enum
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from respraft.replica.machine import AttachedRead, Command, Reply
from respraft.replica.payload import EMPTY, Body

Client: TypeAlias = Any
"""Whoever waits for replies; opaque here, handed back with them."""


class Refusal(enum.Enum):
    """Why a group gets an error instead of its replies, and so whether its writes may have happened."""

    NO_LEADER = enum.auto()
    """Never handed over: not executed."""
    BUSY = enum.auto()
    """Past the limit on what is in flight: not executed."""
    NO_CLUSTER = enum.auto()
    """This node is not a member of a cluster: not executed."""
    LOADING = enum.auto()
    """This node still replays its log: not executed."""
    REPLY_LOST = enum.auto()
    """Applied through a snapshot, which carries no replies: executed, once."""
    OUTCOME_UNKNOWN = enum.auto()
    """Handed over and not seen applied in time: executed once or not at all."""
    READ_UNCONFIRMED = enum.auto()
    """No quorum confirmed the leader in time; only reads, and none was executed."""
    NOT_HANDED_OVER = enum.auto()
    """Leadership went to nobody, or not to whom it was to go, in time."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one client's group of commands has been waiting for: its replies in order, or a refusal."""

    client: Client
    count: int  # Commands in the group; len(replies) unless refused.
    replies: Sequence[Reply]  # Empty when refused.
    refusal: Refusal | None = None
    unrun: Sequence[Command] = ()  # Reads behind those that were answered, to be asked for again.


class Batch:
    """The commands that this node's clients gave in one turn, in the order in which they came.

    `groups` says whose replies are whose: a client has one group in a batch, and the counts add up to
    `len(commands) + len(reads)`.
    """

    __slots__ = (
        "_body",
        "bytes_total",
        "commands",
        "created_ms",
        "databases",
        "groups",
        "handed_ms",
        "reads",
        "repeatable",
        "sequence",
    )

    def __init__(self, created_ms: float) -> None:
        self.commands: list[Command] = []
        self.databases: list[int] = []  # Empty while every command is in database 0.
        self.reads: list[AttachedRead] = []
        self.groups: list[tuple[Client, int]] = []
        self.repeatable: dict[int, object] = {}  # Groups without writes, by place: what was given with them.
        self.bytes_total = 0
        self.created_ms = created_ms
        self.handed_ms = 0.0  # When a sequence was given; 0 before.
        self.sequence = 0
        self._body: Body | None = None

    def add(
        self,
        client: Client,
        writes: list[Command],
        reads: Sequence[tuple[int, Command]],
        database: int,
        size: int,
        repeatable: object = None,
    ) -> None:
        """Append one client's group. A read's position counts the writes of its own group before it."""
        if repeatable is not None:
            self.repeatable[len(self.groups)] = repeatable
        base = len(self.commands)
        if database and not self.databases:
            self.databases = [0] * base
        if database or self.databases:
            self.databases += [database] * len(writes)
        self.commands += writes
        for position, command in reads:
            self.reads.append((base + position, database, command))
        self.groups.append((client, len(writes) + len(reads)))
        self.bytes_total += size

    def withdraw(self, client: Client, size: int) -> bool:
        """Take a client's group out again, as if it had never come; tell whether it was here.

        Only of a batch that was not handed over, and whose groups hold one write each and no read: what else
        a group holds is not known any more.
        """
        if self.reads or len(self.groups) != len(self.commands):
            return False
        for place, (each, _) in enumerate(self.groups):
            if each is client:
                del self.groups[place], self.commands[place]
                if self.databases:
                    del self.databases[place]
                self._body = None
                self.bytes_total -= size
                return True
        return False

    def payload(self, session: int, pack_bytes_min: int) -> bytes:
        """Return the log payload under `session` and this batch's sequence. The body is encoded once.

        Args:
            session: This node's.
            pack_bytes_min: See `RaftConfig`.
        """
        if self._body is None:
            self._body = Body(self.commands, self.databases, pack_bytes_min)
        return self._body.payload(session, self.sequence)

    def answers(self, replies: Sequence[Reply]) -> list[Answer]:
        """Share `replies`, in merged order, out to the clients. A refused batch has none left."""
        groups = self.groups
        if len(groups) == 1:
            return [Answer(groups[0][0], len(replies), replies)]
        out = []
        start = 0
        for client, count in groups:
            out.append(Answer(client, count, replies[start : start + count]))
            start += count
        return out

    def refuse(self, reason: Refusal) -> list[Answer]:
        """Answer everybody with `reason`, and let nothing of the batch run later than that.

        What is sent again under this sequence is empty from here on. The commands may still run if a
        payload that was sent before is in a log already.
        """
        out = [Answer(client, count, (), reason) for client, count in self.groups]
        self.groups = []
        self.reads = []
        self.commands = []
        self._body = EMPTY
        return out

    def lose_replies(self) -> tuple[list[Answer], list[object]]:
        """It was applied where nobody could see its replies: tell those who wrote.

        Returns:
            Their answers, and what was given with groups that only read: those can be read anew.
        """
        out = [
            Answer(client, count, (), Refusal.REPLY_LOST)
            for place, (client, count) in enumerate(self.groups)
            if place not in self.repeatable
        ]
        repeatable = list(self.repeatable.values()) if self.groups else []
        self.groups = []
        return out, repeatable
