"""Attacks by a path: a commit puts something where the toolkit, git or Python might take it for this machine's own.

What the toolkit keeps lies under the git directory (`Workspace.private`), so nothing of a commit is taken for it. Names
that belong to one machine, or steer git, are refused all the same: other programs look there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from attacker import NOBODY, SET, plain_git, refused
from worlds import CLUSTER

from modelsmith.fleet.executor import LocalExecutor
from modelsmith.forges.pre_receive import install_hook
from modelsmith.ledger.ledger import Ledger
from modelsmith.loop.iteration import ToEval
from modelsmith.loop.state import StateFile
from modelsmith.operations import doctor, pr_list, schema_export, status, validate
from modelsmith.operations.pictures import write_picture
from modelsmith.promotion.syncing import sync
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.events import TrainingComplete
from modelsmith.substrates.vllm.server import VllmServer

LOCAL = {
    "what was verified": ".iterate/verified.json",
    "a mirror of the forge": ".iterate/forge.git/config",
    "a training job's folder": f".iterate/{CLUSTER}/iterations/002/job/json.py",
    "a file named .iterate": ".iterate",
    "in capitals": ".ITERATE/state.json",
    "by a short name": "ITERAT~1/state.json",
    "with a dot at the end": ".iterate./state.json",
    "an environment of programs": ".vllm/bin/python",
    "the environment of the toolkit": ".venv/bin/python",
    "compiled code": "modelsmith/__pycache__/x.cpython-311.pyc",
    "a cluster's local folder": f"clusters/{CLUSTER}/.local/x",
}
STEERING = {
    "attributes": ".gitattributes",
    "attributes in a folder": "docs/.gitattributes",
    "submodules": ".gitmodules",
    "a place for large files": ".lfsconfig",
    "a bare repository": "docs/tool.git/HEAD",
}


def entry(world, path, data=b"x\n", mode="100644"):
    """A commit that holds the path, whatever git thinks of its name."""
    world.fetch()
    blob = world.git.text("hash-object", "-w", "--stdin", input=data)
    return world.commit_entry(path, mode, blob)


def planted(folder, name, data):
    """A file in a work tree, as a commit that is checked out leaves it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("name", [*LOCAL, *STEERING])
def test_a_path_that_no_commit_may_hold_is_refused(fresh, name):
    """Whoever approves: it would lie in every clone, or decide what a reader sees."""
    fresh.closed_to_everybody(entry(fresh, (LOCAL | STEERING)[name]), "reserved-path")


def test_a_link_named_as_the_toolkit_s_folder_is_refused(fresh):
    """Written through, it would lead anywhere."""
    fresh.closed_to_everybody(entry(fresh, ".iterate", b"../elsewhere", "120000"), "reserved-path")


def test_a_submodule_is_refused_anywhere(fresh):
    """What it holds is approved by nobody here, and cloned with the rest."""
    fresh.fetch()
    fresh.closed_to_everybody(fresh.commit_entry("docs/more", "160000", fresh.main()), "submodule")


@pytest.mark.parametrize("path", [".iterate/verified.json", ".venv/bin/python", ".Iterate/x"])
def test_a_clone_that_tracks_what_belongs_to_one_machine_is_told_so(fresh, path):
    """Exit 5 by every command, validate names it, and a harness's work tree does not follow such a main."""
    head = entry(fresh, path)
    fresh.rewrite_on_disk("refs/heads/main", head)
    clone = fresh.plain_clone()
    with pytest.raises(IntegrityFailure) as caught:
        Workspace.find(clone)
    assert caught.value.code == "reserved-path"
    assert path.split("/")[0] in caught.value.message
    before = fresh.git.rev("HEAD")
    with refused("reserved-path"):
        sync(fresh.harness())
    assert fresh.git.rev("HEAD") == before
    fresh.detected(clone=clone)
    result = validate.run(Workspace(clone, fresh.home), validate.ValidateRequest())
    assert path in {problem.file for problem in result.problems}


