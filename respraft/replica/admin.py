"""Changes of the membership, from any node: asked here, carried out by the leader.

    asking node                                      leader
      ask(client, action)
        │  AdminRequest ──(to each new leader, again after an election timeout)──>
        │                                              refused? ──────────┐
        │                                              new members: dial them first, wait for the link
        │                                              core.change_membership(...)
        │  <── AdminResponse(index, or why not) ──────────────────────────┘
        └─ done when the configuration that is applied *here* fulfils the action

Actions are idempotent (`changes.py`), so what is sent twice happens once. A refusal says that nothing was
changed, nor will be: the leader remembers it for as long as it leads, since the same request may be on its
way a second time. A time-out says that the outcome is unknown.

A node that is to be added is dialled before anything is changed: an address that is wrong, or another
node behind it, is then an error and no member that nobody can reach. The link's handshake also tells the
incarnation, where the action does not. Until it is a member the node is *invited*, which is why it is
welcome (`formation.check_peer`); a joining node welcomes the members likewise.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from respraft.raft.configuration import Configuration, Member
from respraft.raft.membership import ChangeInProgress, ChangeRefused, IdUsed, LeaderNotReady
from respraft.raft.message import NOBODY, Index, NodeId, Term
from respraft.raft.node import RaftNode
from respraft.raft.ready import Role
from respraft.replica.batch import Answer, Client, Refusal
from respraft.replica.changes import (
    Action,
    AddMember,
    NotCaughtUp,
    PromoteMember,
    Unreachable,
    added_member,
    is_fulfilled,
    is_under_way,
    next_id,
    wanted_members,
)
from respraft.replica.formation import PeerIdentity
from respraft.replica.message import AdminRequest, AdminResponse

INVITATION_MS: Final = 3000.0
"""How long a leader tries to reach nodes that are to be added. A refused or wrong address shows at once,
a silent one is waited for as long as for a leader."""

ACTIONS_MAX: Final = 64
"""Actions that a node asks for, or a leader has taken up, at a time. Each is a person's, or a new node's."""


REFUSALS_MAX: Final = 256
"""Refusals that a leader remembers. A request is repeated within moments or never."""


class ChangeDone(msgspec.Struct, frozen=True):
    """The reply to an action: which member it was about, or why nothing was changed."""

    node_id: NodeId  # Of an added member; else NOBODY.
    code: str  # Name of the refusal's class; "" when it is done.
    text: str


class _Asked(msgspec.Struct):
    client: Client
    action: Action
    asked_ms: float
    deadline_ms: float
    target: tuple[NodeId, Term] = (NOBODY, 0)  # To whom it was sent last,
    sent_ms: float = 0.0  # and when.
    index: Index = 0  # Accepted: applied behind here it must be fulfilled.
    node_id: NodeId = NOBODY


class Asker:
    """The actions that this node's clients wait for."""

    def __init__(self, start_counter: int, *, park_ms: float, resend_ms: float) -> None:
        """Begin with none.

        Args:
            start_counter: Of this process: answers to an earlier one are none of ours.
            park_ms: How long to wait for a leader to ask.
            resend_ms: A request that is not answered for so long is sent again.
        """
        self._start_counter = start_counter
        self._park_ms = park_ms
        self._resend_ms = resend_ms
        self._asked: dict[int, _Asked] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, client: Client, action: Action, now_ms: float, timeout_ms: float) -> Refusal | None:
        """Take an action up; an `Answer` with a `ChangeDone`, or a refusal, will follow."""
        if len(self._asked) >= ACTIONS_MAX:
            return Refusal.BUSY
        self._number += 1
        self._asked[self._number] = _Asked(client, action, now_ms, now_ms + timeout_ms)
        return None

    def due(self, leader: NodeId, term: Term, now_ms: float) -> list[tuple[tuple[int, int], Action]]:
        """Return what is to be sent to the leader now, with its token."""
        if leader == NOBODY:
            return []
        due = []
        for number, asked in self._asked.items():
            if asked.target != (leader, term):
                asked.index = 0  # What the last leader has accepted may be lost with it.
            elif asked.index or now_ms - asked.sent_ms < self._resend_ms:
                continue
            asked.target, asked.sent_ms = (leader, term), now_ms
            due.append(((self._start_counter, number), asked.action))
        return due

    def answered(self, sender: NodeId, response: AdminResponse) -> list[Answer]:
        """The leader has accepted an action, or refused it."""
        start_counter, number = response.token
        asked = self._asked.get(number)
        if asked is None or start_counter != self._start_counter or asked.target != (sender, response.term):
            return []
        if response.code:
            del self._asked[number]
            return [_answer(asked, ChangeDone(NOBODY, response.code, response.text))]
        asked.index = response.index
        asked.node_id = response.node_id
        return []

    def applied(self, index: Index, configuration: Configuration | None) -> list[Answer]:
        """Answer what is fulfilled by the configuration that is applied here, as of `index`."""
        if configuration is None:
            return []
        done = [
            number
            for number, asked in self._asked.items()
            if asked.index and asked.index <= index and is_fulfilled(configuration, asked.action)
        ]
        return [_answer(asked, ChangeDone(asked.node_id, "", "")) for asked in map(self._asked.pop, done)]

    def tick(self, now_ms: float) -> list[Answer]:
        """Give up on what has waited too long."""
        answers = []
        for number, asked in list(self._asked.items()):
            never_sent = asked.target[0] == NOBODY
            if now_ms >= asked.deadline_ms or (never_sent and now_ms - asked.asked_ms >= self._park_ms):
                del self._asked[number]
                reason = Refusal.NO_LEADER if never_sent else Refusal.OUTCOME_UNKNOWN
                answers.append(Answer(asked.client, 1, (), reason))
        return answers

    def refuse_all(self, reason: Refusal) -> list[Answer]:
        """This node is no member any more, or never will be one."""
        asked, self._asked = list(self._asked.values()), {}
        return [Answer(each.client, 1, (), reason) for each in asked]


