"""What a command function sees through its Context: records of any type, order, SCAN, RANDOMKEY, undo."""

import random
from collections import Counter
from zlib import crc32

import pytest

from respraft.commands.context import READ_WORK_MAX, Context
from respraft.commands.overlay import ENTRY_OVERHEAD_BYTES, Overlay
from respraft.commands.record import (
    DATABASES,
    NO_DEADLINE,
    PLACES,
    STRING,
    VALUES,
    Record,
    decode_record,
    encode_record,
)
from respraft.commands.stored import APART_BYTES
from respraft.resp.errors import ReplyError
from respraft.storage.state_memory import MemoryStateStore

NOON = 1_700_000_000_000
HASH = 9  # Some type that is not a string's.

# Two words with the same CRC-32, and so one place in the keyspace's order.
TWINS = (b"buckeroo", b"plumless")


class Session:
    """A context over a store, and what the machine does around it."""

    def __init__(self) -> None:
        self.store = MemoryStateStore()
        overlays = [Overlay(self.store, number) for number in range(DATABASES)]
        self.context = Context(overlays, random.Random(0))
        self.context.now_ms = self.context.log_time_ms = NOON
        self.context.revision = 1 << 20
        self.context.work_left = READ_WORK_MAX

    def commit(self) -> None:
        for overlay in self.context.overlays:
            puts: dict[bytes, bytes | None] = {}
            generation, _ = overlay.hand_over(puts)
            if generation is not None:
                for keys, values in generation.rows():
                    puts.update(zip(keys, values, strict=True))
                self.store.write(puts, generation.cleared())
                generation.written = True
        self.context.journal.clear()


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def context(session: Session) -> Context:
    return session.context


def put_hash(context: Context, key: bytes, deadline: int = 0) -> None:
    old = context.overlay.get(key)
    context.overlay.put(key, encode_record(HASH, deadline, 7, b"meta"), old)


@pytest.mark.parametrize("deadline", [0, 1, NOON, (1 << 63) - 1])
@pytest.mark.parametrize("value", [b"", b"x", bytes(range(256))])
def test_records_survive_their_encoding(deadline: int, value: bytes) -> None:
    record = Record(HASH, deadline, (1 << 63) | 5, value)
    assert decode_record(encode_record(record.type, record.deadline, record.revision, record.value)) == record


def test_a_record_shows_type_deadline_revision_and_value(context: Context) -> None:
    context.set_string(b"a", b"1", deadline=NOON + 5)
    context.revision = (1 << 20) | 1
    context.set_string(b"b", b"2")
    assert context.find(b"a") == Record(STRING, NOON + 5, 1 << 20, b"1")
    assert context.find(b"b") == Record(STRING, 0, (1 << 20) | 1, b"2")
    assert context.find(b"c") is None


@pytest.mark.parametrize("deadline", [0, NOON + 1])
def test_a_string_is_asked_of_another_type(context: Context, deadline: int) -> None:
    put_hash(context, b"h", deadline)
    with pytest.raises(
        ReplyError, match="^WRONGTYPE Operation against a key holding the wrong kind of value$"
    ):
        context.get_string(b"h")
    context.now_ms = context.log_time_ms = NOON + 1
    if deadline:
        assert context.get_string(b"h") is None


def test_types_and_deadlines_are_kept_where_only_the_value_changes(context: Context) -> None:
    put_hash(context, b"h", NOON + 10)
    context.replace_value(b"h", b"other")
    assert context.find(b"h") == Record(HASH, NOON + 10, 1 << 20, b"other")
    context.replace_value(b"new", b"1")
    assert context.find(b"new") == Record(STRING, 0, 1 << 20, b"1")
    context.set_string(b"h", b"s")
    assert context.find(b"h") == Record(STRING, 0, 1 << 20, b"s")


def test_deadlines_come_and_go_and_one_in_the_past_removes_the_key(context: Context) -> None:
    put_hash(context, b"h")
    context.set_deadline(b"h", NOON + 1)
    assert context.find(b"h") == Record(HASH, NOON + 1, 1 << 20, b"meta")
    context.set_deadline(b"h", 0)
    assert context.find(b"h") == Record(HASH, 0, 1 << 20, b"meta")
    context.set_deadline(b"h", NOON)
    assert not context.exists(b"h")
    context.set_string(b"a", b"1")
    context.set_string(b"a", b"1", deadline=NOON)
    assert not context.exists(b"a")
    assert context.count() == 0
    with pytest.raises(ReplyError, match="no such key"):
        context.set_deadline(b"a", NOON + 1)


def test_rename_and_copy_take_type_and_deadline_along(context: Context) -> None:
    put_hash(context, b"h", NOON + 10)
    context.set_string(b"target", b"overwritten")
    context.rename(b"h", b"target")
    assert context.find(b"target") == Record(HASH, NOON + 10, 1 << 20, b"meta")
    assert not context.exists(b"h")
    context.copy(b"target", b"h", target_database=4)
    assert context.exists_in(4, b"h") and not context.exists(b"h")
    assert [overlay.count for overlay in context.overlays[:5]] == [1, 0, 0, 0, 1]
    context.rename(b"target", b"target")
    assert context.exists(b"target")
    for refused in (context.rename, context.copy):
        with pytest.raises(ReplyError, match="no such key"):
            refused(b"missing", b"target")


