"""The machine under the benchmark: its size, its disk's sync latency, and processes' CPU time."""

import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

_SYNCS: Final = 200
_SYNC_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader needs to know to judge a figure."""

    cores: int
    memory_gib: float
    kernel: str
    python: str
    file_system: str
    fdatasync_us: float
    load_before: float  # Load average of the last minute before the benchmark: others' work.

    def __str__(self) -> str:
        return (
            f"{self.cores} cores, {self.memory_gib:.0f} GiB, Linux {self.kernel}, Python {self.python}\n"
            f"fdatasync of {_SYNC_BYTES} B on {self.file_system}: median {self.fdatasync_us:.0f} us\n"
            f"load average before the start: {self.load_before:.1f}"
        )


def examine(directory: Path) -> Machine:
    """Describe this machine; `directory` lies on the disk that the servers will use."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=memory / (1 << 30),
        kernel=platform.release(),
        python=platform.python_version(),
        file_system=_file_system(directory),
        fdatasync_us=_fdatasync_us(directory),
        load_before=os.getloadavg()[0],
    )


def end_servers_on_sigterm() -> None:
    """Have a program that is ended by `timeout`, say, end its servers too: they are in other sessions."""

    def leave(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time, user and system, that these processes have taken so far, all threads together."""
    ticks = 0
    for pid in pids:
        # The command in parentheses may hold spaces; fields 14 and 15 of the file count from 1.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _fdatasync_us(directory: Path) -> float:
    path = directory / "fdatasync.tmp"
    block = b"\0" * _SYNC_BYTES
    taken_s = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for _ in range(_SYNCS):
            os.write(descriptor, block)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            taken_s.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(taken_s) * 1e6


def _file_system(directory: Path) -> str:
    """Return the type of the file system: a sync on tmpfs is free and says nothing."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, mount, mounted_kind, *_ = line.split()
        if directory.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, mounted_kind
    return kind
