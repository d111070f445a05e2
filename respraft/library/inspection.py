"""A running node's own view, and its log, as values of the library."""

from typing import Any

from respraft.library.configuration import Entry, Member, Status
from respraft.library.errors import NoSuchEntry
from respraft.library.user_machine import NO_NAME
from respraft.node.node import Node
from respraft.raft.configuration import Configuration
from respraft.raft.message import KIND_CONFIGURATION, NOBODY, Index
from respraft.raft.message import Entry as RaftEntry
from respraft.replica.payload import KIND_BATCH, KIND_OPEN, parse_commands, parse_header


def status_of(node: Node[Any]) -> Status:
    """Return a snapshot of a node."""
    state = node.replica.status()
    raft = state.raft
    return Status(
        id=node.node_id,
        cluster=node.cluster_id,
        role=str(raft.role),
        term=raft.term,
        leader=None if raft.leader == NOBODY else raft.leader,
        members=_members(raft.configuration),
        first_index=raft.first_index,
        last_index=raft.last_index,
        last_term=raft.last_term,
        commit_index=raft.commit_index,
        applied_index=state.applied_index,
        log_time_ms=state.log_time_ms,
        refused=state.refused,
    )


def entry_of(node: Node[Any], index: Index) -> Entry:
    """Return a committed entry of a node's log.

    Raises:
        NoSuchEntry: It is not in the log.
    """
    log = node.log_store
    # What is committed may not be on this node's own disk yet.
    commit = min(node.replica.status().raft.commit_index, log.last_index())
    if not log.first_index() <= index <= commit:
        raise NoSuchEntry(index, log.first_index(), commit)
    return _entry(log.entries(index, index + 1, 0)[0])


def _entry(entry: RaftEntry) -> Entry:
    kind, commands, members = "noop", tuple[tuple[bytes, ...], ...](), tuple[Member, ...]()
    if entry.kind == KIND_CONFIGURATION:
        kind, members = "members", _members(Configuration.decode(entry.payload))
    elif entry.payload:
        payload_kind = parse_header(entry.payload)[0]
        kind = "session" if payload_kind == KIND_OPEN else "time"
        if payload_kind == KIND_BATCH:
            kind, commands = "commands", _commands(entry.payload)
    return Entry(
        index=entry.index,
        term=entry.term,
        time_ms=entry.time_ms,
        kind=kind,
        commands=commands,
        members=members,
    )


def _commands(payload: bytes) -> tuple[tuple[bytes, ...], ...]:
    words = parse_commands(payload)[0]
    return tuple(tuple(args[1:] if args[0] == NO_NAME else args) for args in words)


def _members(configuration: Configuration | None) -> tuple[Member, ...]:
    if configuration is None:
        return ()
    return tuple(Member(each.id, each.peer, each.client, each.voter) for each in configuration.members)
