"""The firewall's certificates of main, computed again where this clone has the rows that they speak of."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from modelsmith import __version__
from modelsmith.diagnosis.certificate import certificate
from modelsmith.diagnosis.meaning import Meaning, agree
from modelsmith.loop.embedding import MISSING, embedder_of, find_weights
from modelsmith.loop.lineage import kept_rows, lineage_problem
from modelsmith.promotion.bases import export_of, training_of
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure
from modelsmith.schema.evidence import Firewall
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

Recheck = Literal[
    "recomputed",
    "recomputed, but for its meaning: the embedding model is not at hand",
    "recomputed, but for its meaning: main names another embedding model",
    "rows not at hand",
    "other eval set",
    "no certificate",
]


MEMORY: Final = "certificates.json"
"""In the clone's private folder: certificates that were found right by this version, which `recheck` believes."""


class Memory(Frozen):
    """Digests of what was computed, and from what."""

    right: tuple[Digest, ...] = ()


def recheck(workspace: Workspace, main: GovernedState, *, full: bool) -> dict[str, Recheck]:
    """What became of the certificate of each specialist whose eval main has accepted.

    ``other eval set``: main asks something else by now, so the figures of its day cannot be found again. What was
    computed from the same rows and texts before is believed, unless ``full``; that the rows are the same is not. What
    an embedding model found is computed again where main names that model and it is at hand, and may differ by what
    machines differ by (`diagnosis.meaning.TOLERANCE`).

    Raises:
        IntegrityFailure: ``firewall-differs`` when the rows say something else than certificate or lineage.
    """
    accepted = [
        name
        for name, history in sorted(main.histories.by_specialist.items())
        if any(record.event == "eval-accepted" for record in history.records)
    ]
    path = workspace.private / MEMORY
    known = set() if full else _remembered(path)
    right = set(known)
    found = {name: _recheck(workspace, main, name, right, full) for name in accepted}
    if right != known:
        with suppress(OSError):
            write_atomically(path, canonical_json(Memory(right=tuple(sorted(right)))))
    return found


def _remembered(path: Path) -> set[str]:
    try:
        return {*Memory.model_validate_json(read_plain(path)).right}
    except (OSError, ValueError):
        return set()


def _recheck(workspace: Workspace, main: GovernedState, name: str, right: set[str], full: bool) -> Recheck:
    history = main.histories.find(name)
    export, facts = export_of(main, history), training_of(main, history)
    number = (main.histories.find(export.parent) if export else history).records[0].iteration
    folder = workspace.cluster_folder(history.cluster) / "iterations" / f"{number:03d}"
    rows = kept_rows(folder, facts) if facts else None
    if rows is None or facts is None:
        return "rows not at hand"
    evidence = evidence_of(main, history)
    if evidence.firewall is None:
        return "no certificate"
    governed = load_eval_set(main.tree, load_cluster(main.tree, history.cluster).eval_set)
    if main.tree.folder_id(governed.folder) != evidence.eval_tree:
        return "other eval set"
    why = lineage_problem(facts, rows)
    same = digest([__version__, evidence.firewall.model_dump(mode="json"), evidence.eval_tree])
    missing: Recheck | None = None
    if not why and same not in right:
        meaning, missing = _meaning(workspace, main, evidence.firewall, full)
        if not _agrees(evidence.firewall, certificate(governed, rows, facts.rows_digest, meaning)):
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
    return "recomputed"


def _meaning(
    workspace: Workspace, main: GovernedState, said: Firewall, full: bool
) -> tuple[Meaning | None, Recheck | None]:
    """What is needed to compute again what the certificate says of meaning, or why there is none."""
    if said.meaning is None:
        return None, None
    embedder = embedder_of(workspace, main.policy, anew=full)
    if embedder is None or embedder.model.identity != said.meaning.settings:
        return None, "recomputed, but for its meaning: main names another embedding model"
    try:
        find_weights(workspace, embedder.model)
    except InfrastructureFailure as error:
        if error.code not in (MISSING, "base-model-download", "extra-missing"):
            raise
        return None, "recomputed, but for its meaning: the embedding model is not at hand"
    return Meaning(embedder, {one.part: one.most_cosine for one in said.meaning.parts}), None


def _agrees(said: Firewall, found: Firewall) -> bool:
    words = [one.model_copy(update={"meaning": None}) for one in (said, found)]
    if words[0] != words[1]:
        return False
    return found.meaning is None or (said.meaning is not None and agree(said.meaning, found.meaning))
