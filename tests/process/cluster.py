"""A cluster of real `respraft server` processes on loopback, with handles to hurt them.

Nodes are numbered from 1, as their ids. Each has a directory of its own under the cluster's, holding
`respraft.toml`, `data/` and `output.txt` (what it printed, over all of its lives). Ports stay the same over
restarts. Only processes started here are ever signalled, each by its pid.

This module asserts nothing about the server except that a node that was waited for became ready.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK, free_ports

REPOSITORY: Final = Path(__file__).resolve().parents[2]
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 60.0

_CLIENT_TIMEOUT_S: Final = 60.0
"""Longer than any reply of the server may take, so that a client's own time-out is always a failure."""

Settings = Mapping[str, Mapping[str, int | str]]
"""Configuration keys over the defaults: section, key, value."""

PATIENT: Final[Settings] = {"client": {"park_ms": 20_000, "request_timeout_ms": 25_000}}
"""For clients to whom no pause is to be an error, however long elections take on a busy machine."""

STEADY: Final[Settings] = {"raft": {"election_timeout_ms": 30_000}}
"""Who leads goes on leading, also where a machine stands still for a second: only its end or a command ends
that. Whoever waits for a timer instead waits for longer than clients that are PATIENT."""


@dataclass(slots=True)
class Node:
    """One node: where it lives, and the process of its current life, if any."""

    node_id: int
    directory: Path
    client_port: int
    peer_port: int
    http_port: int
    environment: Mapping[str, str]
    advertised_port: int = 0
    """Where the others reach its peer port, if not there: somebody stands between."""
    process: subprocess.Popen[bytes] | None = None
    paused: bool = False
    ends: int = 0  # Raised before it is hurt and again when it is gone. Odd: it may go at any moment.

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def output(self) -> Path:
        return self.directory / "output.txt"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """While the node, or those who serve its clients, are hurt and until they are gone."""
        self.ends += 1
        yield
        self.ends += 1

    def excuses(self, ends: int) -> bool:
        """Whether an error of a client that connected when there had been so many `ends` is no wonder."""
        return bool(ends % 2) or self.ends != ends


