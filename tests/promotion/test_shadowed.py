"""Who gets copies of requests before it is deployed: the newest specialist that is exported and serves nobody."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from histories import name, specialist_history

from modelsmith.promotion.histories import Histories
from modelsmith.promotion.serving import shadow
from modelsmith.schema.promotion import EXPORT_FILE

READY = ("candidate", "eval-accepted", "artifact-exported")
SERVES = (*READY, "customer-deployed", "production-validated")
TAKEN_BACK = (*READY, "customer-deployed", "rolled-back")


def export_of(history):
    """An export of the same iteration, as far on its way."""
    first = history.records[0].model_copy(update={"evidence": {EXPORT_FILE: "sha256:" + "e" * 64}})
    return replace(history, specialist=f"{history.specialist[:-1]}f", records=(first, *history.records[1:]))


@pytest.mark.parametrize(
    ("events", "who"),
    [
        ({1: READY}, 1),
        ({1: READY, 2: READY}, 2),
        ({1: READY, 2: ("candidate",)}, 1),
        ({1: READY, 2: SERVES}, None),
        ({1: SERVES, 2: READY}, 2),
        ({1: SERVES, 2: TAKEN_BACK}, None),
        ({1: SERVES, 2: (*TAKEN_BACK, "hold-cleared")}, 2),
        ({1: READY, 2: (*READY, "deprecated")}, 1),
    ],
)
def test_the_newest_that_could_be_deployed_is_in_the_shadow(events, who):
    histories_made = [specialist_history(None, number, *steps) for number, steps in events.items()]
    histories_made = [
        replace(history, state="deprecated") if history.records[-1].event == "deprecated" else history
        for history in histories_made
    ]
    arm = shadow(
        SimpleNamespace(histories=Histories({history.specialist: history for history in histories_made})), "rtb-pricing"
    )
    assert (arm.specialist if arm else None) == (name(who) if who else None)


def test_an_export_takes_the_place_of_its_adapter():
    adapter = specialist_history(None, 1, *READY)
    export = export_of(adapter)
    all_histories = Histories({history.specialist: history for history in (export, adapter)})
    arm = shadow(SimpleNamespace(histories=all_histories), "rtb-pricing")
    assert (arm.specialist, arm.artifact, arm.record) == (export.specialist, export.artifact, export.digests[-1])
