"""Running one workload on one peer: which generator sends it, and what it cost the servers.

redis-benchmark drives what speaks Redis, except where whole pipelines are timed; `pipeline.py` and `etcd.py`
do the rest. Each runs as a process of its own. A generator that saw an error gives `LoadFailed`, no figure.
"""

import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import redis

from tests.benchmark.generator import LoadFailed
from tests.benchmark.machine import cpu_seconds
from tests.benchmark.peers import Peer
from tests.benchmark.workload import KEYS, VALUE_BYTES, Endpoint, Figures, Measurement, Workload
from tests.process.cluster import REPOSITORY

_FILL_KEYS: Final = 500
"""Keys per MSET of a fill."""

_LAST_WORDS: Final = 1000
"""Characters of a failed generator's output that are worth showing."""


@dataclass(frozen=True, slots=True)
class Volume:
    """How many requests a run sends, so that it takes seconds and not minutes on any peer."""

    requests: int  # At P=1, to what speaks Redis.

    def of(self, workload: Workload, protocol: str) -> int:
        """Return the requests of one run: more where they are cheaper."""
        requests = self.requests
        if protocol == "etcd":
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
    endpoint, pids = peer.endpoint(follower=workload.follower), peer.pids()
    idle_pids = [pid for other in others for pid in other.pids()]
    start = time.perf_counter()
    before, idle_before, own_before = cpu_seconds(pids), cpu_seconds(idle_pids), _children_seconds()
    figures = _send(peer.protocol, endpoint, workload, requests)
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
    endpoint = peer.endpoint()
    if peer.protocol == "etcd":
        _run_generator("etcd", endpoint, "--fill", f"--keys={KEYS}", f"--value-bytes={VALUE_BYTES}")
        return
    value = b"x" * VALUE_BYTES
    with redis.Redis(endpoint.host, endpoint.port) as client:
        for first in range(0, KEYS, _FILL_KEYS):
            client.mset({b"key:%012d" % key: value for key in range(first, first + _FILL_KEYS)})


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


def _send(protocol: str, endpoint: Endpoint, workload: Workload, requests: int) -> Figures:
    if protocol == "redis" and not workload.whole:
        return _redis_benchmark(endpoint, workload, requests)
    module = "pipeline" if protocol == "redis" else "etcd"
    options = (
        *("--command", workload.command, "--clients", str(workload.clients)),
        *("--pipeline", str(workload.pipeline), "--requests", str(requests)),
        *("--value-bytes", str(workload.value_bytes), "--keys", str(KEYS)),
    )
    return Figures(**json.loads(_run_generator(module, endpoint, *options)))


def _redis_benchmark(endpoint: Endpoint, workload: Workload, requests: int) -> Figures:
    command = (
        *("redis-benchmark", "-h", endpoint.host, "-p", str(endpoint.port), "--csv"),
        *("-t", workload.command.lower(), "-c", str(workload.clients), "-P", str(workload.pipeline)),
        *("-n", str(requests), "-r", str(KEYS), "-d", str(workload.value_bytes)),
    )
    return parse_redis_benchmark(_output(command))


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
