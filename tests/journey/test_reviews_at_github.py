"""The button in GitHub's pages counts: the workflow's own steps, run as CI would, and `verify` without GitHub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from attesting import BELIEVED, SOURCE, WORKFLOW, governing
from github_openapi import description
from github_server import account_number
from github_settings import SettingsServer
from sigstore_server import private_sigstore, workflow_claims
from worlds import COMMAND, World

from modelsmith.promotion.attestation import claimed
from modelsmith.repository.git import Ident
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import canonical_json
from modelsmith.signing.keys import create_ssh_key

NAME = "acme/promotions"
COSIGN = Path(__file__).parents[2] / ".cache" / "cosign" / "cosign"
PEOPLE = {"maya": "head-of-trading", "dana": "domain-lead", "petra": "platform"}
STEPS = yaml.safe_load(SOURCE.read_text())["jobs"]["attest"]["steps"]
WHO = Ident("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))
IDS = {"repository_id": str(account_number(NAME)), "repository_owner_id": "42"}


class Hub:
    """A repository that `init` put at GitHub; main believes the workflow, and knows three accounts there."""

    def __init__(self, folder, github, sigstore):
        self.world, self.github, self.sigstore = World(folder), github, sigstore
        self.config = folder / "trust-config.json"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.world.forge], check=True)
        self.config.write_bytes(sigstore.trust_config())
        self.repo = github.add(NAME, self.world.forge)
        for name in PEOPLE:
            create_ssh_key(folder / "people" / name, f"{name}@example.org")
        enrol = [word for name, role in PEOPLE.items() for word in ("--person", f"{role}={self.world.key(name)}.pub")]
        self.harness = github.token("harness-gh")
        self.actions = github.token("github-actions[bot]", "contents", "pull_requests")
        place = f"github:{github.web}/{NAME}"
        self.run("init", "clone", "--kit", "adtech", "--forge", place, *enrol, cwd=folder)
        self.root = self.world.git.text("config", "modelsmith.root")
        tree = Revision(self.world.git, self.world.main())
        accounts = {name: (f"{name}-gh", account_number(f"{name}-gh")) for name in PEOPLE}
        number = self.propose("believe", governing(tree, sigstore, accounts, repository_id=account_number(NAME)))
        self.run("approve", number, "--key", self.world.key("petra"))
        self.run("pr", "merge", number)

    def run(self, *words, token=None, code=0, cwd=None):
        environment = self.world.environment() | {"MODELSMITH_GITHUB_TOKEN": token or self.harness}
        result = self.world.modelsmith(*map(str, words), "--json", env=environment, **({"cwd": cwd} if cwd else {}))
        assert result.code == code, result.out + result.err
        return result.json

    def propose(self, branch, files):
        git = self.world.git
        main = git.rev("refs/modelsmith/main") or self.world.main()
        git.update_ref(f"refs/heads/{branch}", git.commit_files(main, files, "A change\n", WHO), None)
        return self.run("pr", "open", branch, "--title", "A change", "--key", self.world.key("maya"))["pull"]["number"]

    def review(self, number, person, event="APPROVE"):
        return self.github.reviewed(self.repo, self.repo.pulls[number], f"{person}-gh", event)

    def workflow(self, tmp_path, pull="", **claims):
        """Run the steps of the workflow's file as a runner does, but for installing the toolkit from main."""
        workflow = workflow_claims(sha=self.world.main(), **(IDS | claims))
        runner = tmp_path / f"runner-{len(list(tmp_path.iterdir()))}"
        (runner / "work").mkdir(parents=True)
        (runner / "toolkit" / "bin").mkdir(parents=True)
        (runner / "toolkit" / "bin" / "modelsmith").symlink_to(COMMAND)
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(runner),
            "RUNNER_TEMP": str(runner),
            "GITHUB_SERVER_URL": self.github.web,
            "GITHUB_REPOSITORY": NAME,
            "GITHUB_SHA": self.world.main(),
            "GITHUB_OUTPUT": str(runner / "output"),
            "MODELSMITH_SIGSTORE": str(self.config),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **self.sigstore.actions(workflow),
        }
        expressions = {"${{ github.token }}": self.actions, "${{ inputs.pull }}": str(pull)}
        for step in STEPS:
            if step["name"].startswith("Install"):
                assert (runner / "output").read_text() == "believed=true\n"
                continue
            env = {name: expressions[value] for name, value in step.get("env", {}).items()}
            process = subprocess.run(
                ["bash", "-e", "-c", step["run"]], cwd=runner / "work", env=environment | env, text=True, check=False,
                capture_output=True, timeout=120,
            )  # fmt: skip
            if process.returncode:
                break
        return process

    def attests(self, tmp_path, pull="", **claims):
        process = self.workflow(tmp_path, pull, **claims)
        assert process.returncode == 0, process.stdout + process.stderr
        return {pull["number"]: pull["signed"] for pull in json.loads(process.stdout)["pulls"]}


