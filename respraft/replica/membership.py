"""What a replica knows of who belongs to the cluster: whom it dials and welcomes, and where it stands itself.

A node is in one of these places:

    waiting ──INIT──────────────────────────────────────────> member ──> removed
        └────JOIN──> joining ──(added, and its log says so)──────^
    listed ──(all listed members are there: formation)───────────^

* **Waiting**: no configuration in its log, no member list. It knows nobody and serves nobody.
* **Joining**: it has an id and has asked a member to be added. It dials the members that it was told of, and
  welcomes every node of that cluster: which of them will lead is not for it to know.
* **Removed**: by its own log, or because a member said so, which is believed since it speaks of what is
  committed. It stands for no election, dials nobody, and tells clients so.

The links follow the newest configuration of the log, and the committed one before it as long as it may count
again; and what a node that knows a newer one has said of its own address. Changes themselves go through
`admin.py`; this class joins its two sides to the messages.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from respraft.config import Config
from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import NOBODY, Index, NodeId
from respraft.raft.node import RaftNode
from respraft.raft.ready import Role
from respraft.replica.admin import Asker, Executor
from respraft.replica.batch import Answer, Client, Refusal
from respraft.replica.changes import Action
from respraft.replica.formation import Formation, Objection, PeerIdentity, check_peer
from respraft.replica.message import AdminRequest, AdminResponse
from respraft.replica.status import Identity

_log: Final = logging.getLogger("respraft.replica")

Send = Callable[[NodeId, AdminRequest | AdminResponse], None]


class Membership:
    """One replica's; see the module's docstring. The replica calls it in its own order."""

    def __init__(self, *, identity: Identity, config: Config, core: RaftNode, send: Send) -> None:
        """Begin as the log has it.

        Args:
            identity: This node's; its id is NOBODY while no cluster has given it one.
            config: For the listed members, and for time-outs.
            core: Asked for its configurations and its role; told what is to be changed.
            send: Queues a message to another node.
        """
        self.refused: str | None = None
        """Why the cluster does not know this node, if it said so."""
        self.removed = False
        """For good; `refused` says it in words."""
        self._node_id = identity.node_id
        self._incarnation = identity.incarnation
        self._core = core
        self._send = send
        listed = {member.id: member.peer for member in config.cluster.members}
        # Not so a node that comes in a listed one's place: it joins, under an id of its own.
        self._listed = identity.node_id in listed
        self._contacts = listed if self._listed else {}
        self._asker = Asker(
            identity.start_counter, park_ms=config.client.park_ms, resend_ms=config.raft.election_timeout_ms
        )
        self._executor = Executor(core, self._respond)
        self._linked: dict[NodeId, PeerIdentity] = {}
        # What nodes have said of their own address, and as of which entry.
        self._heard: dict[NodeId, tuple[Index, str]] = {}
        self._dialled: tuple[object, ...] = ()  # What the targets of the links were last made from,
        self._addresses: dict[NodeId, str] = {}  # and what came of it.
        self._answers: list[Answer] = []
        self._formation = (
            Formation(identity.node_id, identity.incarnation, config.cluster.members)
            if core.configuration is None and self._listed
            else None
        )

    # -- Where this node stands ----------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether this node can serve nobody: it belongs to no cluster, or is refused by it."""
        if self.refused is not None:
            return True
        return self._core.configuration is None and not self._listed

    @property
    def waiting(self) -> bool:
        """Whether this node belongs to no cluster, and was not told of any."""
        return self._core.configuration is None and not self._contacts

    @property
    def joining(self) -> bool:
        """Whether this node has an id, and neither a list of members nor a configuration: it may be added."""
        return self._core.configuration is None and not self._listed and self._node_id != NOBODY

    @property
    def origin(self) -> int:
        """What the cluster that this node belongs to was founded with (`Configuration.origin`); 0: none."""
        configuration = self._core.configurations.committed
        return configuration.origin if configuration is not None else 0

    @property
    def founders(self) -> tuple[NodeId, ...]:
        """With whom this node is to form a cluster, if it has none yet and is to form one."""
        return tuple(sorted(self._contacts)) if self._listed and not self._core.configurations.known() else ()

    @property
    def own_address(self) -> tuple[str, Index]:
        """Where this node is reached by the newest configuration, and where that is; ("", 0): nowhere."""
        configurations = self._core.configurations
        current = configurations.current
        member = current.member(self._node_id) if current is not None else None
        return (member.peer, configurations.index) if member is not None else ("", 0)

    @property
    def invited(self) -> tuple[NodeId, ...]:
        """Nodes that this leader tries to reach, to add them."""
        return tuple(sorted(self._executor.invited))

    def adopt(self, node_id: NodeId) -> None:
        """This node has been given an id, or another one while nobody has taken it up."""
        assert self._core.configuration is None, "a member keeps its id"
        self._node_id = node_id
        self._dialled = ()

    def contact(self, members: Mapping[NodeId, str]) -> None:
        """These are members of the cluster that this node joins: dial them until its log knows better."""
        self._contacts = dict(members)
        self._dialled = ()

    def form(self) -> None:
        """Write the first configuration, if this is the node to do it and all listed members are there."""
        if self._formation is None:
            return
        core = self._core
        if core.configuration is not None:
            self._formation = None  # It is there, whoever has written it.
            self.refused = None
            return
        configuration = self._formation.configuration()
        if configuration is not None:
            _log.info("all %d members are here and empty: forming the cluster", len(configuration.members))
            core.bootstrap(configuration)
            core.campaign()

    def found(self, peer: str, client: str) -> None:
        """Found a cluster of this node alone, which the others reach at these addresses.

        Raises:
            AlreadyStarted: This node has a log, or has been in an election.
        """
        member = Member(self._node_id, peer, client, self._incarnation, voter=True)
        self._core.bootstrap(Configuration(members=(member,), origin=self._incarnation))
        self._core.campaign()

    def expel(self, text: str) -> None:
        """This node was removed for good."""
        self.refused = text
        self.removed = True
        self._core.retire()
        self._answers += self._asker.refuse_all(Refusal.NO_CLUSTER)

    # -- Peers ---------------------------------------------------------------------------------------

    def check_peer(self, peer: PeerIdentity) -> Objection | None:
        """Return why a link with `peer` must not be; None if it is welcome."""
        objection = self._objection(peer)
        if objection is None and peer.address:
            self._heard[peer.node_id] = (peer.configured_at, peer.address)
        return objection

    def _objection(self, peer: PeerIdentity) -> Objection | None:
        if self.joining or (peer.node_id == self._removed_leader and self._is_linked(peer)):
            return None
        invited = {member.id: member.incarnation for member in self._executor.invited.values()}
        return check_peer(self._core.configurations, self._contacts, self.founders, invited, peer)

    def is_welcome(self, sender: NodeId, incarnation: int) -> bool:
        """Whether a message of that life of that node may be heeded. Its link was checked when it came up."""
        configuration = self._core.configuration
        if configuration is None:
            return True
        member = configuration.member(sender)
        if member is not None:
            return member.incarnation == incarnation
        # A member of a configuration that is not here yet may lead already; one that is being added answers.
        committed = self._core.configurations.committed
        if committed is None or sender not in committed.removed_ids:
            return True
        return sender == self._removed_leader

    def link_up(self, peer: PeerIdentity) -> None:
        """This node's link to `peer` has come up."""
        if self._formation is not None:
            self._formation.link_up(peer)
        self._linked[peer.node_id] = peer
        self._executor.linked(self._linked)

    def link_down(self, peer: NodeId) -> None:
        """It has ended."""
        if self._formation is not None:
            self._formation.link_down(peer)
        self._linked.pop(peer, None)

    def link_refused(self, peer: NodeId, text: str, *, removed: bool) -> bool:
        """A peer does not talk to this node. Returns whether this node therefore has no place any more.

        Being a stranger to one member means little for a node with a log: that member may be behind. But what
        was removed is removed, and a node without a past has no place where it is not known.
        """
        self._executor.link_refused(peer, text)
        if removed:
            self.expel(text)
            return True
        if self._core.configuration is not None or self.joining or self.refused == text:
            return False
        self.refused = text
        return True

    def changed_targets(self) -> dict[NodeId, str] | None:
        """Return whom to dial, and where, if that has changed since the last call."""
        configurations = self._core.configurations
        made_from = (
            configurations.current,
            configurations.committed,
            self.invited,
            self._removed_leader,
            self.removed and self._core.role is not Role.LEADER,
            self._newer_addresses(),
        )
        before = self._dialled
        if before and all(now is was or now == was for now, was in zip(made_from, before, strict=True)):
            return None
        self._dialled = made_from
        self._addresses = self._targets()
        return self._addresses

    @property
    def _removed_leader(self) -> NodeId:
        """A leader that was removed, while it hands over: it has to hear from us that we have everything."""
        leader, configuration = self._core.leader, self._core.configuration
        if leader == NOBODY or configuration is None or configuration.member(leader) is not None:
            return NOBODY
        return leader

    def _is_linked(self, peer: PeerIdentity) -> bool:
        linked = self._linked.get(peer.node_id)
        return linked is not None and linked.incarnation == peer.incarnation

    def _newer_addresses(self) -> dict[NodeId, str]:
        """Addresses of nodes that know of a configuration which is not here yet, by their own word.

        One that was added or moved while this node was away may lead by now. Without an answer from here it
        sends this node no entries, and so this node would never learn from its log where to send the answer.
        """
        index = self._core.configurations.index
        return {node_id: address for node_id, (known_at, address) in self._heard.items() if known_at > index}

    def _targets(self) -> dict[NodeId, str]:
        if self.removed and self._core.role is not Role.LEADER:
            return {}
        known = self._core.configurations.known()
        targets = {} if known else dict(self._contacts)
        for configuration in known:
            targets.update({member.id: member.peer for member in configuration.members})
        targets.update({member.id: member.peer for member in self._executor.invited.values()})
        if self._removed_leader in self._addresses:
            targets[self._removed_leader] = self._addresses[self._removed_leader]
        targets.update(self._newer_addresses())
        targets.pop(self._node_id, None)
        return dict(sorted(targets.items()))

    # -- Changes -------------------------------------------------------------------------------------

    def ask(self, client: Client, action: Action, now_ms: float, timeout_ms: float) -> Refusal | None:
        """Have the leader carry out an action, whoever that is.

        Args:
            client: Gets an `Answer` with one `ChangeDone`, or with a refusal, once.
            action: See `changes.py`.
            now_ms: Monotonic.
            timeout_ms: By then it is told that the outcome is unknown.

        Returns:
            None, or the refusal: nothing was or will be done.
        """
        return Refusal.NO_CLUSTER if self.closed else self._asker.ask(client, action, now_ms, timeout_ms)

    def on_request(self, request: AdminRequest, now_ms: float) -> None:
        """A node asks for a change."""
        self._executor.execute(request, self._linked, now_ms)

    def on_response(self, response: AdminResponse) -> None:
        """The leader has accepted or refused what this node asked for."""
        self._answers += self._asker.answered(response.sender, response)

    def tick(self, now_ms: float) -> None:
        """One tick has passed."""
        self._executor.tick(now_ms)
        self._answers += self._asker.tick(now_ms)

    def flush(self, now_ms: float) -> None:
        """Ask the leader what is to be asked. Once per turn."""
        if not len(self._asker):
            return
        core = self._core
        for token, action in self._asker.due(core.leader, core.term, now_ms):
            request = AdminRequest(self._node_id, core.term, token, action)
            if core.role is Role.LEADER:
                self.on_request(request, now_ms)
            else:
                self._send(core.leader, request)

    def applied(self, index: Index, configuration: Configuration | None) -> bool:
        """The state is as of `index`, and this is its configuration. Once per turn, whatever was applied.

        Returns whether this node was removed by it just now.
        """
        if len(self._asker):
            self._answers += self._asker.applied(index, configuration)
        if configuration is not None and not self.removed and self._node_id in configuration.removed_ids:
            self.expel(f"node id {self._node_id} was removed from this cluster")
            return True
        return False

    def take_answers(self) -> list[Answer]:
        """Return what the clients of this node are to be told."""
        answers, self._answers = self._answers, []
        return answers

    def _respond(self, to: NodeId, response: AdminResponse) -> None:
        if to == self._node_id:
            self.on_response(response)
        else:
            self._send(to, response)
