"""Pure: an event of the ledger as a CloudEvent (CloudEvents 1.0.2), for whoever knows nothing of Modelsmith."""

from __future__ import annotations

from functools import lru_cache

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from modelsmith.schema.events import Recorded, schema_id

CONTENT_TYPE = JSONFormat.CONTENT_TYPE
"""Content type of an event in the JSON form: ``application/cloudevents+json``."""
_SEQUENCE_DIGITS = 18
_ABOUT = ("specialist", "candidate", "tag")
"""Fields that say which thing of the cluster an event is about; at most one of them is in each."""


def envelope(recorded: Recorded, source: str) -> CloudEvent:
    """The event in its envelope; ``source`` names the repository.

    ``sequence`` is the number of the event in its ledger, padded, so that order of text is order of events (extension
    "Sequence" of the specification). ``cursor`` is what `events --since` takes.
    """
    event = recorded.event
    about = next((value for name in _ABOUT if (value := getattr(event, name, None))), None)
    return CloudEvent(
        {
            "id": recorded.id,
            "source": source,
            "type": event.name,
            "subject": f"{event.cluster}/{about}" if about else event.cluster,
            "time": recorded.at,
            "datacontenttype": "application/json",
            "dataschema": schema_id(event.name),
            "sequence": recorded.cursor.partition("-")[0].zfill(_SEQUENCE_DIGITS),
            "cursor": recorded.cursor,
        },
        event.model_dump(mode="json"),
    )


@lru_cache(maxsize=1024)
def line(recorded: Recorded, source: str) -> str:
    """The envelope and what is in it as one line of JSON, in ASCII; made once for all who are told it."""
    return JSONFormat().write(envelope(recorded, source)).decode("ascii")
