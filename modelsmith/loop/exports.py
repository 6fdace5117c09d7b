"""Exports: weights that stand alone, made from an accepted adapter, and their own way to main.

Each step finds out what is already there: the artifact in the store or in its folder, the record on main, the run. So
the same command goes on from wherever the last one ended.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from modelsmith.artifacts.kinds import export_of as predicate_of
from modelsmith.artifacts.seal import describe_export, seal, verify_artifact
from modelsmith.artifacts.store import Store
from modelsmith.diagnosis.certificate import nearest_of
from modelsmith.governance.routing import render_routing
from modelsmith.governance.states import SpecialistHistory
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.certificates import full_certificate, rows_at_hand
from modelsmith.loop.context import EXPORTS, IterationContext, open_context
from modelsmith.loop.embedding import meaning_of
from modelsmith.loop.engines import engine_of
from modelsmith.loop.evals import target_of
from modelsmith.loop.iteration import BegunIteration, Ended, ToAssess, ToPromote, Waiting, WithCandidate
from modelsmith.loop.lineage import versions
from modelsmith.loop.phases import (
    ARTIFACT_FOLDER,
    assess_candidate,
    candidate_run,
    ended_of,
    eval_compared,
    runs_of,
    waiting_of,
)
from modelsmith.loop.promotions import note_advances, promote_accepted, promote_export_record, promote_exported
from modelsmith.promotion.bases import export_of, exports_of, training_of
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.overrides import override_of
from modelsmith.promotion.records import RecordDraft, export_tag, is_assessment
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.load import load_cluster
from modelsmith.schema.canonical import file_digest, sha256
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.evidence import Firewall
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.progress import Progress
from modelsmith.schema.promotion import Export, ExportDtype, ExportFacts, ExportKind, TrainingFacts
from modelsmith.signing.files import SUMS_FILE

BUILDING = "building"
GGUF_NAME = "model.gguf"


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export: its kind, type and file."""

    kind: ExportKind
    dtype: ExportDtype | None = None
    """Type of merged weights."""
    file: Path | None = None
    """GGUF file that was made elsewhere."""


def export(harness: Harness, specialist: str, spec: ExportSettings) -> Waiting | Ended:
    """Make the export, let main know it, evaluate it, and take it as far as the harness's gates go.

    Returns:
        Where it stands, as an iteration of its own: ``done`` with its outcome.

    Raises:
        InvalidInput: ``not-exportable``, ``weights-missing``, ``rows-missing``, and as `evaluate`.
        IntegrityFailure: what was stored, or the file that was given, is not what it has to be.
        InfrastructureFailure: ``busy``, ``merge-failed``, and as `evaluate`.
    """
    workspace = harness.workspace
    workspace.require_clean()
    latest = MainReader(harness)
    main = latest.read()
    parent = main.histories.find(specialist)
    cluster = load_cluster(main.tree, parent.cluster)
    training = _require_exportable(main, parent, cluster)
    with workspace.lock(f"iterate-{cluster.cluster}"):
        made_export = Export(
            kind=spec.kind,
            parent=parent.artifact,
            base_model=training.base_model,
            base_digest=training.base_digest,
            dtype=spec.dtype,
        )
        bench = _Bench(harness, latest, main, parent, cluster, made_export)
        artifact = bench.adopted() if spec.file is None else None
        artifact = artifact or bench.make(spec.file)
        name = bench.name(artifact)
        history = main.histories.by_specialist.get(name)
        if history is not None and history.state == "deprecated":
            raise _refused(f"{name} is this very export, and it is deprecated", parent.cluster)
        facts = ExportFacts(parent=specialist, export=made_export, toolkit=versions())
        promote_export_record(harness, latest.read(), bench.draft(artifact), facts)
        return _through(bench, main.tree.commit, name, artifact, training)


def override_export(harness: Harness, latest: MainReader, history: SpecialistHistory, reason: str) -> Waiting | Ended:
    """Ask a person to let the INCONCLUSIVE eval of an export count.

    Returns:
        Where it stands: ``waiting`` with the pull request.

    Raises:
        ModelsmithError: as `export`.
    """
    main = latest.read()
    facts = export_of(main, history)
    assert facts
    parent, cluster = main.histories.find(facts.parent), load_cluster(main.tree, history.cluster)
    training = _require_exportable(main, parent, cluster)
    bench = _Bench(harness, latest, main, parent, cluster, facts.export)
    return _through(bench, main.tree.commit, history.specialist, history.artifact, training, reason)


