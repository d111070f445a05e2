"""Numbers: one spelling for integers, the digits of C's long double for floats."""

import contextlib
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respraft.commands.numbers import (
    INT64_MAX,
    INT64_MIN,
    add_long_doubles,
    format_long_double,
    parse_int64,
    parse_long_double,
)
from respraft.resp.errors import ReplyError


def total(left: str, right: str) -> str:
    value = add_long_doubles(parse_long_double(left.encode()), parse_long_double(right.encode()))
    assert value is not None
    return format_long_double(value).decode()


@given(st.integers(INT64_MIN, INT64_MAX))
def test_integers_come_back(value: int) -> None:
    assert parse_int64(b"%d" % value) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "+1",
        "01",
        "-0",
        " 1",
        "1 ",
        "1_0",
        "0x1",
        "1.0",
        "1e3",
        "\n1",
        "٣",
        "9223372036854775808",
        "-9223372036854775809",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ReplyError, match="not an integer or out of range"):
        parse_int64(text.encode())


@pytest.mark.parametrize("parse", [parse_int64, parse_long_double])
@given(text=st.binary(max_size=24))
def test_any_bytes_are_a_number_or_refused(parse: Callable[[bytes], object], text: bytes) -> None:
    with contextlib.suppress(ReplyError):  # And never anything else.
        parse(text)


@pytest.mark.parametrize("parse", [parse_int64, parse_long_double])
def test_a_long_text_is_refused_at_once(parse: Callable[[bytes], object]) -> None:
    with pytest.raises(ReplyError):
        parse(b"9" * (1 << 20))


# The digits are those that redis-server 7.0.15 gives on x86-64.
@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        ("0.1", "0.2", "0.3"),
        ("3000", "0.1", "3000.10000000000000009"),
        ("10.50", "0.1", "10.6"),
        ("5.0e3", "2.0e2", "5200"),
        ("0", "-0", "0"),
        ("-1e-18", "0", "0"),
        ("0x10", "0x.8", "16.5"),
        ("0", "1e-17", "0.00000000000000001"),
        ("9223372036854775807", "1", "9223372036854775808"),
        ("18446744073709551615", "1", "18446744073709551616"),
        ("18446744073709551616", "1", "18446744073709551616"),
    ],
)
def test_sums_have_the_digits_of_a_long_double(left: str, right: str, result: str) -> None:
    assert total(left, right) == result


def test_the_largest_number_is_printed_whole() -> None:
    digits = total("1.18e4932", "0")
    assert len(digits) == 4933
    assert digits.startswith("11800000000000000000006528")


@pytest.mark.parametrize("text", ["inf", "-inf", "+Infinity", "INF"])
def test_infinity_is_a_number_that_no_sum_survives(text: str) -> None:
    assert parse_long_double(text.encode()) is None
    assert add_long_doubles(Fraction(1), parse_long_double(text.encode())) is None


def test_a_sum_may_overflow() -> None:
    large = parse_long_double(b"1e4932")
    assert add_long_doubles(large, large) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "e5",
        "1e",
        "nan",
        " 1",
        "1 ",
        "1_0",
        "1,5",
        "0x",
        "1e4933",
        "1e-4951",
        "1e99999999999999999999",
        "0x1p16384",
        "0x1p-16446",
    ],
)
def test_what_is_no_float_is_refused(text: str) -> None:
    with pytest.raises(ReplyError, match="not a valid float"):
        parse_long_double(text.encode())


@pytest.mark.parametrize("text", ["5.", ".5", "+1", "1E3", "0x1P-16445", "1.9e-4951", "1" * 4900])
def test_what_c_reads_as_a_float_is_one(text: str) -> None:
    assert parse_long_double(text.encode())
