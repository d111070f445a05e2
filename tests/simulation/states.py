"""What a driver is given in the simulator for whole states: flushes, transfers to peers, states that arrive.

Each step takes a while, and the power may fail right behind it. How a state travels is in `transfer.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from respraft.node.driver import Driver
from respraft.node.installing import Installing
from respraft.node.interface import States
from respraft.node.states import INSTALL_LOOK_S, RETRY_S
from respraft.peer.snapshot_transfer import Offer
from respraft.raft.message import Index, InstallSnapshot, NodeId, SnapshotPoint, Term
from respraft.replica.applier import META_APPLIED, META_CONFIGURATION, decode_applied
from respraft.replica.machine import META_PREFIX
from respraft.storage.state_interface import StateStore
from tests.simulation.transfer import Arriving, Sending, files_of, sizes_of

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.state_disk import StateDisk


SECOND_US: Final = 1_000_000


class SimulatedStates(States):
    """The state thread of one life, and the transfers that this life sends."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._life = node.lives
        self._sending: set[NodeId] = set()
        self.brought: dict[NodeId, Index] = {}
        """Whose transfers are under way, and how far their states go, at least."""
        self._number = 0  # Of the newest state that has arrived.
        self.arriving = Arriving(node, self._arrived)
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
        index = self._node.replica.status().applied_index
        self._driver.snapshot_begun(peer, index)
        self.brought[peer] = index
        flush, store, disk = self._node.machine.begin_flush(), self._node.store, self._node.state
        self._later(self._some_us(20_000), lambda: self._take_picture(peer, index, store, disk, flush))

    def installed(self, install: InstallSnapshot) -> None:
        node = self._node
        node.say(f"goes over to state {install.state_number}, as of {install.point.index}")
        node.state_number, node.store = install.state_number, cast(StateStore, install.state)
        self.brought.clear()  # By a node that does not lead any more; they are of no use to a later leader.
        for number in [number for number in node.states if number < install.state_number]:
            del node.states[number]
        node.world.installed(node)
        node.storage_point()

    def _arrived(self, offer: Offer, picture: bytes) -> None:
        """A peer's state is here, whole and durable. It is opened, and then offered to the driver."""
        node, term = self._node, offer.term
        node.say(f"has received the state of n{offer.sender}")
        number = self._number = max(self._number, *node.states) + 1
        disk = node.new_state(picture)
        store = node.opened(disk)
        node.storage_point()
        point = SnapshotPoint(*decode_applied(store.get(META_PREFIX + META_APPLIED)))
        configuration = store.get(META_PREFIX + META_CONFIGURATION)
        assert configuration is not None, "a peer that sends its state is in a cluster"
        install = InstallSnapshot(term, point, configuration, number, store)
        self._later(self._some_us(50_000), lambda: node.give(lambda: self._install(install, disk)))

    def _install(self, install: InstallSnapshot, disk: "StateDisk") -> None:
        node = self._node
        node.storage_point(node.world.faults.opening_crashes)
        node.states[install.state_number] = disk
        if self._driver.install_snapshot(install):
            node.say(f"installs a state as of {install.point.index}")
        else:
            del node.states[install.state_number]

    def _flush(self, flush: Callable[[], None]) -> None:
        flush()
        self._node.storage_point()
        self._later(self._some_us(100), lambda: self._node.give(self._driver.flushed))

    def _take_picture(
        self, peer: NodeId, index: Index, store: StateStore, disk: "StateDisk", flush: Callable[[], None]
    ) -> None:
        flush()
        path = Path(str(len(disk.checkpoints)))
        store.checkpoint(path)
        picture = disk.checkpoints[path]
        disk.checkpoints[path] = b""
        self._node.storage_point()
        term = self._node.core.term  # As of the picture, or later.
        self._bring(peer, term, index, picture, lambda arrived: self._brought(peer, index, arrived))
        if self._node.world.rng.random() < self._node.world.faults.repeat:
            # As from another leader before or after, whose transfer took its own time.
            wait_us = self._some_us(2 * self._node.world.faults.transfer_us)
            self._later(wait_us, lambda: self._bring(peer, term, index, picture, lambda _: None))

    def _bring(
        self, peer: NodeId, term: Term, index: Index, picture: bytes, ended: Callable[[bool], None]
    ) -> None:
        node, rng = self._node, self._node.world.rng
        files = files_of(picture, pieces=3)
        offer = Offer(node.id, rng.getrandbits(62), term, index, sizes_of(files))
        Sending(node, peer, offer, files, ended).connect()

    def _brought(self, peer: NodeId, index: Index, arrived: bool) -> None:
        node = self._node
        if arrived:
            now_s = node.clock.monotonic_s()
            raft, links = node.core.status(), node.world.links_to(node, peer)
            self._until_installed(peer, Installing(peer, index, raft, links, now_s))
        else:
            self._later(RETRY_S * SECOND_US, lambda: node.give(lambda: self._end(peer)))

    def _until_installed(self, peer: NodeId, installing: Installing) -> None:
        node = self._node
        links, now_s = node.world.links_to(node, peer), node.clock.monotonic_s()
        if installing.is_over(node.core.status(), links, now_s):
            node.give(lambda: self._end(peer))
        else:
            self._later(INSTALL_LOOK_S * SECOND_US, lambda: self._until_installed(peer, installing))

    def _end(self, peer: NodeId) -> None:
        self._sending.discard(peer)
        self.brought.pop(peer, None)
        self._driver.snapshot_ended(peer)

    def _some_us(self, most_us: int) -> int:
        return int(self._node.world.rng.random() ** 2 * most_us)

    def _later(self, delay_us: float, action: Callable[[], None]) -> None:
        node = self._node
        node.world.schedule.after(delay_us, lambda: self._guarded(action))

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._node.up and self._node.lives == self._life:
            self._node.guarded(action)
