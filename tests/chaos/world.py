"""One cluster under attack: its processes and who hurts which of them, its members, the network between."""

import contextlib
import itertools
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import hiredis
import redis

from tests.chaos.clients import Connection, Record
from tests.chaos.proxy import Proxy
from tests.process.clocks import clock_ahead
from tests.process.cluster import REPOSITORY, Cluster, Node, Settings
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK

CUT_SOON: Final = {"compact_entries": 200, "keep_entries": 20}
ASK_S: Final = 20.0
START_S: Final = 30.0
END_S: Final = 20.0
"""A node that is asked to stop hands over, finishes, flushes and is gone by then."""


class World:
    """What a seed has drawn, running."""

    def __init__(self, seed: int, directory: Path) -> None:
        """Draw nodes, limits, clocks and network, and start the cluster."""
        self.directory: Final = directory
        self.rng: Final = random.Random(seed)
        self.record: Final = Record()
        self.said: Final[Counter[str]] = Counter()  # What administrators were told.
        self.over: Final = threading.Event()
        draw = self.rng
        self.proxy: Final = Proxy(seed) if draw.random() < 0.7 else None
        raft: dict[str, int | str] = dict(CUT_SOON) if draw.random() < 0.6 else {}
        if draw.random() < 0.2:
            raft["read_mode"] = "lease"
        settings: Settings = {"raft": raft, "server": {"workers": draw.choice((0, 0, 0, 1))}}
        self.size: Final = draw.choice((3, 3, 5))
        self.clients: Final = draw.choice((4, 8, 32))
        self.think_s: Final = draw.choice((0.002, 0.02, 0.2))
        self.ballast: Final = draw.choice(
            (0, 0, 3_000)
        )  # Keys of some KB: states then take a while to travel.
        apart = draw.random() < 0.25
        clocks = (
            {each: clock_ahead(draw.choice((0, 2, 4))) for each in range(1, self.size + 1)} if apart else {}
        )
        self.drawn: Final = (
            f"{self.size} nodes, {'a proxy between' if self.proxy else 'direct links'}, "
            f"{raft or 'default limits'}, {settings['server']}{', clocks apart' if apart else ''}, "
            f"{self.clients} clients, {self.think_s} s, {self.ballast} keys of ballast"
        )
        self.cluster: Final = Cluster(
            directory,
            nodes=self.size,
            settings=settings,
            environments=clocks,
            between=(lambda node: self.proxy.open(node.peer_port)) if self.proxy else None,  # type: ignore[union-attr]
        )
        self.members: Final = set(self.cluster.nodes)  # By number; those that clients may go to.
        self.ids: Final = {number: number for number in self.cluster.nodes}  # What Raft calls them.
        self.membership: Final = threading.Lock()
        """Held by who changes the members, or has lost a member's disk."""
        self._busy: Final[set[int]] = set()  # Somebody is at them.
        self._hurt: Final[Counter[int]] = Counter()
        self._times_hurt: Final = itertools.count(1)
        self._last_hurt: Final[dict[int, int]] = {}
        self._lock: Final = threading.Lock()
        self._faults = 0  # Under way.
        self.last_fault = "start"
        self._well_since_s = time.monotonic()

    # For clients.

    def serving(self) -> list[Node]:
        return [self.cluster.nodes[number] for number in sorted(self.members)]

    def disturbances(self, node: Node) -> int:
        if self._hurt[node.node_id]:
            return next(self._times_hurt)
        return self._last_hurt.get(node.node_id, 0)

    def well_for_s(self) -> float:
        """Return for how long nobody has been hurting anything."""
        return 0.0 if self._faults else time.monotonic() - self._well_since_s

    # For faults.

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Something is not well meanwhile."""
        with self._lock:
            self._faults += 1
            self.last_fault = name
        try:
            yield
        finally:
            with self._lock:
                self._well_since_s = time.monotonic()
                self._faults -= 1

    @contextmanager
    def claim(self, this: int | None = None, *, leader: bool = False, count: int = 1) -> Iterator[list[int]]:
        """Give some living members, or the leader, or this one, to one fault at a time; maybe none."""
        number = self.leader() if leader else this
        with self._lock:
            free = [each for each in sorted(self.members - self._busy) if self.cluster.nodes[each].alive]
            self.rng.shuffle(free)
            if number is not None and number in free:
                free = [number]
            wanted = free[:count] if this is None or number in free else []
            self._busy.update(wanted)
        try:
            yield wanted
        finally:
            with self._lock:
                self._busy.difference_update(wanted)

    @contextmanager
    def hurting(self, *numbers: int) -> Iterator[None]:
        """Excuse what clients of these nodes see meanwhile."""
        self.note(f"nodes {numbers}")
        for number in numbers:
            self._hurt[number] += 1
        try:
            yield
        finally:
            for number in numbers:
                self._last_hurt[number] = next(self._times_hurt)
                self._hurt[number] -= 1

    def stop(self, number: int) -> None:
        """SIGTERM, which ends within a time and well."""
        try:
            code = self.cluster.stop(number)
        except subprocess.TimeoutExpired:
            self.anomaly(f"node {number} did not end on SIGTERM")
            self.cluster.kill(number)
            return
        if code:
            self.anomaly(f"node {number} ended on SIGTERM with {code}")

    def relaunch(self, *numbers: int) -> None:
        """Start nodes that were ended, and wait until they answer."""
        dead = [number for number in numbers if not self.cluster.nodes[number].alive]
        for number in dead:
            self.cluster.launch(number)
        for number in dead:
            self.eventually(lambda: self.status(number), START_S, f"node {number} answers")  # noqa: B023

    def look_for_dead(self) -> None:
        """Nobody ends by himself. Who has is started again."""
        with self._lock:
            dead = [each for each in self.members - self._busy if not self.cluster.nodes[each].alive]
            self._busy.update(dead)
        for number in dead:
            process = self.cluster.nodes[number].process
            assert process is not None
            self.anomaly(f"node {number} ended by itself with {process.returncode}")
            with self.hurting(number):
                self.relaunch(number)
        with self._lock:
            self._busy.difference_update(dead)

    def leader(self) -> int | None:
        """Return the number of the leader as somebody sees it, if that is known."""
        for number in self.shuffled(self.members):
            status = self.status(number)
            if status and status["leader_id"] is not None:
                return next((each for each, id_ in self.ids.items() if id_ == status["leader_id"]), None)
        return None

    def status(self, number: int) -> dict[str, Any] | None:
        """RAFT.STATUS of a node, None if it does not answer soon."""
        node = self.cluster.nodes[number]
        if not node.alive or node.paused:
            return None
        try:
            with self.cluster.client(
                number, protocol=3, decode_responses=True, socket_timeout=2.0, socket_connect_timeout=2.0
            ) as client:
                status = client.execute_command("RAFT.STATUS")
        except (redis.RedisError, OSError):
            return None
        assert isinstance(status, dict)
        self.ids[number] = status["node_id"]
        return status

    def ask(self, number: int, *words: object, timeout_s: float = ASK_S) -> str:
        """Give an administrator's command to a node; return what it said, an error's text included."""
        try:
            connection = Connection(self.cluster.nodes[number].client_port, timeout_s)
            try:
                connection.send([tuple(str(word).encode() for word in words)])
                reply = connection.receive()
            finally:
                connection.close()
        except OSError as error:
            return f"({type(error).__name__})"
        text = str(reply) if isinstance(reply, hiredis.ReplyError) else "OK"
        self.said[f"{words[0]} {words[1] if len(words) > 1 else ''}: {text}"] += 1
        return text

    def shuffled(self, numbers: set[int]) -> list[int]:
        chosen = sorted(numbers)
        self.rng.shuffle(chosen)
        return chosen

    def repair(self, number: int) -> None:
        """Run `respraft repair --rejoin` for a node that lost its disk."""
        others = [self.cluster.nodes[each] for each in self.members - {number}]
        contacts = [word for node in others for word in ("--contact", f"{LOOPBACK}:{node.client_port}")]
        config = self.cluster.nodes[number].directory / "respraft.toml"
        command = [sys.executable, "-m", "respraft", "repair", "--rejoin", "--config", str(config), *contacts]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode:
            self.anomaly(f"repair of node {number}: {done.stderr}")

    def is_voter(self, number: int) -> bool:
        """Whether a node is a member with a vote and no change is under way, by its own word."""
        status = self.status(number)
        return (
            status is not None
            and status["membership"] == "settled"
            and any(each["id"] == status["node_id"] and each["voter"] for each in status["members"])
        )

    @contextmanager
    def starving(self, count: int) -> Iterator[None]:
        """Have so many processes do nothing as fast as they can."""
        idlers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            yield
        finally:
            for idler in idlers:
                idler.kill()
                idler.wait()

    def joins(self, number: int, timeout_s: float) -> bool:
        """Have a newcomer join through whoever can be asked; False, and an anomaly, if it can't."""
        ending_s = time.monotonic() + timeout_s
        said = ""
        while said != "OK" and time.monotonic() < ending_s:
            via = self.cluster.nodes[self.shuffled(self.members)[0]]
            said = self.ask(
                number, "RAFT.CLUSTER", "JOIN", f"{LOOPBACK}:{via.client_port}", timeout_s=timeout_s
            )
            if "Already cluster member" in said:  # It went on by itself.
                said = "OK" if self.eventually(lambda: self.is_voter(number), timeout_s, "a vote") else said
            self.rest(0.1, 0.5)
        if said != "OK":
            self.anomaly(f"node {number} cannot join: {said}")
        return said == "OK" and self.status(number) is not None

    def newcomer(self) -> int:
        """Launch one more node, which belongs to nothing yet."""
        number = max(self.cluster.nodes) + 1
        self.cluster.newcomer(number)
        return number

    def anomaly(self, text: str) -> None:
        self.record.anomalies.append(text)

    def note(self, text: str) -> None:
        """Write down what is done, beside the nodes' logs."""
        now_s = time.time()
        with (self.directory / "faults.txt").open("a") as file:
            file.write(f"{time.strftime('%T', time.localtime(now_s))}.{int(now_s % 1 * 1000):03} {text}\n")

    def pause(self, least_s: float, most_s: float) -> None:
        """Wait for a time between these, or until all is over."""
        self.over.wait(self.rng.uniform(least_s, most_s))

    def rest(self, least_s: float, most_s: float) -> None:
        """Wait for a time between these."""
        time.sleep(self.rng.uniform(least_s, most_s))

    def eventually(self, condition: Any, timeout_s: float, what: str) -> bool:
        """Wait; False, and an anomaly, if it did not come true."""
        try:
            eventually(condition, timeout_s, what=what)
        except AssertionError as error:
            self.anomaly(str(error))
            return False
        return True

    def close(self) -> None:
        self.cluster.close()
        if self.proxy is not None:
            with contextlib.suppress(Exception):
                self.proxy.close()
