"""The string commands: what a comparison with Redis cannot show. The rest is in test_differential.py."""

import tracemalloc

import pytest

from respraft.commands.context import WRITE_WORK_MAX
from respraft.resp.replies import OK
from tests.unit.commands.keyspace import NOON_MS, Keyspace

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"


@pytest.fixture
def keyspace() -> Keyspace:
    return Keyspace()


@pytest.fixture
def mixed() -> Keyspace:
    """A keyspace with the string `s` and the key `other`, which is of a type that is no string."""
    keyspace = Keyspace(other_type=b"other")
    keyspace("SET s v")
    return keyspace


@pytest.mark.parametrize(
    "line",
    [
        "SET k v EX 10",
        "SET k v PX 10000",
        f"SET k v EXAT {NOON_MS // 1000 + 10}",
        f"SET k v PXAT {NOON_MS + 10_000}",
        "SETEX k 10 v",
        "PSETEX k 10000 v",
        "GETEX k EX 10",
        "GETEX k PX 10000",
        f"GETEX k EXAT {NOON_MS // 1000 + 10}",
        f"GETEX k PXAT {NOON_MS + 10_000}",
    ],
)
def test_a_time_ends_exactly_at_its_deadline_by_the_log(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k v")
    keyspace(line)
    assert keyspace("PEXPIRETIME k") == NOON_MS + 10_000
    keyspace.now_ms = NOON_MS + 9_999
    assert keyspace("GET k") == b"v"
    keyspace.now_ms = NOON_MS + 10_000
    assert keyspace("GET k") is None


@pytest.mark.parametrize("line", ["SET k v PXAT {}", "GETEX k PXAT {}"])
def test_a_deadline_of_now_is_past(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k v")
    keyspace(line.format(NOON_MS))
    assert keyspace("DBSIZE") == 0


@pytest.mark.parametrize(
    "line",
    ["APPEND k 1", "SETRANGE k 0 1", "INCR k", "DECR k", "INCRBY k 1", "DECRBY k 1", "INCRBYFLOAT k 1"],
)
def test_an_update_keeps_the_deadline_and_does_not_see_an_expired_value(
    keyspace: Keyspace, line: str
) -> None:
    keyspace("SET k 5 PX 100")
    keyspace(line)
    assert keyspace("PEXPIRETIME k") == NOON_MS + 100
    keyspace.now_ms += 100
    keyspace(line)
    assert keyspace("GET k") in (b"1", b"-1")
    assert keyspace("TTL k") == -1


@pytest.mark.parametrize("line", ["SETNX k new", "MSETNX k new", "SET k new NX"])
def test_an_expired_key_does_not_exist(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k old PX 100")
    keyspace.now_ms += 100
    assert keyspace(line) in (1, OK)
    assert keyspace("GET k") == b"new"


def test_an_expired_key_lends_no_deadline(keyspace: Keyspace) -> None:
    keyspace("SET k old PX 100")
    keyspace.now_ms += 100
    assert keyspace("SET k new KEEPTTL") is OK
    assert keyspace("TTL k") == -1


@pytest.mark.parametrize(
    "line",
    [
        "GET other",
        "SET other v GET",
        "GETSET other v",
        "GETDEL other",
        "GETEX other EX 0",
        "APPEND other v",
        "STRLEN other",
        "GETRANGE other 0 1",
        "SETRANGE other 0 v",
        "SETRANGE other 536870912 v",
        "INCR other",
        "DECRBY other 1",
        "INCRBYFLOAT other x",
    ],
)
def test_another_type_is_refused_and_left_alone(mixed: Keyspace, line: str) -> None:
    before = mixed.machine.digest()
    assert mixed.refusal(line) == WRONG_TYPE
    assert mixed.machine.digest() == before


def test_another_type_counts_as_missing_in_mget_and_is_overwritten_by_set(mixed: Keyspace) -> None:
    assert mixed("MGET s other nosuch") == [b"v", None, None]
    assert mixed("SETNX other v") == 0
    assert mixed("MSETNX other v") == 0
    assert mixed("SET other v") is OK
    assert mixed("GET other") == b"v"


@pytest.mark.parametrize(
    "line",
    ["SETRANGE k 67108863 xx", "SETRANGE k 9223372036854775807 x", "SETRANGE nosuch 67108864 x"],
)
def test_a_string_that_would_be_too_long_is_refused_before_it_is_built(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k v")
    tracemalloc.start()
    try:
        assert keyspace.refusal(line) == TOO_LONG
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "line", ["GETRANGE k -9223372036854775808 9223372036854775807", "SETRANGE k 9223372036854775807 ''"]
)
def test_extreme_ranges_cost_nothing(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k v")
    assert keyspace(line) in (b"v", 1)


@pytest.mark.parametrize("name", ["MSET", "MSETNX"])
def test_a_command_with_too_much_work_writes_nothing(keyspace: Keyspace, name: str) -> None:
    pairs = [b"%d" % number for number in range(2 * WRITE_WORK_MAX + 2)]
    reply = keyspace.run([name.encode(), *pairs])
    assert "too much work" in str(reply)
    assert keyspace("DBSIZE") == 0
