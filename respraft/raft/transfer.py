"""Handing leadership over: the leader picks its successor and lets it stand at once.

    begin ──> wait until the target's log is as long as ours ──TimeoutNow──> it stands, and we hear its term
      │                                                                          │
      └── no proposals are taken meanwhile ── an election timeout later: give up, and go on leading

The target skips the pre-vote, and its request says `transfer`, so that nobody protects the leader who wanted
this. Pausing proposals is what lets the target catch up, and its log win, in bounded time.

A lease ends when a handover begins, and for the whole term: a TimeoutNow that is late on its way may still
let the target stand long after this leader has given up, and nobody will refuse it for our sake.

Raft dissertation: section 3.10.
"""

from typing import Final

from respraft.raft.message import NOBODY, NodeId, TimeoutNow
from respraft.raft.ready import TransferRefused
from respraft.raft.state import RaftState, Transfer

NO_TARGET: Final = "no other voter is alive to take over"


def begin(state: RaftState, to: NodeId) -> None:
    """Begin to hand over to `to`, or to the best voter (NOBODY). This node leads.

    Raises:
        TransferRefused: Nothing has changed; the text says why.
    """
    if state.transfer is not None:
        if to in (NOBODY, state.transfer.target):
            return
        raise TransferRefused(f"leadership is being handed to node {state.transfer.target} already")
    check(state, to)
    target = to or _best(state)
    if target == NOBODY:
        raise TransferRefused(NO_TARGET)
    state.transfer = Transfer(target, state.ticks + state.election_ticks)
    state.lease_void_term = state.term


def check(state: RaftState, to: NodeId) -> None:
    """See whether `to` may lead, as far as this node knows, which need not lead itself.

    Raises:
        TransferRefused: The text says why not.
    """
    configuration = state.configuration
    assert configuration is not None, "who leads, or hears a leader, has a configuration"
    if to != NOBODY and configuration.member(to) is None:
        raise TransferRefused("node id does not exist")
    if to != NOBODY and to not in configuration.voters():
        raise TransferRefused(f"node {to} is a learner and cannot lead")


def tick(state: RaftState) -> None:
    """A tick has passed on a leader: give up after an election timeout, and go on leading."""
    transfer = state.transfer
    if transfer is not None and (state.ticks >= transfer.end_tick or transfer.target not in state.peers):
        state.transfer = None


def proceed(state: RaftState) -> None:
    """Tell the target to stand once it has everything, and again if nothing comes of it. Once per turn."""
    transfer = state.transfer
    if transfer is None or state.ticks < transfer.ask_tick:
        return
    peer = state.peers.get(transfer.target)
    if peer is not None and peer.match_index == state.log.last_index:
        transfer.ask_tick = state.ticks + state.heartbeat_ticks
        state.send(transfer.target, TimeoutNow(state.node_id, state.term))


def _best(state: RaftState) -> NodeId:
    """The voter that is alive and has most of the log; the lowest id of those that are equal."""
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    oldest_tick = state.ticks - state.election_ticks
    voters = configuration.voters()
    alive = [
        (-peer.match_index, peer_id)
        for peer_id, peer in state.peers.items()
        if peer_id in voters and peer.is_alive(oldest_tick)
    ]
    return min(alive)[1] if alive else NOBODY
