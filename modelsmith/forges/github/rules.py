"""What GitHub should enforce for main, and what is missing of it. Pure.

GitHub's own answer is a second no beside the gate's: it stops a push that goes past us, which `verify` only finds
afterwards. Several rulesets and classic protection may hold for one branch; the strictest of them counts, by GitHub's
"About rulesets".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from modelsmith.forges.github.answers import Bypass, Protection, Rule, Ruleset
from modelsmith.forges.github.faces import CHECKS as PREFIX
from modelsmith.forges.github.settings import Settings, Unread
from modelsmith.governance.named_checks import NAMES

CHECKS = tuple(f"{PREFIX}{name}" for name in NAMES)
"""Checks that a promotion's workflow reports."""
_ROLES = {2: "everybody with the role maintain", 4: "everybody with the role write", 5: "administrators"}


class Fact(NamedTuple):
    """A finding about GitHub's settings."""

    subject: str
    level: Literal["ok", "note", "bad"]
    sentence: str
    why: str = ""
    mend: str = ""


@dataclass
class Effective:
    """Rulesets and classic protection taken together."""

    only_bypassers: bool = False
    """Whether nobody but those on the bypass list moves main at all."""
    pull_requests: bool = False
    queue: str | None = None
    """Way of merging of the merge queue, when one is required."""
    deletion: bool = False
    force_push: bool = False
    linear: bool = False
    signatures: bool = False
    code_owners: bool = False
    dismiss_stale: bool = False
    last_push: bool = False
    approvals: int = 0
    methods: set[str] = field(default_factory=lambda: {"merge", "squash", "rebase"})
    checks: dict[str, set[int | None]] = field(default_factory=dict)
    """Sources that must report each required check; None: anybody may."""


def effective(rules: Collection[Rule], classic: Protection | None) -> Effective:
    """The strictest of all that holds for main."""
    effective_rules = Effective()
    for rule in rules:
        _add(effective_rules, rule.type, rule.parameters)
    if classic:
        _add_classic(effective_rules, classic)
    return effective_rules


def _add(rules: Effective, kind: str, parameters: dict[str, Any]) -> None:
    if kind == "update":
        rules.only_bypassers = True
    elif kind == "deletion":
        rules.deletion = True
    elif kind == "non_fast_forward":
        rules.force_push = True
    elif kind == "required_linear_history":
        rules.linear = True
    elif kind == "required_signatures":
        rules.signatures = True
    elif kind == "merge_queue":
        rules.queue = str(parameters.get("merge_method", "MERGE"))
    elif kind == "pull_request":
        rules.pull_requests = True
        rules.code_owners |= parameters.get("require_code_owner_review") is True
        rules.dismiss_stale |= parameters.get("dismiss_stale_reviews_on_push") is True
        rules.last_push |= parameters.get("require_last_push_approval") is True
        rules.approvals = max(rules.approvals, int(parameters.get("required_approving_review_count") or 0))
        rules.methods &= set(parameters.get("allowed_merge_methods") or rules.methods)
    elif kind == "required_status_checks":
        for check in parameters.get("required_status_checks") or ():
            rules.checks.setdefault(str(check.get("context")), set()).add(check.get("integration_id"))


def _add_classic(rules: Effective, classic: Protection) -> None:
    rules.deletion |= not classic.allow_deletions.enabled
    rules.force_push |= not classic.allow_force_pushes.enabled
    rules.linear |= classic.required_linear_history.enabled
    rules.signatures |= classic.required_signatures.enabled
    if reviews := classic.required_pull_request_reviews:
        rules.pull_requests = True
        rules.code_owners |= reviews.require_code_owner_reviews
        rules.dismiss_stale |= reviews.dismiss_stale_reviews
        rules.last_push |= reviews.require_last_push_approval
        rules.approvals = max(rules.approvals, reviews.required_approving_review_count)
    for check in classic.required_status_checks.checks if classic.required_status_checks else ():
        source = None if check.app_id in (None, -1) else check.app_id
        rules.checks.setdefault(check.context, set()).add(source)


def findings(settings: Settings, reported: Collection[str]) -> Iterator[Fact]:
    """What is missing, why it matters and how to set it. What could not be read is missing.

    Args:
        settings: As GitHub told them.
        reported: Checks that a workflow on main reports: only these can be required.
    """
    if settings.repository.archived:
        yield Fact("GitHub repository", "bad", "it is archived", "nothing can be proposed or merged", "Unarchive it.")
    unread = [name for name in ("rules", "rulesets", "classic") if isinstance(getattr(settings, name), Unread)]
    for name in unread:
        yield _unread(_WORDS[name], getattr(settings, name))
    if isinstance(settings.rules, Unread):
        return
    classic = None if isinstance(settings.classic, Unread) else settings.classic
    now = effective(settings.rules, classic)
    yield from _who_moves_main(now)
    if not now.only_bypassers:
        yield from _reviews(now)
        yield from _checks(now, reported, settings.actions)
    yield from _methods(settings, now)
    if not isinstance(settings.rulesets, Unread):
        for ruleset in settings.rulesets:
            yield from _bypass(ruleset)
    if classic and not classic.enforce_admins.enabled:
        yield Fact("GitHub bypass", "note", "administrators pass the classic protection of main",
                   "what they push is not stopped; `verify` finds it",
                   "Switch on: Do not allow bypassing.")  # fmt: skip
    yield from _workflows(settings)
    yield from _owners(settings, now)


