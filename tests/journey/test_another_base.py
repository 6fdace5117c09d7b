"""An adapter answers over the base model that it was made for, whatever the cluster's base model is by then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from modelsmith.substrates.base_models import listing_digest

CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"
RUN = ("eval", "--cluster", "rtb-pricing", "--json")


@pytest.fixture(scope="module")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another base model of the same shape, so that an adapter of the first one would load onto it."""
    folder = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(99)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def move_to(world, model: Path) -> str:
    """Have the cluster's base model changed by an approved pull request; the digest of the new one."""
    document = yaml.safe_load((world.clone / CLUSTER_FILE).read_text())
    digest = listing_digest(model)
    document["base_model"] |= {"name": "other", "uri": f"file://{model}", "digest": digest}
    world.commit(model.name, {CLUSTER_FILE: yaml.safe_dump(document, sort_keys=False)})
    opened = world.modelsmith(
        "pr", "open", model.name, "--title", "Another base", "--key", world.key("petra"), "--json"
    )
    number = str(opened.json["pull"]["number"])
    for words in (("approve", number, "--key", world.key("maya")), ("pr", "merge", number)):
        result = world.modelsmith(*words, "--json")
        assert result.code == 0, result.out
    return digest


def answers(world, tag: str) -> dict[str, str]:
    lines_read = next(world.private.glob(f"**/runs/{tag}/observations.jsonl")).read_text().splitlines()
    lines = [json.loads(line) for line in lines_read]
    return {f"{line['section']}/{line['id']}/{line['wording']}": line["completion"] for line in lines}


def test_after_the_base_changed_a_specialist_answers_over_its_own(
    deployed, tiny_model: Path, other_model: Path
) -> None:
    specialist, mine = deployed.state()["specialist"], listing_digest(tiny_model)
    before = deployed.modelsmith(*RUN, "--model", specialist, "--tag", "before")
    assert before.json["run"]["base"] == mine
    theirs = move_to(deployed, other_model)

    shutil.rmtree(deployed.private / "cache")
    after = deployed.modelsmith(*RUN, "--model", specialist, "--tag", "after")
    assert after.json["run"]["base"] == mine
    assert after.json["run"]["run_id"] == before.json["run"]["run_id"]
    assert answers(deployed, "after") == answers(deployed, "before")
    base = deployed.modelsmith(*RUN, "--tag", "new-base")
    assert base.json["run"]["weights"] == theirs
    assert answers(deployed, "new-base") != answers(deployed, "before")

    result = deployed.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.out + result.err
    training = json.loads((deployed.folder_of("candidate") / "training.json").read_text())
    assert (training["parent"], training["base_digest"]) == ("base", theirs)
    evidence = json.loads((deployed.folder_of("eval-accepted") / "evidence.json").read_text())
    assert evidence["candidate"]["base"] == theirs
    assert (evidence["incumbent"]["model"], evidence["incumbent"]["base"]) == (specialist, mine)
    assert {run["model"]: run["weights"] for run in evidence["baselines"]} == {"base": theirs}
    assert deployed.modelsmith("verify").code == 0


def test_without_its_own_base_model_a_specialist_does_not_answer(
    deployed, tiny_model: Path, tmp_path: Path, other_model: Path
) -> None:
    specialist, own = deployed.state()["specialist"], tmp_path / "own"
    shutil.copytree(tiny_model, own)
    move_to(deployed, own)
    move_to(deployed, other_model)
    shutil.rmtree(deployed.private / "cache")
    shutil.rmtree(own)
    result = deployed.modelsmith(*RUN, "--model", specialist, "--tag", "without")
    assert result.code == 2, result.out
    assert result.json["code"] == "old-base-missing"
    assert str(own) in result.json["message"]
