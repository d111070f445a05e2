"""Workers: clients of several processes of a node see one server, whichever of them dies."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis
import redis.asyncio

from tests.process.clients import Incrementer, assert_counted_once, assert_no_errors, progress
from tests.process.cluster import PATIENT, START_TIMEOUT_S, Cluster, ClusterFactory, Settings, merged
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK

WORKERS: Final = 2
SETTINGS: Final = merged(PATIENT, {"server": {"workers": WORKERS}})
CONNECTIONS: Final = 1000
KILLS: Final = 3

_IDS_PER_WORKER: Final = 1_000_000_000
_TRIES_MAX: Final = 64


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three ready nodes with two workers each, for tests that hurt nobody."""
    with Cluster(tmp_path_factory.mktemp("spread"), settings=SETTINGS) as cluster:
        yield cluster.start()


def workers_of(pid: int) -> list[int]:
    """The pids of the workers that a node's process has now."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if is_worker(int(child))]


def is_worker(pid: int) -> bool:
    """Whether a worker lives under this pid. One that is dead and not yet buried does not."""
    try:
        return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def life_of(client: redis.Redis) -> int:
    """Which of the node's workers serves a client of a single connection."""
    return int(client.client_id()) // _IDS_PER_WORKER


def one_for_each_worker(cluster: Cluster, node_id: int, **options: object) -> list[redis.Redis]:
    """Clients of one node, each at another worker: the kernel chooses, so try until all are there."""
    found: dict[int, redis.Redis] = {}
    for _ in range(_TRIES_MAX):
        client = cluster.client(node_id, single_connection_client=True, **options)
        if found.setdefault(life_of(client), client) is not client:
            client.close()
        if len(found) == WORKERS:
            return list(found.values())
    raise AssertionError(f"{_TRIES_MAX} connections went to the same worker")


def pid_of(client: redis.Redis, cluster: Cluster, node_id: int) -> int:
    """The process that serves a client, found by its socket."""
    assert client.connection is not None
    host, port = client.connection._sock.getsockname()  # type: ignore[attr-defined]
    wanted = f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
    # Others on this machine may have that remote port, too.
    ours = f":{cluster.nodes[node_id].client_port:04X}"

    def found() -> int | None:
        """Where sockets and descriptors come and go meanwhile, the kernel's lists may lack one for once."""
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = [row[9] for row in rows if row[2] == wanted and row[1].endswith(ours)]
        for pid in workers_of(cluster.pid(node_id)):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if str(descriptor.readlink()) in [f"socket:[{inode}]" for inode in inodes]:
                        return pid
        return None

    return eventually(found, what="a worker has that connection")


def kill_worker(cluster: Cluster, node_id: int, pid: int) -> None:
    """SIGKILL one, and wait until it is gone."""
    with cluster.nodes[node_id].ending():
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_worker(pid), what="the worker is gone")


def until_cut_off(client: redis.Redis) -> None:
    """Who closes a connection of another worker has to tell that one first."""

    def is_cut_off() -> bool:
        try:
            return not client.ping()
        except redis.ConnectionError:
            return True

    eventually(is_cut_off, what="the connection is closed")


def test_what_one_worker_wrote_every_worker_reads(spread: Cluster) -> None:
    clients = [client for node_id in spread.nodes for client in one_for_each_worker(spread, node_id)]
    for turn in range(60):
        writer = clients[turn % len(clients)]
        writer.set("turn", turn)
        assert [int(reader.get("turn") or -1) for reader in clients] == [turn] * len(clients)


def test_a_pipeline_of_everything_is_answered_in_order(spread: Cluster) -> None:
    for node_id in spread.nodes:
        with spread.client(node_id, single_connection_client=True) as client:
            client.delete("number", "text")
            pipe = client.pipeline(transaction=False)
            for number in range(1, 301):
                pipe.incr("number").get("number").set("text", number).get("text").echo(str(number))
                if not number % 50:
                    pipe.execute_command("CLIENT", "GETNAME").execute_command("NO-SUCH").time()
                    pipe.execute_command("SELECT", 1).get("number").execute_command("SELECT", 0)
                    pipe.execute_command("INCR", "text", "too", "many").execute_command("RAFT.LEADER")
            replies = iter(pipe.execute(raise_on_error=False))
            for number in range(1, 301):
                text = b"%d" % number
                assert [next(replies) for _ in range(5)] == [number, text, True, text, text]
                if not number % 50:
                    assert next(replies) is None
                    assert str(next(replies)).startswith("unknown command 'NO-SUCH'")
                    assert isinstance(next(replies), tuple)
                    assert [next(replies) for _ in range(3)] == [True, None, True]
                    assert "wrong number of arguments" in str(next(replies))
                    assert next(replies) == f"{LOOPBACK}:{leader_port(spread)}".encode()


def leader_port(cluster: Cluster) -> int:
    return cluster.nodes[cluster.leader()].client_port


