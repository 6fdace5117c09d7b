"""`modelsmith init` makes a sound repository whatever git is set to, or leaves everything as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from worlds import WARM, Ran, World, modelsmith, snapshot

from modelsmith.repository.kits import kit_files
from modelsmith.signing.keys import create_ssh_key

REFUSING_HOOKS = (
    "pre-push", "pre-commit", "commit-msg", "pre-receive", "update", "reference-transaction", "post-checkout",
    "post-index-change", "fsmonitor-watchman", "pre-auto-gc",
)  # fmt: skip
CALLING_GIT = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "GIT_TEMPLATE_DIR", "GIT_CONFIG",
)  # fmt: skip


def plain_git(folder: Path, *words: str, **environment: str) -> str:
    process = subprocess.run(
        ["git", "-C", folder, *words], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return process.stdout


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A git configuration in which everything that can get in the way does."""
    hooks, templates = tmp_path / "hooks", tmp_path / "templates"
    for name in REFUSING_HOOKS:
        for path in (hooks / name, templates / "hooks" / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\necho 'not on this machine' >&2\nexit 1\n")
            path.chmod(0o755)
    (tmp_path / "ignore").write_text("*.pem\n*.yaml\n.github/\n*.md\n")
    (tmp_path / "attributes").write_text("* filter=broken text=auto eol=crlf\n")
    config = tmp_path / "gitconfig"
    settings = {
        "core.excludesFile": tmp_path / "ignore",
        "core.attributesFile": tmp_path / "attributes",
        "core.hooksPath": hooks,
        "core.autocrlf": "true",
        "core.safecrlf": "true",
        "core.fsmonitor": hooks / "fsmonitor-watchman",
        "filter.broken.clean": "false",
        "filter.broken.smudge": "false",
        "filter.broken.required": "true",
        "init.templateDir": templates,
        "init.defaultBranch": "trunk",
        "commit.gpgSign": "true",
        "push.gpgSign": "true",
        "push.followTags": "true",
        "merge.verifySignatures": "true",
        "fetch.prune": "true",
        "submodule.recurse": "true",
        "protocol.file.allow": "never",
        "safe.bareRepository": "explicit",
        "remote.origin.url": "https://127.0.0.1:1/elsewhere.git",
        "receive.denyUpdates": "true",
    }
    for name, value in settings.items():
        subprocess.run(["git", "config", "--file", config, name, str(value)], check=True)
    return config


def test_whatever_git_is_set_to_the_repository_is_whole_and_can_be_used(tmp_path, strict):
    create_ssh_key(tmp_path / "maya", "maya@example.org")
    result = modelsmith(
        tmp_path, "init", "made", "--person", "platform=maya.pub", "--json", GIT_CONFIG_GLOBAL=str(strict)
    )
    assert result.code == 0, result.out
    clone = tmp_path / "made"
    files = {str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file()}
    committed = set(plain_git(clone, "ls-files", "-z").split("\0")[:-1])
    assert committed == {path for path in files if not path.startswith(".git/")}
    assert ".github/governance/trust/harness.pem" in committed
    assert plain_git(clone, "status", "--porcelain", GIT_CONFIG_GLOBAL=os.devnull) == ""
    assert not (clone / ".git" / "hooks").exists()
    plain_git(tmp_path, "clone", "-q", "made.git", "second", GIT_CONFIG_GLOBAL=os.devnull)
    for folder in (clone, tmp_path / "second"):
        plain_git(folder, "config", "modelsmith.forge", str(tmp_path / "made.git"))
        for words in (("validate",), ("verify", "--root", result.json["root"]), ("status",), ("pr", "list")):
            own = World(tmp_path).environment() | {"GIT_CONFIG_GLOBAL": str(strict)}
            command = Ran(*WARM.run(words, folder, own))
            assert (words, command.code) == (words, 0), command.out + command.err


@pytest.mark.usefixtures("installed_hook")
def test_a_proposal_is_opened_and_read_whatever_git_is_set_to(fresh, strict):
    world = fresh
    world.commit("docs", {"notes.md": "A page.\n"})
    own = world.environment() | {"GIT_CONFIG_GLOBAL": str(strict)}
    words = ("pr", "open", "docs", "--title", "A page", "--key", world.key("petra"), "--json")
    opened = Ran(*WARM.run(words, world.clone, own))
    assert opened.code == 0, opened.out
    view = Ran(*WARM.run(("pr", "show", "1", "--json"), world.clone, own))
    assert (view.code, view.json["pull"]["paths"]) == (0, ["notes.md"])


@pytest.mark.parametrize("name", CALLING_GIT)
def test_a_calling_gits_variables_lead_to_no_other_repository(tmp_path, name):
    outer = tmp_path / "outer"
    outer.mkdir()
    plain_git(outer, "init", "--quiet")
    (outer / "file").write_text("precious\n")
    plain_git(outer, "add", "file")
    before = snapshot(outer)
    inside = {"GIT_INDEX_FILE": "index", "GIT_OBJECT_DIRECTORY": "objects", "GIT_CONFIG": "config"}.get(name, "")
    value = outer if name == "GIT_WORK_TREE" else outer / ".git" / inside
    result = modelsmith(tmp_path, "init", "made", "--json", **{name: str(value)})
    assert result.code == 0, result.out
    assert snapshot(outer) == before
    beside = {"HOME": str(tmp_path), "MODELSMITH_HOME": str(tmp_path / "home")}
    assert modelsmith(tmp_path / "made", "verify", "--root", result.json["root"], **beside).code == 0


def test_a_repository_of_sha256_works_with_a_forge_as_path_and_as_url(tmp_path):
    result = modelsmith(tmp_path, "init", "made", "--json", GIT_DEFAULT_HASH="sha256")
    assert result.code == 0, result.out
    clone = tmp_path / "made"
    assert plain_git(clone, "rev-parse", "--show-object-format").strip() == "sha256"
    beside = str(tmp_path / "home")
    assert modelsmith(clone, "pr", "list", MODELSMITH_HOME=beside).code == 0
    plain_git(clone, "config", "modelsmith.forge", f"file://{tmp_path}/made.git")
    listed = modelsmith(clone, "pr", "list", "--json", MODELSMITH_HOME=beside)
    assert (listed.code, listed.json) == (0, {"pulls": [], "unreadable": []})


@pytest.mark.parametrize("there", ["nothing", "empty folders"])
@pytest.mark.parametrize("missing", ["git", "ssh-keygen"])
def test_a_failed_init_leaves_everything_as_it_was(tmp_path, there, missing):
    tools, work = tmp_path / "tools", tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    for tool in {"git", "ssh-keygen"} - {missing}:
        (tools / tool).symlink_to(str(shutil.which(tool)))
    home = work / "deep" / "home"
    if there == "empty folders":
        for folder in ("made", "forge", "deep/home/keys"):
            (work / folder).mkdir(parents=True)
    before = snapshot(work)
    result = modelsmith(work, "init", "made", "--forge", "forge", "--json", PATH=str(tools), MODELSMITH_HOME=str(home))
    assert (result.code, missing in result.json["code"]) == (6, True), result.out
    assert snapshot(work) == before


@pytest.mark.parametrize(
    ("directory", "forge", "home"),
    [("x", "x", "h"), ("x", "x/forge", "h"), ("y/x", "y", "h"), ("x", "f", "x/home"), ("x", "f", "f/home")],
)
def test_repository_forge_and_keys_must_not_lie_in_one_another(tmp_path, directory, forge, home):
    result = modelsmith(tmp_path, "init", directory, "--forge", forge, "--json", MODELSMITH_HOME=str(tmp_path / home))
    assert (result.code, result.json["code"]) == (2, "same-place")
    assert snapshot(tmp_path) == {}


def test_init_never_touches_what_stands_in_its_place(tmp_path):
    (tmp_path / "file").write_text("precious\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious\n")
    (tmp_path / "loop").symlink_to("loop")
    before = snapshot(tmp_path)
    words = [("file",), ("full",), ("file/x",), ("loop",), ("/",), ("x" * 300,), ("/proc/x",), ("new", "--kit", "no")]
    words += [("new", "--forge", place) for place in ("file", "full", "file/x", "/proc/x", "x" * 300)]
    for more in words:
        result = modelsmith(tmp_path, "init", *more, "--json")
        assert (more, result.code) == (more, 2), result.out
        assert snapshot(tmp_path) == before


def test_people_who_cannot_be_enrolled_are_named_with_the_mend(tmp_path):
    """A private key by a slip, of which nothing is shown, and keys with one name, as fresh servers make them."""
    comments = {"one": "root@laptop", "two": "Root@server", "mach": "modelsmith-harness@x", "long": f"{'n' * 90}@x"}
    comments["jo"] = "Jürgen@büro"
    for name, comment in comments.items():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", tmp_path / name], check=True
        )
    cases = {
        ("platform=one",): "private key",
        ("platform=one.pub", "platform=two.pub"): "already",
        ("platform=one.pub", "domain-lead=two.pub"): "already",
        ("platform=mach.pub",): "already",
    }
    for values, words in cases.items():
        people = [word for value in values for word in ("--person", value)]
        ended = modelsmith(tmp_path, "init", "made", *people, "--json")
        assert ended.code == 2, ended
        assert ended.json["code"] == "bad-person"
        assert words in ended.json["message"]
        assert "b3BlbnNzaC1" not in ended.out
        assert not (tmp_path / "made").exists()
    again = ("--person", "platform=one.pub", "--person", "domain-lead=one.pub", "--person", "platform=long.pub")
    ended = modelsmith(tmp_path, "init", "made", *again, "--person", "platform=jo.pub", "--json")
    assert ended.code == 0
    assert "Jurgen" in ended.json["people"]


