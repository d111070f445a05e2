"""What gathers over a state store: seen by every read at any time, brought down whole, counted by a flush."""

import random
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from respraft.storage.interface import StorageFailed
from respraft.storage.key_order import PIECE_KEYS, KeyOrder
from respraft.storage.state import RocksStateStore
from respraft.storage.state_gathering import GatheringStateStore
from respraft.storage.state_memory import MemoryStateStore
from tests.unit.storage.by_hand import ByHand

KEYS = [kind + b"%02d" % number for kind in (b"ra", b"rb", b"xa") for number in range(20)]
RANGES = [
    (b"ra", b"rb"),
    (b"rb", b"rc"),
    (b"xa", b"xb"),
    (b"rb05", b"rb11"),
    (b"", b"\xff"),
    (b"ra07", b"xa03"),
]


class Failing(MemoryStateStore):
    """Its disk gives out with the next write."""

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        raise StorageFailed("no space")


class Slow(MemoryStateStore):
    """Its writes wait to be let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def write(self, puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        super().write(puts, cleared)


class Layered:
    """A store with what gathers over it, on a thread by hand."""

    def __init__(self, records_max: int = 1 << 20, bytes_max: int = 1 << 30) -> None:
        self.below, self.thread = MemoryStateStore(), ByHand()
        self.store = GatheringStateStore(
            self.below, records_max=records_max, bytes_max=bytes_max, thread=self.thread
        )

    def send_down(self) -> None:
        """Let what has gathered be on its way, and no further."""
        self.store._go_down()


def test_what_gathers_is_readable_and_not_in_the_store_yet() -> None:
    layered = Layered()
    layered.below.write({b"ra": b"below", b"rb": b"below"})
    layered.store.write({b"ra": b"1", b"rb": None, b"rc": b""})
    assert [layered.store.get(key) for key in (b"ra", b"rb", b"rc", b"rd")] == [b"1", None, b"", None]
    assert layered.store.get_many([b"rd", b"ra", b"rb", b"rc"]) == [None, b"1", None, b""]
    assert list(layered.store.keys(b"r", b"s")) == [b"ra", b"rc"]
    assert layered.below.get(b"ra") == b"below"


def test_a_read_sees_what_is_under_way() -> None:
    layered = Layered()
    layered.store.write({b"ra": b"1", b"rb": b"1", b"rc": b"1"})
    layered.send_down()
    layered.store.write({b"rb": b"2", b"rc": None})
    assert len(layered.thread.tasks) == 1, "it has not been written"
    assert [layered.store.get(key) for key in (b"ra", b"rb", b"rc")] == [b"1", b"2", None]
    assert layered.store.get_many([b"rc", b"rb", b"ra"]) == [None, b"2", b"1"]
    assert list(layered.store.keys(b"r", b"s")) == [b"ra", b"rb"]
    layered.thread.step()
    assert layered.store.get_many([b"rc", b"rb", b"ra"]) == [None, b"2", b"1"]
    assert layered.below.get(b"rb") == b"1", "what came later waits for its turn"


def test_a_range_that_was_cleared_hides_what_is_under_way_and_below() -> None:
    layered = Layered()
    layered.below.write({b"ra1": b"below", b"ra2": b"below", b"rb1": b"below"})
    layered.store.write({b"ra2": b"1", b"ra3": b"1"})
    layered.send_down()
    layered.store.write({b"ra4": b"2"}, [(b"ra", b"rb")])
    assert layered.store.get_many([b"ra1", b"ra2", b"ra3", b"ra4", b"rb1"]) == [None] * 3 + [b"2", b"below"]
    assert list(layered.store.keys(b"r", b"s")) == [b"ra4", b"rb1"]
    layered.store.flush()
    assert layered.store.get_many([b"ra1", b"ra2", b"ra3", b"ra4", b"rb1"]) == [None] * 3 + [b"2", b"below"]


@pytest.mark.parametrize("seed", range(30))
def test_every_read_at_every_moment_is_that_of_a_plain_map(seed: int) -> None:
    rng = random.Random(seed)
    layered, plain = Layered(), MemoryStateStore()
    for number in range(200):
        puts = {key: rng.choice((None, b"%d" % number)) for key in rng.sample(KEYS, rng.randrange(8))}
        cleared = [rng.choice(RANGES)] if rng.random() < 0.05 else []
        for store in (layered.store, plain):
            store.write(puts, cleared)
        if layered.thread.tasks and rng.random() < 0.2:
            layered.thread.step()
        elif rng.random() < 0.1:
            layered.send_down()
        if rng.random() < 0.5:
            keys = rng.choices(KEYS, k=rng.randrange(20))
            assert layered.store.get_many(keys) == plain.get_many(keys)
            assert [layered.store.get(key) for key in keys] == plain.get_many(keys)
        if rng.random() < 0.3:
            low, high = rng.choice(RANGES)
            assert list(layered.store.keys(low, high)) == list(plain.keys(low, high))
    assert list(layered.store.iterate(b"", b"\xff")) == list(plain.iterate(b"", b"\xff"))


def test_a_crash_finds_whole_writes_in_their_order() -> None:
    """Nothing of a layer without the rest of it, and no layer without the one before."""
    layered = Layered()
    for number in range(5):
        layered.store.write({b"ra": b"%d" % number, b"rb": b"%d" % number})
    layered.send_down()
    for number in range(5, 10):
        layered.store.write({b"ra": b"%d" % number, b"m applied": b"%d" % number})
    layered.thread.step()
    layered.below.crash()
    assert dict(layered.below.iterate(b"", b"\xff")) == {b"ra": b"4", b"rb": b"4"}
    layered.send_down()
    layered.thread.step()
    layered.below.crash()
    assert dict(layered.below.iterate(b"", b"\xff")) == {b"ra": b"9", b"rb": b"4", b"m applied": b"9"}


def test_a_layer_that_is_not_down_is_gone_after_a_crash() -> None:
    layered = Layered()
    layered.store.write({b"ra": b"1"})
    layered.store.flush()
    layered.store.write({b"ra": b"2"})
    layered.send_down()
    layered.below.crash()
    assert layered.below.get(b"ra") == b"1"


def test_a_flush_counts_what_was_written_when_it_was_called_whatever_is_under_way() -> None:
    layered = Layered()
    layered.store.write({b"ra": b"1"})
    layered.send_down()
    layered.store.write({b"rb": b"2"})
    layered.store.flush()
    layered.store.write({b"rc": b"3"})
    layered.below.crash()
    assert dict(layered.below.iterate(b"", b"\xff")) == {b"ra": b"1", b"rb": b"2"}
    assert layered.store.get(b"rc") == b"3"


def test_a_checkpoint_holds_what_had_gathered() -> None:
    layered = Layered()
    layered.store.write({b"ra": b"1"})
    layered.send_down()
    layered.store.write({b"rb": b"2"})
    layered.store.checkpoint(Path("picture"))
    picture = MemoryStateStore.loaded(layered.below.checkpoints[Path("picture")])
    assert dict(picture.iterate(b"", b"\xff")) == {b"ra": b"1", b"rb": b"2"}


def test_closing_brings_everything_down() -> None:
    layered = Layered()
    layered.store.write({b"ra": b"1"})
    layered.send_down()
    layered.store.write({b"rb": b"2"})
    layered.store.close()
    layered.below.crash()
    assert dict(layered.below.iterate(b"", b"\xff")) == {b"ra": b"1", b"rb": b"2"}


def test_it_goes_down_by_itself_when_there_are_too_many_records() -> None:
    layered = Layered(records_max=10)
    for number in range(9):
        layered.store.write({b"ra%d" % number: b"1", b"ra0": b"%d" % number})
    assert not layered.thread.tasks
    layered.store.write({b"rb": None})
    assert len(layered.thread.tasks) == 1


def test_it_goes_down_by_itself_when_it_is_too_large() -> None:
    layered = Layered(bytes_max=1000)
    layered.store.write({b"ra": bytes(999)})
    assert not layered.thread.tasks
    layered.store.write({b"rb": b"1"})
    assert len(layered.thread.tasks) == 1


def test_no_more_than_one_layer_is_under_way_and_one_waits() -> None:
    layered = Layered(records_max=1)
    for number in range(5):
        layered.store.write({b"ra": b"%d" % number})
        assert len(layered.thread.tasks) <= 1, "the writer waits for the one before"
    layered.thread.step()
    assert layered.below.get(b"ra") == b"4"


def test_the_owner_goes_on_while_a_layer_is_written() -> None:
    below = Slow()
    store = GatheringStateStore(below, records_max=100, bytes_max=1 << 20)
    store.write({b"ra": b"1"})
    flush = threading.Thread(target=store.flush)
    flush.start()
    assert below.begun.wait(60)
    store.write({b"rb": b"2"})
    assert store.get_many([b"ra", b"rb"]) == [b"1", b"2"]
    assert list(store.keys(b"r", b"s")) == [b"ra", b"rb"]
    below.go_on.set()
    flush.join()
    below.crash()
    assert below.get(b"ra") == b"1"
    assert below.get(b"rb") is None
    store.close()


def test_a_write_that_fails_is_told_to_the_next_one_and_to_a_flush() -> None:
    store = GatheringStateStore(Failing(), thread=ByHand(), records_max=1, bytes_max=1 << 20)
    store.write({b"ra": b"1"})
    with pytest.raises(StorageFailed, match="no space"):
        store.flush()
    with pytest.raises(StorageFailed, match="no space"):
        store.write({b"rb": b"1"})
    with pytest.raises(StorageFailed, match="no space"):
        store.checkpoint(Path("picture"))
    assert store.get(b"ra") == b"1", "nobody is shown an older state meanwhile"
    with pytest.raises(StorageFailed, match="no space"):
        store.close()


@pytest.mark.parametrize("rocks", [False, True])
def test_reads_are_right_while_a_thread_writes_and_another_flushes(rocks: bool, tmp_path: Path) -> None:
    below = RocksStateStore(tmp_path, write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    store = GatheringStateStore(below if rocks else MemoryStateStore(), records_max=700, bytes_max=1 << 20)
    plain: dict[bytes, bytes] = {}
    rng = random.Random(0)
    stop = threading.Event()

    def flush() -> None:
        while not stop.wait(0.001):
            store.flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    for number in range(1500):
        puts: dict[bytes, bytes | None] = {
            b"ra%04d" % rng.randrange(1000): rng.choice((None, b"%d" % number)) for _ in range(20)
        }
        cleared = [(b"ra04", b"ra05")] if number % 50 == 7 else []
        store.write(puts, cleared)
        if cleared:
            plain = {key: value for key, value in plain.items() if not b"ra04" <= key < b"ra05"}
        for key, value in puts.items():
            plain.pop(key, None)
            if value is not None:
                plain[key] = value
        keys = [b"ra%04d" % rng.randrange(1000) for _ in range(20)]
        assert store.get_many(keys) == [plain.get(key) for key in keys]
        assert store.get(keys[0]) == plain.get(keys[0])
        if number % 10 == 0:
            assert list(store.keys(b"ra", b"rb")) == sorted(plain)
    stop.set()
    flusher.join()
    store.close()
    if not rocks:
        below.close()


@pytest.mark.parametrize("begin", [0, 1, PIECE_KEYS, 5 * PIECE_KEYS + 1])
def test_keys_stay_in_order_as_others_come(begin: int) -> None:
    rng = random.Random(begin)
    keys = {b"%d" % rng.randrange(100_000) for _ in range(begin)}
    order = KeyOrder(keys)
    for _ in range(3 * PIECE_KEYS):
        key = b"%d" % rng.randrange(100_000)
        keys.add(key)
        order.add(key)
    order.add(b"")
    order.add(max(keys) + b"0")
    keys |= {b"", max(keys) + b"0"}
    expected = sorted(keys)
    assert list(order.between(b"", b"\xff")) == expected
    for _ in range(50):
        low, high = sorted(b"%d" % rng.randrange(100_000) for _ in range(2))
        assert list(order.between(low, high)) == [key for key in expected if low <= key < high]


def test_an_order_that_begins_empty() -> None:
    order = KeyOrder([])
    assert list(order.between(b"", b"\xff")) == []
    for number in range(3 * PIECE_KEYS):
        order.add(b"%05d" % (3 * PIECE_KEYS - number))
    assert list(order.between(b"00001", b"00004")) == [b"00001", b"00002", b"00003"]
