"""What a node does on a leader's word: take entries, learn what is committed, answer.

Raft paper: figure 2 (AppendEntries), sections 5.3 and 5.4.
"""

from respraft.raft.message import (
    NOBODY,
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    InstallSnapshot,
    NodeId,
)
from respraft.raft.ready import Role
from respraft.raft.state import RaftState


def on_append(state: RaftState, request: AppendRequest) -> None:
    """Take the leader's entries, or refuse them with a hint where to retry.

    `node.step` has already dealt with other terms, so the request is the current leader's. Leads to exactly
    one answer, save that only the highest of several acceptances is sent.
    """
    _hear_leader(state, request.sender)
    log = state.log
    base_index, entries = request.base_index, request.entries

    known = log.commit_index - base_index
    if known > 0:
        # Late, or a cautious probe. What is committed here agrees with every leader's log (leader
        # completeness), so only what lies behind it needs a look.
        base_index, entries = log.commit_index, entries[known:]
    elif not log.matches(base_index, request.base_term):
        _refuse(state, request)
        return

    if entries:
        assert entries[0].index == base_index + 1, "an append's entries begin right behind its base"
        state.splice(entries)
        state.clock.follow_entry(entries[-1].time_ms)
    match_index = base_index + len(entries)
    # Bounded by match_index, not last_index: a stale tail of ours behind what the leader has just
    # confirmed must not be committed (Raft paper, figure 2).
    state.commit_to(min(request.commit_index, match_index))
    # And the answer speaks for match_index only, for the same reason.
    state.accept(match_index)


def on_heartbeat(state: RaftState, request: HeartbeatRequest) -> None:
    """The leader lives. Echo its round at once: the echo says nothing about the log."""
    _hear_leader(state, request.sender)
    state.clock.follow(request.time_ms)
    state.bind(request.promise_ms)
    # No more than this node has confirmed to this leader, so the log agrees with it up to there.
    state.commit_to(request.commit_index)
    echo = HeartbeatResponse(state.node_id, state.term, request.round, state.clock.wall_ms)
    state.send(request.sender, echo)


def install_snapshot(state: RaftState, install: InstallSnapshot) -> None:
    """Take a whole state that has arrived, unless this log is as far already or can get there by itself.

    What it contains is committed, and stays so whoever leads by now: were a change of leader a reason to
    refuse, a large state might never arrive. It is no sign of life of a leader either. But the term of the
    one that sent it is entered: an older leader may lack what this state holds, and a node that went on
    following it would confirm, or put behind the state, what was never part of the same log.

    Nothing is ever rolled back: a point at or below the commit index is a repeat or comes late. And where
    the log has the very entry of the point, it has everything before it, too, and what lies behind it may
    have been acknowledged and must stay (Raft paper, section 7): the log goes on, and the state is of no use.
    """
    point, log = install.point, state.log
    term = max(install.term, point.term)
    if term > state.term:
        state.become_follower(term, NOBODY)
    if state.role is Role.LEADER:
        return  # It has every entry that is committed, or it would not lead.
    if point.index > log.commit_index:
        if log.matches(point.index, point.term):
            state.commit_to(point.index)
        else:
            state.restore(install)
    if state.leader != NOBODY:
        state.accept(log.commit_index)


def refuse_older_append(state: RaftState, request: AppendRequest) -> None:
    """A leader of an older term has to learn the current one; no more of this answer counts."""
    state.send(request.sender, AppendResponse(state.node_id, state.term, 0, request.base_index, 0, 0))


def refuse_older_heartbeat(state: RaftState, request: HeartbeatRequest) -> None:
    """A leader of an older term has to learn the current one, which makes this answer void as an echo.

    Without it a node whose term ran ahead would be stuck: it heeds no older leader, and the others, who
    hear that leader, give it no vote.
    """
    echo = HeartbeatResponse(state.node_id, state.term, request.round, state.clock.wall_ms)
    state.send(request.sender, echo)


def _hear_leader(state: RaftState, sender: NodeId) -> None:
    assert state.leader in (NOBODY, sender), "two leaders in one term"
    if state.leader == NOBODY or state.role is not Role.FOLLOWER:
        state.become_follower(state.term, sender)
    state.leader_heard_tick = state.ticks
    state.hasty_until_tick = 0
    state.election_tick = state.ticks + state.patience_ticks


def _refuse(state: RaftState, request: AppendRequest) -> None:
    """Name the best place to try next, so that one round trip replaces one per missing entry.

    That is the last entry of ours at or below the base whose term is at most the base's: those in
    between have terms that the leader's log can't have there.
    """
    log = state.log
    hint_index = log.last_of_term_at_most(min(request.base_index, log.last_index), request.base_term)
    refusal = AppendResponse(
        state.node_id, state.term, 0, request.base_index, hint_index, log.term(hint_index)
    )
    state.send(request.sender, refusal)