def _require_exportable(main: GovernedState, parent: SpecialistHistory, cluster: Cluster) -> TrainingFacts:
    """How the adapter was trained, unless nothing may be made from it.

    Raises:
        InvalidInput: ``not-exportable``.
    """
    name, training = parent.specialist, training_of(main, parent)
    if parent.is_export:
        raise _refused(f"{name} is an export itself; exports are made from adapters", parent.cluster)
    if parent.state == "deprecated":
        raise _refused(f"{name} is deprecated; nothing is made from it any more", parent.cluster)
    if training is None or all(record.event != "eval-accepted" for record in parent.records):
        raise _refused(f"{name} is {parent.state}: no eval has accepted it", parent.cluster)
    if training.base_digest != cluster.base_model.digest:
        raise _refused(f"{name} lies over a base model that {parent.cluster} has left", parent.cluster)
    return training


def _refused(problem: str, cluster: str) -> InvalidInput:
    return InvalidInput(
        "not-exportable", f"{problem}.", f"Name an accepted adapter of {cluster}: `modelsmith status` lists them."
    )


@dataclass(frozen=True)
class _Bench:
    """Where an export is made, sealed and kept."""

    harness: Harness
    latest: MainReader
    main: GovernedState
    """Main as it was when the export was asked for."""
    parent: SpecialistHistory
    cluster: Cluster
    export: Export

    @property
    def folder(self) -> Path:
        """The cluster's exports in this clone."""
        return self.harness.workspace.cluster_folder(self.cluster.cluster) / EXPORTS

    @property
    def store(self) -> Store:
        """Where artifacts are kept."""
        return Store(self.harness.workspace.store(self.cluster.store))

    def name(self, artifact: str) -> str:
        """Specialist id: the parent's iteration, the export's own artifact."""
        return f"iter-{self.parent.records[0].iteration:03d}-{artifact.removeprefix('sha256:')[:8]}"

    def draft(self, artifact: str) -> RecordDraft:
        """The draft of its first record."""
        return RecordDraft(
            cluster=self.cluster,
            specialist=self.name(artifact),
            artifact=artifact,
            iteration=self.parent.records[0].iteration,
            eval_run=None,
            eval_tag=None,
            composite=None,
            requested_by=self.harness.actor,
            prepared_by=self.harness.preparer,
        )

    def adopted(self) -> str | None:
        """The same export, where main knows it and its weights are here, or where an earlier call sealed it."""
        for child in exports_of(self.main, self.parent):
            facts = export_of(self.main, child)
            if facts and facts.export == self.export and child.state != "deprecated" and self.store.get(child.artifact):
                return child.artifact
        for folder in sorted(self.folder.glob(f"iter-*/{ARTIFACT_FOLDER}")):
            artifact = sealed_as(folder)
            if artifact is not None and predicate_of(folder) == self.export:
                self.store.put(folder, artifact)
                return artifact
        return None

    def make(self, file: Path | None) -> str:
        """Make the export, seal it and put it into the store; its artifact id.

        Raises:
            ModelsmithError: as `export`.
        """
        building = self.folder / BUILDING
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        target = building / ARTIFACT_FOLDER
        if file is None:
            self._merge(target)
        else:
            target.mkdir()
            shutil.copyfile(file, target / GGUF_NAME)
        describe_export(target, self.export, self.cluster.base_model.license)
        artifact = seal(target)
        if file is not None:
            self._require_loadable(target / GGUF_NAME)
        self.store.put(target, artifact)
        own = self.folder / self.name(artifact)
        shutil.rmtree(own / ARTIFACT_FOLDER, ignore_errors=True)
        own.mkdir(exist_ok=True)
        target.rename(own / ARTIFACT_FOLDER)
        shutil.rmtree(building, ignore_errors=True)
        return artifact

    def _merge(self, target: Path) -> None:
        from modelsmith.substrates.base_models import resolve
        from modelsmith.substrates.merging import write_merged

        workspace, dtype = self.harness.workspace, self.export.dtype
        assert dtype
        adapter = target_of(workspace, self.cluster, self.parent.specialist, self.parent.artifact).adapter
        assert adapter
        base = resolve(self.cluster.base_model, workspace.root, workspace.models, workspace.models_memory)
        workspace.notify(Progress("export", f"merges {self.parent.specialist} into {self.export.base_model} ({dtype})"))
        write_merged(base.folder, adapter, target, dtype)

    def _require_loadable(self, file: Path) -> None:
        """Refuse weights that no engine here can read, before main hears of them."""
        from modelsmith.substrates.gguf import converted

        workspace = self.harness.workspace
        workspace.notify(Progress("export", f"reads {file.name} with transformers"))
        converted(file, file_digest(file), workspace.models, workspace.models_memory)


def sealed_as(folder: Path) -> str | None:
    """Artifact id of a folder that is whole; None for any other."""
    try:
        artifact = sha256(read_plain(folder / SUMS_FILE))
        verify_artifact(folder, artifact)
    except (OSError, IntegrityFailure):
        return None
    return artifact


