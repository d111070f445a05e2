"""Fixtures for tests of whole clusters. A test that fails shows what its nodes printed last."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.process.cluster import PATIENT, STEADY, Cluster, ClusterFactory, merged

HERE: Final = Path(__file__).parent

_LAST_WORDS: Final = 4000
"""Characters of each node's output that a failure shows."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test below this directory, so that `-m "not process"` leaves them out."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the nodes' last words to the report of a failure."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for cluster in _clusters(item.funcargs):
            for node_id in cluster.nodes:
                report.sections.append((f"node {node_id}", cluster.log_text(node_id)[-_LAST_WORDS:]))
    return report


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[ClusterFactory]:
    """Make clusters with settings of one's own; all are ended with the test."""
    factory = ClusterFactory(tmp_path)
    yield factory
    for made in factory.made:
        made.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three ready nodes with the default configuration, save that clients are patient."""
    with Cluster(tmp_path, settings=PATIENT) as cluster:
        yield cluster.start()


@pytest.fixture
def steady_cluster(make_cluster: ClusterFactory) -> Cluster:
    """Three ready nodes, of which one goes on leading."""
    return make_cluster(settings=STEADY).start()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three ready nodes for all tests of a module: for tests that hurt nobody, with keys of their own.

    One of them goes on leading, whatever else this machine is doing.
    """
    with Cluster(tmp_path_factory.mktemp("shared"), settings=merged(PATIENT, STEADY)) as cluster:
        yield cluster.start()


def _clusters(fixtures: dict[str, Any]) -> list[Cluster]:
    found: list[Cluster] = []
    for value in fixtures.values():
        if isinstance(value, Cluster):
            found.append(value)
        elif isinstance(value, ClusterFactory):
            found += value.made
    return found
