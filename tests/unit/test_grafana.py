"""The dashboard and the alerts ask for metrics and labels that exist, in expressions that parse."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from respraft import metrics

PROJECT: Final = Path(__file__).parents[2]
DASHBOARD: Final = PROJECT / "grafana/dashboards/respraft.json"
ALERTS: Final = PROJECT / "conf/alerts.yml"

OF_THE_SCRAPE: Final = {"up"}  # Made by Prometheus itself.
LABELS_OF_THE_SCRAPE: Final = {"job", "instance"}


def exposed_names() -> set[str]:
    """Every name that a scrape holds: samples, so with _total, _bucket, _sum and _count."""
    metrics.PEER_CONNECTED.labels("2").set(1)
    metrics.WORKER_CLIENTS.labels("0").set(1)
    metrics.PEER_ROUND_TRIP_SECONDS.labels("2").set(0.001)
    for counter in (metrics.PEER_SENT_BYTES, metrics.PEER_RECEIVED_BYTES, metrics.PEER_DROPPED):
        counter.labels("2").inc(0)
    return {sample.name for family in metrics.REGISTRY.collect() for sample in family.samples}


def exposed_labels() -> set[str]:
    return {
        label for family in metrics.REGISTRY.collect() for sample in family.samples for label in sample.labels
    }


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def expressions_of_the_dashboard() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])
    yield from (
        variable["definition"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    )


def expressions_of_the_alerts() -> Iterator[str]:
    for line in ALERTS.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("expr:"):
            yield line.partition("expr:")[2].strip()


EXPRESSIONS: Final = [*expressions_of_the_dashboard(), *expressions_of_the_alerts()]


def names_in(expression: str) -> set[str]:
    """The metric names in an expression: what looks like one, outside of braces and quotes."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(r"\b(?:respraft|process|python)_\w+|\bup\b", bare))


def labels_in(expression: str) -> set[str]:
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    return {*selected, *(label.strip() for group in grouped for label in group.split(","))}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_exists(expression: str) -> None:
    names = names_in(expression)

    assert names, "asks for no metric"
    assert not names - exposed_names() - OF_THE_SCRAPE
    assert not labels_in(expression) - exposed_labels() - LABELS_OF_THE_SCRAPE


def test_every_metric_is_shown_or_watched() -> None:
    asked = set().union(*map(names_in, EXPRESSIONS))
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    own = {name for name in exposed_names() if name.startswith("respraft_")}
    unseen = {name for name in own if re.sub(r"_(bucket|sum|count)$", "", name) not in stems}

    assert not unseen


def test_panels_say_how_to_read_them_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_ids_of_panels_differ() -> None:
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.requires_tool("promtool")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "conf/alerts.yml"),
        ("check", "config", "conf/prometheus.yml"),
        ("test", "rules", "tests/unit/alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_itself_accepts_the_rules(arguments: tuple[str, ...]) -> None:
    checked = subprocess.run(["promtool", *arguments], cwd=PROJECT, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.requires_tool("promtool")
def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    rules = tmp_path / "dashboard.yml"
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            lines.append(f"      - {{record: panel:{panel['id']}, expr: {json.dumps(expression)}, ")
            lines.append(f"         labels: {{target: {target['refId']}}}}}")
    rules.write_text("\n".join(lines) + "\n")
    checked = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
