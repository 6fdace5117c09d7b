"""A promotion repository with real keys, a clone of it and a forge; and people who act on it."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from github_openapi import description
from github_settings import SettingsServer
from runners import Runner
from transitions import SHIPPED
from warm_gate import stand_in

import modelsmith
from modelsmith.forges.github.forge import GitHubForge
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.token import Token
from modelsmith.forges.local import LocalForge
from modelsmith.forges.mirror import Mirror
from modelsmith.forges.port import ForgeIdentity, Proposal
from modelsmith.forges.pre_receive import install_hook
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.tree import Revision
from modelsmith.repository.validate import validate
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, Approval
from modelsmith.schema.pull import SignedApproval
from modelsmith.signing import ssh
from modelsmith.signing.keys import create_ssh_key

REPOSITORY = "test-repository"
WHO = Ident("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))
ACTORS = ("maya", "noor", "dana", "smith", "stranger")
PEOPLE_FILE = ".github/governance/people.yaml"
GATE_HOOK = Path(__file__).with_name("gate_hook.py")
HOOK = f"""\
#!/bin/sh
PYTHONPATH={Path(__file__).parents[2]} exec {sys.executable} {GATE_HOOK}
"""


def governance_files(keys):
    """Policy, people and owners. ``stranger`` has a key that nobody listed."""

    def entry(actor, **more):
        return {"id": actor, "keys": [{"key": keys[actor]}], **more}

    people = {
        "roles": {"head-of-trading": "Trading.", "domain-lead": "Evals.", "platform": "Toolkit."},
        "people": [
            entry("maya", name="Maya", roles=["head-of-trading", "platform"]),
            entry("noor", name="Noor", roles=["head-of-trading"]),
            entry("dana", name="Dana", roles=["domain-lead"]),
        ],
        "harness": [entry("smith")],
    }
    policy = {
        "repository": REPOSITORY,
        "transitions": [t.model_dump(mode="json", by_alias=True) for t in SHIPPED],
        "harness_paths": ["/notes/"],
    }
    owners = b"* @platform\n/evals/ @domain-lead\n/clusters/ @head-of-trading\n/notes/\n"
    return {
        ".github/governance/people.yaml": canonical_json(people),
        ".github/governance/policy.yaml": canonical_json(policy),
        ".github/CODEOWNERS": owners,
        "README.md": b"A repository.\n",
        "evals/a.yaml": b"one\n",
    }


class World:
    """One forge, one clone and everybody's keys."""

    def __init__(self, folder, keys):
        self.folder, self.keys = folder, keys
        self.bare = folder / "forge.git"
        self.git = Git(folder / "clone")
        self.forge_git = Git(self.bare)
        self.who = WHO
        self.url = None
        self.github = self.repo = None
        self.tokens = {}

    def forge(self, actor="smith", clone=None):
        identity = ForgeIdentity(actor, self.keys / actor)
        if self.github:
            place = parse_place(f"github:{self.github.web}/{self.repo.full_name}")
            token = Token(self.tokens[actor])
            return GitHubForge(place, token, self.folder / "private", clone or self.git, identity)
        if self.url:
            mirror = Mirror(self.url, self.folder / "mirror.git", self.git)
            return LocalForge(mirror.path, clone or self.git, identity, mirror)
        return LocalForge(self.bare, clone or self.git, identity)

    def elsewhere(self):
        """The same forge on a host that is reached over ssh only."""
        self.url = f"ssh://forge.example{self.bare}"
        return self

    def at_github(self, server):
        """The same repository at GitHub, where somebody has opened an issue before."""
        self.github, self.repo = server, server.add("acme/promotions", self.bare)
        self.repo.next_number()
        self.tokens = {actor: server.token(f"{actor}-gh") for actor in ACTORS}
        return self

    def another_clone(self, name):
        path = self.folder / name
        subprocess.run(["git", "init", "-q", "--bare", path], check=True)
        return Git(path)

    def main(self):
        return self.forge_git.rev("refs/heads/main")

    def commit(self, files, parent=None, git=None):
        encoded = {path: data if data is None else data.encode() for path, data in files.items()}
        return (git or self.git).commit_files(parent or self.main(), encoded, "A change\n", WHO)

    def proposal(self, files=None, branch="change", requester="dana", **other):
        base = other.pop("base", None) or self.main()
        head = self.commit(files or {"evals/b.yaml": "two\n"}, base)
        facts = {"branch": branch, "title": "A change", "body": "Why.", "head": head, "base": base}
        return Proposal(**(facts | {"requester": requester} | other))

    def propose(self, files=None, actor="smith", **other):
        return self.forge(actor).open(self.proposal(files, **other))

    def people(self, change):
        """Move main on to other people, by hand."""
        path = ".github/governance/people.yaml"
        _, blob = self.forge_git.list_tree("main")[path]
        document = json.loads(self.forge_git.read_blob(blob))
        change({person["id"]: person for person in document["people"]})
        commit = self.forge_git.commit_files(self.main(), {path: canonical_json(document)}, "people", WHO)
        self.forge_git.update_ref("refs/heads/main", commit, self.main())

    def change_of(self, pull):
        main = self.main()
        return self.forge_git.change(main, self.forge_git.merge_tree(main, pull.head))

    def statement(self, actor, about, verdict="approve", **other):
        facts = {
            "repository": REPOSITORY,
            "pull": about.number,
            "base": self.main(),
            "change": self.change_of(about).digest(),
            "verdict": verdict,
            "actor": actor,
            "at": datetime.now(UTC).replace(microsecond=0),
        }
        return Approval(**(facts | other))

    def sign(self, statement, key=None):
        data = canonical_json(statement)
        signature = ssh.sign(data, self.keys / (key or statement.actor), APPROVAL_NAMESPACE)
        return SignedApproval(statement=data.decode(), signature=signature)

    def review(self, actor, pull, verdict="approve"):
        return self.forge(actor).review(pull.number, self.sign(self.statement(actor, pull, verdict)))

    def merge_commit(self, pull, main=None):
        self.forge().fetch_into(self.git)
        main = main or self.main()
        return self.git.commit_tree(self.git.merge_tree(main, pull.head), [main, pull.head], "Merge\n", WHO)

    def merge(self, pull, actor="smith"):
        main = self.main()
        return self.forge(actor).merge(pull.number, self.merge_commit(pull, main), main)

    def push(self, *refspecs, options=()):
        """A plain push by hand; returns what git said and whether it went through."""
        done = subprocess.run(
            ["git", "-C", self.git.path, "push", *options, self.bare, *refspecs], capture_output=True, text=True
        )
        return done.returncode == 0, done.stderr

    def install(self, hook=HOOK):
        """The real settings; a hook that runs this test suite's own judge."""
        install_hook(self.bare, sys.executable)
        (self.bare / "hooks" / "pre-receive").write_text(hook)
        if hook == HOOK:
            stand_in(self.bare, str(GATE_HOOK))
        return self


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for actor in ACTORS:
        create_ssh_key(folder / actor, actor)
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory, keys, warm_gate):
    folder = tmp_path_factory.mktemp("template")
    subprocess.run(["git", "init", "-q", "-b", "main", folder / "clone"], check=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder / "forge.git"], check=True)
    git = Git(folder / "clone")
    public = {actor: ssh.public_key(keys / f"{actor}.pub") for actor in ACTORS}
    main = git.commit_files(None, governance_files(public), "Start\n", WHO)
    git.run("push", "-q", str(folder / "forge.git"), f"{main}:refs/heads/main")
    return folder


