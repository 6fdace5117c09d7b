"""The fintech kit alone: the same commands as with the first kit, no code, and its own people decide."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml
from shared import built_once
from warm_gate import stand_in
from worlds import World, modelsmith, snapshot

from modelsmith.repository.kits import KITS, domains, kit_files
from modelsmith.signing.keys import create_ssh_key
from modelsmith.substrates.base_models import listing_digest

PEOPLE = {
    "ida": "head-of-fraud",
    "bo": "head-of-fraud",
    "rut": "model-risk",
    "ole": "fraud-operations",
    "pia": "platform",
}
NOTE = "Since noon three strangers paid EUR 730 to a beekeeper, who asks for it in cash; the money is still here."


@pytest.fixture(scope="module")
def bank(tiny_model: Path, warm_gate: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A repository from the kit, made small for the tiny model; nothing has run yet."""

    def build(folder: Path) -> None:
        world = World(folder)
        for name in PEOPLE:
            create_ssh_key(folder / "people" / name, f"{name}@example.org")
        enrol = [word for name, role in PEOPLE.items() for word in ("--person", f"{role}=people/{name}.pub")]
        result = world.modelsmith(
            "init", "clone", "--kit", "fintech", "--forge", "forge.git", *enrol, "--json", cwd=folder
        )
        assert result.code == 0, result.out
        assert (result.json["domain"], result.json["clusters"]) == ("fintech", ["payment-fraud"])
        assert result.json["unheld_roles"] == []
        tiny.shrink(world.clone, tiny_model, listing_digest(tiny_model), kit=tiny.FINTECH)
        tiny.commit_to_root(world.clone, world.forge)
        stand_in(world.forge)

    shared = built_once(tmp_path_factory, "fintech", build)
    return World(shared).copied_to(tmp_path_factory.mktemp("fintech") / "world")


def test_a_bank_gets_a_sound_set_of_its_own_and_no_word_of_another_field(tmp_path):
    result = modelsmith(tmp_path, "init", "bank", "--kit", "fintech", "--json")
    assert result.code == 0, result.out
    assert result.json["unheld_roles"] == ["fraud-operations", "head-of-fraud", "model-risk", "platform"]
    bank = World(tmp_path)
    valid = bank.modelsmith("validate", "--json", cwd=tmp_path / "bank")
    assert (valid.code, valid.json["problems"]) == (0, [])
    assert valid.json["kinds"] | {"scenario": 138, "generator": 12, "cluster": 1} == valid.json["kinds"]
    even = bank.modelsmith("balance", "payment-fraud", "--json", cwd=tmp_path / "bank")
    assert (even.code, even.json["balance"]["flags"]) == (0, [])
    words = b"\n".join(
        data for name, data in snapshot(tmp_path / "bank").items() if data and not name.startswith(".git/")
    )
    for other in (b"head-of-trading", b"domain-lead", b"oncall-sre", b"adtech", b"rtb", b"auction"):
        assert other not in words, other


def test_every_kit_can_be_begun_from_and_a_wrong_name_lists_them(tmp_path):
    for name, kit in KITS.items():
        assert domains(kit_files(name, tmp_path)) == [path.split("/")[1] for path in kit.paths if "evals" in path]
    result = modelsmith(tmp_path, "init", "bank", "--kit", "fraud", "--json")
    assert (result.code, result.json["code"]) == (2, "unknown-kit")
    assert all(name in result.json["mend"] for name in KITS)


def test_the_loop_goes_to_the_person_who_answers_for_model_risk(bank, tmp_path):
    world = bank.copied_to(tmp_path / "world")
    result = world.modelsmith("iterate", "payment-fraud", "--json")
    assert result.code == 4, result.out + result.err
    assert result.json["waiting_for"] == ["@model-risk"]
    number = str(result.json["pull"])
    wrong = world.modelsmith("approve", number, "--key", world.key("ida"), "--json")
    assert world.modelsmith("pr", "merge", number, "--json").code != 0, wrong.out
    for words in (("approve", number, "--key", world.key("rut")), ("pr", "merge", number), ("verify",)):
        approval = world.modelsmith(*words, "--json")
        assert approval.code == 0, approval.out
    routing = yaml.safe_load((world.clone / "clusters/payment-fraud/routing.yaml").read_text())
    assert [arm["specialist"] for arm in routing["serving"]] == ["base", result.json["specialist"]]


