"""Whether a node may start with the log that it finds. Reads everything and changes nothing.

`log.py` says in which order the steps come and why.
"""

from collections.abc import Iterator
from pathlib import Path

from rocksdict import AccessType, Rdict

from respraft.storage import log_record
from respraft.storage.directory import DataDirectory
from respraft.storage.interface import LogDamaged, StorageFailed, WrongDirectory
from respraft.storage.log_damage import log_damaged, newest_log_file, refusal_of
from respraft.storage.log_options import log_options
from respraft.storage.log_record import Found, Head, RecordDamaged, UnknownFormat
from respraft.storage.log_scan import find_recycled_record
from respraft.storage.mark import MarkUnreadable, read_mark
from respraft.storage.opening import open_database


def is_new(directory: DataDirectory) -> bool:
    """Whether no start with this directory was ever completed. Raises LogDamaged if files are missing."""
    current = directory.raft / "CURRENT"
    try:
        marked = read_mark(directory.mark)
    except MarkUnreadable as error:
        raise log_damaged(directory, f"no mark is in the mark file: {error}", directory.mark) from error
    if marked is None:
        if not directory.raft.exists() or not any(directory.raft.iterdir()):
            return True
        raise log_damaged(
            directory,
            "the mark of the last acknowledged write is missing: nobody can tell whether the log is whole",
            directory.mark,
        )
    if current.exists():
        return False
    if marked == 0:
        return True  # A crash in the middle of the very first start.
    raise log_damaged(directory, f"the log is gone, but write {marked} was acknowledged", current)


def check_log(directory: DataDirectory) -> tuple[Found, int]:
    """Read the whole log; return what it holds and the checksum of its last record.

    Raises:
        LogDamaged: It is not what was acknowledged.
        WrongDirectory: It was written by a newer respraft.
        StorageFailed, OSError: It could not be read.
    """
    recycled = find_recycled_record(directory.raft)
    if recycled is not None:
        file, offset = recycled
        raise log_damaged(directory, f"the record at offset {offset} has a type that cannot be there", file)
    marked = read_mark(directory.mark) or 0
    try:
        database = open_database(directory.raft, log_options(), AccessType.read_only(False))
    except Exception as error:
        raise refusal_of(directory, error) from error
    try:
        return _check_content(directory, database, marked)
    except (LogDamaged, StorageFailed):
        raise
    except Exception as error:
        raise refusal_of(directory, error) from error
    finally:
        database.close()


def _check_content(directory: DataDirectory, database: Rdict, marked: int) -> tuple[Found, int]:
    try:
        found = _find(database)
        if found.counter < marked:
            raise log_damaged(
                directory,
                f"the log ends at write {found.counter}, but write {marked} was acknowledged: "
                f"{marked - found.counter} of its latest writes are lost",
                newest_log_file(directory.raft),
            )
        return found, log_record.check_entries(found.head, _records(database, found.head))
    except RecordDamaged as damage:
        _get(database, damage.key)  # If RocksDB cannot read it either, its own words say more.
        raise log_damaged(directory, str(damage), _file_of(directory, database, damage.key)) from damage
    except UnknownFormat as error:
        raise WrongDirectory(
            f"the Raft log in {directory.raft} was written by a newer respraft: {error}. Nothing was "
            f"changed. Start this node with that version, or a later one"
        ) from error


def _find(database: Rdict) -> Found:
    head, counter, identity = (
        _get(database, key) for key in (log_record.KEY_HEAD, log_record.KEY_COUNTER, log_record.KEY_IDENTITY)
    )
    if head is None and counter is None and identity is None:
        return Found(Head(), 0, None)
    if head is None or counter is None or identity is None:
        raise RecordDamaged("the log's head, write counter or identity is missing", key=log_record.KEY_HEAD)
    return Found(
        log_record.decode_head(head), log_record.decode_counter(counter), log_record.decode_identity(identity)
    )


def _get(database: Rdict, key: bytes) -> bytes | None:
    value: bytes | None = database.get(key)
    return value


def _records(database: Rdict, head: Head) -> Iterator[bytes]:
    """The records of all entries. Ends at an error of RocksDB, too: `check_entries` counts."""
    if head.last_index >= head.first_index:
        yield from database.values(from_key=log_record.entry_key(head.first_index))


def _file_of(directory: DataDirectory, database: Rdict, key: bytes) -> Path:
    """The file that holds a key, as far as its range tells; else the one of the latest writes."""
    for file in database.live_files():
        if file["start_key"] <= key <= file["end_key"]:
            return directory.raft / str(file["name"]).lstrip("/")
    return newest_log_file(directory.raft)
