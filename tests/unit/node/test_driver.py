"""The driver's order of things, step by step, on a loop, a disk and links that do nothing by themselves."""

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import pytest

from respraft.config import TICK_MS, RaftConfig
from respraft.node.driver import DRAIN_PASSES_MAX, Driver
from respraft.node.interface import Clocks, EventLoop, Links, LogWriter, States
from respraft.raft.message import (
    KIND_NORMAL,
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    InstallSnapshot,
    NodeId,
    PreVoteRequest,
)
from respraft.raft.ready import LogWrite, Role
from respraft.replica.batch import Answer
from respraft.replica.gathering import HOLD_MS
from respraft.replica.status import ReplicaMessage
from tests.unit.replica.cluster import WALL_MS, Cluster

SET = [b"SET", b"k", b"v"]


class Machine(EventLoop, LogWriter, Links, Clocks):
    """Everything that a driver is given; the test says when time passes and when a write is durable."""

    def __init__(self, now_ms: float) -> None:
        self.now_ms = now_ms
        self.events: list[str] = []  # Begun writes and sent messages, in order.
        self.written: Callable[[int, float], None]
        self.write: LogWrite | None = None
        self.answers: list[Answer] = []
        self.on_begin: Callable[[], None] = lambda: None
        self.on_send: Callable[[], None] = lambda: None
        self.at_once = False  # A write is done when `begin` returns.
        self._soon: list[Callable[[], None]] = []
        self._later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, callback: Callable[[], None], /) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        self._later.append((self.now_ms + delay * 1000, callback))

    def start(self, written: Callable[[int, float], None]) -> None:
        self.written = written

    def begin(self, write: LogWrite) -> float | None:
        assert self.write is None, "one write at a time"
        self.events.append("write")
        self.on_begin()
        if self.at_once:
            return 0.001
        self.write = write
        return None

    def stop(self) -> None:
        self.events.append("stopped")

    def send(self, to: NodeId, message: ReplicaMessage) -> None:
        self.events.append(type(message).__name__)
        self.on_send()

    def flush(self) -> None:
        return

    def set_peers(self, peers: Mapping[NodeId, str]) -> None:
        self.events.append(f"peers {sorted(peers)}")

    def monotonic_s(self) -> float:
        return self.now_ms / 1000

    def wall_ms(self) -> int:
        return WALL_MS + int(self.now_ms)

    def deliver(self, answers: Iterable[Answer]) -> None:
        self.answers += answers

    def one_pass(self, passed_ms: float = 0.0) -> None:
        """One pass of the loop: due timers, then what was to be called soon."""
        self.now_ms += passed_ms
        due = [each for each in self._later if each[0] <= self.now_ms + 1e-6]
        self._later = [each for each in self._later if each not in due]
        for _, callback in due:
            callback()
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()

    def complete(self) -> None:
        """The write under way becomes durable."""
        assert self.write is not None
        number, self.write = self.write.number, None
        self.written(number, 0.001)


class NoStates(States):
    """Nothing here is about whole states."""

    def start(self, driver: Driver) -> None:
        return

    def flush(self, flush: Callable[[], None]) -> None:
        raise AssertionError("nothing has gathered that needs a flush")

    def send(self, peer: NodeId) -> None:
        raise AssertionError("nobody needs a state")

    def installed(self, install: InstallSnapshot) -> None:
        raise AssertionError("no state has come")

    def stop(self) -> None:
        return


def die() -> NoReturn:
    raise  # noqa: PLE0704 (called while an exception is handled)


def drive(cluster: Cluster, node_id: NodeId) -> tuple[Driver, Machine]:
    """Drive one node of a cluster that has formed, from where it is."""
    machine = Machine(cluster.now_ms)
    driver = Driver(
        loop=machine,
        clocks=machine,
        replica=cluster.nodes[node_id].replica,
        log_writer=machine,
        links=machine,
        states=NoStates(),
        deliver=machine.deliver,
        die=die,
    )
    driver.start()
    machine.one_pass()
    machine.events.clear()
    return driver, machine


def heartbeat(cluster: Cluster, term: int) -> HeartbeatRequest:
    return HeartbeatRequest(cluster.leader_id(), term, 0, 1000, WALL_MS)


def test_a_promise_leaves_only_when_its_write_is_durable() -> None:
    cluster = Cluster(3)
    leader = cluster.nodes[cluster.leader_id()]
    cluster.submit(leader.id, "client", ["SET k v"])
    cluster.turn(leader)
    append = next(sent for sent in cluster.wire if type(sent.message).__name__ == "AppendRequest")
    driver, machine = drive(cluster, append.to)
    driver.received(append.sender, append.incarnation, append.message)
    assert machine.events == [], "nothing is done before the turn"
    machine.one_pass()
    assert machine.events == ["write"]
    machine.complete()
    assert machine.events == ["write", AppendResponse.__name__]


