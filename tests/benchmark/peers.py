"""What is compared: each peer starts its own processes on free loopback ports, in a directory of its own.

All keep what they acknowledge: redis-server syncs its append-only file before each reply, etcd and respraft
sync their logs on a majority of three nodes. Only processes started here are ended, by their pid.
"""

import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import redis

import respraft
from respraft import build
from tests.benchmark.workload import Endpoint, Figures, Workload
from tests.process.cluster import Cluster
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK, free_ports

READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0


class Peer(Protocol):
    """A server, or a cluster of them. Implementations name this class as a base."""

    name: str
    protocol: str  # "redis", "etcd" or "own": which load generators can drive it.

    def missing(self) -> str | None:
        """Return why this peer cannot run on this machine, or None."""
        ...

    def version(self) -> str:
        """Return the version of the installed program."""
        ...

    def takes(self, workload: Workload) -> bool:
        """Whether the workload means something on this peer."""
        known = self.protocol == "redis" or workload.command in ("SET", "GET")
        return known and not workload.follower and not workload.spread

    def start(self, directory: Path) -> None:
        """Start all processes, with their files under `directory`, and wait until they serve."""
        ...

    def endpoint(self, *, follower: bool = False) -> Endpoint:
        """Return where the leader, or the only node, takes clients now; or a node that follows."""
        ...

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        """Return where the clients of a workload connect; each place gets its part of them."""
        return [self.endpoint(follower=workload.follower)]

    def pids(self) -> list[int]:
        """Return the server processes, whose CPU time is the peer's."""
        ...

    def stop(self) -> None:
        """End what `start` started. May be called at any time, also twice."""
        ...


class OwnCallers(Peer):
    """A peer without a protocol for clients: those who use it are threads of its own processes."""

    def drive(self, workload: Workload, requests: int) -> Figures:
        """Have a workload's clients make so many requests. Raises LoadFailed."""
        raise NotImplementedError


class RespraftCluster(Peer):
    """respraft with its default configuration."""

    name = "respraft"
    protocol = "redis"

    def __init__(self, nodes: int = 3) -> None:
        self._nodes = nodes
        self._cluster: Cluster | None = None

    def missing(self) -> str | None:
        return _not_installed("redis-benchmark")

    def version(self) -> str:
        return f"{respraft.__version__} ({build.kind()})"

    def start(self, directory: Path) -> None:
        self._cluster = Cluster(directory, nodes=self._nodes)
        self._cluster.start()

    def takes(self, workload: Workload) -> bool:
        return self._nodes > 1 or not (workload.follower or workload.spread)

    def endpoint(self, *, follower: bool = False) -> Endpoint:
        cluster = self.cluster
        leader = cluster.leader()
        [chosen, *_] = [node_id for node_id in cluster.nodes if (node_id != leader) == follower]
        return Endpoint(LOOPBACK, cluster.nodes[chosen].client_port)

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        if not workload.spread:
            return super().endpoints(workload)
        return [Endpoint(LOOPBACK, node.client_port) for node in self.cluster.nodes.values()]

    def pids(self) -> list[int]:
        cluster = self.cluster
        return [cluster.pid(node_id) for node_id, node in cluster.nodes.items() if node.alive]

    def stop(self) -> None:
        if self._cluster is not None:
            self._cluster.close()

    @property
    def cluster(self) -> Cluster:
        """The nodes, to be looked at and hurt."""
        assert self._cluster is not None, "start comes first"
        return self._cluster


