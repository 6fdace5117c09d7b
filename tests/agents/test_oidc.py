"""Tokens of an identity provider: a role for whoever it vouches for, and nothing for every other token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx2
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from ports import free_port

from modelsmith.mcp import bounds, http, jwks, oidc
from modelsmith.mcp.http import Listening, make_app
from modelsmith.mcp.oidc import Issued, Provider, role_of
from modelsmith.mcp.tools import tools_of
from modelsmith.repository.tokens import Tokens
from modelsmith.schema.errors import InvalidInput

REAL = Path(__file__).parents[2] / ".cache" / "oidc-provider"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def real():
    """npm's oidc-provider, listening; gives its issuer."""
    if not (REAL / "node_modules").is_dir() or not shutil.which("node"):
        if os.environ.get("MODELSMITH_REQUIRE_TOOLS"):
            pytest.fail("oidc-provider is not here: run make oidc")
        pytest.skip("oidc-provider is not here: run make oidc")
    port = free_port()
    process = subprocess.Popen(
        ["node", REAL / "provider.mjs", str(port), "modelsmith"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline() == b"listening\n"
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait(60)


def issued(issuer, scope, resource="urn:modelsmith"):
    """A token of the real provider."""
    fields = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
    answer = httpx2.post(f"{issuer}/token", data=fields, auth=("agent", "known-to-the-tests"))
    return answer.json()["access_token"]


def provider(issuer, **more):
    return Provider.model_validate({"issuer": issuer, "audience": "modelsmith", "role_claim": "groups", **more})


@contextmanager
def served(clone, believed):
    """The server for agents; gives its address."""
    port = free_port()
    app = make_app(clone, Tokens(clone.parent / "home"), Listening("127.0.0.1", port), believed)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = server.force_exit = True
    thread.join(60)


def test_a_real_provider_s_token_gives_the_role_that_its_claim_names(real, plain_clone):
    with served(plain_clone, provider(real, roles={"reviewer": "reviewer", "operator": "operator"})) as url:

        async def listed(token):
            http = create_mcp_http_client(headers={"Authorization": f"Bearer {token}"})
            async with http, Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client:
                return {tool.name for tool in (await client.list_tools()).tools}

        for role in ("reviewer", "operator"):
            assert anyio.run(listed, issued(real, role)) == {tool.name for tool in tools_of(role)}
        for scope, resource in (
            ("stranger", "urn:modelsmith"),
            ("promoter", "urn:modelsmith"),
            ("reviewer operator", "urn:modelsmith"),
            ("operator", "urn:other"),
        ):
            headers = {"Authorization": f"Bearer {issued(real, scope, resource)}"}
            assert httpx2.get(f"{url}/events", headers=headers).status_code == 401, scope
        refused = httpx2.post(f"{url}/mcp", json={})
        response = httpx2.get(refused.headers["www-authenticate"].split('resource_metadata="')[1].split('"')[0])
        assert response.json()["authorization_servers"][0].rstrip("/") == real


def test_a_session_ends_with_the_token_by_which_it_was_last_used(real, plain_clone, monkeypatch):
    """One of five minutes, by a clock that goes on by six; another one holds for ten."""
    monkeypatch.setattr(oidc, "LEEWAY", 0)
    monkeypatch.setattr(bounds, "RECHECK", 0.1)
    ahead = timedelta()

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + ahead

    monkeypatch.setattr("jwt.api_jwt.datetime", Clock)
    monkeypatch.setattr(http, "time", SimpleNamespace(time=lambda: time.time() + ahead.total_seconds()))
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    accepts = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}

    def bearing(token, session=None):
        return accepts | {"authorization": f"Bearer {token}"} | ({"mcp-session-id": session} if session else {})

    with served(plain_clone, provider(real)) as url, httpx2.Client(base_url=url, timeout=120) as client:

        def post(method, token, session=None, **params):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return client.post("/mcp", json=body, headers=bearing(token, session))

        brief, later = issued(real, "reviewer", "urn:brief"), issued(real, "reviewer")
        ending_session, lasting_session = (
            post("initialize", brief, **hello).headers["mcp-session-id"] for _ in range(2)
        )
        assert post("ping", later, lasting_session).status_code == 200, "the client came with a new token in time"
        with client.stream("GET", "/mcp", headers=bearing(brief, ending_session)) as stream:
            assert stream.status_code == 200
            ahead = timedelta(minutes=6)
            assert stream.read() == b""
        assert [post("ping", later, session).status_code for session in (ending_session, lasting_session)] == [
            404,
            200,
        ]
        assert post("ping", brief, lasting_session).status_code == 401


class Stub:
    """An identity provider of ours, that does what it is told: its documents, how often they were asked for."""

    def __init__(self):
        self.asked = []
        self.answering = threading.Event()
        self.answering.set()
        self.instead = {}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                stub.asked.append(self.path)
                stub.answering.wait(60)
                body = stub.instead.get(self.path) or json.dumps(stub.documents()[self.path]).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self.keys = [public(RSA, "rsa", "RS256"), public(EC, "ec", "ES256")]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def documents(self):
        about = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
        return {"/.well-known/openid-configuration": about, "/jwks": {"keys": self.keys}}

    def close(self):
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()


def public(key, name, algorithm):
    kind = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": name, "alg": algorithm, "use": "sig"}


@pytest.fixture
def stub():
    """Such a provider."""
    stub_provider = Stub()
    yield stub_provider
    stub_provider.close()


def token(stub, key=RSA, algorithm="RS256", headers=None, **changed):
    now = int(time.time())
    claims = {
        "iss": stub.issuer,
        "aud": "modelsmith",
        "sub": "dana",
        "iat": now,
        "exp": now + 60,
        "groups": ["operator"],
    }
    claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    return jwt.encode(claims, key, algorithm, {"kid": "rsa", **(headers or {})})


def role(verifier, presented):
    access = anyio.run(verifier.verify_token, presented)
    return access and access.claims["role"]


def test_tokens_in_order_are_believed_by_every_key_of_the_provider(stub):
    """The control of the attacks below. What else the provider lists takes nothing from them."""
    stub.keys = [{"kty": ["RSA"], "kid": "x"}, "x", *stub.keys]
    verifier = Issued(provider(stub.issuer))
    assert role(verifier, token(stub)) == "operator"
    assert role(verifier, token(stub, EC, "ES256", {"kid": "ec"}, groups="reviewer")) == "reviewer"
    assert role(verifier, token(stub, exp=int(time.time()) - 30)) == "operator", "clocks may differ by a minute"
    for kind in ("at+jwt", "application/at+JWT", None):
        assert role(verifier, token(stub, headers={"typ": kind}, typ="Bearer")) == "operator", "as providers call them"
    assert stub.asked == ["/.well-known/openid-configuration", "/jwks"]


def test_a_key_that_names_no_algorithm_signs_by_those_of_its_kind(stub):
    """As the keys of some providers."""
    for key in stub.keys:
        del key["alg"]
    verifier = Issued(provider(stub.issuer))
    assert role(verifier, token(stub)) == role(verifier, token(stub, RSA, "PS256")) == "operator"
    assert role(verifier, token(stub, EC, "ES256", {"kid": "ec"})) == "operator"
    assert role(verifier, token(stub, RSA, "RS256", {"kid": "ec"})) is None


def unsigned(stub, algorithm):
    """A token without a signature."""
    _, body, _ = token(stub).split(".")
    plain = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "rsa"}).encode()).rstrip(b"=").decode()
    return f"{plain}.{body}."