_WORDS = {"rules": "GitHub rules of main", "rulesets": "GitHub bypass", "classic": "GitHub classic protection"}


def _unread(subject: str, setting: Unread) -> Fact:
    return Fact(
        subject, "bad", f"this token may not see it; it takes {setting.needs}",
        "what cannot be read is taken as missing",
        f"Run it once with a token that has {setting.needs} for this repository "
        "(for --apply: Administration: write).",
    )  # fmt: skip


def _who_moves_main(now: Effective) -> Iterator[Fact]:
    subject = "GitHub main"
    if now.only_bypassers:
        yield Fact(subject, "ok", "only those on a bypass list move it")
    elif now.pull_requests:
        yield Fact(subject, "ok", "it is changed by pull requests")
    else:
        yield Fact(
            subject, "bad", "whoever may push moves it, without pull request or check",
            "`verify` finds such a push afterwards; only a rule prevents it", _apply("Require a pull request"),
        )  # fmt: skip
    for allowed, move in ((now.force_push, "force pushes"), (now.deletion, "deletion")):
        if not allowed:
            yield Fact(subject, "bad", f"nothing stops its {move}", "history could be taken back, records and all",
                       _apply("Block force pushes, Restrict deletions"))  # fmt: skip
    if now.linear:
        yield Fact(subject, "bad", "it must be linear", "every merge here is a merge commit, and would be refused",
                   "Switch off: Require linear history.")  # fmt: skip
    if now.signatures:
        yield Fact(
            subject, "bad", "its commits must be signed in GitHub's way",
            "receipts are signed inside their files; their commits are not, and would be refused",
            "Switch off: Require signed commits.",
        )  # fmt: skip


def _reviews(now: Effective) -> Iterator[Fact]:
    subject = "GitHub reviews"
    if not now.pull_requests:
        return
    if now.code_owners:
        yield Fact(subject, "ok", "owners by CODEOWNERS must approve there, too")
    else:
        yield Fact(subject, "bad", "owners by CODEOWNERS are not asked", "GitHub would merge what no owner has seen",
                   _apply("Require review from Code Owners"))  # fmt: skip
    if not now.dismiss_stale:
        yield Fact(subject, "bad", "an approval outlives new commits",
                   "GitHub would merge what its approver did not see", _apply("Dismiss stale approvals"))  # fmt: skip
    if now.approvals or now.last_push:
        condition = f"{now.approvals} approvals" if now.approvals else "an approval of the last push"
        yield Fact(
            subject, "note", f"every pull request needs {condition}",
            "the loop's own events need nobody by policy, and wait for a person at GitHub then",
            "Set required approvals to 0 and leave the last push's approval off: owners are asked by CODEOWNERS, and a "
            "branch that moved shuts the gate anyway.",
        )  # fmt: skip


def _checks(now: Effective, reported: Collection[str], actions: int) -> Iterator[Fact]:
    subject = "GitHub checks"
    if not reported:
        yield Fact(subject, "note", "no workflow on main reports the gate's checks",
                   "GitHub's merge button does not know of the gate", "See docs/github.md.")  # fmt: skip
    missing = [name for name in sorted(reported) if name not in now.checks]
    anybody = [name for name in sorted(reported) if None in now.checks.get(name, ())]
    other = [name for name in sorted(reported) if now.checks.get(name, set()) - {None, actions}]
    if missing:
        yield Fact(subject, "bad", f"not required: {', '.join(missing)}", "GitHub merges while they are red",
                   _apply("Require status checks"))  # fmt: skip
    if anybody:
        yield Fact(
            subject, "bad", f"anybody who may write statuses can report {', '.join(anybody)}",
            "a token that may not approve could turn them green", _apply("Source of each check: GitHub Actions"),
        )  # fmt: skip
    if other:
        yield Fact(subject, "bad", f"another app than GitHub Actions must report {', '.join(other)}",
                   "the workflow's own report would never count",
                   _apply("Source of each check: GitHub Actions"))  # fmt: skip
    if reported and not (missing or anybody or other):
        yield Fact(subject, "ok", "all are required, from GitHub Actions")