def test_commands_about_the_node_are_answered_by_the_node(spread: Cluster) -> None:
    with spread.client(1, decode_responses=True) as client:
        assert client.config_get("maxclients") == {"maxclients": "10000"}
        assert client.info("server")["process_id"] == spread.pid(1)
        assert client.readonly() is True
        assert spread.status(1)["node_id"] == 1
    with spread.client(1, protocol=3) as third:
        assert third.execute_command("HELLO", 3)[b"proto"] == 3


def test_clients_see_and_kill_each_other_across_workers(spread: Cluster) -> None:
    # A worker that is a second late with its clients is left out; then ask again.
    one, other = one_for_each_worker(spread, 1, decode_responses=True)
    other.client_setname("other")
    ids = {one.client_id(), other.client_id()}

    def all_listed() -> dict[int, dict[str, str]]:
        listed = {int(each["id"]): each for each in one.client_list()}
        return listed if listed.keys() >= ids else {}

    listed = eventually(all_listed, what="clients of both workers")
    assert listed[other.client_id()]["name"] == "other"
    assert list(listed) == sorted(listed)
    (chosen,) = eventually(lambda: one.client_list(client_id=[other.client_id()]))
    assert chosen["name"] == "other"

    other_id = str(other.client_id())
    assert eventually(lambda: one.client_kill_filter(_id=other_id)) == 1
    until_cut_off(other)
    # Itself, and it is told first.
    assert eventually(lambda: one.client_kill_filter(_id=str(one.client_id()), skipme=False)) == 1
    until_cut_off(one)


