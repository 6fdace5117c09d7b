"""A policy that names an embedding model, from the rows of an iteration to what `verify` finds again."""

from __future__ import annotations

import json

import pytest
import yaml
from tiny import commit_to_root, write_tiny_encoder
from worlds import CLUSTER

from modelsmith.loop import certificates
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure

POLICY = ".github/governance/policy.yaml"
AWAY = "recomputed, but for its meaning: the embedding model is not at hand"
MOST = {"core": 1.0, "held_out": 1.0}


def policy_asks(world, folder, digest, **most):
    path = world.clone / POLICY
    policy = yaml.safe_load(path.read_text())
    policy["firewall"] = {"most_overlap": 1.0, "most_similarity": 1.0, "most_cosine": MOST | most}
    policy["embedding"] = {"name": "tiny-bert", "uri": f"file://{folder}", "digest": digest, "license": "Apache-2.0"}
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    commit_to_root(world.clone, world.forge)


def test_rows_too_near_in_meaning_are_dropped_and_verify_finds_it_again(fresh, tmp_path):
    folder = tmp_path / "tiny-bert"
    digest = write_tiny_encoder(folder)
    policy_asks(fresh, folder, digest)
    checked = fresh.modelsmith("validate", "--json")
    assert "nearness in meaning was not tried" in checked.json["firewall"][CLUSTER]["not_checked"]
    assert "embedding model tiny-bert" in fresh.modelsmith("validate").out
    assert any("tiny-bert" in line for line in fresh.modelsmith("doctor").out.splitlines())

    result = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert result.code == 4, result.err[-2000:]
    specialist = fresh.state()["specialist"]
    evidence = json.loads((fresh.folder_of("eval-accepted") / "evidence.json").read_text())
    meaning = evidence["firewall"]["meaning"]
    assert meaning["model"] == digest
    assert [(part["part"], part["most_cosine"]) for part in meaning["parts"]] == sorted(MOST.items())
    assert all(0 < part["cosine"] < 1 for part in meaning["parts"])
    reviewed = fresh.modelsmith("review-synthetic", CLUSTER, "--json").json
    assert len(reviewed["in_meaning"]) == 5
    assert reviewed["meaning_unknown"] is None
    assert all(0 < neighbour["cosine"] < 1 for neighbour in reviewed["in_meaning"])
    assert "nearest scored texts in meaning" in fresh.modelsmith("review-synthetic", CLUSTER).out
    assert "firewall by meaning, held out" in (fresh.folder_of("eval-accepted") / "packet.md").read_text()
    lies(fresh, specialist)
    assert fresh.modelsmith("verify", "--json").json["firewall"] == {specialist: "recomputed"}

    folder.rename(tmp_path / "away")
    assert fresh.modelsmith("verify", "--json").json["firewall"] == {specialist: "recomputed"}, "computed before"
    assert fresh.modelsmith("review-synthetic", CLUSTER, "--json").json == reviewed, "from vectors that were kept"
    (fresh.private / "cache" / "vectors.db").unlink()
    unknown = fresh.modelsmith("review-synthetic", CLUSTER, "--json").json
    assert unknown["in_meaning"] == []
    assert "tiny-bert of policy.yaml cannot be used" in unknown["meaning_unknown"]
    full = fresh.modelsmith("verify", "--full", "--json").json
    assert (full["verified"], full["firewall"]) == (True, {specialist: AWAY})


def lies(world, specialist):
    """Evidence that says another cosine than the rows have, and policy that names another model by now."""
    workspace = Workspace(world.clone, world.home)
    main = read_governed_state(world.git, "HEAD")
    evidence = evidence_of(main, main.histories.find(specialist))
    meaning = evidence.firewall.meaning

    def with_cosine(cosine):
        parts = (meaning.parts[0].model_copy(update={"cosine": cosine}), *meaning.parts[1:])
        changed_evidence = evidence.firewall.model_copy(update={"meaning": meaning.model_copy(update={"parts": parts})})
        return evidence.model_copy(update={"firewall": changed_evidence})

    for cosine, differs in ((meaning.parts[0].cosine - 0.0008, False), (0.2, True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(certificates, "evidence_of", lambda *_, cosine=cosine: with_cosine(cosine))
            if not differs:
                assert certificates.recheck(workspace, main, full=True) == {specialist: "recomputed"}
                continue
            with pytest.raises(IntegrityFailure) as refused:
                certificates.recheck(workspace, main, full=True)
            assert refused.value.code == "firewall-differs"


def test_rows_are_dropped_by_the_limit_and_a_missing_model_stops(fresh, tmp_path):
    folder = tmp_path / "tiny-bert"
    digest = write_tiny_encoder(folder)
    policy_asks(fresh, folder, digest, held_out=0.01)
    stopped = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert (stopped.code, stopped.json["code"]) == (2, "no-rows")
    assert "a held-out scenario, by meaning" in stopped.json["message"]
    assert {generator["by"] for generator in stopped.json["details"]["generators"]} == {"meaning"}
    weights = folder / "model.safetensors"
    vectors = fresh.private / "cache" / "vectors.db"
    original = weights.read_bytes()
    for change, code, exit_code in (
        (lambda: weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1])), "base-model-digest", 5),
        (lambda: folder.rename(tmp_path / "away"), "embedding-missing", 6),
    ):
        change()
        vectors.unlink()
        stopped = fresh.modelsmith("iterate", CLUSTER, "--restart", "--json")
        assert (stopped.code, stopped.json["code"]) == (exit_code, code)
        vectors.touch()
