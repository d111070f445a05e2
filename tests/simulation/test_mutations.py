"""The checkers are tested too: each deliberately broken variant is found, within a stated number of seeds."""

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.simulation import TICKS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.breaks)
def test_is_found(mutation: Mutation) -> None:
    assert mutation.hunt(ticks=TICKS) is not None, f"not found in {mutation.seeds} seeds: {mutation.breaks}"
