"""The governed files of a promotion repository: which path holds which kind, and the JSON Schema of each kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel

from modelsmith.schema.cluster import Cluster, ClusterDefaults, Routing
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.docs import json_schema
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.generator import Generator
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.labels import Labels
from modelsmith.schema.live_evidence import LiveEvidence
from modelsmith.schema.observed import SecondLook
from modelsmith.schema.pending import Pending
from modelsmith.schema.promotion import Approval, ExportFacts, PromotionRecord, Receipt, RollbackOrder, TrainingFacts
from modelsmith.schema.router import Router
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.runbook import Runbook
from modelsmith.schema.scenario import Scenario

Format = Literal["yaml", "jsonl", "json", "codeowners"]

POLICY = ".github/governance/policy.yaml"
PEOPLE = ".github/governance/people.yaml"
TRUST = ".github/governance/trust"
CODEOWNERS = ".github/CODEOWNERS"
CLUSTER_DEFAULTS = "clusters/defaults.yaml"
ROUTER = "clusters/router.yaml"


@dataclass(frozen=True)
class Kind:
    """One kind of governed file."""

    name: str
    pattern: str
    """Path; ``*`` stands for any part of one name, ``**`` for any folders."""
    model: type[BaseModel] | None
    """None for CODEOWNERS, which has a grammar of its own."""
    format: Format = "yaml"

    def holds(self, path: str) -> bool:
        """Whether the file at this path is of this kind."""
        return _compiled(self.pattern).fullmatch(path) is not None


KINDS: tuple[Kind, ...] = (
    Kind("evalset", "evals/*/*/evalset.yaml", EvalSet),
    Kind("rubric", "evals/*/*/rubrics/*.yaml", Rubric),
    Kind("generator", "evals/*/*/generators/*.yaml", Generator),
    Kind("dataset", "evals/*/*/datasets/*.yaml", Dataset),
    Kind("labels", "evals/*/*/labels/*.yaml", Labels),
    Kind("scenario", "evals/*/*/scenarios/*/*.yaml", Scenario),
    Kind("scenario", "evals/*/*/held_out/*/*.yaml", Scenario),
    Kind("scenario", "evals/*/*/micro/*/*.yaml", Scenario),
    Kind("scenario", "evals/*/*/scenarios/*/*.jsonl", Scenario, "jsonl"),
    Kind("scenario", "evals/*/*/held_out/*/*.jsonl", Scenario, "jsonl"),
    Kind("scenario", "evals/*/*/micro/*/*.jsonl", Scenario, "jsonl"),
    Kind("scenario", "evals/*/pending/**/*.yaml", Scenario),
    Kind("pending", "evals/*/pending/*.jsonl", Pending, "jsonl"),
    Kind("cluster-defaults", CLUSTER_DEFAULTS, ClusterDefaults),
    Kind("router", ROUTER, Router),
    Kind("cluster", "clusters/*/cluster.yaml", Cluster),
    Kind("routing", "clusters/*/routing.yaml", Routing),
    Kind("runbook", "runbooks/*.json", Runbook, "json"),
    Kind("policy", POLICY, Policy),
    Kind("people", PEOPLE, People),
    Kind("codeowners", CODEOWNERS, None, "codeowners"),
    Kind("record", "promotions/*/*/*/record.json", PromotionRecord, "json"),
    Kind("evidence", "promotions/*/*/*/evidence.json", Evidence, "json"),
    Kind("training", "promotions/*/*/*/training.json", TrainingFacts, "json"),
    Kind("export", "promotions/*/*/*/export.json", ExportFacts, "json"),
    Kind("rollback", "promotions/*/*/*/rollback.json", RollbackOrder, "json"),
    Kind("live", "promotions/*/*/*/live.json", LiveEvidence, "json"),
    Kind("observation", "promotions/*/*/observed-*/observation.json", SecondLook, "json"),
    Kind("receipt", "promotions/*/*/*/receipts/merge.json", Receipt, "json"),
    Kind("approval", "promotions/*/*/*/receipts/approval-*.json", Approval, "json"),
)


@lru_cache(maxsize=1 << 12)
def kind_of(path: str) -> Kind | None:
    """The kind of the governed file at this path; None when no governed file lies there."""
    return next((kind for kind in KINDS if kind.holds(path)), None)


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas (draft 2020-12) by kind, with the documentation of every field, for editors and other tools."""
    schemas: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        if kind.model is not None and kind.name not in schemas:
            places = " or ".join(f"`{other.pattern}`" for other in KINDS if other.name == kind.name)
            schema = json_schema(kind.model, "validation")
            schemas[kind.name] = schema | {
                "description": f"{schema.get('description', '')}\n\nFiles: {places}".strip(),
            }
    return schemas


_patterns: dict[str, re.Pattern[str]] = {}


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern not in _patterns:
        parts = re.split(r"(\*\*/|\*)", pattern)
        words = {"**/": r"(?:[^/]+/)*", "*": r"[^/]+"}
        _patterns[pattern] = re.compile("".join(words.get(part, re.escape(part)) for part in parts))
    return _patterns[pattern]
