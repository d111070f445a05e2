"""The thread of a state store: one step after the other, none past one that failed."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from respraft.storage.interface import StorageFailed
from respraft.storage.pieces import Rows, Step
from respraft.storage.state_memory import MemoryStateStore
from respraft.storage.state_thread import ThreadedStateStore
from tests.unit.storage.by_hand import ByHand
from tests.unit.storage.steps import step_of


class Failing(MemoryStateStore):
    """Its disk gives out with the first write."""

    writes = 0

    def write_down(self, step: Step) -> None:
        self.writes += 1
        if self.writes == 1:
            raise StorageFailed("no space")
        super().write_down(step)


class Slow(MemoryStateStore):
    """Its writes wait to be let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def write_down(self, step: Step) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        super().write_down(step)


def everything(store: MemoryStateStore) -> dict[bytes, bytes]:
    return dict(store.iterate(b"", b"\xff"))


def test_steps_are_built_and_made_on_the_thread_in_their_order() -> None:
    below, thread, built = MemoryStateStore(), ByHand(), []
    store = ThreadedStateStore(below, thread)

    def build(number: int) -> Step:
        built.append(number)
        return step_of({b"a": b"%d" % number})

    futures = [store.begin_write_down(partial(build, number)) for number in range(3)]
    assert not built
    thread.step()
    assert (built, everything(below)) == ([0], {b"a": b"0"})
    futures[2].result()
    assert (built, everything(below)) == ([0, 1, 2], {b"a": b"2"})


def test_a_step_is_durable_at_its_end() -> None:
    below = MemoryStateStore()
    store = ThreadedStateStore(below, ByHand())
    store.begin_write_down(lambda: step_of({b"a": b"1"})).result()
    store.begin_write_down(lambda: step_of({b"a": b"2"}))
    below.crash()
    assert everything(below) == {b"a": b"1"}


@pytest.mark.parametrize("act", ["flush", "close"])
def test_flushing_and_closing_come_behind_what_was_begun(act: str) -> None:
    below = MemoryStateStore()
    store = ThreadedStateStore(below, ByHand())
    store.begin_write_down(lambda: step_of({b"a": b"1"}))
    getattr(store, act)()
    assert everything(below) == {b"a": b"1"}


def test_a_checkpoint_holds_what_was_begun_before_it() -> None:
    below = MemoryStateStore()
    store = ThreadedStateStore(below, ByHand())
    store.begin_write_down(lambda: step_of({b"a": b"1"}))
    store.checkpoint(Path("picture"))
    assert everything(MemoryStateStore.loaded(below.checkpoints[Path("picture")])) == {b"a": b"1"}


def test_reads_do_not_wait_for_a_step() -> None:
    below = Slow()
    below.write({b"a": b"1"})
    store = ThreadedStateStore(below)
    step = store.begin_write_down(lambda: step_of({b"a": b"2"}))
    assert below.begun.wait(60)
    assert store.get(b"a") == b"1"
    assert store.get_many([b"a", b"b"]) == [b"1", None]
    assert list(store.keys(b"", b"z")) == [b"a"]
    below.go_on.set()
    step.result()
    assert store.get(b"a") == b"2"
    store.close()


def test_nothing_is_written_behind_a_step_that_failed() -> None:
    below = Failing()
    store = ThreadedStateStore(below, ByHand())
    first = store.begin_write_down(lambda: step_of({b"a": b"1"}))
    second = store.begin_write_down(lambda: step_of({b"b": b"2"}))
    for future in (first, second):
        with pytest.raises(StorageFailed, match="no space"):
            future.result()
    with pytest.raises(StorageFailed, match="no space"):
        store.flush()
    with pytest.raises(StorageFailed, match="no space"):
        store.checkpoint(Path("picture"))
    with pytest.raises(StorageFailed, match="no space"):
        store.close()
    assert everything(below) == {}, "it would be newer than what is missing"


@pytest.mark.parametrize("error", [MemoryError(), OSError("select"), KeyError(b"a mistake of ours")])
@pytest.mark.parametrize("built", [False, True])
def test_nothing_is_written_behind_a_step_that_broke_off_for_whatever_reason(
    error: Exception, built: bool
) -> None:
    def rows() -> Iterator[Rows]:
        yield [b"a"], [b"1"]
        raise error

    def build() -> Step:
        if not built:
            raise error
        return Step(rows(), (), count=2, size=4)

    below = MemoryStateStore()
    store = ThreadedStateStore(below, ByHand())
    first = store.begin_write_down(build)
    second = store.begin_write_down(lambda: step_of({b"b": b"2"}))
    for future in (first, second):
        with pytest.raises(StorageFailed):
            future.result()
    with pytest.raises(StorageFailed):
        store.flush()
    assert everything(below) == {}, "it would be newer than what is missing"


def test_a_checkpoint_that_cannot_be_made_harms_nobody() -> None:
    store = ThreadedStateStore(MemoryStateStore(), ByHand())
    store.checkpoint(Path("picture"))
    with pytest.raises(OSError, match="exists"):
        store.checkpoint(Path("picture"))
    store.flush()
