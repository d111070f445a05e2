"""Numbers as Redis reads, adds and prints them.

Integers are 64 bits, signed, in exactly one spelling each: no sign but a minus, no leading zero, no space.

Floats are C's `long double` of x86: 64 bits of mantissa. Python has no such type, and its own double would
give other digits than Redis (`0.1` + `0.2`), so a long double is an exact `Fraction` here, rounded to
64 bits after each step. That is also the same on every machine, which a node's own floats need not be.

Everything that comes from a client is checked for its length before any work is done on it.
"""

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

from respraft.resp.errors import ReplyError, not_a_float, not_an_integer

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

LongDouble = Fraction | None
"""A finite long double, or None for an infinite one: no command that succeeds ever meets that."""

_INT32_MIN: Final = -(1 << 31)
_INT32_MAX: Final = (1 << 31) - 1
_INT64_LENGTH_MAX: Final = 20  # "-9223372036854775808"
_FLOAT_LENGTH_MAX: Final = 5 * 1024 - 1  # Redis's own buffer.
_MANTISSA_BITS: Final = 64
_EXPONENT_MIN: Final = -16445  # Of the last mantissa bit of the least denormal number.
_OVERFLOW: Final = 1 << 16384
_DECIMAL_EXPONENT_MAX: Final = 5000  # Beyond the range of a long double, before any power is built.
_FRACTION_DIGITS: Final = 17  # Redis prints "%.17Lf".

_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_DECIMAL: Final = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_HEXADECIMAL: Final = re.compile(
    rb"([+-]?)0x(?=\.?[0-9a-f])([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?[0-9]{1,9}))?", re.IGNORECASE
)


def parse_int64(text: bytes) -> int:
    """Return the integer that `text` spells.

    Raises:
        ReplyError: It spells none, or one beyond 64 bits, or not the way Redis would print it.
    """
    if len(text) > _INT64_LENGTH_MAX:
        raise not_an_integer()
    try:
        value = int(text)
    except ValueError:
        raise not_an_integer() from None
    # int() is generous ("+1", " 1", "1_0", "01"); printing it again tells whether this was Redis's spelling.
    if b"%d" % value != text or not INT64_MIN <= value <= INT64_MAX:
        raise not_an_integer()
    return value


def parse_int64_within(text: bytes, low: int, high: int) -> int:
    """Return the integer that `text` spells when it lies in [low, high].

    Raises:
        ReplyError: It spells none, or one outside the range.
    """
    value = parse_int64(text)
    if not low <= value <= high:
        raise ReplyError("ERR", f"value is out of range, value must between {low} and {high}")
    return value


def parse_int32(text: bytes) -> int:
    """Return the integer that `text` spells: a database's number, for instance.

    Raises:
        ReplyError: It spells none, or one beyond 32 bits.
    """
    return parse_int64_within(text, _INT32_MIN, _INT32_MAX)


def parse_long_double(text: bytes) -> LongDouble:
    """Return the long double nearest to what `text` spells, as C's strtold would; None for an infinity.

    Raises:
        ReplyError: It spells no number, or one that overflows, or one that is not 0 but rounds to 0.
    """
    if len(text) > _FLOAT_LENGTH_MAX:
        raise not_a_float()
    if _DECIMAL.fullmatch(text):
        exact = _exact_decimal(text)
    elif match := _HEXADECIMAL.fullmatch(text):
        exact = _exact_hexadecimal(*match.groups())
    elif _INFINITY.fullmatch(text):
        return None
    else:
        raise not_a_float()
    value = _round(exact)
    if value is None or (exact and not value):
        raise not_a_float()
    return value


def add_long_doubles(left: LongDouble, right: LongDouble) -> LongDouble:
    """Return the sum, rounded; None when it is infinite or no number."""
    if left is None or right is None:
        return None
    return _round(left + right)


def format_long_double(value: Fraction) -> bytes:
    """Print a long double as INCRBYFLOAT does: 17 decimals, without the zeros at the end."""
    # Fraction rounds half to even, as printf does.
    scaled = round(abs(value) * 10**_FRACTION_DIGITS)
    whole, fraction = divmod(scaled, 10**_FRACTION_DIGITS)
    # Decimal prints integers of any length; str() and %d refuse those of more than 4300 digits.
    text = f"{Decimal(whole)}.{fraction:0{_FRACTION_DIGITS}d}".rstrip("0").rstrip(".")
    if value < 0 and scaled:
        text = "-" + text
    return text.encode()


def _exact_decimal(text: bytes) -> Fraction:
    try:
        value = Decimal(text.decode("ascii"))
    except InvalidOperation:  # An exponent that not even Decimal can hold.
        raise not_a_float() from None
    if value.is_zero():
        return Fraction(0)
    if abs(value.adjusted()) > _DECIMAL_EXPONENT_MAX:
        raise not_a_float()
    return Fraction(value)


def _exact_hexadecimal(sign: bytes, whole: bytes, fraction: bytes, exponent: bytes | None) -> Fraction:
    mantissa = int(whole + fraction, 16)
    power = int(exponent or b"0") - 4 * len(fraction)
    if mantissa and abs(power + mantissa.bit_length()) > 1 - _EXPONENT_MIN:
        raise not_a_float()
    value = Fraction(mantissa) * Fraction(2) ** power if mantissa else Fraction(0)
    return -value if sign == b"-" else value


def _round(value: Fraction) -> LongDouble:
    """Return the nearest number with 64 bits of mantissa, ties to even; None when it overflows."""
    if not value:
        return value
    numerator, denominator = abs(value.numerator), value.denominator
    exponent = numerator.bit_length() - denominator.bit_length() - _MANTISSA_BITS
    # The bit lengths tell the exponent up to one; too small a one would keep a bit too many.
    if abs(value) >= Fraction(2) ** (exponent + _MANTISSA_BITS):
        exponent += 1
    unit = Fraction(2) ** max(exponent, _EXPONENT_MIN)
    rounded = round(value / unit) * unit
    return None if abs(rounded) >= _OVERFLOW else rounded