@pytest.fixture
def world(template, tmp_path, keys):
    """No hook: what reading alone must detect."""
    shutil.copytree(template, tmp_path / "world")
    return World(tmp_path / "world", keys)


@pytest.fixture
def github(tmp_path):
    """A server with GitHub's shape; whatever it answered must be as GitHub describes it."""
    with SettingsServer(tmp_path / "github", description()) as server:
        yield server
    assert server.wrong == []


@pytest.fixture
def valid_hub(world, github):
    """At GitHub, with owners and roles that validate: the checks are asked about the proposal alone."""
    shipped = Path(modelsmith.__file__).parents[1]
    owners = (shipped / ".github/CODEOWNERS").read_text() + "/notes/\n"
    people = json.loads(world.forge_git.read_blob(world.forge_git.list_tree("main")[PEOPLE_FILE][1]))
    people["roles"]["oncall-sre"] = "On call."
    people["people"][0]["roles"].append("oncall-sre")
    files = {
        ".github/CODEOWNERS": owners.encode(), PEOPLE_FILE: canonical_json(people), "evals/a.yaml": None,
        "clusters/defaults.yaml": (shipped / "clusters/defaults.yaml").read_bytes(),
    }  # fmt: skip
    commit = world.git.commit_files(world.main(), files, "Valid\n", world.who)
    world.git.run("push", "-q", str(world.bare), f"{commit}:refs/heads/main")
    assert validate(Revision(world.forge_git, commit)).problems == ()
    return world.at_github(github)


@pytest.fixture
def runner(valid_hub, tmp_path):
    (tmp_path / "runner").mkdir()
    return Runner(
        valid_hub, tmp_path / "runner", valid_hub.github.workflow_token("contents", "checks", "pull_requests")
    )


@pytest.fixture
def guarded(world):
    """With the pre-receive hook."""
    return world.install()


@pytest.fixture(autouse=True)
def _ssh(tmp_path, _strange_user_settings, monkeypatch):
    """In place of ssh: runs the command on this machine, as the other host would."""
    script = tmp_path / "reach"
    script.write_text('#!/bin/sh\nunset GIT_DIR\nexec sh -c "$2"\n')
    script.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(script))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")


@pytest.fixture(autouse=True)
def _strange_user_settings(tmp_path, monkeypatch):
    """A user whose own git configuration would sign, hook and rewrite everything."""
    config = tmp_path / "gitconfig"
    config.write_text(
        f"[core]\n hooksPath = {tmp_path}/nowhere\n[commit]\n gpgSign = true\n[push]\n followTags = true\n"
        "[user]\n name = X\n email = x@example.org\n[merge]\n renames = true\n[init]\n defaultBranch = odd\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in [name for name in os.environ if name.startswith("GIT_") and "CONFIG" not in name]:
        monkeypatch.delenv(name)
