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


def export(here, **other):
    """What an export of that adapter says, in these fields otherwise."""
    base = trained(here.main.tree)
    fields = {
        "kind": "merged", "parent": here.draft().artifact, "base_model": base.base_model,
        "base_digest": base.base_digest, "dtype": "float32",
    }  # fmt: skip
    inner = {name: other.pop(name) for name in list(other) if name in fields and name != "parent"}
    inner |= {"parent": other.pop("artifact")} if "artifact" in other else {}
    facts = {"parent": here.draft().specialist, "export": Export(**(fields | inner)), "toolkit": TOOLKIT}
    return ExportFacts(**(facts | other))


def proposed(here, facts, more=None, sums=b"export", **stated):
    """The pull request of a candidate that is an export."""
    evidence = {"export.json": canonical_json(facts)} | (more or {})
    record = next_record(here.main, "candidate", here.draft(1, sums, **stated), evidence)
    return here.files_of(record, evidence)


def failures(here, files):
    tree, change = here.proposed(files)
    return {c.name: c.sentence for c in promotion_checks(here.main, tree, change) if not c.passed}


def test_an_export_of_an_accepted_adapter_has_a_history_of_its_own(parent):
    files = proposed(parent, export(parent))
    assert failures(parent, files) == {}
    here = parent.commit(files)
    child = here.main.histories.find(here.draft(1, b"export").specialist)
    adapter = here.main.histories.find(parent.draft().specialist)
    assert (child.state, child.is_export, adapter.state) == ("candidate", True, "artifact-exported")
    assert (parent_of(here.main, child), base_beneath(here.main, child)) == (adapter.specialist, None)
    assert training_of(here.main, child) == training_of(here.main, adapter)
    assert exports_of(here.main, adapter) == (child,)


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
    here = parent.commit({path.replace("pricing", "other"): text})
    evidence = {"export.json": canonical_json(export(here))}
    facts = here.draft(1, b"export", cluster=here.draft().cluster.model_copy(update={"cluster": "rtb-other"}))
    record = next_record(here.main, "candidate", facts, evidence)
    assert "rtb-other has no specialist" in failures(here, here.files_of(record, evidence))["export"]


def test_an_export_of_an_export_is_refused(parent):
    here = parent.commit(proposed(parent, export(parent)))
    child = here.draft(1, b"export")
    nested = export(here, parent=child.specialist, artifact=child.artifact)
    assert "an export itself" in failures(here, proposed(here, nested, sums=b"nested"))["export"]


def test_training_does_not_go_on_from_an_export(parent):
    here = parent.commit(proposed(parent, export(parent)))
    evidence = training(here, iteration=2, parent=here.draft(1, b"export").specialist)
    record = next_record(here.main, "candidate", here.draft(2), evidence)
    assert "is an export and no adapter" in failures(here, here.files_of(record, evidence))["training"]


def test_a_candidate_is_trained_or_an_export_and_not_both(parent):
    both = failures(parent, proposed(parent, export(parent), training(parent)))
    assert both["files"] == "the candidate is said to be both trained and an export"


def test_an_unknown_kind_is_refused(parent):
    answer = json.loads(canonical_json(export(parent)))
    answer["export"]["kind"] = "awq"
    evidence = {"export.json": canonical_json(answer)}
    record = next_record(parent.main, "candidate", parent.draft(1, b"export"), evidence)
    assert "export" in failures(parent, parent.files_of(record, evidence))


def sealed(folder, told=None):
    """A sealed artifact: an export that says this of itself, else an adapter."""
    folder.mkdir()
    names = ("config.json", "model.safetensors") if told else ("adapter_config.json", "adapter_model.safetensors")
    for name in names:
        (folder / name).write_bytes(b"{}")
    if told:
        describe_export(folder, told, "Apache-2.0")
    seal(folder)
    return folder


def exported(here, folder, facts):
    """What `verify` and the gate say when the child's artifact is signed and listed on main."""
    sign_directory(folder, here.key)
    sums = (folder / SUMS_FILE).read_bytes()
    stated = here.draft(1, sums)
    candidate = {"export.json": canonical_json(facts)} if facts else training(here)
    for event, evidence in (("candidate", candidate), ("eval-accepted", {})):
        here = here.commit(here.files_of(next_record(here.main, event, stated, evidence), evidence))
    files = {name: (folder / name).read_bytes() for name in (SUMS_FILE, SIGNATURE_FILE)}
    found = failures(here, here.files_of(next_record(here.main, "artifact-exported", stated, files), files))
    return here, stated.specialist, found


def test_the_artifact_that_is_signed_must_be_of_the_kind_that_main_knows(parent, tmp_path):
    facts = export(parent)
    _, _, found = exported(parent, sealed(tmp_path / "right", facts.export), facts)
    assert found == {}
    _, _, found = exported(parent, sealed(tmp_path / "adapter"), facts)
    assert "another kind" in found["artifact"], "an adapter passed as merged"
    other = facts.export.model_copy(update={"parent": OTHER})
    _, _, found = exported(parent, sealed(tmp_path / "stranger", other), facts)
    assert "another kind" in found["artifact"], "merged from another adapter than its record says"
    _, _, found = exported(parent, sealed(tmp_path / "passed", facts.export), None)
    assert "another kind" in found["artifact"], "merged weights passed as a trained adapter"


def test_a_copy_of_another_kind_than_main_says_is_refused(parent, tmp_path):
    facts = export(parent)
    for name, exported_as, stated in (("merged", facts.export, None), ("adapter", None, facts)):
        folder = sealed(tmp_path / name, exported_as)
        here, specialist, _ = exported(parent, folder, stated)
        with pytest.raises(IntegrityFailure) as refused:
            check_copy(here.main, here.main.histories.by_specialist[specialist], folder)
        assert refused.value.code == "kind-differs"
