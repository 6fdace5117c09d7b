"""A server with GitHub's shape: the few REST answers that the toolkit asks for, and git over http.

It holds what GitHub documents and little more. Every REST answer, and what is sent to it, is held against GitHub's own
OpenAPI description where that is at hand (`github_openapi`). It is no GitHub: where its behaviour is a guess, it names
the page of docs.github.com that the guess rests on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import github_graphql
from github_openapi import Description

REPO_URLS = [
    "archive_url",
    "assignees_url",
    "blobs_url",
    "branches_url",
    "collaborators_url",
    "comments_url",
    "commits_url",
    "compare_url",
    "contents_url",
    "contributors_url",
    "deployments_url",
    "downloads_url",
    "events_url",
    "forks_url",
    "git_commits_url",
    "git_refs_url",
    "git_tags_url",
    "hooks_url",
    "html_url",
    "issue_comment_url",
    "issue_events_url",
    "issues_url",
    "keys_url",
    "labels_url",
    "languages_url",
    "merges_url",
    "milestones_url",
    "notifications_url",
    "pulls_url",
    "releases_url",
    "stargazers_url",
    "statuses_url",
    "subscribers_url",
    "subscription_url",
    "tags_url",
    "teams_url",
    "trees_url",
    "url",
    "clone_url",
    "git_url",
    "ssh_url",
    "svn_url",
]
USER_URLS = [
    "avatar_url",
    "events_url",
    "followers_url",
    "following_url",
    "gists_url",
    "html_url",
    "organizations_url",
    "received_events_url",
    "repos_url",
    "starred_url",
    "subscriptions_url",
    "url",
]
PULL_URLS = [
    "comments_url",
    "commits_url",
    "diff_url",
    "html_url",
    "issue_url",
    "patch_url",
    "review_comment_url",
    "review_comments_url",
    "statuses_url",
    "url",
]
LINKS = ["comments", "commits", "statuses", "html", "issue", "review_comments", "review_comment", "self"]
TRANSIENT = {
    "main moved": "Base branch was modified. Review and try the merge again.",
    "not known yet": "Pull Request is not mergeable",
}
"""What GitHub says to a merge that it takes a moment later; by bug reports of others, its pages do not say."""
ALL = frozenset({"contents", "pull_requests", "statuses", "issues", "checks"})
"""Permissions of a token, each with write."""


_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass
class Account:
    login: str
    permissions: frozenset[str] = ALL
    app: bool = False
    ends: float = float("inf")


@dataclass
class Pull:
    number: int
    title: str
    body: str
    login: str
    head_ref: str
    head_repo: str
    sha: str
    state: str = "open"
    merge: str | None = None
    merged_at: str | None = None
    reviews: list[dict[str, Any]] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    left_queue: str | None = None
    """Why the merge queue took it out last."""
    comments: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    """What happened to it, by "Issue event types"."""
    labels: list[str] = field(default_factory=list)
    draft: bool = False
    apart: tuple[str, str] = ("", "")
    """Its tip and the main that it was found not to be part of."""


@dataclass
class Repo:
    full_name: str
    bare: Path
    default_branch: str = "main"
    archived: bool = False
    private: bool = True
    needs_approval: bool = False
    pulls: dict[int, Pull] = field(default_factory=dict)
    issues: int = 0
    """Numbers are given to issues and pull requests together."""
    statuses: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    rulesets: list[dict[str, Any]] = field(default_factory=list)
    protection: dict[str, Any] | None = None
    """Classic protection of main."""
    workflows: dict[str, Any] = field(
        default_factory=lambda: {"default_workflow_permissions": "write", "can_approve_pull_request_reviews": True}
    )
    methods: dict[str, bool] = field(
        default_factory=lambda: {f"allow_{how}": True for how in ("merge_commit", "squash_merge", "rebase_merge")}
    )
    queue: list[int] | None = None
    """Numbers in the merge queue; None: there is no queue."""
    owners_errors: list[dict[str, Any]] = field(default_factory=list)

    def git(self, *words: str) -> str:
        process = subprocess.run(["git", "-C", self.bare, *words], capture_output=True, text=True, env=clean())
        return process.stdout.strip() if process.returncode == 0 else ""

    def refs(self) -> dict[str, str]:
        """The commit of each ref, by git's own files (gitrepository-layout): a process would be most of an answer.

        As git does it reads the loose ones first, which may be packed meanwhile.
        """
        refs: dict[str, str] = {}
        for folder, _, names in os.walk(self.bare / "refs"):
            for name in names:
                file = Path(folder, name)
                with suppress(FileNotFoundError):
                    refs[str(file.relative_to(self.bare))] = file.read_text(encoding="utf-8").strip()
        packed = self.bare / "packed-refs"
        lines = packed.read_text(encoding="utf-8").splitlines() if packed.exists() else []
        for commit, _, ref in (line.partition(" ") for line in lines if not line.startswith(("#", "^"))):
            refs.setdefault(ref, commit)
        return {ref: commit for ref, commit in refs.items() if _COMMIT.fullmatch(commit)}

    def branch(self, name: str) -> str:
        """The commit of a branch; empty without one."""
        return self.refs().get(f"refs/heads/{name}", "")

    def next_number(self) -> int:
        self.issues += 1
        return self.issues


@dataclass
class Fault:
    method: str
    path: str
    how: str
    times: int = 1


def clean() -> dict[str, str]:
    """An environment in which git is nobody's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {
        f"GIT_{role}_{name_part}": "GitHub" for role in ("AUTHOR", "COMMITTER") for name_part in ("NAME", "EMAIL")
    }
    return inherited | identity | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Exception):
    def __init__(self, status: int, message: str, errors: list[Any] | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.body: dict[str, Any] = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        if errors is not None:
            self.body["errors"] = errors
        if status in (401, 403, 404):
            self.body["status"] = str(status)


class GitHubServer:
    """Start it with `with`; repositories lie in its folder."""

    def __init__(self, folder: Path, description: Description | None) -> None:
        self.root = folder
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.tokens: dict[str, Account] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, int]] = []
        """Method, path and status of every request, REST and git."""
        self.wrong: list[str] = []
        """What does not fit GitHub's description."""
        self.description = description
        self._lock = threading.RLock()
        self._ids = 1000
        self._greetings: dict[tuple[Path, str], bytes] = {}

    def __enter__(self) -> GitHubServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # an answer is written in two parts, and the second would wait 40 ms

            def handle_any(self) -> None:
                outer._handle(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.web = f"http://127.0.0.1:{self._http.server_port}"
        self.api = f"{self.web}/api/v3"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def add(self, full_name: str, bare: Path) -> Repo:
        """Serve a bare repository under a name."""
        link = self.root / f"{full_name}.git"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(bare)
        repo = self.repos[full_name.lower()] = Repo(full_name, bare)
        repo.git("config", "receive.hideRefs", "refs/pull")
        return repo

    def rename(self, old: str, new: str) -> None:
        """By "Renaming a repository": both REST and git are redirected from the old name."""
        repo = self.repos.pop(old.lower())
        repo.full_name = new
        self.repos[new.lower()] = repo
        self.renamed[old.lower()] = new
        (self.root / f"{new}.git").symlink_to(repo.bare)

    def token(self, login: str, *permissions: str, kind: str = "github_pat_") -> str:
        """A new token of an account; with every permission when none is named."""
        secret = f"{kind}{hashlib.sha256(f'{login}{len(self.tokens)}'.encode()).hexdigest()[:40]}"
        self.tokens[secret] = Account(login, frozenset(permissions) if permissions else ALL, kind == "ghs_")
        return secret

    def workflow_token(self, *permissions: str) -> str:
        """A ``GITHUB_TOKEN`` as a workflow of the repository gets it: an installation token of the App for Actions."""
        return self.token("github-actions[bot]", *permissions, kind="ghs_")

    def fail(self, method: str, path: str, how: str, times: int = 1) -> None:
        """Let the next requests fail: `502 before`, `502 after` (it was done), `secondary`, `429`, `primary`."""
        self.faults.append(Fault(method, path, how, times))

    def rest_asked(self, method: str, path: str) -> list[int]:
        """Statuses of the REST requests of a method whose path matches."""
        return [status for verb, where, status in self.asked if verb == method and re.search(path, where)]

    # ------------------------------------------------------------------ http

    def _handle(self, http: BaseHTTPRequestHandler) -> None:
        body = _read_body(http)
        url = urlsplit(http.path)
        if url.path == "/api/graphql":
            request = json.loads(body)
            try:
                answer = self._graphql(http, request)
                status = 200
                if self.description and (schema := github_graphql.schema()):
                    self.wrong += github_graphql.wrong_with_answer(
                        schema, request["query"], request["variables"], answer
                    )
            except Refused as refused:
                status, answer = refused.status, refused.body
            self.asked.append((http.command, "/graphql", status))
            _answer(http, status, {"content-type": "application/json"}, json.dumps(answer).encode())
            return
        if not url.path.startswith("/api/v3/"):
            self._git(http, url.path, url.query, body)
            return
        path = url.path.removeprefix("/api/v3")
        status, headers, answer = self._rest(http, path, url.query, body)
        self.asked.append((http.command, http.path.removeprefix("/api/v3"), status))
        _answer(http, status, headers, answer)

    def _rest(
        self, http: BaseHTTPRequestHandler, path: str, query: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        limits = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1900000000"}
        fault = next((f for f in self.faults if f.method == http.command and re.search(f.path, path) and f.times), None)
        if fault:
            fault.times -= 1
            if fault.how != "502 after":
                return _fault(fault.how, limits)
        body_sent = json.loads(body) if body else None
        try:
            with self._lock:
                status, answer, more = self._route(http, path, parse_qs(query), body_sent)
        except Refused as refused:
            status, answer, more = refused.status, refused.body, refused.headers
        if fault:
            return 502, limits, b"<html>502 Bad Gateway</html>"
        text = json.dumps(answer).encode() if answer is not None else b""
        if self.description and status != 301:
            self.wrong += self.description.problems(http.command, path, status, answer, body_sent)
        headers = limits | {"content-type": "application/json; charset=utf-8"} | more
        if http.command == "GET" and status == 200:
            etag = f'W/"{hashlib.sha256(text).hexdigest()}"'
            headers["etag"] = etag
            if http.headers.get("If-None-Match") == etag:
                return 304, headers, b""
        return status, headers, text

    def _account(self, http: BaseHTTPRequestHandler) -> Account:
        kind, _, secret = (http.headers.get("Authorization") or "").partition(" ")
        account = self.tokens.get(secret.strip()) or self._app_account(secret.strip())
        if kind.lower() not in ("token", "bearer") or account is None or account.ends < time.time():
            raise Refused(401, "Bad credentials")
        return account

    def _app_account(self, secret: str) -> Account | None:
        return None

    def _route(
        self, http: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]], payload: Any
    ) -> tuple[int, Any, dict[str, str]]:
        account = self._account(http)
        parts = path.strip("/").split("/")
        if parts[0] == "repositories" and len(parts) == 2:
            repo = next((r for r in self.repos.values() if str(account_number(r.full_name)) == parts[1]), None)
            if repo:
                return 200, self._repository(repo), {}
        if parts[0] != "repos" or len(parts) < 3:
            return self._elsewhere(http, parts)
        name = f"{parts[1]}/{parts[2]}"
        if name.lower() in self.renamed:
            where = f"{self.api}/repositories/{account_number(self.renamed[name.lower()])}"
            return 301, {"message": "Moved Permanently", "url": where}, {"location": where}
        repo = self.repos.get(name.lower())
        if repo is None:
            raise Refused(404, "Not Found")
        self._reconcile(repo)
        rest = "/".join(parts[3:])
        for method, pattern, needs, serve in self._routes():
            match = re.fullmatch(pattern, rest)
            if match and method == http.command:
                if method != "GET" and repo.archived:
                    raise Refused(403, "Repository was archived so is read-only.")
                if needs and needs not in account.permissions:
                    text = "Resource not accessible by personal access token"
                    raise Refused(403, text, x_accepted_github_permissions=f"{needs}=write")
                return serve(repo, account, match, query, payload)
        raise Refused(404, "Not Found")

    def _elsewhere(self, http: BaseHTTPRequestHandler, parts: list[str]) -> Any:
        raise Refused(404, "Not Found")

    def _routes(self) -> list[tuple[str, str, str, Callable[..., Any]]]:
        return [
            ("GET", r"", "", self._get_repository),
            ("GET", r"pulls", "pull_requests", self._list),
            ("POST", r"pulls", "pull_requests", self._open),
            ("GET", r"pulls/(\d+)", "pull_requests", self._get),
            ("PATCH", r"pulls/(\d+)", "pull_requests", self._edit),
            ("GET", r"pulls/(\d+)/reviews", "pull_requests", self._reviews),
            ("POST", r"pulls/(\d+)/reviews", "pull_requests", self._review),
            ("PUT", r"pulls/(\d+)/merge", "contents", self._merge),
            ("POST", r"pulls/(\d+)/requested_reviewers", "pull_requests", self._request),
            ("POST", r"issues/(\d+)/labels", "pull_requests", self._label),
            ("DELETE", r"issues/(\d+)/labels/([^/]+)", "pull_requests", self._unlabel),
            ("GET", r"issues/(\d+)/comments", "pull_requests", self._comments),
            ("POST", r"issues/(\d+)/comments", "pull_requests", self._comment),
            ("GET", r"issues/(\d+)/events", "pull_requests", self._events),
            ("PATCH", r"issues/comments/(\d+)", "pull_requests", self._edit_comment),
            ("POST", r"statuses/([0-9a-f]+)", "statuses", self._status),
            ("GET", r"commits/([0-9a-f]+)/status", "", self._combined),
            ("POST", r"check-runs", "checks", self._run),
            ("GET", r"commits/([0-9a-f]+)/check-runs", "", self._runs),
        ]

    def _get_repository(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """How it merges is shown to those who administer it."""
        methods = repo.methods if "administration" in account.permissions else {}
        return 200, self._repository(repo) | methods, {}

    # ------------------------------------------------------------------ pull requests

    def _reconcile(self, repo: Repo) -> None:
        """What a push does to pull requests, by "About pull request merges" (indirect merges) and "refs/pull"."""
        refs = repo.refs()
        main = refs.get("refs/heads/main", "")
        for pull in repo.pulls.values():
            if pull.state != "open":
                continue
            source = self.repos[pull.head_repo.lower()]
            tip = (refs if source is repo else source.refs()).get(f"refs/heads/{pull.head_ref}")
            if not tip:
                pull.state = "closed"
                continue
            if tip != pull.sha or f"refs/pull/{pull.number}/head" not in refs:
                pull.sha = tip
                if source is not repo:
                    repo.git("fetch", "-q", str(source.bare), tip)
                repo.git("update-ref", f"refs/pull/{pull.number}/head", tip)
            if not main or pull.apart == (tip, main):
                continue
            pull.apart = (tip, main)
            if repo.git("merge-base", tip, main) == tip:
                pull.state, pull.merge, pull.merged_at = "closed", main, now()

    def _list(self, repo: Repo, account: Account, match: Any, query: dict[str, list[str]], payload: Any) -> Any:
        state = query.get("state", ["open"])[0]
        head, size = query.get("head", [None])[0], int(query.get("per_page", ["30"])[0])
        page = int(query.get("page", ["1"])[0])
        entries = [
            pull
            for pull in sorted(repo.pulls.values(), key=lambda pull: -pull.number)
            if state in ("all", pull.state)
            and (head is None or head == f"{pull.head_repo.split('/')[0]}:{pull.head_ref}")
        ]
        more = {}
        if page * size < len(entries):
            rest = "&".join(f"{name}={value[0]}" for name, value in query.items() if name != "page")
            more["link"] = f'<{self.api}/repos/{repo.full_name}/pulls?{rest}&page={page + 1}>; rel="next"'
        return 200, [self._pull(repo, pull, full=False) for pull in entries[(page - 1) * size : page * size]], more

    def _open(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        head = payload["head"].rpartition(":")[2]
        tip = repo.branch(head)
        about = {"resource": "PullRequest", "field": "head", "code": "invalid"}
        if not tip:
            raise Refused(422, "Validation Failed", [about])
        if any(p.state == "open" and (p.head_ref, p.head_repo) == (head, repo.full_name) for p in repo.pulls.values()):
            text = f"A pull request already exists for {repo.full_name.split('/')[0]}:{head}."
            raise Refused(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": text}])
        if repo.git("merge-base", tip, "refs/heads/main") == tip:
            text = f"No commits between main and {head}"
            raise Refused(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": text}])
        return (
            201,
            self._pull(repo, self.opened(repo, account.login, head, payload["title"], payload.get("body") or "")),
            {},
        )

    def opened(self, repo: Repo, login: str, head: str, title: str, body: str = "", source: Repo | None = None) -> Pull:
        """A pull request, as if it were opened in the pages."""
        with self._lock:
            number = repo.next_number()
            name = (source or repo).full_name
            tip = (source or repo).branch(head)
            pull = repo.pulls[number] = Pull(number, title, body, login, head, name, tip)
            self._reconcile(repo)
            return pull

    def _one(self, repo: Repo, match: Any) -> Pull:
        pull = repo.pulls.get(int(match[1]))
        if pull is None:
            raise Refused(404, "Not Found")
        return pull

    def _get(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        return 200, self._pull(repo, self._one(repo, match)), {}

    def _edit(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        pull = self._one(repo, match)
        pull.title, pull.body = payload.get("title", pull.title), payload.get("body", pull.body)
        if payload.get("state") and pull.merge is None:
            pull.state = payload["state"]
        return 200, self._pull(repo, pull), {}

    def _reviews(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        return 200, self._one(repo, match).reviews, {}

    def _review(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "Create a review for a pull request"; that authors cannot approve is in "About pull request reviews"."""
        pull = self._one(repo, match)
        if account.login == pull.login and payload["event"] == "APPROVE":
            raise Refused(422, "Unprocessable Entity", ["Can not approve your own pull request"])
        return 200, self.reviewed(repo, pull, account.login, payload["event"], payload.get("commit_id")), {}

    def reviewed(self, repo: Repo, pull: Pull, login: str, event: str, commit: str | None = None) -> dict[str, Any]:
        """A review, as if it were given in the pages."""
        states = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}
        url = f"{self.web}/{repo.full_name}/pull/{pull.number}"
        review = {
            "id": self._id(), "node_id": "PRR", "user": self._user(login), "body": "", "state": states[event],
            "html_url": url, "pull_request_url": url, "submitted_at": now(), "commit_id": commit or pull.sha,
            "author_association": "MEMBER", "_links": {"html": {"href": url}, "pull_request": {"href": url}},
        }  # fmt: skip
        pull.reviews.append(review)
        return review

    def _merge(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "Merge a pull request": 405 when it may not be merged, 409 when the head is another than ``sha``."""
        pull = self._one(repo, match)
        if pull.state != "open":
            raise Refused(405, "Pull Request is not mergeable")
        if payload and payload.get("sha") not in (None, pull.sha):
            raise Refused(409, "Head branch was modified. Review and try the merge again.")
        if pull.draft:
            raise Refused(405, "Pull Request is still a draft")
        if repo.queue is not None:
            raise Refused(405, "Changes must be made through the merge queue")
        approved = any(review["state"] == "APPROVED" for review in pull.reviews)
        if repo.needs_approval and not approved:
            raise Refused(405, "At least 1 approving review is required by reviewers with write access.")
        method = (payload or {}).get("merge_method", "merge")
        if not repo.methods[f"allow_{method}_commit" if method == "merge" else f"allow_{method}_merge"]:
            raise Refused(405, f"{method.capitalize()} commits are not allowed on this repository.")
        merged = self.merged(repo, pull)
        return 200, {"sha": merged, "merged": True, "message": "Pull Request successfully merged"}, {}

    def merged(self, repo: Repo, pull: Pull) -> str:
        """Merge as its button does, with the method ``merge``."""
        main = repo.branch("main")
        tree = repo.git("merge-tree", "--write-tree", main, pull.sha)
        commit = repo.git("commit-tree", tree, "-p", main, "-p", pull.sha, "-m", f"Merge pull request #{pull.number}")
        repo.git("update-ref", "refs/heads/main", commit, main)
        pull.state, pull.merge, pull.merged_at = "closed", commit, now()
        return commit

    def _graphql(self, http: BaseHTTPRequestHandler, request: dict[str, Any]) -> dict[str, Any]:
        """The merge queue, by "Merging a pull request with a merge queue" and the schema's ``enqueuePullRequest``."""
        self._account(http)
        variables = request["variables"]
        with self._lock:
            if "enqueuePullRequest" in request["query"]:
                repo, pull = next(
                    (r, p) for r in self.repos.values() for p in r.pulls.values() if variables["id"] == f"PR_{p.number}"
                )
                if variables["head"] != pull.sha:
                    return {"errors": [{"type": "UNPROCESSABLE", "message": "Head branch was modified"}]}
                assert repo.queue is not None
                repo.queue.append(pull.number)
                return {"data": {"enqueuePullRequest": {"mergeQueueEntry": self._entry(repo, pull)}}}
            repo = self.repos[f"{variables['owner']}/{variables['name']}".lower()]
            pull = repo.pulls[variables["number"]]
            removals = (
                [{"__typename": "RemovedFromMergeQueueEvent", "reason": pull.left_queue}] if pull.left_queue else []
            )
            if pull.number in (repo.queue or ()):
                removals = [{"__typename": "AddedToMergeQueueEvent"}]
            fields = {
                "id": f"PR_{pull.number}",
                "mergeQueueEntry": self._entry(repo, pull),
                "timelineItems": {"nodes": removals},
            }
            return {"data": {"repository": {"pullRequest": fields}}}

    def _entry(self, repo: Repo, pull: Pull) -> dict[str, Any] | None:
        if repo.queue is None or pull.number not in repo.queue:
            return None
        return {"position": repo.queue.index(pull.number) + 1, "state": "QUEUED"}

    def run_queue(self, repo: Repo, refuse: str | None = None) -> None:
        """Merge what is in the queue, one after the other; or take all out, for a reason."""
        with self._lock:
            queued, repo.queue = repo.queue or [], []
            for number in queued:
                if refuse:
                    repo.pulls[number].left_queue = refuse
                else:
                    self.merged(repo, repo.pulls[number])

    def _request(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        pull = self._one(repo, match)
        logins = {token.login for token in self.tokens.values()}
        for login in payload.get("reviewers", ()):
            if login == pull.login:
                raise Refused(422, "Review cannot be requested from pull request author.")
            if login not in logins:
                text = "Reviews may only be requested from collaborators. One or more of the users or teams you "
                raise Refused(422, f"{text}specified is not a collaborator of the {repo.full_name} repository.")
        pull.requested = sorted({*pull.requested, *payload.get("reviewers", ())})
        return 201, self._pull(repo, pull, full=False), {}

    def _comments(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        return 200, self._one(repo, match).comments, {}

    def _comment(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        pull, url = self._one(repo, match), f"{self.web}/{repo.full_name}/pull/{match[1]}"
        comment = {
            "id": self._id(), "node_id": "IC", "url": url, "html_url": url, "issue_url": url,
            "body": payload["body"], "user": self._user(account.login), "created_at": now(), "updated_at": now(),
            "author_association": "MEMBER",
        }  # fmt: skip
        pull.comments.append(comment)
        return 201, comment, {}

    def _events(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        return 200, self._one(repo, match).events, {}

    def happened(self, pull: Pull, event: str, login: str, at: str | None = None, **more: Any) -> None:
        """Something that somebody did to a pull request in the pages."""
        urls = {"url": f"{self.api}/events/{self._id()}", "commit_id": None, "commit_url": None}
        facts = {"id": self._id(), "node_id": "E", "actor": self._user(login), "event": event}
        pull.events.append(facts | urls | {"created_at": at or now(), "performed_via_github_app": None} | more)

    def dismissed(self, pull: Pull, review: dict[str, Any], login: str) -> None:
        """A review that somebody dismissed, by "Dismiss a review for a pull request"."""
        fields = {"state": review["state"].lower(), "review_id": review["id"], "dismissal_message": "No."}
        self.happened(pull, "review_dismissed", login, dismissed_review=fields)
        review["state"] = "DISMISSED"

    def _edit_comment(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        for pull in repo.pulls.values():
            for comment in pull.comments:
                if comment["id"] == int(match[1]):
                    comment["body"], comment["updated_at"] = payload["body"], now()
                    return 200, comment, {}
        raise Refused(404, "Not Found")

    def _label(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "Add labels to an issue"; that an unknown label is made is a guess, as people have seen it."""
        pull = self._one(repo, match)
        pull.labels += [name for name in payload["labels"] if name not in pull.labels]
        return 200, self._labels(pull), {}

    def _unlabel(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "Remove a label from an issue": 404 when it does not have it."""
        pull, name = self._one(repo, match), unquote(match[2])
        if name not in pull.labels:
            raise Refused(404, "Label does not exist")
        pull.labels.remove(name)
        return 200, self._labels(pull), {}

    def _labels(self, pull: Pull) -> list[dict[str, Any]]:
        facts = {"node_id": "L", "url": self.api, "description": "", "color": "ededed", "default": False}
        return [facts | {"id": account_number(name), "name": name} for name in pull.labels]

    def _status(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        status = {
            "id": self._id(), "node_id": "SC", "url": f"{self.api}/statuses/{match[1]}", "avatar_url": None,
            "state": payload["state"], "description": payload.get("description"),
            "target_url": payload.get("target_url"),
            "context": payload.get("context", "default"), "created_at": now(), "updated_at": now(),
            "creator": self._user(account.login),
        }  # fmt: skip
        repo.statuses.append(status | {"sha": match[1]})
        return 201, status, {}

    def _combined(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "Get the combined status for a specific reference": the last one of each context."""
        last = {
            status_entry["context"]: status_entry for status_entry in repo.statuses if status_entry["sha"] == match[1]
        }
        inner = [
            {name: value for name, value in status_entry.items() if name not in ("sha", "creator")}
            for status_entry in last.values()
        ]
        url = f"{self.api}/repos/{repo.full_name}/commits/{match[1]}"
        states = {status_entry["state"] for status_entry in inner}
        state = "failure" if "failure" in states else "pending" if "pending" in states or not states else "success"
        facts = {"state": state, "statuses": inner, "sha": match[1], "total_count": len(inner)}
        return 200, facts | {"repository": self._minimal(repo), "commit_url": url, "url": f"{url}/status"}, {}

    def _run(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "Create a check run": only GitHub Apps may. The shorter answer to others is a guess."""
        if not account.app:
            raise Refused(403, "You must authenticate via a GitHub App.")
        url = f"{self.api}/repos/{repo.full_name}/check-runs"
        if not repo.git("rev-parse", "--verify", "--quiet", f"{payload['head_sha']}^{{commit}}"):
            raise Refused(422, f"No commit found for SHA: {payload['head_sha']}")
        output = {"title": None, "summary": None, "text": None} | (payload.get("output") or {})
        run = {
            "id": self._id(), "node_id": "CR", "head_sha": payload["head_sha"], "external_id": "", "url": url,
            "html_url": url, "details_url": url, "status": payload["status"], "conclusion": payload.get("conclusion"),
            "started_at": now(), "completed_at": now(), "name": payload["name"], "check_suite": {"id": 1},
            "output": output | {"annotations_count": 0, "annotations_url": url}, "pull_requests": [],
            "app": self._app(account.login),
        }  # fmt: skip
        repo.runs.append(run)
        return 201, run, {}

    def _runs(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        """By "List check runs for a Git reference": ``filter=latest``, the last of each name; by app is a guess."""
        last = {(run["name"], run["app"]["id"]): run for run in repo.runs if run["head_sha"] == match[1]}
        return 200, {"total_count": len(last), "check_runs": list(last.values())}, {}

    def _app(self, login: str) -> dict[str, Any]:
        slug = login.removesuffix("[bot]")
        facts = {"id": account_number(slug), "slug": slug, "node_id": "A", "name": slug}
        facts |= {"description": "", "events": []}
        urls = {"external_url": self.web, "html_url": f"{self.web}/apps/{slug}"}
        return (
            facts
            | urls
            | {"owner": self._user("github"), "created_at": now(), "updated_at": now()}
            | {"permissions": {}}
        )

    # ------------------------------------------------------------------ shapes

    def _minimal(self, repo: Repo) -> dict[str, Any]:
        return self._repository(repo, full=False)

    def _id(self) -> int:
        self._ids += 1
        return self._ids

    def _user(self, login: str) -> dict[str, Any]:
        urls = dict.fromkeys(USER_URLS, f"{self.web}/{login}")
        facts = {"login": login, "id": account_number(login), "node_id": "U", "gravatar_id": "", "type": "User"}
        return urls | facts | {"site_admin": False}

    def _repository(self, repo: Repo, full: bool = True) -> dict[str, Any]:
        owner, _, name = repo.full_name.partition("/")
        urls = dict.fromkeys(REPO_URLS, f"{self.api}/repos/{repo.full_name}")
        false = {
            f"has_{feature}": False for feature in ("issues", "projects", "wiki", "pages", "downloads", "discussions")
        }
        zero = dict.fromkeys(
            [
                "forks",
                "forks_count",
                "open_issues",
                "open_issues_count",
                "size",
                "stargazers_count",
                "watchers",
                "watchers_count",
            ],
            0,
        )
        facts: dict[str, Any] = {
            "id": account_number(repo.full_name), "node_id": "R", "name": name, "full_name": repo.full_name,
            "owner": self._user(owner), "private": repo.private, "description": None, "fork": False, "homepage": None,
            "language": None, "license": None, "mirror_url": None, "archived": repo.archived, "disabled": False,
            "default_branch": repo.default_branch, "pushed_at": now(), "created_at": now(), "updated_at": now(),
            "clone_url": f"{self.web}/{repo.full_name}.git",
        }  # fmt: skip
        facts |= {"pushed_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z"}
        facts |= {"updated_at": "2026-01-01T00:00:00Z"}
        more = {"network_count": 0, "subscribers_count": 0} if full else {}
        return urls | false | zero | facts | more

    def _pull(self, repo: Repo, pull: Pull, full: bool = True) -> dict[str, Any]:
        url = f"{self.api}/repos/{repo.full_name}/pulls/{pull.number}"
        source = self.repos[pull.head_repo.lower()]

        def end(where: Repo, ref: str, sha: str) -> dict[str, Any]:
            owner = where.full_name.partition("/")[0]
            shape = {"label": f"{owner}:{ref}", "ref": ref, "sha": sha, "user": self._user(owner)}
            return shape | {"repo": self._repository(where, full=False)}

        facts: dict[str, Any] = dict.fromkeys(PULL_URLS, url) | {
            "id": pull.number * 7, "node_id": "PR", "number": pull.number, "state": pull.state, "locked": False,
            "title": pull.title, "user": self._user(pull.login), "body": pull.body, "milestone": None,
            "labels": self._labels(pull),
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "closed_at": None if pull.state == "open" else "2026-01-01T00:00:00Z", "merged_at": pull.merged_at,
            "merge_commit_sha": pull.merge, "assignee": None, "author_association": "MEMBER", "auto_merge": None,
            "requested_reviewers": [self._user(login) for login in pull.requested], "requested_teams": [],
            "head": end(source, pull.head_ref, pull.sha),
            "base": end(repo, "main", repo.branch("main")),
            "_links": {name: {"href": url} for name in LINKS}, "draft": pull.draft,
        }  # fmt: skip
        if full:
            zero = dict.fromkeys(
                ["additions", "changed_files", "comments", "commits", "deletions", "review_comments"], 0
            )
            more = {"mergeable": None, "mergeable_state": "unknown", "merged": pull.merge is not None}
            facts |= zero | more | {"maintainer_can_modify": False, "merged_by": None}
        return facts

    # ------------------------------------------------------------------ git

    def _git(self, http: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> None:
        def say(status: int, text: str, **headers: str) -> None:
            self.asked.append((http.command, http.path, status))
            all_headers = {"content-type": "text/plain"} | {k.replace("_", "-"): v for k, v in headers.items()}
            _answer(http, status, all_headers, text.encode())

        kind, _, secret = (http.headers.get("Authorization") or "").partition(" ")
        name, _, token = base64.b64decode(secret).decode().partition(":") if kind.lower() == "basic" else ("", "", "")
        account = self.tokens.get(token)
        if account is None or not name or account.ends < time.time():
            say(401, "Invalid username or token.", WWW_Authenticate='Basic realm="GitHub"')
            return
        match = re.match(r"/([^/]+/[^/]+?)\.git(/.*)$", path)
        full_name = match[1] if match else ""
        if full_name.lower() in self.renamed:
            say(301, "", location=f"{self.web}/{self.renamed[full_name.lower()]}.git{match and match[2]}?{query}")
            return
        repo = self.repos.get(full_name.lower())
        if repo is None:
            say(404, "Repository not found.")
            return
        if "git-receive-pack" in path + query:
            if repo.archived:
                say(403, "This repository was archived so it is read-only.")
                return
            if "contents" not in account.permissions:
                say(403, f"Permission to {full_name}.git denied to {account.login}.")
                return
        environment = clean() | {
            "GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": http.command, "REMOTE_USER": account.login, "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": http.headers.get("Content-Type") or "", "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": http.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": http.headers.get("Git-Protocol") or "",
        }  # fmt: skip
        greeting = (repo.bare, environment["GIT_PROTOCOL"]) if _is_greeting(environment) else None
        greeted = self._greetings.get(greeting) if greeting else None
        if greeted is None:
            greeted = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment).stdout
        if greeting and greeted.startswith(b"Expires"):
            self._greetings[greeting] = greeted
        head, _, content = greeted.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200 OK").split(" ")[0]) if head else 500
        fault = next((f for f in self.faults if f.method == http.command and re.search(f.path, path) and f.times), None)
        if fault:
            fault.times -= 1
            say(502, "Bad Gateway")
            return
        self.asked.append((http.command, http.path, status))
        _answer(http, status, headers, content)


def _is_greeting(environment: Mapping[str, str]) -> bool:
    """Whether a reader begins to speak version 2 of git's protocol: the answer is the same whatever refs there are."""
    request_line = environment["REQUEST_METHOD"], environment["QUERY_STRING"], environment["GIT_PROTOCOL"]
    return environment["PATH_INFO"].endswith("/info/refs") and request_line == (
        "GET",
        "service=git-upload-pack",
        "version=2",
    )


def account_number(name: str) -> int:
    """The number of an account, or of a repository."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)


def _fault(how: str, limits: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """By "Rate limits for the REST API" and "Best practices for using the REST API"."""
    if how in TRANSIENT:
        body = json.dumps({"message": TRANSIENT[how]}).encode()
        return 405, limits | {"content-type": "application/json"}, body
    if how == "502 before":
        return 502, limits, b"<html>502 Bad Gateway</html>"
    if how == "abuse":
        text = b'{"message": "You have triggered an abuse detection mechanism. Please retry your request again later."}'
        return 403, limits | {"content-type": "application/json"}, text
    if how == "too quickly":
        errors = b'[{"resource": "PullRequest", "code": "custom", "message": "was submitted too quickly"}]'
        text = b'{"message": "Validation Failed", "errors": ' + errors + b"}"
        return 422, limits | {"content-type": "application/json"}, text
    if how == "404":
        return 404, limits | {"content-type": "application/json"}, b'{"message": "Not Found"}'
    secondary = b'{"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}'
    if how == "secondary":
        return 403, limits | {"retry-after": "1", "content-type": "application/json"}, secondary
    if how == "429":
        return 429, limits | {"retry-after": "1", "content-type": "application/json"}, secondary
    used_up = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 1800)}
    message = b'{"message": "API rate limit exceeded for user ID 1."}'
    return 403, limits | used_up | {"content-type": "application/json"}, message


def _read_body(http: BaseHTTPRequestHandler) -> bytes:
    if (http.headers.get("Transfer-Encoding") or "").lower() != "chunked":
        return http.rfile.read(int(http.headers.get("Content-Length") or 0))
    parts = []
    while size := int(http.rfile.readline().split(b";")[0], 16):
        parts.append(http.rfile.read(size))
        http.rfile.readline()
    http.rfile.readline()
    return b"".join(parts)


def _answer(http: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    http.send_response(status)
    for name, value in headers.items():
        if name.lower() != "content-length":
            http.send_header(name, value)
    if status != 304:
        http.send_header("Content-Length", str(len(body)))
    http.end_headers()
    if status != 304:
        http.wfile.write(body)
