"""GitHub's own description of its REST answers (`@octokit/openapi`), where it is at hand.

``make openapi`` fetches it with npm, pinned by checksum, and cuts it to what `github_server` serves. Run as a script it
does the cutting: ``python github_openapi.py api.github.com.json OUT.json``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

FILE = Path(__file__).parents[1] / ".cache" / "github-openapi" / "served.json"
REQUIRED = "MODELSMITH_REQUIRE_TOOLS"
SERVED = (
    "/repos/{owner}/{repo}",
    "/repos/{owner}/{repo}/pulls",
    "/repos/{owner}/{repo}/pulls/{pull_number}",
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "/repos/{owner}/{repo}/pulls/{pull_number}/merge",
    "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers",
    "/repos/{owner}/{repo}/issues/{issue_number}/comments",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}",
    "/repos/{owner}/{repo}/issues/{issue_number}/events",
    "/repos/{owner}/{repo}/statuses/{sha}",
    "/repos/{owner}/{repo}/commits/{ref}/status",
    "/repos/{owner}/{repo}/commits/{ref}/check-runs",
    "/repos/{owner}/{repo}/check-runs",
    "/repos/{owner}/{repo}/rules/branches/{branch}",
    "/repos/{owner}/{repo}/rulesets",
    "/repos/{owner}/{repo}/rulesets/{ruleset_id}",
    "/repos/{owner}/{repo}/branches/{branch}/protection",
    "/repos/{owner}/{repo}/actions/permissions/workflow",
    "/repos/{owner}/{repo}/codeowners/errors",
    "/users/{username}",
    "/apps/{app_slug}",
    "/repos/{owner}/{repo}/installation",
    "/app/installations/{installation_id}/access_tokens",
    "/repos/{owner}/{repo}/issues/{issue_number}/labels",
    "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}",
)


class Description:
    """What an answer of each path, method and status must look like."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._patterns = {path: re.compile(re.sub(r"\{[a-z_]+\}", r"[^/]+", path)) for path in document["paths"]}

    def problems(self, method: str, path: str, status: int, answer: Any, body: Any) -> list[str]:
        """Why an answer, or what was sent, is not as GitHub describes it."""
        templates = [template for template, pattern in self._patterns.items() if pattern.fullmatch(path)]
        if not templates:
            return []
        operation = self._document["paths"][templates[-1]].get(method.lower())
        if operation is None:
            return [f"{method} {path} is nothing that GitHub serves"]
        where = f"{method} {path} {status}"
        problems = []
        if body is not None and status < 400:
            problems += self._errors(f"{where}, sent", operation.get("requestBody"), body)
        if status in (401, 404, 403) and str(status) not in operation["responses"]:
            return problems
        described = operation["responses"].get(str(status))
        if described is None:
            return [*problems, f"{where}: GitHub describes no such status"]
        return problems + self._errors(where, described, answer)

    def _errors(self, where: str, described: Any, value: Any) -> list[str]:
        if described and "$ref" in described:
            described = self._document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        schema = (described or {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            return []
        whole = schema | {"components": self._document["components"]}
        errors = jsonschema.Draft202012Validator(whole).iter_errors(value)
        return [f"{where}: {'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in errors]


@cache
def description() -> Description | None:
    """GitHub's description; None where it is not at hand, unless tools are required."""
    if FILE.is_file():
        return Description(json.loads(FILE.read_bytes()))
    if os.environ.get(REQUIRED):
        raise FileNotFoundError(f"{FILE} is required and missing; run `make openapi`")
    return None


def cut(document: dict[str, Any]) -> dict[str, Any]:
    """The paths that are served and what they refer to; OpenAPI 3.0's ``nullable`` as JSON Schema says it."""
    paths = {path: document["paths"][path] for path in SERVED}
    sections: dict[str, dict[str, Any]] = {}
    todo = [paths]
    while todo:
        for reference in set(re.findall(r'"#/components/([a-z]+)/([^"]+)"', json.dumps(todo.pop()))):
            kind, name = reference
            if kind in ("schemas", "responses") and name not in sections.setdefault(kind, {}):
                sections[kind][name] = document["components"][kind][name]
                todo.append(sections[kind][name])
    plain = _plain({"paths": paths, "components": sections})
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _plain(part) for name, part in value.items() if name not in ("examples", "example", "description")}
    if "properties" in value:
        plain["properties"] = {name: _plain(part) for name, part in value["properties"].items()}
    if plain.pop("nullable", None) is True:
        return {"anyOf": [{"type": "null"}, plain]}
    return plain


if __name__ == "__main__":
    whole = json.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_text(json.dumps(cut(whole)))
