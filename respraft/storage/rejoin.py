"""Giving a node's data up, and what its directory then says about coming back.

`set_aside` moves what belongs to a node into a dated directory beside it; `write_rejoin` leaves a note for
the next start:

    DIR/rejoin.json            what to come back with; there until the node is a member again
    DIR/set-aside-TIME/        log, mark and states as they were; nothing here reads them again

Both may be cut short by a crash at any point and then be done again. A start in between is refused, since it
finds the note beside a log that is not the one that goes with it (`check_rejoin`).
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from respraft.storage.directory import sync_directory
from respraft.storage.interface import NodeIdentity, StartRefused
from respraft.storage.state_directory import CHECKPOINTS, STATES

NOTE: Final = "rejoin.json"

_OF_A_NODE: Final = (STATES, CHECKPOINTS, "raft", "log.mark", "log.mark.new")
"""In the order in which they go: as long as the mark is there, nobody takes the directory for a new one."""


class Rejoin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The note."""

    replaces: int
    """`node.id` of the configuration file. The cluster will give another one."""
    peer: str
    """Own address for other nodes."""
    client: str
    """Own address for clients."""
    contacts: list[str]
    """Client addresses of members, to be asked one after the other."""
    set_aside: str
    """Where the data went; "" if there was none."""


def set_aside(data_dir: Path) -> Path | None:
    """Move what belongs to the node out of the way. Returns where to; None if there was nothing.

    Raises:
        OSError: It cannot be moved. What was moved stays so; calling again goes on.
    """
    found = [path for name in _OF_A_NODE if (path := data_dir / name).exists()]
    if not found:
        return None
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
    target = data_dir / f"set-aside-{moment}Z"
    target.mkdir(mode=0o700)
    for path in found:
        path.rename(target / path.name)
    sync_directory(target)
    sync_directory(data_dir)
    return target


def write_rejoin(data_dir: Path, note: Rejoin) -> None:
    """Leave the note, durably. Raises OSError."""
    unnamed = data_dir / (NOTE + ".new")
    with unnamed.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(note)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unnamed.rename(data_dir / NOTE)
    sync_directory(data_dir)


def read_rejoin(data_dir: Path) -> Rejoin | None:
    """Return the note, if there is one.

    Raises:
        StartRefused: It cannot be understood.
        OSError: It cannot be read.
    """
    path = data_dir / NOTE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Rejoin)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StartRefused(
            f"{path}: {error}. It was written by `respraft repair --rejoin`: run that again"
        ) from error


def check_rejoin(data_dir: Path, note: Rejoin, identity: NodeIdentity) -> None:
    """Raise StartRefused if the log is not the one that goes with the note."""
    if identity.replaces != note.replaces:
        raise StartRefused(
            f"`respraft repair --rejoin` has begun to set the data in {data_dir} aside and was cut short. "
            "Run it again"
        )


def remove_rejoin(data_dir: Path) -> None:
    """The node is a member again. Raises OSError."""
    (data_dir / NOTE).unlink(missing_ok=True)
    sync_directory(data_dir)
