"""How long clients of the other nodes wait when a leader goes: `python -m tests.benchmark.failover`.

Each round has one client on each of the two followers, which writes without pause, one SET at a time. The
leader gets a signal; what counts is the longest time without an acknowledged write, for the slower of the
two clients. For SIGKILL and SIGSTOP it is counted from the signal, for SIGTERM, where the leader first works
on, it is the whole gap. An error that a client sees fails the run. All settings are the defaults, save
`--read-mode`.
"""

import argparse
import itertools
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from respraft.config import READ_MODES
from tests.benchmark.machine import end_servers_on_sigterm
from tests.process.cluster import Cluster
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK

ROUNDS: Final = 50
WATCHED_S: Final = 1.5
"""How long the clients are watched after a signal. An outage that is longer fails the round."""
BEGINS_S: Final = 0.05
"""An outage begins within so long after its signal."""
QUIET_S: Final = 0.4
"""How long a healthy cluster is written to before the next signal, plus up to a heartbeat interval."""

FAULTS: Final = {
    "kill -9": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "SIGSTOP": signal.SIGSTOP,
}


class Writer:
    """A client that writes one value after the other, and notes when each was acknowledged."""

    def __init__(self, port: int) -> None:
        """Connect, and begin."""
        self.acknowledged_s: list[float] = []
        self.error = ""
        self._stopping = False
        self._socket = socket.create_connection((LOOPBACK, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the write under way."""
        self._stopping = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        request = b"*3\r\n$3\r\nSET\r\n$8\r\nfailover\r\n$5\r\nvalue\r\n"
        while not self._stopping:
            try:
                self._socket.sendall(request)
                reply = self._socket.recv(4096)
            except OSError as error:
                reply = str(error).encode()
            if reply != b"+OK\r\n":
                self.error = reply.decode(errors="replace") or "closed"
                return
            self.acknowledged_s.append(time.monotonic())


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without an acknowledgement."""

    begin_s: float
    end_s: float


def longest_gap(acknowledged_s: list[float], signalled_s: float) -> Gap:
    """Find it among those that began about when the signal was given; all figures are of one clock.

    What was on its way then still arrives, so the outage begins a little later. A longer gap that begins
    much later has another cause.
    """
    gaps = [
        Gap(begin, end)
        for begin, end in itertools.pairwise(acknowledged_s)
        if begin < signalled_s + BEGINS_S and end > signalled_s
    ]
    assert gaps, "nothing was acknowledged after the signal"
    return max(gaps, key=lambda gap: gap.end_s - gap.begin_s)


def play(cluster: Cluster, name: str) -> float:
    """One round; return what the slower client waited, in ms. The cluster is whole again afterwards.

    Raises:
        AssertionError: A client saw an error, or waited too long.
    """
    leader = cluster.leader()
    writers = [Writer(cluster.nodes[each].client_port) for each in cluster.others(leader)]
    # At any time between two heartbeats.
    time.sleep(QUIET_S + time.monotonic() % 0.1)
    number = FAULTS[name]
    signalled_s = time.monotonic()
    if number is signal.SIGSTOP:
        cluster.pause(leader)
    elif number is signal.SIGKILL:
        cluster.kill(leader)
    else:
        cluster.stop(leader, number)
    time.sleep(max(0.0, signalled_s + WATCHED_S - time.monotonic()))
    for writer in writers:
        writer.stop()
    assert not any(writer.error for writer in writers), [writer.error for writer in writers]
    gaps = [longest_gap(writer.acknowledged_s, signalled_s) for writer in writers]
    _restore(cluster, leader, number)
    begins = [gap.begin_s if number is signal.SIGTERM else signalled_s for gap in gaps]
    return max(1000 * (gap.end_s - begin) for gap, begin in zip(gaps, begins, strict=True))


def _restore(cluster: Cluster, node_id: int, number: signal.Signals) -> None:
    if number is signal.SIGSTOP:
        cluster.resume(node_id)
    else:
        cluster.start(node_id)
    eventually(lambda: _agreed(cluster), what="one leader for all")


def _agreed(cluster: Cluster) -> bool:
    views = {(view["leader_id"], view["term"]) for view in map(cluster.status, cluster.nodes)}
    return len(views) == 1 and None not in next(iter(views))


def table(results: dict[str, list[float]]) -> str:
    """Return the figures as Markdown."""
    lines = ["| leader gets | rounds | median ms | p99 ms | worst ms |", "| - | -: | -: | -: | -: |"]
    for name, waits in results.items():
        if waits:
            ordered = sorted(waits)
            p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            lines.append(
                f"| {name} | {len(waits)} | {statistics.median(waits):.0f} | {p99:.0f} | {ordered[-1]:.0f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for; return 1 if a client saw an error."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="per fault")
    parser.add_argument("--fault", choices=list(FAULTS), action="append", help="only this one")
    parser.add_argument("--read-mode", choices=READ_MODES, default=READ_MODES[0])
    end_servers_on_sigterm()
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    failed = False
    settings = {"raft": {"read_mode": options.read_mode}}
    with (
        tempfile.TemporaryDirectory(prefix="respraft-failover-") as home,
        Cluster(Path(home), settings=settings) as cluster,
    ):
        cluster.start()
        for name in options.fault or FAULTS:
            waits = results.setdefault(name, [])
            for number in range(options.rounds):
                print(f"\r{name}: round {number + 1} of {options.rounds}", end="", file=sys.stderr)
                try:
                    waits.append(play(cluster, name))
                except AssertionError as error:
                    failed = True
                    print(f"\n{name}: {error}", file=sys.stderr)
                    break
            print(file=sys.stderr)
    print(table(results))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
