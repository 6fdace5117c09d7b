"""The firewall's certificates: made of every batch of an adapter's past, and those of main computed again.

Rows lie in the clone that trained on them. What it has not trained itself is taken from main's own certificates, as
long as main asks the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from modelsmith import __version__
from modelsmith.diagnosis.certificate import certificate
from modelsmith.diagnosis.meaning import Meaning, agree
from modelsmith.governance.routing import BASE
from modelsmith.governance.states import SpecialistHistory
from modelsmith.loop.embedding import MISSING, embedder_of, find_weights
from modelsmith.loop.lineage import kept_rows, lineage_problem
from modelsmith.promotion.bases import ancestors_of, export_of, training_of
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.evidence import Ancestor, Firewall
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.training_row import TrainingRow
from modelsmith.signing.files import write_atomically

Recheck = Literal[
    "recomputed",
    "recomputed, but for its meaning: the embedding model is not at hand",
    "recomputed, but for its meaning: main names another embedding model",
    "recomputed, but for adapters before it: their rows are not at hand",
    "rows not at hand",
    "other eval set",
    "no certificate",
]


MEMORY: Final = "certificates.json"
"""In the clone's private folder: certificates that were found right by this version, which `recheck` believes."""


class Memory(Frozen):
    """Digests of what was computed, and from what."""

    right: tuple[Digest, ...] = ()


def rows_at_hand(
    workspace: Workspace, main: GovernedState, history: SpecialistHistory, facts: TrainingFacts
) -> tuple[TrainingRow, ...] | None:
    """What a specialist was trained on; of an export, its parent. None where these very rows do not lie here."""
    export = export_of(main, history)
    number = (main.histories.find(export.parent) if export else history).iteration
    return kept_rows(workspace.cluster_folder(history.cluster) / "iterations" / f"{number:03d}", facts)


def full_certificate(
    workspace: Workspace,
    main: GovernedState,
    governed: GovernedSet,
    facts: TrainingFacts,
    rows: Sequence[TrainingRow],
    meaning: Meaning | None,
) -> Firewall:
    """The certificate of a training: of its own rows, and of those of each adapter that it went on from.

    Raises:
        InvalidInput: ``rows-missing``: nobody here can say how near the rows of one of them come to what is scored.
    """
    own = certificate(governed, rows, facts.rows_digest, meaning)
    return own.model_copy(update={"ancestors": past_of(workspace, main, governed, facts.parent, meaning)})


def past_of(
    workspace: Workspace, main: GovernedState, governed: GovernedSet, parent: str, meaning: Meaning | None
) -> tuple[Ancestor, ...]:
    """What a training that goes on from this adapter finds of it and of those before it; none for the base model.

    Raises:
        InvalidInput: as `full_certificate`.
    """
    if parent == BASE:
        return ()
    history = main.histories.find(parent)
    facts = training_of(main, history)
    assert facts
    rows = rows_at_hand(workspace, main, history, facts)
    if rows is not None:
        own = _as_ancestor(parent, certificate(governed, rows, facts.rows_digest, meaning))
        return own, *past_of(workspace, main, governed, facts.parent, meaning)
    firewall = _certificate_on_main(main, history, governed, meaning)
    if firewall is None:
        raise InvalidInput(
            "rows-missing",
            f"The rows that {parent} was trained on are not in this clone, and main has no certificate of them for "
            "what it asks today. Nobody can say how near they come to it, and an adapter after that one knows them.",
            f"Work where {parent} was trained, or copy its iteration's folder from there.",
            specialist=parent,
        )
    return _as_ancestor(parent, firewall), *firewall.ancestors


def _certificate_on_main(
    main: GovernedState, history: SpecialistHistory, governed: GovernedSet, meaning: Meaning | None
) -> Firewall | None:
    """Main's own certificate of a specialist and of all before it, where it speaks of what is asked today."""
    if not history.accepted:
        return None
    evidence = evidence_of(main, history)
    firewall = evidence.firewall
    if firewall is None or evidence.question != governed.question() or not _is_by(firewall, meaning):
        return None
    past = [
        (specialist_history.specialist, facts.rows_digest)
        for specialist_history, facts in ancestors_of(main, evidence.training)
    ]
    return firewall if [(ancestor.specialist, ancestor.rows) for ancestor in firewall.ancestors] == past else None


def _is_by(firewall: Firewall, meaning: Meaning | None) -> bool:
    """Whether a certificate speaks of meaning by policy's model and limits of today; of none where there are none."""
    if firewall.meaning is None or meaning is None:
        return firewall.meaning is None and meaning is None
    most = {part.part: part.most_cosine for part in firewall.meaning.parts}
    return firewall.meaning.settings == meaning.embedder.model.identity and most == dict(meaning.most)


def _as_ancestor(specialist: str, firewall: Firewall) -> Ancestor:
    return Ancestor(specialist=specialist, rows=firewall.rows, parts=firewall.parts, meaning=firewall.meaning)