def test_a_new_case_waits_for_the_head_of_fraud_a_cluster_for_model_risk(bank, tmp_path):
    world = bank.copied_to(tmp_path / "world")
    gates = {gate["event"]: gate["gate"] for gate in world.modelsmith("approvers", "--json").json["gates"]}
    assert gates["customer-deployed"] == gates["deprecated"] == "model-risk"
    assert gates["rolled-back"] == gates["hold-cleared"] == "fraud-operations"
    case = "evals/fintech/fraud-typology/scenarios/laundering/laundering-core-03.yaml"
    old = (world.clone / "evals/fintech/fraud-typology/scenarios/laundering/laundering-core-01.yaml").read_text()
    document = yaml.safe_load(old) | {"id": "laundering-core-03", "messages": [{"role": "user", "content": NOTE}]}
    cluster = "clusters/payment-fraud/cluster.yaml"
    edited = (world.clone / cluster).read_text().replace("max_drop: 0.04", "max_drop: 0.03")
    for branch, path, text, waits in (
        ("case", case, yaml.safe_dump(document | {"variants": []}, sort_keys=False), ["@head-of-fraud"]),
        ("terms", cluster, edited, ["@model-risk", "@platform"]),
    ):
        world.commit(branch, {path: text})
        opened = world.modelsmith("pr", "open", branch, "--title", branch, "--key", world.key("bo"), "--json")
        assert opened.code == 0, opened.out
        answer = world.modelsmith("approvers", "--pr", str(opened.json["pull"]["number"]), "--json").json
        assert sorted(answer["waiting_for"]) == waits


def test_a_list_of_steps_is_written_in_plain_words_and_a_slip_is_named(bank, tmp_path):
    world = bank.copied_to(tmp_path / "world")
    rest = ("--pass", "Sees it.", "--fail", "A gift.", "--risk", "low", "--lens", "branch", "--outcome", "bank-loss")
    case = ("new", "scenario", "laundering", "--note", NOTE, "--answer", "typology=laundering", "--answer", "hold=730")
    steps = "steps=limit_account, hold_payment,open_case"
    for expected, words in (
        ("steps", ()),
        ("mean hold_payment?", ("--answer", steps.replace("hold_", "hald_"))),
        ("no-tipping-off", ("--answer", steps.replace("open_case", "call_customer"))),
    ):
        result = world.modelsmith(*case, *words, *rest, "--json")
        assert result.code == 2, result.out
        assert expected in result.out
    result = world.modelsmith(*case, "--answer", steps, *rest, "--json")
    assert result.code == 0, result.out
    scenario = yaml.safe_load((world.clone / result.json["files"][0]).read_text())
    assert scenario["reference"] == {
        "typology": "laundering", "hold": 730, "steps": ["limit_account", "hold_payment", "open_case"]
    }  # fmt: skip
    (tmp_path / "cases.csv").write_text(
        "capability,part,note,typology,hold,steps,pass,fail,risk,lens,outcome\n"
        'laundering,held-out,"Four cousins pay in cash of a carousel, always 9800; it is sent on, nothing is left.",'
        'laundering,0,"limit_account, open_case",Sees it.,Good sales.,low,branch,bank-loss\n'
    )
    result = world.modelsmith("new", "scenarios", str(tmp_path / "cases.csv"), "--json")
    assert result.code == 0, result.out
    assert yaml.safe_load((world.clone / result.json["files"][0]).read_text())["reference"]["steps"][1] == "open_case"