def by_public_key(stub):
    """Key confusion: the provider's public key as the secret of HS256."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = token(stub).split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "rsa"}).encode()).rstrip(b"=").decode()
    signature = hmac.digest(pem, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


ATTACKS = {
    "no signature": lambda stub: unsigned(stub, "none"),
    "no signature, spelled": lambda stub: unsigned(stub, "nOnE"),
    "an empty signature": lambda stub: unsigned(stub, "RS256"),
    "key confusion": by_public_key,
    "another's key": lambda stub: token(stub, OTHER),
    "a key in the header": lambda stub: token(stub, OTHER, headers={"jwk": public(OTHER, "rsa", "RS256")}),
    "keys at an address": lambda stub: token(stub, OTHER, headers={"jku": "http://127.0.0.1:1/", "kid": "x"}),
    "a path as key": lambda stub: token(stub, OTHER, headers={"kid": "../../../../dev/null"}),
    "SQL as key": lambda stub: token(stub, OTHER, headers={"kid": "x' UNION SELECT 'k"}),
    "an address as key": lambda stub: token(stub, OTHER, headers={"kid": f"{stub.issuer}/evil"}),
    "another algorithm of the key": lambda stub: token(stub, RSA, "PS256"),
    "an algorithm that is not allowed": lambda stub: token(stub, RSA, "RS512"),
    "a key of another kind": lambda stub: token(stub, EC, "ES256"),
    "unknown and critical": lambda stub: token(stub, headers={"crit": ["x"], "x": 1}),
    "another issuer": lambda stub: token(stub, iss="https://evil.example"),
    "the issuer with a slash": lambda stub: token(stub, iss=f"{stub.issuer}/"),
    "another audience": lambda stub: token(stub, aud="another"),
    "no audience": lambda stub: token(stub, aud=None),
    "no end": lambda stub: token(stub, exp=None),
    "nobody": lambda stub: token(stub, sub=None),
    "expired": lambda stub: token(stub, exp=int(time.time()) - 120),
    "not yet": lambda stub: token(stub, nbf=int(time.time()) + 3600),
    "issued tomorrow": lambda stub: token(stub, iat=int(time.time()) + 86400, exp=int(time.time()) + 90000),
    "an unknown role": lambda stub: token(stub, groups=["admin"]),
    "two roles": lambda stub: token(stub, groups=["operator", "promoter"]),
    "no role": lambda stub: token(stub, groups=None),
    "odd roles": lambda stub: token(stub, groups=[{"operator": 1}, ["operator"], None]),
    "changed": lambda stub: token(stub)[:-4] + "AAAA",
    "too long": lambda stub: token(stub, filler="x" * 20_000),
    "no token": lambda stub: "a.b.c",
    "an ID token": lambda stub: token(stub, at_hash="x", nonce="y"),
    "an ID token, by its own word": lambda stub: token(stub, typ="ID"),
    "a token to get others by": lambda stub: token(stub, typ="Refresh"),
    "a logout": lambda stub: token(stub, headers={"typ": "logout+jwt"}),
    "an event": lambda stub: token(stub, events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "a proof of possession": lambda stub: token(stub, headers={"typ": "dpop+jwt"}),
    "bound to a key that nobody asks for": lambda stub: token(stub, cnf={"jkt": "x"}),
    "of no kind": lambda stub: token(stub, headers={"typ": ["JWT"]}),
    "bytes": lambda stub: "\udcff.\x00.é",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_token_that_is_not_wholly_in_order_is_nobody_s(stub, caplog, attack):
    verifier = Issued(provider(stub.issuer))
    presented = attack(stub)
    with caplog.at_level(logging.WARNING):
        assert role(verifier, presented) is None
    assert len(presented) < 20 or presented[:20] not in caplog.text, "the log holds no token"
    assert all(path in ("/.well-known/openid-configuration", "/jwks") for path in stub.asked)


@pytest.mark.parametrize("answers", ["late", "never"])
def test_a_provider_that_is_slow_stops_nobody_whose_key_is_known(stub, monkeypatch, answers):
    verifier = Issued(provider(stub.issuer))
    monkeypatch.setattr(jwks, "TIMEOUT", 60.0)

    async def visit():
        assert await verifier.verify_token(token(stub))
        stub.answering.clear()
        if answers == "never":
            monkeypatch.setattr(jwks, "TIMEOUT", 0.5)
        verifier._keys._tried = float("-inf")
        unknown = token(stub, OTHER, headers={"kid": "new"})
        results = []

        async def ask():
            results.append(await verifier.verify_token(unknown))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
            while len(stub.asked) < 3 and not results:
                await anyio.sleep(0.01)
            assert await verifier.verify_token(token(stub))
            if answers == "late":
                assert results == [], "all others wait meanwhile"
                stub.answering.set()
        return results

    assert anyio.run(visit) == [None] * 20
    assert stub.asked.count("/.well-known/openid-configuration") <= 2, "twenty tokens, one more fetch"


def test_a_new_key_of_the_provider_is_believed_and_a_withdrawn_one_is_not(stub, monkeypatch):
    monkeypatch.setattr(jwks, "AGAIN", 0.0)
    verifier = Issued(provider(stub.issuer))

    async def visit():
        assert await verifier.verify_token(token(stub))
        stub.keys = [public(OTHER, "new", "RS256")]
        assert await verifier.verify_token(token(stub, OTHER, headers={"kid": "new"}))
        assert await verifier.verify_token(token(stub)) is None

    anyio.run(visit)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/.well-known/openid-configuration", b'{"issuer": "https://evil.example", "jwks_uri": "x"}'),
        ("/.well-known/openid-configuration", b"[" * 100_000),
        ("/jwks", b'{"keys": 7}'),
        ("/jwks", b'{"keys": [{"kty": ["RSA"], "kid": "rsa"}, {"kty": {}}]}'),
        ("/jwks", b'{"keys": ["x", {"kty": "oct", "k": "AAAA", "kid": "rsa"}, {"kty": "RSA", "kid": "rsa"}]}'),
        ("/jwks", b'{"keys": [' + b" " * 300_000 + b"]}"),
    ],
)
def test_documents_of_the_provider_that_make_no_sense_give_no_key(stub, path, said):
    stub.instead[path] = said
    assert role(Issued(provider(stub.issuer)), token(stub)) is None


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=9)


@given(VALUES)
def test_whatever_a_claim_holds_it_gives_one_role_or_none(value):
    believed = provider("https://login.example", role_claim=["a", "b"])
    assert role_of({"a": value}, believed) is None or isinstance(value, dict)
    assert role_of({"a": {"b": value}}, believed) in (None, "operator", "reviewer", "promoter")
    assert role_of({"a": {"b": ["x", "operator"]}}, believed) == "operator"


@pytest.mark.parametrize(
    "changed",
    [{"issuer": "http://login.example"}, {"issuer": "https://u@x/"}, {"algorithms": ["HS256"]},
     {"algorithms": ["none"]},
     {"roles": {"x": "admin"}}, {"roles": {}}, {"audience": ""}, {"more": 1}],
)  # fmt: skip
def test_settings_that_would_believe_too_much_are_refused_by_field(tmp_path, changed):
    fields = {"issuer": "https://login.example", "audience": "modelsmith", "role_claim": "groups", **changed}
    (tmp_path / "oidc.json").write_text(json.dumps(fields))
    with pytest.raises(InvalidInput) as refused:
        Provider.read(tmp_path)
    assert refused.value.code == "bad-oidc"
    assert next(iter(changed)) in refused.value.message


def test_settings_that_others_may_write_are_refused(tmp_path):
    assert Provider.read(tmp_path) is None
    path = tmp_path / "oidc.json"
    path.write_text(json.dumps({"issuer": "https://login.example", "audience": "modelsmith", "role_claim": "groups"}))
    assert Provider.read(tmp_path).role_claim == ("groups",)
    path.write_text(path.read_text().replace('"groups"', '["realm_access", "roles"]'))
    assert Provider.read(tmp_path).role_claim == ("realm_access", "roles")
    path.chmod(0o666)
    with pytest.raises(InvalidInput) as refused:
        Provider.read(tmp_path)
    assert refused.value.code == "others-may-write"
