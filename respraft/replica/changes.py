"""What can be asked about the membership: one class for each kind of change, and what each leads to.

An action travels from the node that was asked to the leader (`admin.py`), maybe more than once, since it
is sent again when the leader changes. So each of them is idempotent: what is the case already, or on its
way, is done.

All functions here are pure; the rules of what is allowed are the core's (`raft/membership.py`).
"""

from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from respraft.raft.configuration import Configuration, Member
from respraft.raft.membership import ChangeRefused
from respraft.raft.message import NOBODY, NodeId


class UnknownMember(ChangeRefused):
    """The action is about a member that does not exist."""


class NotCaughtUp(ChangeRefused):
    """A learner is to be promoted that does not keep up with the log."""


class Unreachable(ChangeRefused):
    """A node that is to be added cannot be reached by the leader, or is another one than was said."""


class AddMember(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """Add a node; as a voter once it has caught up, or as a learner for good (`voter`).

    Its id may be NOBODY: the leader chooses one. Its incarnation may be 0: the leader asks the node, which
    must have its id already.
    """

    member: Member
    replaces: NodeId = NOBODY
    """The node comes in this one's place: it is removed in the same change, as is whoever has the node's
    address, since that one may have come in the same place before, and been lost."""


class RemoveMember(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Remove a node for good. Also withdraws the change that is waiting for it to catch up."""

    id: NodeId


class PromoteMember(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Give a learner a vote. It must have caught up."""

    id: NodeId


class MoveMember(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """A node has other addresses from now on. An empty one stays as it is."""

    id: NodeId
    peer: str
    client: str


class SetMembers(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """These are all the members, in one change. An incarnation of 0 is to be found out, or stays."""

    members: tuple[Member, ...]


Action: TypeAlias = AddMember | RemoveMember | PromoteMember | MoveMember | SetMembers


def wanted_members(configuration: Configuration, action: Action) -> tuple[Member, ...]:
    """Return all members that `action` wants, as they shall be at its end.

    Raises:
        UnknownMember: There is no such member.
    """
    members = {member.id: member for member in configuration.members}
    match action:
        case AddMember(member, replaces):
            if added_member(configuration, member) is None:
                if replaces != NOBODY:
                    members = _without(members, replaces, member.peer)
                members[member.id] = member  # An id that is another's is for the core to refuse.
        case RemoveMember(node_id):
            if node_id not in configuration.removed_ids:
                _existing(configuration, node_id)
                members.pop(node_id)
        case PromoteMember(node_id):
            members[node_id] = replace(_existing(configuration, node_id), voter=True)
        case MoveMember(node_id, peer, client):
            member = _existing(configuration, node_id)
            members[node_id] = replace(member, peer=peer or member.peer, client=client or member.client)
        case SetMembers(wanted):
            return tuple(sorted((_identified(configuration, each) for each in wanted), key=lambda m: m.id))
    return tuple([members[node_id] for node_id in sorted(members)])


def _without(members: dict[NodeId, Member], replaced: NodeId, peer: str) -> dict[NodeId, Member]:
    return {
        node_id: member for node_id, member in members.items() if node_id != replaced and member.peer != peer
    }


def is_under_way(configuration: Configuration, action: Action) -> bool:
    """Whether `configuration` has taken up `action`, so that no other change is needed for it."""
    target = outcome_of(configuration)
    match action:
        case AddMember(member, _):
            found = added_member(configuration, member)
            return found is not None and found.id not in configuration.leaving
        case RemoveMember(node_id):
            return node_id in configuration.removed_ids or node_id in configuration.leaving
        case PromoteMember(node_id):
            return any(member.id == node_id and member.voter for member in target)
        case _:
            return target == wanted_members(configuration, action)


def is_fulfilled(configuration: Configuration, action: Action) -> bool:
    """Whether `action` is complete as of `configuration`, which is committed.

    An added node is a member, though it may have to catch up before it votes.
    """
    match action:
        case AddMember():
            return is_under_way(configuration, action)
        case RemoveMember(node_id):
            return configuration.member(node_id) is None
        case _:
            return configuration.settled and is_under_way(configuration, action)


def outcome_of(configuration: Configuration) -> tuple[Member, ...]:
    """Return the members as they will be when the change under way, if any, is complete."""
    planned = configuration.planned_voters
    return tuple(
        [
            replace(member, voter=member.id in planned) if planned else member
            for member in configuration.members
            if member.id not in configuration.leaving
        ]
    )


def next_id(configuration: Configuration, taken: tuple[NodeId, ...] = ()) -> NodeId:
    """Return an id that was never used."""
    used = [member.id for member in configuration.members]
    return max([NOBODY, *used, *configuration.removed_ids, *taken]) + 1


def added_member(configuration: Configuration, member: Member) -> Member | None:
    """Return what `member`, which is to be added, has become; its id may have been chosen since."""
    for each in configuration.members:
        same = each.incarnation == member.incarnation
        if same or (not member.incarnation and (each.id, each.peer) == (member.id, member.peer)):
            return each
    return None


def _identified(configuration: Configuration, member: Member) -> Member:
    known = configuration.member(member.id)
    return replace(member, incarnation=known.incarnation) if known and not member.incarnation else member


def _existing(configuration: Configuration, node_id: NodeId) -> Member:
    member = configuration.member(node_id)
    if member is None:
        raise UnknownMember("node id does not exist")
    return member
