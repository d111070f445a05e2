"""What one key does, as a client sees it: the sequential specification that histories are held to.

A key that was given a time to live *fades*: it may be gone from any moment on, since clients don't know the
log's time. What the model insists on is that gone is gone: after a nil there is no value until a write.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

Reply: TypeAlias = bytes | int | None


class KeyState(NamedTuple):
    """One key."""

    value: bytes | None
    fades: bool  # It has a deadline.


MISSING = KeyState(None, False)


def outcomes(state: KeyState, command: tuple[bytes, ...]) -> Iterator[tuple[KeyState, Reply]]:
    """Yield what may become of the key and what its client may be told: two ways where it fades."""
    yield _run(state, command)
    if state.fades:
        yield _run(MISSING, command)


def _run(state: KeyState, command: tuple[bytes, ...]) -> tuple[KeyState, Reply]:
    value = state.value
    match command:
        case (b"GET", _):
            return state, value
        case (b"SET", _, new):
            return KeyState(new, False), b"OK"
        case (b"SET", _, new, b"PX", _):
            return KeyState(new, True), b"OK"
        case (b"SET", _, new, b"NX"):
            return (KeyState(new, False), b"OK") if value is None else (state, None)
        case (b"SET", _, new, b"XX"):
            return (state, None) if value is None else (KeyState(new, False), b"OK")
        case (b"SETNX", _, new):
            return (KeyState(new, False), 1) if value is None else (state, 0)
        case (b"GETSET", _, new) | (b"SET", _, new, b"GET"):
            return KeyState(new, False), value
        case (b"APPEND", _, new):
            longer = (value or b"") + new
            return KeyState(longer, state.fades), len(longer)
        case (b"DEL", _, _):
            return MISSING, int(value is not None)
        case (b"INCR", _):
            number = int(value or b"0") + 1
            return KeyState(b"%d" % number, state.fades), number
    raise AssertionError(f"no model of {command!r}")
