"""Runs each script under `raft/`. `pytest tests/scripts --rewrite` replaces their output."""

from pathlib import Path

import pytest

from tests.scripts.raft_script import RaftScript
from tests.scripts.runner import run_script

SCRIPTS = sorted((Path(__file__).parent / "raft").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, rewrite: bool) -> None:
    run_script(path, RaftScript().execute, rewrite=rewrite)
