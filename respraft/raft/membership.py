"""Changes of who is in the cluster: what may be asked, and which configurations lead there.

A change is asked for as the whole list of members that is wanted. What has no bearing on the voters (a
learner added or removed, an address) is one configuration entry. A change of the voters is always joint, so
several of them may be replaced at once, and has up to three steps, each an entry:

    settled ──> planned ───all new voters have caught up───> joint ───committed───> settled
        └───────no new voter, or all have caught up────────────^

* **Planned**: new members join as learners and receive the log; those who shall go still vote. The plan
  is in the configuration, so a later leader carries it on. It ends when every new voter has caught up and
  is alive. A learner that can't keep up is never promoted; whoever asked may withdraw the plan by
  a change that wants it no longer.
* **Joint**: every decision needs a majority of the old voters and one of the new ones. The leader, whoever
  it is by then, leaves this step by itself once it is committed.
* **Settled**: those who left are no members any more, and their ids are never given again.

**Caught up** is measured in rounds (Raft dissertation, section 4.2.1): a round ends when the learner has
what the log held at the round's beginning, and one that took at most an election timeout shows that the
learner would hold up the others' commits for no longer than an election does (`progress.py`).

**A leader that leaves** leads until the configuration without it is committed, without counting itself. Then
it hands leadership to the voter that has most of the log, and steps down. Members that left are sent the log
until they have been told of that commit, or an election timeout has passed, so that they know.

One change at a time: none while another is not committed, joint or planned; and none before the leader has
committed an entry of its own term, or two leaders could change different things at once (the flaw of the
first single-server algorithm, which Ongaro corrected in 2015).

Raft paper: section 6. Raft dissertation: chapter 4.
"""

import contextlib
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from respraft.raft import transfer
from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import KIND_CONFIGURATION, NOBODY, Index, NodeId
from respraft.raft.progress import Progress
from respraft.raft.ready import TransferRefused
from respraft.raft.state import RaftState

MEMBERS_MAX: Final = 64
"""Members of a cluster, learners included. Each costs the leader a copy of every entry."""


class ChangeRefused(Exception):
    """The membership is not changed in this way. Nothing was appended; the text says what to do."""


class ChangeInProgress(ChangeRefused):
    """Another change is under way: one at a time."""


class LeaderNotReady(ChangeRefused):
    """The leader was elected a moment ago and does not know yet what is committed, or is about to go."""


class WrongMembers(ChangeRefused):
    """The wanted list contradicts itself: no voter, too many members, an address or id twice."""


class IdUsed(ChangeRefused):
    """A wanted id is or was another node's."""


class QuorumAtRisk(ChangeRefused):
    """Too few of the wanted voters are alive: the cluster would stand still."""


def change(state: RaftState, wanted: Iterable[Member]) -> Index | None:
    """Begin to change the membership to exactly `wanted`, on the leader.

    Args:
        state: The leader's.
        wanted: All members; `voter` says who shall have a vote.

    Returns:
        The index of the first entry; the change is complete once a *settled* configuration behind it
        is committed. None: the members are what is wanted.

    Raises:
        ChangeRefused: One of the classes above says why. Nothing was changed.
    """
    members = check(state, wanted)
    current = _configuration(state)
    if current.settled and members == current.members:
        return None
    return _append(state, _first_step(state, current, members))


def check(state: RaftState, wanted: Iterable[Member]) -> tuple[Member, ...]:
    """Raise what `change` would, and change nothing. Returns the members, sorted."""
    members = tuple(sorted(wanted, key=lambda member: member.id))
    current = _configuration(state)
    if current.settled and members == current.members:
        return members
    if state.log.term(state.commit_index) != state.term:
        raise LeaderNotReady("the leader was elected a moment ago; try again")
    if state.transfer is not None:
        raise LeaderNotReady("leadership is being handed over; try again")
    _check_members(current, members)
    _check_one_at_a_time(state, current, members)
    _first_step(state, current, members)
    return members


