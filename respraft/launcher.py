"""`respraft cluster`: a whole cluster on one machine, to try things out.

The launcher writes one configuration per node, starts one `respraft server` process for each, shows their
log lines with the node's name in front, and stops them when it is told to stop. It is a supervisor for a
terminal, not for production: a node that dies is reported with its last words and stays dead, because the
point of such a cluster is to watch the others go on.

Under DIR/node-i/:

    respraft.toml   written at the first start; later edits to it are kept, as long as it still describes
                    the same cluster (ports, members, directory)
    respraft.pid    the pid of the running process
    respraft.log    what the node wrote to stderr. The node writes it itself, the launcher only reads along.

The children are in sessions of their own, so that Ctrl-C reaches the launcher alone, which then stops them in
good order. They also outlive a launcher that gets SIGKILL, as servers should; the next start finds them by
their pid files and says how to stop them.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from respraft import config_file
from respraft.config import SECTIONS, Config, ConfigError

NODES_MAX: Final = 7
PEER_PORT_OFFSET: Final = 100
HTTP_PORT_OFFSET: Final = 200
HOST: Final = "127.0.0.1"
CLUSTER_ID: Final = "demo"

READY_SECONDS_MAX: Final = 30.0
"""A cluster is ready in about a second. After this long it is said who is not, and nothing else happens."""
STOP_SECONDS_MAX: Final = 20.0
"""A node hands over, finishes what is in flight and flushes. One that still runs then is killed."""
LOG_BYTES_MAX: Final = 16 << 20
"""A log longer than this becomes respraft.log.1 at the next start."""

_POLL_SECONDS: Final = 0.05
_READY_POLL_SECONDS: Final = 0.2
_HTTP_SECONDS_MAX: Final = 0.5
_LAST_WORDS_LINES: Final = 10
_LAST_WORDS_BYTES: Final = 4096
_READ_BYTES: Final = 1 << 16
_PORT_MAX: Final = 65535

SERVER_COMMAND: Final = (sys.executable, "-m", "respraft", "server", "--config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start. Raises ConfigError where that cannot work."""

    nodes: int
    port: int  # Client port of node 1.
    directory: Path

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= NODES_MAX:
            raise ConfigError(f"--nodes is {self.nodes}; it must be between 1 and {NODES_MAX}")
        port_max = _PORT_MAX - HTTP_PORT_OFFSET - self.nodes + 1
        if not 1 <= self.port <= port_max:
            raise ConfigError(
                f"--port is {self.port}; it must be between 1 and {port_max}, since node i also takes "
                f"PORT+{PEER_PORT_OFFSET}+i-1 and PORT+{HTTP_PORT_OFFSET}+i-1"
            )

    def home(self, node_id: int) -> Path:
        """The directory of one node."""
        return self.directory / f"node-{node_id}"

    def ports(self, node_id: int) -> dict[str, int]:
        """The ports of one node by configuration section."""
        client = self.port + node_id - 1
        return {"client": client, "peer": client + PEER_PORT_OFFSET, "http": client + HTTP_PORT_OFFSET}

    def node_ids(self) -> range:
        """Every node, in order."""
        return range(1, self.nodes + 1)


def run(plan: Plan, command: Sequence[str] = SERVER_COMMAND) -> int:
    """Start the cluster and watch over it until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    `command` starts one node; the path of its configuration is appended.

    Raises:
        ConfigError: The cluster cannot be started: a port is taken, nodes of an earlier start are still
            running, or the files in the directory describe another cluster. Nothing was started.
    """
    _refuse_if_running(plan)
    _refuse_taken_ports(plan)
    configs = [_write_config(plan, node_id) for node_id in plan.node_ids()]
    cluster = _Cluster(plan)
    cluster.catch_signals()
    try:
        cluster.start(configs, command)
        cluster.watch()
    finally:
        cluster.stop()
    return 0 if cluster.asked_to_stop else 1


def config_text(plan: Plan, node_id: int) -> str:
    """The configuration file of one node: what it must be told, then every default as a comment."""
    members = ",\n".join(
        f'    {{ id = {each}, peer = "{HOST}:{plan.ports(each)["peer"]}", '
        f'client = "{HOST}:{plan.ports(each)["client"]}" }}'
        for each in plan.node_ids()
    )
    told = {
        "node": f"id = {node_id}\ndata_dir = {json.dumps(str(plan.home(node_id).resolve()))}",
        "cluster": f'id = "{CLUSTER_ID}"\nmembers = [\n{members},\n]',
    }
    for section, port in plan.ports(node_id).items():
        told[section] = f'listen = "{HOST}:{port}"'
    text = f"# Node {node_id} of a cluster started with `respraft cluster`. Edits are kept.\n"
    text += "# Keys with a # in front stand at their default; conf/respraft.toml explains each of them.\n"
    for section, table in SECTIONS.items():
        text += f"\n[{section}]\n"
        text += told[section] + "\n" if section in told else ""
        for each in dataclasses.fields(table):
            if isinstance(each.default, int) and (section, each.name) != ("node", "id"):
                text += f"# {each.name} = {each.default}\n"
    return text


