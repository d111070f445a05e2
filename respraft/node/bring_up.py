"""From a data directory to a replica: what log and state say together, or why they must not be used."""

import random
import secrets

from respraft.config import Config
from respraft.raft.clock import LogClock
from respraft.raft.configuration import Configuration
from respraft.raft.log import RaftLog
from respraft.raft.node import RaftNode
from respraft.replica.applier import META_CONFIGURATION, load_applied
from respraft.replica.machine import Machine
from respraft.replica.payload import size_of
from respraft.replica.replica import Replica
from respraft.replica.status import Identity
from respraft.storage.interface import LogStore, StartRefused


def bring_up(config: Config, log_store: LogStore, machine: Machine) -> Replica:
    """Make the replica that the log and the state of a data directory describe.

    Raises:
        StartRefused: The two do not belong together.
    """
    identity = log_store.identity()
    hard_state = log_store.hard_state()
    applied_index = load_applied(machine)[0]
    first_index, last_index = log_store.first_index(), log_store.last_index()
    if not first_index - 1 <= applied_index <= last_index:
        raise StartRefused(
            f"the keyspace in {config.node.data_dir} is as of log entry {applied_index}, but the Raft log "
            f"beside it holds entries {first_index} to {last_index}: one of them was replaced by an older "
            "copy, or removed. Put both back as they were when the node last ran. Where that is not "
            "possible, `respraft repair --rejoin --config FILE` gives this copy up and brings the node back "
            "as a new member"
        )
    configuration = machine.meta(META_CONFIGURATION)
    core = RaftNode(
        node_id=identity.node_id,
        config=config.raft,
        log=RaftLog(
            log_store,
            applied_index=applied_index,
            commit_index=hard_state.commit,
            cache_bytes_max=config.raft.entry_cache_bytes,
            size_of=size_of,
        ),
        hard_state=hard_state,
        configuration=Configuration.decode(configuration) if configuration else None,
        clock=LogClock(),
        rng=random.Random(secrets.randbits(64)),
    )
    return Replica(
        identity=Identity(
            identity.node_id, identity.incarnation, identity.start_counter, secrets.randbits(63) or 1
        ),
        config=config,
        core=core,
        machine=machine,
    )
