"""The checkers are tested too: each deliberately broken variant is found, within a stated number of seeds.

The hunt begins with a seed that is known to find it. A change of the simulator may move that; then it takes
longer, and `first` wants to be set anew.

The rare ones take longer than all others together: `make mutations` runs them too.
"""

import os
from typing import Final

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.mutations_states import STATE_MUTATIONS
from tests.simulation.simulation import TICKS

RARE_TOO: Final = os.environ.get("RARE_MUTATIONS") == "1"


@pytest.mark.parametrize("mutation", [*MUTATIONS, *STATE_MUTATIONS], ids=lambda mutation: mutation.breaks)
def test_is_found(mutation: Mutation) -> None:
    if mutation.rare and not RARE_TOO:
        pytest.skip("rare: `make mutations`")
    assert mutation.hunt(ticks=TICKS) is not None, f"not found in {mutation.seeds} seeds: {mutation.breaks}"
