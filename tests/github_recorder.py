"""A server that passes everything on to GitHub and keeps what was said, without anybody's token.

The toolkit talks to it as to a GitHub Enterprise Server of this machine, so its code is the one that users run.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from github_server import _answer, _read_body

_TOKEN = re.compile(r"\b(gh[a-z]_\w{16,}|github_pat_\w{16,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})")
_MAIL = re.compile(r"[\w.+-]+@(?!users\.noreply\.)[\w-]+\.[\w.-]+")
_KEPT = ("content-type", "etag", "link", "location", "retry-after", "x-accepted-github-permissions")
_OURS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"}


class Recorder:
    """Start it with `with`.

    Args:
        web: Base of GitHub's pages and of git.
        api: Base of its REST answers.
        secrets: What is kept of no exchange, whatever it looks like.
    """

    def __init__(self, web: str, api: str, secrets: tuple[str, ...]) -> None:
        self._up_web, self._up_api, self._secrets = web, api, secrets
        self._graphql = f"{web}/api/graphql" if api.endswith("/api/v3") else f"{api}/graphql"
        self.exchanges: list[dict[str, Any]] = []
        """Of REST and GraphQL: method, path, status, some headers, what was sent and what was answered."""
        self.git = 0
        """Requests of git."""

    def __enter__(self) -> Recorder:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # an answer is written in two parts, and the second would wait 40 ms

            def handle_any(self) -> None:
                outer._pass_on(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.web = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def lines(self) -> str:
        """The exchanges, one a line."""
        return "".join(json.dumps(exchange, sort_keys=True, ensure_ascii=False) + "\n" for exchange in self.exchanges)

    def _pass_on(self, request: BaseHTTPRequestHandler) -> None:
        body = _read_body(request)
        rest = request.path.startswith("/api/")
        if request.path.startswith("/api/v3"):
            target = self._up_api + request.path.removeprefix("/api/v3")
        else:
            target = self._graphql if request.path == "/api/graphql" else self._up_web + request.path
        url = urlsplit(target)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.netloc, timeout=120)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        try:
            path = f"{url.path}?{url.query}" if url.query else url.path
            connection.request(request.command, path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        answer_headers = {name.lower(): value for name, value in answer.getheaders()}
        if rest:
            path = "/graphql" if target == self._graphql else target.removeprefix(self._up_api)
            self._keep(request, path, answer.status, answer_headers, body, content)
        else:
            self.git += 1
        headers_sent = {name: self._here(value) for name, value in answer_headers.items() if name not in _OURS}
        _answer(request, answer.status, headers_sent, self._here(content.decode()).encode() if rest else content)

    def _keep(
        self,
        request: BaseHTTPRequestHandler,
        path: str,
        status: int,
        headers: dict[str, str],
        request_body: bytes,
        response_body: bytes,
    ) -> None:
        exchange = {
            "method": request.command, "path": path, "status": status, "sent": _parsed(request_body),
            "answer": _parsed(response_body),
            "headers": {name: value for name, value in headers.items() if name in _KEPT or "ratelimit" in name},
        }  # fmt: skip
        self.exchanges.append(json.loads(self._scrubbed(json.dumps(exchange))))

    def _scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "SECRET")
        return _MAIL.sub("somebody@example.org", _TOKEN.sub("SECRET", text))

    def _here(self, text: str) -> str:
        """GitHub's own addresses as this server's, since the toolkit follows no links to another than it asked."""
        return text.replace(self._up_api, f"{self.web}/api/v3").replace(f"{self._up_web}/", f"{self.web}/")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")