def _methods(settings: Settings, now: Effective) -> Iterator[Fact]:
    subject, repository = "GitHub merging", settings.repository
    allowed = {"merge": repository.allow_merge_commit, "squash": repository.allow_squash_merge,
               "rebase": repository.allow_rebase_merge}  # fmt: skip
    open_ones = {name for name in now.methods if allowed[name] is not False}
    if now.queue not in (None, "MERGE"):
        yield Fact(subject, "bad", f"the merge queue merges by {str(now.queue).lower()}", _OTHER_COMMITS,
                   "Set the queue's method to merge commit.")  # fmt: skip
    if now.only_bypassers:
        return
    if None in (allowed["squash"], allowed["rebase"]) and open_ones != {"merge"}:
        yield _unread(subject, Unread("Administration: read"))
    elif wrong := sorted(open_ones - {"merge"}):
        yield Fact(subject, "bad", f"{' and '.join(wrong)} is allowed", _OTHER_COMMITS,
                   _apply("Allow merge commits alone"))  # fmt: skip
    elif "merge" not in open_ones:
        yield Fact(subject, "bad", "merge commits are not allowed", "nothing could be merged as it was approved",
                   _apply("Allow merge commits alone"))  # fmt: skip
    else:
        yield Fact(subject, "ok", "by merge commits alone")


_OTHER_COMMITS = "squash and rebase make other commits than those that were opened and approved: no receipt fits them"


def _bypass(ruleset: Ruleset) -> Iterator[Fact]:
    subject = "GitHub bypass"
    if ruleset.bypass_actors is None:
        yield _unread(subject, Unread("Administration: write (GitHub shows bypass lists to no other)"))
        return
    for actor in ruleset.bypass_actors:
        actor_name = actor_words(actor)
        how = "on pull requests" if actor.bypass_mode == "pull_request" else "always"
        if actor.actor_type == "RepositoryRole" and actor.actor_id in (2, 4):
            yield Fact(subject, "bad", f"{actor_name} passes ruleset {ruleset.name!a}, {how}",
                       "then it holds for hardly anybody", "Name the one account that pushes receipts.")  # fmt: skip
        else:
            yield Fact(subject, "note", f"{actor_name} passes ruleset {ruleset.name!a}, {how}",
                       "what they push past the gate is found by `verify` only", "Keep it to one account.")  # fmt: skip


def actor_words(actor: Bypass) -> str:
    """An entry of a bypass list, in words."""
    number = actor.actor_id
    kinds = {
        "RepositoryRole": _ROLES.get(number or 0, f"the role {number}"),
        "Integration": f"the app {number}",
        "Team": f"the team {number}",
        "User": f"the account {number}",
        "OrganizationAdmin": "owners of the organisation",
        "DeployKey": "whoever holds a deploy key",
    }
    return kinds.get(actor.actor_type, f"{actor.actor_type} {number}")


def _workflows(settings: Settings) -> Iterator[Fact]:
    subject, workflows = "GitHub workflows", settings.workflows
    if isinstance(workflows, Unread):
        yield _unread(subject, workflows)
        return
    before = "Settings, Actions, General: "
    if workflows.default_workflow_permissions != "read":
        yield Fact(subject, "bad", "their token may write where they do not say otherwise",
                   "a workflow that a proposal changed could push", _apply(f"{before}Read permissions"))  # fmt: skip
    if workflows.can_approve_pull_request_reviews:
        yield Fact(subject, "bad", "they may approve pull requests", "an approval must be a person's",
                   _apply(f"{before}Allow GitHub Actions to approve, off"))  # fmt: skip
    if workflows.default_workflow_permissions == "read" and not workflows.can_approve_pull_request_reviews:
        yield Fact(subject, "ok", "their token reads, and approves nothing")


def _owners(settings: Settings, now: Effective) -> Iterator[Fact]:
    subject, owners = "GitHub CODEOWNERS", settings.owners
    if isinstance(owners, Unread):
        yield _unread(subject, owners)
        return
    level: Literal["note", "bad"] = "bad" if now.code_owners else "note"
    for error in owners.errors[:20]:
        yield Fact(
            subject, level, f"line {error.line}: {error.kind}: {error.source.strip()[:200]!a}",
            "GitHub passes over such a line, and asks nobody for its paths",
            "Write owners as GitHub knows them (@ORGANISATION/TEAM with the role's name as the team's, with write "
            "access): the gate takes these for the roles, too.",
        )  # fmt: skip
    if len(owners.errors) > 20:
        yield Fact(subject, level, f"{len(owners.errors) - 20} more lines", mend="Mend the first ones and look again.")
    if not owners.errors:
        yield Fact(subject, "ok", "GitHub takes every line")


def _apply(where: str) -> str:
    return f"`modelsmith doctor --apply` sets it, or by hand: {where}."
