"""GitHub's REST interface, asked with care: limits are kept, nothing is done twice, what did not change costs nothing.

PyGithub makes the requests; it is imported when the first one is made.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from modelsmith.forges.github.failures import UNSURE, failure, rate_limited, wait_for
from modelsmith.forges.github.place import Place
from modelsmith.forges.github.token import Token
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError

if TYPE_CHECKING:
    from github import Github
    from github.Repository import Repository

T = TypeVar("T")

MOST_WAIT = 90.0
"""Seconds that a command waits for a rate limit to pass; above, it ends and says when to come back."""
ATTEMPTS = 4
BETWEEN_WRITES = 1.0
"""Seconds between two requests that change something, by GitHub's "Best practices for using the REST API"."""
MOST_PAGES = 50
_TIMEOUT = 30
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


class Rest:
    """One repository's REST interface.

    Args:
        place: Which repository.
        token: What lets us in.
        memory: Folder of answers that are asked for again only if they changed; None: nothing is kept.
        sleep: How time passes.
    """

    def __init__(
        self,
        place: Place,
        token: Token,
        memory: Path | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.place = place
        self._token = token
        self._memory = memory
        self._sleep = sleep

    @cached_property
    def _github(self) -> Github:
        try:
            import github
        except ImportError:
            raise InfrastructureFailure(
                "extra-missing", "A forge at GitHub needs PyGithub.", "Run: pip install 'modelsmith[github]'"
            ) from None
        token = self._token

        class Live(github.Auth.Token):
            """Asked for with each request, since an app's token ends after an hour."""

            @property
            def token(self) -> str:
                return token.reveal()

        return github.Github(
            auth=Live("modelsmith"),
            base_url=self.place.api,
            timeout=_TIMEOUT,
            user_agent="modelsmith",
            per_page=100,
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=BETWEEN_WRITES,
            lazy=True,
        )

    @property
    def writes_runs(self) -> bool:
        """Whether check runs can be written: only GitHub Apps may, by "Create a check run"."""
        return self._token.of_app

    @cached_property
    def repository(self) -> Repository:
        """PyGithub's repository; making it asks nothing."""
        return self._github.get_repo(self.place.full_name)

    def do(self, action: str, call: Callable[[], T], again: bool = False) -> T:
        """Make a request that changes something.

        Args:
            action: In words, for errors.
            call: Makes it.
            again: Whether doing it twice is doing it once, so that it is repeated when no answer came.

        Raises:
            InfrastructureFailure: ``github-unsure`` when it may have been done or not; ``rate-limit``.
            ModelsmithError: as `failure`.
        """
        ready = self._github
        from github.GithubException import GithubException

        assert ready
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                return call()
            except GithubException as error:
                headers = {name.lower(): str(value) for name, value in (error.headers or {}).items()}
                status, message = error.status, _message(error.data)
            except (OSError, RuntimeError):
                headers, status, message = {}, 0, ""
            wait = wait_for(status, headers, message, _moment(headers))
            if wait is not None and (wait > MOST_WAIT or last):
                raise rate_limited(wait, _moment(headers))
            if wait is None and (last or not again or 0 < status < 500):
                raise failure(status, headers, message, action, self.place)
            self._sleep(wait if wait is not None else 0.5 * 2**attempt)
        raise AssertionError

    def pause(self, seconds: float) -> None:
        """Let time pass before the next request."""
        self._sleep(seconds)

    def ask(self, action: str, path: str) -> Any:
        """One JSON answer; ``path`` begins after the repository's own and may hold a query.

        It is asked for with the mark of the last answer: one that did not change counts against no limit, by GitHub's
        "Use conditional requests".
        """
        return self._page(action, self._url(path))[0]

    def ask_elsewhere(self, action: str, path: str) -> Any:
        """`ask` about something that is not part of the repository."""
        return self._page(action, path)[0]

    def send(self, action: str, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """A request that PyGithub has no words for; made again when no answer came, so twice must be once.

        Raises:
            ModelsmithError: as `do`.
        """
        return self.do(
            action,
            lambda: self._github.requester.requestJsonAndCheck(method, self._url(path), input=dict(body))[1],
            again=True,
        )

    def graphql(self, action: str, query: str, variables: Mapping[str, Any], again: bool = False) -> Any:
        """Answer of GitHub's GraphQL interface, for what REST cannot say. Raises as `do`."""
        return self.do(action, lambda: self._github.requester.graphql_query(query, dict(variables))[1]["data"], again)

    def ask_all(self, action: str, path: str) -> Iterator[Any]:
        """Entries of a list, page by page.

        Raises:
            InfrastructureFailure: ``github-failed`` for a list without end.
        """
        url: str | None = self._url(path)
        for _ in range(MOST_PAGES):
            if url is None:
                return
            entries, url = self._page(action, url)
            yield from entries if isinstance(entries, list) else ()
        raise InfrastructureFailure("github-failed", f"GitHub's list has no end: {action}", "Close what is not needed.")

    def _url(self, path: str) -> str:
        return f"/repos/{self.place.full_name}{path}"

    def _page(self, action: str, url: str) -> tuple[Any, str | None]:
        from github.Requester import Requester

        cached = self._recall(url)
        marks = {"If-None-Match": cached["etag"]} if cached else {}

        def call() -> tuple[int, Mapping[str, Any], str]:
            status, headers, body = self._github.requester.requestJson("GET", url, headers=dict(marks))
            if status >= 400:
                raise Requester.createException(status, dict(headers), _parsed(body))
            return status, headers, body

        status, headers, body = self.do(action, call, again=True)
        if status == 304 and cached:
            return cached["body"], cached["next"]
        answer = _json(body)
        if answer is None:
            raise InfrastructureFailure("github-failed", f"GitHub's answer is no JSON: {action}", "Try again later.")
        link = _NEXT.search(str(headers.get("link", "")))
        following = _path(link[1], self.place.api) if link else None
        if etag := headers.get("etag"):
            self._remember(url, {"etag": str(etag), "next": following, "body": answer})
        return answer, following

    def _file(self, url: str) -> Path | None:
        name = hashlib.sha256(f"{self.place.api}{url}".encode()).hexdigest()
        return self._memory / f"{name}.json" if self._memory else None

    def _recall(self, url: str) -> dict[str, Any] | None:
        file = self._file(url)
        with suppress(OSError, ValueError):
            cached = json.loads(file.read_bytes()) if file else None
            if isinstance(cached, dict) and cached.keys() == {"etag", "next", "body"}:
                return cached
        return None

    def _remember(self, url: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer; where it cannot be kept, it is asked for again."""
        file = self._file(url)
        if file is None:
            return
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{time.monotonic_ns()}")
            part.write_text(json.dumps(answer))
            part.replace(file)


def _moment(headers: Mapping[str, str]) -> datetime:
    """When an answer was given, by GitHub's own clock, since its limits end by that; by ours where it does not say."""
    with suppress(ValueError):
        return parsedate_to_datetime(headers.get("date", ""))
    return datetime.now(UTC)


def unsure(error: ModelsmithError) -> bool:
    """Whether a request may have been done or not."""
    return error.code == UNSURE


def _path(url: str, api: str) -> str | None:
    """Path of a link to the same server; links to others are not followed."""
    if not url.startswith(f"{api}/"):
        return None
    parts = urlsplit(url.removeprefix(api))
    return f"{parts.path}?{parts.query}"


def _json(body: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    return None


def _parsed(body: str) -> dict[str, Any]:
    data = _json(body)
    return data if isinstance(data, dict) else {"message": ""}


def _message(data: object) -> str:
    """GitHub's words, with what its validation found."""
    if not isinstance(data, dict):
        return ""
    errors = data.get("errors")
    messages = [
        str(error_entry.get("message", "")) if isinstance(error_entry, dict) else str(error_entry)
        for error_entry in errors or ()
    ]
    return " ".join([str(data.get("message", "")), *(word for word in messages if word)])[:500]
