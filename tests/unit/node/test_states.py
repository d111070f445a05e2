"""Pictures of the state: one for all peers that need one, while it is sent and the log goes back to it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from respraft.node.states import StateThread
from respraft.peer.snapshot_transfer import Offer
from respraft.raft.message import Index, NodeId
from respraft.storage.interface import StorageFailed
from respraft.storage.state import RocksStateStore
from respraft.storage.state_directory import StateDirectories


class Around:
    """What a `StateThread` has around it: replica, machine, driver and network in one."""

    def __init__(self, store: RocksStateStore) -> None:
        self.applied_index, self.first_index = 100, 1
        self.opening: list[NodeId] = []  # Who has the state, and has not gone over to it.
        self.links = 1
        self.begun: list[tuple[NodeId, Index]] = []
        self.ended: list[NodeId] = []
        self.offers: dict[NodeId, Offer] = {}
        self.arrived: dict[NodeId, asyncio.Event] = {}
        self.events: list[str] = []
        self._store = store
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def status(self) -> Any:
        peers = [
            SimpleNamespace(id=peer, snapshot=True, match_index=0, hint_index=0) for peer in self.opening
        ]
        raft = SimpleNamespace(term=4, first_index=self.first_index, peers=peers)
        return SimpleNamespace(applied_index=self.applied_index, raft=raft)

    def links_to(self, peer: NodeId) -> int:
        return self.links

    def begin_flush(self) -> Callable[[], None]:
        return self._store.flush

    def snapshot_begun(self, peer: NodeId, index: Index) -> None:
        self.begun.append((peer, index))

    def snapshot_ended(self, peer: NodeId) -> None:
        self.ended.append(peer)
        self._changed.set()

    def flushed(self) -> None:
        self.events.append("flushed")
        self._changed.set()

    def die(self) -> None:
        """Called on the thread."""
        self.events.append("died")
        self._loop.call_soon_threadsafe(self._changed.set)

    async def send_snapshot(self, to: NodeId, offer: Offer, read: Callable[[str, int, int], bytes]) -> None:
        assert [len(read(name, 0, size)) for name, size in offer.files] == [size for _, size in offer.files]
        self.offers[to] = offer
        self.arrived[to] = asyncio.Event()
        self._changed.set()
        await self.arrived[to].wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def checkpoints(path: Path) -> list[Path]:
    return list(path.glob("checkpoint/*"))


async def with_states(path: Path, test: Callable[[StateThread, Around], Any]) -> None:
    directories = StateDirectories(path)
    store = RocksStateStore(directories.path(1), write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    store.write({b"a": b"1"})
    around = Around(store)
    states = StateThread(
        node_id=1,
        replica=cast(Any, around),
        machine=cast(Any, around),
        store=store,
        number=1,
        directories=directories,
        open_store=lambda number: store,
        replaced=lambda _: None,
        die=around.die,
    )
    states.network = cast(Any, around)
    states.start(cast(Any, around))
    await test(states, around)
    states.stop()
    await states.close()
    store.close()
    assert checkpoints(path) == []


def test_one_picture_serves_all_who_need_one(tmp_path: Path) -> None:
    async def test(states: StateThread, around: Around) -> None:
        states.send(2)
        await around.until(lambda: 2 in around.offers)
        around.applied_index = 150
        states.send(3)
        await around.until(lambda: 3 in around.offers)
        assert around.offers[2] == around.offers[3]
        assert around.begun == [(2, 100), (3, 100)], "the log is kept from where the picture ends"
        around.arrived[2].set()
        await around.until(lambda: around.ended == [2])
        states.send(4)  # Node 3 still gets it.
        await around.until(lambda: 4 in around.offers)
        assert around.offers[4] == around.offers[2]
        for peer in (3, 4):
            around.arrived[peer].set()
        await around.until(lambda: len(around.ended) == 3)
        states.send(2)
        await around.until(lambda: len(around.begun) == 4)
        assert around.begun[-1] == (2, 150), "it was gone with the last transfer"
        await around.until(lambda: around.offers[2] != around.offers[3])
        around.arrived[2].set()
        await around.until(lambda: len(around.ended) == 4)

    asyncio.run(with_states(tmp_path, test))


def test_a_picture_that_the_log_does_not_go_back_to_is_not_begun_again(tmp_path: Path) -> None:
    async def test(states: StateThread, around: Around) -> None:
        states.send(2)
        await around.until(lambda: 2 in around.offers)
        around.applied_index, around.first_index = 150, 102
        states.send(3)
        await around.until(lambda: 3 in around.offers)
        assert around.offers[2].snapshot != around.offers[3].snapshot
        assert around.begun == [(2, 100), (3, 150)]
        for peer in (3, 2):
            around.arrived[peer].set()
        await around.until(lambda: len(around.ended) == 2)

    asyncio.run(with_states(tmp_path, test))


def test_a_flush_that_fails_is_never_reported_as_done(tmp_path: Path) -> None:
    async def test(states: StateThread, around: Around) -> None:
        def fail() -> None:
            raise StorageFailed("no space")

        states.flush(fail)
        states.flush(lambda: None)
        await around.until(lambda: len(around.events) == 2)
        assert around.events == ["died", "flushed"]

    asyncio.run(with_states(tmp_path, test))


def test_a_peer_is_looked_at_anew_when_it_has_the_state_or_may_never_have_it(tmp_path: Path) -> None:
    async def test(states: StateThread, around: Around) -> None:
        around.opening.append(2)
        states.send(2)
        await around.until(lambda: 2 in around.offers)
        around.arrived[2].set()
        await asyncio.sleep(0.1)
        assert around.ended == [], "it is opening what has arrived"
        around.opening.clear()
        await around.until(lambda: around.ended == [2])

    asyncio.run(with_states(tmp_path, test))
