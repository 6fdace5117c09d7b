"""Attacks on where training rows are said to come from, and on what a manifest makes a machine read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from attacker import POLICY, World
from judging import judged
from trained import trained

from modelsmith.diagnosis.certificate import certificate
from modelsmith.promotion.pulls import merge_pull
from modelsmith.promotion.records import next_record
from modelsmith.schema.canonical import canonical_json, content_digest
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.embedding import EmbeddingModel
from modelsmith.schema.promotion import TrainingFacts

SET = "evals/adtech/rtb-root-cause"
CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"
TICKETS = {
    "id": "tickets", "uri": "file:tickets.jsonl", "digest": "sha256:" + "a" * 64, "format": "jsonl",
    "license": "LicenseRef-ours", "owner": "domain-lead", "columns": {"prompt": "note", "answer": "right"},
    "capability": "auction-timeout", "retain_until": "2030-01-01",
}  # fmt: skip
MANIFEST = content_digest(Dataset.model_validate_json(canonical_json(TICKETS)))
OTHER = "sha256:" + "1" * 64


@pytest.fixture
def sourced(fresh: World) -> World:
    """Main has a data set, and its cluster lets a quarter of the rows come from it."""
    cluster = yaml.safe_load(fresh.governed().tree.read(CLUSTER_FILE))
    cluster["training"]["sources"] = {"datasets": {"share": 0.25, "names": ["tickets"]}}
    files = {
        f"{SET}/datasets/tickets.yaml": yaml.safe_dump(TICKETS).encode(),
        CLUSTER_FILE: yaml.safe_dump(cluster, sort_keys=False).encode(),
    }
    number = fresh.propose(files, "petra", "sources")
    for person in ("dana", "maya"):
        fresh.approve(number, person)
    fresh.merge(number)
    return fresh


def said_of(world: World, **changes: Any) -> str:
    """What gate and verify say of a candidate whose training statement says this of its rows; empty where they pass."""
    files = {"training.json": canonical_json(world.training().model_copy(update=changes))}
    record = next_record(world.governed(), "candidate", world.draft(), files)
    return refusals_of(world, world.record_files(record, files))


def refusals_of(world: World, files: Mapping[str, bytes]) -> str:
    gate, replay = judged(world, files)
    assert gate.keys() == replay.keys()
    return "; ".join(gate.values())


def test_a_candidate_says_honestly_where_its_rows_come_from(sourced):
    """The control: rows of a data set that main has, no more than its cluster allows."""
    assert not said_of(sourced, sources={"dataset": 1}, datasets={"tickets": MANIFEST})


def test_a_training_statement_does_not_lie_about_its_sources(sourced):
    """Rows of a source that main does not allow, of a manifest that main does not have, or more than it lets in."""
    named = {"tickets": MANIFEST}
    for changes, why in (
        ({"sources": {"dataset": 10_000}, "datasets": named}, "more rows than main's cluster"),
        ({"sources": {"teacher": 1}}, "more rows than main's cluster"),
        ({"sources": {"own-sample": 1}}, "more rows than main's cluster"),
        ({"sources": {"dataset": 1}, "datasets": {"tickets": OTHER}}, "does not have or name"),
        ({"sources": {"dataset": 1}, "datasets": {"leaked": OTHER}}, "does not have or name"),
        ({"sources": {"dataset": 1}}, "no data set, or the reverse"),
        ({"datasets": named}, "no data set, or the reverse"),
    ):
        assert why in said_of(sourced, **changes), changes


def test_who_let_rows_pass_is_named_only_where_one_did(sourced):
    """A judge of rows where the rubric has no judged point."""
    rows = {"sources": {"dataset": 1}, "datasets": {"tickets": MANIFEST}}
    assert "the rubric has no use of one" in said_of(sourced, **rows, rows_judge=OTHER)


def test_a_proposed_manifest_leads_nowhere_but_into_named_folders(fresh):
    """A manifest that points upwards is no governed file, whoever approves it."""
    data = yaml.safe_dump(TICKETS | {"uri": "file:../../.ssh/id_rsa"}).encode()
    fresh.closed_to_everybody(fresh.commit({f"{SET}/datasets/tickets.yaml": data}), "check-failed", "uri")


def certified(world: World) -> dict[str, Any]:
    """An honest certificate of the rows that the candidate's training statement names."""
    document = certificate(world.eval_set(), (), world.training().rows_digest).model_dump(mode="json")
    for part in document["parts"]:
        part["similarity"] = min(0.5, part["texts"] / 2)
    return document


