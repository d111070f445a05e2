"""The examples that the README shows, run as they stand there."""

import asyncio
import contextlib
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import respraft
from examples import leaderboard
from tests.process.cluster import REPOSITORY
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK, free_base

ANSWER_S = 60.0


class CounterProgram:
    """`examples/counter.py` in a process of its own."""

    def __init__(self, node_id: int, port: int, directory: Path) -> None:
        code = f"from examples.counter import main; main({node_id}, {port}, {str(directory)!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def say(self, line: str) -> str:
        """Type a line; return the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
        assert ready, "no answer"
        return self.process.stdout.readline().decode().strip()

    def count(self, number: int, *, to: int) -> None:
        """Type a number until it is counted, once: an election may outlast the patience of a call."""
        while (answer := self.say(str(number))) != str(to):
            assert answer.startswith(("NoLeader", "OutcomeUnknown")), answer
            # Behind a command whose outcome is unknown the next one of the same program knows it.
            if answer.startswith("OutcomeUnknown") and self.total() == to:
                return

    def total(self) -> int:
        """Ask until there is an answer."""
        while not (answer := self.say("0")).isdigit():
            assert answer.startswith(("NoLeader", "OutcomeUnknown")), answer
        return int(answer)

    def kill(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def port() -> int:
    return free_base(range(200))


@pytest.fixture
def programs(tmp_path: Path, port: int) -> Iterator[dict[int, CounterProgram]]:
    programs = {node_id: CounterProgram(node_id, port, tmp_path) for node_id in (1, 2, 3)}
    yield programs
    for program in programs.values():
        program.kill()


def test_the_counter_counts_exactly_over_the_death_of_any_program(
    programs: dict[int, CounterProgram], tmp_path: Path, port: int
) -> None:
    total = 5
    programs[1].count(5, to=total)
    for victim in (1, 2, 3):  # One of them led.
        for program in programs.values():
            total += 1
            program.count(1, to=total)
        programs[victim].kill()
        for program in (programs[node_id] for node_id in programs if node_id != victim):
            total += 10
            program.count(10, to=total)
        programs[victim] = CounterProgram(victim, port, tmp_path)
        total += 100
        programs[victim].count(100, to=total)
    assert programs[1].say("x") == "CommandError: ValueError: invalid literal for int() with base 10: b'x\\n'"
    assert programs[2].total() == total


def test_the_counter_ends_when_its_input_does(programs: dict[int, CounterProgram]) -> None:
    programs[1].count(5, to=5)
    for program in programs.values():
        assert program.process.stdin is not None
        program.process.stdin.close()
    assert [program.process.wait(ANSWER_S) for program in programs.values()] == [0, 0, 0]


@pytest.fixture
def board(tmp_path: Path, port: int) -> Iterator[list[Any]]:
    """Clients of the three nodes of the leaderboard, which runs on a thread."""
    loop = asyncio.new_event_loop()
    running = loop.create_task(leaderboard.main(port, str(tmp_path)))

    def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(running)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    clients = [redis.Redis(LOOPBACK, port + at, socket_timeout=ANSWER_S, protocol=2) for at in range(3)]
    for client in clients:
        eventually(partial(answers, client))
    yield clients
    for client in clients:
        client.close()
    loop.call_soon_threadsafe(running.cancel)
    thread.join()


def answers(client: Any) -> bool:
    try:
        return client.execute_command("RAFT.LEADER") is not None
    except redis.ConnectionError:
        return False


def test_any_redis_client_plays_on_the_leaderboard(board: list[Any]) -> None:
    first, second, third = board
    assert first.execute_command("BOARD.ADD", "chess", "ada", 30) == 30
    assert second.execute_command("board.add", "chess", "bob", 20) == 20
    assert third.execute_command("BOARD.ADD", "chess", "bob", 25) == 45
    for client in board:
        assert client.execute_command("BOARD.TOP", "chess") == [[b"bob", 45], [b"ada", 30]]
    assert first.execute_command("BOARD.TOP", "chess", 1) == [[b"bob", 45]]

    pipeline = second.pipeline(transaction=False)
    for _ in range(100):
        pipeline.execute_command("BOARD.ADD", "go", "eve", 1)
    pipeline.execute_command("BOARD.TOP", "go")
    assert pipeline.execute() == [*range(1, 101), [[b"eve", 100]]]


def test_its_refusals_are_error_replies_and_change_nothing(board: list[Any]) -> None:
    for client in board:
        for arguments, text in (
            (("BOARD.ADD", "chess", "ada", -1), "points cannot be taken away"),
            (("BOARD.ADD", "chess", "ada", "many"), "value is not an integer or out of range"),
            (("BOARD.ADD", "chess", "ada"), "wrong number of arguments for 'board.add' command"),
            (("BOARD.TOP", "chess", "1", "2"), "wrong number of arguments for 'board.top' command"),
            (("GET", "chess"), "unknown command 'GET'"),
        ):
            with pytest.raises(redis.ResponseError, match=text):
                client.execute_command(*arguments)
        assert client.execute_command("BOARD.TOP", "chess") == []


def test_it_has_the_commands_that_every_server_has(board: list[Any]) -> None:
    client = board[1]
    leader = client.execute_command("RAFT.LEADER")
    assert leader.decode().rpartition(":")[0] == LOOPBACK
    assert client.info("raft")["raft_num_nodes"] == 3
    assert client.info("keyspace") == {}
    assert client.client_setname("me") and client.client_getname() in ("me", b"me")
    status = client.execute_command("RAFT.STATUS")
    assert status[status.index(b"state") + 1] == b"up"
    modern: Any
    with redis.Redis(port=client.get_connection_kwargs()["port"], protocol=3) as modern:
        assert modern.execute_command("BOARD.ADD", "chess", "ada", 1) == 1
        docs = modern.execute_command("COMMAND DOCS", "board.add")
        assert docs[b"board.add"][b"summary"] == b"Give a player points; returns the new total"
    assert {"board.add", "board.top", "ping", "raft.status"} <= client.command().keys()
    assert "get" not in client.command()
    assert client.command()["board.add"]["arity"] == 4
    assert client.command_getkeys("BOARD.ADD", "chess", "ada", 1) in (["chess"], [b"chess"])


def test_a_machine_may_be_read_and_written_from_the_program_as_well(tmp_path: Path, port: int) -> None:
    member = respraft.Member(1, f"{LOOPBACK}:{port + 1}", f"{LOOPBACK}:{port}")
    configuration = respraft.Configuration(id=1, directory=tmp_path, members=[member], timeout_s=ANSWER_S)
    with respraft.Node(leaderboard.Leaderboard(), configuration) as node:
        client: Any
        with redis.Redis(port=port, socket_timeout=ANSWER_S) as client:
            client.execute_command("BOARD.ADD", "chess", "ada", 30)
        assert node.read(b"boards") == {"chess": {"ada": 30}}
        last = node.entry(node.status().commit_index)
        assert last.commands == ((b"BOARD.ADD", b"chess", b"ada", b"30"),)
