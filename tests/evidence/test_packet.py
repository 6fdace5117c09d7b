from __future__ import annotations

import os
from pathlib import Path

import pytest
from histories import routing

from modelsmith.evaluation.compare import detectable
from modelsmith.evidence.packet import PacketRequest, packet
from modelsmith.evidence.risks import open_risks
from modelsmith.evidence.sanitise import assert_clean
from modelsmith.evidence.second_look import tries_again
from modelsmith.schema.evidence import Firewall, PartOverlap
from modelsmith.schema.promotion import Preparer, RecoveryFacts, RollbackContract, StageFacts
from modelsmith.schema.tries import SeedTries, SeedTry

GOLDEN = Path(__file__).parent / "golden" / "packet.md"


@pytest.fixture(scope="module")
def packet_request(cluster):
    return PacketRequest(
        event="customer-deployed",
        requested_by="maya",
        prepared_by=Preparer(id="harness", kind="harness"),
        required_approvers=("head-of-trading",),
        rollback=RollbackContract(
            terms=cluster.rollback,
            prior_specialist="iter-000-00000000",
            prior_artifact=None,
            prior_routing="sha256:" + "0" * 64,
        ),
        routing=(routing(base=1.0), routing(base=0.9, iter_001=0.1)),
        on_call=(("oncall-sre", ("oli",)), ("night-shift", ())),
        validators=("head-of-trading",),
        pull=7,
    )