@pytest.fixture
def hub(tmp_path):
    with private_sigstore() as sigstore, SettingsServer(tmp_path / "github", description()) as github:
        yield Hub(tmp_path / "world", github, sigstore)
        assert github.wrong == []


def gate(hub, number):
    return hub.run("pr", "show", number)["pull"]


def test_a_button_at_github_decides_and_verifies_in_a_plain_clone(hub, tmp_path):
    files = {"evals/adtech/README.md": b"More.\n"}
    first, second = hub.propose("one", files), hub.propose("two", {"evals/README.md": b"Notes.\n"})
    runs = tmp_path / "runs"
    runs.mkdir()
    assert hub.attests(runs) == {first: False, second: False}, "nobody has reviewed anything"
    hub.review(first, "dana")
    hub.run("pr", "merge", first, code=4)
    assert hub.attests(runs) == {first: True, second: False}
    assert hub.attests(runs) == {first: False, second: False}, "nothing changed since"

    assert gate(hub, first)["gate"] == "open"
    hub.run("pr", "merge", first)
    clone = tmp_path / "plain"
    subprocess.run(["git", "clone", "-q", hub.world.forge, clone], check=True)
    verified = hub.world.modelsmith("verify", "--root", hub.root, "--json", cwd=clone)
    assert verified.code == 0, verified.out
    assert verified.json["approvals"] == 2
    (attestation,) = clone.rglob("attested-dana.sigstore.json")
    assert claimed(attestation.read_bytes()).reviews[0].login == "dana-gh"
    if COSIGN.exists():
        cosign(attestation, clone, hub, tmp_path)

    hub.review(second, "dana")
    assert hub.attests(runs, pull=second) == {second: True}
    assert gate(hub, second)["gate"] == "open"
    hub.repo.pulls[second].reviews[-1]["state"] = "DISMISSED"
    shut = gate(hub, second)
    assert shut["gate"] == "waiting", "who merges asks GitHub, too"
    assert any("does not show it any more" in note for note in shut["notes"])
    assert hub.attests(runs)[second]
    hub.run("pr", "merge", second, code=4)
    hub.review(second, "dana", "REQUEST_CHANGES")
    assert hub.attests(runs)[second]
    assert gate(hub, second)["gate"] == "closed"


def test_another_workflow_run_signs_nothing_that_is_kept(hub, tmp_path):
    """An agent that may push branches and start workflows: its job is of another ref, file, event or commit."""
    number = hub.propose("one", {"evals/adtech/README.md": b"More.\n"})
    hub.review(number, "dana")
    runs = tmp_path / "runs"
    runs.mkdir()
    for claims in (
        {"ref": "refs/heads/evil"},
        {"workflow": ".github/workflows/evil.yml"},
        {"event_name": "pull_request_review", "ref": f"refs/pull/{number}/merge"},
    ):
        assert "untrusted-identity" in hub.workflow(runs, **claims).stdout
    assert hub.workflow(runs, pull="1; id").returncode == 2, "an input is a number or nothing"
    assert gate(hub, number)["gate"] == "waiting"


def cosign(bundle, clone, hub, folder):
    """cosign confirms the same, with the pinned root of the clone."""
    receipt = json.loads((bundle.parent / "merge.json").read_bytes())
    change = hub.world.git.change(f"{receipt['merge']}^1", receipt["merge"])
    rows = sorted([p.path, p.old_mode, p.new_mode, p.old_blob, p.new_blob] for p in change.paths)
    blob = folder / "change.json"
    blob.write_bytes(canonical_json(rows))
    name = f"https://github.com/{NAME}/{WORKFLOW}@refs/heads/main"
    command = [
        COSIGN, "verify-blob-attestation", "--new-bundle-format", "--bundle", bundle, "--trusted-root",
        clone / ".github/governance/trust/sigstore.json", "--type", "https://modelsmith.dev/reviews-attestation/v1",
        "--certificate-identity", name, "--certificate-oidc-issuer", BELIEVED["issuer"], blob,
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(folder)})
    assert "Verified OK" in process.stderr, process.stderr
