"""What somebody puts in the place of a file that the product keeps: a pipe to which nobody writes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from modelsmith.fleet.remote.settings import load_hosts
from modelsmith.repository.tokens import Tokens, callers
from modelsmith.schema.errors import InvalidInput, ModelsmithError

PATIENCE = 120


def run(world, *words):
    """A command as a user runs it; it ends, or the test fails."""
    command = [sys.executable, "-P", "-m", "modelsmith", *words, "--json"]
    environment = {**os.environ, "MODELSMITH_HOME": str(world.home)}
    return subprocess.run(
        command, cwd=world.clone, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
    )


def run_text(clone, home, *words, umask=-1):
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
    output = {words: run(deployed, words).stdout for words in ("status", "validate")}
    kept_folder = deployed.home / "kept"
    assert {path.name for path in kept_folder.iterdir()} > {"secret"}
    for odd in ([path for path in kept_folder.iterdir() if path.name != "secret"], [kept_folder / "secret"]):
        pipes_for(odd)
        for words, before in output.items():
            process = run(deployed, words)
            assert (process.returncode, json.loads(process.stdout)) == (0, json.loads(before)), process.stderr


def test_a_pipe_in_place_of_any_file_of_the_clone_s_own_ends_a_command(deployed):
    """Each is named, or made anew: what a command may not do is wait."""
    run(deployed, "verify")
    files = [path for path in deployed.workspace.private.rglob("*") if path.is_file() and ".git" not in path.name]
    assert files
    pipes_for(files)
    for words in ("status", "verify", "validate"):
        process = run(deployed, words)
        assert process.returncode in (0, 2, 5, 6), process.stderr
        assert json.loads(process.stdout)


def test_hosts_that_others_may_write_get_no_job(tmp_path):
    """Who writes that file says to whom rows and settings are sent, and as whom ssh logs in."""
    fields = {"address": "gpu", "python": "/usr/bin/python3", "folder": "/srv/jobs"}
    path = tmp_path / "hosts.yaml"
    path.write_text(json.dumps({"hosts": {"gpu-1": fields}}))
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


def test_tokens_that_others_may_write_open_nothing(tmp_path):
    """Who writes that file has a token of any role, and a key of the front door."""
    for file in (Tokens(tmp_path), callers(tmp_path)):
        secret = file.issue("reviewer", (), 1)[1]
        assert file.of(secret)
    for path in tmp_path.glob("*.json"):
        path.chmod(0o602)
    for file in (Tokens(tmp_path), callers(tmp_path)):
        with pytest.raises(InvalidInput) as caught:
            file.of(secret)
        assert caught.value.code == "others-may-write"


@pytest.mark.parametrize("odd", ["/dev/zero", "/dev/full", "pipe", "endless"])
def test_settings_of_the_door_that_have_no_end_are_not_read(deployed, tmp_path, odd):
    """A device took all memory, and a pipe in which nobody writes held the door up for ever; both without a word."""
    named = tmp_path / odd.strip("/")
    if odd == "pipe":
        os.mkfifo(named)
    elif odd == "endless":
        with named.open("wb") as file:
            file.truncate(100 << 30)
    text = str(named) if named.exists() else odd
    process = run_text(deployed.clone, deployed.home, "serve", "--no-keys", "--config", text)
    assert process.returncode == 2
    assert f"error ({'invalid-file' if odd == 'endless' else 'bad-path'})" in process.stderr


def test_keys_that_lie_in_no_file_are_told_as_such(tmp_path):
    """A folder or a pipe in its place was a fault of the program to whoever asked the door."""
    keys = callers(tmp_path)
    secret = keys.issue("caller", (), 1)[1]
    for make in (os.mkdir, os.mkfifo):
        (tmp_path / "callers.json").rename(tmp_path / "aside")
        make(tmp_path / "callers.json")
        with pytest.raises(ModelsmithError) as caught:
            keys.of(secret)
        assert caught.value.code == "bad-path"
        (os.rmdir if make is os.mkdir else os.unlink)(tmp_path / "callers.json")
        (tmp_path / "aside").rename(tmp_path / "callers.json")
        assert keys.of(secret)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_home_in_which_anybody_writes_is_not_believed(deployed, mode):
    """A file of tokens, a provider of identities or settings that somebody else made there would be this machine's."""
    deployed.home.chmod(mode)
    for words in (["status"], ["serve-key", "list"], ["serve", "--no-keys"], ["mcp", "--http"]):
        process = run_text(deployed.clone, deployed.home, *words)
        assert process.returncode == 2, process.stderr
        assert f"chmod o-w {deployed.home}" in process.stderr
    for fine in (0o775, 0o755, 0o700):
        deployed.home.chmod(fine)
        assert run_text(deployed.clone, deployed.home, "status").returncode == 0


def test_without_a_umask_nothing_is_made_for_all_to_write_in(deployed, tmp_path):
    """Some containers run everything without one; then what a command makes would be anybody's."""
    home = tmp_path / "new" / "home"
    for words in (["status"], ["serve-key", "issue"], ["mcp-token", "issue", "--role", "reviewer"]):
        process = run_text(deployed.clone, home, *words, umask=0)
        assert process.returncode == 0, process.stderr
    paths = [home, *home.rglob("*"), *deployed.workspace.private.rglob("*")]
    assert {path.name for path in paths} >= {"tokens.json", "callers.json", "home"}
    assert [path for path in paths if path.lstat().st_mode & stat.S_IWOTH and not path.is_symlink()] == []
