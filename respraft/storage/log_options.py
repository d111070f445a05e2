"""How RocksDB is set up for the Raft log, which is written once, seldom read, and soon cut off.

* A synced append is the disk's own fdatasync plus 30 to 40 microseconds. Nothing that RocksDB lets one set
  changes that by more than the noise, so nothing is set for it. Overwriting a recycled file would save some
  40 more, as the file's length then stays; but a recycled file ends in old records, and a torn tail could
  not be told from damage any more. Off.
* The write buffer bounds the write-ahead log that a start has to replay, twice.
* No compression: entries are small and compacted seldom. Files of level 0 pile up to eight before they are
  compacted, and a write is never slowed down for them: one that waits is an election.
* RocksDB's own chatter (statistics, old text logs) is off.
"""

from typing import Final

from rocksdict import DBCompressionType, DBRecoveryMode, Options

WRITE_BUFFER_BYTES: Final = 32 << 20
"""Entries in memory before they go to a file. Bounds what a start replays."""

WRITE_BUFFERS: Final = 4
"""One that is written to, the others on their way to files: a slow flush does not stop writes at once."""

WAL_BYTES_MAX: Final = 2 * WRITE_BUFFER_BYTES
"""All write-ahead logs together, about: past this, what the oldest one protects is flushed."""

LEVEL_0_FILES_COMPACT: Final = 8
"""So many files of a write buffer each before they are compacted: most should be cut off before."""

LEVEL_0_FILES_STOP: Final = 1 << 20
"""Never slow a write down because of files waiting for compaction."""

BACKGROUND_JOBS: Final = 2
"""One flush, one compaction."""

INFO_LOGS_MAX: Final = 2
"""RocksDB's own text logs that are kept, of at most INFO_LOG_BYTES_MAX each."""
INFO_LOG_BYTES_MAX: Final = 1 << 20


def log_options() -> Options:
    """A new set."""
    options = Options(raw_mode=True)
    options.create_if_missing(False)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_recycle_log_file_num(0)
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(WRITE_BUFFERS)
    options.set_max_total_wal_size(WAL_BYTES_MAX)
    options.set_compression_type(DBCompressionType.none())
    options.set_level_zero_file_num_compaction_trigger(LEVEL_0_FILES_COMPACT)
    options.set_level_zero_slowdown_writes_trigger(LEVEL_0_FILES_STOP)
    options.set_level_zero_stop_writes_trigger(LEVEL_0_FILES_STOP)
    options.set_max_background_jobs(BACKGROUND_JOBS)
    options.set_skip_stats_update_on_db_open(True)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_keep_log_file_num(INFO_LOGS_MAX)
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX)
    return options
