"""Whole states in production: flushes, pictures for peers that are too far behind, and states that arrive.

    flush     thread: RocksDB writes its memtables           loop: flushed()
    send      thread: flush, checkpoint (hard links)         loop: the transfer, until it is installed
    arrival   loop: the transfer; thread: open, look inside  loop: install_snapshot() ... installed()
    installed                                                thread: close the state before, remove it

One thread does all of it, one thing at a time: so a state is never closed under a flush or a checkpoint, and
the event loop waits for no disk. A picture serves all peers that need one while it is sent, and goes with the
last of them.

A transfer that fails costs its peer time and nobody anything else: it is logged, and tried again when the
peer has shown that it still needs one. A flush that fails ends the node, like a log write.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from respraft.node.driver import Driver
from respraft.node.installing import Installing
from respraft.node.interface import States
from respraft.peer.network import PeerNetwork
from respraft.peer.snapshot_network import SnapshotFailed, SnapshotOwner, SnapshotTarget
from respraft.peer.snapshot_transfer import Offer
from respraft.raft.message import Index, InstallSnapshot, NodeId, SnapshotPoint, Term
from respraft.raft.ready import Role
from respraft.replica.applier import META_APPLIED, META_CONFIGURATION, decode_applied
from respraft.replica.machine import META_PREFIX, Machine
from respraft.replica.replica import Replica
from respraft.storage.interface import StartRefused, StorageFailed
from respraft.storage.state_directory import StateDirectories, remove_state
from respraft.storage.state_files import ArrivingState, StateFiles
from respraft.storage.state_interface import StateStore

RETRY_S: Final = 1.0
"""After a transfer that failed, the peer is not looked at again before that."""

INSTALL_LOOK_S: Final = 0.02
"""How often it is seen whether a peer has gone over to what it was sent."""

_log: Final = logging.getLogger("respraft.node")


class StateCounters(msgspec.Struct):
    """Totals since the start, for metrics."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0  # Arrived whole, of use or not.
    received_bytes: int = 0
    failed: int = 0  # Transfers from this node that did not get there, and states that could not be opened.


@dataclass(slots=True)
class _Picture:
    """A picture of the state, for as long as it is sent to somebody."""

    index: Index  # Everything up to here is in it: the log behind is kept for those who get it.
    taken: "asyncio.Task[tuple[Offer, StateFiles]]"
    users: int = 0


