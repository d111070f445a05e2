"""What a replica does while its node leads: it admits batches, keeps the log's time going, and hands over.

On every other node all of this stands still; `active` says which it is.
"""

import logging
from collections.abc import Sequence
from typing import Final

from respraft.config import RaftConfig
from respraft.raft.message import Index, NodeId, Term
from respraft.raft.node import RaftNode
from respraft.raft.ready import Role
from respraft.replica.admission import Admission
from respraft.replica.applier import Applier
from respraft.replica.handover import Handover
from respraft.replica.machine import Machine
from respraft.replica.payload import TIME_PAYLOAD, UnknownPayload
from respraft.replica.status import ReplicaCounters

TIME_ENTRY_MS: Final = 100.0
"""A due deadline is given a time entry at most this often, unless entries come anyway."""

_log: Final = logging.getLogger("respraft.replica")


class Leading:
    """A leader's part of a replica."""

    def __init__(
        self,
        *,
        core: RaftNode,
        applier: Applier,
        machine: Machine,
        raft: RaftConfig,
        counters: ReplicaCounters,
    ) -> None:
        """Begin as a node that does not lead.

        Args:
            core: Says whether it does, and takes what is appended.
            applier: Has the sessions as of what is applied.
            machine: Says which deadline comes next.
            raft: Bounds a handover, and what may wait for the disk.
            counters: Increased here.
        """
        self.handover = Handover(raft)
        self._raft = raft
        self._core = core
        self._applier = applier
        self._machine = machine
        self._counters = counters
        self._admission: tuple[Term, Admission] | None = None
        self._time_entry_ms = 0.0

    @property
    def active(self) -> bool:
        """Whether this node leads, as of the last `refresh`."""
        return self._admission is not None

    def refresh(self) -> None:
        """Keep a table of the sessions for the term that this node leads, and none otherwise."""
        core = self._core
        if core.role is not Role.LEADER:
            self._admission = None
        elif self._admission is None or self._admission[0] != core.term:
            tail = core.log.iterate(self._applier.index + 1)
            self._admission = (core.term, Admission(self._applier.sessions, tail))

    def append(self, payloads: Sequence[bytes], session: Index, sender: NodeId) -> tuple[int, int] | None:
        """Append those of an origin's payloads that are its next ones; see `Admission.append`.

        What `sender` has garbled is reported and left, with what came behind it: in a log it would stop
        every node.
        """
        assert self._admission is not None and self._core.transfer is None, "the caller has looked"
        # Whether this leader's disk is too far behind to append any more.
        full = self._core.log.unwritten_bytes > self._raft.unwritten_bytes_max
        try:
            return self._admission[1].append(payloads, session, self._core.propose, full=full)
        except UnknownPayload as error:
            _log.error("node %d sent a batch that is not taken: %s", sender, error)
            return None

    def append_time(self, now_ms: float) -> None:
        """With nothing else to append: let the log's time reach a due deadline.

        An entry that is on its way already carries a stamp, and the next look will tell whether it was
        enough.
        """
        core = self._core
        deadline = self._machine.next_deadline()
        if deadline is None or not core.takes_proposals or core.last_index > self._applier.index:
            return
        if deadline > core.clock.now_ms():
            return
        # With keys left that were due at the last stamp already, only the bound on one entry held them up.
        if deadline <= self._applier.log_time_ms or now_ms - self._time_entry_ms >= TIME_ENTRY_MS:
            self._time_entry_ms = now_ms
            self._counters.time_entries += 1
            core.propose(TIME_PAYLOAD)

    def released(self) -> list[tuple[NodeId, Index]]:
        """Return the origins, with their sessions, that a handover which came to nothing has held up."""
        return self.handover.release(self._core)
