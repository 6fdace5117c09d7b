"""Who may see which field of a machine-written record, and how far policy narrows that. Pure.

`AUDIENCE` is the widest that a field is ever shown. What lies in git is read by reviewers, so a field that is for
operators is left out of what is committed; where it cannot be, policy may not make it one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from modelsmith.schema.base import Frozen
from modelsmith.schema.governance import Audience

T = TypeVar("T", bound=Frozen)

_ORDER: Final[tuple[Audience, ...]] = ("public", "reviewer", "operator")

AUDIENCE: Final[Mapping[str, Mapping[Audience, tuple[str, ...]]]] = {
    "Evidence": {
        "public": (
            *("cluster", "specialist", "eval_set", "eval_set_version", "rule", "attempts", "held_out_consulted"),
            *("coverage", "judge", "latency", "nearest", "firewall"),
        ),
        "reviewer": (
            *("artifact", "question", "rubric", "eval_tree", "engine", "candidate", "incumbent", "baselines"),
            *("training", "export", "environment", "since", "earlier"),
        ),
    },
    "Firewall": {"public": ("parts", "meaning", "ancestors"), "reviewer": ("rows",)},
    "Ancestor": {"public": ("specialist", "parts", "meaning"), "reviewer": ("rows",)},
    "Nearness": {"public": ("model", "settings", "parts")},
    "PartNearness": {"public": ("part", "most_cosine", "cosine")},
    "PartOverlap": {"public": ("part", "texts", "similarity", "overlap")},
    "RunEvidence": {
        "public": ("model", "headline", "cost"),
        "reviewer": ("run_id", "weights", "base", "rows", "engine"),
    },
    "PromotionRecord": {
        "public": (
            *("cluster", "specialist", "sequence", "event", "from_state", "to_state", "iteration", "composite"),
            *("required_approvers",),
        ),
        "reviewer": (
            *("artifact", "eval_run", "eval_tag", "policy", "evidence", "requested_by", "prepared_by", "rollback"),
            *("expected_previous", "previous_record", "previous_receipts"),
        ),
    },
    "TrainingFacts": {
        "public": ("base_model", "parent", "method", "rows", "steps", "stages"),
        "reviewer": (
            *("base_digest", "seed", "rows_digest", "generators", "reward", "diagnosed_run", "hyperparameters"),
            *(
                "final_loss",
                "toolkit",
                "recoveries",
                "trained_reward",
                "trained_judge",
                "rows_judge",
                "sources",
                "datasets",
                "curves",
                "tries",
                "loaded_in_4bit",
                "devices",
            ),
        ),
    },
    "SeedTries": {"reviewer": ("asked", "asked_digest", "judge", "each")},
    "SeedTry": {"reviewer": ("seed", "held_in", "artifact", "ended")},
    "StageCurve": {"reviewer": ("stage", "lines")},
    "CurveLine": {"reviewer": ("measure", "points")},
    "StageFacts": {
        "public": ("method", "rows", "steps", "skipped"),
        "reviewer": (
            *("settings", "seed", "parent", "rows_digest"),
            *("trained_reward", "trained_judge", "rows_judge"),
        ),
    },
    "RecoveryFacts": {"reviewer": ("stage", "failure", "action", "rows_at_once")},
    "ExportFacts": {"public": ("parent", "export"), "reviewer": ("toolkit",)},
    "Export": {"public": ("kind", "base_model", "dtype"), "reviewer": ("parent", "base_digest")},
    "RollbackOrder": {
        "public": ("trigger", "decided_at"),
        "reviewer": ("undoes", "prior_specialist", "prior_artifact", "reason", "window", "live"),
    },
    "LiveWindow": {"reviewer": ("metric", "began", "ended", "specialist", "incumbent")},
    "Counted": {"reviewer": ("decisions", "good")},
    "LiveEvidence": {
        "public": ("cluster", "specialist", "outcome", "at"),
        "reviewer": ("observer", "deployment", "routing", "beside", "terms", "counts", "findings"),
    },
    "SecondLook": {
        "public": ("cluster", "specialist", "observer", "number", "judge"),
        "reviewer": ("artifact", "evidence", "question", "engine", "candidate", "incumbent", "retraining"),
    },
    "Retraining": {"reviewer": ("rows", "artifact", "run")},
    "HoldClearance": {"reviewer": ("clears", "reason")},
    "Override": {"reviewer": ("run", "evidence", "asked_by", "reason")},
    "Receipt": {
        "public": ("gate", "checks", "at"),
        "reviewer": ("pull", "change", "merge", "merged_by", "requested_by", "prepared_by", "approvals"),
    },
    "RunResult": {
        "public": (
            *("cluster", "model", "eval_set", "eval_set_version", "rule", "headline", "cost", "sections", "quick"),
            *("only", "attempts", "held_out_consulted", "scenarios", "completions", "judge", "before"),
        ),
        "reviewer": ("run_id", "tag", "weights", "base", "question", "rubric", "eval_tree", "engine", "incumbent"),
        "operator": ("executed", "because", "judged", "started_at", "duration_seconds"),
    },
    "JudgeAgreement": {
        "public": ("judge", "agreed", "unclear", "kappa", "points", "met"),
        "reviewer": ("identity", "labels", "verdicts"),
    },
    "LabelVerdict": {"reviewer": ("label", "point", "person", "judge")},
    "VerdictRow": {
        "reviewer": ("section", "scenario", "id", "capability", "critical", "wording", "repeat", "points", "cut_off"),
    },
    "Observation": {
        "reviewer": ("row", "section", "id", "wording", "repeat", "finish", "prompt_tokens", "completion_tokens"),
        "operator": (*("completion", "reasons", "seconds", "wall_seconds", "first_token_seconds", "because", "error"),),
    },
    "FailureCluster": {
        "public": (
            *("capability", "points", "missed", "failed_cases", "total_cases", "critical_cases", "cut_off_cases"),
            *("risk_share", "severity"),
        ),
        "reviewer": (
            *("id", "cause", "operator_lenses", "confusions", "pattern", "reviewer_action", "next_target", "cases"),
            "history",
        ),
    },
}
"""Type name, audience, fields. Types that are not listed are seen by whoever sees the field that holds them."""

COPIES: Final[Mapping[str, str]] = {
    **{
        f"Evidence.{field}": f"RunResult.{field}"
        for field in (
            *("cluster", "question", "rubric", "eval_set", "eval_set_version", "eval_tree", "engine", "rule"),
            *("attempts", "held_out_consulted", "judge"),
        )
    },
    **{
        f"RunEvidence.{field}": f"RunResult.{field}"
        for field in ("run_id", "model", "weights", "base", "headline", "cost", "engine")
    },
    **{f"SecondLook.{field}": f"RunResult.{field}" for field in ("cluster", "question", "engine", "judge")},
    **{f"VerdictRow.{field}": f"Observation.{field}" for field in ("section", "id", "wording", "repeat")},
    "RunEvidence.rows": "Observation.row",
    "Evidence.earlier": "RunResult.headline",
    "Evidence.latency": "RunResult.cost",
    "VerdictRow.cut_off": "Observation.finish",
    "PromotionRecord.eval_run": "RunResult.run_id",
    "PromotionRecord.eval_tag": "RunResult.tag",
    "PromotionRecord.composite": "RunResult.headline",
    "TrainingFacts.diagnosed_run": "RunResult.run_id",
    "TrainingFacts.curves": "TrainingFacts.final_loss",
}
"""Committed fields and what they repeat, of a run or beside them: whoever may not see the one may not see the other."""

LEFT_OUT: Final = frozenset(
    {
        *("RunEvidence.cost", "Evidence.latency", "Evidence.environment"),
        *("TrainingFacts.final_loss", "TrainingFacts.curves", "TrainingFacts.toolkit", "ExportFacts.toolkit"),
    }
)
"""Committed fields that no check and no decision rests on: empty in what is committed once policy keeps them back."""

NEEDED: Final[Mapping[str, str]] = {
    "Evidence": "evidence is what reviewers decide by and what `verify` recomputes the verdict from",
    "PartOverlap": "the gate holds it against policy, and `verify` computes it again where the rows are",
    "PartNearness": "the gate holds it against policy, and `verify` computes it again where rows and model are",
    "Nearness": "the gate holds it against policy, and `verify` computes it again where rows and model are",
    "Ancestor": "the gate holds it against policy, and `verify` computes it again where the rows are",
    "Firewall": "the gate holds it against policy, and `verify` computes it again where the rows are",
    "RunEvidence": "evidence is what reviewers decide by and what `verify` recomputes the verdict from",
    "VerdictRow": "`verify` recomputes the verdict from each of these rows",
    "SecondLook": "observers are counted, and `verify` holds them against the evidence, by it",
    "Retraining": "observers who trained again are counted by it",
    "JudgeAgreement": "`verify` recomputes the judge's agreement with people from it",
    "LabelVerdict": "`verify` recomputes the judge's agreement with people from it",
    "PromotionRecord": "`verify` compares every field of a record with what follows from main",
    "TrainingFacts": "lineage and `verify` trace a specialist by it",
    "RecoveryFacts": "it says how the candidate was trained",
    "SeedTries": "the gate and `verify` hold the choice among seeds against it",
    "SeedTry": "the gate and `verify` hold the choice among seeds against it",
    "StageCurve": "the packet's picture of the training is drawn from it",
    "CurveLine": "the packet's picture of the training is drawn from it",
    "StageFacts": "lineage and `verify` trace a specialist by it",
    "ExportFacts": "lineage and `verify` trace an export to its parent by it",
    "Export": "`verify` compares it with the signed list of the artifact's files",
    "RollbackOrder": "`verify` judges a rollback by what its order says",
    "LiveEvidence": "the gate and `verify` recompute a window's outcome from it",
    "HoldClearance": "`verify` judges the end of a hold by what it says",
    "Override": "`verify` judges whether an INCONCLUSIVE may count by what it says",
    "Receipt": "`verify` judges a merge by what its receipt says",
}
"""Types that are committed, and why their other fields are not left out."""


def audience(kind: type[Frozen], field: str, narrowed: Mapping[str, Audience]) -> Audience:
    """Audience of a field: never wider than `AUDIENCE` says, whatever ``narrowed`` says.

    Args:
        kind: Type of the record.
        field: One of its fields.
        narrowed: ``audiences`` of the policy.

    Raises:
        KeyError: the type is listed and the field is not; a test keeps the lists complete.
    """
    if kind.__name__ not in AUDIENCE:
        return "public"
    name = f"{kind.__name__}.{field}"
    narrower = [narrowed[key] for key in (name, COPIES.get(name, "")) if key in narrowed]
    return max([_widest(kind.__name__, field), *narrower], key=_ORDER.index)


def view(record: Frozen, reader: Audience, narrowed: Mapping[str, Audience]) -> dict[str, Any]:
    """The record as JSON values with only the fields that the reader may see, all the way down.

    A field that is not written down where it says nothing (``exclude_if``) is not shown there, either.
    """
    return {
        field: _view(getattr(record, field), reader, narrowed)
        for field, info in type(record).model_fields.items()
        if _ORDER.index(audience(type(record), field, narrowed)) <= _ORDER.index(reader)
        and not (info.exclude_if and info.exclude_if(getattr(record, field)))
    }


def for_reviewers(record: T, narrowed: Mapping[str, Audience]) -> T:
    """The record as it is committed and shown to reviewers: what policy keeps for operators is empty."""
    if not narrowed:
        return record
    withheld = {field: _default(record, field) for field in _kept_back(record, narrowed)}
    inner = {
        field: _inside(value, narrowed)
        for field in type(record).model_fields
        if field not in withheld and isinstance(value := getattr(record, field), (Frozen, tuple))
    }
    return record.model_copy(update=inner | withheld)


def narrowing_problem(name: str, proposed: Audience) -> tuple[str, str] | None:
    """Why policy may not say this of the field ``Type.field``, and the mend; None when it may."""
    kind, _, field = name.partition(".")
    if kind not in AUDIENCE:
        return f"there is no record type '{kind}' with audiences", f"Write one of: {', '.join(AUDIENCE)}."
    fields = [choice for group in AUDIENCE[kind].values() for choice in group]
    if field not in fields:
        return f"{kind} has no field '{field}'", f"Write one of: {', '.join(f'{kind}.{choice}' for choice in fields)}."
    widest = _widest(kind, field)
    if _ORDER.index(proposed) < _ORDER.index(widest):
        words = f"{name} is shown to nobody but the {widest}; policy narrows who sees a field and never widens it"
        return words, "Remove the entry."
    if proposed == "operator":
        for alias in (name, *(copy for copy, source in COPIES.items() if source == name)):
            why = NEEDED.get(alias.partition(".")[0])
            if why and alias not in LEFT_OUT:
                repeats = f", which repeats {name}," if alias != name else ""
                words = f"{alias}{repeats} cannot be kept from reviewers: {why}"
                return words, f"Remove the entry. What can be kept back: {', '.join(sorted(LEFT_OUT))}."
    return None


def _widest(kind: str, field: str) -> Audience:
    for name, fields in AUDIENCE[kind].items():
        if field in fields:
            return name
    raise KeyError(f"{kind}.{field}")


def _view(value: Any, reader: Audience, narrowed: Mapping[str, Audience]) -> Any:
    if isinstance(value, Frozen):
        return view(value, reader, narrowed)
    if isinstance(value, Mapping):
        return {key: _view(item, reader, narrowed) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_view(item, reader, narrowed) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _kept_back(record: Frozen, narrowed: Mapping[str, Audience]) -> Iterator[str]:
    """Fields of the record itself that are left out under this policy."""
    kind = type(record)
    for field in kind.model_fields:
        if f"{kind.__name__}.{field}" in LEFT_OUT and audience(kind, field, narrowed) == "operator":
            yield field


def _default(record: Frozen, field: str) -> Any:
    return type(record).model_fields[field].get_default(call_default_factory=True)


def _inside(value: Any, narrowed: Mapping[str, Audience]) -> Any:
    if isinstance(value, Frozen):
        return for_reviewers(value, narrowed)
    return tuple(_inside(item, narrowed) for item in value) if isinstance(value, tuple) else value
