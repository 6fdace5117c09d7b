"""What somebody puts in the place of a file that the product keeps: a pipe to which nobody writes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from modelsmith.fleet.remote.settings import load_hosts
from modelsmith.schema.errors import InvalidInput

PATIENCE = 120


def run(world, *words):
    """A command as a user runs it; it ends, or the test fails."""
    command = [sys.executable, "-P", "-m", "modelsmith", *words, "--json"]
    environment = {**os.environ, "MODELSMITH_HOME": str(world.home)}
    return subprocess.run(
        command, cwd=world.clone, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
    )


def called(clone, home, *words, umask=-1):
    """A command of which text is wanted."""
    command = [sys.executable, "-P", "-m", "modelsmith", *words]
    return subprocess.run(
        command, cwd=clone, env={**os.environ, "MODELSMITH_HOME": str(home)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, umask=umask,
    )  # fmt: skip


def pipes_for(paths):
    for path in paths:
        path.unlink(missing_ok=True)
        os.mkfifo(path)


def test_pipes_in_place_of_what_is_kept_are_passed_over(deployed):
    """Facts under MODELSMITH_HOME cost time when they are lost; in their place lie pipes, and then in the secret's."""
    said = {words: run(deployed, words).stdout for words in ("status", "validate")}
    kept = deployed.home / "kept"
    assert {path.name for path in kept.iterdir()} > {"secret"}
    for odd in ([path for path in kept.iterdir() if path.name != "secret"], [kept / "secret"]):
        pipes_for(odd)
        for words, before in said.items():
            ran = run(deployed, words)
            assert (ran.returncode, json.loads(ran.stdout)) == (0, json.loads(before)), ran.stderr


def test_a_pipe_in_place_of_any_file_of_the_clone_s_own_ends_a_command(deployed):
    """Each is named, or made anew: what a command may not do is wait."""
    run(deployed, "verify")
    files = [path for path in deployed.workspace.private.rglob("*") if path.is_file() and ".git" not in path.name]
    assert files
    pipes_for(files)
    for words in ("status", "verify", "validate"):
        ran = run(deployed, words)
        assert ran.returncode in (0, 2, 5, 6), ran.stderr
        assert json.loads(ran.stdout)


def test_hosts_that_others_may_write_get_no_job(tmp_path):
    """Who writes that file says to whom rows and settings are sent, and as whom ssh logs in."""
    said = {"address": "gpu", "python": "/usr/bin/python3", "folder": "/srv/jobs"}
    path = tmp_path / "hosts.yaml"
    path.write_text(json.dumps({"hosts": {"gpu-1": said}}))
    path.chmod(0o600)
    assert "gpu-1" in load_hosts(tmp_path).hosts
    path.chmod(0o602)
    with pytest.raises(InvalidInput) as caught:
        load_hosts(tmp_path)
    assert caught.value.code == "others-may-write"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="pipe"):
        load_hosts(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_home_in_which_anybody_writes_is_not_believed(deployed, mode):
    """A file of tokens, a provider of identities or settings that somebody else made there would be this machine's."""
    deployed.home.chmod(mode)
    for words in (["status"], ["serve-key", "list"], ["serve", "--no-keys"], ["mcp", "--http"]):
        ran = called(deployed.clone, deployed.home, *words)
        assert ran.returncode == 2, ran.stderr
        assert f"chmod o-w {deployed.home}" in ran.stderr
    for fine in (0o775, 0o755, 0o700):
        deployed.home.chmod(fine)
        assert called(deployed.clone, deployed.home, "status").returncode == 0


def test_without_a_umask_nothing_is_made_for_all_to_write_in(deployed, tmp_path):
    """Some containers run everything without one; then what a command makes would be anybody's."""
    home = tmp_path / "new" / "home"
    for words in (["status"], ["serve-key", "issue"], ["mcp-token", "issue", "--role", "reviewer"]):
        ran = called(deployed.clone, home, *words, umask=0)
        assert ran.returncode == 0, ran.stderr
    made = [home, *home.rglob("*"), *deployed.workspace.private.rglob("*")]
    assert {path.name for path in made} >= {"tokens.json", "callers.json", "home"}
    assert [path for path in made if path.lstat().st_mode & stat.S_IWOTH and not path.is_symlink()] == []