def test_a_path_planted_and_taken_away_again_is_found(fresh):
    """The tip looks clean; the step that brought it does not hold."""
    main = fresh.main()
    merge = fresh.force(entry(fresh, ".iterate/verified.json"), pull=9)
    taken_away = fresh.git.commit_tree(
        fresh.git.text("rev-parse", f"{main}^{{tree}}"), [fresh.main()], "Away\n", NOBODY
    )
    fresh.force(taken_away, pull=10)
    fresh.detected(merge)


def test_a_memory_in_the_work_tree_vouches_for_nothing(deployed):
    """The coup is on main, past the hook, and the file says that it was verified."""
    honest = deployed.plain_clone("honest")
    deployed.verify(honest)
    memory = json.loads((Workspace(honest).private / "verified.json").read_bytes())
    coup = deployed.force(deployed.commit({f"{SET}/README.md": b"mine\n"}))
    clone = deployed.plain_clone("fooled")
    planted(clone, ".iterate/verified.json", json.dumps(memory | {"tip": deployed.main()}).encode())
    deployed.detected(coup, clone=clone)


def test_a_repository_in_the_work_tree_is_never_a_mirror(fresh):
    """Its configuration names a program; git runs nothing of it, and the real forge is spoken to."""
    sprung = fresh.folder / "sprung"
    clone = fresh.plain_clone()
    plain_git("config", "modelsmith.forge", f"file://{fresh.forge}", folder=clone)
    bare = clone / ".iterate" / "forge.git"
    plain_git("init", "--quiet", "--bare", bare)
    trap = f'[protocol "ext"]\n allow = always\n[url "ext::sh -c touch% {sprung} #"]\n insteadOf = file://\n'
    (bare / "config").write_text(f"[core]\n bare = true\n fsmonitor = touch {sprung}\n{trap}")
    plain_git("ls-remote", f"file://{fresh.forge}", folder=bare)
    assert sprung.exists(), "the control: plain git in that repository runs it"
    sprung.unlink()
    listing = pr_list.run(Workspace(clone, fresh.home), pr_list.PrListRequest(everything=True))
    assert not listing.pulls
    assert not sprung.exists()


TRAP = "open({!r}, 'w').close()\nraise SystemExit(0)\n"
MODULES = ("json", "click", "pathlib", "csv", "modelsmith", "torch", "vllm", "sitecustomize", "usercustomize", "runpy")


def trapped(folder, sprung):
    """Modules that leave a trace when anything imports them from this folder."""
    for name in MODULES:
        planted(folder, f"{name}.py", TRAP.format(str(sprung)).encode())
    planted(folder, "vllm/__init__.py", TRAP.format(str(sprung)).encode())


def test_a_worker_imports_nothing_from_the_folder_that_it_works_in(tmp_path):
    """Whatever lies in a job's folder is data; the toolkit is the one that started the worker."""
    sprung = tmp_path / "sprung"
    trapped(tmp_path / "job", sprung)
    subprocess.run([sys.executable, "-m", "modelsmith"], cwd=tmp_path / "job", capture_output=True, check=False)
    assert sprung.exists(), "the control: without isolation they run"
    sprung.unlink()
    worker = LocalExecutor("modelsmith").submit(tmp_path / "job")
    assert worker.beats(0, 120).status == 2, (tmp_path / "job" / "worker.log").read_text()
    assert "No such command" in (tmp_path / "job" / "worker.log").read_text()
    assert not sprung.exists()


