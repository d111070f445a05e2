"""The process of `respraft server`: a node with the keyspace and a Redis port, until a signal.

Up: the data directory (which may refuse to start), then peers, clients and HTTP. Down, at SIGTERM or
SIGINT: leadership is handed over, no new clients, what is in flight is answered, the state is flushed, the
log closed.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

import uvloop

from respraft import __version__, metrics
from respraft.commands.machine import KeyspaceMachine
from respraft.commands.table import KEYSPACE
from respraft.config import Config
from respraft.node.death import EXIT_STORAGE_FAILED, storage_advice
from respraft.node.node import Node
from respraft.server import rejoining
from respraft.server.http import HttpServer
from respraft.server.memory import limit_allocator, quiet_garbage_collector
from respraft.server.server import Server
from respraft.server.status import Figures, readiness
from respraft.storage.interface import StartRefused, StorageFailed
from respraft.storage.state_interface import StateStore

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 3
"""The data directory does not allow this node to start; its own message says why and what to do."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter when another wants it. Python's 5 ms would be added to
every log write whose completion falls into a busy turn."""

DRAIN_S: Final = 5.0
"""How long a stopping node waits for what is in flight."""

_log: Final = logging.getLogger("respraft.server")


def serve(config: Config) -> int:
    """Run a node until SIGTERM or SIGINT; return the process's exit status."""
    limit_allocator()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        own = rejoining.configured(config)
        with (
            contextlib.closing(Node(own, partial(_keyspace, own))) as node,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            note = rejoining.note_of(node)
            come_back = partial(rejoining.rejoin, node, note, config) if note is not None else None
            return runner.run(_run(own, node, come_back))
    except StartRefused as error:
        _log.critical("%s", error)
        return EXIT_REFUSED
    except StorageFailed as error:
        _log.critical("%s. %s", error, storage_advice(error))
        return EXIT_STORAGE_FAILED
    except OSError as error:
        _log.critical("%s", error)
        return EXIT_FAILED


def _keyspace(config: Config, store: StateStore) -> KeyspaceMachine:
    changed_bytes_max = config.storage.state_write_buffer_bytes
    return KeyspaceMachine(store, lookup=KEYSPACE.lookup, changed_bytes_max=changed_bytes_max)


async def _run(
    config: Config, node: Node[KeyspaceMachine], come_back: Callable[[], Coroutine[Any, Any, None]] | None
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as undo:  # Also when an address is taken.
        undo.push_async_callback(node.stop)
        server = await _start(config, node, undo)
        _log.info(
            "respraft %s: node %d of cluster %s serves clients on %s",
            __version__,
            node.node_id,
            node.cluster_id or "(none yet)",
            config.client.listen,
        )
        if come_back is not None:
            coming_back = asyncio.create_task(come_back())
            undo.callback(coming_back.cancel)
        await stop.wait()
        _log.info("stopping")
        await node.hand_over()
        await server.drain(DRAIN_S)
    _log.info("stopped; everything that was acknowledged is on disk")
    return EXIT_OK


async def _start(config: Config, node: Node[KeyspaceMachine], undo: contextlib.AsyncExitStack) -> Server:
    """Take all addresses before anything is begun, so that a taken one leaves no traces."""
    with _naming("peer.listen", config.peer.listen):
        await node.listen()
    server = Server(node, table=KEYSPACE, sizes=node.machine.sizes)
    with _naming("client.listen", config.client.listen):
        if config.server.workers:
            await server.listen_with_workers(config.client.listen, config.server.workers)
        else:
            await server.listen(config.client.listen)
    http = HttpServer(
        live=lambda: (True, "alive"),
        ready=lambda: readiness(node.replica),
        metrics=metrics.render,
    )
    undo.push_async_callback(http.close)
    with _naming("http.listen", config.http.listen):
        await http.start(config.http.listen)
    figures = Figures(server)
    metrics.before_render.append(figures.update)
    node.watch = figures.collect
    node.start()
    quiet_garbage_collector()
    metrics.watch_garbage_collector()
    return server


@contextlib.contextmanager
def _naming(key: str, address: str) -> Iterator[None]:
    """Have an OSError say which address of the configuration it is about."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{key} = {address!r}: {error.strerror or error}") from error
