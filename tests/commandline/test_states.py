"""One clear sentence, and the way out, for what stops people: what git said first, and whose move it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import World


def config(world: World, name: str, value: str) -> None:
    subprocess.run(["git", "-C", world.clone, "config", name, value], check=True)


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        ("ssh://git@no-such-host.invalid/p.git", "no-such-host.invalid"),
        ("/nothing/here.git", "/nothing/here.git"),
        ("https://user:secret@127.0.0.1:1/p.git", "127.0.0.1"),
    ],
)
def test_a_forge_that_cannot_be_reached_is_named_with_the_reason(fresh, forge, told):
    config(fresh, "modelsmith.forge", forge)
    result = fresh.modelsmith("pr", "list", "--json")
    assert (result.code, result.json["code"]) == (6, "unreachable")
    assert told in result.json["message"]
    assert "modelsmith.forge" in result.json["mend"]
    assert "secret" not in result.out


def test_a_relative_place_begins_at_the_clone_s_top_wherever_one_stands(fresh):
    for name in ("forge", "keys"):
        place = fresh.must("config", f"modelsmith.{name}").strip()
        config(fresh, f"modelsmith.{name}", os.path.relpath(place, fresh.clone))
    for folder in (fresh.clone, fresh.clone / "evals"):
        listed = fresh.modelsmith("pr", "list", "--json", cwd=folder)
        assert (listed.code, listed.json["pulls"]) == (0, [])
        answer = fresh.modelsmith("doctor", "--json", cwd=folder).json["findings"]
        assert [
            finding for finding in answer if finding["subject"] in ("forge", "keys") and finding["level"] != "ok"
        ] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_clone_of_somebody_else_is_said_to_be_one(fresh):
    for path in (fresh.clone, fresh.clone / ".git"):
        os.chown(path, 65534, 65534)
    for words in (("pr", "list"), ("status",), ("verify",), ("iterate", "rtb-pricing")):
        result = fresh.modelsmith(*words, "--json")
        assert (words, result.code, result.json["code"]) == (words, 6, "foreign-owner")
        assert f"safe.directory '{fresh.clone}" in result.json["mend"]


def test_a_forge_whose_hook_has_lost_its_python_says_how_to_mend_it(fresh):
    fresh.commit("docs", {"notes.md": "A page.\n"})
    hook = fresh.forge / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexec /gone/bin/python -P -m modelsmith hook pre-receive\n")
    result = fresh.modelsmith("pr", "open", "docs", "--title", "A page", "--key", fresh.key("petra"), "--json")
    assert (result.code, result.json["code"]) == (6, "broken-hook")
    assert "modelsmith hook install" in result.json["mend"]
    findings = fresh.modelsmith("doctor", "--json").json["findings"]
    (finding,) = [finding for finding in findings if "hook" in finding["sentence"] and finding["level"] == "bad"]
    assert "/gone/bin/python" in finding["sentence"]
    assert "modelsmith hook install" in finding["mend"]


def test_an_approval_that_nobody_can_give_is_said_at_the_opening(fresh):
    """Where the only one who holds the role has opened it, waiting would have no end."""
    stuck = {}
    for person in ("petra", "oli"):
        fresh.commit(f"by-{person}", {"notes.md": f"A page by {person}.\n"})
        words = ("pr", "open", f"by-{person}", "--title", "A page", "--key", fresh.key(person), "--json")
        pull = fresh.modelsmith(*words).json["pull"]
        assert pull["waiting_for"] == ["@platform"]
        stuck[person] = any("nobody can approve for @platform" in note for note in pull["notes"])
    assert stuck == {"petra": True, "oli": False}


def test_a_detached_head_stops_nothing_that_needs_no_branch(fresh):
    fresh.must("checkout", "--quiet", "--detach")
    for words in (("status",), ("pr", "list"), ("verify", "--revision", "main"), ("rollback", "rtb-pricing")):
        result = fresh.modelsmith(*words, "--json")
        assert result.code == 0 or result.json["code"] == "nothing-to-roll-back", result.out


def test_paths_are_those_of_the_folder_that_one_stands_in(fresh):
    folder = fresh.clone / "evals" / "adtech"
    checked = fresh.modelsmith("validate", "rtb-root-cause/scenarios", "--json", cwd=folder)
    assert (checked.code, checked.json["valid"]) == (0, True)
    outside = fresh.modelsmith("validate", "../../../x", "--json", cwd=folder)
    assert (outside.code, outside.json["code"]) == (2, "outside-repository")
    assert fresh.modelsmith("schema", "export", "made", cwd=folder).code == 0
    assert list((folder / "made").glob("*.schema.json"))
    assert fresh.modelsmith("balance", "rtb-pricing", "--svg", "x.svg", cwd=folder).code == 0
    assert (folder / "x.svg").is_file()
    key = os.path.relpath(fresh.key("petra"), folder)
    merged = fresh.modelsmith("pr", "merge", "1", "--key", key, "--json", cwd=folder)
    assert (merged.code, merged.json["code"]) == (2, "unknown-pull"), "the key was found"


@pytest.mark.parametrize("output", ["/dev/full", None])
def test_a_result_that_cannot_be_printed_is_an_error_and_the_work_is_done(fresh, output):
    command = [str(Path(sys.executable).with_name("modelsmith")), "status"]
    target = f">{output}" if output else ">&-"
    process = subprocess.run(
        ["sh", "-c", f'"$@" {target}', "sh", *command], cwd=fresh.clone, env=fresh.environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 6
    assert process.stderr.startswith("error (output-lost): The command is done")


def test_a_reader_that_has_read_enough_takes_the_verdict_nothing_away(fresh):
    command = str(Path(sys.executable).with_name("modelsmith"))
    (fresh.clone / "evals" / "adtech" / "stray.yaml").write_text("x")
    for words, code in (("--help", 0), ("status", 0), ("validate", 2)):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run(
            [command, words], cwd=fresh.clone, env=fresh.environment(), stdout=writer, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
        os.close(writer)
        assert (words, process.returncode, process.stderr) == (words, code, b"")
