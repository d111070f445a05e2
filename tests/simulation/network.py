"""The network between nodes: links that come up by a handshake, carry messages, lose them and end.

Each ordered pair of nodes has its own link, dialled by the sender, as in `respraft/peer/`. Its contract is
kept where it matters for safety: a message comes from the incarnation that the handshake named, and goes to
the one that the handshake met; both sides are asked whether they welcome the other; and the sender is told
when its link comes up or ends. Beyond that contract, as far as the seed draws it, messages are lost, doubled,
overtaken and late although their link stands, and outlive it.
"""

from dataclasses import dataclass
from typing import Final

from respraft.raft.message import NodeId
from respraft.replica.formation import PeerIdentity
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
    cuts: int = 0  # Faults that swallow what is sent this way.
    lost: bool = False  # Something was swallowed since the link came up.
    last_us: int = 0  # When the last message arrives.
    incarnation: int = 0  # Of the receiver.
    by_peer: bool = (
        False  # It and its counterpart were ended by the receiver's side, as when that process ends.
    )


class Network:
    """All links."""

    def __init__(self, world: Surroundings, nodes: dict[NodeId, Node]) -> None:
        self._world = world
        self._nodes = nodes
        self.links = {(a, b): Link(a, b) for a in nodes for b in nodes if a != b}

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
            arrival_us = world.schedule.now_us + int(faults.delay_us * slowness * (0.5 + rng.random()))
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
        """A life begins: it dials everybody."""
        for link in self.links.values():
            if link.sender == node.id:
                self._dial_later(link, 1000)

    def died(self, node: Node) -> None:
        """A life is over; the others will notice."""
        for link in self.links.values():
            if link.receiver == node.id:
                link.by_peer = link.up and self.links[node.id, link.sender].up
        for link in self.links.values():
            if link.sender == node.id:
                link.up = False
                link.number += 1
            elif link.receiver == node.id and link.up:
                link.number += 1
                link.broken = True
                self._end_later(link, 5_000)

    def end(self, link: Link) -> None:
        """End a link, as by a reset; its sender dials again."""
        if not link.up:
            return
        link.up = False
        link.number += 1
        sender = self._nodes[link.sender]
        self._world.say(f"n{link.sender} loses its link to n{link.receiver}")
        sender.give(lambda: self._link_down(sender, link.receiver))
        self._dial_later(link, 1000 if link.by_peer else REDIAL_US)

    def slander(self, link: Link) -> None:
        """A middlebox resets the links between two nodes and refuses to make another, though both live."""
        back = self.links[link.receiver, link.sender]
        if link.up and back.up:
            self._world.say(f"between n{link.sender} and n{link.receiver} a middlebox resets everything")
            self.end(link)
            self.end(back)
            for each in (link, back):
                self._tell_gone(each)

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
        """Take back all cuts."""
        for link in self.links.values():
            link.cuts = 0
            if link.lost:
                self.end(link)

    def _end_later(self, link: Link, most_us: int) -> None:
        number = link.number
        self._world.schedule.after(
            self._world.rng.randint(0, most_us), lambda: self.end(link) if link.number == number else None
        )

    def _dial_later(self, link: Link, most_us: int) -> None:
        life = self._nodes[link.sender].lives
        self._world.schedule.after(self._world.rng.randint(1, most_us), lambda: self._dial(link, life))

    def _dial(self, link: Link, life: int) -> None:
        sender, receiver = self._nodes[link.sender], self._nodes[link.receiver]
        if not sender.up or sender.lives != life or link.up:
            return
        back = self.links[link.receiver, link.sender]
        if link.by_peer and not receiver.up and not (link.cuts or back.cuts):
            self._tell_gone(link)
        reachable = receiver.up and not (link.cuts or back.cuts or receiver.paused or sender.paused)
        if not reachable or self._refused(sender, receiver):
            self._dial_later(link, REDIAL_US)
            return
        lives, met = (sender.lives, receiver.lives), receiver.identity()
        self._world.schedule.after(
            self._world.rng.randint(1, 2 * self._world.faults.delay_us),
            lambda: self._establish(link, lives, met),
        )

    def _refused(self, sender: Node, receiver: Node) -> bool:
        by_receiver = receiver.replica.check_peer(sender.identity())
        by_sender = sender.replica.check_peer(receiver.identity())
        if by_receiver is not None:
            sender.give(lambda: self._tell_refused(sender, by_receiver))
        if by_sender is not None:
            receiver.give(lambda: self._tell_refused(receiver, by_sender))
        return by_receiver is not None or by_sender is not None

    def _establish(self, link: Link, lives: tuple[int, int], met: PeerIdentity) -> None:
        sender, receiver = self._nodes[link.sender], self._nodes[link.receiver]
        if not sender.up or sender.lives != lives[0] or link.up:
            return
        if not receiver.up or receiver.lives != lives[1] or link.cuts:
            self._dial_later(link, REDIAL_US)
            return
        link.up, link.broken, link.lost, link.by_peer = True, False, False, False
        link.number += 1
        link.incarnation = receiver.incarnation
        self._world.say(f"n{link.sender} has a link to n{link.receiver}")
        sender.give(lambda: self._link_up(sender, met))

    def _tell_gone(self, link: Link) -> None:
        sender = self._nodes[link.sender]
        sender.give(lambda: self._peer_gone(sender, link.receiver))

    @staticmethod
    def _peer_gone(node: Node, peer: NodeId) -> None:
        node.wake()
        node.replica.peer_gone(peer)

    @staticmethod
    def _link_up(node: Node, peer: PeerIdentity) -> None:
        node.wake()
        node.replica.link_up(peer)

    @staticmethod
    def _link_down(node: Node, peer: NodeId) -> None:
        node.wake()
        node.replica.link_down(peer)

    @staticmethod
    def _tell_refused(node: Node, text: str) -> None:
        node.wake()
        node.replica.refused(text)