class StateThread(States, SnapshotOwner):
    """See the module's docstring. Made on the event loop."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        replica: Replica,
        machine: Machine,
        store: StateStore,
        number: int,
        directories: StateDirectories,
        open_store: Callable[[int], StateStore],
        replaced: Callable[[StateStore], None],
        die: Callable[[], object],
    ) -> None:
        """Begin with the node's present state.

        Args:
            node_id: This node.
            replica: Looked at only; what it must be told goes by the driver.
            machine: Its machine.
            store: The state that the log names,
            number: and its name.
            directories: Where states are.
            open_store: Opens the state of a number. Called on the thread.
            replaced: Called with the store that has taken the place of `store`; it is the caller's to close.
            die: Called on the thread while the exception of a flush is handled. If it returns, the flush is
                never reported as done, nor another one begun.
        """
        self.counters = StateCounters()
        self._flush_s: list[float] = []
        self.network: PeerNetwork[Any] | None = None
        """Set before the driver starts."""
        self._node_id = node_id
        self._replica = replica
        self._machine = machine
        self._store = store
        self._directories = directories
        self._open_store = open_store
        self._replaced = replaced
        self._die = die
        self._driver: Driver | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="respraft-state")
        self.number = number
        """Name of the state in use."""
        self._asking: list[Callable[[], None]] = []  # Want to hear of the end of the next flush.
        self._waiting: dict[int, StateStore] = {}  # Opened, not installed yet, by number.
        self._sending: dict[NodeId, asyncio.Task[None]] = {}
        self._shared: _Picture | None = None  # Is being sent, to whoever needs one.
        self._arrivals: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def path(self) -> Path:
        """Where the state in use is."""
        return self._directories.path(self.number)

    @property
    def sending(self) -> tuple[NodeId, ...]:
        """The peers that a picture of the state is being brought to."""
        return tuple(sorted(self._sending))

    def take_flush_seconds(self) -> list[float]:
        """Return how long each flush since the last call took."""
        taken, self._flush_s = self._flush_s, []
        return taken

    def when_flushed(self, done: Callable[[], None]) -> None:
        """Have `done` called when the next flush that begins is over and the log was cut."""
        self._asking.append(done)

    def adopt(self, node_id: NodeId) -> None:
        """This node has been given an id."""
        self._node_id = node_id

    async def close(self) -> None:
        """Let what is under way on the thread end. Comes behind `stop`."""
        tasks = [*self._sending.values(), *self._arrivals]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for store in self._waiting.values():  # The next start removes them.
            self._thread.submit(store.close)
        await self._loop.run_in_executor(None, self._thread.shutdown)

    # -- driver.States -------------------------------------------------------------------------------

    def start(self, driver: Driver) -> None:
        self._driver = driver

    def stop(self) -> None:
        self._stopped = True

    def flush(self, flush: Callable[[], None]) -> None:
        asking, self._asking = self._asking, []
        self._thread.submit(self._flush, flush, asking)

    def send(self, peer: NodeId) -> None:
        if peer not in self._sending:  # Else its end leads to another look at the peer.
            task = self._loop.create_task(self._bring(peer))
            self._sending[peer] = task
            task.add_done_callback(lambda _: self._sending.pop(peer, None))

    def installed(self, install: InstallSnapshot) -> None:
        before, path = self._store, self.path
        self.number, self._store = install.state_number, self._waiting.pop(install.state_number)
        self._replaced(self._store)
        self._thread.submit(_retire, before, path)
        for number in sorted(self._waiting):
            if number < install.state_number:  # Overtaken before it was written.
                self._thread.submit(_retire, self._waiting.pop(number), self._directories.path(number))

    # -- peer.SnapshotOwner --------------------------------------------------------------------------

    def snapshot_unwanted(self, peer: NodeId, offer: Offer) -> str | None:
        raft = self._replica.status().raft
        if self._stopped:
            return f"node {self._node_id} is stopping"
        if raft.role is Role.LEADER:
            return f"node {self._node_id} leads in term {raft.term}"
        if offer.index <= raft.commit_index:
            return f"node {self._node_id} has everything up to {raft.commit_index} already"
        return None

    def snapshot_target(self, offer: Offer) -> SnapshotTarget:
        return _Target(ArrivingState(self._directories, offer.files))

    def snapshot_arrived(self, peer: NodeId, offer: Offer, target: SnapshotTarget) -> None:
        assert isinstance(target, _Target), "it was made above"
        self.counters.received += 1
        self.counters.received_bytes += offer.size
        task = self._loop.create_task(self._take(peer, offer, target.state))
        self._arrivals.add(task)
        task.add_done_callback(self._arrivals.discard)

    # -- On the loop ---------------------------------------------------------------------------------

    async def _bring(self, peer: NodeId) -> None:
        """Send a picture of the state to a peer, and see it installed."""
        driver, network = self._driver, self.network
        assert driver is not None and network is not None, "the driver has been started"
        begin_s = time.monotonic()
        picture = self._picture_to_send()
        picture.users += 1
        driver.snapshot_begun(peer, picture.index)
        try:
            offer, files = await asyncio.shield(picture.taken)
            _log.info(
                "node %d needs log entries that are gone: sending it the state, %d bytes", peer, offer.size
            )
            await network.send_snapshot(peer, offer, files.read)
            self.counters.sent += 1
            self.counters.sent_bytes += offer.size
            _log.info("node %d has the state, after %.1f s", peer, time.monotonic() - begin_s)
            await self._until_installed(peer, picture.index)
        except (SnapshotFailed, StorageFailed, OSError) as error:
            self.counters.failed += 1
            _log.error("the state could not be brought to node %d, and will be again: %s", peer, error)
            await asyncio.sleep(RETRY_S)
        finally:
            self._release(picture)
        self._sending.pop(peer, None)  # It may be wanted again from here on.
        if not self._stopped:
            driver.snapshot_ended(peer)

    def _picture_to_send(self) -> "_Picture":
        """The one that is being sent already, if the log still goes back to it; else a new one."""
        status, picture = self._replica.status(), self._shared
        if picture is None or picture.index + 1 < status.raft.first_index:
            index = status.applied_index
            picture = self._shared = _Picture(index, self._loop.create_task(self._take_picture(index)))
        return picture

    async def _take_picture(self, index: Index) -> tuple[Offer, StateFiles]:
        """A picture that holds everything up to `index`, and perhaps more, and what is said of it."""
        flush = self._machine.begin_flush()
        if flush is None:
            raise SnapshotFailed("the machine cannot be flushed now")
        files = StateFiles(await self._on_thread(self._picture, flush, self._store))
        sizes = await self._on_thread(files.sizes)
        # The term as of now: what the picture holds was committed by then, so every leader of this term
        # or a newer one has it. One that was noted before the picture was taken might promise too much.
        term = self._replica.status().raft.term
        return Offer(self._node_id, secrets.randbits(63), term, index, sizes), files

    def _release(self, picture: "_Picture") -> None:
        """A transfer of it is over: the last one takes it away."""
        picture.users -= 1
        if picture.users:
            return
        if self._shared is picture:
            self._shared = None
        taken = picture.taken
        if taken.done() and not taken.cancelled() and taken.exception() is None:
            self._thread.submit(_remove, taken.result()[1].path)
        taken.cancel()

    async def _until_installed(self, peer: NodeId, index: Index) -> None:
        """Wait until the peer has gone over to the state, which it says to the core, or may never do so."""
        network = self.network
        assert network is not None, "the state has just gone that way"
        raft, links = self._replica.status().raft, network.links_to(peer)
        installing = Installing(peer, index, raft, links, time.monotonic())
        over = False
        while not over:
            await asyncio.sleep(INSTALL_LOOK_S)
            over = installing.is_over(self._replica.status().raft, network.links_to(peer), time.monotonic())

    async def _take(self, peer: NodeId, offer: Offer, arrived: ArrivingState) -> None:
        """Look into a state that has arrived, and hand it to the replica."""
        driver = self._driver
        assert driver is not None, "the driver has been started"
        try:
            store, install = await self._on_thread(self._open, arrived.number, offer.term)
        except (StorageFailed, StartRefused, OSError, ValueError) as error:
            self.counters.failed += 1
            _log.error("the state that node %d has sent is of no use: %s", peer, error)
            self._thread.submit(_remove, arrived.path)
            return
        self._waiting[arrived.number] = store
        if self._stopped or not driver.install_snapshot(install):
            _log.info("the state of node %d, as of entry %d, is not needed", peer, install.point.index)
            del self._waiting[arrived.number]
            self._thread.submit(_retire, store, arrived.path)

    async def _on_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._thread, function, *arguments)

    def _flushed(self, took_s: float, asking: list[Callable[[], None]]) -> None:
        self._flush_s.append(took_s)
        if not self._stopped and self._driver is not None:
            self._driver.flushed()
        for each in asking:
            each()

    # -- On the thread -------------------------------------------------------------------------------

    def _flush(self, flush: Callable[[], None], asking: list[Callable[[], None]]) -> None:
        begin_s = time.monotonic()
        try:
            flush()
        except Exception:
            self._die()
            return
        with contextlib.suppress(RuntimeError):  # The loop is gone.
            self._loop.call_soon_threadsafe(self._flushed, time.monotonic() - begin_s, asking)

    def _picture(self, flush: Callable[[], None], store: StateStore) -> Path:
        """Make a checkpoint. Raises OSError, and StorageFailed if `die` returns."""
        path = self._directories.new_checkpoint()
        try:
            flush()  # Outside of the checkpoint, which keeps the interpreter to itself meanwhile.
            store.checkpoint(path)
        except StorageFailed:
            self._die()
            raise
        return path

    def _open(self, number: int, term: Term) -> tuple[StateStore, InstallSnapshot]:
        """Open a state that has arrived. What it says of itself counts, not what was said of it."""
        store = self._open_store(number)
        try:
            point = SnapshotPoint(*decode_applied(store.get(META_PREFIX + META_APPLIED)))
            configuration = store.get(META_PREFIX + META_CONFIGURATION)
            if not point.index or configuration is None:
                raise ValueError("it is the state of no cluster")
        except BaseException:
            store.close()
            raise
        return store, InstallSnapshot(term, point, configuration, number, store)


class _Target(SnapshotTarget):
    """An `ArrivingState` by the name under which the network knows it."""

    def __init__(self, state: ArrivingState) -> None:
        self.state = state

    def write(self, name: str, offset: int, data: bytes, last: bool) -> None:
        self.state.write(name, offset, data, last)

    def seal(self) -> None:
        self.state.seal()

    def discard(self) -> None:
        self.state.discard()


def _retire(store: StateStore, path: Path) -> None:
    """Close a state that is not needed, and remove it."""
    try:
        store.close()
    except StorageFailed as error:
        _log.warning("a state that is not needed any more could not be closed in order: %s", error)
    _remove(path)


def _remove(path: Path) -> None:
    try:
        remove_state(path)
    except OSError as error:
        _log.warning("%s cannot be removed, the next start tries again: %s", path, error)
