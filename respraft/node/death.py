"""How a node ends when it must not go on: exit statuses, and what its last words tell the operator."""

import logging
import os
import sys
from typing import Final, NoReturn

from respraft.storage.interface import StorageFailed

EXIT_STORAGE_FAILED: Final = 74
"""Exit status when the disk gave out or a database is damaged (EX_IOERR of sysexits.h)."""
EXIT_INTERNAL_ERROR: Final = 70
"""Exit status after an error that leaves the node's state in doubt (EX_SOFTWARE)."""

_log: Final = logging.getLogger("respraft.server")


def die(status: int, reason: str) -> NoReturn:
    """End the process at once, while an exception is handled; from any thread. Nothing is cleaned up."""
    error = sys.exception()
    if isinstance(error, StorageFailed):
        status = EXIT_STORAGE_FAILED
        _log.critical("%s. The node stops. %s", error, storage_advice(error))
    else:
        _log.critical(reason, exc_info=True)
    logging.shutdown()
    os._exit(status)


def die_in_doubt() -> NoReturn:
    """End the process after an exception in the middle of a step of the replica."""
    die(EXIT_INTERNAL_ERROR, "the replica failed in the middle of a step; the node stops, its log is intact")


def die_of_log() -> NoReturn:
    """End the process after an exception of a log write."""
    die(EXIT_STORAGE_FAILED, "the log cannot be written; the node stops")


def die_of_state() -> NoReturn:
    """End the process after an exception of a flush of the state."""
    die(EXIT_STORAGE_FAILED, "the state cannot be flushed; the node stops")


def storage_advice(error: StorageFailed) -> str:
    """Return what to do about it, as sentences for the operator."""
    text = str(error)
    if "No space left" in text:
        return "Nothing that was acknowledged is lost: free some space and start the node again."
    if "state database" in text and "orruption" in text:
        return (
            "Nothing that was acknowledged is lost on the other nodes. `respraft repair --rejoin --config "
            "FILE` gives this copy up and brings the node back as a new member."
        )
    return (
        "Nothing that was acknowledged is lost on the other nodes. Look at the disk (dmesg, smartctl) before "
        "this node is started again."
    )