def _through(
    bench: _Bench, commit: str, name: str, artifact: str, training: TrainingFacts, override: str | None = None
) -> Waiting | Ended:
    """Evaluate the export and take it through the harness's gates, with an ``override`` of an INCONCLUSIVE asked for.

    Once main has accepted its eval, by whatever gate, nothing is judged again.
    """
    harness, cluster = bench.harness, bench.cluster
    histories = bench.main.histories.of_cluster(cluster.cluster)
    serving = render_routing(cluster.cluster, histories, cluster.deployment.traffic_share).serving[-1].specialist
    number = bench.parent.records[0].iteration
    beginning = BegunIteration(cluster=cluster.cluster, number=number, commit=commit, reference=serving)
    context = open_context(harness, beginning, bench.latest)
    main = context.main()
    history = main.histories.find(name)
    if history.state not in ("candidate", "eval-accepted"):
        tag = next((record.eval_tag for record in reversed(history.records) if record.eval_tag), "") or ""
        return Ended(
            **beginning.known,
            specialist=name,
            artifact=artifact,
            export_tag=tag,
            outcome="INCONCLUSIVE" if override_of(main, history) else "PASS",
            reason=f"{name} is {history.state}",
        )
    engine = engine_of(cluster, target_of(harness.workspace, cluster, name, artifact))
    tag = export_tag(cluster.cluster, name, context.governed.question(), engine)
    sealed = ToAssess(**beginning.known, specialist=name, artifact=artifact, export_tag=tag)
    accepted = history.state == "eval-accepted"
    failed = None if accepted else _failed_before(context, sealed)
    if failed is not None and (override is None or failed.outcome != "INCONCLUSIVE"):
        return failed
    eval_compared(context, sealed)
    judged = assess_candidate(context, sealed)
    if isinstance(judged, Ended) and not accepted and not override:
        return judged
    iteration = ToPromote(
        **judged.known, **judged.candidate, outcome=judged.outcome, override=override, reason=judged.reason
    )
    candidate = candidate_run(context, iteration)
    pull = promote_accepted(
        context, iteration, runs_of(context, iteration, candidate), *_nearness(context, bench, training)
    )
    if pull is not None and pull.status != "merged":
        return waiting_of(iteration, pull.number, iteration.reason)
    _lay_out(context, bench, iteration)
    promote_exported(context, iteration, candidate)
    shutil.rmtree(context.folder(iteration) / ARTIFACT_FOLDER, ignore_errors=True)
    main = context.main()
    note_advances(ledger_of(context.workspace), main)
    return ended_of(iteration, f"{name} is {main.histories.find(name).state}")


def _failed_before(context: IterationContext, iteration: ToAssess) -> Ended | None:
    """The export as it ended, where an eval of these very weights did not pass.

    The same weights under a rule or a question that was changed with that result in sight would measure nothing.
    """
    runs = ledger_of(context.workspace).runs(cluster=iteration.cluster)
    for run in runs:
        own = run.weights == iteration.artifact and is_assessment(run.tag, run.cluster, run.model)
        judged = (
            next((verdict for verdict in run.by_rule if verdict.verdict != "PASS"), None)
            if run.is_complete and own
            else None
        )
        if judged is not None:
            why = f"{iteration.specialist} was evaluated and did not pass ({judged.verdict}, run {run.tag})"
            candidate = iteration.candidate | {"export_tag": run.tag}
            return Ended(**iteration.known, **candidate, outcome=judged.verdict, reason=why)
    return None


def _nearness(context: IterationContext, bench: _Bench, training: TrainingFacts) -> tuple[float, Firewall | None]:
    """How near the parent's training rows come to what is scored today, and the firewall's certificate.

    From the rows, where this clone trained it; else the parent's, where that is about today's question.

    Raises:
        InvalidInput: ``rows-missing``.
    """
    rows = rows_at_hand(context.workspace, bench.main, bench.parent, training)
    if rows is not None:
        meaning = meaning_of(context.workspace, bench.main.policy)
        firewall = full_certificate(context.workspace, bench.main, context.governed, training, rows, meaning)
        return nearest_of(firewall), firewall
    evidence = evidence_of(bench.main, bench.parent)
    if evidence.question == context.governed.question():
        return evidence.nearest.training_to_scored, evidence.firewall
    raise InvalidInput(
        "rows-missing",
        f"The rows that {bench.parent.specialist} was trained on are not in this clone, and its evidence is about an "
        "older eval set: nobody can say how near they come to what is asked today.",
        f"Export it where it was trained, or run `modelsmith iterate {context.cluster.cluster}` for a successor.",
        specialist=bench.parent.specialist,
    )


def _lay_out(context: IterationContext, bench: _Bench, iteration: WithCandidate) -> None:
    """The artifact beside the evidence, to be signed, also where another clone made it."""
    folder = context.folder(iteration) / ARTIFACT_FOLDER
    stored = bench.store.get(iteration.artifact)
    if stored is not None and sealed_as(folder) != iteration.artifact:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(stored, folder)
