"""How a node comes back after `respraft repair --rejoin`: it joins by itself, in the place of the id it had.

The repair has left a directory without an id, and a note of whom to ask (`storage/rejoin.py`). From there it
is what RAFT.CLUSTER JOIN does, tried for as long as it takes: the members add this node and remove the old id
in one change. The note goes as soon as it is committed that this node is a member; from then on it finds the
others by itself.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any, Final

from respraft.config import Config
from respraft.node.node import Node
from respraft.resp.errors import ReplyError
from respraft.server.joining import Joining, is_listed
from respraft.storage.rejoin import Rejoin, check_rejoin, read_rejoin, remove_rejoin

RETRY_S: Final = 1.0

_log: Final = logging.getLogger("respraft.server")


def configured(config: Config) -> Config:
    """Return the configuration with the addresses that the node had before.

    Raises:
        StartRefused: There is a note, and it cannot be read.
    """
    note = read_rejoin(config.node.data_dir)
    if note is None:
        return config
    return replace(
        config,
        peer=replace(config.peer, advertise=note.peer),
        client=replace(config.client, advertise=note.client),
    )


def note_of(node: Node[Any]) -> Rejoin | None:
    """Return what this node has to do to come back, if it has to; and say whose place it has taken.

    Raises:
        StartRefused: A repair was cut short.
    """
    identity, data_dir = node.log_store.identity(), node.config.node.data_dir
    note = read_rejoin(data_dir)
    if note is not None:
        check_rejoin(data_dir, note, identity)
    if identity.replaces and identity.node_id:
        _log.info(
            "this node is node %d: its data directory has come in the place of node %d, which lost data. The "
            "configuration file may go on naming that one",
            identity.node_id,
            identity.replaces,
        )
    return note


async def rejoin(node: Node[Any], note: Rejoin, file: Config) -> None:
    """Come back. The body of a task that runs until it is done, or the node stops.

    Args:
        node: This node, with the addresses of the note.
        note: Whom to ask.
        file: The configuration as it is written. Where the node had moved before, the note's are those of
            its members' list, and out of date.
    """
    own = [address for address in (file.peer.advertise, file.peer.listen) if address]
    _log.info(
        "this node lost data and comes back: asking %s for an id in the old one's place",
        " or ".join(note.contacts),
    )
    said = ""
    while not is_listed(node):
        if node.replica.status().removed:
            _log.warning("removed while it came back; `respraft repair --rejoin` begins anew")
            return
        try:
            await Joining(node, note.contacts, in_place_at=own).join()
        except ReplyError as error:
            if error.text != said:
                said = error.text
                _log.warning("cannot come back yet, and will go on trying: %s", said)
            await asyncio.sleep(RETRY_S)
    remove_rejoin(node.config.node.data_dir)
    _log.info("come back as node %d", node.node_id)
