"""Applying: committed entries into the machine, and own batches back into answers.

A run of entries is one atomic write of the machine, together with what the replica keeps in the state:
the index, term and log time of the last entry, the sessions, and the newest committed configuration.
"""

import struct
from collections.abc import Sequence
from typing import Final

from respraft.raft.configuration import Configuration
from respraft.raft.message import KIND_CONFIGURATION, Entry, Index, NodeId, Term
from respraft.replica.batch import Answer
from respraft.replica.machine import Machine
from respraft.replica.origin import Origin
from respraft.replica.payload import KIND_BATCH, KIND_OPEN, parse_commands, parse_header
from respraft.replica.session import SessionTable
from respraft.replica.status import ReplicaCounters, Samples

META_APPLIED: Final = b"applied"
META_SESSIONS: Final = b"sessions"
META_CONFIGURATION: Final = b"configuration"

_APPLIED: Final = struct.Struct("<QQQ")  # Index, term, log time in ms.


class Applier:
    """The applied end of the log: machine, sessions, and how far they have come."""

    def __init__(
        self, *, node_id: NodeId, machine: Machine, origin: Origin, counters: ReplicaCounters
    ) -> None:
        """Go on where the machine's state ends.

        Args:
            node_id: This node, whose sessions are its own.
            machine: Owned by this object from here on.
            origin: Told when own sessions open and own batches apply.
            counters: Increased here.
        """
        self.machine = machine
        self.load()
        self._node_id = node_id
        self._origin = origin
        self._counters = counters

    def adopt(self, node_id: NodeId) -> None:
        """This node has been given an id."""
        self._node_id = node_id

    def load(self) -> None:
        """Go on where the machine's state ends: at the start, and when it was replaced by another one."""
        machine = self.machine
        self.index, self.term, self.log_time_ms = load_applied(machine)
        sessions = machine.meta(META_SESSIONS)
        self.sessions = SessionTable.decode(sessions) if sessions else SessionTable()
        configuration = machine.meta(META_CONFIGURATION)
        self.configuration = Configuration.decode(configuration) if configuration else None

    def apply(self, entries: Sequence[Entry], now_ms: float, samples: Samples) -> list[Answer]:
        """Apply a run of entries and write it. An answer for which the write failed never leaves.

        Args:
            entries: Committed and locally durable, beginning right behind `index`.
            now_ms: The driver's clock, for the samples.
            samples: Get the figures of own batches.
        """
        assert entries[0].index == self.index + 1, "entries are applied without a gap"
        answers: list[Answer] = []
        meta: dict[bytes, bytes] = {}
        for entry in entries:
            if entry.kind == KIND_CONFIGURATION:
                meta[META_CONFIGURATION] = entry.payload
                self.configuration = Configuration.decode(entry.payload)
                self.sessions.retain(self.configuration.ids())
            elif entry.payload:
                answers += self._apply_payload(entry, now_ms, samples)
            self.machine.expire(entry.index, entry.time_ms)
        last = entries[-1]
        meta[META_APPLIED] = _APPLIED.pack(last.index, last.term, last.time_ms)
        meta[META_SESSIONS] = self.sessions.encode()
        self.machine.commit(meta)
        self.index, self.term, self.log_time_ms = last.index, last.term, last.time_ms
        return answers

    def _apply_payload(self, entry: Entry, now_ms: float, samples: Samples) -> list[Answer]:
        kind, first, second = parse_header(entry.payload)
        if kind == KIND_BATCH:
            return self._apply_batch(entry, first, second, now_ms, samples)
        if kind == KIND_OPEN and (self.configuration is None or self.configuration.member(first) is None):
            return []  # Asked for before the node was removed, and too late.
        opened = kind == KIND_OPEN and self.sessions.open(first, second, entry.index)
        if opened and first == self._node_id:
            self._origin.opened(entry.index, second)
        return []

    def _apply_batch(
        self, entry: Entry, session: Index, sequence: int, now_ms: float, samples: Samples
    ) -> list[Answer]:
        own = session == self._origin.session
        counters = self._counters
        if not self.sessions.advance(session, sequence):
            counters.batches_skipped += 1
            if own:
                self._origin.skipped()
            return []
        commands, databases = parse_commands(entry.payload)
        counters.batches_applied += 1
        counters.commands_applied += len(commands)
        if not own:
            self.machine.apply(entry.index, entry.time_ms, commands, databases, ())
            return []
        batch = self._origin.applied(sequence, now_ms)
        counters.own_batches += 1
        counters.own_commands += len(commands)
        samples.batch_ms.append(now_ms - batch.created_ms)
        samples.batch_commands.append(len(commands))
        replies = self.machine.apply(entry.index, entry.time_ms, commands, databases, batch.reads)
        return batch.answers(replies)


def load_applied(machine: Machine) -> tuple[Index, Term, int]:
    """Return index, term and log time of the last entry in the machine's state; zeros for an empty one."""
    return decode_applied(machine.meta(META_APPLIED))


def decode_applied(value: bytes | None) -> tuple[Index, Term, int]:
    """Return the same from the value itself. Raises ValueError if it is none."""
    if not value:
        return 0, 0, 0
    if len(value) != _APPLIED.size:
        raise ValueError(f"the applied index has {len(value)} bytes instead of {_APPLIED.size}")
    return _APPLIED.unpack(value)
