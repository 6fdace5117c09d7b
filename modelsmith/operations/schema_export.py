"""``modelsmith schema export``: JSON Schemas, so that editors complete and check governed files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import json_schemas


class SchemaExportRequest(Request):
    """Writes one JSON Schema for each kind of governed file into DIR, generated from the types that check them."""

    directory: Annotated[Path, Field(description="Folder to write into."), ARGUMENT] = Path(".iterate/schemas")


class SchemaExportResult(Result):
    """Files written."""

    directory: str
    kinds: tuple[str, ...]


def run(workspace: Workspace, request: SchemaExportRequest) -> SchemaExportResult:
    """Write them; ``link-in-the-way`` where a link in the clone leads elsewhere."""
    folder = workspace.root / request.directory
    schemas = json_schemas()
    for kind, schema in schemas.items():
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        path = folder / f"{kind}.schema.json"
        refuse_links(workspace.root, path)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return SchemaExportResult(directory=str(folder), kinds=tuple(sorted(schemas)))
