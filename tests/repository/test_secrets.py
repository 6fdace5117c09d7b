"""What the search for secrets finds, what it lets pass, and that its time grows with the text alone."""

from __future__ import annotations

import base64
import random
import subprocess
import time
from pathlib import Path

import pytest

from modelsmith.repository.secrets import (
    entropy,
    find_secrets,
    first_secret,
    name_problems,
    refuse_secret,
    secret_problems,
)
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.errors import InvalidInput

ROOT = Path(__file__).parents[2]
NOISE = random.Random(3)


def token(prefix: str, length: int, letters: str = "bcdfghjklmnpqrstvwxz0123456789BCDFGHJKLMNPQRSTVWXZ") -> str:
    return prefix + "".join(NOISE.choice(letters) for _ in range(length))


SECRETS = {
    "an AWS key id": token("AKIA", 16, "BCDFGHJKLMNPQRSTVWXZ234567"),
    "an AWS secret": "aws_secret_access_key = " + token("", 40),
    "a GitHub token": token("ghp_", 36),
    "a GitLab token": token("glpat-", 20),
    "a Slack token": "xoxb-" + token("", 12, "0123456789") + "-" + token("", 12, "0123456789") + "-" + token("", 24),
    "a SendGrid key": token("SG.", 22) + token(".", 43),
    "a Stripe key": token("sk_live_", 24),
    "an npm token": token("npm_", 36, "bcdfghjkmnpqrstvwxz0123456789"),
    "a private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "a password": "the admin password is hunter2secret",
    "a German password": "Passwort: geheim123",
    "a header": "Authorization: Bearer " + token("", 30),
}