def test_keys_are_in_the_order_of_their_hash_whether_committed_or_not(
    session: Session, context: Context
) -> None:
    names = [b"key:%d" % number for number in range(200)] + list(TWINS)
    for name in names[::2]:
        context.set_string(name, b"old")
    context.delete(names[0])
    session.commit()
    for name in names[1::2]:
        context.set_string(name, b"new")
    context.delete(names[2])
    context.set_string(names[4], b"again")
    context.delete(names[1])
    gone = {names[0], names[1], names[2]}
    expected = sorted((name for name in names if name not in gone), key=lambda name: (crc32(name), name))
    assert list(context.keys()) == expected
    context.set_string(names[0], b"back")
    assert set(context.keys()) == {*expected, names[0]}
    context.clear(0)
    context.set_string(b"only", b"1")
    assert list(context.keys()) == [b"only"]
    context.undo()
    assert len(list(context.keys())) == len(names) // 2 - 1


def test_keys_are_bounded_work(context: Context) -> None:
    for number in range(10):
        context.set_string(b"%d" % number, b"1")
    context.work_left = 10
    assert len(list(context.keys())) == 10
    context.work_left = 9
    with pytest.raises(ReplyError, match="too much work"):
        list(context.keys())


def scan_all(context: Context, count: int) -> list[list[bytes]]:
    pages: list[list[bytes]] = []
    cursor = 0
    while True:
        cursor, found = context.scan(cursor, count)
        pages.append(found)
        if not cursor:
            return pages
        assert 0 < cursor < PLACES


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_a_scan_returns_every_key_once(context: Context, count: int) -> None:
    names = {b"key:%d" % number for number in range(300)} | set(TWINS)
    for name in names:
        context.set_string(name, b"1")
    pages = scan_all(context, count)
    found = [key for page in pages for key in page]
    assert len(found) == len(set(found)) and set(found) == names
    assert all(len(page) <= count + 1 for page in pages)


def test_keys_that_stay_are_returned_whatever_else_comes_and_goes(session: Session, context: Context) -> None:
    staying = {b"stay:%d" % number for number in range(200)}
    for name in staying:
        context.set_string(name, b"1")
    rng = random.Random(3)
    seen: Counter[bytes] = Counter()
    cursor = 0
    while True:
        cursor, found = context.scan(cursor, 10)
        seen.update(found)
        if not cursor:
            break
        for _ in range(20):
            context.set_string(b"pass:%d" % rng.randrange(100), b"1")
            context.delete(b"pass:%d" % rng.randrange(100))
        context.set_string(rng.choice(sorted(staying)), b"2")
        if rng.random() < 0.3:
            session.commit()
    assert {name for name in seen if name in staying} == staying
    assert all(seen[name] == 1 for name in staying)


def test_keys_of_one_place_are_returned_together(context: Context) -> None:
    assert crc32(TWINS[0]) == crc32(TWINS[1])
    for name in TWINS:
        context.set_string(name, b"1")
    assert context.scan(0, 1) == (0, list(TWINS))


@pytest.mark.parametrize("cursor", [-1, PLACES, (1 << 64) - 1])
def test_a_cursor_past_the_last_place_is_the_end(context: Context, cursor: int) -> None:
    context.set_string(b"a", b"1")
    assert context.scan(cursor, 10) == (0, [])
    assert context.scan(PLACES - 1, 10) == (0, [])


def test_expired_keys_are_not_in_keys_scan_or_random_key(context: Context) -> None:
    for number in range(50):
        context.set_string(b"%d" % number, b"1", deadline=NOON + 1 + number % 2)
    context.now_ms = context.log_time_ms = NOON + 1
    odd = {b"%d" % number for number in range(1, 50, 2)}
    assert set(context.keys()) == odd
    assert {key for page in scan_all(context, 5) for key in page} == odd
    assert {context.random_key() for _ in range(50)} <= odd
    context.now_ms = context.log_time_ms = NOON + 2
    assert context.random_key() is None
    assert context.count() == 50


def test_a_random_key_is_found_behind_many_expired_ones(context: Context) -> None:
    for number in range(200):
        context.set_string(b"%d" % number, b"1", deadline=NOON + 1)
    context.set_string(b"alive", b"1")
    context.now_ms = context.log_time_ms = NOON + 1
    context.revision = 0  # A read: the draws differ.
    assert {context.random_key() for _ in range(20)} == {b"alive"}


@pytest.mark.parametrize("number", [1, 2, 10, 100])
def test_random_keys_are_spread_over_the_keyspace(context: Context, number: int) -> None:
    for at in range(number):
        context.set_string(b"key:%d" % at, b"1")
    context.revision = 0
    drawn = Counter(context.random_key() for _ in range(100 * number))
    assert len(drawn) == number
    assert max(drawn.values()) < 400


