"""A complaint is logged once, then once a minute, and never in floods."""

import pytest

from respraft.peer.complaints import LINES_PER_MINUTE_MAX, REPEAT_S, Complaints


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_text_is_logged_at_once_and_then_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints(clock)
    for text in ("one", "one", "two", "one"):
        complaints.warn(text)
    assert caplog.messages == ["one", "two"]
    clock.now += REPEAT_S - 1
    complaints.warn("one")
    assert caplog.messages == ["one", "two"]
    clock.now += 1
    complaints.warn("one")
    assert caplog.messages == ["one", "two", "one"]


def test_varying_the_text_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints(clock)
    for number in range(10 * LINES_PER_MINUTE_MAX):
        complaints.warn(f"cluster {number} is another one")
    assert len(caplog.messages) == LINES_PER_MINUTE_MAX
    clock.now += REPEAT_S
    complaints.warn("news")
    assert caplog.messages[-1] == "news"
