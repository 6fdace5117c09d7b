"""A repository at GitHub that becomes a forge: it must be empty, and gets its first commit."""

from __future__ import annotations

from modelsmith.forges.github.faces import Faces
from modelsmith.forges.github.failures import archived, push_refusal
from modelsmith.forges.github.place import Place
from modelsmith.forges.github.rest import Rest
from modelsmith.forges.github.token import Token
from modelsmith.repository.git import Git
from modelsmith.repository.refs import remote_refs
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

MAIN = "refs/heads/main"


def require_empty(place: Place, token: Token, git: Git) -> None:
    """Refuse a repository that holds something, or cannot be written.

    Raises:
        InvalidInput: ``not-empty``, ``archived-repository``, or as `Faces.repository`.
    """
    if Faces(Rest(place, token)).repository.archived:
        raise archived(place)
    refs = remote_refs(git, place.url, "refs/heads/", "refs/tags/", "refs/modelsmith/", env=token.for_git(place))
    if refs:
        raise InvalidInput(
            "not-empty",
            f"{place.full_name} holds {min(refs)} already",
            "Name an empty repository, made without a README; or clone that one, and set modelsmith.forge there.",
            repository=place.full_name,
        )


def push_first(place: Place, token: Token, git: Git, commit: str) -> None:
    """Push the first commit of main; somebody else's that came first is not touched.

    Raises:
        ModelsmithError: what GitHub refused.
        InfrastructureFailure: as `Git.run`.
    """
    lease = f"--force-with-lease={MAIN}:"
    try:
        git.run("push", "--no-verify", lease, place.url, f"{commit}:{MAIN}", env=token.for_git(place))
    except InfrastructureFailure as error:
        refusal = push_refusal(str(error.details.get("stderr", "")))
        if refusal:
            raise refusal from None
        if remote_refs(git, place.url, MAIN, env=token.for_git(place)).get(MAIN) != commit:
            raise