def test_an_empty_keyspace_has_no_random_key(context: Context) -> None:
    assert context.random_key() is None


def test_undo_takes_back_the_clearing_of_databases(session: Session, context: Context) -> None:
    for database in (0, 3):
        context.use(database)
        context.set_string(b"committed", b"1", deadline=NOON + 50)
    session.commit()
    context.set_string(b"pending", b"2")
    context.journal.clear()
    context.clear()
    context.set_string(b"committed", b"new")
    assert context.count() == 1
    context.undo()
    assert context.find(b"committed") == Record(STRING, NOON + 50, 1 << 20, b"1")
    assert context.get_string(b"pending") == b"2"
    assert context.exists_in(0, b"committed")
    assert [overlay.count for overlay in context.overlays[:4]] == [1, 0, 0, 2]
    before = dict(session.store.iterate(b"", b"\xff"))
    session.commit()
    after = dict(session.store.iterate(b"", b"\xff"))
    assert len(after) == len(before) + 1


def test_the_size_of_what_was_fetched_is_counted_through_every_change(
    session: Session, context: Context
) -> None:
    def check(keys: str) -> None:
        fetched = overlay.fetched
        assert overlay.fetched_bytes == sum(
            ENTRY_OVERHEAD_BYTES + len(key) + len(record or b"") for key, record in fetched.items()
        )
        assert sorted(fetched) == keys.encode().split()

    overlay = context.overlay
    for number in range(2):  # What is written last is the only one that needs not be read again.
        context.set_string(b"a", b"12345", deadline=NOON + 5)
        context.set_string(b"b", b"1")
        context.set_string(b"c", b"1")
        session.commit()
        context.set_string(b"last", b"%d" % number)
        session.commit()
    check("")
    context.get_string(b"a")
    context.get_string(b"missing")
    check("a missing")
    context.set_deadline(b"a", NOON + 5)
    context.rename(b"a", b"b")
    check("missing")
    context.clear()
    context.set_string(b"c", b"1")
    context.get_string(b"none")
    check("")
    context.undo()
    check("missing")
    overlay.prefetch([b"a", b"c", b"x", b"yy", b"x"])
    check("c missing x yy")
    overlay.set_strings([b"c", b"x", b"new"], [b"1", b"2", b"3"], None, 1)
    check("missing yy")
    overlay.forget(1)
    check("yy")
    overlay.forget(100)
    check("")


@pytest.mark.parametrize("place", ["lately", "stored", "fetched"])
@pytest.mark.parametrize("way", ["alone", "among many", "deleted"])
def test_a_large_value_goes_with_its_record_wherever_that_was_found(
    session: Session, context: Context, place: str, way: str
) -> None:
    context.set_string(b"a", bytes(APART_BYTES))
    session.commit()
    assert len(list(session.store.keys(VALUES, b"w"))) == 1
    if place != "lately":  # What is handed over next lets the record go from memory.
        context.set_string(b"b", b"")
        session.commit()
    if place == "fetched":
        context.get_string(b"a")
    if way == "alone":
        context.set_string(b"a", b"small")
    elif way == "among many":
        context.overlay.set_strings([b"a", b"b"], [b"small", b"small"], None, 1)
    else:
        context.delete(b"a")
    session.commit()
    assert list(session.store.keys(VALUES, b"w")) == []
    assert context.get_string(b"a") == (None if way == "deleted" else b"small")


@pytest.mark.parametrize("others", ["none expires", "others expire", "it expires"])
def test_plain_sets_over_large_values_do_not_read_them(
    session: Session, context: Context, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    overlay = context.overlay
    deadline = NOON + 5 if others == "it expires" else NO_DEADLINE
    context.set_string(b"a", bytes(APART_BYTES), deadline=deadline)
    session.commit()
    context.set_string(b"b", b"", deadline=NOON + 9 if others == "others expire" else NO_DEADLINE)
    session.commit()
    read: list[bytes | None] = []
    get_many = MemoryStateStore.get_many

    def spy(store: MemoryStateStore, keys: list[bytes]) -> list[bytes | None]:
        read.extend(rows := get_many(store, keys))
        return rows

    monkeypatch.setattr(MemoryStateStore, "get_many", spy)
    overlay.set_strings([b"a", b"c"], [b"small", b"small"], None, 1)
    assert any(read)
    assert max(len(row or b"") for row in read) < 20
    assert (overlay.count, overlay.expiring) == (3, int(others == "others expire"))
    session.commit()
    assert list(session.store.keys(VALUES, b"w")) == []


def test_what_is_left_of_many_changes_is_weighed(context: Context) -> None:
    overlay = context.overlay
    for _ in range(10):
        context.set_string(b"key", bytes(1000), deadline=NOON + 5)
    overlay.set_strings([b"a", b"a", b"key"], [bytes(500), bytes(100), b""], [0, 0, NOON + 6], 1)
    before = overlay.young_bytes
    overlay.weigh()
    records, index = (2 * 3 + 17) + (2 * 1 + 9 + 100), 2 + 8 + 3
    assert overlay.young_bytes == records + index
    assert before > 10_000
