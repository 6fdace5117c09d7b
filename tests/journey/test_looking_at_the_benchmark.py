"""A domain lead looks at the balance of an eval set."""

from __future__ import annotations

import yaml
from picture_rules import assert_readable

CLUSTER = "rtb-pricing"
SET = "adtech/rtb-root-cause"


def test_the_balance_of_a_cluster_is_that_of_its_set_in_every_form(fresh):
    result = fresh.modelsmith("balance", CLUSTER, "--svg", "balance.svg", "--json")
    assert result.code == 0, result.out
    balance = result.json["balance"]
    assert balance["eval_set"] == SET
    assert balance["scenarios"]["held_out"] == 4
    assert [dimension["dimension"] for dimension in balance["dimensions"]] == [
        "capability",
        "risk",
        "operator_lens",
        "outcome_type",
    ]
    capabilities = balance["dimensions"][0]["values"]
    assert {capability["value"]: round(capability["composite"], 9) for capability in capabilities} == {
        "auction-timeout": 0.5,
        "invalid-traffic": 0.5,
    }
    picture = (fresh.clone / "balance.svg").read_text()
    assert_readable(picture)
    view = fresh.modelsmith("balance", SET)
    assert "auction-timeout" in view.out
    for text in (result.out, view.out, picture):
        for path in (fresh.clone / "evals" / SET).glob("held_out/*/*.yaml"):
            assert yaml.safe_load(path.read_text())["messages"][-1]["content"][:40] not in text


def test_an_uncommitted_copy_of_a_case_is_flagged(fresh):
    folder = fresh.clone / "evals" / SET / "scenarios" / "auction-timeout"
    first = sorted(folder.iterdir())[0]
    case = yaml.safe_load(first.read_text())
    (folder / "timeout-copy.yaml").write_text(yaml.safe_dump(case | {"id": "timeout-copy", "variants": []}))
    balance = fresh.modelsmith("balance", CLUSTER, "--json").json["balance"]
    near = next(group for group in balance["near"] if group["group"] == "core")
    assert (near["pairs"][0]["similarity"], {near["pairs"][0]["first"], near["pairs"][0]["second"]}) == (
        1.0,
        {first.stem, "timeout-copy"},
    )
    assert "near-duplicates" in {flag["kind"] for flag in balance["flags"]}


def test_a_picture_is_never_written_over_another_kind_of_file(fresh):
    before = (fresh.clone / ".github/governance/people.yaml").read_bytes()
    result = fresh.modelsmith("balance", CLUSTER, "--svg", ".github/governance/people.yaml", "--json")
    assert (result.code, result.json["code"]) == (2, "not-svg")
    assert (fresh.clone / ".github/governance/people.yaml").read_bytes() == before


def test_an_unknown_cluster_or_set_names_the_known(fresh):
    for name, named in (("nobody", CLUSTER), ("adtech/nothing", SET)):
        result = fresh.modelsmith("balance", name, "--json")
        assert result.code == 2
        assert named in result.json["mend"]
