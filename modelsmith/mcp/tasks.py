"""Long work as tasks, where a client has the Tasks extension of 2026-07-28 (SEP-2663).

The task is the job: what a client polls and cancels is read from the clone's jobs at each request, and nothing else is
kept. Its id is a ticket to that job, which opens it for the role and the token that asked, and for nobody else. A task
is given only where the session has the tool that shows jobs, and cancelled only where it has the one that cancels them:
the extension gives no right that tools do not.

The official SDK knows how an extension is served, and no extension. Clients of older versions of the protocol, whose
answers it holds to their own schema, and those that do not say that they have the extension get a ``jobId``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from modelsmith.mcp.calls import Reply, Session, allowed, answer_of_job, call, refusal, refusal_of_job
from modelsmith.mcp.tools import find_tool, tool_of
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError

if TYPE_CHECKING:
    from modelsmith.operations.job_tasks import Task
    from modelsmith.operations.job_view import JobView

EXTENSION = "io.modelcontextprotocol/tasks"
POLL = 5000
"""Milliseconds between two looks, as clients are asked to keep them."""
_ASKED = 1.0
"""Seconds in which a job has left its queue, or been asked for its end; it may put a checkpoint away for longer."""
SHOWS, CANCELS = "modelsmith_train_status", "modelsmith_job_cancel"
_THE_EXTENSION = types.ClientCapabilities(extensions={EXTENSION: {}})


class _Named(types.RequestParams):
    task_id: str = Field(max_length=256)


class _Update(_Named):
    input_responses: dict[str, Any]


class Tasks:
    """The extension of one server."""

    def __init__(self, caller: Callable[[], Session], result: Callable[[Reply], types.CallToolResult]) -> None:
        self._caller = caller
        self._result = result
        self._ending: set[str] = set()
        """Jobs that are asked for their end at this moment."""

    def serve(self, server: Server[Any]) -> None:
        """Add the extension's methods to a server, and name it to clients that may have it."""
        server.add_request_handler("tasks/get", _Named, self.get)
        server.add_request_handler("tasks/update", _Update, self.update)
        server.add_request_handler("tasks/cancel", _Named, self.cancel)

        async def discover(ctx: Any, params: types.RequestParams) -> types.DiscoverResult:
            named = {EXTENSION: dict[str, Any]()} if self._has(self._caller(), SHOWS) else None
            return types.DiscoverResult(
                supported_versions=list(MODERN_PROTOCOL_VERSIONS),
                capabilities=server.get_capabilities(protocol_version=ctx.protocol_version, extensions=named),
                instructions=server.instructions,
            )

        server.add_request_handler("server/discover", types.RequestParams, discover)

    def given(self, ctx: Any, session: Session, name: str) -> bool:
        """Whether a call of this tool is answered with a task."""
        tool = find_tool(name)
        return tool is not None and tool.row.long and declared(ctx) and self._has(session, SHOWS)

    async def made(self, session: Session, job: str) -> dict[str, Any]:
        """Task that the client of a call gets to poll, where the call became a job."""
        from modelsmith.operations.job_tasks import task_of

        task = await anyio.to_thread.run_sync(lambda: task_of(session.workspace(), job, _holder(session)))
        return {"resultType": "task", **_state(task, "working", _words(task.job))}

    async def get(self, ctx: Any, params: _Named) -> dict[str, Any]:
        """`tasks/get`: how far it is; at its end what the tool would have answered."""
        session = self._may(ctx, params)
        return await anyio.to_thread.run_sync(self._get, session, params.task_id)

    async def update(self, ctx: Any, params: _Update) -> types.EmptyResult:
        """`tasks/update`: no task of ours asks its client for anything, so answers are heard and left."""
        session = self._may(ctx, params)
        await anyio.to_thread.run_sync(self._find, session, params.task_id)
        return types.EmptyResult()

    async def cancel(self, ctx: Any, params: _Named) -> types.EmptyResult:
        """`tasks/cancel`: have its job put its work away and end, and do not wait for it."""
        session = self._may(ctx, params)
        await anyio.to_thread.run_sync(self._cancel, session, params.task_id)
        return types.EmptyResult()

    def _get(self, session: Session, id: str) -> dict[str, Any]:
        task = self._find(session, id)
        job, tool = task.job, tool_of(task.job.operation)
        if task.over or job.status == "interrupted":
            failure = InfrastructureFailure(
                "task-interrupted",
                f"Job {job.job} went on as another task" if task.over else f"The process of job {job.job} is gone",
                "Ask for the same work again: it goes on where it was.",
            )
            error = {"code": types.INTERNAL_ERROR, "message": failure.message, "data": refusal(session, failure)}
            return _state(task, "failed", failure.message) | {"error": error}
        if job.status == "cancelled":
            return _state(task, "cancelled", _words(job))
        if job.status in ("queued", "running") or tool is None:
            return _state(task, "working", _words(job))
        code = job.exit or 0
        reply = (
            refusal_of_job(session, code, task.error)
            if task.error is not None
            else answer_of_job(session.workspace(), tool, code, task.result or {})
        )
        result = self._result(reply).model_dump(by_alias=True, mode="json", exclude_none=True)
        return _state(task, "completed", _words(job)) | {"result": result}

    def _cancel(self, session: Session, id: str) -> None:
        task = self._find(session, id, CANCELS)
        job = task.job
        if task.over or job.status not in ("queued", "running") or job.job in self._ending:
            return
        self._ending.add(job.job)

        def end() -> None:
            try:
                call(session, CANCELS, {"jobId": job.job})
            finally:
                self._ending.discard(job.job)

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        ending.join(_ASKED)

    def _find(self, session: Session, id: str, *needs: str) -> Task:
        """The task, for a session that may see jobs, and call these tools.

        Raises:
            MCPError: it is not the session's.
        """
        from modelsmith.operations.job_tasks import find_task

        try:
            for name in (SHOWS, *needs):
                allowed(session, name)
            return find_task(session.workspace(), id, _holder(session))
        except ModelsmithError as error:
            raise MCPError(types.INVALID_PARAMS, error.message, refusal(session, error)) from None

    def _may(self, ctx: Any, params: _Named) -> Session:
        """Who asks, of a client that has the extension, and whose request is labelled as what it is.

        Raises:
            MCPError: none of these.
        """
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(types.METHOD_NOT_FOUND, "Method not found", ctx.method)
        label = ctx.request and decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER))
        if ctx.request and label != params.task_id:
            raise MCPError(types.HEADER_MISMATCH, "Mcp-Name is not the taskId")
        require(ctx)
        return self._caller()

    @staticmethod
    def _has(session: Session, name: str) -> bool:
        tool = find_tool(name)
        return tool is not None and session.has(tool)