def test_the_packet_reads_as_it_did(small, cluster, packet_request):
    """Set MODELSMITH_WRITE_GOLDEN=1 to write it anew, and read the difference."""
    text = packet(small, cluster, packet_request)
    if os.environ.get("MODELSMITH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_the_verdict_comes_first_and_in_one_sentence(evidence, small, cluster, packet_request):
    assert packet(evidence, cluster, packet_request).splitlines()[0] == (
        "**PASS**: iter-001-3f9c2a7e for rtb-pricing: composite 0.948 and held-out 0.983 reach their thresholds, and "
        "0 of 9 results that the incumbent passes are lost."
    )
    first = packet(small, cluster, packet_request).splitlines()[0]
    assert first.startswith("**FAIL**: ")
    assert all(c.sentence in first for c in small.candidate.headline.checks if c.outcome != "PASS")


def test_every_regression_is_named_and_a_critical_one_is_marked(small, cluster):
    text = packet(small, cluster)
    assert small.candidate.headline.regressions
    for regression in small.candidate.headline.regressions:
        line = next(line for line in text.splitlines() if line.startswith(f"- `{regression.id}`"))
        assert regression.capability in line
    critical = [regression for regression in small.candidate.headline.regressions if regression.critical]
    assert text.count("**critical**") == len(critical) > 0


def test_without_regressions_it_says_none(evidence, cluster):
    assert "### Regressions\n\nNone.\n" in packet(evidence, cluster)


def test_many_regressions_are_cut_but_counted_critical_ones_first(evidence_with, rows_with, cluster):
    bad = evidence_with(
        candidate=rows_with(0.1), incumbent=rows_with(0.95, seed=2), incumbent_model="iter-000-00000000"
    )
    text = packet(bad, cluster)
    lost = bad.candidate.headline.regressions
    assert f"- and {len(lost) - 20} more, all in `evidence.json`" in text
    lines = [line for line in text.splitlines() if line.startswith("- `")]
    flags = ["**critical**" in line for line in lines]
    assert flags == sorted(flags, reverse=True)


def test_tables_put_the_weakest_first_and_count_up(evidence, cluster):
    text = packet(evidence, cluster)
    names = [
        line.split(" | ")[0].removeprefix("| ")
        for line in text.split("### Cases passed by capability")[1].split("###")[0].splitlines()
        if line.startswith("| ") and "weakest" not in line
    ]
    assert names[0] == "auction-timeout"
    assert len(names) == 6
    widths = {len(row.split("|")) for row in text.split("| score |")[1].split("\n\n")[0].splitlines()[1:]}
    assert len(widths) == 1


def test_the_base_model_has_a_column_only_when_it_is_not_the_incumbent(evidence, small, cluster):
    assert "| incumbent (base) |\n" in packet(evidence, cluster)
    assert "| incumbent (iter-000-00000000) | base |\n" in packet(small, cluster)


def test_the_rollback_contract_and_the_approvers_are_those_of_the_record(small, cluster, packet_request):
    text = packet(small, cluster, packet_request)
    assert "auction_win_rate must not drop by more than 4.0% of the incumbent's" in text
    assert "For 60 minutes after your approval `modelsmith rollback` sends traffic back to iter-000-00000000" in text
    assert "**head-of-trading**. Whoever asked for this" in text
    assert "by maya, prepared by harness (harness)" in text


def test_a_deployment_says_what_happens_to_traffic_and_what_comes_next(small, cluster, packet_request):
    text = packet(small, cluster, packet_request)
    assert "- Serves now: base 100%" in text
    assert "- Serves after the merge: base 90%, iter-001-00000001 10%, on trading-desk" in text
    assert "- On call: **oncall-sre** (oli), who decides" in text
    assert "- On call: **night-shift** (**nobody has this role**)" in text
    assert "`modelsmith promote rtb-pricing` asks **head-of-trading** whether production validates it" in text


def test_it_says_how_to_check_it(small, cluster, packet_request):
    text = packet(small, cluster, packet_request)
    for command in ("modelsmith pr show 7", "modelsmith verify promotions/", "cosign verify-blob-attestation",
                    "sha256sum -c SHA256SUMS", small.artifact.removeprefix("sha256:")):  # fmt: skip
        assert command in text
    assert "pr show" not in packet(small, cluster)


def test_nothing_private_is_in_it(evidence, small, cluster, packet_request):
    for some_evidence in (evidence, small):
        assert_clean(packet(some_evidence, cluster, packet_request).encode())


def test_text_from_outside_cannot_become_markup(small, cluster):
    sly = small.model_copy(
        update={
            "incumbent": small.incumbent.model_copy(update={"model": "x | y](http)<script>\n# **PASS** `@maya"}),
            "training": small.training.model_copy(update={"toolkit": "[a](b)|<img src=x>"}),
        }
    )
    text = packet(sly, cluster)
    assert "<script>" not in text
    assert "](http" not in text
    assert "](b)" not in text
    assert "\n# " not in text
    assert "@maya" not in text


def test_risk_names_what_the_figures_do_not_prove(evidence, small, cluster, evidence_with, rows_with):
    text = " ".join(open_risks(evidence, cluster))
    assert "auction-timeout-micro-01, bid-shading-core-01" in text
    assert "60 held-out scenarios leave the pass rate open by 8.6 points" in text
    assert "The incumbent is the untrained base model and passes 9 results only" in text
    assert "float32 on cpu" in text
    assert "trading-desk" in text
    assert "begun" not in text
    assert "begun 3 times" in " ".join(open_risks(evidence_with(attempts=3), cluster))
    assert "untrained" not in " ".join(open_risks(small, cluster))
    shy = evidence_with(candidate=rows_with(0.65))
    assert "its interval begins at" in " ".join(open_risks(shy, cluster))


def test_a_larger_set_detects_a_smaller_effect(evidence_with, rows_with):
    effects = []
    for size in (5, 20, 80):
        sizes = {"core": size, "held_out": size}
        drawn = evidence_with(candidate=rows_with(0.8, sizes=sizes), incumbent=rows_with(0.7, seed=2, sizes=sizes))
        effects.append(detectable(drawn.candidate.headline.difference, drawn.rule.decision.confidence))
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 2.5 * effects[2]


def test_a_tiny_set_of_equal_results_still_makes_a_packet(evidence_with, rows_with, cluster):
    sizes = {"core": 1, "held_out": 1}
    rows = rows_with(5.0, capabilities=["one"], sizes=sizes)
    text = packet(evidence_with(candidate=rows, incumbent=rows), cluster)
    assert text.startswith("**INCONCLUSIVE**")
    assert packet(
        evidence_with(candidate=rows_with(1.0, sizes={"core": 2}), incumbent=rows_with(0.5, sizes={"core": 2})), cluster
    )


def test_latency_is_that_of_single_requests_or_not_told_at_all(evidence, cluster):
    text = packet(evidence, cluster)
    assert "| one request, p50 | 0.151 s | 0.149 s |" in text
    assert "12 to each model, one at a time, the two models in turn, after 2 to warm up" in text
    without = packet(evidence.model_copy(update={"latency": None}), cluster)
    for page in (text, without):
        assert "0.412" not in page, "a time under the load of an eval compares nothing"
    assert " s |" not in without.partition("### Speed and cost")[2].partition("###")[0]


def test_answers_that_were_cut_off_are_an_open_risk(evidence_with, rows_with, cluster):
    whole = rows_with(0.9)
    cut = tuple(row.model_copy(update={"cut_off": number < 7}) for number, row in enumerate(whole))
    assert "max_new_tokens" not in packet(evidence_with(candidate=whole), cluster)
    page = packet(evidence_with(candidate=cut), cluster)
    assert f"7 of {len(whole)} answers of the candidate reached max" in page
    assert evidence_with(candidate=cut).candidate.headline.cut_off == 7


@pytest.mark.parametrize("passed", [1749, 1750])
def test_a_score_at_its_threshold_never_looks_as_it_is_not(evidence, cluster, passed):
    value = passed / 2500
    mine = evidence.candidate.headline
    near = mine.model_copy(update={"composite": mine.composite.model_copy(update={"value": value})})
    page = packet(
        evidence.model_copy(update={"candidate": evidence.candidate.model_copy(update={"headline": near})}), cluster
    )
    row = next(line for line in page.splitlines() if line.startswith("| **Composite**"))
    figure, _, threshold, result = (cell.strip() for cell in row.split("|")[2:6])
    assert (float(figure) >= float(threshold)) == (value >= 0.7) == (result == "PASS")


def test_certificate_and_what_training_did_stand_beside_the_lineage(evidence, cluster):
    parts = (
        PartOverlap(part="core", texts=12, similarity=0.41, overlap=0.125),
        PartOverlap(part="held_out", texts=30, similarity=0.38, overlap=0.0),
    )
    mended = RecoveryFacts(stage=1, failure="oom", action="smaller-batch", rows_at_once=4)
    certified = evidence.model_copy(
        update={
            "firewall": Firewall(rows=evidence.training.rows_digest, parts=parts),
            "training": evidence.training.model_copy(
                update={"recoveries": (mended,), "loaded_in_4bit": (1,), "devices": (4,)}
            ),
        }
    )
    text = packet(certified, cluster)
    assert_clean(text.encode())
    for line in (
        "firewall, core | 12 texts; nearest pair 0.41 alike; at most 12.5% of a text's words stand in the rows",
        "firewall, held out | 30 texts; nearest pair 0.38 alike; at most 0.0% of a text's words stand in the rows",
        "mended in stage 1 | oom: smaller-batch, 4 rows at once",
        "devices | 4 |",
        "quantised in training | the base model, to 4 bits (NF4); the eval's base model is whole",
    ):
        assert line in text


def test_judges_of_several_stages_stand_one_by_one_where_they_differ(evidence, cluster):
    facts = {"method": "sft", "settings": "sha256:" + "1" * 64, "seed": 1, "parent": None, "rows": 4,
             "rows_digest": "sha256:" + "2" * 64, "steps": 2}  # fmt: skip
    first, two = ("sha256:" + digit * 64 for digit in "ab")
    for judges, rows in (
        ((first, first), ["judge of rows | `aaaaaaaaaaaa`"]),
        ((first, two), ["judge of rows, stage 1 | `aaaaaaaaaaaa`", "judge of rows, stage 2 | `bbbbbbbbbbbb`"]),
    ):
        stages = tuple(StageFacts(**facts, rows_judge=judge) for judge in judges)
        training = evidence.training.model_copy(update={"stages": stages, "rows_judge": first})
        text = packet(evidence.model_copy(update={"training": training}), cluster)
        assert [
            line for line in text.splitlines() if "judge of rows" in line and not any(r in line for r in rows)
        ] == []
        assert all(row in text for row in rows), text[text.index("judge of rows") :][:200]


def test_who_trains_again_says_that_of_several_seeds_one_was_repeated(evidence):
    first, other = ("sha256:" + digit * 64 for digit in "ab")
    each = (SeedTry(seed=1, held_in=0.5, artifact=first), SeedTry(seed=10_001, held_in=0.4, artifact=other))
    tries = SeedTries(asked=8, asked_digest="sha256:" + "c" * 64, each=each)
    assert tries_again(evidence.training) == "from the same rows"
    several = evidence.training.model_copy(update={"tries": tries})
    assert tries_again(several) == "from the same rows, of 2 seeds tried the chosen one alone"
