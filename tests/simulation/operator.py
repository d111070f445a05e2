"""Operators: what people ask of a cluster while everything goes wrong, and what they are told.

Each request is answered once; a node that dies takes its requests along.
"""

from respraft.raft.message import NOBODY, NodeId
from respraft.raft.ready import NotLeader, Role, TransferRefused
from respraft.replica.batch import Answer
from tests.simulation.node import Node, Surroundings


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

    def _transfer(self, node: Node, to: NodeId) -> None:
        request = Request(self, node, f"transfer to n{to}" if to else "transfer")
        node.wake()
        try:
            node.replica.transfer_leadership(to, request)
        except (NotLeader, TransferRefused) as error:
            self._world.say(f"{request}: {error!r}")
        else:
            self._world.say(f"{request}: begun")
            self.waiting.append(request)
