"""What our own load generators have in common: options, counting, latencies, and the result on stdout.

A generator is a process of its own (`python -m tests.benchmark.pipeline`, `... .etcd`), so that its work does
not compete with the harness, and its CPU time can be told apart.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import uvloop

from tests.benchmark.workload import KEYS, VALUE_BYTES, Figures


class LoadFailed(Exception):
    """The server refused a request or closed a connection: there is no figure to report."""


@dataclass(slots=True)
class Run:
    """The requests still to send and the latencies so far, shared by all connections."""

    remaining: int
    finished: asyncio.Future[None]
    outstanding: int = 0
    completed: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def take(self, wanted: int) -> int:
        """Claim up to `wanted` requests to send now; 0 when all are sent."""
        granted = min(wanted, self.remaining)
        self.remaining -= granted
        self.outstanding += granted
        return granted

    def complete(self, requests: int, latency_s: float) -> None:
        """Record one answered request, or one whole pipeline of them."""
        self.completed += requests
        self.outstanding -= requests
        self.latencies_s.append(latency_s)
        if not self.outstanding and not self.remaining and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, reason: str) -> None:
        """End the run: a figure with errors in it would be no figure."""
        if not self.finished.done():
            self.finished.set_exception(LoadFailed(reason))


class Connection(asyncio.Protocol):
    """One client. Subclasses send what `take` grants and report each answer to the run."""

    def __init__(self, run: Run, options: argparse.Namespace) -> None:
        self.run = run
        self.options = options
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.run.fail(f"the server closed a connection: {error or 'end of file'}")

    def begin(self) -> None:
        """Send the first requests; all connections are up by then."""
        raise NotImplementedError


MakeConnection: TypeAlias = Callable[[Run, argparse.Namespace], Connection]


def options_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that every generator has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--command", choices=("SET", "GET"), default="SET")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--value-bytes", type=int, default=VALUE_BYTES)
    parser.add_argument("--keys", type=int, default=KEYS)
    return parser


def generate(options: argparse.Namespace, connect: MakeConnection) -> None:
    """Send the load over `options.clients` connections and print the figures as one JSON line."""
    print(json.dumps(uvloop.run(_generate(options, connect)).as_dict()))


def figures(latencies_s: list[float], requests: int, elapsed_s: float) -> Figures:
    """Sum up one run."""
    percent = statistics.quantiles(latencies_s, n=100, method="inclusive")
    return Figures(rps=requests / elapsed_s, p50_ms=percent[49] * 1e3, p99_ms=percent[98] * 1e3)


async def _generate(options: argparse.Namespace, connect: MakeConnection) -> Figures:
    loop = asyncio.get_running_loop()
    run = Run(options.requests, loop.create_future())
    connections = []
    for _ in range(options.clients):
        _transport, connection = await loop.create_connection(
            lambda: connect(run, options), options.host, options.port
        )
        connections.append(connection)
    start = time.perf_counter()
    for connection in connections:
        connection.begin()
    await run.finished
    return figures(run.latencies_s, run.completed, time.perf_counter() - start)
