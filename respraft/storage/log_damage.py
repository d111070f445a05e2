"""What an operator reads when a log is refused, at three in the morning.

Each text says what is wrong, which file, that nothing was changed, and what to do. What it suggests never
loses in silence what a client was told is safe: give the copy up and let the node come back as a new member
(`respraft repair`), or put back exactly what was there.
"""

import re
from pathlib import Path
from typing import Final

from respraft.storage.directory import DataDirectory
from respraft.storage.interface import LogDamaged, StorageFailed

_FILE_NAMES: Final = re.compile(r"\b(\d{6,}\.(?:log|sst)|MANIFEST-\d+)\b|\bCURRENT\b")

# How RocksDB begins a complaint about what is in its files; anything else is about reaching them.
_DAMAGE_WORDS: Final = re.compile(r"Corruption|No such file|does not exist|Invalid argument|Not implemented")

_REFUSAL: Final = """\
the Raft log of this node is damaged. Starting with it could lose writes that clients were told are safe, so \
this node does not start.
  log:     {raft}
  file:    {file}
  problem: {problem}
Nothing on disk was changed. The other nodes go on without this one as long as they are a majority.
What to do:
  1. If something was moved, deleted or edited in {data} since the node last ran, put it back exactly as it
     was, and start the node. Never put back an older copy or a backup of {data} or of a part of it:
     it lacks what this node has promised since.
  2. Otherwise give this copy up. See on another node that the cluster has a leader (RAFT.STATUS). Then
         respraft repair --rejoin --config FILE
     sets the data in {data} aside and prepares the directory; started again, this node comes back
     as a new member at the same addresses, under an id that has not been used. Only emptied, the
     directory would be refused under the old id.
  3. If the other nodes are no majority, do nothing of this yet: copy {data} to a safe place first. It may
     hold the only copy of some writes."""


def log_damaged(directory: DataDirectory, problem: str, file: Path) -> LogDamaged:
    """The refusal, with the file that is to blame as far as that is known."""
    return LogDamaged(_REFUSAL.format(raft=directory.raft, data=directory.path, file=file, problem=problem))


def refusal_of(directory: DataDirectory, error: Exception) -> LogDamaged | StorageFailed:
    """What an error of RocksDB means that came up while a log was opened or read through."""
    text = str(error)
    if not _DAMAGE_WORDS.search(text):
        return StorageFailed(f"the Raft log in {directory.raft} cannot be opened: {text}")
    named = _FILE_NAMES.search(text)
    file = directory.raft / named.group() if named else newest_log_file(directory.raft)
    return log_damaged(directory, f"RocksDB says: {' '.join(text.split())}", file)


def newest_log_file(raft: Path) -> Path:
    """The write-ahead log that the latest writes went to; the directory itself if there is none."""
    return max(raft.glob("*.log"), key=lambda path: path.name.zfill(32), default=raft)
