"""What goes wrong and when: faults as random events, each of which is taken back after a while."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from respraft.raft.message import NOBODY, NodeId
from respraft.raft.ready import Role
from tests.simulation.faults import Faults
from tests.simulation.network import Link, Network
from tests.simulation.node import Node, Surroundings
from tests.simulation.operator import NODES_MAX, Operator

SECOND_US: Final = 1_000_000
LASTS_US: Final = 1_500_000
"""Longest time that a cut, a partition or a pause lasts."""
RESTART_US: Final = 150_000
"""Longest time between two restarts of a rolling upgrade."""
REJOINS_MAX: Final = 4
"""Beyond the nodes that operators add."""


def calm(faults: Faults) -> Faults:
    """Return the same run without anything going wrong; what it is made of stays as slow as it was."""
    return replace(
        faults,
        loss=0.0,
        repeat=0.0,
        delay_tail=0.0,
        storage_crashes=0.0,
        slow_writes=0.0,
        failed_syncs=0.0,
        broken_transfers=0.0,
        garbled=0.0,
        opening_crashes=0.0,
        impatient=0.0,
        down_ms=1,
    )


class Chaos:
    """Makes faults until it is told to stop, and then takes back whatever is still broken."""

    def __init__(
        self, world: Surroundings, nodes: dict[NodeId, Node], network: Network, operator: Operator
    ) -> None:
        self.wiped: NodeId = 0
        self._operator = operator
        self._world = world
        self._nodes = nodes
        self._network = network
        self._over = False

    def start(self) -> None:
        """Begin, a while after the start of the run: it may form its cluster in peace or not."""
        faults = self._world.faults
        for rate, fault in (
            (faults.cuts, self._cut),
            (faults.slows, self._slow),
            (faults.partitions, self._partition),
            (faults.resets, self._reset),
            (faults.fences, self._fence),
            (faults.crashes, self._crash),
            (faults.restarts, self._restart),
            (faults.pauses, self._pause),
            (faults.wipes, self._wipe),
            (faults.rejoins, self._lose_and_rejoin),
            (faults.jumps, self._jump),
            (faults.flushes * faults.nodes, self._flush),
            (faults.transfers, self._operator.transfer),
            (faults.changes, self._operator.change),
        ):
            if rate:
                self._again(rate, fault)

    def stop(self) -> None:
        """End all faults."""
        self._over = True
        self._network.heal_all()
        for node in self._nodes.values():
            if node.up and node.paused:
                node.resume()

    def died(self, node: Node) -> None:
        """Start the node again, some time."""
        down_us = self._world.rng.randint(1, self._world.faults.down_ms * 1000)
        self._world.schedule.after(down_us, lambda: self.boot(node))

    def boot(self, node: Node) -> None:
        """Start a node; if its disk fails at once, try again later."""
        if not node.up and not node.gone and not node.boot():
            self.died(node)

    def _again(self, rate: float, fault: Callable[[], None]) -> None:
        def strike() -> None:
            if not self._over:
                fault()
                self._again(rate, fault)

        self._world.schedule.after(self._world.rng.expovariate(rate) * SECOND_US, strike)

    def _live(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.up]

    def _victim(self, nodes: list[Node]) -> Node:
        """Somebody, rather often a leader: that is where it hurts."""
        leaders = [node for node in nodes if node.core.role is Role.LEADER]
        if leaders and self._world.rng.random() < self._world.faults.leaders_share:
            return self._world.rng.choice(leaders)
        return self._world.rng.choice(nodes)

    def _lasts(self, end: Callable[[], None]) -> None:
        self._world.schedule.after(self._world.rng.randint(1000, LASTS_US), end)

    # -- Faults --------------------------------------------------------------------------------------

    def _cut(self) -> None:
        rng, links = self._world.rng, list(self._network.links.values())
        if not links:
            return
        if rng.random() < 0.5 or not (live := self._live()):
            self._cut_links([rng.choice(links)])
            return
        victim, deaf = self._victim(live).id, rng.random() < 0.5
        self._cut_links([link for link in links if victim == (link.receiver if deaf else link.sender)])

    def _slow(self) -> None:
        """What a node says, or hears, or both, takes its time."""
        rng = self._world.rng
        if not (live := self._live()):
            return
        victim, ends = self._victim(live).id, rng.choice(("from", "to", "from and to"))
        slow_us = rng.randint(1, self._world.faults.raft.election_timeout_ms * 1000)
        links = [
            link
            for link in self._network.links.values()
            if (victim == link.sender and "from" in ends) or (victim == link.receiver and "to" in ends)
        ]
        self._world.say(f"slow: {ends} n{victim}, by {slow_us} us")
        for link in links:
            link.slow_us = slow_us

        def heal() -> None:
            for link in links:
                link.slow_us = 0

        self._lasts(heal)

    def _partition(self) -> None:
        rng = self._world.rng
        size = rng.randint(1, max(1, len(self._nodes) - 1))
        side = set(rng.sample(sorted(self._nodes), size))
        if rng.random() < 0.5 and (live := self._live()):
            victim = self._victim(live).id  # Cut off with less than half of the others.
            others = [each for each in sorted(self._nodes) if each != victim]
            side = {victim, *rng.sample(others, rng.randint(0, max(0, (len(others) - 1) // 2)))}
        links = self._network.links.values()
        self._cut_links([link for link in links if (link.sender in side) != (link.receiver in side)])

    def _cut_links(self, links: list[Link]) -> None:
        self._world.say(f"cut: {' '.join(f'{link.sender}>{link.receiver}' for link in links)}")
        for link in links:
            self._network.cut(link)

        def heal() -> None:
            self._world.say(f"healed: {' '.join(f'{link.sender}>{link.receiver}' for link in links)}")
            for link in links:
                self._network.heal(link)

        self._lasts(heal)

    def _reset(self) -> None:
        if self._network.links:
            self._network.end(self._world.rng.choice(list(self._network.links.values())))

    def _fence(self) -> None:
        if live := self._live():
            victim = self._victim(live).id
            other = self._world.rng.choice([NOBODY, *sorted(self._nodes)])
            self._world.say(f"fence: n{victim} from {f'n{other}' if other else 'all'}")
            self._network.fence(victim, other)
            self._lasts(lambda: self._network.unfence(victim, other))

    def _crash(self) -> None:
        rng = self._world.rng
        killed = rng.random() < self._world.faults.kills
        everybody = rng.random() < 0.1
        for node in self._live():
            if everybody:
                node.die("everybody's power fails")
        if not everybody and (live := self._live()):
            self._victim(live).die("killed" if killed else "its power fails", killed=killed)

    def _restart(self) -> None:
        """A rolling upgrade of the followers, save for one that takes the leader for gone meanwhile."""
        rng = self._world.rng
        leaders = [node for node in self._live() if node.core.role is Role.LEADER]
        others = [node for node in self._nodes.values() if node not in leaders and not node.gone]
        if not leaders or len(others) < 2:
            return
        leader, parted = rng.choice(leaders).id, others.pop(rng.randrange(len(others))).id
        self._world.say(f"fence: n{leader} from n{parted}, and restarts")
        self._network.fence(leader, parted)
        until_us = self._world.schedule.now_us + rng.randint(1000, LASTS_US)

        def restart() -> None:
            if self._over or self._world.schedule.now_us >= until_us:
                self._network.unfence(leader, parted)
                return
            node = rng.choice(others)
            if node.up and not node.paused:
                node.die("to be started again", killed=True)
            self._world.schedule.after(rng.randint(1000, RESTART_US), restart)

        restart()

    def _pause(self) -> None:
        awake = [node for node in self._live() if not node.paused]
        if not awake:
            return
        node = self._victim(awake)
        life = node.lives
        node.pause()
        self._lasts(lambda: node.resume() if node.up and node.lives == life and node.paused else None)

    def _wipe(self) -> None:
        """A disk is lost: one per run that stays so. Its node boots, and is refused."""
        nodes = self._dispensable()
        if self._world.configuration is None:
            nodes = self._live()
        if nodes and not self.wiped:
            node = self._world.rng.choice(nodes)
            self.wiped = node.id
            node.die("with its disk")
            node.wipe()

    def _lose_and_rejoin(self) -> None:
        """A disk is lost, and `respraft repair --rejoin` brings the machine back in its old place."""
        nodes = [node for node in self._live() if self.may_lose(node)]
        if nodes:
            node = self._victim(nodes)
            node.die("with its disk")
            self.lose(node)

    def may_lose(self, node: Node) -> bool:
        """Whether a node that is up may lose its disk and come back in its own place."""
        return not self._over and len(self._nodes) < NODES_MAX + REJOINS_MAX and node in self._dispensable()

    def lose(self, node: Node) -> None:
        """The disk of a node that has died is of no use, and it comes back with another one, some time."""
        node.gone = True
        node.wipe()
        down_us = self._world.rng.randint(1, self._world.faults.down_ms * 1000)
        self._world.schedule.after(down_us, lambda: self._operator.rejoin(node))

    def _dispensable(self) -> list[Node]:
        """Members that can be done without: never amid a change, nor while another one is lost."""
        configuration = self._world.configuration
        if configuration is None or self._operator.waiting or self._operator.lost(configuration):
            return []
        ids = [member.id for member in configuration.members]
        everybody = [node for node in self._nodes.values() if not node.gone and node.id in ids]
        if any(not node.up or node.core.configuration != configuration for node in everybody):
            return []
        voters = [member for member in configuration.members if member.voter]
        return everybody if configuration.settled and len(voters) >= 3 else []

    def _jump(self) -> None:
        node = self._world.rng.choice(list(self._nodes.values()))
        most_ms = max(100, self._world.faults.wall_spread_ms)
        node.clock.wall_offset_ms += self._world.rng.randint(-most_ms, most_ms)
        self._world.say(f"n{node.id} has its wall clock set, now {node.clock.wall_offset_ms} ms off")

    def _flush(self) -> None:
        if live := [node for node in self._live() if not node.paused]:
            node = self._world.rng.choice(live)
            node.give(node.want_flush)
