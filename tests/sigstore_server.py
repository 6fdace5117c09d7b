"""A private Sigstore for tests: Fulcio, certificate log, Rekor v1 and v2, timestamp authority, and Actions' tokens.

It issues what the real ones do: certificates with the extensions of Fulcio's ``docs/oid-info.md``, log entries with
inclusion proof, checkpoint and (v1) signed timestamp, RFC 3161 tokens. sigstore-python and cosign accept them. Its log
is one entry long. A token counts for Fulcio only if this very instance gave it out.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import rfc8785
from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GITHUB = "https://token.actions.githubusercontent.com"
FULCIO = "1.3.6.1.4.1.57264.1"
ALWAYS = {"start": "2020-01-01T00:00:00Z"}
ORIGIN = "log.sigstore.test"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def spki(key: Any) -> bytes:
    return key.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def utf8(text: str) -> bytes:
    return core.UTF8String(text).dump()


def workflow_claims(
    repository: str = "acme/promotions",
    workflow: str = ".github/workflows/modelsmith-reviews.yml",
    ref: str = "refs/heads/main",
    sha: str = "0" * 40,
    **other: str,
) -> dict[str, str]:
    """Claims of the token that GitHub gives a job, by its page "OpenID Connect reference"."""
    return {
        "iss": GITHUB,
        "sub": f"repo:{repository}:ref:{ref}",
        "repository": repository,
        "repository_id": "4711",
        "repository_owner": repository.partition("/")[0],
        "repository_owner_id": "42",
        "repository_visibility": "private",
        "ref": ref,
        "sha": sha,
        "event_name": "workflow_run",
        "workflow": "reviews",
        "workflow_ref": f"{repository}/{workflow}@{ref}",
        "workflow_sha": sha,
        "job_workflow_ref": f"{repository}/{workflow}@{ref}",
        "job_workflow_sha": sha,
        "runner_environment": "github-hosted",
        "run_id": "100",
        "run_attempt": "1",
    } | other


def extensions(claims: Mapping[str, str]) -> dict[int, bytes]:
    """What Fulcio makes of a token of GitHub's, by number below 1.3.6.1.4.1.57264.1."""
    web = "https://github.com/"
    raw = {1: "iss", 2: "event_name", 3: "sha", 4: "workflow", 5: "repository", 6: "ref"}
    by_number = {number: claims[name].encode() for number, name in raw.items() if name in claims}
    by_number[8] = utf8(claims["iss"])
    if "job_workflow_ref" not in claims:
        return by_number
    texts = {
        9: web + claims["job_workflow_ref"],
        10: claims["job_workflow_sha"],
        11: claims["runner_environment"],
        12: web + claims["repository"],
        13: claims["sha"],
        14: claims["ref"],
        15: claims["repository_id"],
        16: web + claims["repository_owner"],
        17: claims["repository_owner_id"],
        18: web + claims["workflow_ref"],
        19: claims["workflow_sha"],
        20: claims["event_name"],
        21: f"{web}{claims['repository']}/actions/runs/{claims['run_id']}/attempts/{claims['run_attempt']}",
        22: claims["repository_visibility"],
    }
    return by_number | {number: utf8(text) for number, text in texts.items()}


