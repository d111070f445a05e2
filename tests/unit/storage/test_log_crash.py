"""Real processes and real failures: SIGKILL in the middle of appends, and a disk that takes no more."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from respraft.raft.ready import HardState
from respraft.storage.log import open_log
from tests.unit.storage.log_samples import CLUSTER, NODE, content, entry

PROJECT: Final = Path(__file__).parents[3]

# Appends entry after entry and says so after each: what it has said is acknowledged.
APPEND_FOR_EVER: Final = """
import pathlib, sys
from respraft.raft.ready import HardState
from respraft.storage.log import open_log
from tests.unit.storage.log_samples import CLUSTER, NODE, entry

log = open_log(pathlib.Path(sys.argv[1]), NODE, CLUSTER)
while True:
    index = log.last_index() + 1
    log.append(HardState(1, NODE, index - 1), [entry(index)])
    print(index, flush=True)
"""

# The same, where files may not grow past a limit: a write fails in the middle.
APPEND_UNTIL_FULL: Final = """
import pathlib, resource, signal, sys
from respraft.raft.ready import HardState
from respraft.storage.interface import StorageFailed
from respraft.storage.log import open_log
from tests.unit.storage.log_samples import CLUSTER, NODE, entry

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = open_log(pathlib.Path(sys.argv[1]), NODE, CLUSTER)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
index = 0
try:
    while True:
        log.append(HardState(1, NODE, index), [entry(index + 1)])
        index += 1
except StorageFailed as failure:
    assert "File too large" in str(failure), failure
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for call in (log.last_index, log.hard_state, log.status, lambda: log.append(HardState(1, NODE, 0), [])):
    try:
        call()
    except StorageFailed:
        continue
    raise SystemExit("a failed log answered")
log.close()
print(index)
"""


def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "data"
    acknowledged = 0
    for life in range(1, 6):
        child = run(APPEND_FOR_EVER, path)
        assert child.stdout is not None
        goal = acknowledged + 60
        while acknowledged < goal:
            acknowledged = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        for line in child.stdout.read().split(b"\n")[:-1]:  # What it managed to say before it died.
            acknowledged = int(line)
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL

        log = open_log(path, NODE, CLUSTER)
        # One more may be there: written, but not said.
        assert acknowledged <= log.last_index() <= acknowledged + 1
        assert content(log) == [entry(index) for index in range(1, log.last_index() + 1)]
        assert log.hard_state() == HardState(1, NODE, log.last_index() - 1)
        assert log.identity().start_counter == 2 * life
        acknowledged = log.last_index()
        log.close()


def test_a_write_that_fails_is_never_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "data"
    child = run(APPEND_UNTIL_FULL, path)
    said, _ = child.communicate()
    assert child.returncode == 0
    acknowledged = int(said)
    assert acknowledged > 20
    log = open_log(path, NODE, CLUSTER)
    assert content(log) == [entry(index) for index in range(1, acknowledged + 1)]
    log.close()


def run(program: str, path: Path) -> "subprocess.Popen[bytes]":
    """Start a child on a data directory."""
    return subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=PROJECT, stdout=subprocess.PIPE)
