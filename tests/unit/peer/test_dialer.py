"""How long to wait before dialling again. (Dialling itself: test_network.py.)"""

import random

import pytest

from respraft.peer.dialer import Backoff


@pytest.fixture
def backoff() -> Backoff:
    return Backoff(rng=random.Random(1), pause_ms_max=1000)


def test_pauses_grow_with_jitter_up_to_the_limit(backoff: Backoff) -> None:
    for longest in (20, 40, 80, 160, 320, 640, 1000, 1000, 1000):
        assert longest / 2 <= backoff.after_failure() <= longest
    for _ in range(100):
        assert 500 <= backoff.after_failure() <= 1000


def test_a_good_link_that_is_lost_is_dialled_at_once(backoff: Backoff) -> None:
    for _ in range(10):
        backoff.after_failure()
    assert backoff.after_loss(stood_s=60.0) == 0.0
    assert backoff.after_failure() <= 20


def test_a_link_that_is_lost_as_soon_as_it_stands_does_not_make_us_spin(backoff: Backoff) -> None:
    pauses = [backoff.after_loss(stood_s=0.001) for _ in range(8)]
    assert pauses[0] <= 20
    assert pauses[-1] >= 500
    assert backoff.after_loss(stood_s=2.0) == 0.0
    assert backoff.after_loss(stood_s=0.001) <= 20


def test_the_limit_may_be_lower_than_the_first_pause() -> None:
    assert Backoff(rng=random.Random(1), pause_ms_max=10).after_failure() <= 10
