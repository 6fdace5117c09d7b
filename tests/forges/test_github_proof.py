"""`make github-proof`, tried on the server of GitHub's shape; and what it kept of a real GitHub, if somebody ran it."""

import json
import subprocess

import pytest
from github_openapi import description
from github_proof import RECORDED, TOKENS, differences, main
from worlds import WARM


def test_the_proof_runs_the_whole_flow_and_keeps_no_token(github, tmp_path, capsys):
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", bare], check=True)
    github.add("acme/proof", bare)
    tokens = {name: github.token(login) for name, login in zip(TOKENS, ("ann-gh", "ben-gh"), strict=True)}
    words = ["acme/proof", "--server", github.web]
    assert main(words, tokens, tmp_path / "kept", WARM.run) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "ok  verify: holds in a plain clone, without GitHub" in printed
    assert "differs from" not in printed
    (file,) = (tmp_path / "kept").iterdir()
    text = file.read_text()
    assert not [token for token in github.tokens if token in text]
    exchanges = [json.loads(line) for line in text.splitlines()]
    assert {exchange["status"] for exchange in exchanges} >= {200, 201, 304, 422}
    assert {exchange["method"] for exchange in exchanges} >= {"GET", "POST", "PATCH"}
    assert not any("authorization" in name.lower() for exchange in exchanges for name in exchange["headers"])

    assert main(words, tokens, tmp_path / "again", WARM.run) == 1, "it is not empty any more"
    assert "NOT PROVEN" in capsys.readouterr().err
    assert main(words, {}, tmp_path / "never", WARM.run) == 2
    assert TOKENS[1] in capsys.readouterr().err


def test_what_a_real_github_said_is_as_it_describes_itself():
    files = sorted(RECORDED.glob("*.jsonl"))
    if not files or description() is None:
        pytest.skip("nobody has run `make github-proof` yet, or `make openapi`: a real GitHub is unproven")
    for file in files:
        exchanges = [json.loads(line) for line in file.read_text().splitlines()]
        assert differences(exchanges, description()) == [], file.name
