"""An event as a CloudEvent: what any consumer of CloudEvents needs, and nothing of the machine that it comes from."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from happenings import happening, make_plain_clone
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from modelsmith.delivery.envelope import CONTENT_TYPE, envelope
from modelsmith.delivery.envelope import line as written
from modelsmith.delivery.source import source_of
from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations.events import EventsRequest, run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.events import MetricWindow, Recorded, RollbackTriggered, event_schemas

SOURCE = "urn:modelsmith:repository:" + "0" * 40


def recorded(event, number=1):
    return Recorded(cursor=f"{number}-{'0' * 16}", id=event.identity, at=datetime(2026, 1, 2, tzinfo=UTC), event=event)


@given(st.text(max_size=500).map(lambda text: " ".join(text.split())), st.integers(1, 10**18 - 1))
def test_any_event_is_one_line_of_json_that_the_library_reads_back(reason, number):
    event = RollbackTriggered.model_construct(
        cluster="rtb-pricing",
        specialist="iter-001-0a1b2c3d",
        reason=reason.encode("utf-8", "replace").decode(),
        metric_window=MetricWindow(metric="loss", window_minutes=5),
        record="sha256:" + "1" * 64,
    )
    event_recorded = recorded(happening(1), number).model_copy(update={"event": event, "id": event.identity})
    line = written(event_recorded, SOURCE)
    assert line.isascii()
    assert "\n" not in line
    back = from_structured_event(HTTPMessage({"content-type": CONTENT_TYPE}, line.encode()))
    assert (back.get_id(), back.get_source(), back.get_time()) == (event.identity, SOURCE, event_recorded.at)
    assert back.get_subject() == "rtb-pricing/iter-001-0a1b2c3d"
    assert back.get_data() == event.model_dump(mode="json")


@given(st.lists(st.integers(1, 10**18 - 1), min_size=2, max_size=9, unique=True))
def test_sequences_sort_as_text_in_the_order_of_events(numbers):
    sequences = {
        number: envelope(recorded(happening(1), number), SOURCE).get_extension("sequence") for number in numbers
    }
    assert sorted(numbers) == sorted(numbers, key=sequences.__getitem__)


def test_the_data_is_what_its_schema_says_and_the_envelope_names_it():
    cloud_event = envelope(recorded(happening(1)), SOURCE)
    schema = event_schemas()[cloud_event.get_type()]
    assert cloud_event.get_dataschema() == schema["$id"]
    Draft202012Validator(schema).validate(cloud_event.get_data())


def test_every_clone_names_the_repository_alike_and_tells_no_path(tmp_path):
    first = make_plain_clone(tmp_path / "first")
    subprocess.run(["git", "clone", "-q", first, tmp_path / "second"], check=True)
    sources = {source_of(Workspace.find(tmp_path / name)) for name in ("first", "second")}
    assert len(sources) == 1
    assert str(tmp_path) not in sources.pop()


def test_the_verb_gives_pages_of_cloudevents_by_cursor(plain_clone):
    workspace = Workspace.find(plain_clone)
    ledger_of(workspace).append(*(happening(number) for number in range(5)))
    page = run(workspace, EventsRequest(limit=2, cloudevents=True))
    assert [cloudevent["id"] for cloudevent in page.cloudevents] == [event.id for event in page.events]
    assert page.more == 3
    rest = run(workspace, EventsRequest(since=page.cursor, cloudevents=True))
    assert [json.loads(json.dumps(cloudevent))["cursor"] for cloudevent in rest.cloudevents] == [
        event.cursor for event in rest.events
    ]
    assert (len(rest.events), rest.more) == (3, 0)
    assert run(workspace, EventsRequest()).cloudevents == ()
