"""One call of a tool, whatever carries it: from name and arguments to an answer or a typed refusal.

What only a call needs is imported by the first one: a server answers its client before.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

import modelsmith
from modelsmith.mcp.marking import DETAILED, SHORT, Excerpt, Limits, mark, new_marker, shorten, without_places
from modelsmith.mcp.names import Words, words_of
from modelsmith.mcp.schemas import OUR_OWN
from modelsmith.mcp.tools import Tool, find_tool, steps, tools, tools_of
from modelsmith.mcp.withheld import without_held_out
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.table import Role
from modelsmith.schema.docs import json_schema
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.plaintext import visible
from modelsmith.schema.progress import Notify, silent
from modelsmith.schema.system import known_failures

if TYPE_CHECKING:
    from modelsmith.repository.workspace import Workspace

LARGEST = 65_536
"""Bytes of a call's arguments as JSON, at most."""
_SHOWN = 60
"""Characters of a name that a refusal repeats."""


@dataclass(frozen=True)
class Session:
    """Who calls: the folder that the server was started in, a role, and the tools that a token is for."""

    start: Path
    role: Role
    scopes: tuple[str, ...] = ("*",)
    """Patterns of tool names; they take away from the role's tools, and never add."""
    holder: str = ""
    """Whose token it is, for what each may have so many of; empty on standard input and output."""
    holds: Callable[[], bool] = field(default=lambda: True, compare=False)
    """Whether the token still holds: what goes on for long asks again."""

    def tools(self) -> list[Tool]:
        """Tools that this session may call."""
        return [tool for tool in tools_of(self.role) if self.has(tool)]

    def has(self, tool: Tool) -> bool:
        """Whether the session may call the tool."""
        return self.role in tool.row.roles and any(fnmatchcase(tool.name, scope) for scope in self.scopes)

    def workspace(self, notify: Notify = silent) -> Workspace:
        """The clone, looked at anew for each call.

        Raises:
            ModelsmithError: as `Workspace.find`.
        """
        from modelsmith.repository.workspace import Workspace

        return Workspace.find(self.start, notify, self.role)


class Reply(NamedTuple):
    """What a call comes to: an answer by the tool's schema, or a refusal: ``code``, ``message``, ``mend``, ``next``."""

    body: dict[str, Any]
    refused: bool


def call(session: Session, name: str, arguments: Mapping[str, Any], notify: Notify = silent) -> Reply:
    """Call a tool. Nothing is raised: what goes wrong is a refusal; of what nobody foresaw, no word is told."""
    try:
        with known_failures():
            tool = allowed(session, name)
            return Reply(_answer(session, tool, arguments, notify), refused=False)
    except ModelsmithError as error:
        return Reply(refusal(session, error), refused=True)
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return Reply(refusal(session, foreseen_by_nobody()), refused=True)


def foreseen_by_nobody() -> ModelsmithError:
    """What an agent is told of a fault of ours; the server's own log says more."""
    return ModelsmithError("bug", "An error that nobody foresaw.", "Tell a person: the server's log says what it was.")


def allowed(session: Session, name: str) -> Tool:
    """The tool of that name, which the session may call.

    Raises:
        InvalidInput: ``no-such-tool``, ``outside-role``.
    """
    tool = find_tool(name)
    if tool is None:
        raise InvalidInput(
            "no-such-tool", f"There is no tool {name[:_SHOWN]!a}", "List the tools, and call one of them."
        )
    if not session.has(tool):
        roles = " or ".join(tool.row.roles)
        raise InvalidInput(
            "outside-role",
            f"{name} is for the role {roles}, and this session's is {session.role}"
            if session.role not in tool.row.roles
            else f"{name} is outside of what this session's token is for",
            "Leave it to a session that may. No argument changes the role of a session.",
        )
    return tool


def _answer(session: Session, tool: Tool, arguments: Mapping[str, Any], notify: Notify) -> dict[str, Any]:
    options = dict(arguments)
    detail, offset = _our_own(options)
    request = request_of(tool, options)
    workspace = session.workspace(notify)
    _require_each(session, tool, request.calls(workspace))
    result = _run(tool, workspace, request)
    shortened = _excerpt_of(result, DETAILED if detail else SHORT, offset)
    of_a_job = tool.operation.startswith("jobs ")
    return _body(workspace, int(result.exit_code()), shortened, _ours(tool.name, in_the_end=False), any_other=of_a_job)


def _body(workspace: Workspace, exit: int, shortened: Excerpt, ours: Words, any_other: bool) -> dict[str, Any]:
    marker = new_marker()
    placed = without_places(shortened.value, places(workspace), any_other)
    return {
        "exit": exit,
        "marker": marker,
        "result": mark(placed, marker, ours),
        "shortened": [part.model_dump() for part in shortened.shortened],
    }


def answer_of_job(workspace: Workspace, tool: Tool, exit: int, result: Mapping[str, Any]) -> Reply:
    """Answer that a long tool would have given, had anybody waited for its operation."""
    shortened = shorten(without_held_out(dict(result)), SHORT)
    return Reply(_body(workspace, exit, shortened, _ours(tool.name, in_the_end=True), any_other=True), refused=False)


def refusal_of_job(session: Session, exit: int, error: Mapping[str, Any]) -> Reply:
    """The same, of an operation that ended with an error."""
    return Reply(_error_answer(session, {"details": {}, "next": None, **error, "exit": exit}), refused=True)


def _excerpt_of(result: Result, limits: Limits, offset: int) -> Excerpt:
    """What an agent is shown of it; a cursor stands behind the last that is shown, so that none is passed over."""
    while True:
        shortened = shorten(without_held_out(result.model_dump(mode="json", by_alias=True)), limits, offset)
        cut = next((part for part in shortened.shortened if part.at == f"/{result.followed}"), None)
        if cut is None or cut.offset + cut.shown >= cut.of:
            return shortened
        result = result.head(cut.offset + cut.shown)


