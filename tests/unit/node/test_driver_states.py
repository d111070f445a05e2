"""What a driver does about whole states: flush, then cut; name a state, then go over to it."""

from collections.abc import Callable

from respraft.node.driver import Driver
from respraft.node.interface import States
from respraft.raft.message import AppendResponse, InstallSnapshot, NodeId, SnapshotPoint
from respraft.replica.applier import META_CONFIGURATION, load_applied
from respraft.storage.state_memory import MemoryStateStore
from tests.unit.node.test_driver import Machine, die
from tests.unit.replica.cluster import Cluster


class Asked(States):
    """Notes what it is asked for; nothing is done before the test does it."""

    def __init__(self, events: list[str]) -> None:
        self.flushes: list[Callable[[], None]] = []
        self._events = events

    def start(self, driver: Driver) -> None:
        return

    def flush(self, flush: Callable[[], None]) -> None:
        self.flushes.append(flush)

    def send(self, peer: NodeId) -> None:
        self._events.append(f"send to {peer}")

    def installed(self, install: InstallSnapshot) -> None:
        self._events.append("installed")

    def stop(self) -> None:
        return


def drive(cluster: Cluster, node_id: NodeId) -> tuple[Driver, Machine, Asked]:
    machine = Machine(cluster.now_ms)
    states = Asked(machine.events)
    driver = Driver(
        loop=machine,
        clocks=machine,
        replica=cluster.nodes[node_id].replica,
        log_writer=machine,
        links=machine,
        states=states,
        deliver=machine.deliver,
        die=die,
    )
    driver.start()
    machine.one_pass()
    machine.events.clear()
    return driver, machine, states


def test_the_log_is_cut_in_a_write_behind_the_flush_and_not_before() -> None:
    cluster = Cluster(1)
    cluster.ask(1, "SET k v", "SET k w")
    driver, machine, states = drive(cluster, 1)
    cluster.nodes[1].replica.snapshots.want_flush()
    driver.wake()
    machine.one_pass()
    (flush,) = states.flushes
    for _ in range(3):
        machine.one_pass(10)
    assert "write" not in machine.events and cluster.nodes[1].core.log.base.index == 0
    flush()
    driver.flushed()
    machine.one_pass()
    assert machine.write is not None
    assert machine.write.first_index == cluster.nodes[1].core.log.first_index > 1
    assert len(states.flushes) == 1


def test_a_state_is_gone_over_to_when_it_is_named_and_promised_behind_that() -> None:
    cluster = Cluster(3)
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.lose = lambda sent: sent.to == follower.id
    cluster.ask(leader.id, "SET k v")
    picture = MemoryStateStore.loaded(cluster.take_snapshot(leader, follower.id))
    configuration = leader.machine.meta(META_CONFIGURATION)
    assert configuration is not None
    point = SnapshotPoint(*load_applied(leader.machine))
    driver, machine, _ = drive(cluster, follower.id)
    assert driver.install_snapshot(InstallSnapshot(leader.core.term, point, configuration, 2, picture))
    machine.one_pass()
    assert machine.events == ["write"] and follower.replica.status().applied_index < point.index
    machine.complete()
    assert machine.events[:3] == ["write", "installed", AppendResponse.__name__]
    assert follower.replica.status().applied_index == point.index
    assert not driver.install_snapshot(InstallSnapshot(leader.core.term, point, configuration, 3, picture))


def test_a_peer_that_needs_what_is_gone_is_sent_a_state_once() -> None:
    cluster = Cluster(3)
    leader, follower = cluster.leader(), cluster.followers()[0]
    cluster.crash(follower.id)
    cluster.ask(leader.id, "SET k v")
    cluster.advance(1000)
    cluster.compact(leader)
    driver, machine, _ = drive(cluster, leader.id)
    refusal = AppendResponse(follower.id, leader.core.term, 0, leader.core.log.base.index, 1, 1)
    for _ in range(2):
        driver.wake()
        leader.core.peers[follower.id].paused = False  # As by an answer to a heartbeat.
        machine.one_pass()
        driver.received(follower.id, follower.incarnation, refusal)
        machine.one_pass()
    assert machine.events.count(f"send to {follower.id}") == 1
    driver.snapshot_ended(follower.id)
    leader.core.peers[follower.id].paused = False
    machine.one_pass()
    driver.received(follower.id, follower.incarnation, refusal)
    machine.one_pass()
    assert machine.events.count(f"send to {follower.id}") == 2
