"""Commands on keys: what a comparison with Redis cannot show. The rest is in test_differential.py."""

import pytest

from respraft.commands.record import DATABASES
from respraft.commands.scan import SCAN_COUNT_MAX
from respraft.resp.replies import OK
from tests.unit.commands.keyspace import NOON_MS, Keyspace


@pytest.fixture
def keyspace() -> Keyspace:
    return Keyspace()


@pytest.mark.parametrize(
    "line",
    [
        "EXPIRE k 10",
        "PEXPIRE k 10000",
        f"EXPIREAT k {NOON_MS // 1000 + 10}",
        f"PEXPIREAT k {NOON_MS + 10_000}",
    ],
)
def test_a_time_ends_exactly_at_its_deadline_by_the_log(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k v")
    assert keyspace(line) == 1
    keyspace.now_ms = NOON_MS + 9_999
    assert keyspace("EXISTS k") == 1
    keyspace.now_ms = NOON_MS + 10_000
    assert keyspace("EXISTS k") == 0


@pytest.mark.parametrize(
    ("passed_ms", "ttl"), [(0, 10), (499, 10), (500, 10), (501, 9), (9_500, 1), (9_501, 0), (9_999, 0)]
)
def test_ttl_is_rounded_and_pttl_is_exact(keyspace: Keyspace, passed_ms: int, ttl: int) -> None:
    keyspace("SET k v PX 10000")
    keyspace.now_ms += passed_ms
    assert keyspace("TTL k") == ttl
    assert keyspace("PTTL k") == 10_000 - passed_ms
    assert keyspace("PEXPIRETIME k") == NOON_MS + 10_000


@pytest.mark.parametrize(("deadline", "seconds"), [(499, 0), (500, 1), (1_499, 1), (1_500, 2)])
def test_expiretime_is_rounded(deadline: int, seconds: int) -> None:
    keyspace = Keyspace(now_ms=100)
    keyspace(f"SET k v PXAT {deadline}")
    assert keyspace("EXPIRETIME k") == seconds
    assert keyspace("PEXPIRETIME k") == deadline


@pytest.mark.parametrize(("ttl_ms", "changed"), [(9_999, 0), (10_000, 0), (10_001, 1)])
def test_gt_wants_a_later_deadline(keyspace: Keyspace, ttl_ms: int, changed: int) -> None:
    keyspace("SET k v PX 10000")
    assert keyspace(f"PEXPIRE k {ttl_ms} GT") == changed


@pytest.mark.parametrize(("ttl_ms", "changed"), [(9_999, 1), (10_000, 0), (10_001, 0)])
def test_lt_wants_an_earlier_deadline(keyspace: Keyspace, ttl_ms: int, changed: int) -> None:
    keyspace("SET k v PX 10000")
    assert keyspace(f"PEXPIRE k {ttl_ms} LT") == changed


@pytest.mark.parametrize("line", ["EXPIRE k 10", "PERSIST k", "DEL k", "RENAMENX k l", "COPY k l"])
def test_an_expired_key_does_not_exist(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k v PX 100")
    keyspace.now_ms += 100
    assert keyspace(line) in (0, keyspace("RENAME nosuch x"))
    assert keyspace("KEYS *") == []
    assert keyspace("RANDOMKEY") is None


@pytest.mark.parametrize("line", ["RENAME k l", "COPY k l REPLACE"])
def test_an_expired_target_is_overwritten(keyspace: Keyspace, line: str) -> None:
    keyspace("SET k new")
    keyspace("SET l old PX 100")
    keyspace.now_ms += 100
    assert keyspace(line) in (OK, 1)
    assert keyspace("GET l") == b"new"
    assert keyspace("TTL l") == -1


def test_expired_keys_of_another_database_do_not_stop_a_copy(keyspace: Keyspace) -> None:
    keyspace("SET k old PX 100", database=3)
    keyspace("SET k new")
    assert keyspace("COPY k k DB 3") == 0
    keyspace.now_ms += 100
    assert keyspace("COPY k k DB 3") == 1
    assert keyspace("GET k", database=3) == b"new"


def test_keys_of_another_type_move_and_go() -> None:
    keyspace = Keyspace(other_type=b"other")
    assert keyspace("EXPIRE other 10") == 1
    assert keyspace("RENAME other moved") is OK
    assert keyspace("TTL moved") == 10
    assert keyspace("COPY moved other") == 1
    assert keyspace("DEL moved other") == 2


def test_flushall_empties_every_database(keyspace: Keyspace) -> None:
    for database in range(DATABASES):
        keyspace("SET k v", database)
    keyspace("FLUSHDB", 7)
    assert [keyspace("DBSIZE", database) for database in range(DATABASES)] == [1] * 7 + [0] + [1] * 8
    keyspace("FLUSHALL", 3)
    assert sum(int(str(keyspace("DBSIZE", database))) for database in range(DATABASES)) == 0


def test_a_scan_returns_every_key_that_stays_and_ends(keyspace: Keyspace) -> None:
    for number in range(300):
        keyspace(f"SET stays:{number} v")
        keyspace(f"SET goes:{number} v")
    seen: list[bytes] = []
    cursor = b"0"
    for step in range(1000):
        reply = keyspace.run([b"SCAN", cursor, b"COUNT", b"7"])
        assert isinstance(reply, list)
        cursor, found = reply
        assert len(found) >= 7 or cursor == b"0"
        seen += found
        if cursor == b"0":
            break
        keyspace(f"DEL goes:{step}")
        keyspace(f"SET comes:{step} v")
    assert cursor == b"0"
    stayed = [key for key in seen if key.startswith(b"stays:")]
    assert sorted(stayed) == sorted(b"stays:%d" % number for number in range(300))


def test_a_scan_looks_at_a_bounded_number_of_keys(keyspace: Keyspace) -> None:
    keys = [b"%d" % number for number in range(SCAN_COUNT_MAX + 500)]
    keyspace.run([b"MSET", *(word for key in keys for word in (key, b""))])
    first = keyspace("SCAN 0 COUNT 9223372036854775807")
    assert isinstance(first, list)
    assert SCAN_COUNT_MAX <= len(first[1]) < len(keys)
    second = keyspace.run([b"SCAN", first[0], b"COUNT", b"10000"])
    assert isinstance(second, list)
    assert second[0] == b"0"
    assert sorted(first[1] + second[1]) == sorted(keys)


@pytest.mark.parametrize("cursor", ["1", "4294967295", "4294967296", "18446744073709551615", "-1"])
def test_any_number_is_a_cursor(keyspace: Keyspace, cursor: str) -> None:
    keyspace("SET k v")
    reply = keyspace(f"SCAN {cursor}")
    assert isinstance(reply, list)
    assert reply[0] == b"0"


def test_randomkey_reaches_every_key(keyspace: Keyspace) -> None:
    keys = {b"a", b"b", b"c", b"d"}
    for key in sorted(keys):
        keyspace.run([b"SET", key, b"v"])
    assert {keyspace("RANDOMKEY") for _ in range(200)} == keys
