"""PySyncObj as a peer: a dictionary that three Python processes share.

It has no protocol for clients: whoever uses it is a part of its processes. So its callers are threads of the
leader's process, each of which sets one key after the other with `sync=True`, as its documentation has it.
They pay for no socket, and their processor time is within the peer's. Its journal is on, but that is a memory
map which nothing syncs: what it has acknowledged need not survive a power failure, so the others do more. Its
reads are those of a local dictionary, which may be old; they are not compared.

`python -m tests.benchmark.pysyncobj` is one such process. It takes orders as JSON lines on stdin.
"""

import argparse
import importlib.metadata
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmark.generator import LoadFailed, figures
from tests.benchmark.peers import READY_TIMEOUT_S, STOP_TIMEOUT_S, OwnCallers
from tests.benchmark.workload import KEYS, Endpoint, Figures, Workload
from tests.process.cluster import REPOSITORY
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK, free_ports

CALL_TIMEOUT_S: Final = 30.0


class PysyncobjCluster(OwnCallers):
    """Three processes with PySyncObj's default configuration and a journal."""

    name = "pysyncobj"
    protocol = "own"

    def __init__(self, nodes: int = 3) -> None:
        self._ports = free_ports(nodes)
        self._children: list[subprocess.Popen[str]] = []

    def missing(self) -> str | None:
        try:
            self.version()
        except importlib.metadata.PackageNotFoundError:
            return "not installed; `pip install pysyncobj`"
        return None

    def version(self) -> str:
        return importlib.metadata.version("pysyncobj")

    def takes(self, workload: Workload) -> bool:
        plain = not (workload.follower or workload.spread or workload.whole)
        return plain and workload.command == "SET" and workload.pipeline == 1

    def start(self, directory: Path) -> None:
        addresses = [f"{LOOPBACK}:{port}" for port in self._ports]
        for own in addresses:
            home = directory / own.rpartition(":")[2]
            home.mkdir(parents=True)
            others = [address for address in addresses if address != own]
            with (home / "output.txt").open("wb") as output:
                self._children.append(
                    subprocess.Popen(
                        [
                            sys.executable,
                            "-m",
                            "tests.benchmark.pysyncobj",
                            str(home / "journal"),
                            own,
                            *others,
                        ],
                        cwd=REPOSITORY,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=output,
                        text=True,
                        start_new_session=True,
                    )
                )
        self._leader()

    def endpoint(self, *, follower: bool = False) -> Endpoint:
        raise NotImplementedError("its callers are inside")

    def drive(self, workload: Workload, requests: int) -> Figures:
        answer = _order(
            self._leader(), clients=workload.clients, requests=requests, value_bytes=workload.value_bytes
        )
        if "error" in answer:
            raise LoadFailed(answer["error"])
        return Figures(**answer)

    def pids(self) -> list[int]:
        return [child.pid for child in self._children if child.poll() is None]

    def stop(self) -> None:
        for child in self._children:
            assert child.stdin is not None and child.stdout is not None
            child.terminate()
            child.wait(STOP_TIMEOUT_S)
            child.stdin.close()
            child.stdout.close()
        self._children.clear()

    def _leader(self) -> subprocess.Popen[str]:
        def leading() -> subprocess.Popen[str] | None:
            return next((child for child in self._children if _order(child)["leads"]), None)

        return eventually(leading, READY_TIMEOUT_S, what="a leader of pysyncobj")


def _order(child: subprocess.Popen[str], **order: int) -> dict[str, Any]:
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        answer: dict[str, Any] = json.loads(child.stdout.readline())
    except (OSError, json.JSONDecodeError) as error:
        raise LoadFailed(f"a process of pysyncobj has ended: {error}") from error
    return answer


def main() -> None:
    """Be one node until stdin ends."""
    from pysyncobj import SyncObj, SyncObjConf
    from pysyncobj.batteries import ReplDict

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("journal")
    parser.add_argument("own")
    parser.add_argument("others", nargs="*")
    options = parser.parse_args()
    shared = ReplDict()
    node = SyncObj(
        options.own,
        options.others,
        conf=SyncObjConf(journalFile=options.journal, fullDumpFile=options.journal + ".dump"),
        consumers=[shared],
    )
    for line in sys.stdin:
        order = json.loads(line)
        if order:
            answer = _call(shared, **order)
        else:
            leader = node._getLeader()
            answer = {"leads": node.isReady() and leader is not None and leader.address == options.own}
        print(json.dumps(answer), flush=True)


def _call(shared: Any, clients: int, requests: int, value_bytes: int) -> dict[str, Any]:
    """Have `clients` threads set keys, one after the other each."""
    latencies_s: list[list[float]] = [[] for _ in range(clients)]
    errors: list[str] = []

    def caller(number: int) -> None:
        draw, value, own = random.Random(number).random, "x" * value_bytes, latencies_s[number]
        for _ in range(requests // clients):
            sent_s = time.perf_counter()
            try:
                shared.set(f"key:{int(draw() * KEYS):012}", value, sync=True, timeout=CALL_TIMEOUT_S)
            except Exception as error:  # Whatever it is, there is no figure.
                errors.append(repr(error))
                return
            own.append(time.perf_counter() - sent_s)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(clients)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        return {"error": errors[0]}
    done = [one for own in latencies_s for one in own]
    return figures(done, len(done), time.perf_counter() - began_s).as_dict()


if __name__ == "__main__":
    main()
