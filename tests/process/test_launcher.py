"""`respraft cluster`, as a newcomer uses it: start, try, kill a node, Ctrl-C, start again."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.process.cluster import REPOSITORY
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK, free_base

STOP_TIMEOUT_S: Final = 60.0


class Launcher:
    """A running `respraft cluster`."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory: Final = directory
        self.port: Final = port
        self._printed = directory.parent / "printed.txt"
        with self._printed.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "respraft", "cluster", "--port", str(port), "--dir", str(directory)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def printed(self) -> str:
        return self._printed.read_text(encoding="utf-8")

    def pid(self, node_id: int) -> int:
        return int((self.directory / f"node-{node_id}" / "respraft.pid").read_text())

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT_S)

    def cli(self, node_id: int, *arguments: str) -> str:
        command = ["redis-cli", "-h", LOOPBACK, "-p", str(self.port + node_id - 1), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def launched(directory: Path, port: int) -> Iterator[Launcher]:
    """Start a cluster and wait until it says what to type next."""
    launcher = Launcher(directory, port)
    said = launcher.printed().count("redis-cli -p")
    try:
        eventually(
            lambda: launcher.printed().count("redis-cli -p") > said or launcher.process.poll() is not None,
            what="what to type next",
        )
        assert launcher.process.poll() is None, launcher.printed()
        yield launcher
    finally:
        if launcher.process.poll() is None:
            launcher.interrupt()


@pytest.mark.requires_tool("redis-cli")
def test_a_newcomer_tries_the_cluster(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    port = free_base(hundred + place for hundred in (0, 100, 200) for place in range(3))
    with launched(directory, port) as launcher:
        printed = launcher.printed()
        assert f"redis-cli -p {port} set hello world" in printed
        assert f"redis-cli -p {port + 2} get hello" in printed
        assert f"curl {LOOPBACK}:{port + 200}/metrics" in printed
        assert launcher.cli(1, "set", "hello", "world") == "OK\n"
        assert launcher.cli(3, "get", "hello") == "world\n"
        assert _status(port + 200, "/metrics") == 200
        pids = [launcher.pid(node_id) for node_id in (1, 2, 3)]

        os.kill(pids[1], signal.SIGKILL)
        eventually(lambda: "node-2 was killed by SIGKILL" in launcher.printed(), what="the death is reported")
        assert launcher.cli(1, "incr", "count") == "1\n"
        assert launcher.cli(3, "get", "count") == "1\n"
        assert launcher.interrupt() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "a node was left behind"

    with launched(directory, port) as launcher:
        assert launcher.cli(2, "get", "hello") == "world\n"
        assert launcher.cli(2, "get", "count") == "1\n"
        assert launcher.interrupt() == 0


@pytest.mark.requires_tool("redis-cli")
def test_a_directory_that_is_removed_under_the_launcher_stops_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    port = free_base(hundred + place for hundred in (0, 100, 200) for place in range(3))
    with launched(directory, port) as launcher:
        pid = launcher.pid(3)
        os.kill(pid, signal.SIGSTOP)  # It writes nothing any more while its directory goes.
        eventually(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text(), what="it stands still")
        shutil.rmtree(directory / "node-3")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: "node-3 was killed by SIGKILL" in launcher.printed(), what="the death is reported")
        assert launcher.cli(1, "set", "k", "v") == "OK\n"
        assert launcher.cli(2, "get", "k") == "v\n"
        assert launcher.interrupt() == 0


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