@dataclass(slots=True)
class _Node:
    """One child process, and how far its log has been shown."""

    node_id: int
    home: Path
    process: subprocess.Popen[bytes]
    log_offset: int
    reported: bool = False  # Its death has been told.
    partial: bytes = b""  # The end of the log that has no line break yet.

    @property
    def name(self) -> str:
        return f"node-{self.node_id}"


class _Cluster:
    """The running children. Single-threaded: a signal only sets a mark, which the loop sees."""

    def __init__(self, plan: Plan) -> None:
        self.asked_to_stop = False
        self._plan = plan
        self._nodes: list[_Node] = []

    def catch_signals(self) -> None:
        """Turn the signals that end a terminal's program into a mark."""

        def mark(_number: int, _frame: FrameType | None) -> None:
            self.asked_to_stop = True

        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, mark)

    def start(self, configs: Sequence[Path], command: Sequence[str]) -> None:
        """Start every node; none is waited for."""
        _say(f"respraft: starting {self._plan.nodes} nodes in {self._plan.directory}")
        for node_id, path in zip(self._plan.node_ids(), configs, strict=True):
            log_path = path.with_name("respraft.log")
            if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
                log_path.replace(path.with_name("respraft.log.1"))
            with log_path.open("ab") as log:
                offset = log.tell()
                process = subprocess.Popen(
                    [*command, str(path.resolve())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            path.with_name("respraft.pid").write_text(f"{process.pid}\n", encoding="ascii")
            self._nodes.append(_Node(node_id, path.parent, process, offset))

    def watch(self) -> None:
        """Show logs and report deaths until asked to stop or until no node is left."""
        waiting = {node.node_id for node in self._nodes}
        give_up_at = time.monotonic() + READY_SECONDS_MAX
        ask_at = 0.0
        while not self.asked_to_stop:
            self._show_logs()
            self._report_deaths()
            living = {node.node_id for node in self._nodes if not node.reported}
            if not living:
                _say("respraft: no node is left")
                return
            now = time.monotonic()
            if waiting and now >= ask_at:
                ask_at = now + _READY_POLL_SECONDS
                ready = {node_id for node_id in waiting & living if _is_ready(self._plan, node_id)}
                late = (waiting & living) - ready
                waiting = late if now < give_up_at else set()
                if not waiting:
                    self._show_logs()
                    _say(_welcome(self._plan, living - late, late))
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End every node: SIGTERM to all, SIGKILL to what still runs after STOP_SECONDS_MAX."""
        living = [node for node in self._nodes if node.process.poll() is None]
        if living:
            _say("respraft: stopping")
        for node in living:
            node.process.terminate()
            node.process.send_signal(signal.SIGCONT)  # A node that someone had paused could not hear it.
        kill_at = time.monotonic() + STOP_SECONDS_MAX
        while any(node.process.poll() is None for node in living) and time.monotonic() < kill_at:
            self._show_logs()
            time.sleep(_POLL_SECONDS)
        for node in living:
            if node.process.poll() is None:
                _say(f"respraft: {node.name} did not stop within {STOP_SECONDS_MAX:.0f} s, killing it")
                node.process.kill()
            node.process.wait()
        self._show_logs()
        self._report_deaths(stopping=True)
        if living:
            _say("respraft: all nodes have stopped")

    def _show_logs(self) -> None:
        for node in self._nodes:
            for line in _new_lines(node):
                _say(f"{node.name} | {line}")

    def _report_deaths(self, *, stopping: bool = False) -> None:
        for node in self._nodes:
            status = node.process.poll()
            if status is None or node.reported:
                continue
            node.reported = True
            (node.home / "respraft.pid").unlink(missing_ok=True)
            if not stopping or status != 0:
                _say(_obituary(node, status))


def _refuse_if_running(plan: Plan) -> None:
    """Raise if nodes of an earlier start still run; a pid file that names no such process is removed."""
    running: list[int] = []
    for pid_path in sorted(plan.directory.glob("node-*/respraft.pid")):
        text = pid_path.read_text(encoding="ascii", errors="replace").strip()
        if text.isdigit() and _is_server(int(text), pid_path.with_name("respraft.toml")):
            running.append(int(text))
        else:
            pid_path.unlink(missing_ok=True)
    if running:
        raise ConfigError(
            f"nodes of the cluster in {plan.directory} are running already; stop the launcher they belong "
            f"to, or if it is gone: kill {' '.join(map(str, running))}"
        )


def _is_server(pid: int, config_path: Path) -> bool:
    """Whether `pid` lives and was started with this configuration; pids are used again by others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self").exists()  # No /proc on this system: believe the pid file.
    return os.fsencode(config_path.resolve()) in arguments


def _refuse_taken_ports(plan: Plan) -> None:
    for node_id in plan.node_ids():
        for section, port in plan.ports(node_id).items():
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                # As the server itself binds: connections of an earlier run that linger do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise ConfigError(
                        f"port {port}, the {section} port of node {node_id}, cannot be used: "
                        f"{error.strerror}; stop what listens there, or choose other ports with --port"
                    ) from error


def _write_config(plan: Plan, node_id: int) -> Path:
    """Write the node's configuration, unless one for the same cluster is there; returns its path."""
    path = plan.home(node_id) / "respraft.toml"
    text = config_text(plan, node_id)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path
    found = config_file.load(path)
    wanted = config_file.parse(text)
    for key, is_value, should_be in _differences(found, wanted):
        raise ConfigError(
            f"{path}: {key} is {is_value}, but these options ask for {should_be}. Start it with the --nodes, "
            f"--port and --dir it was made with, or choose another --dir for a new cluster"
        )
    return path


def _differences(found: Config, wanted: Config) -> list[tuple[str, object, object]]:
    """The keys that make it another cluster or another node. All others are the operator's to change."""
    pairs: list[tuple[str, object, object]] = [
        ("node.id", found.node.id, wanted.node.id),
        ("node.data_dir", found.node.data_dir.resolve(), wanted.node.data_dir),
        ("client.listen", found.client.listen, wanted.client.listen),
        ("peer.listen", found.peer.listen, wanted.peer.listen),
        ("http.listen", found.http.listen, wanted.http.listen),
        ("the number of cluster.members", len(found.cluster.members), len(wanted.cluster.members)),
    ]
    return [(key, is_value, should_be) for key, is_value, should_be in pairs if is_value != should_be]


def _is_ready(plan: Plan, node_id: int) -> bool:
    connection = http.client.HTTPConnection(HOST, plan.ports(node_id)["http"], timeout=_HTTP_SECONDS_MAX)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _welcome(plan: Plan, ready: set[int], late: set[int]) -> str:
    lines = [""]
    if late:
        names = ", ".join(f"node-{node_id}" for node_id in sorted(late))
        lines.append(f"Not ready after {READY_SECONDS_MAX:.0f} s: {names}. Its log above says why.")
    if ready:
        first, last = plan.ports(min(ready)), plan.ports(max(ready))
        all_ready = len(ready) == plan.nodes
        lines += [
            "Ready. Try:" if all_ready else f"{len(ready)} of {plan.nodes} nodes are ready. Try:",
            "",
            f"  redis-cli -p {first['client']} set hello world",
            f"  redis-cli -p {last['client']} get hello",
            f"  curl {HOST}:{first['http']}/metrics",
            "",
        ]
    lines += ["Ctrl-C stops the cluster; started again, the data is there.", ""]
    return "\n".join(lines)


def _obituary(node: _Node, status: int) -> str:
    """How a node ended, its last words, and how to start it again."""
    how = (
        f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    )
    last_words = ["(its log is gone)"]
    with contextlib.suppress(OSError), (node.home / "respraft.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        last_words = log.read().decode("utf-8", "backslashreplace").splitlines()[-_LAST_WORDS_LINES:]
    lines = [f"respraft: {node.name} {how}. Its last words ({node.home / 'respraft.log'}):"]
    lines += [f"    {line}" for line in last_words]
    again = shlex.join([*SERVER_COMMAND, str(node.home / "respraft.toml")])
    lines.append(f"respraft: start it again with: {again}")
    return "\n".join(lines)


def _new_lines(node: _Node) -> list[str]:
    """What the node has logged since the last call, whole lines only.

    A node's directory may be removed under us, to see what becomes of it; that must not stop the others.
    """
    data = b""
    with contextlib.suppress(OSError), (node.home / "respraft.log").open("rb") as log:
        if log.seek(0, os.SEEK_END) < node.log_offset:
            node.log_offset = 0  # It was made anew.
        log.seek(node.log_offset)
        data = log.read(_READ_BYTES)
    node.log_offset += len(data)
    *lines, node.partial = (node.partial + data).split(b"\n")
    return [line.decode("utf-8", "backslashreplace") for line in lines]


def _say(text: str) -> None:
    """Print, if anyone still reads: a closed terminal must not keep the nodes from being stopped."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
