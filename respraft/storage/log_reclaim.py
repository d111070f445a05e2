"""Gives back the disk space of log entries that were cut off.

A cut deletes a range: one record, whatever is in the range. The files keep what they hold until they are
compacted, and RocksDB sees no reason to: it counts what was written to a level, not what became void in
it. So cuts are followed by a compaction of the void range, once that is worth it. It writes what is in memory
to a file, which lets old write-ahead logs go, drops the void entries and writes anew the few that are
alive in the same files.

It runs on a thread of its own: the interpreter lock is free meanwhile, and appends go on. Nothing but space
depends on it. If it fails, the log says so; a disk that gave out fails the next append, too, and that counts.
"""

import logging
import threading
from queue import SimpleQueue
from typing import Final

from rocksdict import Rdict

from respraft.storage import log_record
from respraft.storage.log_record import Head

RECLAIM_BYTES_MIN: Final = 16 << 20
RECLAIM_SHARE: Final = 4
"""So much has to be void before it is freed, and a fourth of what is alive: a compaction may write all of
that anew, so this bounds its work to four times what the log writes, and the space to a fourth more."""

_log: Final = logging.getLogger("respraft.storage")


class Reclaimer:
    """Compacts what is below the first index, one compaction at a time. Close it before the database."""

    def __init__(self, database: Rdict) -> None:
        self._database = database
        self._asked: SimpleQueue[Head | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def reclaim(self, head: Head) -> None:
        """Everything below the head's first index is void. Returns at once."""
        if head.first_index == 1:
            return  # Never cut.
        self._asked.put(head)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="respraft-reclaim", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Begin nothing more that was not asked for; returns when all of that is done."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (head := self._asked.get()) is not None:
            try:
                if self._is_due(head):
                    self._database.compact_range(
                        log_record.entry_key(0), log_record.entry_key(head.first_index)
                    )
            except Exception as error:
                _log.warning("the space of log entries below %d is not freed: %s", head.first_index, error)

    def _is_due(self, head: Head) -> bool:
        """Whether enough of the files is void, estimated as if all entries were of one size."""
        files = self._database.live_files()
        begins = [index for file in files if (index := log_record.index_of(file["start_key"])) is not None]
        lowest = min(begins, default=head.first_index)
        if lowest >= head.first_index:
            return False
        share = (head.first_index - lowest) / (max(head.last_index, head.first_index) + 1 - lowest)
        size: int = sum(file["size"] for file in files)
        void = share * size
        return void >= max(RECLAIM_BYTES_MIN, (size - void) / RECLAIM_SHARE)
