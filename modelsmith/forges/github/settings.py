"""What GitHub enforces for main, read through the API: each answer, or which permission it takes to get it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from modelsmith.forges.github.answers import (
    Numbered,
    OwnersErrors,
    Protection,
    RepositoryAnswer,
    Rule,
    Ruleset,
    WorkflowPermissions,
)
from modelsmith.forges.github.faces import Faces, read_answer
from modelsmith.forges.github.rest import Rest
from modelsmith.schema.errors import InvalidInput, ModelsmithError

T = TypeVar("T")

ACTIONS = 15368
"""Number of *GitHub Actions* at github.com; an Enterprise Server may have another."""
RULESET = "modelsmith"
"""Name of the ruleset that `modelsmith doctor --apply` writes; others are not touched."""


@dataclass(frozen=True)
class Unread:
    """Something that this token may not see."""

    needs: str
    """Permission that shows it, in GitHub's words."""


@dataclass(frozen=True)
class Settings:
    """Everything of a repository that decides who moves main, and how."""

    repository: RepositoryAnswer
    rules: tuple[Rule, ...] | Unread
    """Active rules of main, of the repository's rulesets and of its organisation's."""
    rulesets: tuple[Ruleset, ...] | Unread
    """The sets that these rules come from."""
    own: Ruleset | None
    """The repository's ruleset with our name."""
    classic: Protection | Unread | None
    """None when main has no classic protection."""
    workflows: WorkflowPermissions | Unread
    owners: OwnersErrors | Unread
    """Lines of CODEOWNERS on main that GitHub does not take."""
    actions: int
    """Number of the app *GitHub Actions*: what a check of a workflow comes from."""


def read_settings(rest: Rest) -> Settings:
    """Ask GitHub for all of it; what is refused is `Unread`.

    Raises:
        InvalidInput: as `Faces.repository`, for a repository that cannot be worked with at all.
        InfrastructureFailure: no answer, which is not the same as a refusal.
    """
    repository = Faces(rest).repository
    rules = _or_unread("Metadata: read", lambda: _rules(rest))
    named = _or_unread("Metadata: read", lambda: _named(rest))
    ids = set() if isinstance(rules, Unread) else {rule.ruleset_id for rule in rules if rule.ruleset_id is not None}
    own = None if isinstance(named, Unread) else next((ruleset for ruleset in named if _is_own(ruleset)), None)
    sets = _or_unread("Metadata: read", lambda: tuple(_ruleset(rest, at) for at in sorted(ids)))
    return Settings(
        repository=repository,
        rules=rules,
        rulesets=sets if not isinstance(rules, Unread) else rules,
        own=_ruleset(rest, own.id) if own else None,
        classic=_or_unread("Administration: read", lambda: _classic(rest)),
        workflows=_or_unread("Administration: read", lambda: _workflows(rest)),
        owners=_or_unread("Contents: read", lambda: _owners(rest)),
        actions=_actions(rest),
    )


def read_rules(rest: Rest) -> tuple[tuple[Rule, ...], Protection | None]:
    """The rules of main, and its classic protection where the token may see it. Raises as `read_settings`."""
    classic = _or_unread("Administration: read", lambda: _classic(rest))
    return _rules(rest), None if isinstance(classic, Unread) else classic


def write_ruleset(rest: Rest, own: Ruleset | None, ruleset: dict[str, Any]) -> None:
    """Make our ruleset, or change it; twice is once.

    Raises:
        ModelsmithError: as `Rest.do`.
    """
    if own is None:
        existing = next((ruleset for ruleset in _named(rest) if _is_own(ruleset)), None)
        own = existing and _ruleset(rest, existing.id)
    if own is None:
        rest.send("make the ruleset", "POST", "/rulesets", ruleset)
    else:
        rest.send("change the ruleset", "PUT", f"/rulesets/{own.id}", ruleset)


def write_merge_methods(rest: Rest, methods: dict[str, bool]) -> None:
    """How the merge button may merge. Raises as `Rest.do`."""
    rest.send("set the ways of merging", "PATCH", "", methods)


def write_workflows(rest: Rest, permissions: dict[str, Any]) -> None:
    """Set the rights of a workflow's own token. Raises as `Rest.do`."""
    rest.send("set what workflows may do", "PUT", "/actions/permissions/workflow", permissions)


def bypass_actor(rest: Rest, name: str) -> dict[str, Any]:
    """How a ruleset names an account (``LOGIN``) or a GitHub App (``app/SLUG``) that it does not apply to.

    Raises:
        InvalidInput: ``unknown-login``.
    """
    app = name.removeprefix("app/")
    path = f"/apps/{app}" if app != name else f"/users/{name}"
    try:
        actor = read_answer(Numbered, rest.ask_elsewhere(f"look for {name}", path))
    except InvalidInput as error:
        if error.code != "unknown-repository":
            raise
        raise InvalidInput(
            "unknown-login",
            f"GitHub knows no {name}",
            "Write LOGIN for an account, app/SLUG for a GitHub App.",
            login=name,
        ) from None
    kind = "Integration" if app != name else "User"
    return {"actor_type": kind, "actor_id": actor.id, "bypass_mode": "always"}


def _or_unread(needs: str, ask: Callable[[], T]) -> T | Unread:
    try:
        return ask()
    except InvalidInput as error:
        if error.code not in ("token-too-weak", "unknown-repository"):
            raise
        return Unread(needs)


def _rules(rest: Rest) -> tuple[Rule, ...]:
    rules = rest.ask_all("read the rules of main", "/rules/branches/main?per_page=100")
    return tuple(read_answer(Rule, rule) for rule in rules)


def _named(rest: Rest) -> tuple[Ruleset, ...]:
    rulesets = rest.ask_all("read the rulesets", "/rulesets?per_page=100&includes_parents=false")
    return tuple(read_answer(Ruleset, ruleset) for ruleset in rulesets)


def _is_own(ruleset: Ruleset) -> bool:
    return (ruleset.name, ruleset.source_type, ruleset.target) == (RULESET, "Repository", "branch")


def _ruleset(rest: Rest, number: int) -> Ruleset:
    return read_answer(Ruleset, rest.ask("read a ruleset", f"/rulesets/{number}?includes_parents=true"))


def _classic(rest: Rest) -> Protection | None:
    """The classic branch protection. A 404 says *Branch not protected*, to those who may know."""
    try:
        return read_answer(Protection, rest.ask("read the protection of main", "/branches/main/protection"))
    except ModelsmithError as error:
        if error.details.get("said") == "Branch not protected":
            return None
        raise


def _workflows(rest: Rest) -> WorkflowPermissions:
    return read_answer(WorkflowPermissions, rest.ask("read what workflows may do", "/actions/permissions/workflow"))


def _actions(rest: Rest) -> int:
    answer = _or_unread(
        "", lambda: read_answer(Numbered, rest.ask_elsewhere("look for Actions", "/apps/github-actions"))
    )
    return ACTIONS if isinstance(answer, Unread) else answer.id


def _owners(rest: Rest) -> OwnersErrors:
    return read_answer(OwnersErrors, rest.ask("read the errors of CODEOWNERS", "/codeowners/errors?ref=main"))
