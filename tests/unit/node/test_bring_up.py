"""What a node makes of its data directory before it serves anybody."""

import random
from pathlib import Path

import pytest

from respraft.commands.machine import KeyspaceMachine
from respraft.commands.table import lookup
from respraft.config import ClientConfig, ClusterConfig, Config, HttpConfig, NodeConfig, PeerConfig
from respraft.node.bring_up import bring_up
from respraft.raft.message import KIND_NORMAL, Entry
from respraft.raft.ready import HardState
from respraft.replica.applier import Applier
from respraft.replica.origin import Origin
from respraft.replica.status import ReplicaCounters, Samples
from respraft.storage.interface import StartRefused
from respraft.storage.log_memory import MemoryDisk, open_memory_log
from respraft.storage.state_memory import MemoryStateStore

CONFIG = Config(
    node=NodeConfig(id=1, data_dir=Path("data/node-1")),
    client=ClientConfig(listen="127.0.0.1:7001"),
    peer=PeerConfig(listen="127.0.0.1:7101"),
    http=HttpConfig(listen="127.0.0.1:7201"),
    cluster=ClusterConfig(id="test"),
)


def machine_at(index: int) -> KeyspaceMachine:
    """A machine to which so many empty entries were applied."""
    machine = KeyspaceMachine(MemoryStateStore(), lookup=lookup, rng=random.Random(0))
    origin = Origin(1, 1, client=CONFIG.client, raft=CONFIG.raft, deliver=lambda session, payloads: None)
    applier = Applier(node_id=1, machine=machine, origin=origin, counters=ReplicaCounters())
    if index:
        entries = [Entry(i, 1, i, KIND_NORMAL, b"") for i in range(1, index + 1)]
        applier.apply(entries, 0.0, Samples([], [], []))
    return machine


@pytest.mark.parametrize("applied", [0, 1, 3])
def test_a_state_as_old_as_its_last_flush_is_brought_up_by_the_log(applied: int) -> None:
    log = open_memory_log(MemoryDisk(), 1, "test", incarnation=7)
    log.append(HardState(1, 0, 3), [Entry(i, 1, i, KIND_NORMAL, b"") for i in range(1, 4)])
    replica = bring_up(CONFIG, log, machine_at(applied))
    replica.observe(1.0, 1)
    replica.take_output()
    assert replica.finish_turn().applied == 3 - applied
    assert replica.status().applied_index == 3


def test_a_state_newer_than_its_log_is_refused_with_what_to_do() -> None:
    log = open_memory_log(MemoryDisk(), 1, "test", incarnation=7)
    with pytest.raises(StartRefused, match=r"as of log entry 3, .* holds entries 1 to 0.*repair --rejoin"):
        bring_up(CONFIG, log, machine_at(3))
