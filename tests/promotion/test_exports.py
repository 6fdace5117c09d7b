"""An export comes onto main as a child of an accepted adapter of its cluster, and as nothing else."""

from __future__ import annotations

import json

import pytest
from trained import trained

from modelsmith.artifacts.seal import describe_export, seal
from modelsmith.promotion.bases import base_beneath, exports_of, parent_of, training_of
from modelsmith.promotion.checks import promotion_checks
from modelsmith.promotion.records import next_record
from modelsmith.promotion.weights import check_copy
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import Export, ExportFacts
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE
from modelsmith.signing.oms import sign_directory

PARENT = ("candidate", "eval-accepted", "artifact-exported")
OTHER = "sha256:" + "e" * 64
TOOLKIT = "modelsmith 0.1.0, torch 2.13.0"


def training(repository, **other):
    return {"training.json": canonical_json(trained(repository.main.tree, **other))}


@pytest.fixture(scope="module")
def parent(repository):
    """Main with an adapter that an eval has accepted."""
    return repository.after(*PARENT, evidence=training(repository))


def export(repository, **other):
    """What an export of that adapter says, in these fields otherwise."""
    base = trained(repository.main.tree)
    fields = {
        "kind": "merged", "parent": repository.draft().artifact, "base_model": base.base_model,
        "base_digest": base.base_digest, "dtype": "float32",
    }  # fmt: skip
    inner = {name: other.pop(name) for name in list(other) if name in fields and name != "parent"}
    inner |= {"parent": other.pop("artifact")} if "artifact" in other else {}
    facts = {"parent": repository.draft().specialist, "export": Export(**(fields | inner)), "toolkit": TOOLKIT}
    return ExportFacts(**(facts | other))


def proposed(repository, facts, more=None, sums=b"export", **stated):
    """The pull request of a candidate that is an export."""
    evidence = {"export.json": canonical_json(facts)} | (more or {})
    record = next_record(repository.main, "candidate", repository.draft(1, sums, **stated), evidence)
    return repository.files_of(record, evidence)


def failures(repository, files):
    tree, change = repository.proposed(files)
    return {c.name: c.sentence for c in promotion_checks(repository.main, tree, change) if not c.passed}


def test_an_export_of_an_accepted_adapter_has_a_history_of_its_own(parent):
    files = proposed(parent, export(parent))
    assert failures(parent, files) == {}
    changed = parent.commit(files)
    child = changed.main.histories.find(changed.draft(1, b"export").specialist)
    adapter = changed.main.histories.find(parent.draft().specialist)
    assert (child.state, child.is_export, adapter.state) == ("candidate", True, "artifact-exported")
    assert (parent_of(changed.main, child), base_beneath(changed.main, child)) == (adapter.specialist, None)
    assert training_of(changed.main, child) == training_of(changed.main, adapter)
    assert exports_of(changed.main, adapter) == (child,)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"parent": "iter-001-00000000"}, "has no specialist"),
        ({"artifact": OTHER}, "another artifact"),
        ({"base_digest": OTHER}, "another base model"),
        ({"toolkit": None}, "leaves toolkit out"),
    ],
)
def test_an_export_that_names_another_parent_is_refused(parent, other, why):
    assert why in failures(parent, proposed(parent, export(parent, **other)))["export"]


def test_an_export_counts_as_its_parent_s_iteration(parent):
    evidence = {"export.json": canonical_json(export(parent))}
    record = next_record(parent.main, "candidate", parent.draft(2, b"export"), evidence)
    assert "another iteration" in failures(parent, parent.files_of(record, evidence))["export"]


def test_a_parent_that_no_eval_accepted_has_no_exports(repository):
    failed = repository.after("candidate", evidence=training(repository))
    assert "no eval has accepted" in failures(failed, proposed(failed, export(failed)))["export"]


def test_a_retired_parent_has_no_new_exports_and_its_old_ones_live_on(parent):
    files = proposed(parent, export(parent))
    retired = parent.after("deprecated")
    assert "deprecated" in failures(retired, proposed(retired, export(retired)))["export"]
    both = parent.commit(files).after("deprecated")
    assert both.main.histories.find(parent.draft(1, b"export").specialist).state == "candidate"