def advance(state: RaftState) -> None:
    """Take the next step of the change under way, if it is due. Called on the leader in each turn.

    A leader that finds an unfinished change in its log carries it on, once it knows that the last step
    is committed.
    """
    current = _configuration(state)
    if current.settled or state.transfer is not None:
        return
    commit_index = state.commit_index
    if state.configurations.index > commit_index or state.log.term(commit_index) != state.term:
        return
    if current.old_voters:
        _append(state, _settled(current))
    elif _may_be_promoted(state, current):
        _append(state, _joint(current, current.planned_voters, current.leaving))


def tick(state: RaftState) -> None:
    """A tick has passed on the leader: see who keeps up, and let go of those who left."""
    last_index, commit_index, ticks = state.last_index, state.commit_index, state.ticks
    for peer_id, peer in list(state.peers.items()):
        peer.measure_round(last_index, ticks, state.election_ticks)
        if not peer.left_index or commit_index < peer.left_index:
            continue
        if peer.told_commit >= peer.left_index or ticks - peer.left_tick > state.election_ticks:
            del state.peers[peer_id]


def resign_if_removed(state: RaftState) -> None:
    """A leader without a vote, by a configuration that is committed, hands over, and steps down in any case.

    Called at the end of a turn, when everybody has been sent that commit. Handing over lets no time pass
    without a leader; where nobody can take over, the others' timers find out.
    """
    if state.configurations.index > state.commit_index or _configuration(state).is_voter(state.node_id):
        return
    if state.transfer is not None:
        return
    if not state.resigning:
        state.resigning = True
        with contextlib.suppress(TransferRefused):
            transfer.begin(state, NOBODY)
            return
    state.become_follower(state.term, NOBODY)


def has_caught_up(state: RaftState, node_id: NodeId) -> bool:
    """On the leader: whether that member is alive and keeps up with the log, so that it may be promoted."""
    peer = state.peers.get(node_id)
    return peer is not None and peer.keeps_up and node_id in _alive(state)


# Steps


def _first_step(state: RaftState, current: Configuration, members: tuple[Member, ...]) -> Configuration:
    kept = {member.id for member in members}
    voters = tuple([member.id for member in members if member.voter])
    old_voters = current.new_voters()
    leaving = tuple([voter for voter in old_voters if voter not in kept])
    removed_learners = {member.id for member in current.members if not member.voter} - kept
    # The voters stay as they are for now; everything else changes with the first entry.
    first = Configuration(
        members=tuple(
            sorted(
                [replace(member, voter=member.id in old_voters) for member in members]
                + [member for member in current.members if member.id in leaving],
                key=lambda member: member.id,
            )
        ),
        removed_ids=_united(current.removed_ids, removed_learners),
        origin=current.origin,
    )
    if voters == old_voters:
        return first
    fresh = [voter for voter in voters if voter not in old_voters]
    _check_quorum(state, first, voters, fresh)
    if all(has_caught_up(state, voter) for voter in fresh):
        return _joint(first, voters, leaving)
    return replace(first, planned_voters=voters, leaving=leaving)


def _joint(current: Configuration, voters: tuple[NodeId, ...], leaving: tuple[NodeId, ...]) -> Configuration:
    return replace(
        current,
        members=tuple([replace(member, voter=member.id in voters) for member in current.members]),
        old_voters=current.new_voters(),
        planned_voters=(),
        leaving=leaving,
    )


def _settled(current: Configuration) -> Configuration:
    return replace(
        current,
        members=tuple([member for member in current.members if member.id not in current.leaving]),
        old_voters=(),
        leaving=(),
        removed_ids=_united(current.removed_ids, current.leaving),
    )


def _append(state: RaftState, configuration: Configuration) -> Index:
    """Append it. It counts from now on, so the log is sent to exactly its members; and to those who left."""
    index = state.append_own(KIND_CONFIGURATION, configuration.encode())
    state.clock.keep_voters(configuration.voters())
    present = configuration.peers_of(state.node_id)
    peers = state.peers
    for peer_id in present:
        if peer_id not in peers:
            peers[peer_id] = Progress(index, state.ticks)
    for peer_id, peer in peers.items():
        if peer_id not in present and not peer.left_index:
            peer.left_index, peer.left_tick = index, state.ticks
            peer.wanted_commit = index
    state.peers = dict(sorted(peers.items()))
    if not configuration.is_voter(state.node_id):
        # It steps down with this commit, and there is no later turn to tell anybody in.
        for peer in peers.values():
            peer.wanted_commit = index
    return index