WORDS = [
    "the password is incorrect",
    "password policy: rotate it every 90 days",
    "api key: see the vault",
    "the token count: 21480 tokens of 4096",
    "secret: it works on Tuesdays",
    "prompt_tokens 21480, completion_tokens 4020, tokens_per_second 57.3",
    "sha256:" + "ab" * 32,
    "approved: the key of alice ends on 2027-01-01",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_and_never_repeated(name):
    text = f"First line.\nsee {SECRETS[name]} there\n"
    secret = first_secret(text)
    assert secret is not None
    assert secret.line == 2
    with pytest.raises(InvalidInput) as refused:
        refuse_secret("The reason", text)
    assert SECRETS[name] not in str(refused.value.envelope())


@pytest.mark.parametrize("text", WORDS)
def test_words_about_secrets_are_no_secrets(text):
    assert first_secret(text) is None


def test_the_kit_and_the_pages_hold_none():
    """What people wrote raises no alarm, although it speaks of keys and tokens."""
    names = subprocess.check_output(["git", "-C", ROOT, "ls-files", "evals", "clusters", ".github", "docs"], text=True)
    assert secret_problems(WorkTree(ROOT), names.split()) == []
    assert len(names.split()) > 150


def test_an_invented_secret_may_be_marked_and_nothing_else_on_other_lines(tmp_path):
    key = SECRETS["an AWS key id"]
    (tmp_path / "a.yaml").write_text(f"one: {key} # gitleaks:allow\ntwo: {key}\n")
    problems = secret_problems(WorkTree(tmp_path), ["a.yaml"])
    assert {problem.line for problem in problems} == {2}
    assert not any(key in f"{problem.message} {problem.mend}" for problem in problems)


def test_random_base64_of_signatures_is_no_secret_and_time_is_linear():
    noise = [base64.b64encode(NOISE.randbytes(96)).decode() for _ in range(8000)]
    start = time.process_time()
    assert list(find_secrets("\n".join(noise[:1000]))) == []
    once = time.process_time() - start
    start = time.process_time()
    assert list(find_secrets("\n".join(noise))) == []
    assert time.process_time() - start < max(1.0, once * 40)


def test_entropy_is_shannon_s():
    assert entropy("") == entropy("aaaa") == 0.0
    assert entropy("ab") == 1.0
    assert entropy("abcd") == 2.0


def spelled(key):
    """One key as a program might read it, in files of bytes."""
    half = len(key) // 2
    return {
        "far into a file": b"x\n" * (3 << 20) + key.encode(),
        "in UTF-16": f"key {key} \u20ac\n".encode("utf-16"),
        "in UTF-16 without a mark": f"key {key}\n".encode("utf-16-be"),
        "in UTF-32": f"key {key}\n".encode("utf-32"),
        "by an escape of YAML": f'a: "{key[:2]}\\u{ord(key[2]):04x}{key[3:]}"\n'.encode(),
        "by a short escape": f'a: "{key[:2]}\\x{ord(key[2]):02X}{key[3:]}"\n'.encode(),
        "by a long escape": f'a: "{key[:2]}\\U{ord(key[2]):08x}{key[3:]}"\n'.encode(),
        "folded over two lines": f'a: "{key[:half]}\\\n   {key[half:]}"\n'.encode(),
        "by escapes in UTF-16": f'a: "{key[:2]}\\u{ord(key[2]):04x}{key[3:]}"\n'.encode("utf-16"),
        "in base64": b"Authorization: Basic " + base64.b64encode(f"me:{key}".encode()),
        "in base64 for addresses": base64.urlsafe_b64encode(f"{key}~~~???".encode()),
        "in base64 of UTF-16": base64.b64encode(key.encode("utf-16-le")),
        "in base64, indented": indented(key),
        "in base64, with line ends as JSON writes them": b'"' + indented(key)[15:].replace(b"\n  ", b"\\n"),
        "in base64 twice": base64.b64encode(base64.b64encode(key.encode())),
        "in hexadecimal": key.encode().hex().encode(),
        "by percent signs": "".join(f"%{ord(letter):02x}" for letter in key).encode(),
        "by percent signs around base64": b"a=" + base64.b64encode(f"k={key}!".encode()).replace(b"=", b"%3D"),
        "by references of HTML": "".join(f"&#{ord(letter)};" for letter in key).encode(),
    }


def indented(key):
    """As YAML holds bytes, with the key on two lines; the first begins at the 15th byte."""
    plain = base64.b64encode(b"x " * 20 + key.encode() + b" y" * 20)
    return b"a: !!binary |\n  " + b"\n  ".join(plain[at : at + 64] for at in range(0, len(plain), 64))


KEY = SECRETS["an AWS key id"]


@pytest.mark.parametrize("how", spelled(KEY))
def test_a_secret_is_found_however_a_file_spells_it(how, tmp_path):
    (tmp_path / "a.txt").write_bytes(spelled(KEY)[how])
    assert secret_problems(WorkTree(tmp_path), ["a.txt"])


def test_a_line_is_the_same_in_every_reading(tmp_path):
    """Also below lines that go on with the next, of which one holds the mark."""
    escaped = f"{KEY[:2]}\\x{ord(KEY[2]):02x}{KEY[3:]}"
    text = f"one \\\n two \\\n three\n{escaped}\nfour \\\n{escaped} # gitleaks:allow\n\n{KEY}\n"
    for data in (text.encode(), text.replace("\n", "\r\n").encode(), text.encode("utf-16")):
        (tmp_path / "a.txt").write_bytes(data)
        assert [problem.line for problem in secret_problems(WorkTree(tmp_path), ["a.txt"])] == [4, 8]


def test_what_is_spelled_otherwise_has_the_line_where_it_begins(tmp_path):
    """Also with an honest run before it that says several lines, and where the mark stands beside it."""
    honest, run = (base64.b64encode(words.encode()).decode() for words in ("one\ntwo\nthree\n", f"a\nb\n{KEY}\n"))
    (tmp_path / "a.txt").write_text(f"{honest}\n\n{run}\n{run} # gitleaks:allow\n{run} {honest}\n")
    assert [problem.line for problem in secret_problems(WorkTree(tmp_path), ["a.txt"])] == [3, 5]


def test_a_name_with_a_secret_is_refused_and_not_repeated():
    problems = name_problems(["docs/a.md", f"docs/x-{KEY}.txt", f"docs/{KEY}/b/c.txt"])
    assert [problem.file for problem in problems] == ["docs", "docs"]
    assert KEY not in str(problems)


def test_a_file_of_nothing_but_finds_costs_little(tmp_path):
    """On one line or on many, and where each find is one that passes by itself."""
    for word in (f"{KEY} ", f"{KEY}\n", "AKIAIOSFODNN7EXAMPLE ", f"{KEY} gitleaks:allow\n"):
        (tmp_path / "a.txt").write_bytes(word.encode() * 100_000)
        start = time.process_time()
        assert 0 < len(secret_problems(WorkTree(tmp_path), ["a.txt"])) <= 201
        assert time.process_time() - start < 5
