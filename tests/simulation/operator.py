"""Operators: what people ask of a cluster while everything goes wrong, and what they are told.

Each request is answered once; a node that dies takes its requests along.
"""

from typing import Final

from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import NOBODY, NodeId
from respraft.raft.ready import NotLeader, Role, TransferRefused
from respraft.replica.batch import Answer
from respraft.replica.changes import (
    Action,
    AddMember,
    MoveMember,
    PromoteMember,
    RemoveMember,
    SetMembers,
)
from tests.simulation.node import Node, Surroundings

VOTERS_MAX: Final = 7
NODES_MAX: Final = 12
"""Ever, in one run: each pair of them costs two links."""
NODE_PORTS: Final = 7100
"""Peer addresses, by id."""
REJOIN_US: Final = 300_000
"""About how often somebody who comes back asks."""


class Request:
    """Something that was asked of one life of a node."""

    def __init__(self, operator: "Operator", node: Node, what: str) -> None:
        self.node_id = node.id
        self.life = node.lives
        self.what = what
        self._operator = operator

    def __repr__(self) -> str:
        return f"{self.what} on n{self.node_id}"

    def answered(self, answer: Answer) -> None:
        """It is over."""
        outcome = answer.replies if answer.refusal is None else answer.refusal.name
        self._operator.ended(self, f"{outcome}")


