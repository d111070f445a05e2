"""What a leader does: append, replicate, count, and make sure that it still leads.

Everything that leaves for a peer is built in `prepare_output()`, once per turn: at most one append
message, however many proposals came, and one heartbeat round, however many reads wait.

Raft paper: sections 5.3, 5.4.2 and 8. Raft dissertation: sections 6.2, 6.4, 10.2.1.
"""

from typing import Final

from respraft.raft import membership, transfer
from respraft.raft.message import (
    KIND_NORMAL,
    NOBODY,
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Index,
    NodeId,
    ReadIndexRequest,
)
from respraft.raft.progress import Progress
from respraft.raft.ready import Role
from respraft.raft.state import RaftState

NOTICE_BYTES: Final = 32 << 10
"""An entry of this size takes a peer longer to apply than it takes both sides to tell of its commit."""


def become_leader(state: RaftState) -> None:
    """The election is won. Nothing is known of the others' logs, so each of them is probed."""
    assert state.role is Role.CANDIDATE, "a leader has been elected"
    assert state.durable_vote == state.node_id, "a leader's own vote is on disk"
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    state.role = Role.LEADER
    state.leader = state.node_id
    state.ballots.clear()
    state.clock.lead(state.log.last_time_ms)
    next_index = state.log.last_index + 1
    for peer_id in configuration.peers_of(state.node_id):
        state.peers[peer_id] = Progress(next_index, state.ticks)
    state.heartbeat_tick = state.ticks  # Due at once: tells everybody, and asks for their clocks.
    # The no-op of the new term. Entries of older terms can't be committed by counting them, so without
    # it they, and all reads, would wait for the next proposal (Raft paper, sections 5.4.2 and 8).
    append(state, b"")


def append(state: RaftState, payload: bytes) -> Index:
    """Put an entry at the end of the leader's log. It is stamped with the log's time."""
    return state.append_own(KIND_NORMAL, payload)


def tick(state: RaftState) -> None:
    """A tick has passed. A leader that hasn't heard a majority for an election timeout steps down.

    By then others may have elected another one, and this one's clients would wait in vain (Raft dissertation,
    section 6.2).
    """
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    oldest_tick = state.ticks - state.election_ticks
    alive = [peer_id for peer_id, peer in state.peers.items() if peer.heard_tick > oldest_tick]
    if not configuration.has_quorum([state.node_id, *alive]):
        state.become_follower(state.term, NOBODY)
        return
    transfer.tick(state)
    membership.tick(state)


def on_append_response(state: RaftState, response: AppendResponse) -> None:
    """A peer has taken an append, or refused it. Late answers and strangers change nothing."""
    peer = state.peers.get(response.sender)
    if peer is None:
        return
    peer.heard(state.ticks)
    log = state.log
    if response.reject_index:
        # Of our entries at or below its hint, those of a newer term than the hint's can't be there.
        hint_index = min(response.hint_index, log.last_index)
        peer.refused(response.reject_index, log.last_of_term_at_most(hint_index, response.hint_term))
        if peer.next_index < log.first_index and not peer.snapshot:
            peer.await_snapshot()
            state.snapshots.append(response.sender)
        if peer.snapshot:
            peer.hint_index = response.hint_index
        return
    assert response.match_index <= log.last_index, "a peer confirmed what was never sent"
    news = peer.accepted(response.match_index)
    if peer.snapshot and peer.match_index >= log.base.index:
        peer.probe(peer.match_index + 1)  # It has what it lacked, wherever that came from.
    if news:
        advance_commit(state)


def on_heartbeat_response(state: RaftState, response: HeartbeatResponse) -> None:
    """A peer has echoed a round: it is alive, and had not left this term when it did."""
    peer = state.peers.get(response.sender)
    if peer is None:
        return
    peer.heard(state.ticks)
    peer.answered_heartbeat(state.ticks, state.heartbeat_ticks)
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    if response.sender in configuration.voters():
        state.clock.hear(response.sender, response.wall_ms)
    if response.round > peer.acked_round:
        peer.acked_round = response.round
        _confirm_reads(state)