# Checks


def _check_one_at_a_time(state: RaftState, current: Configuration, members: tuple[Member, ...]) -> None:
    if state.configurations.index > state.commit_index or current.old_voters:
        raise ChangeInProgress("another change of the membership is under way; try again when it is done")
    if not current.planned_voters:
        return
    voters = [member.id for member in members if member.voter]
    waited_for = [voter for voter in current.planned_voters if not current.is_voter(voter)]
    withdrawn = [voter for voter in waited_for if voter not in {member.id for member in members}]
    if not withdrawn or not set(voters) <= set(current.new_voters()):
        names = ", ".join(map(str, waited_for))
        raise ChangeInProgress(
            f"another change of the membership is under way: node {names} has yet to catch up. "
            "Wait for it, or remove it to withdraw that change"
        )


def _check_members(current: Configuration, members: tuple[Member, ...]) -> None:
    if not any(member.voter for member in members):
        raise WrongMembers("a cluster needs at least one voter; this would leave none")
    if len(members) > MEMBERS_MAX:
        raise WrongMembers(f"{len(members)} members are too many; at most {MEMBERS_MAX} are sensible")
    _check_distinct("node id", [member.id for member in members])
    _check_distinct("peer address", [member.peer for member in members if member.peer])
    _check_distinct("client address", [member.client for member in members if member.client])
    _check_distinct("incarnation", [member.incarnation for member in members])
    for member in members:
        assert member.id != NOBODY, "0 is nobody's id"
        known = current.member(member.id)
        if known is not None and known.incarnation != member.incarnation:
            raise IdUsed(
                f"node id has already been used in this cluster: {member.id} is another node's; "
                "give the new node an id that was never used, or 0 to have one chosen"
            )
        if member.id in current.removed_ids:
            raise IdUsed(
                f"node id has already been used in this cluster: {member.id} was a node that was removed; "
                "give the new node an id that was never used, or 0 to have one chosen"
            )


def _check_distinct(what: str, values: list[object]) -> None:
    seen = set[object]()
    for value in values:
        if value in seen:
            raise WrongMembers(f"{what} {value} belongs to two members")
        seen.add(value)


def _check_quorum(
    state: RaftState, configuration: Configuration, voters: tuple[NodeId, ...], fresh: list[NodeId]
) -> None:
    """As etcd does: what would leave the cluster without a majority that lives is refused.

    New voters count as alive here, since they get no vote before they have shown it.
    """
    alive = _alive(state)
    wanted = _joint(configuration, voters, ())
    if not wanted.has_quorum([*alive, *fresh]):
        dead = [str(voter) for voter in voters if voter not in alive and voter not in fresh]
        names = ", ".join(dead) or "none"
        raise QuorumAtRisk(
            f"this would leave {len(voters)} voters of which too few can be reached (not: {names}), and the "
            "cluster would stand still. Bring those nodes back, or remove them first"
        )


def _may_be_promoted(state: RaftState, current: Configuration) -> bool:
    voters = current.planned_voters
    if not all(current.is_voter(voter) or has_caught_up(state, voter) for voter in voters):
        return False
    return _joint(current, voters, ()).has_quorum(_alive(state))


def _alive(state: RaftState) -> list[NodeId]:
    """This leader, and whoever is alive as far as it knows."""
    oldest_tick = state.ticks - state.election_ticks
    heard = [peer_id for peer_id, peer in state.peers.items() if peer.is_alive(oldest_tick)]
    return [state.node_id, *heard]


def _configuration(state: RaftState) -> Configuration:
    configuration = state.configuration
    assert configuration is not None, "a leader has a configuration"
    return configuration


def _united(ids: tuple[NodeId, ...], more: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted({*ids, *more}))