class PrivateSigstore:
    """One instance. ``rekor`` is the version of its log that clients are told of."""

    def __init__(self, rekor: int = 1) -> None:
        self.rekor = rekor
        self.ca, self.ct, self.log, self.tsa, self.tsa_ca = (ec.generate_private_key(ec.SECP256R1()) for _ in range(5))
        self.tiles = ed25519.Ed25519PrivateKey.generate()
        self.root = self._root(self.ca, "fulcio")
        self.tsa_root = self._root(self.tsa_ca, "tsa-root")
        self.tsa_leaf = self._tsa_leaf()
        self.claims: dict[str, str] = {}
        self.entries: list[dict[str, Any]] = []
        self.now = lambda: dt.datetime.now(dt.UTC)
        self._tokens: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, claims: Mapping[str, str]) -> str:
        """An OIDC token with these claims."""
        now = int(time.time())
        payload_claims = dict(claims) | {"aud": "sigstore", "iat": now - 1, "nbf": now - 1, "exp": now + 600}
        parts = [json.dumps({"alg": "none"}), json.dumps(payload_claims), secrets.token_hex(16)]
        token = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
        self._tokens[token] = payload_claims
        return token

    def actions(self, claims: Mapping[str, str]) -> dict[str, str]:
        """The environment of a job that may ask for tokens (``id-token: write``), and whose tokens say this."""
        self.claims = dict(claims)
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/actions/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner",
        }

    def issue(self, key: Any, claims: Mapping[str, str]) -> x509.Certificate:
        """A certificate for ten minutes, with the proof that it is in the certificate log."""
        now = self.now()
        name = claims.get("job_workflow_ref")
        uri = x509.UniformResourceIdentifier(f"https://github.com/{name}" if name else claims["sub"])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=5))
            .not_valid_after(now + dt.timedelta(minutes=10))
            .add_extension(_usage(signs=True), True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .add_extension(x509.SubjectAlternativeName([uri]), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), False)
        )
        for number, value in extensions(claims).items():
            oid = x509.ObjectIdentifier(f"{FULCIO}.{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), False)
        before = builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes
        at = int(time.time() * 1000)
        signed = struct.pack("!BBQH", 0, 0, at, 1) + sha(spki(self.ca)) + struct.pack("!I", len(before))[1:] + before
        signature = sign(self.ct, signed + b"\0\0")
        sct = b"\0" + sha(spki(self.ct)) + struct.pack("!QH", at, 0) + b"\x04\x03"
        sct += struct.pack("!H", len(signature)) + signature
        listed = core.OctetString(struct.pack("!HH", len(sct) + 2, len(sct)) + sct).dump()
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
        return builder.add_extension(x509.UnrecognizedExtension(oid, listed), False).sign(self.ca, hashes.SHA256())

    def certify(self, request: dict[str, Any], token: str) -> dict[str, Any] | None:
        """Fulcio's answer; None for a token that this instance did not give out."""
        claims = self._tokens.get(token)
        if claims is None:
            return None
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        chain = (self.issue(csr.public_key(), claims), self.root)
        pem = [certificate.public_bytes(ser.Encoding.PEM).decode() for certificate in chain]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pem}}}

    def entry_v1(self, proposed: dict[str, Any]) -> dict[str, Any]:
        if proposed["kind"] == "dsse":
            content = proposed["spec"]["proposedContent"]
            envelope = json.loads(content["envelope"])
            proposed["spec"] = {
                "envelopeHash": _hash(content["envelope"].encode()),
                "payloadHash": _hash(base64.b64decode(envelope["payload"])),
                "signatures": [
                    {"signature": signature["sig"], "verifier": verifier}
                    for signature, verifier in zip(envelope["signatures"], content["verifiers"], strict=True)
                ],
            }
        body, log = rfc8785.dumps(proposed), sha(spki(self.log))
        root = sha(b"\0" + body)
        note = f"{ORIGIN}\n1\n{b64(root)}\n"
        promised = {
            "body": b64(body),
            "integratedTime": int(self.now().timestamp()),
            "logID": log.hex(),
            "logIndex": self._index(),
        }
        proof = {
            "logIndex": 0, "treeSize": 1, "rootHash": root.hex(), "hashes": [],
            "checkpoint": f"{note}\n\u2014 {ORIGIN} {b64(log[:4] + sign(self.log, note.encode()))}\n",
        }  # fmt: skip
        signed = b64(sign(self.log, rfc8785.dumps(promised)))
        entry = promised | {"verification": {"signedEntryTimestamp": signed, "inclusionProof": proof}}
        self.entries.append(entry)
        return {secrets.token_hex(40): entry}

    def entry_v2(self, request: dict[str, Any]) -> dict[str, Any]:
        record = request["hashedRekordRequestV002"]
        spec = {
            "data": {"algorithm": "SHA2_256", "digest": record["digest"]},
            "signature": record["signature"],
        }
        body = rfc8785.dumps({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}})
        root, log = sha(b"\0" + body), self._tiles_id()
        note = f"{ORIGIN}\n1\n{b64(root)}\n"
        checkpoint = f"{note}\n\u2014 {ORIGIN} {b64(log[:4] + self.tiles.sign(note.encode()))}\n"
        entry = {
            "logIndex": str(self._index()),
            "logId": {"keyId": b64(log)},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "integratedTime": "0",
            "inclusionProof": {
                "logIndex": "0", "rootHash": b64(root), "treeSize": "1", "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": b64(body),
        }  # fmt: skip
        self.entries.append(entry)
        return entry

    def timestamp(self, query: bytes) -> bytes:
        """An RFC 3161 answer."""
        stamp_request = tsp.TimeStampReq.load(query)
        info = tsp.TSTInfo(
            {
                "version": 1,
                "policy": "1.3.6.1.4.1.57264.2",
                "message_imprint": stamp_request["message_imprint"],
                "serial_number": secrets.randbits(63),
                "gen_time": self.now().replace(microsecond=0),
                "nonce": stamp_request["nonce"],
            }
        )
        leaf = asn1_x509.Certificate.load(self.tsa_leaf.public_bytes(ser.Encoding.DER))
        ess = tsp.SigningCertificateV2({"certs": [{"cert_hash": sha(leaf.dump())}]})
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [sha(info.dump())]},
                {"type": "signing_certificate_v2", "values": [ess]},
            ]
        )
        algorithm = algos.DigestAlgorithm({"algorithm": "sha256"})
        signer = {
            "version": "v1",
            "sid": {"issuer_and_serial_number": {"issuer": leaf.issuer, "serial_number": leaf.serial_number}},
            "digest_algorithm": algorithm,
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": sign(self.tsa, attributes.dump()),
        }
        content = {"content_type": "tst_info", "content": core.ParsableOctetString(info.dump())}
        data = cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [algorithm],
                "encap_content_info": content,
                "certificates": [leaf],
                "signer_infos": [signer],
            }
        )
        token = cms.ContentInfo({"content_type": "signed_data", "content": data})
        return tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump()

    def trusted_root(self) -> bytes:
        """What a repository pins."""

        def log(key: Any, details: str, identity: bytes) -> dict[str, Any]:
            return {
                "baseUrl": self.url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": b64(spki(key)), "keyDetails": details, "validFor": ALWAYS},
                "logId": {"keyId": b64(identity)},
            }

        def authority(*chain: x509.Certificate) -> dict[str, Any]:
            return {
                "subject": {"organization": "sigstore.test", "commonName": "test"},
                "uri": self.url,
                "certChain": {"certificates": [{"rawBytes": b64(c.public_bytes(ser.Encoding.DER))} for c in chain]},
                "validFor": ALWAYS,
            }

        p256 = "PKIX_ECDSA_P256_SHA_256"
        logs = [log(self.log, p256, sha(spki(self.log))), log(self.tiles, "PKIX_ED25519", self._tiles_id())]
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": logs,
                "certificateAuthorities": [authority(self.root)],
                "ctlogs": [log(self.ct, p256, sha(spki(self.ct)))],
                "timestampAuthorities": [authority(self.tsa_leaf, self.tsa_root)],
            },
            indent=1,
        ).encode()

    def trust_config(self) -> bytes:
        """What who signs is given: where the services are, and the trusted root."""

        def service(path: str = "", version: int = 1) -> list[dict[str, Any]]:
            at = {"url": self.url + path, "majorApiVersion": version, "validFor": ALWAYS, "operator": "sigstore.test"}
            return [at]

        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(),
            "oidcUrls": service(),
            "rekorTlogUrls": service(version=self.rekor),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service("/timestamp") if self.rekor == 2 else [],
            "tsaConfig": {"selector": "ANY"},
        }
        config = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": json.loads(self.trusted_root()),
            "signingConfig": signing,
        }
        return json.dumps(config).encode()

    def _index(self) -> int:
        """Where an entry stands among those of all shards; cosign takes 0 for none."""
        return 1000 + len(self.entries)

    def _tiles_id(self) -> bytes:
        raw = self.tiles.public_key().public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)
        return sha(ORIGIN.encode() + b"\n\x01" + raw)

    def _root(self, key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            _certificate(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(_usage(signs=False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )

    def _tsa_leaf(self) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tsa")])
        return (
            _certificate(subject, self.tsa_root.subject, self.tsa.public_key())
            .add_extension(_usage(signs=True), True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.tsa.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.tsa_ca.public_key()), False)
            .sign(self.tsa_ca, hashes.SHA256())
        )


@contextmanager
def private_sigstore(rekor: int = 1) -> Iterator[PrivateSigstore]:
    """An instance, for as long as the block runs."""
    instance = PrivateSigstore(rekor)
    try:
        yield instance
    finally:
        instance.close()


def _certificate(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=3000))
        .not_valid_after(now + dt.timedelta(days=3650))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(signs, False, False, False, False, not signs, not signs, False, False)


def _hash(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": sha(data).hex()}


def _handler(instance: PrivateSigstore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, data: bytes, code: int = 201, kind: str = "application/json") -> None:
            self.send_response(code)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if self.path.startswith("/actions/token") and "audience=sigstore" in self.path:
                if self.headers["authorization"].lower() != "bearer runner":
                    self.answer(b"{}", 401)
                    return
                self.answer(json.dumps({"value": instance.token(instance.claims)}).encode(), 200)
            else:
                self.answer(b"{}", 404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/timestamp":
                self.answer(instance.timestamp(body), 200, "application/timestamp-reply")
                return
            answer = json.loads(body)
            if self.path == "/api/v2/signingCert":
                answered = instance.certify(answer, self.headers["authorization"].removeprefix("Bearer "))
                self.answer(json.dumps(answered or {}).encode(), 201 if answered else 401)
            elif self.path == "/api/v1/log/entries":
                self.answer(json.dumps(instance.entry_v1(answer)).encode())
            elif self.path == "/api/v2/log/entries":
                self.answer(json.dumps(instance.entry_v2(answer)).encode())
            else:
                self.answer(b"{}", 404)

    return Handler