def on_read_index_request(state: RaftState, request: ReadIndexRequest) -> None:
    """Another node asks for its readers. Who doesn't lead refuses at once.

    The request is its sender's echo (`read_index.py`): where the two are a majority, that is the round.
    """
    if state.role is not Role.LEADER:
        state.answer_read(request.sender, request.token, 0)
        return
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    if _is_proven(state) and configuration.has_quorum((state.node_id, request.sender)):
        _let_read(state, request.sender, request.token, state.log.commit_index)
    else:
        state.reads.add(request.sender, request.token)


def peer_unreachable(state: RaftState, peer_id: NodeId) -> None:
    """The link to a peer has ended: what was sent last may be lost. Wait for a sign of life."""
    peer = state.peers.get(peer_id)
    if peer is not None:
        peer.link_ended = True
    if peer is not None and not peer.snapshot:  # Its transfer has a connection, and an end, of its own.
        _begin_anew(peer)


def snapshot_ended(state: RaftState, peer_id: NodeId) -> None:
    """The transfer of a state to a peer has ended, well or not. The next probe finds out what it has."""
    peer = state.peers.get(peer_id)
    if peer is not None and peer.snapshot:
        _begin_anew(peer)


def needed_by_peers(state: RaftState) -> list[Index]:
    """Match indexes of the peers that have been heard within an election timeout and get entries."""
    oldest_tick = state.ticks - state.election_ticks
    return [
        peer.match_index
        for peer in state.peers.values()
        if peer.heard_tick > oldest_tick and not peer.snapshot
    ]


def _begin_anew(peer: Progress) -> None:
    """Probe a peer at the last place known to match, once it gives a sign of life."""
    peer.probe(peer.match_index + 1)
    peer.paused = True


def expect_commit(state: RaftState, peer_id: NodeId, index: Index) -> None:
    """Clients of that peer wait for `index`: it has to hear of its commit in the turn in which it comes."""
    peer = state.peers.get(peer_id)
    if peer is not None:
        peer.wanted_commit = max(peer.wanted_commit, index)


def advance_commit(state: RaftState) -> None:
    """Commit what a majority has on disk, counting entries of the current term only.

    An entry of an older term may be on a majority and still be replaced by a later leader (Raft paper,
    figure 8); it is committed by one of this term behind it. The leader counts like everybody, up to
    what is on its own disk.
    """
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    log = state.log
    match = {peer_id: peer.match_index for peer_id, peer in state.peers.items()}
    match[state.node_id] = log.stable_index
    index = configuration.committed_index(match)
    if index > log.commit_index and log.term(index) == state.term:
        state.commit_to(index)


def prepare_output(state: RaftState) -> bool:
    """Queue the heartbeats and appends of this turn. Returns whether a bound left something to send.

    A leader whose removal has been committed tells that first, and then hands over.
    """
    membership.advance(state)
    commit_index = state.log.commit_index
    proven = _is_proven(state)
    if proven and state.lease_void_term != state.term and state.lease.holds(state.clock.monotonic_ms):
        for asker, token in state.reads.take_waiting():
            _let_read(state, asker, token, commit_index)
    if state.ticks >= state.heartbeat_tick or (proven and state.reads.wants_round):
        _send_round(state, commit_index if proven else None)
    more = False
    for peer_id, peer in state.peers.items():
        more |= _replicate(state, peer_id, peer)
    if not more:
        membership.resign_if_removed(state)
    if state.transfer is not None:
        transfer.proceed(state)
    return more


def _send_round(state: RaftState, read_index: Index | None) -> None:
    round_number = state.reads.begin_round(read_index)
    _confirm_reads(state)  # At once, where this node alone is the majority.
    if state.ticks < state.heartbeat_tick and not state.reads.under_way:
        return
    state.heartbeat_tick = state.ticks + state.heartbeat_ticks
    commit_index = state.log.commit_index
    time_ms, promise_ms = state.clock.now_ms(), state.lease.promise_ms
    state.lease.round_sent(round_number, state.clock.monotonic_ms)
    for peer_id, peer in state.peers.items():
        commit = min(peer.match_index, commit_index)
        state.send(
            peer_id,
            HeartbeatRequest(state.node_id, state.term, commit, round_number, time_ms, promise_ms),
        )


