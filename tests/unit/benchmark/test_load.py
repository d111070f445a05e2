"""Reading what load generators print, and how much they are asked to send."""

import asyncio
import os

import pytest

from tests.benchmark.generator import LoadFailed, Run, figures
from tests.benchmark.load import Volume, parse_redis_benchmark, together
from tests.benchmark.machine import cpu_seconds
from tests.benchmark.workload import FULL, STANDARD, VALUE_BYTES, Figures, Workload

HEADER = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms",'
    '"p99_latency_ms","max_latency_ms"\n'
)


def test_redis_benchmark_gives_throughput_and_two_percentiles() -> None:
    row = '"SET","28902.12","1.390","0.344","1.383","3.815","6.231","9.799"\n'
    assert parse_redis_benchmark(HEADER + row) == Figures(28902.12, 1.383, 6.231)


@pytest.mark.parametrize(
    "output",
    [
        "",
        HEADER,
        "Error from server: CLUSTERDOWN No raft leader\n",
        HEADER + "Error from server: CLUSTERDOWN No raft leader\n",
        HEADER + '"SET","not a number","1","1","1","1","1","1"\n',
    ],
)
def test_redis_benchmark_with_an_error_gives_no_figure(output: str) -> None:
    with pytest.raises(LoadFailed):
        parse_redis_benchmark(output)


def test_figures_are_percentiles_in_milliseconds() -> None:
    latencies_s = [place / 1000 for place in range(1, 102)]  # 1 to 101 ms.
    assert figures(latencies_s, requests=202, elapsed_s=2.0) == Figures(101.0, 51.0, 100.0)


def test_a_run_hands_out_each_request_once_and_ends_with_the_last_answer() -> None:
    async def scenario() -> None:
        run = Run(5, asyncio.get_running_loop().create_future())
        assert [run.take(3), run.take(3), run.take(3)] == [3, 2, 0]
        run.complete(3, 0.1)
        assert not run.finished.done()
        run.complete(2, 0.2)
        assert run.finished.done()
        assert (run.completed, run.latencies_s) == (5, [0.1, 0.2])

    asyncio.run(scenario())


def test_a_run_with_an_error_fails_whatever_comes_after() -> None:
    async def scenario() -> None:
        run = Run(1, asyncio.get_running_loop().create_future())
        run.take(1)
        run.fail("refused")
        run.complete(1, 0.1)
        with pytest.raises(LoadFailed, match="refused"):
            await run.finished

    asyncio.run(scenario())


def test_every_client_gets_work_even_in_a_short_run() -> None:
    volume = Volume(10)
    assert volume.of(Workload("SET", 50, 16), "redis") == 1600
    assert volume.of(Workload("SET", 50, 16), "etcd") == 1600


def test_cheap_requests_are_sent_in_greater_number() -> None:
    volume = Volume(100_000)
    assert volume.of(Workload("SET", 50, 1), "redis") == 100_000
    assert volume.of(Workload("SET", 50, 16), "redis") == 400_000
    assert volume.of(Workload("SET", 50, 16), "etcd") == 25_000
    assert volume.of(Workload("SET", 1, 1), "redis") == 10_000


@pytest.mark.parametrize("workloads", [STANDARD, FULL])
def test_reads_come_after_the_writes_of_what_they_read_and_titles_are_unique(
    workloads: tuple[Workload, ...],
) -> None:
    small = [workload.command for workload in workloads if workload.value_bytes == VALUE_BYTES]
    commands = [command for command in small if command in ("SET", "GET")]
    assert commands == sorted(commands, reverse=True)
    assert all(workload.value_bytes == VALUE_BYTES for workload in workloads[:-1])
    assert len({workload.title for workload in workloads}) == len(workloads)


def test_cpu_time_of_a_process_covers_its_threads_and_never_shrinks() -> None:
    before = cpu_seconds([os.getpid()])
    assert 0 < before <= cpu_seconds([os.getpid()])
    assert cpu_seconds([os.getpid(), os.getpid()]) >= 2 * before


def test_generators_side_by_side_add_up() -> None:
    parts = [Figures(100.0, 1.0, 5.0), Figures(200.0, 2.0, 4.0), Figures(300.0, 9.0, 3.0)]
    assert together(parts) == Figures(600.0, 2.0, 5.0)
