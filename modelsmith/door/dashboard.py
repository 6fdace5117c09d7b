"""A dashboard for Grafana of what Prometheus reads of the front door.

``modelsmith serve-dashboard`` prints it, and ``docs/grafana.json`` is it. A test holds every expression to what a door
really shows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from modelsmith.live.conventions import DURATION, FIRST_CHUNK, SECOND, TOKENS, USAGE_KIND, in_prometheus

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_HERE: Final = 'cluster=~"$cluster"'
_RATE: Final = "[$__rate_interval]"
_ARM: Final = "{{cluster}} {{arm}}"
_ASKED: Final = f"sum by (cluster, arm) (rate(modelsmith_router_decisions_total{{{_HERE}}}{_RATE}))"
_FAILED: Final = _ASKED.replace(_HERE, f'{_HERE}, outcome=~"error|failed-over"')
_CHECKED: Final = f"sum by (cluster, arm) (rate(modelsmith_format_checks_total{{{_HERE}}}{_RATE}))"
_VALID: Final = _CHECKED.replace(_HERE, f'{_HERE}, result="valid"')
_COMPARED: Final = f"sum by (cluster, specialist) (rate(modelsmith_shadow_compared_total{{{_HERE}}}{_RATE}))"
_DIFFERENT: Final = _COMPARED.replace(_HERE, f'{_HERE}, result="different"')
_WIDTH: Final = 24
_GREEN, _RED = "green", "red"


class _Series(NamedTuple):
    """One line of a panel: what is asked, and what the line is called."""

    expression: str
    legend: str


class _Panel(NamedTuple):
    title: str
    says: str
    shown: Sequence[_Series]
    unit: str = "short"
    width: int = 8
    limits: tuple[float | None, float | None] = (0, None)


def _sum(by: str, metric: str, labels: str = "") -> str:
    selected = f"{metric}{{{labels}}}" if labels else metric
    return f"sum by ({by}) (rate({selected}{_RATE}))"


def _quantiles(name: str) -> tuple[_Series, ...]:
    buckets = _sum("le, cluster, arm", f"{in_prometheus(name, SECOND)}_bucket", _HERE)
    return tuple(
        _Series(f"histogram_quantile({share}, {buckets})", f"{_ARM} p{100 * share:.0f}") for share in (0.5, 0.95)
    )


_STATS: Final = (
    _Panel(
        "Newest main obeyed",
        "0: the door answers by an older main; its log and standard error say why. Alert on this.",
        (_Series("min(modelsmith_door_main_obeyed)", "obeyed"),),
        "bool_yes_no", 4,
    ),
    _Panel(
        "Not obeyed",
        "Main, or a cluster of it, of which something newer is not obeyed, and why.",
        (_Series("modelsmith_door_trouble", "{{what}}: {{code}}"),),
        width=6,
    ),
    _Panel(
        "Could not be counted",
        "Decisions and answers that were lost to the counts, since the store took nothing.",
        (_Series("sum(increase(modelsmith_uncounted_total[$__range]))", "lost"),),
        width=4,
    ),
)  # fmt: skip
_GRAPHS: Final = (
    _Panel(
        "Queue",
        "Requests under way, and those that wait for their turn.",
        (
            _Series("sum(modelsmith_door_requests)", "under way"),
            _Series("sum(modelsmith_door_waiting)", "waiting"),
        ),
        width=10,
    ),
    _Panel("Requests", "By the arm that was assigned.", (_Series(_ASKED, _ARM),), "reqps"),
    _Panel(
        "Errors",
        "Share of requests that the assigned arm did not answer, also where the incumbent answered in its place.",
        (_Series(f"({_FAILED} or 0 * {_ASKED}) / {_ASKED}", _ARM),),
        "percentunit",
    ),
    _Panel(
        "Outcomes",
        "How requests ended.",
        (
            _Series(
                _sum("cluster, arm, outcome", "modelsmith_router_decisions_total", _HERE), f"{_ARM} {{{{outcome}}}}"
            ),
        ),
        "reqps",
    ),
    _Panel("To the first piece", "Of streams: half, and 95 in a hundred, are faster.", _quantiles(FIRST_CHUNK), "s"),
    _Panel("To the end", "Of every answer.", _quantiles(DURATION), "s"),
    _Panel(
        "Tokens",
        "A second, asked (input) and answered (output).",
        (
            _Series(
                _sum(f"cluster, arm, {in_prometheus(USAGE_KIND)}", f"{in_prometheus(TOKENS)}_sum", _HERE),
                f"{_ARM} {{{{{in_prometheus(USAGE_KIND)}}}}}",
            ),
        ),
    ),
    _Panel(
        "Evidence of the window",
        "That the specialist is worse, as log10, by metric. Taken back where a metric reaches the line and its loss is "
        "beyond the allowed one.",
        (
            _Series(f"max by (cluster, metric) (modelsmith_window_evidence{{{_HERE}}})", "{{cluster}} {{metric}}"),
            _Series(f"max by (cluster) (modelsmith_window_trip{{{_HERE}}})", "{{cluster}} trip line"),
        ),
        width=6,
        limits=(None, None),
    ),
    _Panel(
        "Valid format",
        "Share of the checked answers that keep the rubric's format.",
        (_Series(f"({_VALID} or 0 * {_CHECKED}) / {_CHECKED}", _ARM),),
        "percentunit", 6,
        limits=(0, 1),
    ),
    _Panel(
        "Feedback",
        "Reports by result; those that name no decision of this door belong to no cluster.",
        (
            _Series(
                _sum("cluster, result", "modelsmith_feedback_total", 'cluster=~"$cluster|"'), "{{cluster}} {{result}}"
            ),
        ),
        "ops", 6,
    ),
    _Panel(
        "Cost",
        "An hour, by the prices of serve.yaml: of requests, and of copies in the shadow.",
        (
            _Series(
                f"3600 * {_sum('cluster, arm, of', 'modelsmith_cost_total', _HERE)}",
                "{{cluster}} {{arm}} {{of}}",
            ),
        ),
        width=6,
    ),
    _Panel(
        "Copies in the shadow",
        "How those ended that a specialist got before its deployment, and what the incumbent came to beside it.",
        (
            _Series(
                _sum("cluster, arm, outcome", "modelsmith_shadow_answers_total", _HERE), f"{_ARM} {{{{outcome}}}}"
            ),
        ),
        "reqps", 12,
    ),
    _Panel(
        "Different in the shadow",
        "Share of answers that say something else than the caller got.",
        (_Series(f"({_DIFFERENT} or 0 * {_COMPARED}) / {_COMPARED}", "{{cluster}} {{specialist}}"),),
        "percentunit", 12,
        limits=(0, 1),
    ),
    _Panel(
        "Backends that gave no answer",
        "By the specialist that was asked, and why.",
        (
            _Series(
                _sum("cluster, specialist, reason", "modelsmith_door_backend_failures_total", _HERE),
                "{{cluster}} {{specialist}} {{reason}}",
            ),
        ),
        "ops", 12,
    ),
    _Panel(
        "Refused by the door",
        "Requests that got no answer, by code; connections that there was no descriptor for.",
        (
            _Series(_sum("code", "modelsmith_door_refused_total"), "{{code}}"),
            _Series(_sum("side", "modelsmith_door_connections_refused_total"), "connections: {{side}}"),
        ),
        "ops", 12,
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The front door's Grafana dashboard, as JSON that Grafana imports."""
    panels: list[dict[str, Any]] = []
    across, down = 0, 0
    for height, group, make in ((5, _STATS, _stat), (8, _GRAPHS, _graph)):
        for panel in group:
            tall = 5 if panel is _GRAPHS[0] else height
            place = {"x": across, "y": down, "w": panel.width, "h": tall}
            panels.append(make(panel) | {"id": len(panels) + 1, "gridPos": place})
            across += panel.width
            if across >= _WIDTH:
                across, down = 0, down + tall
    return {
        "uid": "modelsmith-front-door",
        "title": "Modelsmith: front door",
        "description": "Who answers, how well, and whether the specialist under watch is worse than the incumbent.",
        "tags": ["modelsmith"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 38,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    clusters = "label_values(modelsmith_router_decisions_total, cluster)"
    return [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
        {
            "type": "query",
            "name": "cluster",
            "label": "Cluster",
            "datasource": _SOURCE,
            "query": {"query": clusters, "refId": "clusters"},
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "refresh": 2,
            "sort": 1,
        },
    ]


def _panel(panel: _Panel, kind: str) -> dict[str, Any]:
    targets = [
        {
            "refId": "ABC"[number],
            "datasource": _SOURCE,
            "expr": shown_metric.expression,
            "legendFormat": shown_metric.legend,
            "range": True,
        }
        for number, shown_metric in enumerate(panel.shown)
    ]
    return {"type": kind, "title": panel.title, "description": panel.says, "datasource": _SOURCE, "targets": targets}


def _stat(panel: _Panel) -> dict[str, Any]:
    good, bad = (_RED, _GREEN) if panel.unit == "bool_yes_no" else (_GREEN, _RED)
    steps = [{"value": None, "color": good}, {"value": 1, "color": bad}]
    return _panel(panel, "stat") | {
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "noValue": "none",
                "thresholds": {"mode": "absolute", "steps": steps},
                "color": {"mode": "thresholds"},
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "name" if panel.title == "Not obeyed" else "value",
        },
    }


def _graph(panel: _Panel) -> dict[str, Any]:
    low, high = panel.limits
    line = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": False}
    bounds = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
    dashed = {
        "matcher": {"id": "byRegexp", "options": ".* trip line"},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": _RED}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
        ],
    }
    trips = any("trip line" in series.legend for series in panel.shown)
    return _panel(panel, "timeseries") | {
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": line, **bounds},
            "overrides": [dashed] if trips else [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
