"""Over HTTP the token says who calls; without one, from another host or another page, nothing is answered."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request

import anyio
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from worlds import CLUSTER

from modelsmith.mcp import bounds
from modelsmith.mcp.http import Listening, make_app
from modelsmith.mcp.tools import tools_of
from modelsmith.repository.tokens import Tokens
from modelsmith.schema.errors import InvalidInput


def status(url, data=b"{}", **headers):
    """What a bare request is answered."""
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_token_gives_its_role_and_its_tools_until_it_is_revoked(served):
    url, tokens = served
    reader, reader_secret = tokens.issue("reviewer", (), 1)
    _, narrow = tokens.issue("operator", ("modelsmith_status", "promote"), 1)

    async def visit(secret):
        http = create_mcp_http_client(headers={"Authorization": f"Bearer {secret}"})
        async with http, Client(streamable_http_client(url, http_client=http)) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            answer = await client.call_tool("modelsmith_status", {})
            refused = await client.call_tool("rollback", {"cluster": CLUSTER, "reason": "x"})
            assert not answer.is_error
            assert "outside-role" in refused.content[0].text
            return listed

    assert anyio.run(visit, reader_secret) == {tool.name for tool in tools_of("reviewer")}
    assert anyio.run(visit, narrow) == {"modelsmith_status", "promote"}
    tokens.revoke(reader.id)
    assert status(url, Authorization=f"Bearer {reader_secret}") == 401


def test_nobody_without_a_token_and_no_page_of_another_host_is_answered(served):
    url, tokens = served
    good = {
        "Authorization": f"Bearer {tokens.issue('operator', (), 1)[1]}",
        "Accept": "application/json, text/event-stream",
    }
    for bad in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer " + "x" * 5000):
        assert status(url, Authorization=bad) == 401
    assert status(url, **good, Host="evil.example") == 421
    assert status(url, **good, Origin="https://evil.example") == 403
    assert status(url, **good) == 400, "the control: it is heard, and says nothing of the protocol"


def test_a_server_for_other_machines_needs_a_certificate(fresh):
    with pytest.raises(InvalidInput) as caught:
        make_app(fresh.clone, Tokens(fresh.home), Listening("0.0.0.0", 7443))
    assert caught.value.code == "tls-needed"
    issued = fresh.modelsmith(
        "mcp-token", "issue", "--role", "operator", env=fresh.environment() | {"MODELSMITH_ROLE": "reviewer"}
    )
    assert (issued.code, "outside-role" in issued.err) == (2, True), "an agent issues itself no token"
    for scope in ("modelsmith_fleet_staus", "modelsmith_eval_*"):
        issued = fresh.modelsmith("mcp-token", "issue", "--role", "promoter", "--scope", scope)
        assert (issued.code, scope in issued.err, issued.out) == (2, True, ""), "a token that could do nothing"
    printed = fresh.modelsmith("mcp-token", "issue", "--role", "promoter", "--scope", "promote")
    assert "shown this once" in printed.out
    assert "promoter  promote" in fresh.modelsmith("mcp-token", "list").out
    as_json = fresh.modelsmith("mcp-token", "issue", "--role", "reviewer", "--json").json
    (listed,) = [
        token
        for token in fresh.modelsmith("mcp-token", "list", "--json").json["tokens"]
        if token["id"] == as_json["id"]
    ]
    assert listed == {name: value for name, value in as_json.items() if name != "token"}
    assert fresh.modelsmith("mcp-token", "revoke", as_json["id"], "--json").json == {"revoked": listed}


def written_by_anybody(path):
    path.chmod(0o606)
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize("harm", [written_by_anybody, lambda path: path.write_text("{")])
def test_tokens_that_cannot_be_believed_are_nobody_s(served, harm):
    """Each request is refused as any other without a token, and nothing of the program is told."""
    url, tokens = served
    good = {"Authorization": f"Bearer {tokens.issue('reviewer', (), 1)[1]}"}
    assert status(url, **good) == 406, "the control: it is heard, and takes no kind of answer"
    harm(tokens._path)
    assert status(url, **good) == 401


def test_a_server_that_cannot_listen_says_why_before_it_names_its_address(fresh):
    wrong = fresh.folder / "wrong.pem"
    wrong.write_text("no certificate\n")
    with socket.create_server(("127.0.0.1", 0)) as busy_socket:
        port = str(busy_socket.getsockname()[1])
        results = [
            fresh.modelsmith("mcp", "--http", "--port", port),
            fresh.modelsmith("mcp", "--http", "--port", port, "--tls-cert", str(wrong), "--tls-key", str(wrong)),
        ]
    assert [(result.code, result.err.partition(":")[0]) for result in results] == [
        (6, "error (address-taken)"), (2, "error (bad-certificate)")
    ]  # fmt: skip


BEGIN = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
BEGIN += b'"clientInfo":{"name":"x","version":"1"}}}'


def test_one_token_does_not_take_the_sessions_of_the_others(served, monkeypatch):
    monkeypatch.setattr(bounds, "SESSIONS_OF_ONE", 3)
    url, tokens = served
    accepts = {"Accept": "application/json, text/event-stream"}
    greedy, other = ({"Authorization": f"Bearer {tokens.issue('reviewer', (), 1)[1]}"} | accepts for _ in range(2))
    assert [status(url, BEGIN, **greedy) for _ in range(5)] == [200, 200, 200, 503, 503]
    assert status(url, BEGIN, **other) == 200


def test_the_stream_of_a_session_ends_with_its_token(served):
    url, tokens = served
    token, secret = tokens.issue("reviewer", (), 1)
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json, text/event-stream"}
    begin = urllib.request.Request(url, data=BEGIN, headers={"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(begin) as answer:
        headers |= {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=120) as stream:
        tokens.revoke(token.id)
        stream.read()


@pytest.mark.parametrize("words", [b"", b"GET /mcp HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_connection_on_which_no_request_comes_is_closed(served, monkeypatch, words):
    """A line now and then does not keep it open, and neither does an answer before."""
    monkeypatch.setattr(bounds, "WHOLE_REQUEST", 1.0)
    port = int(served[0].split(":")[2].split("/")[0])
    closed, end = False, time.monotonic() + 60
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(words)
        connection.settimeout(0.2)
        while not closed and time.monotonic() < end:
            try:
                closed = not connection.recv(4096)
            except TimeoutError:
                connection.sendall(b"X: 1\r\n" if words else b"")
            except OSError:
                closed = True
    assert closed
