"""The driver's `LogWriter` in production: on a thread, or at once where the disk is quick.

Handing a write to a thread and its end back takes a dozen futex calls, two wake-ups and a change of the
interpreter's lock each way: 0.1 ms of processor time on each node, and 0.15 to 0.25 ms of every batch's way.
A disk that syncs in less than that is better waited for. The loop stands still meanwhile, so this is done
only while it pays: a write that took longer than `AT_ONCE_S` sends the next one to the thread, two in a row
the next three, and so on up to `SKIP_MAX`. A disk that hangs costs the loop one wait, and from then on it is
nearly always the thread that waits.

A write that fails ends the process, or at least this writer, on the spot, before anybody can be told of it.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from respraft.node.interface import LogWriter
from respraft.raft.ready import LogWrite
from respraft.storage.interface import LogStore

AT_ONCE_S: Final = 0.001
"""Writes that take no longer than this are not handed over."""

SKIP_MAX: Final = 255
"""Writes that go to the thread after many slow ones in a row, before one shows anew how the disk is."""


def carry_out(write: LogWrite, log_store: LogStore) -> None:
    """Make a write durable. Raises StorageFailed."""
    if (install := write.snapshot) is not None:
        # Never with a tail: the core installs only what its log cannot get to by itself.
        log_store.install(write.hard_state, install.point, install.state_number, keep_tail=False)
    else:
        log_store.append(write.hard_state, write.entries, first_index=write.first_index)


class AtOnce:
    """Decides which writes the loop waits for. Pure."""

    def __init__(self) -> None:
        """Nothing is known of the disk: the first write tells."""
        self._skips = 0  # How many writes go to the thread after the one that was slow.
        self._skip = 0  # How many of them are left.

    def next(self, write: LogWrite) -> bool:
        """Whether the loop may wait for `write`."""
        if write.snapshot is not None:
            return False
        if self._skip:
            self._skip -= 1
            return False
        return True

    def took(self, seconds: float) -> None:
        """The loop has waited for so long."""
        self._skips = 0 if seconds <= AT_ONCE_S else min(2 * self._skips + 1, SKIP_MAX)
        self._skip = self._skips


class StoreWriter(LogWriter):
    """Carries out one write after the other."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log_store: LogStore, *, die: Callable[[], object]
    ) -> None:
        """Nothing runs before `start`; from then on `log_store` is written here only.

        Args:
            loop: Hears of completed writes. Where `begin` is called.
            log_store: Where they go.
            die: Called while the exception of a write is handled, on the thread that made it. If it returns,
                nothing is ever written again, nor reported as written.
        """
        self._loop = loop
        self._log_store = log_store
        self._die = die
        self._at_once = AtOnce()
        self._writes: SimpleQueue[LogWrite | None] = SimpleQueue()
        self._written: Callable[[int, float], None]
        self._thread = threading.Thread(target=self._run, name="respraft-disk", daemon=True)

    def start(self, written: Callable[[int, float], None]) -> None:
        self._written = written
        self._thread.start()

    def begin(self, write: LogWrite) -> float | None:
        if not self._at_once.next(write):
            self._writes.put(write)
            return None
        took_s = self._carry_out(write)
        if took_s is not None:
            self._at_once.took(took_s)
        return took_s

    def stop(self) -> None:
        self._writes.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (write := self._writes.get()) is not None:
            took_s = self._carry_out(write)
            if took_s is None:
                return
            self._loop.call_soon_threadsafe(self._written, write.number, took_s)

    def _carry_out(self, write: LogWrite) -> float | None:
        """Make it durable; return in how many seconds. None: it failed, and that was the last one."""
        begin_s = time.monotonic()
        try:
            carry_out(write, self._log_store)
        except Exception:
            self._die()
            return None
        return time.monotonic() - begin_s
