"""The operations table as data: what a server's tools, a dashboard or a runbook can be made of without this package."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

from modelsmith.operations.contract import Cli, Request
from modelsmith.operations.table import EVERYONE, OPERATIONS, Effect, Operation
from modelsmith.schema.docs import json_schema


def catalogue() -> list[dict[str, Any]]:
    """Every operation, in the order of the table.

    ``annotations``, ``inputSchema`` and ``outputSchema`` are spelled as the Model Context Protocol spells those of a
    tool.
    """
    return [_entry(operation) for operation in OPERATIONS]


def _entry(operation: Operation) -> dict[str, Any]:
    verb = operation.load()
    return {
        "name": operation.name,
        "summary": operation.summary,
        "description": cleandoc(verb.request.__doc__ or ""),
        "group": operation.group,
        "roles": list(operation.roles),
        "effect": operation.effect,
        "key": operation.key,
        "annotations": {
            "readOnlyHint": operation.effect == "reads" and not operation.replaces,
            "destructiveHint": operation.replaces,
            "idempotentHint": operation.repeatable,
        },
        "inputSchema": _for_tools(verb.request),
        "outputSchema": json_schema(verb.result, "serialization"),
    }


def _for_tools(request: type[Request]) -> dict[str, Any]:
    """What an agent may say: fields that only a person gives are none of it."""
    schema = json_schema(request, "validation")
    for name, field in request.model_fields.items():
        if any(isinstance(mark, Cli) and mark.person for mark in field.metadata):
            schema["properties"].pop(name)
    return schema


def operations_page() -> str:
    """docs/operations.md: one table of all operations."""
    heads = ("Operation", "Effect", *EVERYONE, "Key", "Again", "Replaces", "What it does")
    lines = [_INTRODUCTION, _row(heads), "|---" * len(heads) + "|"]
    for operation in OPERATIONS:
        may = ("yes" if role in operation.roles else "" for role in EVERYONE)
        key = {"none": "", "listed": "`--key`", "person": "a person's `--key`"}[operation.key]
        again, replaces = "" if operation.repeatable else "yes", "yes" if operation.replaces else ""
        lines.append(_row((f"`{operation.name}`", operation.effect, *may, key, again, replaces, operation.summary)))
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


_MEANINGS: dict[Effect, str] = {
    "reads": "changes nothing, beside a picture, or what a forge shows its readers, where its asker wants that",
    "writes": "changes files of this clone, or adds to what this clone has measured",
    "proposes": "opens, merges or closes pull requests at the forge; main moves only as far as the gate lets it",
    "decides": "changes what the gate says, by a person's verdict; no role may call it",
}

_INTRODUCTION = f"""# Operations

Here you look up everything that Modelsmith can be asked for, with its effect, and who may ask. The command line is
made of this table; so can be tools for agents, a dashboard and runbooks. `modelsmith schema export --operations`
writes it as JSON (`.iterate/schemas/operations.json`): for each operation also `inputSchema`, `outputSchema`, and
`annotations` with `readOnlyHint`, `destructiveHint` and `idempotentHint`, as the Model Context Protocol has them.

This page is made by `python -m modelsmith.operations.catalogue > docs/operations.md`; a test holds it to the table.

| Effect | An operation that |
|---|---|
{chr(10).join(f"| {effect} | {meaning} |" for effect, meaning in _MEANINGS.items())}

A role is what an agent's session is allowed: `operator` drives the whole loop, `reviewer` calls what reads, `promoter`
moves specialists on. Whoever starts the session sets `MODELSMITH_ROLE` to one of them. An operation outside of the role
ends with `outside-role` (2), and `details.roles` names the roles that may call it. Where the variable is not set,
nothing is refused. The role keeps an agent to its task; it proves nothing, since whoever can set the variable can unset
it. What holds against anyone is the gate, and who has which key.

`--key` is a private SSH key that people.yaml lists, a person's or the harness's own. Where it says *a person's*, the
harness's key is refused. *Again*: called once more with the same arguments it does more. *Replaces*: it can take away
or write over what stands, such as traffic, an open pull request, or a file that its asker names.
"""

if __name__ == "__main__":
    sys.stdout.write(operations_page())
