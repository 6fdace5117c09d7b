"""The gate's decision as seven answers, each to a question of its own: what reviewers see beside a pull request. Pure.

Together they are the decision and nothing else: all of them let through exactly what the gate lets through, since every
check and every refusal belongs to one of them. None of them decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from modelsmith.governance.gate import CheckResult, GateDecision

Name = Literal["schema", "append-only", "subject", "evidence", "policy", "approvals", "rollback"]
State = Literal["success", "failure", "action_required", "neutral"]
"""As a forge's check runs have them. ``action_required`` waits for a person; ``neutral`` does not apply."""

NAMES: Final[tuple[Name, ...]] = get_args(Name)
QUESTIONS: Final[Mapping[Name, str]] = MappingProxyType(
    {
        "schema": "Can every changed file be read, and is it named and written as its kind asks?",
        "append-only": "Is nothing changed or removed that must stay as it is?",
        "subject": "Is what would be merged what was opened and signed, and does it follow from main?",
        "evidence": "Do the figures recompute, and do they clear the registered rule?",
        "policy": "Does it keep what main's policy, owners and limits ask, and hold no secret?",
        "approvals": "Has everybody approved whose approval it needs?",
        "rollback": "Is it clear how it is undone, or does it undo what was agreed?",
    }
)

_CHECKS: Final[Mapping[Name, tuple[str, ...]]] = {
    "schema": (
        "record", "observation", "plain", "names", "valid-files", "settings-kept", "agent-contract", "readable-main",
        "words", "size",
    ),
    "append-only": ("files", "routing", "rendered-files", "earlier-commits"),
    "subject": (
        "signature", "life", "opening", "opener", "repository", "training", "reward", "export", "artifact", "observer",
        "subject", "engine",
    ),
    "evidence": (
        "evidence", "question", "models", "verdict", "fresh-evidence", "observers", "observations", "retraining",
        "verdicts", "packet", "live",
    ),
    "policy": ("limits", "secrets", "secrets-said", "leaks"),
    "approvals": (),
    "rollback": ("rollback-terms", "contract", "inverse", "clearance"),
}  # fmt: skip
_REFUSALS: Final[Mapping[Name, tuple[str, ...]]] = {
    "schema": (
        "empty-change", "case-alias", "case-twins", "reserved-path", "unportable-name", "odd-name", "long-path",
        "submodule", "executable", "not-a-file", "folder-in-place", "bad-record-folder",
    ),
    "append-only": (
        "append-only", "sealed-folder", "several-promotions", "promotion-mixed", "mixed-change",
        "receipts-are-not-proposed",
    ),
    "subject": ("opened-by-another",),
    "evidence": (),
    "policy": (
        "too-many-paths", "codeowners-not-loaded", "unowned-path", "unowned-gate", "unknown-event", "harness-gate",
        "opened-by-harness", "no-checks", "override-forbidden",
    ),
    "approvals": ("rejected",),
    "rollback": (),
}  # fmt: skip
CHECKS: Final[Mapping[str, Name]] = {check: name for name, checks in _CHECKS.items() for check in checks}
"""Check of the gate, and the answer that it is part of. One that is missing here counts as ``policy``."""
REFUSALS: Final[Mapping[str, Name]] = {code: name for name, codes in _REFUSALS.items() for code in codes}
"""The same of refusals that are no failed check."""
_READING: Final = ("record", "observation", "size")
"""Checks without which nothing else of a promotion is looked at."""
_FINE: Final[Mapping[Name, str]] = {
    "schema": "Every changed file can be read, and is named and written as its kind asks.",
    "append-only": "Nothing changes or goes that must stay as it is.",
    "subject": "What would be merged is what was opened, and it follows from main.",
    "policy": "It keeps main's policy and limits; nothing in it looks like a secret.",
}
_NOTHING: Final[Mapping[Name, str]] = {
    "evidence": "It brings no evidence and rests on none.",
    "approvals": "It needs nobody's approval: the checks alone decide.",
    "rollback": "It moves no traffic, so there is nothing to undo.",
}


@dataclass(frozen=True)
class NamedCheck:
    """One of the seven answers."""

    name: Name
    state: State
    title: str
    """The answer in one sentence. It may quote what others wrote."""
    lines: tuple[str, ...]
    """What it rests on, a sentence each: what is wrong first."""

    @property
    def passes(self) -> bool:
        """Whether it lets the merge through."""
        return self.state in ("success", "neutral")


def named_checks(decision: GateDecision) -> tuple[NamedCheck, ...]:
    """The decision as its seven answers, in the order of `NAMES`."""
    return tuple(_answer(name, decision) for name in NAMES)


def unjudged(why: str) -> tuple[NamedCheck, ...]:
    """The seven answers where the gate could not even look: none of them lets anything through."""
    return tuple(NamedCheck(name, "failure", f"Not looked at: {why}", ()) for name in NAMES)


def unsigned(why: str) -> tuple[NamedCheck, ...]:
    """The seven answers where nobody has signed for having opened it: its opener is waited for."""
    return tuple(NamedCheck(name, "action_required", why, ()) for name in NAMES)


def _answer(name: Name, decision: GateDecision) -> NamedCheck:
    checks = [check for check in decision.checks if CHECKS.get(check.name, "policy") == name]
    failed = [check for check in checks if not check.passed]
    refused = [
        refusal.sentence
        for refusal in decision.refusals
        if refusal.code != "check-failed" and REFUSALS.get(refusal.code, "policy") == name
    ]
    wrong = [*refused, *(check.sentence for check in failed)]
    passed = [f"{check.name}: {check.sentence}" for check in checks if check.passed]
    if wrong:
        undecided = not refused and all(check.undecided for check in failed)
        return NamedCheck(name, "action_required" if undecided else "failure", wrong[0], (*wrong[1:], *passed))
    if name == "approvals":
        return _approvals(decision)
    if not checks and name in _NOTHING:
        blind = next((check for check in decision.checks if check.name in _READING and not check.passed), None)
        if blind:
            return NamedCheck(name, "failure", f"Not looked at: {blind.sentence}", ())
        return NamedCheck(name, "neutral", _NOTHING[name], ())
    return NamedCheck(name, "success", _FINE.get(name) or _leading_sentence(checks), tuple(passed))


def _leading_sentence(checks: Sequence[CheckResult]) -> str:
    """The most telling sentence of these checks: the verdict first, then the terms."""
    leading = ("verdict", "live", "fresh-evidence", "verdicts", "contract", "clearance", "rollback-terms")
    named = {check.name: check.sentence for check in checks}
    return next((named[name] for name in leading if name in named), checks[0].sentence)


def _approvals(decision: GateDecision) -> NamedCheck:
    if not decision.needs:
        return NamedCheck("approvals", "neutral", _NOTHING["approvals"], decision.notes)
    lines = tuple(
        f"{need.pattern} ({' or '.join(need.owners)}): "
        + (f"given by {need.satisfied_by}" if need.satisfied_by else f"missing; {_able(need.eligible)}")
        for need in decision.needs
    )
    if decision.waiting_for:
        return NamedCheck(
            "approvals", "action_required", f"It waits for {decision.decides}.", (*lines, *decision.notes)
        )
    approvers = sorted({need.satisfied_by for need in decision.needs if need.satisfied_by})
    return NamedCheck("approvals", "success", f"Approved: {', '.join(approvers)}.", (*lines, *decision.notes))


def _able(eligible: Sequence[str]) -> str:
    return f"{', '.join(eligible)} can give it" if eligible else "nobody who is listed can give it"