@pytest.fixture
def certified_world(fresh: World) -> World:
    """Main's policy asks for the certificate, and main has a candidate."""
    number = fresh.propose({POLICY: fresh.governed().tree.read(POLICY) + b"firewall: {}\n"}, "petra", "firewall")
    fresh.approve(number, "paul")
    fresh.merge(number)
    merge_pull(fresh.harness(), fresh.promote("candidate"))
    return fresh


def accepted(world: World, edit: Callable[[dict[str, Any]], object] | None) -> str:
    """What the gate says of honest evidence with this certificate; with none where ``edit`` is None."""

    def put(evidence: dict[str, Any]) -> None:
        if edit:
            evidence["firewall"] = certified(world)
            edit(evidence["firewall"])

    return refusals_of(world, world.accepted_with(put))


def test_honest_evidence_with_its_certificate_passes(certified_world):
    """The control of those below."""
    assert not accepted(certified_world, lambda firewall: None)


def test_no_evidence_passes_without_an_honest_certificate(certified_world):
    """Evidence without the certificate that policy asks for, with that of other rows or texts, or over the limits."""
    lies: tuple[tuple[Callable[[dict[str, Any]], object] | None, str], ...] = (
        (None, "policy asks for the firewall's certificate"),
        (lambda document: document.update(rows=OTHER), "about other training rows"),
        (
            lambda certificate_document: certificate_document["parts"][3].update(texts=1),
            "other scored texts than main's",
        ),
        (lambda document: document["parts"].pop(3), "other scored texts than main's"),
        (lambda document: document["parts"][3].update(overlap=0.21), "overlap 0.21, and 0.2 at most"),
        (lambda document: document["parts"][0].update(similarity=0.6), "contradict each other"),
    )
    for edit, why in lies:
        assert why in accepted(certified_world, edit)


class Heir(World):
    """A world whose second candidate was trained on from the first."""

    def training(self, number: int = 1) -> TrainingFacts:
        if number == 1:
            return super().training()
        return trained(self.governed().tree, number, parent=self.draft(1).specialist, rows_digest=OTHER)


@pytest.fixture
def heir(certified_world: World) -> Heir:
    """Main has both candidates, and asks for certificates."""
    world = Heir(certified_world.folder, certified_world.root)
    merge_pull(world.harness(), world.promote("candidate", 2))
    return world


def inherited(world: Heir, edit: Callable[[dict[str, Any]], object]) -> str:
    """What the gate says of the second candidate, its honest certificate edited."""
    parts = certified(world)["parts"]
    past = {"specialist": world.draft(1).specialist, "rows": world.training().rows_digest, "parts": parts}
    whole = {"rows": OTHER, "parts": [part | {"similarity": 0.0} for part in parts], "ancestors": [past]}

    def put(evidence: dict[str, Any]) -> None:
        evidence["firewall"] = json.loads(json.dumps(whole))
        edit(evidence["firewall"])

    return refusals_of(world, world.accepted_with(put, number=2))


def test_a_certificate_of_all_rows_behind_an_adapter_passes(heir):
    """The control: the second candidate's certificate speaks of its own rows and of its parent's."""
    assert not inherited(heir, lambda document: None)