class RedisServer(Peer):
    """One redis-server that syncs every write before its reply: the measure of what respraft costs."""

    name = "redis"
    protocol = "redis"

    def __init__(self) -> None:
        self._processes = _Processes()
        self._port = 0

    def missing(self) -> str | None:
        return _not_installed("redis-server", "redis-benchmark")

    def version(self) -> str:
        return _first_line("redis-server", "--version").split("v=")[1].split()[0]

    def start(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        [self._port] = free_ports(1)
        arguments = f"--port {self._port} --bind {LOOPBACK} --appendonly yes --appendfsync always".split()
        self._processes.start(directory, "redis-server", *arguments, "--save", "", "--dir", str(directory))
        eventually(self._answers, READY_TIMEOUT_S, what="redis-server ready")

    def endpoint(self, *, follower: bool = False) -> Endpoint:
        del follower  # `takes` refuses that.
        return Endpoint(LOOPBACK, self._port)

    def pids(self) -> list[int]:
        return self._processes.pids()

    def stop(self) -> None:
        self._processes.stop()

    def _answers(self) -> bool:
        try:
            with redis.Redis(LOOPBACK, self._port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class EtcdCluster(Peer):
    """Three etcd nodes with their default configuration; its reads are linearizable as ours are."""

    name = "etcd"
    protocol = "etcd"

    def __init__(self, nodes: int = 3) -> None:
        self._nodes = nodes
        self._processes = _Processes()
        self._client_ports: list[int] = []

    def missing(self) -> str | None:
        return _not_installed("etcd")

    def version(self) -> str:
        return _first_line("etcd", "--version").rpartition(" ")[2]

    def takes(self, workload: Workload) -> bool:
        # Streams end one by one: there is no pipeline to be whole.
        return not workload.whole and super().takes(workload)

    def start(self, directory: Path) -> None:
        ports = free_ports(2 * self._nodes)
        self._client_ports, peer_ports = ports[: self._nodes], ports[self._nodes :]
        members = ",".join(f"n{place}=http://{LOOPBACK}:{port}" for place, port in enumerate(peer_ports))
        for place, (client, peer) in enumerate(zip(self._client_ports, peer_ports, strict=True)):
            home = directory / f"n{place}"
            home.mkdir(parents=True)
            self._processes.start(
                home,
                *("etcd", "--name", f"n{place}", "--data-dir", str(home / "data"), "--log-level", "warn"),
                *("--listen-client-urls", f"http://{LOOPBACK}:{client}"),
                *("--advertise-client-urls", f"http://{LOOPBACK}:{client}"),
                *("--listen-peer-urls", f"http://{LOOPBACK}:{peer}"),
                *("--initial-advertise-peer-urls", f"http://{LOOPBACK}:{peer}"),
                *("--initial-cluster", members),
            )
        eventually(self._leader_port, READY_TIMEOUT_S, what="etcd ready")

    def endpoint(self, *, follower: bool = False) -> Endpoint:
        del follower  # `takes` refuses that.
        return Endpoint(LOOPBACK, eventually(self._leader_port, READY_TIMEOUT_S, what="an etcd leader"))

    def pids(self) -> list[int]:
        return self._processes.pids()

    def stop(self) -> None:
        self._processes.stop()

    def _leader_port(self) -> int | None:
        """Return the leader's client port once every node knows the leader."""
        try:
            reports = {port: _etcd_status(port) for port in self._client_ports}
        except OSError:
            return None
        for port, report in reports.items():
            if all(other.get("leader") == report["header"]["member_id"] for other in reports.values()):
                return port
        return None


def _etcd_status(port: int) -> dict[str, Any]:
    request = urllib.request.Request(f"http://{LOOPBACK}:{port}/v3/maintenance/status", data=b"{}")
    with urllib.request.urlopen(request, timeout=5) as response:
        status = json.load(response)
    assert isinstance(status, dict)
    return status


def _not_installed(*programs: str) -> str | None:
    missing = [program for program in programs if shutil.which(program) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


class _Processes:
    """Child processes with their output in their directory."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, directory: Path, *command: str) -> None:
        with (directory / "output.txt").open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # A Ctrl-C at the terminal is for the harness.
            )
        self._children.append(child)

    def pids(self) -> list[int]:
        return [child.pid for child in self._living()]

    def stop(self) -> None:
        for child in self._living():
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()

    def _living(self) -> Iterable[subprocess.Popen[bytes]]:
        return [child for child in self._children if child.poll() is None]