class _Invited(msgspec.Struct):
    asker: NodeId
    token: tuple[int, int]
    action: Action
    strangers: tuple[Member, ...]
    deadline_ms: float


Respond = Callable[[NodeId, AdminResponse], None]
"""Send a response to the node that asked, which may be this one."""


class Executor:
    """The leader's side: carries actions out, and invites nodes that are to be added."""

    def __init__(self, core: RaftNode, respond: Respond) -> None:
        """Begin with nothing taken up."""
        self._core = core
        self._respond = respond
        self._invited: list[_Invited] = []
        self._refused: dict[tuple[NodeId, tuple[int, int]], AdminResponse] = {}  # By who asked, and token.
        self._term: Term = 0  # Of the leadership that these belong to.

    @property
    def invited(self) -> dict[NodeId, Member]:
        """The nodes that are to be dialled, and welcomed, although they are no members yet."""
        return {member.id: member for each in self._invited for member in each.strangers}

    def execute(self, request: AdminRequest, linked: Mapping[NodeId, PeerIdentity], now_ms: float) -> None:
        """Carry out an action, or refuse it; sooner or later exactly one response follows.

        A node that doesn't lead says nothing: the asker sends it again to who does.
        """
        core = self._core
        configuration = core.configuration
        if core.role is not Role.LEADER or configuration is None:
            return
        self._enter_term()
        if any((each.asker, each.token) == (request.sender, request.token) for each in self._invited):
            return  # Sent again while its nodes are being dialled.
        refused = self._refused.get((request.sender, request.token))
        if refused is not None:
            self._respond(request.sender, refused)
            return
        try:
            action = self._with_id(configuration, request.action)
            if is_under_way(configuration, action):
                self._accept(request.sender, request.token, action)
                return
            self._check(configuration, action)
            strangers = _strangers(configuration, action)
            if not strangers:
                self._change(request.sender, request.token, action, linked)
                return
            for member in strangers:
                if member.id in self.invited:
                    raise IdUsed(
                        f"node id has already been used in this cluster: another node is being added as "
                        f"{member.id}; give the new node another id, or 0 to have one chosen"
                    )
            if len(self._invited) >= ACTIONS_MAX:
                raise ChangeInProgress("too many changes wait for their nodes to be reached; try again")
            invited = _Invited(request.sender, request.token, action, strangers, now_ms + INVITATION_MS)
            self._invited.append(invited)
            self._proceed(invited, linked)
        except ChangeRefused as refusal:
            self._refuse(request.sender, request.token, refusal)

    def linked(self, linked: Mapping[NodeId, PeerIdentity]) -> None:
        """A link has come up: see whose nodes are all there."""
        for invited in list(self._invited):
            try:
                self._proceed(invited, linked)
            except ChangeRefused as refusal:
                self._drop(invited, refusal)

    def link_refused(self, peer: NodeId, text: str) -> None:
        """A node that was dialled does not want to talk: there is no use in waiting."""
        for invited in list(self._invited):
            for member in invited.strangers:
                if member.id == peer:
                    self._drop(invited, Unreachable(f"the node at {member.peer} refuses to be added: {text}"))

    def tick(self, now_ms: float) -> None:
        """Give up on nodes that cannot be reached; on a node that leads no longer, on everything."""
        self._enter_term()
        for invited in list(self._invited):
            if now_ms >= invited.deadline_ms:
                places = ", ".join(f"node {each.id} at {each.peer}" for each in invited.strangers)
                self._drop(
                    invited,
                    Unreachable(
                        f"the leader, node {self._core.node_id}, cannot reach {places}: nothing was changed. "
                        "Check the address, and that a node of that id waits there to be added"
                    ),
                )

    def _enter_term(self) -> None:
        """Forget what belongs to an earlier leadership; its askers ask again."""
        term = self._core.term if self._core.role is Role.LEADER else 0
        if term != self._term:
            self._term = term
            self._invited.clear()
            self._refused.clear()

    def _with_id(self, configuration: Configuration, action: Action) -> Action:
        if not isinstance(action, AddMember) or action.member.id != NOBODY:
            return action
        known = added_member(configuration, action.member)
        node_id = known.id if known is not None else next_id(configuration, tuple(self.invited))
        return AddMember(replace(action.member, id=node_id), action.replaces)

    def _check(self, configuration: Configuration, action: Action) -> None:
        """Refuse at once what would be refused in the end. Raises ChangeRefused."""
        if isinstance(action, PromoteMember):
            member = configuration.member(action.id)
            if member is not None and not member.voter and not self._core.has_caught_up(action.id):
                raise NotCaughtUp(
                    f"node {action.id} has not caught up with the leader's log yet, and would hold up every "
                    "write; try again"
                )
        self._core.check_change(_with_any_incarnation(wanted_members(configuration, action)))

    def _proceed(self, invited: _Invited, linked: Mapping[NodeId, PeerIdentity]) -> None:
        for member in invited.strangers:
            peer = linked.get(member.id)
            if peer is None:
                return
            if member.incarnation not in (0, peer.incarnation):
                raise Unreachable(
                    f"the node at {member.peer} is not the one that asked to be added: it has another data "
                    "directory. Check the address"
                )
        self._invited.remove(invited)
        try:
            self._change(invited.asker, invited.token, invited.action, linked)
        except ChangeRefused as refusal:
            self._refuse(invited.asker, invited.token, refusal)

    def _change(
        self,
        asker: NodeId,
        token: tuple[int, int],
        action: Action,
        linked: Mapping[NodeId, PeerIdentity],
    ) -> None:
        core = self._core
        configuration = core.configuration
        if core.role is not Role.LEADER or configuration is None:
            return  # Lost meanwhile; the asker will find the next one.
        wanted = [_with_incarnation(each, linked) for each in wanted_members(configuration, action)]
        core.change_membership(wanted)
        self._accept(asker, token, action)

    def _accept(self, asker: NodeId, token: tuple[int, int], action: Action) -> None:
        core = self._core
        configuration = core.configuration
        assert configuration is not None, "a leader has a configuration"
        node_id = NOBODY
        if isinstance(action, AddMember):
            known = added_member(configuration, action.member)
            node_id = known.id if known is not None else action.member.id
        index = core.configurations.index
        core.expect_commit(asker, index)
        self._respond(asker, AdminResponse(core.node_id, core.term, token, index, node_id, "", ""))

    def _refuse(self, asker: NodeId, token: tuple[int, int], refusal: ChangeRefused) -> None:
        if isinstance(refusal, LeaderNotReady):
            return  # In a moment it will be; the asker sends it again.
        core = self._core
        code, text = type(refusal).__name__, str(refusal)
        response = AdminResponse(core.node_id, core.term, token, 0, NOBODY, code, text)
        self._refused[asker, token] = response
        if len(self._refused) > REFUSALS_MAX:
            del self._refused[next(iter(self._refused))]
        self._respond(asker, response)

    def _drop(self, invited: _Invited, refusal: ChangeRefused) -> None:
        if invited in self._invited:
            self._invited.remove(invited)
            self._refuse(invited.asker, invited.token, refusal)


def _strangers(configuration: Configuration, action: Action) -> tuple[Member, ...]:
    wanted = wanted_members(configuration, action)
    return tuple([member for member in wanted if configuration.member(member.id) is None])


def _with_incarnation(member: Member, linked: Mapping[NodeId, PeerIdentity]) -> Member:
    if member.incarnation:
        return member
    peer = linked.get(member.id)
    return replace(member, incarnation=peer.incarnation) if peer is not None else member


def _with_any_incarnation(members: Iterable[Member]) -> list[Member]:
    """Fill in what is not known yet by something that no node has, so that it contradicts nothing."""
    return [each if each.incarnation else replace(each, incarnation=-each.id) for each in members]


def _answer(asked: _Asked, done: ChangeDone) -> Answer:
    return Answer(asked.client, 1, (done,))
