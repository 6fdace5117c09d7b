"""The release: its own steps, as far as they need no GitHub, and the package that comes of them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]


def test_a_tag_that_is_not_on_main_is_not_built(tmp_path):
    (step,) = (step for step in JOBS["build"]["steps"] if step.get("name") == "The tag is on main")

    def git(*words):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false"]
        process = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return process.stdout.strip()

    def built(commit):
        environment = {"PATH": "/usr/bin:/bin", "GITHUB_SHA": commit}
        return subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment).returncode == 0

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert built(git("rev-parse", "HEAD"))
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert not built(git("rev-parse", "HEAD"))


def test_what_publishes_takes_what_was_built_and_runs_nothing_else():
    """The provenance is GitHub's to make: of every file that is published, and of nothing else."""
    build, publish = JOBS["build"]["steps"], JOBS["publish"]["steps"]
    assert [step for step in publish if "run" in step or "checkout" in step["uses"]] == []
    (upload,) = (step["with"] for step in build if "upload-artifact" in step.get("uses", ""))
    download, attested, _ = publish
    assert (download["with"]["name"], download["with"]["path"]) == (upload["name"], upload["path"])
    assert attested["with"]["subject-path"] == f"{upload['path']}*"


def test_the_package_holds_the_command_and_what_init_lays_down(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("modelsmith-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    (points,) = (tmp_path / "installed").glob("*.dist-info/entry_points.txt")
    assert "modelsmith = modelsmith.cli.main:main" in points.read_text()
    look = "from modelsmith.repository.kits import *; print(*kit_files('adtech', Path('.')), *files_at_github('m==1'))"
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    process = subprocess.run(
        [sys.executable, "-P", "-c", f"from pathlib import Path; {look}"], cwd=tmp_path, env=environment, text=True,
        check=True, capture_output=True,
    )  # fmt: skip
    laid = process.stdout.split()
    assert ".github/workflows/modelsmith-reviews.yml" in laid
    assert "clusters/rtb-pricing/cluster.yaml" in laid
    assert not [path for path in laid if path.endswith("release.yml")]
