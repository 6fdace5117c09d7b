"""The Grafana dashboard asks for nothing that a door does not show, and shows all that a door tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from doors import CLUSTER, client, measured, until
from prometheus_client.parser import text_string_to_metric_families

import modelsmith
from modelsmith.cli.main import cli
from modelsmith.door.dashboard import dashboard
from modelsmith.door.upstream import Price
from modelsmith.points.format_points import format_points
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.rubric import RubricPoint

promql = pytest.importorskip("promql_parser")
DOCS = Path(modelsmith.__file__).parents[1] / "docs"
NOT_SHOWN = {"modelsmith_door_reloads"}
Samples = dict[str, list[dict[str, str]]]


def expressions() -> list[tuple[str, str, str]]:
    """Of every line of every panel: the panel's title, what is asked, and what the line is called."""
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]


def parsed(expression: str) -> Any:
    """By Prometheus' own grammar, with what Grafana fills in."""
    filled = re.sub(r"\$__\w+", "5m", expression).replace("$cluster", CLUSTER)
    assert "$" not in filled
    return promql.parse(filled)


def nodes(expression: Any) -> Iterator[Any]:
    yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        below = getattr(expression, name, None)
        for node_below in below if isinstance(below, list) else [below]:
            if node_below is not None:
                yield from nodes(node_below)


async def lived(door, folder) -> Samples:
    """All that can happen at a door, and what Prometheus reads of it then."""
    recorder = measured(door, folder)
    try:
        door.points = format_points((
            RubricPoint.model_validate_json(
                '{"id": "a", "text": "t", "weight": 1, "check": {"type": "regex", "pattern": "specialist"}}'
            ),
        ))  # fmt: skip
        door.copied, door.price = 1.0, Price(1e-6, 2e-6)
        door.serve(0.5)
        for _ in range(30):
            _, headers, _ = await door.ask()
        stream = await client(door.url).chat.completions.create(
            model=CLUSTER, messages=[{"role": "user", "content": "Why?"}], stream=True
        )
        assert [chunk async for chunk in stream]
        door.specialist.status = 500
        for _ in range(10):
            await door.ask()
        door.incumbent.status = 500
        for _ in range(4):
            await door.ask()
        await door.ask({"model": "nobody"})
        report = {"decision_id": headers["x-modelsmith-decision"], "metric": "won", "value": 1, "idempotency_key": "a"}
        for body in (report, {**report, "decision_id": "x.y"}):
            async with door.session.post(f"http://127.0.0.1:{door.port}/v1/feedback", json=body):
                pass
        door.door.follower.troubles = {CLUSTER: IntegrityFailure("artifact-missing", "gone", "Fetch it.")}
        await until(lambda: not door.door.counting.shadows.under_way)
        recorder.flush()
        async with door.session.get(f"http://127.0.0.1:{door.port}/metrics") as answer:
            text = await answer.text()
    finally:
        recorder.close()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    return samples


def test_every_panel_asks_for_metrics_and_labels_that_a_door_shows(play, tmp_path):
    async def scene(door):
        samples = await lived(door, tmp_path)
        names = set()
        for title, expression, legend in expressions():
            labels = set()
            for node in nodes(parsed(expression)):
                if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
                    assert set(node.modifier.labels) <= labels_of(node, samples), (title, node)
                if isinstance(node, promql.VectorSelector):
                    assert node.name in samples, (title, node.name)
                    names.add(node.name)
                    labels |= set().union(*samples[node.name])
                    for matcher in node.matchers.matchers:
                        values = [sample[matcher.name] for sample in samples[node.name]]
                        assert any(re.fullmatch(matcher.value, value) for value in values), (title, matcher)
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, title
        families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in samples}
        names_shown = {re.sub(r"_(total|bucket|sum)$", "", name) for name in names}
        assert families - names_shown == NOT_SHOWN

    play(scene)


def labels_of(aggregate: Any, samples: Samples) -> set[str]:
    """Labels of what is summed."""
    return {
        label
        for node in nodes(aggregate.expr)
        if isinstance(node, promql.VectorSelector)
        for sample in samples[node.name]
        for label in sample
    }


def test_grafanas_own_model_of_a_dashboard_knows_every_field_of_it():
    pytest.importorskip("grafana_foundation_sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    board = dashboard()
    reread = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    assert list(lost(board, reread, "dashboard")) == []
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    covered = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(covered) == len(set(covered)), "two panels lie on one another"


def lost(original: Any, other: Any, where: str) -> Iterator[str]:
    """What is no longer there after Grafana's model has read it."""
    if isinstance(original, dict) and isinstance(other, dict):
        for name, value in original.items():
            yield from lost(value, other.get(name), f"{where}.{name}")
    elif isinstance(original, list) and isinstance(other, list) and len(original) == len(other):
        for number, value in enumerate(original):
            yield from lost(value, other[number], f"{where}[{number}]")
    elif original != other:
        yield where


def test_the_command_prints_the_dashboard_that_the_docs_hold():
    printed = CliRunner().invoke(cli, ["serve-dashboard"])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == json.loads((DOCS / "grafana.json").read_text()) == dashboard()
