"""The command line and the launcher, as processes: what they print, what they leave, how they end.

The launcher is tried with a stand-in for the server (STAND_IN below), so that these tests are about starting,
watching and stopping; `tests/process/` runs the real thing.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import respraft
from respraft import __version__, build, cli, launcher
from respraft.config import ConfigError
from respraft.config_file import load, parse
from respraft.launcher import Plan, config_text
from tests.process.ports import free_base

PROJECT = Path(__file__).parents[2]

STAND_IN = """
import http.server, os, sys
from pathlib import Path
from respraft.config import parse_address
from respraft.config_file import load

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

config = load(Path(sys.argv[1]))
print(f"I am node {config.node.id}", file=sys.stderr, flush=True)
if config.node.id == int(os.environ.get("DIES", "0")):
    sys.exit("the disk is gone")
http.server.HTTPServer(parse_address(config.http.listen), Ready).serve_forever()
"""

LAUNCH = """
import sys
from pathlib import Path
from respraft import launcher
from respraft.config import ConfigError
try:
    plan = launcher.Plan(nodes=int(sys.argv[1]), port=int(sys.argv[2]), directory=Path(sys.argv[3]))
    sys.exit(launcher.run(plan, (sys.executable, sys.argv[4])))
except ConfigError as error:
    sys.exit(f"respraft: {error}")
"""


class Launched:
    """A launcher process whose lines can be waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read lines up to the first that matches; the end of the output fails the test."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"no line matches {pattern!r} in:\n{''.join(self.lines)}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit status, having read all output."""
        self.process.send_signal(number)
        return self.rest()

    def rest(self) -> int:
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        return self.process.wait()

    @property
    def output(self) -> str:
        return "".join(self.lines)


Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a launcher over `tmp_path/data`; what still runs at the end is killed."""
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    started: list[subprocess.Popen[str]] = []

    def start(port: int, nodes: int = 3, **environment: str) -> Launched:
        arguments = [str(nodes), str(port), str(tmp_path / "data"), str(stand_in)]
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        )
        started.append(process)
        return Launched(process)

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
    for pid_path in tmp_path.glob("data/*/respraft.pid"):
        os.kill(int(pid_path.read_text()), signal.SIGKILL)


@pytest.fixture
def port() -> int:
    """A client port for node 1 such that all ports of a cluster of seven are free."""
    plan = Plan(nodes=launcher.NODES_MAX, port=1, directory=Path("unused"))
    return free_base(port - 1 for node in plan.node_ids() for port in plan.ports(node).values())


def test_a_cluster_starts_says_what_to_type_and_stops_cleanly(
    launch: Launch, port: int, tmp_path: Path
) -> None:
    cluster = launch(port)
    cluster.read_until("Ready. Try:")
    cluster.read_until(rf"redis-cli -p {port} set hello world$")
    cluster.read_until(rf"redis-cli -p {port + 2} get hello$")
    cluster.read_until(rf"curl 127.0.0.1:{port + 200}/metrics$")
    for node_id in (1, 2, 3):
        home = tmp_path / "data" / f"node-{node_id}"
        os.kill(int((home / "respraft.pid").read_text()), 0)
        assert (home / "respraft.log").read_text() == f"I am node {node_id}\n"

    assert cluster.end(signal.SIGINT) == 0
    assert "node-2 | I am node 2\n" in cluster.output
    assert cluster.lines[-1] == "respraft: all nodes have stopped\n"
    assert not list(tmp_path.glob("data/*/respraft.pid"))


def test_the_second_start_finds_the_first_ones_files_and_keeps_edits(
    launch: Launch, port: int, tmp_path: Path
) -> None:
    cluster = launch(port, nodes=1)
    cluster.read_until("Ready. Try:")
    assert cluster.end(signal.SIGTERM) == 0
    path = tmp_path / "data/node-1/respraft.toml"
    edited = path.read_text().replace("# park_ms = 3000", "park_ms = 1000")
    path.write_text(edited)

    cluster = launch(port, nodes=1)
    cluster.read_until("Ready. Try:")
    assert cluster.end(signal.SIGHUP) == 0
    assert path.read_text() == edited


def test_a_node_that_dies_is_reported_and_the_others_go_on(launch: Launch, port: int) -> None:
    cluster = launch(port, DIES="2")
    cluster.read_until("node-2 ended with exit status 1. Its last words")
    cluster.read_until("    the disk is gone")
    cluster.read_until(r"start it again with: .* -m respraft server --config .*node-2/respraft.toml")
    cluster.read_until("2 of 3 nodes are ready. Try:")
    cluster.read_until(rf"redis-cli -p {port + 2} get hello$")

    assert cluster.end() == 0


def test_a_node_that_is_killed_is_reported_by_its_signal(launch: Launch, port: int, tmp_path: Path) -> None:
    cluster = launch(port)
    cluster.read_until("Ready. Try:")
    pid_path = tmp_path / "data/node-1/respraft.pid"
    os.kill(int(pid_path.read_text()), signal.SIGKILL)

    cluster.read_until("node-1 was killed by SIGKILL")
    assert not pid_path.exists()
    assert cluster.end() == 0


def test_the_launcher_ends_when_no_node_is_left(launch: Launch, port: int) -> None:
    cluster = launch(port, nodes=1, DIES="1")

    assert cluster.rest() == 1
    assert "respraft: no node is left\n" in cluster.output


def test_a_paused_node_is_stopped_too(launch: Launch, port: int, tmp_path: Path) -> None:
    cluster = launch(port)
    cluster.read_until("Ready. Try:")
    os.kill(int((tmp_path / "data/node-3/respraft.pid").read_text()), signal.SIGSTOP)

    assert cluster.end() == 0