def test_what_a_parent_was_trained_on_is_not_left_out(heir):
    """A certificate of the last rows alone, of other ones than the parent's, or with the parent's near scored text."""
    lies: tuple[tuple[Callable[[dict[str, Any]], object], str], ...] = (
        (lambda document: document.pop("ancestors"), "other rows than those of the adapters that came before"),
        (
            lambda document: document["ancestors"][0].update(rows=OTHER),
            "other rows than those of the adapters that came before",
        ),
        (
            lambda document: document["ancestors"].append(document["ancestors"][0]),
            "other rows than those of the adapters",
        ),
        (lambda document: document["ancestors"][0]["parts"].pop(3), "other scored texts than main's"),
        (lambda document: document["ancestors"][0]["parts"][3].update(overlap=0.21), "overlap 0.21, and 0.2 at most"),
        (lambda document: document["ancestors"][0]["parts"][0].update(similarity=0.6), "contradict each other"),
    )
    for edit, why in lies:
        assert why in inherited(heir, edit)


def test_an_adapter_from_the_base_model_has_no_past(certified_world):
    """A certificate that names a parent where main says that training began at the base model."""
    past = {"specialist": "iter-001-00000000", "rows": OTHER, "parts": certified(certified_world)["parts"]}
    assert "the adapters that came before" in accepted(
        certified_world, lambda document: document.update(ancestors=[past])
    )


MODEL = {"name": "tiny", "uri": "file:///nowhere", "digest": "sha256:" + "e" * 64, "license": "MIT"}
MOST = {"core": 0.9, "held_out": 0.8}


@pytest.fixture
def asked_of_meaning(fresh: World) -> World:
    """Main's policy asks besides how near rows come in meaning, by a model that is not on this machine."""
    text = yaml.safe_dump({"firewall": {"most_cosine": MOST}, "embedding": MODEL}).encode()
    number = fresh.propose({POLICY: fresh.governed().tree.read(POLICY) + text}, "petra", "meaning")
    fresh.approve(number, "paul")
    fresh.merge(number)
    merge_pull(fresh.harness(), fresh.promote("candidate"))
    return fresh


def meaning_refusal(world: World, edit: Callable[[dict[str, Any]], object]) -> str:
    """What the gate says of an honest certificate whose part about meaning was edited."""
    model = EmbeddingModel.model_validate(MODEL)
    parts = [{"part": part, "most_cosine": most, "cosine": most - 0.1} for part, most in MOST.items()]
    honest = {"model": model.digest, "settings": model.identity, "parts": parts}

    def put(firewall: dict[str, Any]) -> None:
        firewall["meaning"] = honest
        edit(firewall["meaning"])

    return accepted(world, put)


def test_a_certificate_by_policy_s_embedding_model_passes(asked_of_meaning):
    """The control of those below. Gate and verify load no model."""
    assert not meaning_refusal(asked_of_meaning, lambda meaning: None)


def test_no_evidence_passes_without_what_policy_asks_of_meaning(asked_of_meaning):
    """Leave nearness in meaning out, or take another model, other settings or limits of it; or come too near."""
    lies: tuple[tuple[Callable[[dict[str, Any]], object], str], ...] = (
        (lambda document: document.update(model=OTHER), "by another embedding model"),
        (lambda document: document.update(settings=OTHER), "or other settings of it"),
        (lambda document: document["parts"][1].update(most_cosine=0.95), "by other limits of meaning"),
        (lambda document: document["parts"].pop(1), "by other limits of meaning"),
        (lambda document: document["parts"].append(document["parts"][1]), "by other limits of meaning"),
        (lambda document: document["parts"][1].update(part="micro"), "by other limits of meaning"),
        (lambda document: document["parts"][1].update(cosine=0.8), "cosine 0.8, and below 0.8 it must be"),
    )
    for edit, why in lies:
        assert why in meaning_refusal(asked_of_meaning, edit), why
    assert "does not say it" in accepted(asked_of_meaning, lambda firewall: None)


def test_a_certificate_does_not_boast_of_a_model_that_policy_lacks(certified_world):
    """Show reviewers figures of an embedding model that main does not name."""
    assert "for which policy has no limit" in meaning_refusal(certified_world, lambda meaning: None)
