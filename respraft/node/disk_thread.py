"""The disk thread: the driver's `LogWriter` in production.

It syncs with the interpreter lock released, so the event loop goes on meanwhile. A write that
fails ends the process, or at least this thread, on the spot, before anybody can be told anything.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from respraft.node.interface import LogWriter
from respraft.raft.ready import LogWrite
from respraft.storage.interface import LogStore


def carry_out(write: LogWrite, log_store: LogStore) -> None:
    """Make a write durable. Raises StorageFailed."""
    if (install := write.snapshot) is not None:
        # Never with a tail: the core installs only what its log cannot get to by itself.
        log_store.install(write.hard_state, install.point, install.state_number, keep_tail=False)
    else:
        log_store.append(write.hard_state, write.entries, first_index=write.first_index)


class DiskThread(LogWriter):
    """One thread that carries out one write after the other."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log_store: LogStore, *, die: Callable[[], object]
    ) -> None:
        """Nothing runs before `start`; from then on `log_store` is written by the thread only.

        Args:
            loop: Hears of completed writes.
            log_store: Where they go.
            die: Called on the thread while the exception of a write is handled. If it returns, the thread
                ends, and nothing is ever reported as written again.
        """
        self._loop = loop
        self._log_store = log_store
        self._die = die
        self._writes: SimpleQueue[LogWrite | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, written: Callable[[int, float], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(written,), name="respraft-disk", daemon=True)
        self._thread.start()

    def begin(self, write: LogWrite) -> None:
        self._writes.put(write)

    def stop(self) -> None:
        self._writes.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self, written: Callable[[int, float], None]) -> None:
        while (write := self._writes.get()) is not None:
            begin_s = time.monotonic()
            try:
                carry_out(write, self._log_store)
            except Exception:
                self._die()
                return
            self._loop.call_soon_threadsafe(written, write.number, time.monotonic() - begin_s)
