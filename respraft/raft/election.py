"""Elections: who loses patience, who asks for votes, and who gets them.

    follower ──patience ends──> pre-candidate ──majority would vote──> candidate ──majority──> leader
        ^                            │                                     │
        └────── a leader is heard, the majority refuses, or a newer term ──┘

Patience ends when nothing was heard for it, or soon after the leader is known to be gone (`peer_gone`).
Then two survivors are likely to lose it together, so each waits 0 to 50 ms at random, anew when it has
granted a pre-vote meanwhile, and a round that failed is repeated after 50 to 100 ms, for one election
timeout.

A pre-vote asks whether an election would succeed and changes no term, so a node that can't win disturbs
nobody. Whoever has heard a leader within the base election timeout refuses both kinds of votes, unless
that leader itself wants to be replaced (`transfer`).

Who has not answered is asked again with the patience of a heartbeat. A link may come up, or be renewed, just
as an answer is on its way, and else one lost message would cost a whole election timeout.

What a vote rests on is on disk before it counts: a candidate's request leaves, and its own vote
counts, once its new term is durable; so does another's vote once that one's disk has it.

Raft paper: sections 5.2 and 5.4.1. Raft dissertation: sections 4.2.3 and 9.6.
"""

from respraft.raft import leader
from respraft.raft.message import (
    NOBODY,
    NodeId,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import Role
from respraft.raft.state import RaftState


def tick(state: RaftState) -> None:
    """A tick has passed on a node that doesn't lead."""
    if state.bound_by_past:
        state.bound_by_past = False
        state.bind(state.config.election_timeout_ms)
    if state.role is not Role.FOLLOWER and state.ticks >= state.ask_tick:
        _ask_voters(state)
    if state.ticks < state.election_tick or state.is_bound():
        return
    if state.may_campaign():
        campaign(state)
        return
    # A learner, a removed node, or one without a configuration: nothing to do but to know that nobody leads.
    state.leader = NOBODY
    state.reset_election_timer()


def peer_gone(state: RaftState, peer: NodeId) -> None:
    """The process of `peer` is known to have ended. If it led, there is nothing to be patient for.

    This node's knowledge is its own: whoever still hears that leader goes on refusing votes.
    """
    if state.role is not Role.FOLLOWER or state.leader != peer:
        return
    state.leader = NOBODY
    if state.may_campaign():
        state.wait_hastily()
        state.hasty_until_tick = state.election_tick + state.election_ticks


def campaign(state: RaftState, *, transfer: bool = False) -> None:
    """Try to become leader, asking first whether it would succeed. Does nothing where it can't.

    With `transfer` the present leader has asked for it: no pre-vote, and nobody protects that leader.
    """
    if state.role is Role.LEADER or not state.may_campaign():
        return
    if transfer:
        _stand(state, transfer=True)
        return
    state.role = Role.PRE_CANDIDATE
    state.leader = NOBODY
    state.ballots.clear()
    state.reset_election_timer()
    _ask_voters(state)
    _count(state, state.node_id, granted=True)


def on_timeout_now(state: RaftState, request: TimeoutNow) -> None:
    """This term's leader wants this node to take over. Who stands already, or has no vote, lets it pass."""
    if state.role is Role.FOLLOWER and state.leader in (NOBODY, request.sender):
        campaign(state, transfer=True)


def own_vote_durable(state: RaftState) -> None:
    """A write has completed on a candidate. If its vote for itself was in it, that vote counts now."""
    if state.durable_term == state.term and state.durable_vote == state.node_id:
        _count(state, state.node_id, granted=True)


def on_pre_vote_request(state: RaftState, request: PreVoteRequest) -> None:
    """Say whether a vote would be given. Changes nothing here, so nothing has to be durable.

    The request's term is the one that the sender would campaign in; a refusal carries ours, so that
    a sender who has fallen behind learns it.
    """
    granted = (
        request.term > state.term
        and not state.has_live_leader()
        and not state.is_bound()
        and state.log.is_up_to_date(request.last_index, request.last_term)
    )
    if granted and state.role is Role.FOLLOWER and state.ticks < state.hasty_until_tick:
        state.wait_hastily()
    term = request.term if granted else state.term
    state.send(request.sender, PreVoteResponse(state.node_id, term, granted))


def on_pre_vote_response(state: RaftState, response: PreVoteResponse) -> None:
    """Count it, if it belongs to the round under way."""
    asked_term = state.term + 1
    if state.role is Role.PRE_CANDIDATE and (not response.granted or response.term == asked_term):
        _count(state, response.sender, granted=response.granted)


def on_vote_request(state: RaftState, request: VoteRequest) -> None:
    """Vote, once per term, for a candidate whose log has at least what this one has.

    `node.step` has adopted a newer term already, and has ignored a request that a live leader outweighs.
    """
    assert request.term == state.term, "other terms are dealt with before"
    free = state.vote == request.sender or (state.vote == NOBODY and state.leader == NOBODY)
    free = free and (request.transfer or not state.is_bound())
    granted = free and state.log.is_up_to_date(request.last_index, request.last_term)
    if not granted:
        state.send(request.sender, VoteResponse(state.node_id, state.term, False, state.clock.wall_ms))
        return
    if state.role is Role.PRE_CANDIDATE:
        state.become_follower(state.term, NOBODY)
    state.vote = request.sender
    state.reset_election_timer()
    state.send_durable(
        request.sender,
        VoteResponse(state.node_id, state.term, True, state.clock.wall_ms, state.clock.heard()),
    )


def on_vote_response(state: RaftState, response: VoteResponse) -> None:
    """Count it, if an election is still under way. Its term is the current one."""
    if state.role is not Role.CANDIDATE:
        return
    if response.granted:
        state.clock.hear(response.sender, response.wall_ms)
        state.clock.learn(response.log_time)
    _count(state, response.sender, granted=response.granted)


def refuse_older_vote(state: RaftState, request: VoteRequest) -> None:
    """A candidate of an older term has to learn the current one."""
    state.send(request.sender, VoteResponse(state.node_id, state.term, False, state.clock.wall_ms))


def _stand(state: RaftState, *, transfer: bool) -> None:
    """Enter a new term as its candidate."""
    state.enter_term(state.term + 1, vote=state.node_id)
    state.role = Role.CANDIDATE
    state.leader = NOBODY
    state.ballots.clear()
    state.reset_election_timer()
    state.clock.forget_voters()
    state.stands_for_transfer = transfer
    _ask_voters(state)


def _ask_voters(state: RaftState) -> None:
    """Ask those who have not answered in this round for what it is about."""
    state.ask_tick = state.ticks + state.heartbeat_ticks
    log = state.log
    if state.role is Role.PRE_CANDIDATE:
        pre_vote = PreVoteRequest(state.node_id, state.term + 1, log.last_index, log.last_term)
        for voter in _not_answered(state):
            state.send(voter, pre_vote)
        return
    transfer = state.stands_for_transfer
    vote = VoteRequest(state.node_id, state.term, log.last_index, log.last_term, transfer)
    for voter in _not_answered(state):
        state.send_durable(voter, vote)


def _count(state: RaftState, voter: NodeId, *, granted: bool) -> None:
    """Note one answer, and end the round when it is decided."""
    configuration = state.configuration
    assert configuration is not None, "who campaigns has a configuration"
    ballots = state.ballots
    ballots[voter] = granted
    supporters = [each for each, yes in ballots.items() if yes]
    possible = [each for each in configuration.voters() if ballots.get(each, True)]
    if configuration.has_quorum(supporters):
        if state.role is Role.PRE_CANDIDATE:
            _stand(state, transfer=False)
        else:
            leader.become_leader(state)
    elif not configuration.has_quorum(possible):
        # Those who refused leave too few. Another has the better log, or a leader lives.
        state.become_follower(state.term, NOBODY)


def _not_answered(state: RaftState) -> list[NodeId]:
    configuration = state.configuration
    assert configuration is not None, "who campaigns has a configuration"
    return [
        voter for voter in configuration.voters() if voter != state.node_id and voter not in state.ballots
    ]
