"""Attacks on exports: what is served is to be what was tested, and a child of whom it says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from attacker import SET, World
from worlds import CLUSTER

from fuzz.machine import gguf
from modelsmith.artifacts.seal import describe_export, seal
from modelsmith.artifacts.store import Store
from modelsmith.evidence.bundle import Governing, build, evidence_bytes
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.pulls import open_promotion
from modelsmith.promotion.records import export_tag, next_record
from modelsmith.promotion.since import since
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE
from modelsmith.schema.promotion import Export, ExportFacts
from modelsmith.signing.dsse import seal as seal_statement
from modelsmith.signing.dsse import statement
from modelsmith.signing.oms import sign_directory

OTHER = "sha256:" + "1" * 64


class Child:
    """Merged weights of the world's first specialist, sealed, signed and stored."""

    def __init__(self, world: World) -> None:
        self.world, parent, training = world, world.draft(1), world.training(1)
        export = Export(
            kind="merged", parent=parent.artifact, base_model=training.base_model,
            base_digest=training.base_digest, dtype="float32",
        )  # fmt: skip
        self.says = ExportFacts(parent=parent.specialist, export=export, toolkit="modelsmith 0.1.0, torch 2.13.0")
        self.folder = world.folder / "artifacts" / "merged"
        self.folder.mkdir(parents=True)
        (self.folder / "config.json").write_bytes(b"{}")
        (self.folder / "model.safetensors").write_bytes(b"merged")
        describe_export(self.folder, export, "Apache-2.0")
        self.artifact = seal(self.folder)
        sign_directory(self.folder, world.harness_keys / "harness.pem")
        Store(world.store).put(self.folder, self.artifact)
        name = f"iter-001-{self.artifact.removeprefix('sha256:')[:8]}"
        self.draft = replace(parent, specialist=name, artifact=self.artifact)

    def candidate(self, edit=None, more=None):
        """The files of its first record, what it says edited."""
        answer = json.loads(canonical_json(self.says))
        if edit:
            edit(answer)
        evidence = {"export.json": canonical_json(answer)} | (more or {})
        record = next_record(self.world.governed(), "candidate", self.draft, evidence)
        return self.world.record_files(record, evidence)

    def known(self):
        """Main knows it."""
        files = {"export.json": canonical_json(self.says)}
        self._merged("candidate", self.draft, files)
        return self

    def evidence(self):
        """Honest evidence of its own run."""
        world, main = self.world, self.world.governed()
        governed, cluster = world.eval_set(), world.cluster()
        run = world._run(self.draft.specialist, self.artifact, True)
        alone = replace(run, result=run.result.model_copy(update={"base": None}))
        base = world._run("base", cluster.base_model.digest, False)
        governing = Governing(governed, cluster, main.tree.folder_id(SET), since(main, cluster, "base"))
        return build(
            governing, self.draft.specialist, alone, base, (), world.training(1), 0.5, {"torch": "2.13.0"},
            export=self.says,
        )  # fmt: skip

    def evaluated(self, evidence):
        """What its records say of that eval."""
        run = evidence.candidate
        tag = export_tag(CLUSTER, self.draft.specialist, evidence.question, evidence.engine)
        return replace(self.draft, eval_run=run.run_id, eval_tag=tag, composite=run.headline.composite.value)

    def accepted(self, edit=None, **stated):
        """The files of ``eval-accepted``, its evidence edited and signed again, the record stating something else."""
        honest = self.evidence()
        answer = json.loads(evidence_bytes(honest))
        if edit:
            edit(answer)
        draft = replace(self.evaluated(honest), **stated)
        data, main = canonical_json(answer), self.world.governed()
        sealed = seal_statement(
            statement(EVIDENCE_FILE, data, EVIDENCE_TYPE, {}), self.world.harness_keys / "harness.pem"
        )
        files = {EVIDENCE_FILE: data, EVIDENCE_SIGNATURE: sealed}
        honestly = next_record(main, "eval-accepted", self.evaluated(honest), {})
        files |= packet_files(main, honestly, {EVIDENCE_FILE: evidence_bytes(honest)})
        return self.world.record_files(next_record(main, "eval-accepted", draft, files), files)

    def _merged(self, event, draft, files):
        number = open_promotion(self.world.harness(), event, draft, files, event, "Body.").number
        assert self.world.merge(number).status == "merged"


@pytest.fixture
def child(accepted):
    return Child(accepted)


def closed(world, files, saying):
    world.closed_to_everybody(world.commit(files), saying=saying)


def test_an_honest_export_is_accepted_and_main_verifies(child):
    """The control of those below."""
    child.known()
    number = child.world.open(child.world.commit(child.accepted()))
    assert child.world.merge(number).status == "merged"
    assert child.world.holds().promotions == 4


LIES = {
    "another parent": (lambda document: document.update(parent="iter-001-00000000"), "has no specialist"),
    "another adapter": (lambda document: document["export"].update(parent=OTHER), "another artifact"),
    "another base": (lambda document: document["export"].update(base_digest=OTHER), "another base model"),
    "itself": (lambda document: document["export"].update(kind="gguf", dtype="float32"), "export.json is not of type"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_export_is_no_child_of_whom_it_likes(child, lie):
    """Main knows the parent, its artifact and its base model; what is said otherwise is refused."""
    edit, saying = LIES[lie]
    closed(child.world, child.candidate(edit), saying)


def test_a_candidate_that_no_eval_accepted_is_not_exported(candidate):
    """Its weights would come in by another door, without the failure that they are known for."""
    closed(candidate, Child(candidate).candidate(), "no eval has accepted")


def test_a_candidate_is_not_both_trained_and_an_export(child):
    """Each reader would pick the one it likes."""
    more = {"training.json": canonical_json(child.world.training(1))}
    closed(child.world, child.candidate(more=more), "both trained and an export")


RUNS = {
    "the adapter's weights": (
        lambda document: document["candidate"].update(weights=document["export"]["export"]["parent"]),
        "the eval ran other weights than the artifact",
    ),
    "over a base model": (
        lambda document: document["candidate"].update(base=document["export"]["export"]["base_digest"]),
        "over another base model than its own",
    ),
    "as if trained": (lambda document: document.update(export=None), "differs from its record"),
    "another training": (
        lambda document: document["training"].update(rows=document["training"]["rows"] - 1),
        "lineage differs from the candidate's",
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_the_eval_of_other_weights_does_not_stand_for_an_export(child, run):
    """The adapter passed; its merged or quantised child has to pass, too."""
    edit, saying = RUNS[run]
    child.known()
    closed(child.world, child.accepted(edit), saying)


def test_an_export_s_run_has_a_tag_of_its_own(child):
    """The tag follows from the export, the question and the engine; the parent's leads to another run."""
    child.known()
    closed(child.world, child.accepted(eval_tag=f"{CLUSTER}-iter-001-candidate"), "eval_tag is not")


def test_what_is_planted_in_an_export_s_folder_is_seen_before_it_loads(child):
    """In the store, where whoever shares the disk can write: a second model, a hostile header, an adapter."""
    folder = Store(child.world.store).get(child.artifact)
    folder.chmod(0o755)
    for name, data in (("x.gguf", gguf(counts=(2**63, 1))), ("adapter_config.json", b"{}"), ("m.safetensors", b"")):
        (folder / name).write_bytes(data)
        with pytest.raises(IntegrityFailure) as refused:
            Store(child.world.store).verify(child.artifact)
        assert refused.value.code in ("unsafe-format", "wrong-kind", "file-added")
        (folder / name).unlink()
    Store(child.world.store).verify(child.artifact)
