"""The metrics: what a scrape holds, and the rules for names, labels and help."""

import gc
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from respraft import __version__, metrics

UNITS = ("_seconds", "_bytes")
BARE_NAMES = {  # Counts, positions and yes-or-no gauges have no unit to name.
    "respraft_has_leader",
    "respraft_is_leader",
    "respraft_is_learner",
    "respraft_members",
    "respraft_voters",
    "respraft_membership_changing",
    "respraft_term",
    "respraft_commit_index",
    "respraft_applied_index",
    "respraft_last_index",
    "respraft_log_entries",
    "respraft_state_durable_index",
    "respraft_snapshots_under_way",
    "respraft_batch_commands",
    "respraft_pending_batches",
    "respraft_state_keys",
    "respraft_connected_clients",
    "respraft_worker_clients",
    "respraft_peer_connected",
    "respraft_build_info",
}
LABELS = {"worker", "kind", "outcome", "part", "peer", "version", "le"}


@pytest.fixture
def update_before_render() -> Iterator[None]:
    def update() -> None:
        metrics.COMMIT_INDEX.set(41)

    metrics.before_render.append(update)
    yield
    metrics.before_render.remove(update)


def own_families() -> list[Metric]:
    return [family for family in metrics.REGISTRY.collect() if family.name.startswith("respraft_")]


def test_a_scrape_can_be_read_back() -> None:
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}

    assert families["respraft_build_info"].samples[0].labels == {"version": __version__}
    assert {"process_cpu_seconds", "python_info", "respraft_commands", "respraft_term"} <= families.keys()
    assert not [name for name in families if name.endswith("_created")]


@pytest.mark.usefixtures("update_before_render")
def test_gauges_are_brought_up_to_date_by_a_scrape() -> None:
    assert b"\nrespraft_commit_index 41.0\n" in metrics.render()


def test_series_with_known_labels_exist_from_the_start() -> None:
    text = metrics.render().decode()

    # A series that first appears with its first event hides that event from rate().
    for series in (
        'respraft_proposals_total{outcome="lost"}',
        'respraft_commands_total{kind="local"}',
        'respraft_disk_bytes{part="raft"}',
    ):
        assert f"\n{series} " in text


def test_every_name_carries_its_unit() -> None:
    for family in own_families():
        name = family.name
        assert family.type == "counter" or name.endswith(UNITS) or name in BARE_NAMES, name
        assert not name.endswith(("_ms", "_milliseconds", "_kb", "_count", "_sum", "_bucket")), name


def test_every_help_is_a_sentence() -> None:
    for family in own_families():
        assert family.documentation.endswith("."), family.name
        assert len(family.documentation) >= len("Bytes of replies."), family.name


def test_labels_are_of_a_bounded_kind() -> None:
    metrics.PEER_CONNECTED.labels("2").set(1)

    for family in own_families():
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS, sample.name


def test_pauses_of_the_garbage_collector_are_counted_until_told_to_stop() -> None:
    gc.disable()  # Only the collections of this test count.
    try:
        stop = metrics.watch_garbage_collector()
        before = _gc_pauses()
        gc.collect()
        during = _gc_pauses()
        stop()
        gc.collect()
        after = _gc_pauses()
    finally:
        gc.enable()

    assert before < during == after


def _gc_pauses() -> float:
    value = metrics.REGISTRY.get_sample_value("respraft_gc_pause_seconds_count")
    assert value is not None
    return value
