"""The search for an order, on histories small enough to judge by eye."""

import pytest

from tests.simulation.linearizability import Operation, Verdict, check, shortest_violation

SET_A = (b"SET", b"k", b"a")
SET_B = (b"SET", b"k", b"b")
SET_FADING = (b"SET", b"k", b"a", b"PX", b"100")
GET = (b"GET", b"k")
INCR = (b"INCR", b"k")
APPEND = (b"APPEND", b"k", b"x")
SET_NX = (b"SET", b"k", b"n", b"NX")


def history(*rows: tuple[tuple[bytes, ...], int, int | None, bytes | int | None]) -> list[Operation]:
    """Operations by command, stamps of call and return (None: unknown), and reply."""
    return [Operation(command, invoked, None, returned, reply) for command, invoked, returned, reply in rows]


LINEARIZABLE = {
    "one after the other": history((SET_A, 1, 2, b"OK"), (GET, 3, 4, b"a")),
    "a read beside a write sees it": history((SET_A, 1, 4, b"OK"), (GET, 2, 3, b"a")),
    "or does not": history((SET_A, 1, 4, b"OK"), (GET, 2, 3, None)),
    "an unknown write took place late": history((SET_A, 1, None, None), (GET, 2, 3, None), (GET, 4, 5, b"a")),
    "an unknown write never took place": history(
        (SET_A, 1, None, None), (GET, 2, 3, None), (GET, 4, 5, None)
    ),
    "an unknown increment shows in the next": history((INCR, 1, None, None), (INCR, 2, 3, 2)),
    "a fading key fades": history((SET_FADING, 1, 2, b"OK"), (GET, 3, 4, b"a"), (GET, 5, 6, None)),
    "and then counts as missing": history(
        (SET_FADING, 1, 2, b"OK"), (SET_NX, 3, 4, b"OK"), (GET, 5, 6, b"n")
    ),
    "or is appended to before": history((SET_FADING, 1, 2, b"OK"), (APPEND, 3, 4, 2), (GET, 5, 6, b"ax")),
}

VIOLATED = {
    "a lost write": history((SET_A, 1, 2, b"OK"), (GET, 3, 4, None)),
    "a stale read": history((SET_A, 1, 2, b"OK"), (SET_B, 3, 4, b"OK"), (GET, 5, 6, b"a")),
    "back and forth": history((SET_A, 1, None, None), (GET, 2, 3, b"a"), (GET, 4, 5, None)),
    "a write that nobody made": history((GET, 1, 2, b"a")),
    "counted twice": history((INCR, 1, 2, 1), (INCR, 3, 4, 3)),
    "the same number twice": history((INCR, 1, 4, 1), (INCR, 2, 3, 1)),
    "nil and then the value": history((SET_FADING, 1, 2, b"OK"), (GET, 3, 4, None), (GET, 5, 6, b"a")),
    "a refused condition that held": history((SET_NX, 1, 2, None)),
}


@pytest.mark.parametrize("operations", LINEARIZABLE.values(), ids=LINEARIZABLE.keys())
def test_an_order_is_found(operations: list[Operation]) -> None:
    assert check(operations) is Verdict.LINEARIZABLE


@pytest.mark.parametrize("operations", VIOLATED.values(), ids=VIOLATED.keys())
def test_no_order_is_found(operations: list[Operation]) -> None:
    assert check(operations) is Verdict.VIOLATED


def test_operations_of_one_group_keep_their_order() -> None:
    write = Operation(SET_A, 1, None, 10, b"OK")
    assert check([write, Operation(GET, 2, None, 9, None)]) is Verdict.LINEARIZABLE
    assert check([write, Operation(GET, 2, write, 9, None)]) is Verdict.VIOLATED


def test_a_search_that_is_too_long_decides_nothing() -> None:
    unknown = [(b"APPEND", b"k", b"%d" % number) for number in range(12)]
    operations = history(*((command, 1 + place, None, None) for place, command in enumerate(unknown)))
    operations += history((GET, 100, 101, b"never"))
    assert check(operations, budget=1000) is Verdict.UNDECIDED


def test_a_hint_decides_nothing() -> None:
    operations = history((SET_A, 1, 4, b"OK"), (SET_B, 2, 3, b"OK"), (GET, 5, 6, b"a"))
    operations[0].log_place, operations[1].log_place = 1, 2  # Wrong: the other way round explains the read.
    assert check(operations) is Verdict.LINEARIZABLE


def test_the_shortest_violation_ends_where_it_shows() -> None:
    good = [(SET_B, stamp, stamp + 1, b"OK") for stamp in range(10, 50, 2)]
    operations = history((SET_A, 1, 2, b"OK"), (GET, 3, 4, None), *good)
    assert [each.invoked for each in shortest_violation(operations)] == [1, 3]
