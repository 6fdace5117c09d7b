"""A bare server of the official SDK with one tool, and nothing of ours round the operation; see agents.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TOOL = "modelsmith_status"


def bare(start: Path) -> Server[Any]:
    def status() -> Any:
        from modelsmith.operations.status import StatusRequest, run
        from modelsmith.repository.workspace import Workspace

        return run(Workspace.find(start), StatusRequest())

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name=TOOL, input_schema={"type": "object"})])

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        result = await anyio.to_thread.run_sync(status)
        text = types.TextContent(text=result.model_dump_json())
        return types.CallToolResult(content=[text], structured_content=result.model_dump(mode="json"))

    return Server("bare", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve(start: Path) -> None:
    server = bare(start)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(serve, Path(sys.argv[1]))
