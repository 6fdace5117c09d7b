"""Whether a clone's objects are what their ids say: git itself does not look when it reads."""

from __future__ import annotations

from modelsmith.repository.git import Git
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure

_PROMISORS = (".promisor", ".partialclonefilter")
"""Settings of a remote by each of which git takes it for one that gives missing objects later."""


def require_sound(git: Git) -> None:
    """Refuse a repository whose history is cut off or whose objects are not what their ids say.

    A clone made by path copies the other side's objects without reading them, and git does not compare what it reads
    with the id: whoever can write to that disk can put other content under the id of an approved file.

    Raises:
        IntegrityFailure: ``shallow-history``, ``partial-clone`` or ``damaged-object``.
    """
    if git.text("rev-parse", "--is-shallow-repository") == "true":
        raise IntegrityFailure(
            "shallow-history",
            "The history of this clone is cut off, so what lies before it cannot be judged",
            "Fetch the rest: `git fetch --unshallow`. If the forge itself is cut off, do not trust it.",
        )
    settings = git.text("config", "--name-only", "--list").splitlines()  # files that the clone's own includes, too
    if any(name == "extensions.partialclone" or name.endswith(_PROMISORS) for name in settings):
        raise IntegrityFailure(
            "partial-clone",
            "This clone was made without some of its objects, and verify fetches nothing",
            "Clone the forge as a whole: `git clone` without --filter.",
        )
    try:
        git.run("fsck", "--no-dangling", "--no-reflogs", "--no-progress")
    except InfrastructureFailure as error:
        lines = str(error.details.get("stderr", "")).splitlines()
        raise IntegrityFailure(
            "damaged-object",
            f"Objects of this clone are missing or not what their ids say: {lines[0] if lines else 'see git fsck'}",
            "Clone the forge again over a connection (`git clone --no-local`); if that fails, do not trust it.",
        ) from None
