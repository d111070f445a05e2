"""What a client may rely on while nothing is broken: no stale read, from any node; order per connection."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.process.cluster import Cluster
from tests.process.ports import LOOPBACK

ROUNDS: Final = 10_000
ENOUGH_S: Final = 60.0
ENOUGH_ROUNDS: Final = 1000
"""On a machine where all of them take longer than that, so many will do."""

LANES: Final = 10
"""Clients side by side, each with a key of its own; more only queue for the processors."""


def test_a_write_on_one_node_is_read_on_the_others_at_once(shared_cluster: Cluster) -> None:
    ports = [node.client_port for node in shared_cluster.nodes.values()]

    end_s = time.monotonic() + ENOUGH_S

    async def lane(number: int) -> list[str]:
        stale = []
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(Redis(host=LOOPBACK, port=port)) for port in ports]
            for sequence in range(ROUNDS // LANES):
                if sequence >= ENOUGH_ROUNDS // LANES and time.monotonic() > end_s:
                    break
                # The writer rotates, so that each pair of nodes takes part in each direction.
                writer, one, other = (nodes[(sequence + place) % 3] for place in range(3))
                key, value = f"lane:{number}", b"%d" % sequence
                await writer.set(key, value)
                seen = tuple(await asyncio.gather(one.get(key), other.get(key)))
                if seen != (value, value):
                    stale.append(f"{key}: wrote {value!r} on node {sequence % 3 + 1}, then read {seen}")
        return stale

    async def all_lanes() -> list[list[str]]:
        return await asyncio.gather(*(lane(number) for number in range(LANES)))

    assert [line for lines in asyncio.run(all_lanes()) for line in lines] == []


@pytest.mark.parametrize("node_id", [1, 2, 3])
def test_reads_and_writes_of_a_pipeline_run_in_order(shared_cluster: Cluster, node_id: int) -> None:
    key = f"order:{node_id}"
    with shared_cluster.client(node_id) as client:
        pipeline = client.pipeline(transaction=False)
        expected: list[object] = []
        for sequence in range(500):
            value = b"%d" % sequence
            pipeline.set(key, value).get(key).append(key, "x").strlen(key).get(key)
            expected += [True, value, len(value) + 1, len(value) + 1, value + b"x"]
        assert pipeline.execute() == expected


@pytest.mark.parametrize("node_id", [1, 2, 3])
def test_pipelines_of_many_connections_do_not_mix(shared_cluster: Cluster, node_id: int) -> None:
    port = shared_cluster.nodes[node_id].client_port

    async def one(number: int) -> None:
        async with Redis(host=LOOPBACK, port=port) as client:
            for sequence in range(20):
                key, value = f"mix:{node_id}:{number}", b"%d" % sequence
                pipeline = client.pipeline(transaction=False)
                for _ in range(10):
                    pipeline.set(key, value)
                    pipeline.get(key)
                assert await pipeline.execute() == [True, value] * 10

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(30)))

    asyncio.run(many())