def test_a_port_in_use_is_named_and_nothing_is_started(launch: Launch, port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", port + 101)):
        cluster = launch(port)
        assert cluster.rest() == 1

    assert (
        f"port {port + 101}, the peer port of node 2, cannot be used: Address already in use"
        in cluster.output
    )
    assert "choose other ports with --port" in cluster.output
    assert not (tmp_path / "data").exists()


def test_nodes_outlive_a_launcher_that_was_killed_and_the_next_start_says_so(
    launch: Launch, port: int, tmp_path: Path
) -> None:
    first = launch(port, nodes=1)
    first.read_until("Ready. Try:")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    pid = int((tmp_path / "data/node-1/respraft.pid").read_text())

    second = launch(port, nodes=1)
    assert second.rest() == 1
    assert (
        f"running already; stop the launcher they belong to, or if it is gone: kill {pid}\n" in second.output
    )


def test_a_stale_pid_file_is_no_obstacle(launch: Launch, port: int, tmp_path: Path) -> None:
    stale = tmp_path / "data/node-1/respraft.pid"
    stale.parent.mkdir(parents=True)
    stale.write_text(f"{os.getpid()}\n")  # A living process, but not a node: pids are used again.

    cluster = launch(port, nodes=1)
    cluster.read_until("Ready. Try:")
    assert cluster.end() == 0


@pytest.mark.parametrize(("nodes", "shift"), [(2, 0), (1, 1)])
def test_files_of_another_cluster_are_left_alone(
    launch: Launch, port: int, tmp_path: Path, nodes: int, shift: int
) -> None:
    cluster = launch(port, nodes=1)
    cluster.read_until("Ready. Try:")
    assert cluster.end() == 0
    path = tmp_path / "data/node-1/respraft.toml"
    before = path.read_text()

    cluster = launch(port + shift, nodes=nodes)
    assert cluster.rest() == 1
    assert (
        "Start it with the --nodes, --port and --dir it was made with, or choose another --dir"
        in cluster.output
    )
    assert path.read_text() == before


@pytest.mark.parametrize("nodes", [1, 3, 7])
def test_the_written_configuration_is_what_was_asked_for(nodes: int, tmp_path: Path) -> None:
    plan = Plan(nodes=nodes, port=7001, directory=tmp_path)
    config = parse(config_text(plan, 1))

    assert config.node.data_dir == tmp_path / "node-1"
    assert (config.client.listen, config.peer.listen) == ("127.0.0.1:7001", "127.0.0.1:7101")
    assert config.http.listen == "127.0.0.1:7201"
    assert [member.id for member in config.cluster.members] == list(range(1, nodes + 1))
    assert config.cluster.members[-1].peer == f"127.0.0.1:{7100 + nodes}"
    assert config.cluster.members[-1].client == f"127.0.0.1:{7000 + nodes}"


def test_every_commented_default_in_it_is_the_default(tmp_path: Path) -> None:
    plan = Plan(nodes=3, port=7001, directory=tmp_path)
    text = config_text(plan, 2)
    uncommented = re.sub(r"(?m)^# (\w+ = \d+)$", r"\1", text)

    assert uncommented != text
    assert parse(uncommented) == parse(text)


def test_a_directory_with_any_name_can_be_written_down(tmp_path: Path) -> None:
    plan = Plan(nodes=1, port=7001, directory=tmp_path / 'a "quoted" back\\slash ä')

    assert parse(config_text(plan, 1)).node.data_dir == plan.home(1)


@pytest.mark.parametrize(
    ("nodes", "port", "said"),
    [
        (0, 7001, "--nodes is 0; it must be between 1 and 7"),
        (8, 7001, "--nodes is 8; it must be between 1 and 7"),
        (3, 0, "--port is 0; it must be between 1 and 65333"),
        (3, 65334, "--port is 65334; it must be between 1 and 65333"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(nodes: int, port: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        Plan(nodes=nodes, port=port, directory=tmp_path)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"respraft {__version__} ({build.kind()})\n"


def test_a_configuration_error_is_one_line_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "respraft.toml"
    path.write_text("[nodes]\n")

    assert cli.main(["server", "--config", str(path)]) == 2
    assert capsys.readouterr().err == f"respraft: {path}: nodes is not known; did you mean node?\n"


def test_a_missing_configuration_is_told_the_same_way() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "respraft", "server", "--config", "/nowhere/respraft.toml"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )

    assert ended.returncode == 2
    assert ended.stderr == "respraft: /nowhere/respraft.toml: cannot be read: No such file or directory\n"


def test_the_documented_configuration_can_be_used() -> None:
    assert load(PROJECT / "conf/respraft.toml").node.id == 1


def test_log_lines_begin_with_the_time_in_utc() -> None:
    program = "from respraft.cli import log_to_stderr; import logging; log_to_stderr()\n"
    program += "logging.getLogger('respraft.raft').info('term %d', 3)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "Asia/Tokyo"},
    )

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO respraft\.raft term 3\n", ended.stderr
    ), ended.stderr


def test_importing_the_package_loads_nothing_that_its_names_do_not_need() -> None:
    code = (
        "import sys, respraft, respraft.cli; "
        "heavy = {'rocksdict', 'uvloop', 'msgspec', 'prometheus_client'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert set(respraft.__all__) == set(dir(respraft)); "
        "[getattr(respraft, name) for name in respraft.__all__]; respraft.Node"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="module 'respraft' has no attribute 'nothing'"):
        respraft.nothing  # noqa: B018
