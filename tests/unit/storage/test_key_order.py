"""Keys that stay in order as others come and go."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.storage import key_order
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


@settings(max_examples=200)
@given(
    st.sets(st.binary(max_size=1), max_size=12),
    st.lists(st.tuples(st.booleans(), st.binary(max_size=1)), max_size=40),
    st.binary(max_size=1),
)
def test_keys_that_come_and_go(begin: set[bytes], steps: list[tuple[bool, bytes]], low: bytes) -> None:
    keys = set(begin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_order, "PIECE_KEYS", 2)
        order = KeyOrder(keys)
        for comes, key in steps:
            if comes:
                keys.add(key)
                order.add(key)
            else:
                keys.discard(key)
                order.discard(key)
            expected = sorted(keys)
            assert list(order.between(b"", b"\xff\xff")) == expected
            assert list(order.between(low, b"\xff")) == [each for each in expected if low <= each < b"\xff"]


def test_an_order_that_begins_empty() -> None:
    order = KeyOrder([])
    assert list(order.between(b"", b"\xff")) == []
    for number in range(3 * PIECE_KEYS):
        order.add(b"%05d" % (3 * PIECE_KEYS - number))
    assert list(order.between(b"00001", b"00004")) == [b"00001", b"00002", b"00003"]
