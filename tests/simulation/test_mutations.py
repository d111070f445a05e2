"""The checkers are tested too: each deliberately broken variant is found, within a stated number of seeds."""

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.mutations_states import STATE_MUTATIONS
from tests.simulation.simulation import TICKS


@pytest.mark.parametrize("mutation", [*MUTATIONS, *STATE_MUTATIONS], ids=lambda mutation: mutation.breaks)
def test_is_found(mutation: Mutation) -> None:
    assert mutation.hunt(ticks=TICKS) is not None, f"not found in {mutation.seeds} seeds: {mutation.breaks}"
