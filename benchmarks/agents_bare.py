"""A bare server of the official SDK with one tool of ours on it, and nothing else of ours; see agents.py.

The tool is declared as ours declares it (a client holds each answer against the schema), calls the same function, and
answers an object of the same form. Nothing of ours is imported before it is called.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TOOL = "modelsmith_status"


def bare(start: Path) -> Server[Any]:
    def declared() -> types.Tool:
        from modelsmith.mcp.schemas import answer_schema, input_schema
        from modelsmith.operations.status import StatusRequest, StatusResult

        return types.Tool(
            name=TOOL, input_schema=input_schema(StatusRequest, {}), output_schema=answer_schema(StatusResult)
        )

    def status() -> dict[str, Any]:
        from modelsmith.operations.status import StatusRequest, run
        from modelsmith.repository.workspace import Workspace

        result = run(Workspace.find(start), StatusRequest())
        document = result.model_dump(mode="json", by_alias=True)
        return {"exit": int(result.exit_code()), "marker": "", "result": document, "shortened": []}

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[declared()])

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        status_found = await anyio.to_thread.run_sync(status)
        text = types.TextContent(text=json.dumps(status_found))
        return types.CallToolResult(content=[text], structured_content=status_found)

    return Server("bare", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve(start: Path) -> None:
    server = bare(start)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(serve, Path(sys.argv[1]))