class Operator:
    """Asks, and keeps what has not been answered."""

    def __init__(self, world: Surroundings, nodes: dict[NodeId, Node]) -> None:
        self.waiting: list[Request] = []
        self._world = world
        self._nodes = nodes

    def ended(self, request: Request, outcome: str) -> None:
        """A request is answered."""
        assert request in self.waiting, f"{request} is answered twice"
        self.waiting.remove(request)
        self._world.say(f"{request}: {outcome}")

    def node_died(self, node_id: NodeId) -> None:
        """Who asked it gets no answer."""
        self.waiting = [each for each in self.waiting if each.node_id != node_id]

    def transfer(self) -> None:
        """Ask somebody, mostly a leader, to hand leadership over."""
        rng = self._world.rng
        live = [node for node in self._nodes.values() if node.up]
        leaders = [node for node in live if node.core.role is Role.LEADER]
        if not live:
            return
        node = rng.choice(leaders if leaders and rng.random() < 0.9 else live)
        to = rng.choice([NOBODY, *sorted(self._nodes)])
        life = node.lives
        node.give(lambda: self._transfer(node, to) if node.lives == life else None)

    # -- Membership ------------------------------------------------------------------------------------

    def change(self) -> None:
        """Ask some member for some change of the membership."""
        rng = self._world.rng
        configuration = self._world.configuration
        if configuration is None:
            return
        self._replace_nodes(configuration)
        live = [node for node in self._members(configuration) if node.up]
        action = self._action(configuration)
        if not live or action is None:
            return
        node = rng.choice(live)
        life = node.lives
        node.give(lambda: self._change(node, action) if node.lives == life else None)

    def lost(self, configuration: Configuration) -> list[NodeId]:
        """Return the members whose disks are gone. They never vote again."""
        present = [node.id for node in self._members(configuration)]
        return [member.id for member in configuration.members if member.id not in present]

    def rejoin(self, lost: Node) -> None:
        """A lost node's machine is repaired: it comes back with a new id in the old one's place."""
        node = self._world.add_node(replaces=lost.id)
        self._world.say(f"n{node.id} comes in the place of n{lost.id}")
        self._ask_to_rejoin(node)

    def rejoining(self) -> list[Node]:
        """Return who is on the way back, or has not taken the place of the one that was lost."""
        return [node for node in self._nodes.values() if node.replaces and self._on_its_way(node)]

    def _on_its_way(self, node: Node) -> bool:
        configuration = self._world.configuration
        assert configuration is not None, "somebody has been a member"
        if node.id in configuration.removed_ids:
            return False  # By an operator; it will not try again.
        member = configuration.member(node.id)
        return member is None or not member.voter or configuration.member(node.replaces) is not None

    def _ask_to_rejoin(self, node: Node) -> None:
        """As `server/rejoining.py` does: any member is asked, until the node's log says that it is one."""
        world = self._world
        assert world.configuration is not None, "somebody has been a member"
        if not self._on_its_way(node):
            return
        live = [each for each in self._members(world.configuration) if each.up]
        applied = node.replica.status().applied_configuration if node.up else None
        if live and node.up and (applied is None or applied.member(node.id) is None):
            asked = world.rng.choice(live)
            place = NODE_PORTS + node.replaces
            member = Member(node.id, f"127.0.0.1:{place}", f"127.0.0.1:{place}", node.incarnation, voter=True)
            action, life = AddMember(member, node.replaces), asked.lives
            asked.give(lambda: self._change(asked, action) if asked.lives == life else None)
        retry_us = world.rng.randint(1, 2 * REJOIN_US)
        world.schedule.after(retry_us, lambda: self._ask_to_rejoin(node))

    def _members(self, configuration: Configuration) -> list[Node]:
        nodes = self._nodes
        return [
            nodes[member.id]
            for member in configuration.members
            if nodes[member.id].incarnation == member.incarnation
        ]

    def _change(self, node: Node, action: Action) -> None:
        request = Request(self, node, f"{action}")
        node.wake()
        timeout_ms = self._world.faults.request_timeout_ms
        refusal = node.replica.membership.ask(request, action, node.driver.now_ms, timeout_ms)
        self._world.say(f"{request}: {'asked' if refusal is None else refusal.name}")
        if refusal is None:
            self.waiting.append(request)

    def _replace_nodes(self, configuration: Configuration) -> None:
        """Switch off some that were removed, and have some that are new wait for their turn."""
        rng = self._world.rng
        for node_id in configuration.removed_ids:
            node = self._nodes[node_id]
            if not node.gone and rng.random() < 0.5:
                self._world.say(f"n{node_id} is switched off for good")
                node.gone = True
                if node.up:
                    node.die("switched off")
        if len(self._spares(configuration)) < 2 and len(self._nodes) < NODES_MAX:
            self._world.add_node()

    def _spares(self, configuration: Configuration) -> list[Node]:
        used = [*[member.id for member in configuration.members], *configuration.removed_ids]
        mine = [node for node in self._nodes.values() if not node.gone and not node.replaces]
        return [node for node in mine if node.id not in used]

    def _action(self, configuration: Configuration) -> Action | None:
        rng = self._world.rng
        spares = self._spares(configuration)
        voters = [member.id for member in configuration.members if member.voter]
        learners = [member.id for member in configuration.members if not member.voter]
        lost = self.lost(configuration)
        everybody = [member.id for member in configuration.members]
        draw = rng.random()
        if lost and draw < 0.3:
            return RemoveMember(lost[0])
        if draw < 0.5 and spares:
            return AddMember(_member(rng.choice(spares), voter=rng.random() < 0.8))
        if draw < 0.75:
            removed = rng.choice(everybody)
            return RemoveMember(removed) if self._safe([v for v in voters if v != removed], lost) else None
        if draw < 0.8 and learners:
            return PromoteMember(rng.choice(learners))
        if draw < 0.85:
            return MoveMember(rng.choice(everybody), f"127.0.0.1:{rng.randint(8000, 9000)}", "")
        return self._replacement(configuration, spares, lost)

    def _replacement(
        self, configuration: Configuration, spares: list[Node], lost: list[NodeId]
    ) -> Action | None:
        """Several members go and others come, in one change; roles change as well."""
        rng = self._world.rng
        going = rng.sample(configuration.members, rng.randint(0, len(configuration.members)))
        coming = rng.sample(spares, rng.randint(0, len(spares)))
        wanted = [member for member in configuration.members if member not in going]
        wanted += [_member(node, voter=rng.random() < 0.8) for node in coming]
        if not self._safe([member.id for member in wanted if member.voter], lost):
            return None
        return SetMembers(tuple(wanted))

    @staticmethod
    def _safe(voters: list[NodeId], lost: list[NodeId]) -> bool:
        """Whether these can decide something when everybody who is not lost is up."""
        missing = [voter for voter in voters if voter in lost]
        return 2 * len(missing) < len(voters) <= VOTERS_MAX

    def _transfer(self, node: Node, to: NodeId) -> None:
        request = Request(self, node, f"transfer to n{to}" if to else "transfer")
        node.wake()
        try:
            node.replica.ask_for_transfer(to, request)
        except (NotLeader, TransferRefused) as error:
            self._world.say(f"{request}: {error!r}")
        else:
            self._world.say(f"{request}: begun")
            self.waiting.append(request)


def _member(node: Node, *, voter: bool) -> Member:
    peer, client = f"127.0.0.1:{NODE_PORTS + node.id}", f"127.0.0.1:{7000 + node.id}"
    return Member(node.id, peer, client, node.incarnation, voter)
