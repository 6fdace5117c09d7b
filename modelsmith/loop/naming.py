"""The model that finds names of people, where policy names one. Nothing is ever downloaded for it."""

from __future__ import annotations

from modelsmith.loop.embedding import weights_of
from modelsmith.repository.private import Places
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.governance import Private
from modelsmith.schema.progress import Progress
from modelsmith.schema.source import Chat


def finder_of(workspace: Workspace, private: Private) -> Places | None:
    """Function that finds names in a text; None where policy names no model for it.

    Raises:
        InfrastructureFailure: ``names-missing`` when its weights are not on this machine; as `NameFinder`.
        IntegrityFailure: ``base-model-digest`` when they are not the pinned ones.
        InvalidInput: as `NameFinder`.
    """
    model = private.names
    if model is None:
        return None
    from modelsmith.substrates.local_facts import local_facts

    local_facts(Chat())

    def missing(why: str) -> InfrastructureFailure:
        return InfrastructureFailure(
            "names-missing",
            f"The model {model.name}, by which policy.yaml has names taken out, cannot be used: {why.rstrip('.')}. "
            "Nothing was written.",
            "Put its folder, as the digest pins it, where private.names.uri says. The toolkit downloads none.",
            model=model.name,
            uri=model.uri,
        )

    folder = weights_of(workspace, model.source, missing)
    workspace.notify(Progress("capture", f"loading {model.name}, which finds names"))
    from modelsmith.substrates.naming import NameFinder

    return NameFinder(model, folder)