def test_what_gathers_during_a_write_is_the_next_one() -> None:
    cluster = Cluster(3)
    leader_id = cluster.leader_id()
    node_id = leader_id % 3 + 1
    driver, machine = drive(cluster, node_id)
    log, term = cluster.nodes[node_id].core.log, cluster.nodes[node_id].core.term
    for _ in range(3):
        entry = Entry(log.last_index + 1, term, WALL_MS, KIND_NORMAL, b"")
        append = AppendRequest(leader_id, term, log.last_index, log.last_term, 0, [entry])
        driver.received(leader_id, cluster.nodes[leader_id].incarnation, append)
        machine.one_pass()
    assert machine.events == ["write"]
    machine.complete()
    assert machine.events == ["write", AppendResponse.__name__, "write"], "the next begins in the same moment"
    assert machine.write is not None
    assert len(machine.write.entries) == 2


def applied_when(cluster: Cluster, node_id: NodeId, *, at_once: bool) -> tuple[Machine, list[int]]:
    """Two entries come to a follower, the second with the commit of the first.

    Returns its machine, and how far it had applied, from the first entry's place, at each begun write, or at
    each sent message where writes are done at once.
    """
    leader = cluster.nodes[cluster.leader_id()]
    driver, machine = drive(cluster, node_id)
    machine.at_once = at_once
    replica, core = cluster.nodes[node_id].replica, cluster.nodes[node_id].core
    first = core.log.last_index + 1
    applied: list[int] = []

    def look() -> None:
        applied.append(replica.status().applied_index - first)

    if at_once:
        machine.on_send = look
    else:
        machine.on_begin = look
    for index in (first, first + 1):
        entry = Entry(index, core.term, WALL_MS, KIND_NORMAL, b"")
        append = AppendRequest(leader.id, core.term, index - 1, core.log.last_term, index - 1, [entry])
        driver.received(leader.id, leader.incarnation, append)
        machine.one_pass()
        if machine.write is not None and index == first:
            machine.complete()
    assert replica.status().applied_index == first
    return machine, applied


def test_the_disk_has_its_work_before_the_node_applies() -> None:
    cluster = Cluster(3)
    _, applied = applied_when(cluster, cluster.leader_id() % 3 + 1, at_once=False)
    assert applied == [-1, -1], "the entry before is applied while the next one is written"


def test_a_write_that_is_done_at_once_is_confirmed_before_the_node_applies() -> None:
    cluster = Cluster(3)
    machine, applied = applied_when(cluster, cluster.leader_id() % 3 + 1, at_once=True)
    assert machine.events == ["write", AppendResponse.__name__] * 2
    assert applied == [-1, -1]


def test_what_a_write_that_is_done_at_once_has_committed_waits_for_no_tick() -> None:
    cluster = Cluster(1)
    driver, machine = drive(cluster, cluster.leader_id())
    machine.at_once = True
    driver.submit("a", [SET], [], 0, 10)
    machine.one_pass()
    machine.one_pass()
    assert [answer.client for answer in machine.answers] == ["a"]
    driver.take_timings()
    machine.one_pass()
    machine.one_pass()
    assert driver.take_timings().turn_s == [], "nothing is left to do"


def test_commands_that_wait_for_others_take_no_turn() -> None:
    cluster = Cluster(3)
    driver, machine = drive(cluster, cluster.leader_id())
    driver.take_timings()
    for client in ("a", "b", "c"):
        assert driver.submit(client, [SET], [], 0, 10) is None
        machine.one_pass()
    origin = cluster.leader().replica.status()
    assert origin.outstanding == 1, "the first has gone, the others wait for its end"
    assert machine.events.count("write") == 1
    turns = len(driver.take_timings().turn_s)
    assert turns == 2, "one for the first, and one as the next batch began"


def test_a_command_that_gathered_meanwhile_goes_when_nobody_else_comes() -> None:
    """The clients of the batch before do not come back, and no tick comes to its help."""
    cluster = Cluster(1)
    driver, machine = drive(cluster, cluster.leader_id())
    for client in ("a", "b"):
        driver.submit(client, [SET], [], 0, 10)
        machine.one_pass()
    machine.complete()
    assert [answer.client for answer in machine.answers] == ["a"]
    machine.one_pass(HOLD_MS + 0.1)
    machine.one_pass()
    machine.complete()
    assert [answer.client for answer in machine.answers] == ["a", "b"]


