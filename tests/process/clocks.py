"""Nodes whose wall clocks differ, by libfaketime."""

import os
import subprocess
from collections.abc import Mapping


def clock_ahead(seconds: int) -> Mapping[str, str]:
    """The environment that sets a process's wall clock ahead, and leaves its monotonic clock alone."""
    if not seconds:
        return {}
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
