"""Nodes die and are paused: clients of the living see a pause, nothing is lost, nothing happens twice."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from tests.process.clients import Incrementer, assert_counted_once, assert_no_errors, progress
from tests.process.cluster import Cluster
from tests.process.eventually import eventually

KILLS: Final = 10
PAUSE_S: Final = 5.0
JOIN_TIMEOUT_S: Final = 60.0


def test_increments_count_once_while_leader_after_leader_is_killed(cluster: Cluster) -> None:
    """Clients on the two followers never see an error, ten leaders long.

    One more client sits on the leader, with a key of its own: each death may hide one outcome from it.
    """
    leader = cluster.leader()
    on_followers = [Incrementer(cluster, "followers", home) for home in cluster.others(leader) * 2]
    on_leader = Incrementer(cluster, "leader", leader)
    everyone = [*on_followers, on_leader]

    for _ in range(KILLS):
        leader = cluster.leader()
        homes = cluster.others(leader) * 2
        for client, home in zip(on_followers, homes, strict=True):
            client.move(home)
        on_leader.move(leader)
        progress(everyone, 20)

        cluster.kill(leader)
        progress(everyone, 20)
        cluster.start(leader)

    for client in everyone:
        client.stop()
    assert_no_errors(everyone)
    assert on_leader.unknown <= KILLS
    with cluster.client(cluster.leader()) as reader:
        assert_counted_once(on_followers, int(reader.get("followers") or 0))
        assert_counted_once([on_leader], int(reader.get("leader") or 0))


@dataclass(slots=True)
class Ledger:
    """What one client of the test below was told before its node died."""

    counted: int = 0  # Acknowledged INCRs.
    stored: int = 0  # The last acknowledged SET's value; the values count up.
    sent: int = 0  # The last value that was sent.
    errors: list[str] = field(default_factory=list)


def test_nothing_acknowledged_is_lost_when_all_are_killed_at_once(cluster: Cluster) -> None:
    ledgers = {f"client-{number}": Ledger() for number in range(6)}
    for _ in range(3):
        _write_until_all_die(cluster, ledgers)
        cluster.start()
        with cluster.client(cluster.leader()) as reader:
            for name, ledger in ledgers.items():
                counted, stored = (int(value or 0) for value in reader.mget(f"{name}:count", f"{name}:set"))
                assert ledger.errors == []
                # The command under way when the node died may or may not have happened; nothing else may.
                assert ledger.counted <= counted <= ledger.counted + 1, name
                assert ledger.stored <= stored <= ledger.sent <= ledger.stored + 1, name
                ledger.counted, ledger.stored = counted, stored


def _write_until_all_die(cluster: Cluster, ledgers: dict[str, Ledger]) -> None:
    before = {name: ledger.counted for name, ledger in ledgers.items()}

    def write(name: str, ledger: Ledger, node_id: int) -> None:
        node = cluster.nodes[node_id]
        ends = node.ends
        try:
            with cluster.client(node_id, single_connection_client=True) as client:
                while True:
                    client.incr(f"{name}:count")
                    ledger.counted += 1
                    ledger.sent = ledger.stored + 1
                    client.set(f"{name}:set", ledger.sent)
                    ledger.stored = ledger.sent
        except redis.ConnectionError as error:
            if not node.excuses(ends):
                ledger.errors.append(f"node {node_id}: {type(error).__name__}: {error}")
        except redis.RedisError as error:
            ledger.errors.append(f"node {node_id}: {type(error).__name__}: {error}")

    threads = [
        threading.Thread(target=write, args=(name, ledger, 1 + place % 3), daemon=True)
        for place, (name, ledger) in enumerate(ledgers.items())
    ]
    for thread in threads:
        thread.start()
    eventually(
        lambda: all(ledger.errors or ledger.counted >= before[name] + 50 for name, ledger in ledgers.items()),
        what="every client has written",
    )
    cluster.kill(*cluster.nodes)
    for thread in threads:
        thread.join(JOIN_TIMEOUT_S)
        assert not thread.is_alive(), "a client of a dead node still waits"


class LateCommand:
    """A command for a node that stands still: the kernel takes it, and the node sees it when it goes on."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        """Connect while the node still answers."""
        self._client = cluster.client(node_id)
        self._connection: Any = self._client.connection_pool.get_connection()

    def send(self, *words: str) -> None:
        self._connection.send_command(*words)

    def reply(self) -> object:
        """Return the reply, or the code word of an error."""
        try:
            return self._connection.read_response()
        except redis.exceptions.ClusterDownError:
            return "CLUSTERDOWN"
        except redis.exceptions.BusyLoadingError:
            return "LOADING"
        except redis.ResponseError as error:
            return str(error).split(" ")[0]
        finally:
            self._connection.disconnect()
            self._client.close()


def test_a_leader_that_was_stopped_serves_nothing_of_its_past(cluster: Cluster) -> None:
    """SIGSTOP for five seconds: time enough for another leader and thousands of writes."""
    old = cluster.leader()
    others = cluster.others(old)
    clients = {node_id: cluster.client(node_id, single_connection_client=True) for node_id in cluster.nodes}
    late_read, late_write = LateCommand(cluster, old), LateCommand(cluster, old)
    in_flight = [Incrementer(cluster, "in-flight", old) for _ in range(4)]
    progress(in_flight, 20)

    cluster.pause(old)
    late_write.send("INCR", "late")
    deadline = time.monotonic() + PAUSE_S
    sequence = 0
    while time.monotonic() < deadline or sequence < 10:
        sequence += 1
        clients[others[sequence % 2]].set("key", sequence)
    late_read.send("GET", "key")
    cluster.resume(old)

    # A read that was sent after the last write was acknowledged: that value, or a refusal.
    assert late_read.reply() in (b"%d" % sequence, "CLUSTERDOWN", "TIMEOUT", "LOADING")
    for _ in range(300):
        sequence += 1
        clients[others[sequence % 2]].set("key", sequence)
        assert int(clients[old].get("key") or 0) == sequence

    late = late_write.reply()
    happened = int(clients[others[0]].get("late") or 0)
    told = {
        1: happened == 1,
        "TIMEOUT": happened <= 1,
        "CLUSTERDOWN": happened == 0,
        "LOADING": happened == 0,
    }
    assert told[late], (late, happened)

    for one in in_flight:
        one.stop()
        # Its node lives but stood still: it may be told, once and honestly, that the outcome is unknown, or
        # that there is no leader.
        one.unknown += len(one.errors)
        assert [
            error for error in one.errors if "TIMEOUT" not in error and "No raft leader" not in error
        ] == []
    assert_counted_once(in_flight, int(clients[others[0]].get("in-flight") or 0))
    for client in clients.values():
        client.close()
