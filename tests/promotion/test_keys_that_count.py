"""Which approvals count at a merge: a key must be good when it signs, when it is merged, and never revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, WaitingForPerson

PEOPLE = ".github/governance/people.yaml"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def key_of_petra(line, **fields):
    """People with other bounds on Petra's key, approved by Piet."""

    def change(document):
        line.person(document, "petra")["keys"][0].update(
            {name: value.isoformat() if value else None for name, value in fields.items()}
        )

    return governance(line, change)


def governance(line, change, approver="piet", at=NOON, now=NOON):
    pull = line.approved(line.pull(line.edited(PEOPLE, change)), approver, at)
    return line.land(pull, now)


def notes(line, pull, now=NOON):
    decision = line.decide(pull, now).decision
    assert not decision.open
    assert decision.approvers == ()
    return decision.notes


def test_an_approval_counts_and_verifies(line):
    line.land(line.approved(line.pull(), "petra"))
    assert line.verify().approvals == 1


def test_a_key_that_had_ended_when_it_signed_approves_nothing(line):
    key_of_petra(line, valid_before=NOON)
    pull = line.approved(line.pull(), "petra", NOON)
    assert notes(line, pull) == ("The approval of petra does not count: its key had ended on 2026-05-01 12:00 UTC.",)
    with pytest.raises(WaitingForPerson):
        line.land(pull)


def test_an_approval_must_be_merged_before_its_key_ends(line):
    key_of_petra(line, valid_before=NOON + HOUR)
    pull = line.approved(line.pull(), "petra", NOON)
    assert line.decide(pull, NOON + HOUR - timedelta(seconds=1)).decision.open
    (note,) = notes(line, pull, NOON + HOUR)
    assert note == "The approval of petra does not count: its key ended on 2026-05-01 13:00 UTC."


def test_a_key_is_not_valid_before_its_time(line):
    key_of_petra(line, valid_after=NOON + HOUR)
    assert "valid only from 2026-05-01 13:00 UTC on" in notes(line, line.approved(line.pull(), "petra"), NOON + DAY)[0]


@pytest.mark.parametrize("revoked", [NOON - DAY, NOON + DAY], ids=["in the past", "in the future"])
def test_a_revoked_key_approves_nothing_whatever_time_it_claims(line, revoked):
    key_of_petra(line, revoked_at=revoked)
    for at in (NOON - 30 * DAY, NOON, NOON + timedelta(minutes=5)):
        assert "its key was revoked on" in notes(line, line.approved(line.pull(), "petra", at))[0]


def test_an_open_approval_dies_when_its_key_is_revoked_or_taken_out(line):
    pull = line.approved(line.pull(), "petra")
    key_of_petra(line, revoked_at=NOON)
    assert "was revoked" in notes(line, pull)[0]
    governance(line, lambda document: line.person(document, "petra").update(keys=[]))
    assert notes(line, pull) == ("The approval of petra does not count: its key is not listed under petra any more.",)


def test_what_was_merged_before_a_key_was_revoked_or_ended_stays_valid(line):
    line.land(line.approved(line.pull({"a.md": b"a"}), "petra"))
    key_of_petra(line, revoked_at=NOON)
    line.land(line.approved(line.pull({"b.md": b"b"}), "piet"))
    new = {"key": line.public("petra-new")}
    governance(line, lambda document: line.person(document, "petra").update(keys=[new]))
    line.land(line.approved(line.pull({"c.md": b"c"}), "petra", key="petra-new"))
    assert line.verify().approvals == 5


def test_an_approval_by_the_old_key_merged_after_the_rotation_is_found(line):
    new = {"key": line.public("petra-new")}
    governance(line, lambda document: line.person(document, "petra").update(keys=[new]))
    line.land(line.approved(line.pull(), "petra"), edit=dict)
    with pytest.raises(IntegrityFailure, match="nobody here holds"):
        line.verify()


def test_a_leaked_key_cannot_date_back_below_what_history_has_seen(line):
    key_of_petra(line, valid_before=NOON + HOUR)
    line.land(line.approved(line.pull({"a.md": b"a"}), "piet", NOON + 2 * HOUR), NOON + 2 * HOUR)
    pull = line.approved(line.pull({"b.md": b"b"}), "petra", NOON)
    with pytest.raises(IntegrityFailure, match="has not come yet"):
        line.decide(pull, NOON)
    assert "its key ended" in notes(line, pull, NOON + 2 * HOUR)[0]
    line.land(pull, NOON + 2 * HOUR, edit=dict)
    with pytest.raises(IntegrityFailure, match="its key ended on 2026-05-01 13:00 UTC"):
        line.verify()