def _confirm_reads(state: RaftState) -> None:
    reads = state.reads
    if not (reads.under_way or state.lease.promise_ms):
        return
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    acked = {peer_id: peer.acked_round for peer_id, peer in state.peers.items()}
    acked[state.node_id] = reads.round
    echoed = configuration.committed_index(acked)
    state.lease.echoed(echoed)
    for (asker, token), index in reads.confirm(echoed):
        _let_read(state, asker, token, index)


def _is_proven(state: RaftState) -> bool:
    """Whether an entry of this term is committed: only then is all that predecessors had acknowledged."""
    return state.log.term(state.log.commit_index) == state.term


def _let_read(state: RaftState, asker: NodeId, token: object, index: Index) -> None:
    """Answer a reader, and see to it that its node soon knows of the commit of what it waits for."""
    state.answer_read(asker, token, index)
    expect_commit(state, asker, index)


def _notice_due(state: RaftState, peer: Progress, base_index: Index) -> bool:
    """Whether an empty append has to tell the peer of a commit, since no entries leave that would.

    At once, unless the driver says which peers' clients wait (`expect_commit`): then only to those. To the
    others the next entries are likely to carry the news soon, and what comes alone costs both sides a
    message and a turn; a tick is the longest that it waits. Of a large entry they hear at once, too: then
    they apply it while the leader does, and not when they have the next one to write.
    """
    told, known = peer.told_commit, min(state.log.commit_index, base_index)
    if told >= known:
        return False
    if state.notices_at_once or told < peer.wanted_commit or state.ticks > peer.sent_tick:
        return True
    log = state.log
    if known < log.first_index:
        return False
    return log.size_of(log.entries(known, known + 1, 1)[0].payload) >= NOTICE_BYTES


def _replicate(state: RaftState, peer_id: NodeId, peer: Progress) -> bool:
    """Queue at most one append for a peer. Returns whether there is more that it could take now."""
    if peer.snapshot:
        if peer.check_due:
            _ask_for_base(state, peer_id, peer)
        return False
    if peer.paused:
        return False
    log, config = state.log, state.config
    if peer.next_index < log.first_index:
        # What it needs next, as far as is known, is gone. But it may have more than it has confirmed to this
        # leader, so it is asked whether it has the base; only its refusal leads to a snapshot.
        peer.probe(log.first_index)
    base_index = peer.next_index - 1
    entries: list[Entry] = []
    if base_index < log.last_index and (
        peer.probing
        or (
            len(peer.inflight) < config.inflight_appends_max
            and peer.inflight_bytes < config.inflight_bytes_max
        )
    ):
        entries = log.entries(base_index + 1, log.last_index + 1, config.append_bytes_max)
    elif not (peer.probing or peer.check_due or _notice_due(state, peer, base_index)):
        return False  # Nothing to send, ask or tell.

    last_index = base_index + len(entries)
    peer.sent(last_index, sum([len(entry.payload) for entry in entries]), state.ticks)
    peer.told_commit = min(log.commit_index, last_index)
    base_term = log.term(base_index)
    state.send(
        peer_id,
        AppendRequest(state.node_id, state.term, base_index, base_term, log.commit_index, entries),
    )
    return bool(entries) and not peer.probing and last_index < log.last_index


def _ask_for_base(state: RaftState, peer_id: NodeId, peer: Progress) -> None:
    """Ask a peer that needs a state whether it has it: it said so once, and that may have been lost."""
    base = state.log.base
    peer.asked(state.ticks)
    state.send(
        peer_id,
        AppendRequest(state.node_id, state.term, base.index, base.term, state.log.commit_index, []),
    )
