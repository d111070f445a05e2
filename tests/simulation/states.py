"""What a driver is given in the simulator for whole states: flushes, transfers to peers, states that arrive.

Each step takes a while, and the power may fail right behind it. A transfer is one piece here, which arrives
whole or not at all: that its pieces come together in order is the business of `peer/` and its tests.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from respraft.node.driver import Driver
from respraft.node.interface import States
from respraft.raft.message import InstallSnapshot, NodeId, SnapshotPoint, Term
from respraft.replica.applier import META_APPLIED, META_CONFIGURATION, decode_applied
from respraft.replica.machine import META_PREFIX
from respraft.storage.state_memory import MemoryStateStore

if TYPE_CHECKING:
    from tests.simulation.node import Node, StateDisk


class SimulatedStates(States):
    """The state thread of one life, and the transfers that this life sends."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._life = node.lives
        self._sending: set[NodeId] = set()
        self._number = 0  # Of the newest state that has arrived.
        self._driver: Driver

    def start(self, driver: Driver) -> None:
        self._driver = driver

    def stop(self) -> None:
        """No life ends in order."""

    def flush(self, flush: Callable[[], None]) -> None:
        self._later(self._some_us(5_000), lambda: self._flush(flush))

    def send(self, peer: NodeId) -> None:
        if peer in self._sending:
            return
        self._sending.add(peer)
        self._driver.snapshot_begun(peer, self._node.replica.status().applied_index)
        flush, store = self._node.machine.begin_flush(), self._node.state
        self._later(self._some_us(20_000), lambda: self._take_picture(peer, store, flush))

    def installed(self, install: InstallSnapshot) -> None:
        node = self._node
        assert install.state is node.states[install.state_number]
        node.say(f"goes over to state {install.state_number}, as of {install.point.index}")
        node.state_number = install.state_number
        for number in [number for number in node.states if number < install.state_number]:
            del node.states[number]
        node.world.installed(node)
        node.storage_point()

    def arrived(self, term: Term, picture: bytes) -> None:
        """A peer's state is here, whole. It is made durable, and then offered to the driver."""
        node = self._node
        number = self._number = max(self._number, *node.states) + 1
        store = node.new_state(picture)
        node.storage_point()
        point = SnapshotPoint(*decode_applied(store.get(META_PREFIX + META_APPLIED)))
        configuration = store.get(META_PREFIX + META_CONFIGURATION)
        assert configuration is not None, "a peer that sends its state is in a cluster"
        install = InstallSnapshot(term, point, configuration, number, store)
        self._later(self._some_us(5_000), lambda: node.give(lambda: self._install(install)))

    def _install(self, install: InstallSnapshot) -> None:
        node = self._node
        node.states[install.state_number] = cast("StateDisk", install.state)
        if self._driver.install_snapshot(install):
            node.say(f"installs a state as of {install.point.index}")
        else:
            del node.states[install.state_number]

    def _flush(self, flush: Callable[[], None]) -> None:
        flush()
        self._node.storage_point()
        self._later(self._some_us(100), lambda: self._node.give(self._driver.flushed))

    def _take_picture(self, peer: NodeId, store: MemoryStateStore, flush: Callable[[], None]) -> None:
        flush()
        path = Path(str(len(store.checkpoints)))
        store.checkpoint(path)
        picture = store.checkpoints[path]
        store.checkpoints[path] = b""
        self._node.storage_point()
        term = self._node.core.term  # As of the picture, or later.
        most_us = self._node.world.faults.transfer_us
        self._later(self._some_us(most_us), lambda: self._deliver(peer, term, picture))
        if self._node.world.rng.random() < self._node.world.faults.repeat:
            # As from another leader before or after, whose transfer took its own time.
            self._later(self._some_us(2 * most_us), lambda: self._arrive_again(peer, term, picture))

    def _deliver(self, peer: NodeId, term: Term, picture: bytes) -> None:
        node = self._node
        arrived = self._arrive(peer, term, picture)
        patience_us = self._some_us(50_000) if arrived else 50_000
        self._later(patience_us, lambda: node.give(lambda: self._end(peer)))

    def _arrive_again(self, peer: NodeId, term: Term, picture: bytes) -> None:
        self._arrive(peer, term, picture)

    def _arrive(self, peer: NodeId, term: Term, picture: bytes) -> bool:
        node = self._node
        receiver = node.world.reach(node, peer)
        if receiver is None or node.world.rng.random() <= node.world.faults.loss:
            return False
        node.world.say(f"n{node.id} has brought its state to n{peer}")
        receiver.guarded(lambda: receiver.states_thread.arrived(term, picture))
        return True

    def _end(self, peer: NodeId) -> None:
        self._sending.discard(peer)
        self._driver.snapshot_ended(peer)

    def _some_us(self, most_us: int) -> int:
        return int(self._node.world.rng.random() ** 2 * most_us)

    def _later(self, delay_us: float, action: Callable[[], None]) -> None:
        node = self._node
        node.world.schedule.after(delay_us, lambda: self._guarded(action))

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._node.up and self._node.lives == self._life:
            self._node.guarded(action)
