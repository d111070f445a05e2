"""How a RocksDB database is opened: with the options that it is given now, whatever it was made with."""

from pathlib import Path
from typing import Final

from rocksdict import AccessType, Options, Rdict

COLUMN_FAMILY: Final = "default"


def open_database(path: Path, options: Options, access: AccessType | None = None) -> Rdict:
    """Open it, or make it where `options` say so.

    Options are given for the column family by name as well. Where they are not, rocksdict opens a database
    that exists with those that its first start wrote down, with a block cache of 8 MiB, and without filters.

    Args:
        path: The database's directory.
        options: Of the database and of its one column family.
        access: None: for reading and writing.

    Raises:
        Exception: What rocksdict raises if that cannot be done.
    """
    return Rdict(str(path), options, {COLUMN_FAMILY: options}, access or AccessType.read_write())
