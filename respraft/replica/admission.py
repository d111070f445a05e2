"""Admission: which payloads a leader appends.

The leader appends only what would apply: it keeps a session table that is ahead of the state by the
unapplied end of its log, and refuses every batch that is not the next one of its session. It never drops
one in silence, because an origin that hears nothing can only wait.

The table is made anew for each term that this node leads, from the applied state and the log behind it. It
is exact: between the election and the step-down nobody but this leader appends.

A leader whose disk can't keep up appends nothing more for a while. The others don't need it to commit, so
nothing else would stop the end of its log, which is held in memory, from growing: neither the clients, whose
own nodes answer them, nor their time-outs.
"""

from collections.abc import Callable, Iterable, Sequence

from respraft.raft.configuration import Configuration
from respraft.raft.message import KIND_CONFIGURATION, KIND_NORMAL, Entry, Index, NodeId
from respraft.replica.payload import KIND_BATCH, KIND_OPEN, parse_header
from respraft.replica.session import SessionTable


class Admission:
    """The leader's view of all sessions, up to the end of its log."""

    def __init__(self, applied: SessionTable, tail: Iterable[Entry]) -> None:
        """Run the rules of the state over the log's unapplied `tail`."""
        self._table = applied.copy()
        for entry in tail:
            if entry.kind == KIND_CONFIGURATION:
                self._table.retain(Configuration.decode(entry.payload).ids())
            if entry.kind != KIND_NORMAL or not entry.payload:
                continue
            kind, first, second = parse_header(entry.payload)
            if kind == KIND_BATCH:
                self._table.advance(first, second)
            elif kind == KIND_OPEN:
                self._table.open(first, second, entry.index)

    def append(
        self,
        payloads: Sequence[bytes],
        session: Index,
        propose: Callable[[bytes], Index],
        *,
        full: bool = False,
    ) -> tuple[int, int] | None:
        """Hand those of `payloads` to `propose` that are the next of their session when their turn comes.

        With `full` no batch is appended, since too much waits for the disk; its origin will offer it again.

        Returns:
            None when all were appended; else (offered, expected): the first sequence that was refused
            and the one that is expected of `session` now, 0 if that is not current. No payloads at all are
            a question, which is answered with an offer of 0.
        """
        offered = 0
        for payload in payloads:
            kind, first, second = parse_header(payload)
            if kind == KIND_OPEN:
                self._open(payload, first, second, propose)
            elif kind == KIND_BATCH and not full and self._table.advance(first, second):
                propose(payload)
            else:
                offered = offered or second
        if payloads and not offered:
            return None
        return offered, self._table.expected(session)

    def _open(self, payload: bytes, node_id: NodeId, nonce: int, propose: Callable[[bytes], Index]) -> None:
        known = self._table.of(node_id)
        if known is None or known.nonce != nonce:
            self._table.open(node_id, nonce, propose(payload))
