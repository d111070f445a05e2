"""Steps of a state store, as short as tests want them."""

from collections.abc import Mapping, Sequence

from respraft.storage.pieces import Step


def step_of(puts: Mapping[bytes, bytes | None], cleared: Sequence[tuple[bytes, bytes]] = ()) -> Step:
    """A step that makes these puts, behind emptying these ranges."""
    size = sum(map(len, puts)) + sum(len(value or b"") for value in puts.values())
    return Step(iter([(list(puts), list(puts.values()))]), cleared, len(puts), size)
