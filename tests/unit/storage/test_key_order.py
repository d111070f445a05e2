"""Keys that stay in order as others come."""

import random

import pytest

from respraft.storage.key_order import PIECE_KEYS, KeyOrder


@pytest.mark.parametrize("begin", [0, 1, PIECE_KEYS, 5 * PIECE_KEYS + 1])
def test_keys_stay_in_order_as_others_come(begin: int) -> None:
    rng = random.Random(begin)
    keys = {b"%d" % rng.randrange(100_000) for _ in range(begin)}
    order = KeyOrder(keys)
    for _ in range(3 * PIECE_KEYS):
        key = b"%d" % rng.randrange(100_000)
        keys.add(key)
        order.add(key)
    order.add(b"")
    order.add(max(keys) + b"0")
    keys |= {b"", max(keys) + b"0"}
    expected = sorted(keys)
    assert list(order.between(b"", b"\xff")) == expected
    for _ in range(50):
        low, high = sorted(b"%d" % rng.randrange(100_000) for _ in range(2))
        assert list(order.between(low, high)) == [key for key in expected if low <= key < high]


def test_an_order_that_begins_empty() -> None:
    order = KeyOrder([])
    assert list(order.between(b"", b"\xff")) == []
    for number in range(3 * PIECE_KEYS):
        order.add(b"%05d" % (3 * PIECE_KEYS - number))
    assert list(order.between(b"00001", b"00004")) == [b"00001", b"00002", b"00003"]
