"""What subscribers are promised: seven events with the fields of their contract, read as they were written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from modelsmith.operations.schema_export import SchemaExportRequest, run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.events import (
    EVENTS,
    DriftWindow,
    EvalComplete,
    EvalRegression,
    Event,
    EvidenceBundle,
    FleetDrift,
    MetricWindow,
    PendingApproval,
    PromotionAdvanced,
    Recorded,
    RollbackTriggered,
    TrainingComplete,
    event_schemas,
)

PAGE = Path(__file__).parents[2] / "docs/events.md"
PROMISED = {
    "eval.complete": ("run_id", "composite", "regressions"),
    "eval.regression": ("run_id", "failing_scenarios", "prior_pass"),
    "training.complete": ("run_id", "artefact_uri", "adapter_sha"),
    "promotion.pending_approval": ("candidate", "approver_chain", "evidence_bundle"),
    "promotion.advanced": ("specialist", "from_state", "to_state", "actor"),
    "rollback.triggered": ("specialist", "reason", "metric_window"),
    "fleet.drift": ("metric", "baseline", "observed", "window"),
}
READER: TypeAdapter[Event] = TypeAdapter(Event)

slugs = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}[a-z0-9]", fullmatch=True)
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
specialists = st.from_regex(r"iter-[0-9]{3}-[0-9a-f]{8}", fullmatch=True)
states = st.sampled_from(["candidate", "eval-accepted", "artifact-exported", "customer-deployed"])
numbers = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
lines = st.text(st.sampled_from("abc äß日本 .,%"), max_size=40).map(str.strip)
lists = st.lists(slugs, max_size=3).map(tuple)

events = st.one_of(
    st.builds(EvalComplete, cluster=slugs, tag=slugs, run_id=digests, composite=numbers, regressions=lists),
    st.builds(EvalRegression, cluster=slugs, tag=slugs, run_id=digests, failing_scenarios=lists, prior_pass=digests),
    st.builds(
        TrainingComplete, cluster=slugs, run_id=digests, adapter_sha=digests,
        artefact_uri=digests.map("store:{}".format),
    ),
    st.builds(
        PendingApproval, cluster=slugs, candidate=specialists, pull=st.integers(1, 10**9), approver_chain=lists,
        evidence_bundle=st.none() | st.builds(EvidenceBundle, path=slugs, digest=digests),
    ),
    st.builds(
        PromotionAdvanced, cluster=slugs, specialist=specialists, from_state=st.none() | states, to_state=states,
        actor=st.just("maya"), record=digests,
    ),
    st.builds(
        RollbackTriggered, cluster=slugs, specialist=specialists, reason=lines, record=digests,
        metric_window=st.builds(MetricWindow, metric=slugs, window_minutes=st.integers(1, 10**6)),
    ),
    st.builds(
        FleetDrift, cluster=slugs, specialist=specialists, metric=slugs, baseline=numbers, observed=numbers,
        window=st.builds(DriftWindow, began=moments, ended=moments),
    ),
)  # fmt: skip


@given(events)
def test_an_event_is_read_back_as_it_was_written_and_fits_its_schema(event):
    text = event.model_dump_json()
    again = READER.validate_json(text)
    assert (type(again), again, again.identity) == (type(event), event, event.identity)
    Draft202012Validator(event_schemas()[event.name]).validate(json.loads(text))


@given(events, events)
def test_two_events_have_one_id_only_when_the_same_happened(one, other):
    rows = [
        {"name": event.name} | event.model_dump(include={"cluster", *event.identified_by}) for event in (one, other)
    ]
    assert (one.identity == other.identity) == (rows[0] == rows[1])


def test_the_events_carry_the_fields_that_are_promised():
    fields = {kind.model_fields["name"].default: kind.model_fields.keys() for kind in EVENTS}
    assert fields.keys() == PROMISED.keys()
    for name, promised in PROMISED.items():
        assert set(promised) <= fields[name], name


@pytest.mark.parametrize("change", [{"name": "eval.done"}, {"composite": None}, {"extra": 1}, {"run_id": "a3f82c41"}])
def test_what_is_none_of_the_seven_is_refused(change):
    event = EvalComplete(cluster="c", tag="t", run_id=f"sha256:{'0' * 64}", composite=0.5, regressions=())
    with pytest.raises(ValidationError):
        READER.validate_python(event.model_dump() | change)


def test_the_schemas_of_events_are_exported(tmp_path):
    result = run(Workspace(tmp_path), SchemaExportRequest())
    assert set(result.events) == {*PROMISED, "recorded"}
    for name in result.events:
        schema = json.loads((tmp_path / f".iterate/schemas/events/{name}.schema.json").read_text())
        Draft202012Validator.check_schema(schema)
    event = EvalComplete(cluster="c", tag="t", run_id=f"sha256:{'0' * 64}", composite=0.5, regressions=())
    noted = Recorded(cursor="1-0123456789abcdef", id=event.identity, at=datetime(2026, 1, 1, tzinfo=UTC), event=event)
    exported = json.loads((tmp_path / ".iterate/schemas/events/recorded.schema.json").read_text())
    Draft202012Validator(exported).validate(noted.model_dump(mode="json"))


def test_the_page_of_events_names_each_of_them_with_its_fields():
    rows = {
        cells[1].strip(" `"): cells[2]
        for line in reversed(PAGE.read_text().splitlines())
        if len(cells := line.split("|")) > 3
    }
    for kind in EVENTS:
        name = kind.model_fields["name"].default
        missing = [field for field in kind.model_fields if field != "name" and f"`{field}`" not in rows[name]]
        assert not missing, name
