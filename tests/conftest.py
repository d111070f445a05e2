"""What all tests share: programs that a test needs beyond Python, and how Hypothesis looks for examples.

A test marked `requires_tool("strace", "redis-cli")` is skipped on a machine without them. In CI, which
installs them all, RESPRAFT_REQUIRE_TOOLS=1 turns that skip into a failure: nothing is left out unseen.

Hypothesis draws the same examples in each run, and no example fails for having taken long: by default one
that takes 200 ms does, which says something of the machine and nothing of the code.
"""

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "respraft", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("respraft")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold each test to its `requires_tool` marks before it starts."""
    names = [name for mark in item.iter_markers("requires_tool") for name in mark.args]
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}, which this machine does not have"
    if os.environ.get("RESPRAFT_REQUIRE_TOOLS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