def test_a_thousand_connections(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS).start()

    async def all_at_once() -> set[int]:
        clients = [
            redis.asyncio.Redis(
                host=LOOPBACK, port=cluster.nodes[1].client_port, single_connection_client=True
            )
            for _ in range(CONNECTIONS)
        ]
        try:
            for _ in range(5):
                await asyncio.gather(*(client.incr("count") for client in clients))
            ids = await asyncio.gather(*(client.client_id() for client in clients))
            # A worker that is a second late with its clients is left out; then ask again.
            async with asyncio.timeout(START_TIMEOUT_S):
                while {int(each["id"]) for each in await clients[0].client_list()} != set(ids):
                    pass
                while (await clients[0].info())["connected_clients"] != CONNECTIONS:
                    pass
            return set(ids)
        finally:
            await asyncio.gather(*(client.aclose() for client in clients))

    ids = asyncio.run(all_at_once())
    assert len(ids) == CONNECTIONS
    assert len({each // _IDS_PER_WORKER for each in ids}) == WORKERS
    with cluster.client(1) as client:
        assert client.get("count") == b"%d" % (5 * CONNECTIONS)
        eventually(lambda: client.info("clients")["connected_clients"] == 1)
    eventually(lambda: metric(cluster, "respraft_connected_clients") == 0)
    by_worker = [
        metric(cluster, f'respraft_worker_clients{{worker="{number}"}}') for number in range(WORKERS)
    ]
    assert by_worker == [0] * WORKERS


def metric(cluster: Cluster, name: str) -> float:
    page = cluster.http(1, "/metrics")[1]
    (value,) = re.findall(rf"^{re.escape(name)} (.*)$", page, re.MULTILINE)
    return float(value)


def test_a_worker_that_dies_takes_only_its_own_clients_along(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS).start()
    one, other = one_for_each_worker(cluster, 1)
    lives = {life_of(one), life_of(other)}
    before = workers_of(cluster.pid(1))
    kill_worker(cluster, 1, pid_of(one, cluster, 1))
    with pytest.raises(redis.ConnectionError):
        one.incr("count")
    assert other.incr("count") == 1

    def replaced() -> bool:
        living = workers_of(cluster.pid(1))
        return len(living) == WORKERS and living != before

    eventually(replaced, what="another worker")
    for client in one_for_each_worker(cluster, 1):
        assert life_of(client) in lives | {WORKERS + 1}  # Ids are not given again.
        client.incr("count")
    assert other.get("count") == b"3"
    assert "was killed by SIGKILL; its clients are cut off" in cluster.log_text(1)
    assert metric(cluster, "respraft_worker_restarts_total") == 1


def test_a_worker_that_hangs_does_not_keep_the_others_from_being_asked(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS).start()
    one, other = one_for_each_worker(cluster, 1)
    hung = pid_of(one, cluster, 1)
    os.kill(hung, signal.SIGSTOP)
    # The other may be late itself, on a busy machine.
    eventually(lambda: other.client_id() in [int(each["id"]) for each in other.client_list()])
    assert other.incr("count") == 1
    os.kill(hung, signal.SIGCONT)
    assert one.incr("count") == 2


def test_increments_count_once_while_workers_and_leaders_are_killed(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(settings=SETTINGS).start()
    clients = [Incrementer(cluster, "count", home) for home in [*cluster.nodes] * 3]
    for _ in range(KILLS):
        for node_id in cluster.nodes:
            for pid in workers_of(cluster.pid(node_id)):
                kill_worker(cluster, node_id, pid)
            progress(clients, 10)
        leader = cluster.leader()
        cluster.kill(leader)
        progress(clients, 10)
        cluster.start(leader)
        for client, home in zip(clients, [*cluster.nodes] * 3, strict=True):
            client.move(home)
    for client in clients:
        client.stop()
    assert_no_errors(clients)
    with cluster.client(cluster.leader()) as reader:
        assert_counted_once(clients, int(reader.get("count") or 0))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT to all", "SIGKILL"])
def test_no_process_is_left_behind(make_cluster: ClusterFactory, how: str) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS).start()
    pid = cluster.pid(1)
    eventually(lambda: len(workers_of(pid)) == WORKERS, what="all workers have begun")
    workers = workers_of(pid)
    with cluster.client(1) as client:
        client.set("key", "value")
        if how == "SIGKILL":
            cluster.kill(1)
        elif how == "SIGTERM":
            assert cluster.stop(1) == 0
        else:  # As Ctrl-C at a terminal and systemd do.
            os.killpg(pid, signal.SIGINT)
            assert cluster.wait(1) == 0
    eventually(lambda: not any(map(is_worker, workers)), what="all workers have ended")
    assert "did not stop" not in cluster.log_text(1)
    cluster.start()
    with cluster.client(1) as client:
        assert client.get("key") == b"value"


def test_commands_in_flight_are_answered_before_the_end(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS).start()
    clients = [socket.create_connection((LOOPBACK, cluster.nodes[1].client_port)) for _ in range(8)]
    for client in clients:
        client.sendall(b"PING\r\n")
        assert client.recv(64) == b"+PONG\r\n"
        client.sendall(b"INCR count\r\n")
    assert cluster.stop(1) == 0
    answered = 0
    for client in clients:  # Those that were not read any more were not executed either.
        with client, contextlib.suppress(ConnectionResetError):
            answered += client.recv(64).count(b":")
    assert answered
    cluster.start()
    with cluster.client(1) as reader:
        assert reader.get("count") == b"%d" % answered


def test_without_a_majority_clients_are_told_so(make_cluster: ClusterFactory) -> None:
    impatient = {"client": {"park_ms": 200, "request_timeout_ms": 500}}
    cluster = make_cluster(settings=merged(SETTINGS, impatient)).start()
    with cluster.client(1) as client:
        eventually(lambda: is_served(client), what="a write within the little time that it has")
        client.readonly()
        cluster.kill(2, 3)
        with pytest.raises(redis.ResponseError):  # What becomes of that one, nobody knows.
            client.set("key", "other")
        eventually(lambda: not cluster.status(1)["leader_id"], what="nobody leads")
        with pytest.raises(redis.exceptions.ClusterDownError, match="No raft leader"):
            client.set("key", "other")


def is_served(client: redis.Redis) -> bool:
    try:
        return bool(client.set("key", "value"))
    except redis.ResponseError:
        return False


def test_limits_are_shared_out_to_the_workers(make_cluster: ClusterFactory) -> None:
    limits: Settings = {"client": {"max_clients": 8, "in_flight_bytes_max": 1 << 20}}
    cluster = make_cluster(nodes=1, settings=merged(SETTINGS, limits)).start()
    kept: list[redis.Redis] = []
    with contextlib.suppress(redis.ConnectionError):
        while len(kept) < 9:
            client = cluster.client(1)  # Whose pipelines take its one connection.
            client.ping()
            kept.append(client)
    assert len(kept) <= 8
    # Which worker is full, the kernel decides. Who says something to that one may see a reset and no reason.
    eventually(lambda: b"max number of clients" in first_words(cluster), what="a reason")
    value = bytes(range(256)) * 4096  # Far more in flight than may be, from all of them.
    pipes = []
    for number, client in enumerate(kept):
        pipe = client.pipeline(transaction=False)
        for turn in range(8):
            pipe.set(f"{number}:{turn}", value)
            pipe.get(f"{number}:{turn}")
        pipes.append(pipe)
    for pipe in pipes:
        assert pipe.execute() == [True, value] * 8
    eventually(lambda: metric(cluster, "respraft_rejected_connections_total") >= 1)  # Workers tell it late.


def first_words(cluster: Cluster) -> bytes:
    """What comes on a new connection before anything was said."""
    with socket.create_connection((LOOPBACK, cluster.nodes[1].client_port)) as connection:
        connection.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            return connection.recv(100)
        return b""


def test_a_node_that_starts_again_waits_for_workers_that_outlive_the_last_one(
    make_cluster: ClusterFactory,
) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS).start()
    workers = workers_of(cluster.pid(1))
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # Each has the port until it sees that its node is gone.
    cluster.kill(1)
    cluster.launch(1)
    eventually(lambda: "in use" in cluster.log_text(1), what="it meets the port taken")
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    cluster.wait_ready(1)
    with cluster.client(1) as client:
        assert client.set("key", "value")
    eventually(lambda: not any(map(is_worker, workers)), what="the old ones have ended")


def test_a_port_that_is_taken_is_not_shared(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1, settings=SETTINGS)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind((LOOPBACK, cluster.nodes[1].client_port))
        stranger.listen()
        cluster.launch(1)
        assert cluster.wait(1) == 1
    assert "client.listen" in cluster.log_text(1)
