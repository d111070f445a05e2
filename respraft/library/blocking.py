"""A node of a cluster inside a program of yours that does not use asyncio.

    with respraft.Node(Counter(), respraft.Configuration(id=1, directory="data/1", members=members)) as node:
        print(node.write(b"5"))
        print(node.read(b"value"))

It is an AsyncNode whose event loop runs on a thread of its own. Methods may be called from any thread, from
many at a time; each waits until it is done.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from respraft.library.async_node import CHANGE_S, AsyncNode
from respraft.library.configuration import Configuration, Entry, Member, Status
from respraft.library.errors import Stopped
from respraft.library.machine import Machine
from respraft.raft.message import Index, NodeId

T = TypeVar("T")


class Node:
    """One node. See AsyncNode for what its methods promise, return and raise; here they block."""

    def __init__(self, machine: Machine, configuration: Configuration) -> None:
        """Prepare a node; nothing is touched before `start`. See `AsyncNode`."""
        self._node = AsyncNode(machine, configuration)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()  # Nothing is given to a loop that ends.
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the directory, take the ports and begin. See `AsyncNode.start`."""
        if self._thread is not None:
            raise RuntimeError("the node is running")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="respraft-node", daemon=True)
        self._thread.start()
        ready.wait()
        try:
            self._wait_for(self._node.start())
        except BaseException:
            self._end_loop()
            raise

    def stop(self) -> None:
        """Answer what is in flight, write the state down and let go of everything. See `AsyncNode.stop`."""
        if self._thread is not None:
            try:
                self._wait_for(self._node.stop())
            finally:
                self._end_loop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def write(self, command: bytes, timeout: float | None = None) -> Any:
        """Have a command executed, once, on every node; return the machine's reply. See `AsyncNode.write`."""
        return self._wait_for(self._node.write(command, timeout))

    def read(self, query: bytes, timeout: float | None = None, *, stale: bool = False) -> Any:
        """Have a query answered from a state that is not stale, unless it may be. See `AsyncNode.read`."""
        return self._wait_for(self._node.read(query, timeout, stale=stale))

    def transfer_leadership(self, to: NodeId | None = None) -> None:
        """Hand leadership over, to `to` or to whoever is furthest. See `AsyncNode.transfer_leadership`."""
        self._wait_for(self._node.transfer_leadership(to))

    def set_members(self, members: Sequence[Member], timeout: float = CHANGE_S) -> None:
        """Make these the members of the cluster, in one change. See `AsyncNode.set_members`."""
        self._wait_for(self._node.set_members(members, timeout))

    def leader(self) -> NodeId | None:
        """Return the leader's id as far as this node knows, or None. See `AsyncNode.leader`."""
        return self._call(self._node.leader)

    def status(self) -> Status:
        """Return a snapshot of this node and its cluster. See `AsyncNode.status`."""
        return self._call(self._node.status)

    def entry(self, index: Index) -> Entry:
        """Return a committed entry of the log. See `AsyncNode.entry`."""
        return self._call(lambda: self._node.entry(index))

    def _run(self, ready: threading.Event) -> None:
        """Body of the thread."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(ready.set)
            self._loop.run_forever()

    def _end_loop(self) -> None:
        assert self._thread is not None, "it was started"
        with self._loop_lock:
            loop, self._loop = self._loop, None
        assert loop is not None, "it was started"
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        self._thread = None

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._loop_lock:
            if self._loop is None:
                coroutine.close()
                raise Stopped("the node is not running")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            # `stop` has answered all calls that had begun.
            raise Stopped("the node was stopped before the call began") from None

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._wait_for(call())