def test_a_paused_node_hears_its_peers_before_its_clock_goes_on() -> None:
    cluster = Cluster(3)
    leader_id = cluster.leader_id()
    node_id = leader_id % 3 + 1
    driver, machine = drive(cluster, node_id)
    core = cluster.nodes[node_id].core
    term, ticks = core.term, core.ticks
    machine.one_pass(5_000)
    assert core.ticks == ticks, "the first pass after a pause only looks"
    driver.received(leader_id, cluster.nodes[leader_id].incarnation, heartbeat(cluster, term))
    heard = core.clock.heard()
    machine.one_pass(1)
    machine.one_pass(1)
    assert core.ticks == ticks + 5, "peers have fallen silent, and the clock goes on, a little at a time"
    assert core.role is Role.FOLLOWER
    assert core.clock.heard().said_ms == heard.said_ms, "an old heartbeat is no news of the log's time"
    for _ in range(100):
        machine.one_pass(TICK_MS)
    assert PreVoteRequest.__name__ in machine.events, "silence at last is"


def test_peers_who_never_fall_silent_hold_up_the_clock_for_so_long_only() -> None:
    cluster = Cluster(3)
    leader_id = cluster.leader_id()
    node_id = leader_id % 3 + 1
    driver, machine = drive(cluster, node_id)
    core = cluster.nodes[node_id].core
    ticks = core.ticks
    machine.one_pass(5_000)
    for _ in range(DRAIN_PASSES_MAX):
        driver.received(leader_id, cluster.nodes[leader_id].incarnation, heartbeat(cluster, core.term))
        machine.one_pass(1)
    assert core.ticks > ticks


def test_a_short_delay_is_made_up_for() -> None:
    cluster = Cluster(3)
    node_id = cluster.leader_id() % 3 + 1
    _, machine = drive(cluster, node_id)
    ticks = cluster.nodes[node_id].core.ticks
    machine.one_pass(3.5 * TICK_MS)
    assert cluster.nodes[node_id].core.ticks == ticks + 3


def test_trap_10_a_lease_is_looked_at_when_all_reads_of_the_turn_are_there() -> None:
    """The process is stopped between the beginning of a pass and the arrival of a read in it."""
    cluster = Cluster(3, raft=RaftConfig(read_mode="lease"))
    cluster.advance(1_000)
    driver, machine = drive(cluster, cluster.leader_id())
    replica = cluster.leader().replica
    driver.wake()
    machine.now_ms += 400
    replica.submit_reads("client", [[b"GET", b"k"]], 0, 10)
    machine.one_pass()
    assert len(machine.answers) == 1, "the lease holds"
    driver.wake()
    machine.now_ms += 100
    replica.submit_reads("other", [[b"GET", b"k"]], 0, 10)
    machine.one_pass()
    assert len(machine.answers) == 1, "it held when the pass began, and no more when the read came"


def test_trap_10_a_promise_counts_from_the_arrival_of_its_heartbeat() -> None:
    cluster = Cluster(3)
    leader_id = cluster.leader_id()
    node_id = leader_id % 3 + 1
    driver, machine = drive(cluster, node_id)
    core = cluster.nodes[node_id].core
    driver.wake()
    machine.now_ms += 5_000
    promise = HeartbeatRequest(leader_id, core.term, 0, 1000, WALL_MS, 500)
    driver.received(leader_id, cluster.nodes[leader_id].incarnation, promise)
    assert core.bound_until_ms == machine.now_ms + 500


def test_an_error_of_the_replica_ends_the_process() -> None:
    cluster = Cluster(3)
    leader_id = cluster.leader_id()
    node_id, other_id = leader_id % 3 + 1, (leader_id + 1) % 3 + 1
    driver, _ = drive(cluster, node_id)
    second = HeartbeatRequest(other_id, cluster.nodes[node_id].core.term, 0, 1, WALL_MS)
    with pytest.raises(AssertionError, match="two leaders"):  # `die` raises it again here.
        driver.received(other_id, cluster.nodes[other_id].incarnation, second)


def test_a_stopped_driver_does_nothing_more() -> None:
    cluster = Cluster(1)
    driver, machine = drive(cluster, 1)
    driver.wake()
    cluster.nodes[1].replica.submit("client", [SET], [], 0, 10)
    driver.stop()
    for _ in range(3):
        machine.one_pass(TICK_MS)
    assert machine.events == ["stopped"]
