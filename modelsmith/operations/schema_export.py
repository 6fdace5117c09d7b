"""``modelsmith schema export``: JSON Schemas, so that editors check governed files and agents check answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from modelsmith.operations.catalogue import catalogue
from modelsmith.operations.contract import ARGUMENT, ProgressLine, Refusal, Request, Result
from modelsmith.operations.table import OPERATIONS
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import json_schemas
from modelsmith.schema.docs import json_schema
from modelsmith.schema.error_codes import error_codes
from modelsmith.schema.events import event_schemas


class SchemaExportRequest(Request):
    """Writes one JSON Schema for each kind of governed file into DIR, generated from the types that check them.

    Into DIR/events it writes one for each event of the ledger, and one for the form in which the ledger gives them.

    With --results it also writes, into DIR/results, one for what each command prints with --json, one for errors and
    one for the lines of progress on stderr; and error-codes.json, every code that a command can end with: topic, exit
    code, meaning and mend.

    With --operations it writes operations.json: every operation with the schemas of what it takes and gives, its
    effect, and the roles that may call it.
    """

    directory: Annotated[Path, Field(description="Folder to write into."), ARGUMENT] = Path(".iterate/schemas")
    results: Annotated[bool, Field(description="What commands print with --json too.")] = False
    operations: Annotated[bool, Field(description="The table of operations too, to make tools of.")] = False


class SchemaExportResult(Result):
    """Schema files that were written."""

    directory: str
    kinds: tuple[str, ...]
    events: tuple[str, ...]
    """Events, and ``recorded``: the form in which the ledger gives each of them."""
    results: tuple[str, ...]
    """Commands, as in a file's name: ``pr-show``; ``error`` and ``progress`` among them."""
    operations: tuple[str, ...]


def run(workspace: Workspace, request: SchemaExportRequest) -> SchemaExportResult:
    """Write them; ``link-in-the-way`` where a link in the clone leads elsewhere."""
    folder = workspace.root / request.directory
    kinds, events = json_schemas(), event_schemas()
    results = result_schemas() if request.results else {}
    files: dict[Path, Any] = {folder / f"{name}.schema.json": schema for name, schema in kinds.items()}
    files |= {folder / "events" / f"{name}.schema.json": schema for name, schema in events.items()}
    if request.results:
        files |= {folder / "results" / f"{name}.schema.json": schema for name, schema in results.items()}
        files[folder / "results" / "error-codes.json"] = known_errors()
    listed = catalogue() if request.operations else []
    if request.operations:
        files[folder / "operations.json"] = listed
    for path, content in files.items():
        refuse_links(workspace.root, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return SchemaExportResult(
        directory=str(folder),
        kinds=tuple(sorted(kinds)),
        events=tuple(sorted(events)),
        results=tuple(sorted(results)),
        operations=tuple(operation["name"] for operation in listed),
    )


def known_errors() -> dict[str, dict[str, str | int]]:
    """Every code that a command can end with."""
    return {
        code.code: {"topic": topic, "exit": int(code.exit), "meaning": code.meaning, "mend": code.mend}
        for topic, codes in error_codes().items()
        for code in codes
    }


def result_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas of what commands print with ``--json``, by the command's words."""
    types: dict[str, type[BaseModel]] = {
        operation.name.replace(" ", "-"): operation.load().result for operation in OPERATIONS
    }
    return {
        name: json_schema(kind, "serialization")
        for name, kind in (types | {"error": Refusal, "progress": ProgressLine}).items()
    }
