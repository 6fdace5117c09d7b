"""Targets: records, receipts, evidence, events and signatures, which other machines and people's tools write."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from fuzz.examples import example
from fuzz.target import BETWEEN, Files, Target, each, parts, public, signing_key, spellings, ssh_key, trusted
from modelsmith.evaluation.headline import headline
from modelsmith.evidence import bundle, second_look
from modelsmith.forges import events
from modelsmith.governance import states
from modelsmith.promotion.histories import parse_record, read_histories
from modelsmith.promotion.verify import authenticate
from modelsmith.schema.canonical import canonical_json, parse_canonical, sha256
from modelsmith.schema.evidence import Evidence, RunEvidence
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.observed import SecondLook
from modelsmith.schema.promotion import Approval, Override, PromotionRecord, Receipt, TrainingFacts
from modelsmith.schema.pull import PullEvent, SignedApproval
from modelsmith.schema.run import GateRule, VerdictRow
from modelsmith.signing import dsse, keys, oms, ssh, wire
from modelsmith.signing.files import SUMS_FILE, sums


def record(**fields: Any) -> PromotionRecord:
    first = {"sequence": 1, "event": "candidate", "from_state": None, "to_state": "candidate", "previous_record": None}
    return example(PromotionRecord, **(first | fields))


@cache
def policy() -> Policy:
    return example(Policy, transitions=[{"event": "candidate", "from": [], "to": "candidate", "gate": "harness"}])


@cache
def people() -> People:
    return example(People, people=[{"id": "maya", "name": "maya", "roles": [], "keys": [{"key": public()}]}])


def read_record(data: bytes) -> object:
    path, text = parts(data, 2)
    name = path.decode("utf-8", "replace")

    def read_history(spelling: bytes) -> object:
        parse_record(name, spelling)
        return read_histories(Files({name: spelling}), policy())

    return each(text, read_history)


def record_seeds() -> list[bytes]:
    example_record = record()
    return [f"{states.record_folder(example_record)}/record.json".encode() + BETWEEN + canonical_json(example_record)]


def canonical(model: type[Any]) -> Callable[[bytes], object]:
    """Reads a machine-written file of this type."""
    return lambda data: each(data, lambda spelling: parse_canonical("file.json", spelling, model))


def seeds_of(*models: type[Any]) -> Callable[[], list[bytes]]:
    return lambda: [canonical_json(example(model)) for model in models]


def read_event(data: bytes) -> object:
    event, signature, approval, proof = parts(data, 4)
    files = {events.EVENT_FILE: event, events.EVENT_SIGNATURE: signature}
    if approval or proof:
        files |= {events.APPROVAL_FILE: approval, events.APPROVAL_SIGNATURE: proof}
    for event_spelling in spellings(event):
        for approval_spelling in spellings(approval):
            files[events.EVENT_FILE] = event_spelling
            if approval:
                files[events.APPROVAL_FILE] = approval_spelling
            try:
                answer = json.loads(event_spelling)
                above = [answer["previous"] or "0" * 40, *([answer["head"]] if answer["kind"] == "opened" else [])]
            except (ValueError, KeyError, TypeError, RecursionError):
                above = []
            parsed = events.parse_event("5a" * 20, above, files)
    return events.fold_pull([parsed], None) if parsed.event.kind == "opened" else parsed


def event_seeds() -> list[bytes]:
    fields = {"branch": "b", "title": "t", "requester": "maya", "previous": None}
    opened = example(PullEvent, kind="opened", **fields)
    approval = example(Approval)
    reviewed = example(
        PullEvent, kind="reviewed", previous="5a" * 20, verdict=approval.verdict, repository=approval.repository,
        pull=approval.pull, change=approval.change, actor=approval.actor,
    )  # fmt: skip
    commented = example(PullEvent, kind="commented", previous="5a" * 20, body="why?")
    return [
        BETWEEN.join([canonical_json(opened), b"signature"]),
        BETWEEN.join([canonical_json(commented), b"signature"]),
        BETWEEN.join([canonical_json(reviewed), b"signature", canonical_json(approval), b"signature"]),
    ]


def read_evidence(data: bytes) -> object:
    return each(data, lambda text: bundle.recompute(parse_canonical("evidence.json", text, Evidence)))


def evidence_seeds() -> list[bytes]:
    points = [{"id": "cause", "weight": 1.0, "required": True}, {"id": "action", "weight": 2.0, "required": False}]
    rule = example(GateRule, points=points)
    verdict_points = [
        example(VerdictRow, section=section, id=f"{section.replace('_', '-')}-{n}", scenario=sha256(b"%d" % n))
        for section in ("core", "robustness", "micro", "held_out")
        for n in range(2)
    ]
    good = tuple(
        row.model_copy(update={"points": {"cause": True, "action": n % 2 == 0}}) for n, row in enumerate(verdict_points)
    )
    bad = tuple(
        row.model_copy(update={"points": {"cause": n % 3 == 0, "action": True}}) for n, row in enumerate(verdict_points)
    )
    whole = example(Evidence).model_dump(mode="json")
    whole["rule"] = rule.model_dump(mode="json")
    for name, rows_, against in (("candidate", good, bad), ("incumbent", bad, None)):
        run = example(RunEvidence).model_dump(mode="json")
        run["rows"] = [row.model_dump(mode="json") for row in rows_]
        run["headline"] = headline(rows_, against, rule).model_dump(mode="json")
        whole[name] = run
    return [canonical_json(whole)]


def read_public_key(data: bytes) -> object:
    return keys.fingerprint(data)


def read_bundle(data: bytes) -> object:
    def read_statement(spelling: bytes) -> object:
        wire.parse_statement(dsse.peek(spelling))
        return dsse.unseal(spelling, trusted(), b"subject", "https://example.org/type")

    return each(data, read_statement)


def bundle_seeds() -> list[bytes]:
    signed_statement = dsse.statement("file", b"subject", "https://example.org/type", {"a": [1, 2.5, None, True, "x"]})
    return [dsse.seal(signed_statement, signing_key())]


def signed(payload: bytes) -> bytes:
    """A bundle around any payload, by the trusted key."""
    document = json.loads(bundle_seeds()[0])
    signature = dsse._sign(payload, keys.load_signing_key(signing_key()))
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return canonical_json(document)


def read_signed_statement(data: bytes) -> object:
    """What a trusted key has signed may still be anything."""
    return each(data, lambda payload: dsse.unseal(signed(payload), trusted(), b"subject", "https://example.org/type"))


def statement_seeds() -> list[bytes]:
    return [canonical_json(dsse.statement("file", b"subject", "https://example.org/type", {"a": {"b": [None]}}))]


FILES = {"README.md": "5a" * 32, "adapter_model.safetensors": "00" * 32, "tok/vocab.json": "ff" * 32}


def read_model_signature(data: bytes) -> object:
    payload, listing = parts(data, 2)
    signature = signed(payload)
    oms.artifact_of(signature)
    return oms.verify_manifest(signature, listing, trusted())


def model_signature_seeds() -> list[bytes]:
    files = FILES | {SUMS_FILE: hashlib.sha256(sums(FILES)).hexdigest()}
    resources = [{"algorithm": "sha256", "digest": files[name], "name": name} for name in sorted(files)]
    root = hashlib.sha256(b"".join(bytes.fromhex(files[name]) for name in sorted(files))).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": ["model.sig"]}
    fields = {
        "_type": wire.STATEMENT_TYPE,
        "subject": [{"name": f"sha256:{files[SUMS_FILE]}", "digest": {"sha256": root}}],
        "predicateType": oms.PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": resources},
    }
    return [canonical_json(fields) + BETWEEN + sums(FILES)]


def read_ssh_signature(data: bytes) -> object:
    payload, signature = parts(data, 2)
    allowed = [ssh.AllowedKey("maya", ssh.public_key(ssh_key().with_suffix(".pub")))]
    return ssh.verify(payload, signature.decode("utf-8", "replace"), "modelsmith-approval", allowed)


def ssh_signature_seeds() -> list[bytes]:
    return [b"payload" + BETWEEN + ssh.sign(b"payload", ssh_key(), "modelsmith-approval").encode()]


def read_receipted_approval(data: bytes) -> object:
    statement, signature = (part.decode("utf-8", "replace") for part in parts(data, 2))

    def read_signed(spelling: bytes) -> object:
        proof = SignedApproval(statement=spelling.decode("utf-8", "replace"), signature=signature)
        return authenticate(proof, people(), "cause.first", 1)

    return each(statement.encode(), read_signed)


def receipted_approval_seeds() -> list[bytes]:
    approval = canonical_json(example(Approval, repository="cause.first", pull=1, actor="maya"))
    return [approval + BETWEEN + ssh.sign(approval, ssh_key(), "modelsmith-approval").encode()]


def read_look(data: bytes) -> object:
    """An observation beside the evidence that it repeats: read, recomputed, held against it."""
    observation, evidence = parts(data, 2)
    repeated = parse_canonical("evidence.json", evidence, Evidence)

    def read_look_again(text: bytes) -> object:
        look = parse_canonical("observation.json", text, SecondLook)
        second_look.recompute_look(look, repeated)
        return second_look.compare_look(look, repeated, 0.05)

    return each(observation, read_look_again)


def look_seeds() -> list[bytes]:
    evidence_bytes = evidence_seeds()[0]
    evidence = json.loads(evidence_bytes)
    fields = {name: evidence[name] for name in ("question", "engine", "candidate", "incumbent", "judge")}
    again = {"rows": sha256(b"rows"), "artifact": sha256(b"another"), "run": evidence["candidate"]}
    plain = example(SecondLook).model_dump(mode="json") | fields | {"retraining": None}
    return [canonical_json(look) + BETWEEN + evidence_bytes for look in (plain, plain | {"retraining": again})]


def read_ssh_key(data: bytes) -> object:
    return ssh.check_key(data.decode("utf-8", "replace"))


def ssh_key_seeds() -> list[bytes]:
    return [public().encode()]


TARGETS = (
    Target("record", read_record, record_seeds),
    Target("receipt", canonical(Receipt), seeds_of(Receipt)),
    Target("training", canonical(TrainingFacts), seeds_of(TrainingFacts)),
    Target("evidence", read_evidence, evidence_seeds),
    Target("observation", read_look, look_seeds),
    Target("override", canonical(Override), seeds_of(Override)),
    Target("event", read_event, event_seeds),
    Target("public-key", read_public_key, trusted),
    Target("bundle", read_bundle, bundle_seeds),
    Target("signed-statement", read_signed_statement, statement_seeds),
    Target("model-signature", read_model_signature, model_signature_seeds),
    Target("ssh-signature", read_ssh_signature, ssh_signature_seeds, slow=True),
    Target("approval", read_receipted_approval, receipted_approval_seeds, slow=True),
    Target("ssh-key", read_ssh_key, ssh_key_seeds),
)
