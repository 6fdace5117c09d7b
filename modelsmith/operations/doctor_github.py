"""What `modelsmith doctor` finds about GitHub's own rules of main, and what ``--apply`` sets there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from modelsmith.forges.github.app import find_access
from modelsmith.forges.github.place import is_github, parse_place
from modelsmith.forges.github.rest import Rest
from modelsmith.forges.github.rules import CHECKS, findings
from modelsmith.forges.github.ruleset import as_it_is, difference, wanted_ruleset
from modelsmith.forges.github.settings import (
    Settings,
    Unread,
    bypass_actor,
    read_settings,
    write_merge_methods,
    write_ruleset,
    write_workflows,
)
from modelsmith.operations.finding import Finding
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InvalidInput, ModelsmithError

_REPORTS = re.compile(r"modelsmith[ /]checks?\b")
"""How a workflow that reports the gate's checks names them."""
_METHODS = {"allow_merge_commit": True, "allow_rebase_merge": False, "allow_squash_merge": False}
_WORKFLOWS = {"can_approve_pull_request_reviews": False, "default_workflow_permissions": "read"}


class SettingChange(Frozen):
    """One setting at GitHub that is not as it should be."""

    what: str
    lines: tuple[str, ...]
    """How it would change, as ``diff`` shows it."""
    done: bool
    """Whether it was set."""


def github_findings(workspace: Workspace, forge: str) -> Iterator[Finding]:
    """Whether GitHub can be reached, and what it enforces for main."""
    try:
        rest = _rest(workspace, forge)
        yield Finding(subject="forge", level="ok", sentence=f"{rest.place.full_name} at {rest.place.web}, with a token")
        settings_found = list(findings(read_settings(rest), reported_checks(workspace)))
    except ModelsmithError as error:
        yield Finding(subject="forge", level="bad", sentence=error.message, mend=error.mend)
        return
    yield Finding(
        subject="deployment",
        level="note",
        sentence="at GitHub no hook of ours judges: whoever may pass its rules can go past the gate; `verify` "
        "detects it",
        mend="See docs/github.md for what follows.",
    )
    for finding in settings_found:
        yield Finding(
            subject=finding.subject, level=finding.level, sentence=finding.sentence, why=finding.why, mend=finding.mend
        )


def apply_settings(workspace: Workspace, merger: str | None, yes: bool) -> tuple[SettingChange, ...]:
    """Changes of settings to make at GitHub; made, when ``yes`` says so.

    Raises:
        InvalidInput: ``no-forge`` when the forge is not at GitHub, ``token-too-weak`` where it cannot be read what is
            there, ``no-merger`` when nobody could push receipts afterwards.
    """
    forge = workspace.setting("forge") or ""
    if not is_github(forge):
        raise InvalidInput("no-forge", "The forge of this clone is not at GitHub", "Leave --apply out.")
    rest = _rest(workspace, forge)
    settings = read_settings(rest)
    if isinstance(settings.rules, Unread) or (settings.own and settings.own.bypass_actors is None):
        raise InvalidInput(
            "token-too-weak",
            "This token does not see the rules of main whole, so they cannot be changed without loss",
            "Run it with a token of an administrator that has Administration: write for this repository.",
        )
    named = bypass_actor(rest, merger) if merger else None
    ruleset = wanted_ruleset(settings.own, reported_checks(workspace), settings.actions, named)
    if not ruleset["bypass_actors"]:
        raise InvalidInput(
            "no-merger",
            "Nobody would be left who may push receipts to main",
            "Name the account that merges with `--merger LOGIN` (or app/SLUG): see docs/github.md.",
        )
    changes = []
    before = as_it_is(settings.own)
    if lines := difference(before, ruleset):
        if yes:
            write_ruleset(rest, settings.own, ruleset)
        changes.append(SettingChange(what="the ruleset modelsmith", lines=tuple(lines), done=yes))
    has = {name: getattr(settings.repository, name) for name in _METHODS}
    if lines := difference(has, _METHODS):
        if yes:
            write_merge_methods(rest, _METHODS)
        changes.append(SettingChange(what="how pull requests are merged", lines=tuple(lines), done=yes))
    if lines := difference(_found_workflows(settings), _WORKFLOWS):
        if yes:
            write_workflows(rest, _WORKFLOWS)
        changes.append(SettingChange(what="what workflows may do", lines=tuple(lines), done=yes))
    return tuple(changes)


def reported_checks(workspace: Workspace) -> Collection[str]:
    """Checks that a workflow on main reports, whatever is checked out: to require others would stop every merge."""
    git = workspace.git
    tree = Revision(git, git.rev("refs/heads/main") or "HEAD")
    workflows = [path for path in tree.paths(".github/workflows") if path.endswith((".yml", ".yaml"))]
    return CHECKS if any(_REPORTS.search(tree.read(path).decode("utf-8", "replace")) for path in workflows) else ()


def _found_workflows(settings: Settings) -> dict[str, object]:
    workflows = settings.workflows
    return {} if isinstance(workflows, Unread) else workflows.model_dump()


def _rest(workspace: Workspace, forge: str) -> Rest:
    place = parse_place(forge)
    return Rest(place, find_access(place, workspace.root), workspace.private / "github")
