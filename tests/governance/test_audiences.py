"""Who sees which field: policy may keep something from people who would see it, and never show anybody more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.governance.audiences import AUDIENCE, COPIES, LEFT_OUT, NEEDED, audience, narrowing_problem
from modelsmith.schema import curve, diagnosis, evidence, live, live_evidence, observed, promotion, run, tries

ORDER = ("public", "reviewer", "operator")
KINDS = {
    name: getattr(module, name)
    for name in AUDIENCE
    for module in (curve, evidence, promotion, run, diagnosis, observed, live, live_evidence, tries)
    if hasattr(module, name)
}
FIELDS = [f"{kind}.{field}" for kind, groups in AUDIENCE.items() for fields in groups.values() for field in fields]


def test_every_type_of_the_list_is_looked_at_here():
    assert set(KINDS) == set(AUDIENCE)


def built_in(name):
    kind, field = name.split(".")
    return next(reader for reader, fields in AUDIENCE[kind].items() if field in fields)


@given(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ORDER)), st.sampled_from(FIELDS))
def test_whatever_policy_says_nobody_sees_more_than_by_the_built_in_list(narrowed, name):
    kind, field = name.split(".")
    assert ORDER.index(audience(KINDS[kind], field, narrowed)) >= ORDER.index(built_in(name))


@pytest.mark.parametrize("name", ["Observation.completion", "Observation.reasons", "RunResult.executed"])
def test_what_is_the_operator_s_is_never_a_reviewer_s_by_policy(name):
    words, mend = narrowing_problem(name, "reviewer")
    assert "nobody but the operator" in words
    assert "never widens" in words
    assert mend


@pytest.mark.parametrize(
    "name", ["RunEvidence.cost", "RunResult.cost", "Evidence.environment", "FailureCluster.pattern"]
)
def test_what_nothing_rests_on_may_be_kept_for_operators(name):
    assert narrowing_problem(name, "operator") is None


@pytest.mark.parametrize("name", ["RunEvidence.headline", "Evidence.attempts", "PromotionRecord.composite"])
def test_a_public_field_may_be_a_reviewer_s_but_kept_from_no_decider(name):
    assert narrowing_problem(name, "reviewer") is None
    words, _ = narrowing_problem(name, "operator")
    assert "cannot be kept from reviewers" in words
    assert "`verify`" in words


def test_a_figure_of_the_run_that_evidence_repeats_is_not_kept_back():
    words, mend = narrowing_problem("RunResult.headline", "operator")
    assert words.startswith("RunEvidence.headline, which repeats RunResult.headline, cannot be kept from reviewers")
    assert "RunEvidence.cost" in mend
    assert audience(evidence.RunEvidence, "cost", {"RunResult.cost": "operator"}) == "operator"


@pytest.mark.parametrize(
    "name", ["Runresult.cost", "RunResult.costs", "RunResult", "cost", "RunResult.cost.currency", ""]
)
def test_a_name_that_means_nothing_is_refused_with_the_names_that_do(name):
    words, mend = narrowing_problem(name, "operator")
    assert words.startswith(("there is no record type", "RunResult has no field"))
    assert "RunResult" in mend


def test_the_lists_name_fields_that_exist():
    assert not {*COPIES, *COPIES.values(), *LEFT_OUT} - {*FIELDS}
    assert {name.split(".")[0] for name in (*COPIES, *LEFT_OUT)} <= NEEDED.keys()
    for name in LEFT_OUT:
        kind, field = name.split(".")
        assert not KINDS[kind].model_fields[field].is_required(), name
