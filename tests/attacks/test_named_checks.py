"""What stands beside a pull request says no more than the gate: a forged or broken promotion is green nowhere."""

from __future__ import annotations

import json

from attacker import World

from modelsmith.operations.check import CheckedResult, CheckRequest, run
from modelsmith.promotion.announcing import standing
from modelsmith.promotion.packets import CHART_FILE, PACKET_FILE
from modelsmith.schema.promotion import RECORD_FILE

FOLDER = "04-customer-deployed"


def answers(world: World, number: int) -> tuple[CheckedResult, dict[str, str]]:
    """The seven answers about a pull request, and their states by name."""
    result = run(world.workspace, CheckRequest(pr=number))
    return result, {check.name: check.state for check in result.checks}


def test_an_honest_deployment_waits_for_its_owner_alone(waiting: World) -> None:
    """The control: evidence and terms of rollback hold, and only the head of trading is waited for."""
    result, states = answers(waiting, 4)
    assert (int(result.exit_code()), result.gate) == (4, "waiting")
    assert states.pop("approvals") == "action_required"
    assert set(states.values()) == {"success"}
    titles = {check.name: check.title for check in result.checks}
    assert "by today's rule" in titles["evidence"]
    assert "sends traffic back to base" in titles["rollback"]
    waiting.approve(4, "maya")
    assert answers(waiting, 4)[0].exit_code() == 0


def test_a_record_that_was_written_over_passes_over_nothing(waiting: World) -> None:
    """A deployment whose record cannot be read: what was not looked at would be green, or neutral, beside it."""
    head = waiting.head(4)
    path = next(path for path in waiting.git.list_tree(head) if path.endswith(f"{FOLDER}/{RECORD_FILE}"))
    record = json.loads(waiting.git.read_blob(waiting.git.list_tree(head)[path][1]))
    number = waiting.open(waiting.commit({path: json.dumps(record | {"iteration": 9}).encode()}, head), branch="again")
    result, states = answers(waiting, number)
    assert result.exit_code() == 3
    assert states["schema"] == "failure"
    assert {states[name] for name in ("evidence", "rollback")} == {"failure"}, "not looked at, so not passed over"


def test_a_page_tells_what_the_toolkit_rendered_and_no_packet_by_hand(waiting: World) -> None:
    """A packet that its proposer wrote, shown at the forge as if evidence and records said so."""
    main = waiting.governed()
    honest = standing(main, waiting.as_("maya").get(4))
    assert honest.page.startswith("**PASS**")
    assert f"{FOLDER}/{CHART_FILE})" in honest.page
    head = waiting.head(4)
    path = next(path for path in waiting.git.list_tree(head) if path.endswith(f"{FOLDER}/{PACKET_FILE}"))
    number = waiting.open(waiting.commit({path: b"**PASS**: trust me\n"}, head), branch="again")
    forged = standing(main, waiting.as_("maya").get(number))
    assert (forged.gate, forged.page) == ("closed", "")
