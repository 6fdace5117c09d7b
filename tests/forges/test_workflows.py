"""The workflows that a team uses as they are: what they may do, and what their steps do when they are run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from runners import check_conclusions, opened_event

from modelsmith.forges.github.faces import EVAL_MARK
from modelsmith.governance.codeowners import parse
from modelsmith.repository.git import Git
from modelsmith.repository.kits import ACTION as KIT_ACTION
from modelsmith.repository.kits import AT_GITHUB, files_at_github

GITHUB = Path(__file__).parents[2] / ".github"
FILES = sorted((GITHUB / "workflows").glob("*.yml"))
ACTION = GITHUB / "actions" / "modelsmith" / "action.yml"
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def read_workflow(file):
    document = yaml.safe_load(file.read_text())
    document["on"] = document.pop(True, document.get("on"))
    return document


def steps(file):
    return [step for job in read_workflow(file)["jobs"].values() for step in job["steps"]]


def step_of(name, title):
    return next(step for step in steps(GITHUB / "workflows" / name) if step.get("name") == title)


@pytest.mark.parametrize("file", [*FILES, ACTION], ids=lambda file: file.name)
def test_actions_of_others_are_pinned_by_commit_with_version_beside_it(file):
    used = re.findall(r"uses: (.+)", file.read_text())
    assert [action for action in used if not action.startswith("./") and not PINNED.fullmatch(action)] == []


@each
def test_a_job_may_do_what_it_says_and_nothing_by_default(file):
    workflow = read_workflow(file)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    writes = {
        name: {permission for permission, level in (job.get("permissions") or {}).items() if level == "write"}
        for name, job in workflow["jobs"].items()
    }
    assert {name: may for name, may in writes.items() if may} == {
        "modelsmith-checks.yml": {"checks": {"checks"}, "again": {"checks"}},
        "modelsmith-eval.yml": {"eval": {"pull-requests"}},
        "modelsmith-reviews.yml": {"attest": {"contents", "id-token"}},
        "release.yml": {"publish": {"attestations", "id-token"}},
    }.get(file.name, {})


@pytest.mark.parametrize("file", [*FILES, ACTION], ids=lambda file: file.name)
def test_nothing_of_others_is_part_of_a_command(file):
    document = yaml.safe_load(file.read_text())
    jobs = document.get("jobs", {"action": document.get("runs")})
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert [command for command in commands if "${{" in command] == []


@each
def test_what_runs_with_mains_rights_never_checks_out_a_proposal(file):
    workflow = read_workflow(file)
    if not {"pull_request_target", "workflow_run", "merge_group"} & set(workflow["on"]):
        return
    refs = [step["with"].get("ref") for step in steps(file) if "checkout" in step.get("uses", "")]
    refs += [ref for step in steps(file) for ref in re.findall(r'fetch .*"\+(refs/[^":]+):', step.get("run", ""))]
    assert refs
    assert set(refs) == {"refs/heads/main"}


def run_step(runner, step, name, event):
    """Run a step's command with bash as GitHub documents it (`bash -e`), in a job's folder and environment."""
    environment = runner.environment(name, event)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    process = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=runner.clone, env=environment, capture_output=True, text=True
    )
    assert runner.token not in process.stdout + process.stderr
    return process


def test_the_checks_workflow_shows_seven_checks_and_is_green_itself(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    step = step_of("modelsmith-checks.yml", "Check")
    assert set(step["env"]) == {"GITHUB_TOKEN"}
    process = run_step(runner, step, "pull_request_target", opened_event(pull.number))
    assert process.returncode == 0, process.stdout
    assert len(check_conclusions(valid_hub, pull.head)) == 7
    assert check_conclusions(valid_hub, pull.head)["modelsmith/approvals"] == "action_required"
    assert not (runner.clone / "pwned").exists()


def test_what_was_approved_since_turns_green_without_an_event_of_its_own(valid_hub, runner, monkeypatch, tmp_path):
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    pulls = [valid_hub.propose({f"{name}.md": "Two.\n"}, branch=name) for name in ("one", "two")]
    step = step_of("modelsmith-checks.yml", "Check all that are open")
    messages = []
    for _ in range(2):
        process = run_step(runner, step, "workflow_run", {"workflow_run": {"id": 1}})
        assert process.returncode == 0, process.stdout + process.stderr
        messages.append([check_conclusions(valid_hub, pull.head)["modelsmith/approvals"] for pull in pulls])
        valid_hub.review("maya", pulls[0])
    assert messages == [["action_required"] * 2, ["success", "action_required"]]


def test_no_runner_of_a_proposals_own_workflow_is_another_jobs():
    """For a pull request GitHub takes the file from the proposal: what runs there may wait for a better token."""
    named = {True: set(), False: set()}
    for file in FILES:
        workflow = read_workflow(file)
        own = bool({"pull_request", "pull_request_review"} & set(workflow["on"]))
        named[own] |= {name for job in workflow["jobs"].values() for name in re.findall(r"vars\.(\w+)", job["runs-on"])}
    assert named[True]
    assert named[True].isdisjoint(named[False])


def test_a_log_somebody_broke_fails_the_look_at_all_and_hides_no_other(valid_hub, runner, monkeypatch, tmp_path):
    """Whoever may push can put anything where a log belongs; every other pull request gets its answers all the same."""
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    pull = valid_hub.propose({"one.md": "Two.\n"}, branch="one")
    valid_hub.forge_git.run("update-ref", "refs/modelsmith/pulls/77", pull.head)
    process = run_step(runner, step_of("modelsmith-checks.yml", "Check all that are open"), "push", {})
    assert process.returncode == 1, process.stdout + process.stderr
    assert check_conclusions(valid_hub, pull.head)["modelsmith/approvals"] == "action_required"


def test_a_look_at_all_that_are_open_is_never_cancelled_by_the_next():
    """Reviews and pushes come often; each would else end the look that is under way before its last pull request."""
    group = read_workflow(next(file for file in FILES if file.name == "modelsmith-checks.yml"))["concurrency"]
    cancelled = group["cancel-in-progress"]
    assert {word for word in re.findall(r"'(\w+)'", cancelled) if f"!= '{word}'" in cancelled} == {
        "workflow_run",
        "push",
    }


def test_the_checks_workflow_fails_where_it_has_no_answer(valid_hub, runner):
    step = step_of("modelsmith-checks.yml", "Check")
    process = run_step(runner, step, "pull_request_target", {"pull_request": {"number": 99}})
    assert process.returncode == 1
    assert "99" in process.stdout + process.stderr


def test_the_eval_workflow_tells_in_one_comment_what_came_of_it(valid_hub, runner, monkeypatch, tmp_path):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    git = Git(runner.clone)
    git.run("fetch", "-q", "origin", pull.head)
    git.run("checkout", "-q", "--detach", pull.head)
    step = step_of("modelsmith-eval.yml", "Eval")
    assert set(step["env"]) == {"SINCE", "COMMENT", "GITHUB_TOKEN"}
    for name, value in {"SINCE": "HEAD^1", "COMMENT": "--comment", "RUNNER_TEMP": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        process = run_step(runner, step, "pull_request", opened_event(pull.number))
        assert process.returncode == 0, process.stdout + process.stderr
    page = (tmp_path / "eval.md").read_text()
    assert "Nothing to evaluate" in page
    bodys = [comment["body"] for comment in valid_hub.repo.pulls[pull.number].comments if EVAL_MARK in comment["body"]]
    assert bodys == [f"{EVAL_MARK}\n{page}"]


def test_the_nightly_workflow_hides_no_mistake(valid_hub, runner, monkeypatch):
    step = step_of("modelsmith-nightly.yml", "Iterate")
    monkeypatch.setenv("CLUSTER", "no-such-cluster")
    assert run_step(runner, step, "schedule", {}).returncode == 1


@pytest.mark.parametrize(("toolkit", "asked"), [(".", ".[github]"), ("modelsmith==1.2.3", "modelsmith[github]==1.2.3")])
def test_the_action_installs_its_own_commit_or_the_package_that_is_named(tmp_path, toolkit, asked):
    (command,) = (step["run"] for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"] if "run" in step)
    (tmp_path / "python").write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "EXTRAS": "github", "TOOLKIT": toolkit,
        "GITHUB_ACTION_PATH": str(ACTION.parent),
    }  # fmt: skip
    process = subprocess.run(["bash", "-e", "-c", command], env=environment, capture_output=True, text=True, check=True)
    words = process.stdout.split()
    assert (words[0], words[-1]) == (str(GITHUB.parent), asked)


@pytest.mark.parametrize(
    ("toolkit", "asked"), [(".", ".[github,sign]"), ("modelsmith==1.2.3", "modelsmith[github,sign]==1.2.3")]
)
def test_the_reviews_workflow_installs_the_toolkit_as_main_has_it(tmp_path, toolkit, asked):
    laid = yaml.safe_load(files_at_github(toolkit)[".github/workflows/modelsmith-reviews.yml"])
    (step,) = (
        candidate for candidate in laid["jobs"]["attest"]["steps"] if candidate.get("name", "").startswith("Install")
    )
    (tmp_path / "python3").write_text('#!/bin/sh\nmkdir -p "$3/bin"; ln -s /bin/echo "$3/bin/pip"\n')
    (tmp_path / "python3").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path), **step["env"]}
    process = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.split()[-1] == asked


def test_no_review_is_signed_before_policy_believes_the_workflow(tmp_path):
    step = step_of("modelsmith-reviews.yml", "Look whether anybody believes it")
    policy = tmp_path / ".github" / "governance" / "policy.yaml"
    policy.parent.mkdir(parents=True)
    policy.write_bytes((GITHUB / "governance" / "policy.yaml").read_bytes())
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_OUTPUT": str(tmp_path / "output")}

    def look():
        return subprocess.run(
            ["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "::notice::No review is signed" in look()
    assert not (tmp_path / "output").exists()
    policy.write_text("attested_forges: [{workflow: .github/workflows/modelsmith-reviews.yml}]\n")
    assert look() == ""
    assert (tmp_path / "output").read_text() == "believed=true\n"
    after = [later_step.get("if") for later_step in steps(GITHUB / "workflows" / "modelsmith-reviews.yml")[2:]]
    assert after == ["steps.policy.outputs.believed"] * 2


def test_what_init_lays_down_at_github_judges_there_with_the_package():
    files = files_at_github("modelsmith==1.2.3")
    laid = {path for path in files if path.startswith(".github/workflows/")}
    assert laid == {
        f".github/workflows/modelsmith-{name}.yml"
        for name in ("checks", "eval", "nightly", "receipts", "reviewed", "reviews")
    }
    assert ".github/pull_request_template.md" in files
    assert yaml.safe_load(files[KIT_ACTION])["inputs"]["toolkit"]["default"] == "modelsmith==1.2.3"
    owners = parse((GITHUB / "CODEOWNERS").read_text())
    assert {owners.owners(path) for path in files} == {("@platform",)}
    packed = tomllib.loads((GITHUB.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {path for path in AT_GITHUB if path not in packed["force-include"]} == set()
