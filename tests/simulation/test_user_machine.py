"""A user's machine under everything that the simulator can do: crashes, lost disks, snapshots from others.

The machine below has the commands that the simulator's clients give, save those with a deadline, so that all
checkers judge it as they judge the keyspace: nothing lost, nothing twice, linearizable, alike on all nodes.
"""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from respraft.library.machine import Context, Machine
from respraft.library.own_command import command
from respraft.library.user_machine import UserMachine, pieces_of
from respraft.replica.machine import AttachedRead, Command, DatabaseCommand, Reply
from respraft.resp.replies import OK
from respraft.storage.state_interface import StateStore
from tests.simulation.client import COUNTERS, REGISTERS
from tests.simulation.simulation import run_seed

JOURNAL_BYTES: int = 4000
"""Small, so that snapshots are written between flushes, too."""


class Registers(Machine):
    """A dictionary, and a command that fails halfway whenever another one is executed."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    @command("GET", arity=2, kind="read")
    def get(self, context: Context, key: bytes) -> bytes | None:
        return self.values.get(key)

    @command("SET", arity=-3)
    def set(self, context: Context, key: bytes, value: bytes, option: bytes = b"") -> Any:
        old = self.values.get(key)
        if (option == b"NX" and old is not None) or (option == b"XX" and old is None):
            return None
        self.values[key] = value
        return old if option == b"GET" else OK

    @command("SETNX", arity=3)
    def setnx(self, context: Context, key: bytes, value: bytes) -> int:
        return 0 if key in self.values else int(self.set(context, key, value) is OK)

    @command("GETSET", arity=3)
    def getset(self, context: Context, key: bytes, value: bytes) -> bytes | None:
        old: bytes | None = self.set(context, key, value, b"GET")
        return old

    @command("APPEND", arity=3)
    def append(self, context: Context, key: bytes, value: bytes) -> int:
        self.values[key] = self.values.get(key, b"") + value
        return len(self.values[key])

    @command("DEL", arity=3)
    def delete(self, context: Context, *keys: bytes) -> int:
        return sum(self.values.pop(key, None) is not None for key in keys)

    @command("INCR", arity=2)
    def incr(self, context: Context, key: bytes) -> int:
        number = int(self.values.get(key, b"0")) + 1
        self.values[key] = b"%d" % number
        return number

    @command("FAIL", arity=1)
    def fail(self, context: Context) -> None:
        self.values[b"half"] = b"done"
        raise ValueError("only half of it")


class WithDatabases(UserMachine):
    """Databases, which clients of the simulator use, as a part of the key; and failures between commands."""

    def apply(
        self,
        index: int,
        time_ms: int,
        commands: Sequence[Command],
        databases: Sequence[int],
        reads: Sequence[AttachedRead],
    ) -> list[Reply]:
        places = databases or [0] * len(commands)
        placed = [_placed(database, args) for database, args in zip(places, commands, strict=True)]
        placed_reads = [(position, 0, _placed(database, args)) for position, database, args in reads]
        replies = super().apply(index, time_ms, placed, (), placed_reads)
        super().apply(index, time_ms, [[b"FAIL"]], (), ())
        return replies

    def read(self, commands: Sequence[DatabaseCommand], log_time_ms: int, now_ms: int) -> list[Reply] | None:
        placed = [(0, _placed(database, args)) for database, args in commands]
        return super().read(placed, log_time_ms, now_ms)


def _placed(database: int, args: Command) -> Command:
    name, key, *rest = args
    return [name, b"%d:%b" % (database, key), *rest]


def new_machine(store: StateStore, **_: object) -> UserMachine:
    machine = Registers()
    return WithDatabases(store, machine, fresh=list(pieces_of(machine)), journal_bytes_min=JOURNAL_BYTES)


@pytest.mark.parametrize("block", range(4))
def test_seeds_with_a_users_machine(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = REGISTERS + COUNTERS
    monkeypatch.setattr(logging.getLogger("respraft.machine"), "disabled", True)  # Thousands of failures.
    monkeypatch.setattr("tests.simulation.node.KeyspaceMachine", new_machine)
    monkeypatch.setattr("tests.simulation.client.KEYS", keys)
    monkeypatch.setattr("tests.simulation.simulation.KEYS", keys)
    monkeypatch.setattr("respraft.library.user_machine.READS_S_MAX", float("inf"))
    commands = lives = installs = 0
    for seed in range(block * 10, block * 10 + 10):
        result = run_seed(seed)
        assert result.passed, f"seed {seed}: {result.failure or result.undecided}"
        commands += result.commands
        lives += result.lives
        installs += result.installs
    assert commands > 1000
    assert lives > 10
    assert installs > 0
