"""Waiting for a condition: the only place of these tests where time passes for its own sake."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_POLL_S: Final = 0.02


def eventually(condition: Callable[[], T | None], timeout_s: float = 60.0, *, what: str = "") -> T:
    """Return the first true result of `condition`. Only a test that fails waits for long.

    Raises:
        AssertionError: It stayed false for `timeout_s`. The text says `what` was waited for and what the
            last result was.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}; last result: {result!r}")
        time.sleep(_POLL_S)
