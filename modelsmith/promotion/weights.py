"""Sealed artifacts at hand, held against what main says about them."""

from __future__ import annotations

from pathlib import Path

from modelsmith.artifacts.kinds import export_of as predicate_of
from modelsmith.artifacts.seal import base_of, verify_artifact
from modelsmith.artifacts.store import Store
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.promotion.bases import base_beneath, export_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import SIGNATURE_FILE
from modelsmith.substrates.gguf import is_converted


def check_weights(main: GovernedState, stores: dict[str, Path], specialists: frozenset[str]) -> dict[str, str]:
    """Check these specialists' artifacts where they are at hand; ``stores`` gives each cluster's store folder.

    Returns:
        Specialist -> ``checked`` or ``not checked``.

    Raises:
        IntegrityFailure: as `check_copy`, or ``lost-weights`` where policy requires them.
    """
    results: dict[str, str] = {}
    for name in sorted(specialists):
        history = main.histories.by_specialist[name]
        artifact = Store(stores[history.cluster]).get(history.artifact)
        if artifact is not None:
            check_copy(main, history, artifact)
        elif main.policy.require_weights:
            raise IntegrityFailure(
                "lost-weights",
                f"The weights of {name} are not in the store",
                "Fetch them into the store.",
                name=name,
            )
        results[name] = "checked" if artifact else "not checked"
    return results


def check_converted(main: GovernedState, models: Path) -> tuple[str, ...]:
    """Read every byte of the converted base models that main's clusters pin, where they are at hand.

    Returns:
        Names of those that were checked.

    Raises:
        IntegrityFailure: ``base-model-changed``.
    """
    clusters = {path.split("/")[1] for path in main.tree.paths("clusters") if path.endswith("/cluster.yaml")}
    sources = {source.digest: source for name in clusters if (source := load_cluster(main.tree, name).base_model)}
    checked = []
    for digest, source in sorted(sources.items(), key=lambda item: item[1].name):
        folder = models / digest.removeprefix("sha256:")
        if not folder.is_dir():
            continue
        if not is_converted(folder):
            raise IntegrityFailure(
                "base-model-changed",
                f"The converted base model {source.name} is not what was converted: a file changed, is missing or new.",
                f"Remove {folder}; the next eval converts it again from the pinned file.",
                source=source.name,
            )
        checked.append(source.name)
    return tuple(checked)


def check_copy(main: GovernedState, history: SpecialistHistory, folder: Path) -> None:
    """Refuse a folder that is not exactly the specialist's artifact, with the signature that main holds of it.

    Main's ``model.sig`` was verified when its promotion was judged, under the keys of that time. So an equal copy of it
    needs no key of today: it still holds after the key that made it was replaced.

    Raises:
        IntegrityFailure: ``signature-differs``, ``base-differs``, ``kind-differs``, or as `check`.
    """
    exported = next((record for record in history.records if record.event == "artifact-exported"), None)
    if exported:
        signature, signed = folder / SIGNATURE_FILE, main.tree.read(f"{record_folder(exported)}/{SIGNATURE_FILE}")
        if not signature.is_file() or read_plain(signature) != signed:
            raise IntegrityFailure(
                "signature-differs",
                f"{history.specialist} carries another signature than main",
                f"Restore {SIGNATURE_FILE} from main.",
                path=str(signature),
            )
    verify_artifact(folder, history.artifact)
    export = export_of(main, history)
    if predicate_of(folder) != (export.export if export else None):
        raise IntegrityFailure(
            "kind-differs",
            f"The artifact of {history.specialist} says otherwise than main whether it is an export, and of what",
            "Do not use it; make the export again.",
            specialist=history.specialist,
        )
    beneath = base_beneath(main, history)
    if beneath is not None and base_of(folder) != beneath:
        raise IntegrityFailure(
            "base-differs",
            f"The artifact of {history.specialist} names another base model than main says it was trained over",
            "Do not use it; train a successor.",
            specialist=history.specialist,
        )
