"""`respraft repair --rejoin`: give this node's data up, and have it come back as a new member.

For a node that can show that it lost what it had promised: it refuses to start, and rightly so, because
with what is left it could help to elect a leader that lacks acknowledged writes. What it held, the others
hold. So its data is set aside, never deleted, and the node starts anew: empty, under an id that the cluster
gives it, at the same addresses. It is a learner until it has caught up, then a voter in the old one's place.

    respraft repair     log, mark, states ──> set-aside-TIME/     a new directory, and a note of whom to ask
    respraft server     asks a member: remove the old id, add this node ──> learner ──> voter

The configuration file stays as it is: its `node.id` is the id that was replaced, and the directory says so.

A node whose data is whole is not touched, unless that is insisted on: giving a good copy up while another is
lost may be the end of some writes.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from respraft.config import Config
from respraft.raft.configuration import Configuration, Member
from respraft.replica.applier import META_CONFIGURATION
from respraft.replica.machine import META_PREFIX
from respraft.storage.directory import DataDirectory
from respraft.storage.interface import LogDamaged, StartRefused, StorageFailed
from respraft.storage.log import open_log
from respraft.storage.log_check import check_log, is_new
from respraft.storage.log_record import next_identity
from respraft.storage.rejoin import Rejoin, read_rejoin, set_aside, write_rejoin
from respraft.storage.state import RocksStateStore
from respraft.storage.state_directory import STATES

_PEEK_BYTES: Final = 8 << 20
"""Memory for a look into an old state."""


class RepairRefused(Exception):
    """Nothing was changed; the text says why, and what to do."""


def rejoin(config: Config, *, contacts: Sequence[str] = (), insist: bool = False) -> str:
    """Prepare the data directory of a stopped node for its return. Returns what to tell the operator.

    Args:
        config: Of this node, with which it will be started again.
        contacts: Client addresses of members, besides those that are found.
        insist: Also if nothing is wrong with the data.

    Raises:
        RepairRefused: It would be wrong, or nobody is known whom the node could ask.
        StartRefused: Another process has the directory, or another node owns it.
        StorageFailed, OSError: The disk gave out. What was set aside stays so; run it again.
    """
    data_dir = config.node.data_dir
    directory = DataDirectory(data_dir)
    try:
        note = read_rejoin(data_dir)
        prepared = note is not None and _is_prepared(directory, config)
        if note is None and not insist and not _trouble(directory, config):
            raise RepairRefused(
                f"nothing is wrong with the data in {data_dir}: start this node (respraft server). To give a "
                "good copy up all the same, add --even-if-whole"
            )
        note = _note(config, contacts, note)
        write_rejoin(data_dir, note)
        if not prepared and (moved := set_aside(data_dir)) is not None:
            note = msgspec.structs.replace(note, set_aside=str(moved))
            write_rejoin(data_dir, note)
    finally:
        directory.close()
    if not prepared:
        open_log(data_dir, 0, config.cluster.id, replaces=config.node.id).close()
    return _report(config, note)


def _is_prepared(directory: DataDirectory, config: Config) -> bool:
    """Whether everything was done before, and the node was not started since, or did not get anywhere."""
    try:
        if is_new(directory):
            return False
        found, _ = check_log(directory)
    except (StartRefused, StorageFailed):
        return False
    identity = found.identity
    return identity is not None and identity.replaces == config.node.id and found.head.last_index == 0


def _trouble(directory: DataDirectory, config: Config) -> bool:
    """Whether something keeps the node from starting with what it has."""
    try:
        if is_new(directory):
            return True
        found, _ = check_log(directory)
    except LogDamaged:
        return True
    identity = found.identity
    if identity is None:
        return True
    if next_identity(identity, config.node.id, config.cluster.id) is None:
        raise RepairRefused(
            f"{directory.path} belongs to node {identity.node_id} of cluster {identity.cluster_id!r}, not to "
            f"node {config.node.id} of cluster {config.cluster.id!r}: correct node.data_dir, node.id or "
            "cluster.id in the configuration"
        )
    return _state_trouble(directory.path / STATES / str(found.head.state_number), found.head.first_index > 1)


def _state_trouble(path: Path, needed: bool) -> bool:
    """Whether the state cannot be read, or has lost what the log does not hold any more."""
    if not path.exists():
        return needed
    try:
        store = _open_state(path)
        try:
            for _ in store.iterate(b"", b"\xff"):
                pass
            return needed and store.get(META_PREFIX + META_CONFIGURATION) is None
        finally:
            store.close()
    except (StartRefused, StorageFailed):
        return True


def _note(config: Config, contacts: Sequence[str], before: Rejoin | None) -> Rejoin:
    """What the next start has to know. Raises RepairRefused."""
    old_members = _old_members(config.node.data_dir)
    known = [(member.id, member.peer, member.client) for member in config.cluster.members]
    known += [(member.id, member.peer, member.client) for member in old_members]
    peer = config.peer.advertise or config.peer.listen
    client = config.client.advertise or config.client.listen
    for node_id, its_peer, its_client in known:
        if node_id == config.node.id:
            peer, client = its_peer, its_client
            break
    found = list(contacts) + [its_client for _, its_peer, its_client in known if its_peer != peer]
    if before is not None:
        found += before.contacts
    found = [address for address in dict.fromkeys(found) if address and address != client]
    if not found:
        raise RepairRefused(
            "nobody is known whom this node could ask: cluster.members in its configuration names no other "
            "node, and what is left of its data names none either. Name a member that runs: --contact "
            "HOST:PORT, where it serves clients"
        )
    return Rejoin(config.node.id, peer, client, found, before.set_aside if before is not None else "")


def _old_members(data_dir: Path) -> tuple[Member, ...]:
    """Who the members were, as far as an old state can still tell."""
    states = sorted((data_dir / STATES).glob("[0-9]*"), key=lambda path: path.name.zfill(20), reverse=True)
    for path in states:
        with contextlib.suppress(StartRefused, StorageFailed, msgspec.DecodeError):
            store = _open_state(path)
            try:
                configuration = store.get(META_PREFIX + META_CONFIGURATION)
            finally:
                store.close()
            if configuration is not None:
                return Configuration.decode(configuration).members
    return ()


def _open_state(path: Path) -> RocksStateStore:
    return RocksStateStore(path, write_buffer_bytes=_PEEK_BYTES, block_cache_bytes=_PEEK_BYTES)


def _report(config: Config, note: Rejoin) -> str:
    where = f"Its data was moved to {note.set_aside}; nothing was deleted.\n" if note.set_aside else ""
    return (
        f"This node is ready to come back as a new member at the same addresses, {note.peer} for nodes and "
        f"{note.client} for clients.\n{where}"
        "Next: start it as always (respraft server --config FILE), with the file as it is. It asks "
        f"{' or '.join(note.contacts)} for a new id, and catches up. RAFT.STATUS shows how far it is."
    )