@pytest.mark.parametrize(
    ("gone", "next_step"),
    [
        ((), "iterate rtb-pricing"),
        (("clusters/rtb-pricing",), "new cluster NAME"),
        (("clusters/rtb-pricing", "evals/adtech/rtb-root-cause"), "new set NAME"),
    ],
)
def test_what_init_tells_to_do_next_is_what_its_kit_lacks(tmp_path, gone, next_step):
    for path, data in kit_files("adtech", tmp_path).items():
        if not path.startswith(gone):
            (tmp_path / "kit" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "kit" / path).write_bytes(data)
    result = modelsmith(tmp_path, "init", "made", "--kit", "./kit", "--domain", "adtech")
    assert result.code == 0, result.err
    assert result.out.rstrip().endswith(f"&& modelsmith {next_step}")
    assert f"    modelsmith {next_step}\n" in (tmp_path / "made/README.md").read_text()


def test_a_command_that_is_told_can_be_given_where_names_have_blanks(tmp_path):
    folder = tmp_path / "my r\u00e4der"
    folder.mkdir()
    result = modelsmith(folder, "init", "a clone", "--kit", "empty", "--domain", "bikes")
    assert result.code == 0, result.err
    assert f"Next: cd '{folder / 'a clone'}' && modelsmith new set NAME" in result.out
    hook = folder / "a clone.git/hooks/pre-receive"
    hook.unlink()
    clone = World(folder)
    answer = clone.modelsmith("doctor", "--json", cwd=folder / "a clone").json["findings"]
    mends = [finding["mend"] for finding in answer if "hook is missing" in finding["sentence"]]
    assert mends == [f"modelsmith hook install '{folder / 'a clone.git'}'"]