def recheck(workspace: Workspace, main: GovernedState, *, full: bool) -> dict[str, Recheck]:
    """Check again the certificate of each specialist whose eval main has accepted.

    ``other eval set``: main asks something else by now, so the figures of its day cannot be found again. What was
    computed from the same rows and texts before is believed, unless ``full``; that the rows are the same is not. What
    an embedding model found is computed again where main names that model and it is at hand, and may differ by what
    machines differ by (`diagnosis.meaning.TOLERANCE`).

    Raises:
        IntegrityFailure: ``firewall-differs`` when the rows say something else than certificate or lineage.
    """
    accepted = [name for name, history in sorted(main.histories.by_specialist.items()) if history.accepted]
    path = workspace.private / MEMORY
    remembered = set() if full else _remembered(path)
    right = set(remembered)
    rechecks = {name: _recheck(workspace, main, name, right, full) for name in accepted}
    if right != remembered:
        with suppress(OSError):
            write_atomically(path, canonical_json(Memory(right=tuple(sorted(right)))))
    return rechecks


def _remembered(path: Path) -> set[str]:
    try:
        return {*Memory.model_validate_json(read_plain(path)).right}
    except (OSError, ValueError):
        return set()


def _recheck(workspace: Workspace, main: GovernedState, name: str, right: set[str], full: bool) -> Recheck:
    history = main.histories.find(name)
    facts = training_of(main, history)
    rows = rows_at_hand(workspace, main, history, facts) if facts else None
    if rows is None or facts is None:
        return "rows not at hand"
    evidence = evidence_of(main, history)
    if evidence.firewall is None:
        return "no certificate"
    governed = load_eval_set(main.tree, load_cluster(main.tree, history.cluster).eval_set)
    if main.tree.folder_id(governed.folder) != evidence.eval_tree:
        return "other eval set"
    why = lineage_problem(facts, rows)
    before = {
        past_history.specialist: rows_at_hand(workspace, main, past_history, past)
        for past_history, past in ancestors_of(main, evidence.training)
    }
    present = sorted(specialist for specialist, past in before.items() if past is not None)
    same = digest([__version__, evidence.firewall.model_dump(mode="json"), evidence.eval_tree, present])
    missing: Recheck | None = None
    if not why and same not in right:
        meaning, missing = _meaning(workspace, main, evidence.firewall, full)
        recomputed = certificate(governed, rows, facts.rows_digest, meaning)
        past = [
            ancestor if (taught := before.get(ancestor.specialist)) is None
            else _as_ancestor(ancestor.specialist, certificate(governed, taught, ancestor.rows, meaning))
            for ancestor in evidence.firewall.ancestors
        ]  # fmt: skip
        if not _agrees(evidence.firewall, recomputed.model_copy(update={"ancestors": tuple(past)})):
            why = "its rows are nearer to scored texts, or less near, than its certificate says"
    if why:
        raise IntegrityFailure(
            "firewall-differs",
            f"{name}: {why}",
            "Do not deploy it. The rows lie in this clone: find out who wrote the evidence or the rows anew.",
            specialist=name,
        )
    if missing:
        return missing
    right.add(same)
    if len(present) < len(before):
        return "recomputed, but for adapters before it: their rows are not at hand"
    return "recomputed"


def _meaning(
    workspace: Workspace, main: GovernedState, firewall: Firewall, full: bool
) -> tuple[Meaning | None, Recheck | None]:
    """What is needed to compute again what the certificate says of meaning, or why there is none."""
    if firewall.meaning is None:
        return None, None
    embedder = embedder_of(workspace, main.policy, anew=full)
    if embedder is None or embedder.model.identity != firewall.meaning.settings:
        return None, "recomputed, but for its meaning: main names another embedding model"
    try:
        find_weights(workspace, embedder.model)
    except InfrastructureFailure as error:
        if error.code not in (MISSING, "base-model-download", "extra-missing"):
            raise
        return None, "recomputed, but for its meaning: the embedding model is not at hand"
    return Meaning(embedder, {part.part: part.most_cosine for part in firewall.meaning.parts}), None


def _agrees(stated: Firewall, recomputed: Firewall) -> bool:
    if len(stated.ancestors) != len(recomputed.ancestors):
        return False
    past = zip(stated.ancestors, recomputed.ancestors, strict=True)
    return _same(stated, recomputed) and all(_same(ancestor, other) for ancestor, other in past)


def _same(stated: Firewall | Ancestor, recomputed: Firewall | Ancestor) -> bool:
    alone = {"meaning": None} | ({"ancestors": ()} if isinstance(stated, Firewall) else {})
    if stated.model_copy(update=alone) != recomputed.model_copy(update=alone):
        return False
    return recomputed.meaning is None or (stated.meaning is not None and agree(stated.meaning, recomputed.meaning))
