"""The ruleset `modelsmith` for main as it should be, made from the one that is there. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from typing import Any

from modelsmith.forges.github.answers import Rule, Ruleset
from modelsmith.forges.github.settings import RULESET


def wanted_ruleset(
    own: Ruleset | None, reported: Collection[str], actions: int, merger: dict[str, Any] | None
) -> dict[str, Any]:
    """The ruleset of ours as it should be: what others put into it stays, where it weakens nothing.

    Args:
        own: As it is; None when there is none.
        reported: Checks that a workflow on main reports.
        actions: Number of the app that reports them.
        merger: Who is added to its bypass list, to push receipts.
    """
    rules = {rule.type: _rule(rule) for rule in own.rules} if own else {}
    rules.pop("required_linear_history", None)
    rules.pop("required_signatures", None)
    before = rules.get("pull_request", {}).get("parameters", {})
    rules |= {
        "deletion": {"type": "deletion"},
        "non_fast_forward": {"type": "non_fast_forward"},
        "pull_request": {"type": "pull_request", "parameters": {
            "required_approving_review_count": 0, "required_review_thread_resolution": False,
            "require_last_push_approval": False,
            **before,
            "require_code_owner_review": True, "dismiss_stale_reviews_on_push": True,
            "allowed_merge_methods": ["merge"],
        }},
    }  # fmt: skip
    if reported:
        parameters = rules.get("required_status_checks", {}).get("parameters", {})
        others = [
            check for check in parameters.get("required_status_checks", ()) if check.get("context") not in reported
        ]
        ours = [{"context": name, "integration_id": actions} for name in sorted(reported)]
        rules["required_status_checks"] = {"type": "required_status_checks", "parameters": {
            "strict_required_status_checks_policy": False, **parameters, "required_status_checks": [*others, *ours],
        }}  # fmt: skip
    actors = [actor.model_dump() for actor in (own.bypass_actors or ())] if own else []
    if merger and not any(
        (a["actor_type"], a["actor_id"]) == (merger["actor_type"], merger["actor_id"]) for a in actors
    ):
        actors.append(merger)
    return {
        "name": RULESET,
        "target": "branch",
        "enforcement": "active",
        "bypass_actors": actors,
        "conditions": {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}},
        "rules": [rules[kind] for kind in sorted(rules)],
    }


def as_it_is(own: Ruleset | None) -> dict[str, Any]:
    """Our ruleset in the form of `wanted_ruleset`; empty when there is none."""
    if own is None:
        return {}
    return {
        "name": own.name,
        "target": own.target,
        "enforcement": own.enforcement,
        "bypass_actors": [actor.model_dump() for actor in own.bypass_actors or ()],
        "conditions": own.conditions,
        "rules": sorted((_rule(rule) for rule in own.rules), key=lambda rule: str(rule["type"])),
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {"type": rule.type, **({"parameters": rule.parameters} if rule.parameters else {})}


def difference(before: object, after: object) -> Sequence[str]:
    """Lines of what would change, as ``diff`` shows them; empty when nothing would."""
    old, new = (json.dumps(value, indent=2, sort_keys=True).splitlines() for value in (before, after))
    return [line for line in difflib.unified_diff(old, new, n=1, lineterm="") if not line.startswith(("---", "+++"))]
