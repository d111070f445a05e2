"""The network between nodes: links that come up by a handshake, carry messages, lose them and end.

Each ordered pair of nodes has its own link, dialled by the sender, as in `respraft/peer/`. Its contract is
kept where it matters for safety: a message comes from the incarnation that the handshake named, and goes to
the one that the handshake met; both sides are asked whether they welcome the other; and the sender is told
when its link comes up or ends. Beyond that contract, as far as the seed draws it, messages are lost, doubled,
overtaken and late although their link stands, and outlive it.

Who ended a link matters as well: when a process is gone while its machine stays, both links with it end by
its side and a redial is refused (`peer_gone`). When the power fails nobody says anything, and links end when
their owners lose patience. A middlebox can make the first of a node that lives.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from respraft.raft.message import NOBODY, NodeId
from respraft.replica.formation import Objection, PeerIdentity
from respraft.replica.status import ReplicaMessage
from tests.simulation.node import Node, Surroundings
from tests.simulation.trace import describe

REDIAL_US: Final = 50_000
"""Longest pause between two attempts to reach a peer."""


@dataclass(slots=True)
class Link:
    """The way from one node to another."""

    sender: NodeId
    receiver: NodeId
    up: bool = False
    broken: bool = False  # The receiver's life is over, but the sender has not noticed.
    number: int = 0  # Changes whenever the link comes up or ends.
    ups: int = 0  # How often it has come up.
    cuts: int = 0  # Faults that swallow what is sent this way.
    lost: bool = False  # Something was swallowed since the link came up.
    slow_us: int = 0  # What is sent takes so much longer.
    ended_by_peer: bool = False  # The receiver's side ended it, as its sender sees it.
    accepted: bool = False  # It stands, as its receiver sees it.
    accepted_ended_by_peer: bool = False  # The sender's side ended it, as its receiver sees it.
    last_us: int = 0  # When the last message arrives.
    incarnation: int = 0  # Of the receiver.
    addressed: bool = False  # Its sender has said in the handshake where it is reached.


class Network:
    """All links."""

    def __init__(self, world: Surroundings, nodes: dict[NodeId, Node]) -> None:
        self._world = world
        self._nodes = nodes
        self._fences: list[tuple[NodeId, NodeId]] = []  # Two nodes that a middlebox parts; NOBODY: from all.
        self.links = {(a, b): Link(a, b) for a in nodes for b in nodes if a != b}
        self._targets: dict[NodeId, frozenset[NodeId]] = dict.fromkeys(nodes, frozenset())

    def add(self, node_id: NodeId) -> None:
        """One more node is there."""
        for other in [each for each in self._nodes if each != node_id]:
            for ends in ((node_id, other), (other, node_id)):
                self.links[ends] = Link(*ends)
        self._targets[node_id] = frozenset()

    # -- Messages ------------------------------------------------------------------------------------

    def send(self, node: Node, to: NodeId, message: ReplicaMessage) -> None:
        """Put a message on its way, if it gets that far."""
        world, faults, rng = self._world, self._world.faults, self._world.rng
        link = self.links.get((node.id, to))
        assert link is not None, f"n{node.id} sends to n{to}"
        if not link.up:
            return
        if link.cuts or link.broken or rng.random() < faults.loss:
            link.lost = True
            return
        number, incarnation = link.number, node.incarnation
        for _ in range(2 if rng.random() < faults.repeat else 1):
            slowness = rng.randint(1, 50) if rng.random() < faults.delay_tail else 1
            delay_us = link.slow_us + int(faults.delay_us * slowness * (0.5 + rng.random()))
            arrival_us = world.schedule.now_us + delay_us
            if faults.in_order:
                arrival_us = link.last_us = max(link.last_us, arrival_us)
            world.schedule.after(
                arrival_us - world.schedule.now_us,
                lambda: self._deliver(link, number, incarnation, message),
            )

    def _deliver(self, link: Link, number: int, incarnation: int, message: ReplicaMessage) -> None:
        receiver = self._nodes[link.receiver]
        stray = number != link.number
        if not receiver.up or (stray and not self._world.faults.strays):
            return
        if link.cuts or receiver.incarnation != link.incarnation:
            link.lost = True
            return
        self._world.say(f"n{link.sender} -> n{link.receiver} {describe(message)}")
        receiver.receive(link.sender, incarnation, message)

    # -- Links ---------------------------------------------------------------------------------------

    def booted(self, node: Node) -> None:
        """A life begins: nobody has dialled it, and it says by itself whom it dials."""
        self._targets[node.id] = frozenset()
        for link in self.links.values():
            if link.sender == node.id:
                link.ended_by_peer = False
            elif link.receiver == node.id:
                link.accepted = link.accepted_ended_by_peer = False

    def set_peers(self, node: Node, peers: Collection[NodeId]) -> None:
        """A node keeps links to exactly these from now on, and asks again whom it welcomes."""
        known, targets = self._targets[node.id], frozenset(peers)
        self._targets[node.id] = targets
        for link in self.links.values():
            if link.sender == node.id and link.receiver in targets - known:
                self._dial_later(link, 1000)
            elif link.sender == node.id and link.receiver not in targets and link.up:
                self.end(link)
            elif link.sender == node.id and link.up and not link.addressed and node.identity().address:
                self.end(link)  # To be begun anew, as the peer network does.
            elif link.up and node.id in (link.sender, link.receiver):
                self._check_again(node, link)

    def _check_again(self, node: Node, link: Link) -> None:
        other = self._nodes[link.receiver if link.sender == node.id else link.sender]
        objection = node.replica.check_peer(other.identity()) if other.up else None
        if objection is not None:
            self.end(link)
            other.give(lambda: self._tell_refused(other, node.id, objection))

    def died(self, node: Node) -> None:
        """A life is over; the others will notice: at once if only the process is gone."""
        notice_us = 5_000 if node.killed else 500_000
        for link in self.links.values():
            if link.sender == node.id:
                link.up = False
                link.number += 1
                self._accepted_ends_later(link, notice_us, by_peer=node.killed)
            elif link.receiver == node.id and link.up:
                link.number += 1
                link.broken = True
                self._end_later(link, notice_us, by_peer=node.killed)

    def end(self, link: Link, *, by_peer: bool = False) -> None:
        """End a link; its sender dials again."""
        if not link.up:
            return
        link.up = False
        link.number += 1
        link.ended_by_peer = by_peer
        link.accepted, link.accepted_ended_by_peer = False, by_peer
        sender = self._nodes[link.sender]
        self._world.say(f"n{link.sender} loses its link to n{link.receiver}{' by its side' * by_peer}")
        sender.give(lambda: self._link_down(sender, link.receiver))
        self._dial_later(link, REDIAL_US)

    def fence(self, node_id: NodeId, other: NodeId) -> None:
        """A middlebox ends the links with a node in the name of the other side, and refuses new ones.

        All of them, or those with `other`.
        """
        self._fences.append((node_id, other))
        for link in self.links.values():
            if self._fenced(link):
                self.end(link, by_peer=True)

    def unfence(self, node_id: NodeId, other: NodeId) -> None:
        """It lets links be, unless another fence stands."""
        if (node_id, other) in self._fences:
            self._fences.remove((node_id, other))

    def _fenced(self, link: Link) -> bool:
        ends = (link.sender, link.receiver)
        return any(node_id in ends and other in (NOBODY, *ends) for node_id, other in self._fences)

    def cut(self, link: Link) -> None:
        """Swallow what is sent this way; somebody may notice."""
        link.cuts += 1
        if self._world.rng.random() < 0.5:
            self._end_later(link, 500_000)

    def heal(self, link: Link) -> None:
        """Take back one cut. Without other losses the contract holds: who lost something is told so."""
        if not link.cuts:
            return  # All cuts were taken back at once.
        link.cuts -= 1
        if link.lost and not self._world.faults.loss:
            self.end(link)

    def heal_all(self) -> None:
        """Take back all cuts and fences, and what makes links slow."""
        self._fences.clear()
        for link in self.links.values():
            link.cuts = link.slow_us = 0
            if link.lost:
                self.end(link)

    def _end_later(self, link: Link, most_us: int, *, by_peer: bool = False) -> None:
        number = link.number

        def end() -> None:
            if link.number == number:
                self.end(link, by_peer=by_peer)

        self._world.schedule.after(self._world.rng.randint(0, most_us), end)

    def _accepted_ends_later(self, link: Link, most_us: int, *, by_peer: bool) -> None:
        number = link.number

        def end() -> None:
            if link.number == number and link.accepted:
                link.accepted, link.accepted_ended_by_peer = False, by_peer

        self._world.schedule.after(self._world.rng.randint(0, most_us), end)

    def _dial_later(self, link: Link, most_us: int) -> None:
        life = self._nodes[link.sender].lives
        self._world.schedule.after(self._world.rng.randint(1, most_us), lambda: self._dial(link, life))

    def _dial(self, link: Link, life: int) -> None:
        sender, receiver = self._nodes[link.sender], self._nodes[link.receiver]
        if not sender.up or sender.lives != life or link.up or link.receiver not in self._targets[sender.id]:
            return
        back = self.links[link.receiver, link.sender]
        reachable = not (link.cuts or back.cuts or sender.paused)
        if reachable and (self._fenced(link) or (not receiver.up and receiver.killed)):
            # Nobody listens there. With both links ended by that side its process is taken for gone.
            if link.ended_by_peer and not back.accepted and back.accepted_ended_by_peer:
                sender.give(lambda: self._peer_gone(sender, link.receiver))
            self._dial_later(link, REDIAL_US)
            return
        if not reachable or not receiver.up or receiver.paused or self._refused(sender, receiver):
            self._dial_later(link, REDIAL_US)
            return
        lives, met = (sender.lives, receiver.lives), receiver.identity()
        said = sender.identity()
        link.addressed = bool(said.address or said.founders)
        self._world.schedule.after(
            self._world.rng.randint(1, 2 * self._world.faults.delay_us),
            lambda: self._establish(link, lives, met),
        )

    def _refused(self, sender: Node, receiver: Node) -> bool:
        by_receiver = receiver.replica.check_peer(sender.identity())
        by_sender = sender.replica.check_peer(receiver.identity())
        if by_receiver is not None:
            sender.give(lambda: self._tell_refused(sender, receiver.id, by_receiver))
        if by_sender is not None:
            receiver.give(lambda: self._tell_refused(receiver, sender.id, by_sender))
        return by_receiver is not None or by_sender is not None

    def _establish(self, link: Link, lives: tuple[int, int], met: PeerIdentity) -> None:
        sender, receiver = self._nodes[link.sender], self._nodes[link.receiver]
        if not sender.up or sender.lives != lives[0] or link.up:
            return
        if not receiver.up or receiver.lives != lives[1] or link.cuts:
            self._dial_later(link, REDIAL_US)
            return
        link.up, link.broken, link.lost = True, False, False
        link.ended_by_peer, link.accepted, link.accepted_ended_by_peer = False, True, False
        link.number += 1
        link.ups += 1
        link.incarnation = receiver.incarnation
        self._world.say(f"n{link.sender} has a link to n{link.receiver}")
        sender.give(lambda: self._link_up(sender, met))
        if not link.addressed and sender.identity().address:
            self.end(link)

    @staticmethod
    def _link_up(node: Node, peer: PeerIdentity) -> None:
        node.wake()
        node.replica.link_up(peer)

    @staticmethod
    def _link_down(node: Node, peer: NodeId) -> None:
        node.wake()
        node.replica.link_down(peer)

    def _peer_gone(self, node: Node, peer: NodeId) -> None:
        self._world.say(f"n{node.id} takes the process of n{peer} for gone")
        node.wake()
        node.replica.peer_gone(peer)

    @staticmethod
    def _tell_refused(node: Node, peer: NodeId, objection: Objection) -> None:
        node.wake()
        node.replica.refused(peer, objection.text, removed=objection.removed)
