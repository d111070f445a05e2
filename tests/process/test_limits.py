"""Large values, many connections, long pipelines, and clients that do not read: memory stays bounded."""

import asyncio
import hashlib
import random
import resource
import socket
from collections.abc import Iterator
from typing import Final

import pytest
import redis
from redis.asyncio import Redis

from tests.process.cluster import Cluster, ClusterFactory
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK

MIB: Final = 1 << 20
CONNECTIONS: Final = 1_000
PIPELINE: Final = 10_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, not the servers, open more files than the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CONNECTIONS
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"the hard limit of open files is only {hard}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_value_of_ten_megabytes(shared_cluster: Cluster) -> None:
    value = random.Random(1).randbytes(10_000_000)
    for writer in shared_cluster.nodes:
        with shared_cluster.client(writer) as client:
            assert client.set(f"large:{writer}", value)
    for reader in shared_cluster.nodes:
        with shared_cluster.client(reader) as client:
            for writer in shared_cluster.nodes:
                read = client.get(f"large:{writer}")
                assert isinstance(read, bytes)
                assert hashlib.sha256(read).digest() == hashlib.sha256(value).digest()


@pytest.mark.usefixtures("many_files")
def test_a_thousand_connections(shared_cluster: Cluster) -> None:
    port = shared_cluster.nodes[1].client_port

    async def one(number: int, everyone_is_here: asyncio.Barrier) -> None:
        async with Redis(host=LOOPBACK, port=port, single_connection_client=True) as client:
            await client.ping()
            await everyone_is_here.wait()
            assert await client.set(f"connection:{number}", number)
            assert await client.get(f"connection:{number}") == b"%d" % number

    async def many() -> None:
        barrier = asyncio.Barrier(CONNECTIONS)
        await asyncio.gather(*(one(number, barrier) for number in range(CONNECTIONS)))

    asyncio.run(many())


def test_a_pipeline_of_ten_thousand_commands(shared_cluster: Cluster) -> None:
    with shared_cluster.client(2) as client:
        pipeline = client.pipeline(transaction=False)
        expected: list[object] = []
        for number in range(PIPELINE // 4):
            pipeline.incr("pipeline:count").set("pipeline:key", number).get("pipeline:key").ping()
            expected += [number + 1, True, b"%d" % number, True]
        assert pipeline.execute() == expected


def test_a_pipeline_is_sent_whole_before_its_replies_are_read(shared_cluster: Cluster) -> None:
    """As blocking libraries do: more bytes in both directions than any socket holds."""
    value = b"x" * MIB
    pairs = 48
    with shared_cluster.client(3) as client:
        pipeline = client.pipeline(transaction=False)
        for _ in range(pairs):
            pipeline.set("pipeline:large", value).get("pipeline:large")
        assert pipeline.execute() == [True, value] * pairs


def test_a_client_that_never_reads_costs_little(make_cluster: ClusterFactory) -> None:
    """It is not read from any more, which bounds what waits for it. The others notice nothing."""
    settings = {"client": {"output_buffer_bytes_max": 4 * MIB}}
    cluster = make_cluster(settings=settings).start()
    node_id = cluster.leader()
    with cluster.client(node_id) as other, _connect(cluster, node_id) as deaf:
        other.set("large", b"x" * MIB)
        other.get("large")
        memory = [cluster.rss_bytes(node_id)]
        requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 10_000
        deaf.setblocking(False)

        def refused() -> bool:
            memory.append(cluster.rss_bytes(node_id))
            assert other.incr("served") > 0
            try:
                deaf.send(requests)
            except BlockingIOError:
                return True  # Megabytes of requests wait unread.
            except ConnectionError:
                return True
            return False

        eventually(refused, what="the client that does not read is not heard any more")
        for _ in range(300):
            memory.append(cluster.rss_bytes(node_id))
            assert other.incr("served") > 0
        assert max(memory) - memory[0] < 128 * MIB
        name = ":".join(map(str, deaf.getsockname()))
        deaf.close()
        eventually(lambda: name not in _addresses(other), what="it is forgotten")


def test_a_client_that_never_finishes_its_command_costs_what_it_sent(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(nodes=1).start()  # Nothing but these clients grows it.
    before = cluster.rss_bytes(1)
    liars = [_connect(cluster, 1) for _ in range(100)]
    for liar in liars:
        # Announces a million arguments, and one of 60 MB, and sends neither.
        liar.sendall(b"*1000000\r\n$60000000\r\nabc")
    with cluster.client(1) as client:
        for _ in range(100):
            client.ping()
    grown = cluster.rss_bytes(1) - before
    for liar in liars:
        liar.close()
    assert grown < 32 * MIB


def _connect(cluster: Cluster, node_id: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, cluster.nodes[node_id].client_port))


def _addresses(client: redis.Redis) -> set[str]:
    """The addresses of all connections, by CLIENT LIST."""
    return {entry["addr"] for entry in client.client_list()}