def test_a_parent_of_another_cluster_is_none(parent):
    path = "clusters/rtb-pricing/cluster.yaml"
    text = parent.main.tree.read(path).replace(b"cluster: rtb-pricing", b"cluster: rtb-other")
    changed = parent.commit({path.replace("pricing", "other"): text})
    evidence = {"export.json": canonical_json(export(changed))}
    facts = changed.draft(1, b"export", cluster=changed.draft().cluster.model_copy(update={"cluster": "rtb-other"}))
    record = next_record(changed.main, "candidate", facts, evidence)
    assert "rtb-other has no specialist" in failures(changed, changed.files_of(record, evidence))["export"]


def test_an_export_of_an_export_is_refused(parent):
    changed = parent.commit(proposed(parent, export(parent)))
    child = changed.draft(1, b"export")
    nested = export(changed, parent=child.specialist, artifact=child.artifact)
    assert "an export itself" in failures(changed, proposed(changed, nested, sums=b"nested"))["export"]


def test_training_does_not_go_on_from_an_export(parent):
    changed = parent.commit(proposed(parent, export(parent)))
    evidence = training(changed, iteration=2, parent=changed.draft(1, b"export").specialist)
    record = next_record(changed.main, "candidate", changed.draft(2), evidence)
    assert "is an export and no adapter" in failures(changed, changed.files_of(record, evidence))["training"]


def test_a_candidate_is_trained_or_an_export_and_not_both(parent):
    both = failures(parent, proposed(parent, export(parent), training(parent)))
    assert both["files"] == "the candidate is said to be both trained and an export"


def test_an_unknown_kind_is_refused(parent):
    answer = json.loads(canonical_json(export(parent)))
    answer["export"]["kind"] = "awq"
    evidence = {"export.json": canonical_json(answer)}
    record = next_record(parent.main, "candidate", parent.draft(1, b"export"), evidence)
    assert "export" in failures(parent, parent.files_of(record, evidence))


def sealed(folder, export_facts=None):
    """A sealed artifact: an export that says this of itself, else an adapter."""
    folder.mkdir()
    names = (
        ("config.json", "model.safetensors") if export_facts else ("adapter_config.json", "adapter_model.safetensors")
    )
    for name in names:
        (folder / name).write_bytes(b"{}")
    if export_facts:
        describe_export(folder, export_facts, "Apache-2.0")
    seal(folder)
    return folder


def exported(repository, folder, facts):
    """What `verify` and the gate say when the child's artifact is signed and listed on main."""
    sign_directory(folder, repository.key)
    sums = (folder / SUMS_FILE).read_bytes()
    stated = repository.draft(1, sums)
    candidate = {"export.json": canonical_json(facts)} if facts else training(repository)
    for event, evidence in (("candidate", candidate), ("eval-accepted", {})):
        repository = repository.commit(
            repository.files_of(next_record(repository.main, event, stated, evidence), evidence)
        )
    files = {name: (folder / name).read_bytes() for name in (SUMS_FILE, SIGNATURE_FILE)}
    problems = failures(
        repository, repository.files_of(next_record(repository.main, "artifact-exported", stated, files), files)
    )
    return repository, stated.specialist, problems


def test_the_artifact_that_is_signed_must_be_of_the_kind_that_main_knows(parent, tmp_path):
    facts = export(parent)
    _, _, problems = exported(parent, sealed(tmp_path / "right", facts.export), facts)
    assert problems == {}
    _, _, problems = exported(parent, sealed(tmp_path / "adapter"), facts)
    assert "another kind" in problems["artifact"], "an adapter passed as merged"
    other = facts.export.model_copy(update={"parent": OTHER})
    _, _, problems = exported(parent, sealed(tmp_path / "stranger", other), facts)
    assert "another kind" in problems["artifact"], "merged from another adapter than its record says"
    _, _, problems = exported(parent, sealed(tmp_path / "passed", facts.export), None)
    assert "another kind" in problems["artifact"], "merged weights passed as a trained adapter"


def test_a_copy_of_another_kind_than_main_says_is_refused(parent, tmp_path):
    facts = export(parent)
    for name, exported_as, stated in (("merged", facts.export, None), ("adapter", None, facts)):
        folder = sealed(tmp_path / name, exported_as)
        changed, specialist, _ = exported(parent, folder, stated)
        with pytest.raises(IntegrityFailure) as refused:
            check_copy(changed.main, changed.main.histories.by_specialist[specialist], folder)
        assert refused.value.code == "kind-differs"
