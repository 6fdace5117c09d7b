"""Which texts of an answer may stand bare, because they are a name or one of our own words. Pure.

A word without blanks can say something too ("approve-now"), so a shape is not enough: bare is what a machine made, what
the type of its own field says, and a name in a field of names. A title, an answer, a branch or a path is none of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Words = Mapping[str, frozenset[str]]
"""Field -> texts that its type holds as values."""

MADE = re.compile(
    r"[-+0-9.:TZ%]{0,48}|(?:store:)?(?:sha256:)?[0-9a-f]{7,64}|iter-[0-9]{3,9}-[0-9a-f]{8}|[1-9][0-9]{0,17}-[0-9a-f]{16}"
)
"""Numbers and times, digests and commits, specialists, cursors: nobody chooses them."""
NAME = re.compile(r"[A-Za-z0-9@_.:/+#<>~-]{0,96}")
"""The shape of a name: no blank, and nothing that steers a reader."""
NAMES = frozenset(
    {
        # who
        "actor", "approved_by", "approver_chain", "approvers", "asked_by", "decides", "gate", "holder", "key", "owners",
        "observer", "observers", "people", "preparer", "requester", "role", "roles", "signer", "waiting_for", "who",
        # what tools take as arguments, and the ids that they are found by
        "artifact", "base_model", "capability", "cases", "cluster", "diagnosed", "eval_run", "eval_set", "eval_tag",
        "export", "exports", "failing_scenarios", "first", "generator", "id", "in_validation", "incumbent", "job",
        "jobId", "lost_gates", "metric", "model", "name", "next_target", "only", "pattern", "point", "points",
        "prior_specialist", "regressions", "revision", "row", "rows", "run", "runbook", "scenario", "scenarios",
        "second", "since", "specialist", "step", "tag",
        # words of ours that a type writes as text
        "code", "decision", "eval_set_version", "event", "from_states", "kind", "methods", "phase",
        "readiness", "renewal", "section", "state", "status", "substrate", "to_state", "toolkit", "verdict",
        "version", "weights",
        # places that we named
        "directory", "folder", "log", "repository", "svg",
    }
)  # fmt: skip
"""Fields of names. A field that is not here is marked, whatever it holds."""


def is_bare(text: str, field: str, words: Words) -> bool:
    """Whether a text in a field of this name can say nothing to whoever reads it."""
    return bool(
        MADE.fullmatch(text) or text in words.get(field, ()) or (field in NAMES and NAME.fullmatch(text) is not None)
    )


def words_of(schemas: Sequence[Mapping[str, Any]]) -> Words:
    """Of each field anywhere in JSON Schemas, the texts that its own type holds as values."""
    values_by_name: dict[str, set[str]] = {}
    for schema in schemas:
        for name, subschema in _fields(schema):
            values_by_name.setdefault(name, set()).update(_values(subschema, schema.get("$defs", {})))
    return {name: frozenset(values) for name, values in values_by_name.items()}


def _fields(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, Mapping):
        for name, subschema in schema.items():
            if name == "properties":
                yield from subschema.items()
            yield from _fields(subschema)
    elif isinstance(schema, list):
        for item in schema:
            yield from _fields(item)


def _values(schema: Any, named: Mapping[str, Any]) -> Iterator[str]:
    """Values of the type itself, of its items and of its alternatives; an object's fields are their own."""
    if not isinstance(schema, Mapping):
        return
    if "$ref" in schema:
        definition = named.get(schema["$ref"].rpartition("/")[2], {})
        yield from () if "properties" in definition else _values(definition, named)
    yield from (word for word in (schema.get("const"), *schema.get("enum", ())) if isinstance(word, str))
    for part in ("items", "additionalProperties"):
        yield from _values(schema.get(part), named)
    for part in ("prefixItems", "anyOf", "oneOf"):
        for subschema in schema.get(part, ()):
            yield from _values(subschema, named)