class Cluster:
    """Some nodes of one cluster. Use as a context manager, or call `close`."""

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        settings: Settings | None = None,
        environments: Mapping[int, Mapping[str, str]] | None = None,
        between: Callable[[Node], int] | None = None,
    ) -> None:
        """Write the configurations; nothing runs before `start`.

        Args:
            directory: Home of all the nodes; made if missing.
            nodes: How many.
            settings: Keys that differ from the defaults, on every node.
            environments: Environment variables of single nodes, by id, over this process's own.
            between: Returns the port at which the others shall reach a node's peer port.
        """
        self.nodes: Final[dict[int, Node]] = {}
        for node_id in range(1, nodes + 1):
            home, environment = directory / f"node-{node_id}", (environments or {}).get(node_id, {})
            client_port, peer_port, http_port = free_ports(3)
            node = Node(node_id, home, client_port, peer_port, http_port, environment)
            node.advertised_port = between(node) if between is not None else 0
            self.nodes[node_id] = node
        self._directory = directory
        self._between = between
        self._settings = settings or {}
        self._listed = list(self.nodes)
        for node in self.nodes.values():
            node.directory.mkdir(parents=True, exist_ok=True)
            self._config_path(node).write_text(self._configuration(node), encoding="utf-8")

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Processes.

    def start(self, *node_ids: int) -> "Cluster":
        """Start these nodes, or all that do not run, and wait until they are ready."""
        chosen = node_ids or [node_id for node_id, node in self.nodes.items() if not node.alive]
        for node_id in chosen:
            self.launch(node_id)
        self.wait_ready(*chosen)
        return self

    def launch(self, node_id: int) -> None:
        """Start one node without waiting for it."""
        node = self.nodes[node_id]
        assert not node.alive, f"node {node_id} runs already"
        node.paused = False
        with node.output.open("ab") as output:
            node.process = subprocess.Popen(
                [sys.executable, "-m", "respraft", "server", "--config", str(self._config_path(node))],
                cwd=REPOSITORY,
                env={**os.environ, **node.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C at the terminal is for the tests, which then end the nodes themselves.
                start_new_session=True,
            )

    def newcomer(self, number: int, **settings: Mapping[str, int | str]) -> Node:
        """Launch a node that is told neither an id nor a cluster nor members, and wait until it listens.

        Args:
            number: Its key in `nodes`, and the id that it is expected to get.
            settings: Keys of its own, by section.
        """
        home = self._directory / f"node-{number}"
        home.mkdir(parents=True, exist_ok=True)
        client_port, peer_port, http_port = free_ports(3)
        node = Node(number, home, client_port, peer_port, http_port, {})
        node.advertised_port = self._between(node) if self._between is not None else 0
        self.nodes[number] = node
        self.configure(number, **settings)
        self.launch(number)
        self.wait_listening(number)
        return node

    def configure(self, node_id: int, **settings: Mapping[str, int | str]) -> None:
        """Write the configuration of a newcomer anew, with keys of its own."""
        node = self.nodes[node_id]
        self._config_path(node).write_text(self._configuration(node, settings), encoding="utf-8")

    def move(self, node_id: int) -> None:
        """Give a node that does not run other ports."""
        node = self.nodes[node_id]
        assert not node.alive, f"node {node_id} still runs"
        node.client_port, node.peer_port, node.http_port = free_ports(3)
        path = self._config_path(node)
        text = path.read_text(encoding="utf-8")
        for section, port in (
            ("client", node.client_port),
            ("peer", node.peer_port),
            ("http", node.http_port),
        ):
            text = re.sub(rf'(\[{section}\]\nlisten = "127.0.0.1:)\d+', rf"\g<1>{port}", text)
        if self._between is not None:
            node.advertised_port = self._between(node)
            text = re.sub(r'(advertise = "127.0.0.1:)\d+', rf"\g<1>{node.advertised_port}", text)
        path.write_text(text, encoding="utf-8")

    def wait_ready(self, *node_ids: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until these nodes, or all that live, answer 200 on /readyz."""
        for node_id in node_ids or self.living():
            eventually(
                lambda node_id=node_id: self._ready_or_dead(node_id),  # type: ignore[misc]
                timeout_s,
                what=f"node {node_id} ready",
            )
            assert self.nodes[node_id].alive, f"node {node_id} died:\n{self.log_text(node_id)[-4000:]}"

    def wait_listening(self, *node_ids: int) -> None:
        """Wait until these nodes answer clients and HTTP, ready or not."""
        for node_id in node_ids:
            eventually(
                lambda node_id=node_id: self._answers(node_id),  # type: ignore[misc]
                START_TIMEOUT_S,
                what=f"node {node_id} listens",
            )

    def kill(self, *node_ids: int) -> None:
        """SIGKILL these nodes at once, and wait until they are gone."""
        with ExitStack() as stack:
            for node_id in node_ids:
                stack.enter_context(self.nodes[node_id].ending())
                os.kill(self.pid(node_id), signal.SIGKILL)
            for node_id in node_ids:
                self.wait(node_id)

    def stop(self, node_id: int, signal_number: int = signal.SIGTERM) -> int:
        """Ask one node to stop; return its exit code."""
        os.kill(self.pid(node_id), signal_number)
        return self.wait(node_id)

    def wait(self, node_id: int, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until one node ends by itself; return its exit code (negative: the signal)."""
        process = self.nodes[node_id].process
        assert process is not None, f"node {node_id} was never started"
        return process.wait(timeout_s)

    def pause(self, node_id: int) -> None:
        """SIGSTOP: its connections stay open, and nothing on it moves."""
        os.kill(self.pid(node_id), signal.SIGSTOP)
        self.nodes[node_id].paused = True

    def resume(self, node_id: int) -> None:
        os.kill(self.pid(node_id), signal.SIGCONT)
        self.nodes[node_id].paused = False

    def wipe(self, node_id: int) -> None:
        """Delete the data directory of a node that does not run."""
        node = self.nodes[node_id]
        assert not node.alive, f"node {node_id} still runs"
        shutil.rmtree(node.data)

    def close(self) -> None:
        """End every process that was started here, whatever state it is in."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
        for node in self.nodes.values():
            if node.process is not None:
                node.process.wait(STOP_TIMEOUT_S)

    # Views.

    def pid(self, node_id: int) -> int:
        """Return the pid of a living node; raises AssertionError with its last words otherwise."""
        node = self.nodes[node_id]
        assert node.process is not None and node.alive, f"node {node_id} is dead:\n{self.log_text(node_id)}"
        return node.process.pid

    def living(self) -> list[int]:
        """Return the nodes that run and are not paused."""
        return [node_id for node_id, node in self.nodes.items() if node.alive and not node.paused]

    def others(self, *node_ids: int) -> list[int]:
        """Return all nodes but these."""
        return [node_id for node_id in self.nodes if node_id not in node_ids]

    def log_text(self, node_id: int) -> str:
        """Return what this node printed, over all of its lives."""
        path = self.nodes[node_id].output
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def rss_bytes(self, node_id: int) -> int:
        """Return the memory that this node holds now."""
        pages = int(Path(f"/proc/{self.pid(node_id)}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def client(self, node_id: int, **options: Any) -> redis.Redis:
        """Return a redis-py client of one node that sends each command once and repeats nothing."""
        port = self.nodes[node_id].client_port
        defaults: dict[str, Any] = {
            "socket_timeout": _CLIENT_TIMEOUT_S,
            "socket_connect_timeout": _CLIENT_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "single_connection_client": False,
        }
        return redis.Redis(LOOPBACK, port, **{**defaults, **options})

    def status(self, node_id: int) -> dict[str, Any]:
        """Return RAFT.STATUS of one node."""
        with self.client(node_id, protocol=3, decode_responses=True) as client:
            status = client.execute_command("RAFT.STATUS")
        assert isinstance(status, dict), status
        return status

    def leader(self, timeout_s: float = START_TIMEOUT_S, among: Iterable[int] | None = None) -> int:
        """Wait until one living node leads in the newest term known to any, and return it."""
        chosen = None if among is None else list(among)
        return eventually(lambda: self._leader_now(chosen), timeout_s, what="a leader")

    def followers(self) -> list[int]:
        """Return the living nodes besides the leader."""
        leader = self.leader()
        return [node_id for node_id in self.living() if node_id != leader]

    def http(self, node_id: int, path: str, timeout_s: float = 30.0) -> tuple[int, str]:
        """GET a page of a node's HTTP port: status and body. Raises OSError."""
        connection = http.client.HTTPConnection(LOOPBACK, self.nodes[node_id].http_port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    # Private.

    def _ready_or_dead(self, node_id: int) -> bool:
        if not self.nodes[node_id].alive:
            return True
        try:
            return self.http(node_id, "/readyz")[0] == 200
        except OSError:
            return False

    def _leader_now(self, among: list[int] | None) -> int | None:
        reports: list[dict[str, Any]] = []
        for node_id in self.living() if among is None else among:
            try:
                reports.append(self.status(node_id))
            except (redis.ConnectionError, redis.TimeoutError):
                continue  # It is starting or ending; the others decide.
        newest = max((report["term"] for report in reports), default=0)
        leading = [report for report in reports if report["role"] == "leader" and report["term"] == newest]
        return int(leading[0]["node_id"]) if leading else None

    def _config_path(self, node: Node) -> Path:
        return node.directory / "respraft.toml"

    def _answers(self, node_id: int) -> bool:
        assert self.nodes[node_id].alive, f"node {node_id} died:\n{self.log_text(node_id)[-4000:]}"
        try:
            with self.client(node_id) as client:
                return bool(client.ping()) and self.http(node_id, "/livez")[0] == 200
        except (redis.ConnectionError, OSError):
            return False

    def _configuration(self, node: Node, own: Settings | None = None) -> str:
        """A listed node's configuration, or a newcomer's, who has settings of its own."""
        sections: dict[str, dict[str, int | str]] = {
            "node": {"data_dir": str(node.data)},
            "client": {"listen": f"{LOOPBACK}:{node.client_port}"},
            "peer": {"listen": f"{LOOPBACK}:{node.peer_port}"},
            "http": {"listen": f"{LOOPBACK}:{node.http_port}"},
            "cluster": {},
        }
        if node.advertised_port:
            sections["peer"]["advertise"] = f"{LOOPBACK}:{node.advertised_port}"
        listed = node.node_id in self._listed
        if listed:
            sections["node"]["id"] = node.node_id
            sections["cluster"]["id"] = "test"
        for section, keys in [*self._settings.items(), *(own or {}).items()]:
            sections.setdefault(section, {}).update(keys)
        lines = []
        for section, values in sections.items():
            lines.append(f"[{section}]")
            # A JSON number or string is the same in TOML.
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
            if section == "cluster" and listed:
                lines.append(f"members = [\n{self._members()}]")
        return "\n".join(lines) + "\n"

    def _members(self) -> str:
        return "".join(
            f'  {{ id = {node.node_id}, peer = "{LOOPBACK}:{node.advertised_port or node.peer_port}", '
            f'client = "{LOOPBACK}:{node.client_port}" }},\n'
            for node in map(self.nodes.__getitem__, self._listed)
        )


def merged(*several: Settings) -> Settings:
    """Return all these settings; of two for the same key, the later one counts."""
    sections: dict[str, dict[str, int | str]] = {}
    for settings in several:
        for section, keys in settings.items():
            sections.setdefault(section, {}).update(keys)
    return sections


class ClusterFactory:
    """Call it with the arguments of `Cluster`, save the directory. Clients are PATIENT by default."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.made: list[Cluster] = []

    def __call__(self, *, settings: Settings | None = None, **options: Any) -> Cluster:
        home = self._directory / f"cluster-{len(self.made)}"
        cluster = Cluster(home, settings=merged(PATIENT, settings or {}), **options)
        self.made.append(cluster)
        return cluster
