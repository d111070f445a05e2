"""Nodes whose wall clocks differ, by libfaketime."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_SHARED: Final = Path("/dev/shm")
_NAMES: Final = ("faketime_shm_", "sem.faketime_sem_")
"""Followed by the pid of whoever made them."""


def clock_ahead(seconds: int) -> Mapping[str, str]:
    """The environment that sets a process's wall clock ahead, and leaves its monotonic clock alone."""
    if not seconds:
        return {}
    _forget_the_dead()
    # The wrapper knows where its library lies. What it sets is taken over, rather than the wrapper itself,
    # so that the pid that a test kills is the node's.
    printed = subprocess.run(
        ["faketime", "-f", f"+{seconds}s", "env"], capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    variables = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    return {
        "LD_PRELOAD": variables["LD_PRELOAD"],
        "FAKETIME": f"+{seconds}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Its repair of waits on the monotonic clock breaks them instead: threads then sleep for seconds.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def _forget_the_dead() -> None:
    """Remove what processes that were killed have left: whoever gets such a pid again could not start."""
    for name in _NAMES:
        for path in _SHARED.glob(f"{name}*"):
            if not Path("/proc", path.name.removeprefix(name)).exists():
                path.unlink(missing_ok=True)