def test_approvals_of_one_merge_must_all_stand_at_its_latest(line):
    """Whatever the gate lets through verifies, however far within tolerance the clocks of approvers differ."""
    key_of_petra(line, valid_before=NOON + timedelta(minutes=5))
    both = line.pull({"notes.md": b"x", "evals/adtech/README.md": b"y"})
    both = line.approved(line.approved(both, "petra", NOON), "dana", NOON + timedelta(minutes=8))
    assert "its key ended" in " ".join(line.decide(both, NOON).decision.notes)
    in_time = line.pull({"notes.md": b"x", "evals/adtech/README.md": b"y"})
    in_time = line.approved(line.approved(in_time, "petra", NOON), "dana", NOON + timedelta(minutes=4))
    line.land(in_time)
    assert line.verify().approvals == 3


def test_an_approval_dated_in_the_future_waits_and_ends_nobody_s_keys(line):
    pull = line.approved(line.pull(), "petra", NOON + DAY)
    assert notes(line, pull) == (
        "The approval of petra does not count: it is dated 2026-05-02 12:00 UTC, in the future.",
    )
    line.land(pull, NOON + DAY)
    assert line.verify().latest == NOON + DAY


def test_a_rejection_outlives_its_key_unless_it_is_revoked(line):
    key_of_petra(line, valid_before=NOON + HOUR)
    pull = line.approved(line.approved(line.pull(), "petra", verdict="reject"), "piet")
    assert [refusal.code for refusal in line.decide(pull, NOON + DAY).decision.refusals] == ["rejected"]
    key_of_petra(line, revoked_at=NOON)
    assert line.decide(pull, NOON + DAY).decision.open


def test_the_receipt_holds_the_approval_that_counted(line):
    """Approved twice, the second time with a key that ends before the merge: the first one stands, and verifies."""
    new = {"key": line.public("petra-new"), "valid_before": (NOON + HOUR).isoformat()}
    governance(line, lambda document: line.person(document, "petra")["keys"].append(new))
    pull = line.approved(line.approved(line.pull(), "petra"), "petra", key="petra-new")
    line.land(pull, NOON + DAY)
    assert line.verify().approvals == 2


def test_bobs_key_under_alices_name_is_refused(line):
    line.land(line.approved(line.pull(), "petra", key="dana"), edit=dict)
    with pytest.raises(IntegrityFailure, match="in the name of petra that dana signed"):
        line.verify()


def test_one_key_for_two_people_does_not_pass_the_gate(line):
    def change(document):
        line.person(document, "dana")["keys"].append({"key": line.public("petra")})

    pull = line.approved(line.pull(line.edited(PEOPLE, change)), "piet")
    with pytest.raises(GateNotCleared, match="same SSH key stands under dana and petra"):
        line.land(pull)


@pytest.mark.parametrize("name", ["M\u0430ya", "MAYA", "ma\u200bya"])
def test_a_look_alike_of_somebody_does_not_pass_the_gate(line, name):
    mallory = {"id": "mallory", "name": name, "roles": ["head-of-trading"], "keys": [{"key": line.public("stranger")}]}
    pull = line.pull(line.edited(PEOPLE, lambda document: document["people"].append(mallory)))
    with pytest.raises(GateNotCleared, match=r"mallory|U\+200B"):
        line.land(line.approved(pull, "piet"))


def test_people_with_names_of_any_language_pass_the_gate(line):
    new = [{"id": f"n{i}", "name": name, "roles": []} for i, name in enumerate(["Łukasz", "Zoë", "山田 太郎"])]
    governance(line, lambda document: document["people"].extend(new))
    assert line.verify().changes == 1


@pytest.mark.parametrize(
    "name", ["Docs.md", "docs.MD", "Evals.md/x"], ids=["capital", "ending", "folder beside a file"]
)
def test_a_name_that_differs_only_by_case_from_another_is_refused(line, name):
    line.land(line.approved(line.pull({"docs.md": b"x", "evals.md": b"x"}), "petra"))
    pull = line.approved(line.pull({name: b"x"}), "petra")
    with pytest.raises(GateNotCleared, match="differ only by case"):
        line.land(pull)


def test_a_name_that_differs_only_by_unicode_form_is_refused_too(line):
    line.land(line.approved(line.pull({"caf\u00e9.md": b"x"}), "petra"))
    with pytest.raises(GateNotCleared, match="Unicode form"):
        line.land(line.approved(line.pull({"cafe\u0301.md": b"x"}), "petra"))
