"""The whole flow at a real GitHub: `make github-proof REPO=owner/name`.

It makes a promotion repository in that repository, which must be empty, opens a change, has a second account approve it
in GitHub's pages and by signature, merges it and verifies it in a plain clone. Every exchange is kept, without tokens
and mail addresses, in `tests/forges/recorded/`, and held against GitHub's own description. Nothing is removed at GitHub
afterwards: delete the repository yourself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import github
from github_openapi import Description, description
from github_recorder import Recorder

from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.token import Token
from modelsmith.repository.git import Git, Ident
from modelsmith.signing.keys import create_ssh_key

RECORDED = Path(__file__).parent / "forges" / "recorded"
TOKENS = ("MODELSMITH_GITHUB_TOKEN", "MODELSMITH_GITHUB_REVIEWER_TOKEN")
Command = Callable[[Sequence[str], Path, Mapping[str, str]], tuple[int, str, str]]
"""Runs `modelsmith` with these words: exit status, standard output, standard error."""


class NotProvenError(Exception):
    """A step did not come out as the documentation says."""


class Proof:
    """One run in a folder of its own.

    Args:
        recorder: Stands before GitHub.
        name: ``OWNER/NAME``.
        tokens: Of who opens and merges, and of who reviews: two accounts.
        folder: Empty.
        command: Runs the command line.
    """

    def __init__(self, recorder: Recorder, name: str, tokens: tuple[str, str], folder: Path, command: Command) -> None:
        self.recorder, self.name, self.tokens, self.folder, self.command = recorder, name, tokens, folder, command
        self.place = parse_place(f"github:{recorder.web}/{name}")
        self.clone = folder / "clone"

    def run(self) -> Iterable[str]:
        """The steps; each is said when it is done."""
        for person in ("ann", "ben"):
            create_ssh_key(self.folder / person, f"{person}@example.org")
        persons = [f"platform={self.folder / person}.pub" for person in ("ann", "ben")]
        enrol = [word for person in persons for word in ("--person", person)]
        forge = f"github:{self.place.web}/{self.name}"
        result = self.modelsmith(
            "init", "clone", "--kit", "empty", "--domain", "proof", "--forge", forge, *enrol, cwd=self.folder
        )
        yield f"init: {self.name} holds a promotion repository"
        number = self.opened()
        yield f"pr open: pull request {number}"
        self.modelsmith("pr", "merge", str(number), code=4)
        yield "pr merge: the gate is shut, as it should be"
        if self.refusal_of_own_approval(number) != 422:
            raise NotProvenError("GitHub let the author of a pull request approve it")
        self.pull(1, number).create_review(event="APPROVE")
        notes = self.modelsmith("pr", "show", str(number))["pull"]["notes"]
        if not any("approved at the forge" in note for note in notes):
            raise NotProvenError(f"the review in GitHub's pages was not heard: {notes}")
        self.modelsmith("pr", "merge", str(number), code=4)
        yield "a review by the second account: heard, and it opens nothing by itself"
        self.modelsmith("approve", str(number), "--key", str(self.folder / "ben"), token=1)
        self.modelsmith("pr", "merge", str(number))
        yield "approve, pr merge: merged with receipts"
        self.wait_until_merged(number)
        yield "GitHub shows it as merged"
        elsewhere = self.folder / "elsewhere"
        environment = os.environ | Token(self.tokens[0]).for_git(self.place)
        subprocess.run(["git", "clone", "-q", self.place.url, elsewhere], check=True, env=environment)
        self.modelsmith("verify", "--root", result["root"], cwd=elsewhere, token=None)
        yield "verify: holds in a plain clone, without GitHub"

    def opened(self) -> int:
        git = Git(self.clone)
        author = Ident("Ann", "ann@example.org", datetime.now(UTC))
        main = git.rev("refs/heads/main")
        git.update_ref("refs/heads/page", git.commit_files(main, {"page.md": b"A page.\n"}, "A page\n", author), None)
        words = ("pr", "open", "page", "--title", "A page", "--key", str(self.folder / "ann"))
        number = self.modelsmith(*words)["pull"]["number"]
        again = self.modelsmith(*words)["pull"]["number"]
        if again != number:
            raise NotProvenError(f"opened twice: {number} and {again}")
        return int(number)

    def modelsmith(self, *words: str, code: int = 0, cwd: Path | None = None, token: int | None = 0) -> dict[str, Any]:
        environment_before = {
            name: value for name, value in os.environ.items() if not re.match(r"MODELSMITH_|GITHUB_|GIT_", name)
        }
        environment = environment_before | {"MODELSMITH_HOME": str(self.folder / "home")}
        if token is not None:
            environment[TOKENS[0]] = self.tokens[token]
        status, out, err = self.command([*words, "--json"], cwd or self.clone, environment)
        if status != code:
            raise NotProvenError(f"`modelsmith {' '.join(words)}` ended with {status}, not {code}:\n{out}{err}")
        answer = json.loads(out)
        assert isinstance(answer, dict)
        return answer

    def pull(self, person: int, number: int) -> Any:
        """The pull request, as PyGithub gives it to this account."""
        login = github.Github(auth=github.Auth.Token(self.tokens[person]), base_url=self.place.api, retry=None)
        return login.get_repo(self.name).get_pull(number)

    def refusal_of_own_approval(self, number: int) -> int:
        try:
            self.pull(0, number).create_review(event="APPROVE")
        except github.GithubException as error:
            return int(error.status)
        return 200

    def wait_until_merged(self, number: int, seconds: float = 60) -> None:
        ends = time.monotonic() + seconds
        while not self.pull(0, number).merged:
            if time.monotonic() > ends:
                raise NotProvenError(f"GitHub does not show pull request {number} as merged after {seconds:.0f} s")
            time.sleep(2)


def differences(exchanges: Iterable[Mapping[str, Any]], spec: Description) -> list[str]:
    """What GitHub said, or was told, that is not as it describes itself."""
    return [
        problem
        for exchange in exchanges
        if exchange["status"] not in (301, 304) and exchange["path"] != "/graphql"
        for problem in spec.problems(
            exchange["method"],
            exchange["path"].partition("?")[0],
            exchange["status"],
            exchange["answer"],
            exchange["sent"],
        )
    ]


def installed(words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """The command beside this Python."""
    command = [str(Path(sys.executable).with_name("modelsmith")), *words]
    process = subprocess.run(command, cwd=cwd, env=dict(environment), capture_output=True, text=True)
    return process.returncode, process.stdout, process.stderr


def main(
    arguments: Sequence[str], environment: Mapping[str, str], recorded: Path = RECORDED, command: Command = installed
) -> int:
    """Run it, and write what was said to ``recorded``, whether it came out well or not."""
    parser = argparse.ArgumentParser(prog="make github-proof REPO=owner/name")
    parser.add_argument("repository")
    parser.add_argument("--server", default="https://github.com", help="another GitHub, such as an Enterprise Server")
    options = parser.parse_args(arguments)
    missing = [name for name in TOKENS if not environment.get(name)]
    if missing:
        print(f"Set {' and '.join(missing)}: tokens of two accounts that may write this repository.", file=sys.stderr)
        return 2
    place = parse_place(f"github:{options.server}/{options.repository}")
    tokens = (environment[TOKENS[0]], environment[TOKENS[1]])
    with tempfile.TemporaryDirectory() as folder, Recorder(place.web, place.api, tokens) as recorder:
        try:
            for step in Proof(recorder, place.full_name, tokens, Path(folder), command).run():
                print(f"ok  {step}", flush=True)
            proven = True
        except (NotProvenError, github.GithubException, subprocess.CalledProcessError) as error:
            print(f"NOT PROVEN  {recorder._scrubbed(str(error))}", file=sys.stderr)
            proven = False
        recorded.mkdir(parents=True, exist_ok=True)
        file = recorded / f"{place.full_name.replace('/', '+')}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
        file.write_text(recorder.lines())
    spec = description()
    differences_found = differences(recorder.exchanges, spec) if spec else ["not compared: run `make openapi`"]
    print(f"{len(recorder.exchanges)} exchanges kept in {file}; read them before you share them")
    print("\n".join(f"differs from GitHub's description: {line}" for line in differences_found))
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