def _require_each(session: Session, tool: Tool, operations: Set[str]) -> None:
    """What a call would call in turn, the session must have a tool for: a token's scopes hold for that too."""
    without = sorted(operations - {offered.operation for offered in session.tools()})
    if without:
        raise InvalidInput(
            "outside-role",
            f"{tool.name} would call {', '.join(without)}, for which this session has no tool",
            "Leave it to a session that may. No argument changes the role of a session.",
        )


def _run(tool: Tool, workspace: Workspace, request: Request) -> Result:
    if tool.row.long:
        from modelsmith.operations.job_view import start_job

        return start_job(workspace, tool.operation, request)
    return tool.load().run(workspace, request)


@cache
def _ours(name: str, in_the_end: bool) -> Words:
    """Texts that the tool's answer holds by its type; what a job came to is the answer of any that takes long."""
    results = [tool.answer(in_the_end) for tool in tools() if tool.name == name]
    if name == "modelsmith_train_status":
        results += [tool.load().result for tool in tools() if tool.row.long]
    return {**words_of([json_schema(result, "serialization") for result in results]), **steps()}


def _our_own(arguments: dict[str, Any]) -> tuple[bool, int]:
    detail, offset = arguments.pop("detail", None), arguments.pop("offset", None)
    detail, offset = False if detail is None else detail, 0 if offset is None else _as_integer(offset)
    if not isinstance(detail, bool):
        raise InvalidInput("usage", "detail: it is true or false", "Leave it out, or say true.")
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= OUR_OWN["offset"]["maximum"]:
        raise InvalidInput("usage", "offset: it is a whole number from 0 on", "Leave it out, or say where to begin.")
    return detail, offset


def request_of(tool: Tool, arguments: Mapping[str, Any]) -> Request:
    """The request that the arguments make; JSON is read as strictly as a governed file.

    An argument that is null is left out: many clients' models say null for what they do not give. And many clients
    write whole numbers as 4.0, which JSON Schema calls an integer too.

    Raises:
        InvalidInput: ``usage``, ``arguments-too-large``.
    """
    fields = tool.fields()
    for name in arguments:
        if name not in fields:
            raise InvalidInput(
                "usage",
                f"{tool.name} takes no argument {str(name)[:_SHOWN]!a}",
                f"It takes {', '.join([*fields, *OUR_OWN])}.",
            )
    try:
        text = json.dumps({fields[name]: _as_integer(value) for name, value in arguments.items() if value is not None})
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput("usage", "The arguments are no JSON", "Give plain values.") from None
    if len(text) > LARGEST:
        raise InvalidInput("arguments-too-large", f"The arguments have more than {LARGEST} bytes", "Say less.")
    names = {of: name for name, of in fields.items()}
    try:
        return tool.load().request.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join([names.get(str(first["loc"][0]), ""), *map(str, first["loc"][1:])]) if first["loc"] else ""
        raise InvalidInput(
            "usage",
            f"{where[:_SHOWN]}: {first['msg'].removeprefix('Value error, ')[:200]}",
            "See the tool's input schema.",
        ) from None


def _as_integer(value: Any) -> Any:
    """A whole number as an integer, and every other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_FILES = (
    "Mend the file as each of `details.problems` says. They are marked: a mend for a file repeats what stands in it."
)


def refusal(session: Session, error: ModelsmithError) -> dict[str, Any]:
    """What an agent is told of an error: no path of this machine, and the mistakes of files.

    A mend is ours, and stands bare, so that it can be followed; the mend of a file's mistake is not, since it repeats
    words of the file.
    """
    following = error.next and error.next.model_dump(mode="json")
    return _error_answer(session, {**error.envelope(), "exit": int(error.exit), "next": following})


def _error_answer(session: Session, error: Mapping[str, Any]) -> dict[str, Any]:
    details = error["details"]
    details_kept = {name: details[name] for name in ("problems", "waiting_for", "refusals") if name in details}
    answer = {
        **{name: error[name] for name in ("code", "message", "exit", "next")},
        "mend": visible(_FILES if details_kept.get("problems") else error["mend"]),
        "details": details_kept,
    }
    shortened, _ = shorten(json.loads(json.dumps(answer, default=str)), SHORT)
    try:
        where = places(session.workspace())
    except ModelsmithError:
        where = _of_this_machine()
    placeless = without_places(shortened, where, any_other=True)
    marker = new_marker()
    marked = mark({name: placeless[name] for name in ("message", "next", "details")}, marker, steps())
    return {**placeless, **marked, "marker": marker}


def places(workspace: Workspace) -> dict[str, str]:
    """Folders of this machine, longest first, and what an agent reads in their place."""
    ours = {str(workspace.private): "<private>", str(workspace.root): "<clone>", str(workspace.home): "<home>"}
    ours |= _configured(workspace.root)
    return dict(sorted((ours | _of_this_machine()).items(), key=lambda pair: -len(pair[0])))


@cache
def _configured(root: Path) -> dict[str, str]:
    """Folders that the clone's settings name, as they were when they were first asked for."""
    from modelsmith.repository.git import Git

    settings = {name: Git(root).setting(f"modelsmith.{name}") or "" for name in ("forge", "keys")}
    return {value: f"<{name}>" for name, value in settings.items() if value.startswith("/")}


@cache
def _of_this_machine() -> dict[str, str]:
    return {
        str(Path(modelsmith.__file__).parent): "<toolkit>",
        sys.prefix: "<python>",
        tempfile.gettempdir(): "<temporary>",
        str(Path.home()): "<user>",
    }