def declared(ctx: Any) -> bool:
    """Whether the client says with this request that it has the extension."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and ctx.session.check_client_capability(_THE_EXTENSION)


def require(ctx: Any) -> None:
    """Refuse a client that does not.

    Raises:
        MCPError: it does not.
    """
    if not declared(ctx):
        needed = {"requiredCapabilities": _THE_EXTENSION.model_dump(by_alias=True, mode="json", exclude_none=True)}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", needed)


def _holder(session: Session) -> str:
    return f"{session.role}\0{session.holder}"


def _state(task: Task, status: str, words: str) -> dict[str, Any]:
    """The fields of every task. Jobs are kept, so none runs out."""
    return {
        "taskId": task.ticket,
        "status": status,
        "statusMessage": words,
        "createdAt": task.created.isoformat(timespec="milliseconds"),
        "lastUpdatedAt": task.updated.isoformat(timespec="milliseconds"),
        "ttlMs": None,
        "pollIntervalMs": POLL,
    }


def _words(job: JobView) -> str:
    """How it stands, in words of ours alone."""
    parts = [f"Job {job.job} of {job.operation}: {job.status}"]
    if job.total:
        parts.append(f"{job.done} of {job.total}")
    if job.minutes_left is not None:
        parts.append(f"{job.minutes_left:g} minutes left in this step")
    return ", ".join(parts)