def test_a_server_imports_nothing_from_the_folder_of_a_clone(tmp_path, monkeypatch):
    """Neither the question for vLLM's version nor the server itself, which starts beside its log."""
    sprung, python = tmp_path / "sprung", tmp_path / "python"
    trapped(tmp_path / "clone", sprung)
    trapped(tmp_path / "logs", sprung)
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("MODELSMITH_VLLM", sys.executable)
    with suppress(ModelsmithError):
        VllmServer(tmp_path / "model", tmp_path / "log")
    assert not sprung.exists()
    python.write_text(f'#!/bin/sh\n[ "$2" = -c ] && echo 1,,2+cpu && exit\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("MODELSMITH_VLLM", str(python))
    server = VllmServer(tmp_path / "model", tmp_path / "logs" / "vllm.log")
    with refused("vllm-died"):
        server.start()
    assert "No module named" in (tmp_path / "logs" / "vllm.log").read_text()
    assert not sprung.exists()


def test_no_link_in_the_work_tree_is_written_through(fresh, monkeypatch):
    """Where the toolkit writes for people, and where a user names a place for a picture."""
    elsewhere = fresh.folder / "elsewhere"
    elsewhere.mkdir()
    clone, workspace = fresh.clone, fresh.workspace
    monkeypatch.chdir(clone)
    (clone / ".iterate").symlink_to(elsewhere)
    (clone / "docs").symlink_to(elsewhere)
    (clone / ".chart.svg.partial").symlink_to(elsewhere / "chart.svg")
    commit = fresh.main()
    StateFile(workspace).put(ToEval(cluster=CLUSTER, number=1, commit=commit, reference="base"))
    assert StateFile(workspace).get(CLUSTER), "the state itself is where no link is"
    with refused("link-in-the-way"):
        schema_export.run(workspace, schema_export.SchemaExportRequest())
    for path, code in (("docs/chart.svg", "link-in-the-way"), ("chart.svg", "write-failed")):
        with refused(code):
            write_picture(workspace, Path(path), "<svg/>")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_stands_at_the_toolkit_s_old_folder_costs_nothing(deployed, kind):
    """Runs, ledger and state are elsewhere, so a branch that is checked out wipes none of them."""
    elsewhere = deployed.folder / "elsewhere"
    elsewhere.mkdir()
    ledger = Ledger(deployed.workspace.private / "ledger.db")
    run, artifact, weights = (sha256(name) for name in (b"run", b"artifact", b"weights"))
    complete = TrainingComplete(cluster=CLUSTER, run_id=run, artefact_uri=f"store:{artifact}", adapter_sha=weights)
    ledger.append(complete)
    mode, data = {"file": ("100644", b"x"), "link": ("120000", b"../elsewhere"), "folder": ("100644", b"x")}[kind]
    head = entry(deployed, ".iterate/state.json" if kind == "folder" else ".iterate", data, mode)
    for commit in (head, "main"):
        assert plain_git("checkout", "--quiet", commit, folder=deployed.clone).returncode == 0
    assert [noted.event for noted in ledger.events()] == [complete]
    assert status.run(deployed.workspace, status.StatusRequest()).clusters
    assert list(elsewhere.iterdir()) == []


def test_what_has_a_work_tree_is_never_made_a_forge(fresh):
    """Git would take hooks from the work tree's own folder, where a branch plants them."""
    bare = fresh.folder / "shared.git"
    tree = fresh.folder / "tree"
    assert plain_git("clone", "--quiet", "--bare", fresh.forge, bare).returncode == 0
    install_hook(bare, sys.executable)
    assert plain_git("worktree", "add", "--quiet", tree, "main", folder=bare).returncode == 0
    for place in (fresh.clone, fresh.clone / ".git", fresh.clone / "evals", bare, tree, bare / "objects", fresh.folder):
        before = plain_git("config", "--list", folder=place).stdout
        with refused("not-bare"):
            install_hook(place, sys.executable)
        assert plain_git("config", "--list", folder=place).stdout == before
        assert not (place / "hooks" / "pre-receive").exists() or place == bare
    process = subprocess.run(
        [sys.executable, "-P", "-m", "modelsmith", "hook", "install", "."], cwd=fresh.clone, capture_output=True
    )
    assert process.returncode == 2


@pytest.mark.parametrize("value", ["hooks", ".githooks", "link", "absolute", "kept", "outside"])
def test_doctor_names_hooks_that_a_commit_could_bring(fresh, value):
    """A setting of the clone that leads into the work tree."""
    outside = fresh.folder / "mine"
    outside.mkdir()
    (fresh.clone / "links").symlink_to(outside)
    safe = {"kept": fresh.clone / ".git" / "hooks", "outside": outside}
    bad = {"link": fresh.clone / "links", "absolute": fresh.clone / "evals" / "hooks"}
    plain_git("config", "core.hooksPath", str((safe | bad).get(value, value)), folder=fresh.clone)
    result = doctor.run(fresh.workspace, doctor.DoctorRequest())
    assert any(finding.subject == "hooks" and finding.level == "bad" for finding in result.findings) is (
        value not in safe
    )
