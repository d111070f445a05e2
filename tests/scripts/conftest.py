"""The option that replaces the output in golden scripts by what the code does now."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--rewrite`."""
    parser.addoption("--rewrite", action="store_true", help="replace the output in golden scripts")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether scripts are to be rewritten."""
    return bool(request.config.getoption("--rewrite"))
