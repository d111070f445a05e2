"""A node's life: brought up from its data directory, served until a signal, taken down in order.

Up: log (which may refuse to start), state, replica, then peers, clients and HTTP. Down, at SIGTERM or
SIGINT: no new clients, what is in flight is answered, the state is flushed, the log closed. Being killed at
any moment costs nothing but the replay of the log behind the last flush.
"""

import asyncio
import contextlib
import gc
import logging
import random
import secrets
import signal
import sys
import time
from typing import Final

import uvloop

from respraft import __version__, metrics
from respraft.commands.machine import KeyspaceMachine
from respraft.commands.table import lookup
from respraft.config import Config
from respraft.node.death import EXIT_STORAGE_FAILED, storage_advice
from respraft.peer.codec import Codec
from respraft.peer.interface import Identity as PeerIdentity
from respraft.peer.network import PeerNetwork
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.node import RaftNode
from respraft.replica.applier import META_CONFIGURATION, load_applied
from respraft.replica.replica import Replica
from respraft.replica.status import Identity, ReplicaMessage
from respraft.server.announcer import Announcer
from respraft.server.http import HttpServer
from respraft.server.server import Server
from respraft.server.status import Figures, readiness
from respraft.storage.interface import LogStore, StartRefused, StorageFailed
from respraft.storage.log import open_log
from respraft.storage.state import RocksStateStore

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 3
"""The data directory does not allow this node to start; its own message says why and what to do."""

STATE_NUMBER: Final = 1
"""Which `state/N` is the current one. A snapshot that is installed will get the next number."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter when another wants it. Python's 5 ms would be added to
every log write whose completion falls into a busy turn."""

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Batches make many short-lived objects and no cycles; collecting every 700 of them finds nothing."""

DRAIN_S: Final = 5.0
"""How long a stopping node waits for what is in flight."""

WATCH_S: Final = 0.2
"""How often samples are moved into histograms, and changes are looked for."""

_log: Final = logging.getLogger("respraft.server")


def serve(config: Config) -> int:
    """Run a node until SIGTERM or SIGINT; return the process's exit status."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with (
            contextlib.closing(
                open_log(config.node.data_dir, config.node.id, config.cluster.id)
            ) as log_store,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(_run(config, log_store))
    except StartRefused as error:
        _log.critical("%s", error)
        return EXIT_REFUSED
    except StorageFailed as error:
        _log.critical("%s. %s", error, storage_advice(error))
        return EXIT_STORAGE_FAILED
    except OSError as error:
        _log.critical("%s", error)
        return EXIT_FAILED


def bring_up(config: Config, log_store: LogStore, machine: KeyspaceMachine) -> Replica:
    """Make the replica that the log and the state of a data directory describe.

    Raises:
        StartRefused: The two do not belong together.
    """
    identity = log_store.identity()
    hard_state = log_store.hard_state()
    applied_index = load_applied(machine)[0]
    first_index, last_index = log_store.first_index(), log_store.last_index()
    if not first_index - 1 <= applied_index <= last_index:
        raise StartRefused(
            f"the keyspace in {config.node.data_dir} is as of log entry {applied_index}, but the Raft log "
            f"beside it holds entries {first_index} to {last_index}: one of them was replaced by an older "
            "copy, or removed. If the log is the one this node ran with last, move the keyspace's directory "
            "(state/) away and start again: while the log begins with entry 1 it holds everything. "
            "Otherwise put both back as they were when the node last ran"
        )
    configuration = machine.meta(META_CONFIGURATION)
    core = RaftNode(
        node_id=identity.node_id,
        config=config.raft,
        log=RaftLog(
            log_store,
            applied_index=applied_index,
            commit_index=hard_state.commit,
            cache_bytes_max=config.raft.entry_cache_bytes,
        ),
        hard_state=hard_state,
        configuration=Configuration.decode(configuration) if configuration else None,
        clock=LogClock(),
        rng=random.Random(secrets.randbits(64)),
    )
    return Replica(
        identity=Identity(
            identity.node_id, identity.incarnation, identity.start_counter, secrets.randbits(63) or 1
        ),
        config=config,
        core=core,
        machine=machine,
    )


async def _run(config: Config, log_store: LogStore) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as undo:  # Also when an address is taken.
        store = RocksStateStore(
            config.node.data_dir / "state" / str(STATE_NUMBER),
            write_buffer_bytes=config.storage.state_write_buffer_bytes,
            block_cache_bytes=config.storage.block_cache_bytes,
        )
        undo.callback(store.close)
        machine = KeyspaceMachine(store, lookup=lookup)
        undo.callback(machine.flush)
        replica = bring_up(config, log_store, machine)
        server = Server(config=config, replica=replica, machine=machine, log_store=log_store, loop=loop)
        server.connect(_network(config, log_store, server))
        await _start(config, server, undo)
        _log.info(
            "respraft %s: node %d of cluster %s serves clients on %s",
            __version__,
            config.node.id,
            config.cluster.id,
            config.client.listen,
        )
        await stop.wait()
        _log.info("stopping")
        await server.drain(DRAIN_S)
    _log.info("stopped; everything that was acknowledged is on disk")
    return EXIT_OK


async def _start(config: Config, server: Server, undo: contextlib.AsyncExitStack) -> None:
    """Take all addresses before anything is begun, so that a taken one leaves no traces."""
    network, driver, replica = server.network, server.driver, server.replica
    figures = Figures(server)
    http = HttpServer(
        live=lambda: (True, "alive"), ready=lambda: readiness(config, replica), metrics=metrics.render
    )
    undo.push_async_callback(network.close)
    undo.callback(driver.stop)
    undo.push_async_callback(http.close)
    for key, address, listen in (
        ("peer.listen", config.peer.listen, network.start),
        ("client.listen", config.client.listen, server.listen),
        ("http.listen", config.http.listen, http.start),
    ):
        try:
            await listen(address)
        except OSError as error:
            raise OSError(f"{key} = {address!r}: {error.strerror or error}") from error
    driver.start()
    network.set_peers({member.id: member.peer for member in config.cluster.members})
    metrics.before_render.append(figures.update)
    announcer = Announcer(config, clock=time.monotonic)
    watching = asyncio.create_task(_watch(figures, announcer, server))
    undo.callback(watching.cancel)
    _quiet_garbage_collector()


def _network(config: Config, log_store: LogStore, server: Server) -> PeerNetwork[ReplicaMessage]:
    identity = log_store.identity()
    return PeerNetwork(
        identity=PeerIdentity(
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            start_counter=identity.start_counter,
        ),
        codec=Codec(ReplicaMessage),
        config=config.peer,
        gatekeeper=server,
        receiver=server,
        rng=random.Random(secrets.randbits(64)),
    )


async def _watch(figures: Figures, announcer: Announcer, server: Server) -> None:
    """Move samples into histograms, and say in the log what has changed."""
    while True:
        await asyncio.sleep(WATCH_S)
        figures.collect()
        connected = [peer.peer for peer in server.network.status().values() if peer.connected]
        announcer.look(server.replica.status(), connected)


def _quiet_garbage_collector() -> None:
    """What is alive now stays alive: it need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    metrics.watch_garbage_collector()
