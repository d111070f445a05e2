"""Running one workload on one peer: which generator sends it, and what it cost the servers.

redis-benchmark drives what speaks Redis, except where whole pipelines are timed; `pipeline.py` and `etcd.py`
do the rest. Each runs as a process of its own. A generator that saw an error gives `LoadFailed`, no figure.
"""

import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import redis

from tests.benchmark.generator import LoadFailed
from tests.benchmark.machine import cpu_seconds
from tests.benchmark.peers import OwnCallers, Peer
from tests.benchmark.workload import KEYS, VALUE_BYTES, Endpoint, Figures, Measurement, Workload
from tests.process.cluster import REPOSITORY
from tests.process.ports import LOOPBACK

_FILL_KEYS: Final = 500
"""Keys per MSET of a fill."""
_POOL_BYTES: Final = 1 << 20
_FILL_TIMEOUT_S: Final = 60.0

SESSION_S: Final = 1000
"""Time to live of what SETEX writes: longer than a benchmark takes."""

_LAST_WORDS: Final = 1000
"""Characters of a failed generator's output that are worth showing."""


@dataclass(frozen=True, slots=True)
class Volume:
    """How many requests a run sends, so that it takes seconds and not minutes on any peer."""

    requests: int  # At P=1, to what speaks Redis.

    def of(self, workload: Workload, protocol: str) -> int:
        """Return the requests of one run: more where they are cheaper."""
        requests = self.requests
        if protocol == "own":
            requests //= 16  # Whatever calls itself takes 2 ms a call and more.
        elif protocol == "etcd":
            requests //= 4
        elif workload.pipeline > 1:
            requests *= 4
        if workload.value_bytes > VALUE_BYTES:
            requests //= 4
        if workload.clients == 1:
            requests //= 10
        return max(requests, 2 * workload.clients * workload.pipeline)


def measure(peer: Peer, others: Sequence[Peer], workload: Workload, run: int, volume: Volume) -> Measurement:
    """Run `workload` once on `peer`, while `others` idle."""
    requests = volume.of(workload, peer.protocol)
    pids = peer.pids()
    idle_pids = [pid for other in others for pid in other.pids()]
    endpoints = [] if isinstance(peer, OwnCallers) else peer.endpoints(workload)
    start = time.perf_counter()
    before, idle_before, own_before = cpu_seconds(pids), cpu_seconds(idle_pids), _children_seconds()
    if isinstance(peer, OwnCallers):
        figures = peer.drive(workload, requests)
    else:
        figures = _send(peer.protocol, endpoints, workload, requests)
    after, idle_after, own_after = cpu_seconds(pids), cpu_seconds(idle_pids), _children_seconds()
    elapsed = time.perf_counter() - start
    return Measurement(
        workload=workload.title,
        peer=peer.name,
        run=run,
        requests=requests,
        figures=figures,
        cpu_us=(after - before) / requests * 1e6,
        generator_share=(own_after - own_before) / elapsed,
        idle_share=(idle_after - idle_before) / elapsed,
    )


def fill(peer: Peer) -> None:
    """Write every key once, so that each GET finds one."""
    if isinstance(peer, OwnCallers):
        return  # Nothing is read of it.
    endpoint = peer.endpoint()
    if peer.protocol == "etcd":
        _run_generator("etcd", endpoint, "--fill", f"--keys={KEYS}", f"--value-bytes={VALUE_BYTES}")
        return
    write_keys(endpoint.port, KEYS, VALUE_BYTES)


def write_keys(port: int, keys: int, value_bytes: int) -> None:
    """Write every key once, over one connection, with values that differ and do not compress to nothing."""
    pool = random.Random(7).randbytes(_POOL_BYTES + value_bytes)
    with redis.Redis(LOOPBACK, port, socket_timeout=_FILL_TIMEOUT_S) as client:
        for first in range(0, keys, _FILL_KEYS):
            batch = range(first, min(first + _FILL_KEYS, keys))
            client.mset({b"key:%012d" % key: _slice(pool, key, value_bytes) for key in batch})


def _slice(pool: bytes, key: int, value_bytes: int) -> bytes:
    start = key * 7919 % _POOL_BYTES  # A prime: neighbours get different ones.
    return pool[start : start + value_bytes]


def parse_redis_benchmark(output: str) -> Figures:
    """Read what `redis-benchmark --csv` printed for one test.

    Raises:
        LoadFailed: It is not a header and one row: the server answered with errors, say.
    """
    rows = list(csv.DictReader(output.splitlines()))
    try:
        [row] = rows
        return Figures(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LoadFailed(f"redis-benchmark printed:\n{output}") from error


def _send(protocol: str, endpoints: Sequence[Endpoint], workload: Workload, requests: int) -> Figures:
    if protocol == "redis" and not workload.whole:
        return _redis_benchmarks(endpoints, workload, requests)
    [endpoint] = endpoints
    module = "pipeline" if protocol == "redis" else "etcd"
    options = (
        *("--command", workload.command, "--clients", str(workload.clients)),
        *("--pipeline", str(workload.pipeline), "--requests", str(requests)),
        *("--value-bytes", str(workload.value_bytes), "--keys", str(workload.keys)),
    )
    return Figures(**json.loads(_run_generator(module, endpoint, *options)))


def _redis_benchmarks(endpoints: Sequence[Endpoint], workload: Workload, requests: int) -> Figures:
    """Run one redis-benchmark per endpoint, side by side, each with its part of clients and requests."""
    commands = []
    for place, endpoint in enumerate(endpoints):
        clients = workload.clients // len(endpoints) + (place < workload.clients % len(endpoints))
        commands.append(
            (
                *("redis-benchmark", "-h", endpoint.host, "-p", str(endpoint.port), "--csv"),
                *("-c", str(clients), "-P", str(workload.pipeline)),
                *("-n", str(requests * clients // workload.clients), "-r", str(workload.keys)),
                *_test(workload),
            )
        )
    with ThreadPoolExecutor(len(commands)) as threads:
        return together([parse_redis_benchmark(output) for output in threads.map(_output, commands)])


def _test(workload: Workload) -> list[str]:
    """Return what redis-benchmark is to send."""
    if workload.command == "SETEX":  # It has no such test.
        return ["SETEX", "session:__rand_int__", str(SESSION_S), "x" * workload.value_bytes]
    return ["-t", workload.command.lower(), "-d", str(workload.value_bytes)]


def together(parts: Sequence[Figures]) -> Figures:
    """Sum up generators that ran side by side: all requests, the middle median, the worst p99."""
    return Figures(
        rps=sum(part.rps for part in parts),
        p50_ms=statistics.median(part.p50_ms for part in parts),
        p99_ms=max(part.p99_ms for part in parts),
    )


def _run_generator(module: str, endpoint: Endpoint, *options: str) -> str:
    address = ("--host", endpoint.host, "--port", str(endpoint.port))
    return _output((sys.executable, "-m", f"tests.benchmark.{module}", *address, *options))


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr + done.stdout)[-_LAST_WORDS:]
        raise LoadFailed(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout


def _children_seconds() -> float:
    """CPU time of the children that have ended: the generators, while the servers run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
