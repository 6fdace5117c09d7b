"""Packs are made of the tools: they name what a role has, other people's validators accept them, and nobody's file is
lost when they are installed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skills_ref import validate
from worlds import World

from modelsmith.cli.packing import install
from modelsmith.mcp import prompts
from modelsmith.mcp.calls import Session
from modelsmith.mcp.commands import COMMANDS
from modelsmith.mcp.tools import tools, tools_of
from modelsmith.operations.table import EVERYONE
from modelsmith.packs.contents import files_of, manifest, marketplace, plugin, server
from modelsmith.packs.laying import plan
from modelsmith.packs.settings import merge_json, merge_toml
from modelsmith.schema.errors import InvalidInput

TOP = Path(__file__).parents[2]
CLIENTS = ("claude", "cursor", "codex")
each_client = pytest.mark.parametrize("client", CLIENTS)
each_role = pytest.mark.parametrize("role", EVERYONE)


def named(text: str) -> set[str]:
    """Every tool that a text tells an agent to use, and every word that looks like one."""
    words = set(re.findall(r"`([a-z_]+)`", text))
    return {word for word in words if word.startswith("modelsmith_")} | words & {tool.name for tool in tools()}


def test_the_plugin_in_the_repository_is_the_one_that_the_tools_make():
    folder = TOP / "packs/modelsmith"
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert files == plugin(), "python -m modelsmith.packs makes it anew"
    page = (TOP / "docs/packs.md").read_text()
    rows = [f"| `/{' '.join([command.name, command.hint]).strip()}` | `{command.tool}` |" for command in COMMANDS]
    assert [row for row in rows if row not in page] == []
    assert json.loads((TOP / ".claude-plugin/marketplace.json").read_text()) == marketplace()


@each_role
def test_a_skill_lists_the_tools_of_its_role_and_speaks_of_no_other(role):
    text = plugin()[f"skills/modelsmith-{role}/SKILL.md"]
    theirs = {tool.name for tool in tools_of(role)}
    assert named(text) == theirs
    assert manifest()["scopes"][role] == [tool.name for tool in tools_of(role)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_whoever_may_use_a_command_has_every_tool_that_it_tells_of(command):
    may = [role for role in EVERYONE if command.tool in {tool.name for tool in tools_of(role)}]
    assert may
    assert command.tool in named(command.text({}))
    for role in may:
        assert named(command.text({})) <= {tool.name for tool in tools_of(role)}


def test_a_slash_command_and_the_prompt_of_its_name_are_one_text(tmp_path):
    values = {"cluster": "rtb-pricing"}
    for command in COMMANDS:
        answer = prompts.get(
            Session(tmp_path, "operator"), command.name, {name: values[name] for name in command.takes}
        )
        bodies = {
            files_of("claude")[f".claude/commands/{command.name}.md"].split("---\n", 2)[2].strip(),
            files_of("cursor")[f".cursor/commands/{command.name}.md"].split("---\n", 2)[2].strip(),
            files_of("codex")[f".agents/skills/{command.name}/SKILL.md"].split("---\n", 2)[2].strip(),
        }
        assert len(bodies) == 1
        assert answer.body["text"].startswith(bodies.pop())


def test_the_rule_applies_to_the_files_that_the_product_promises():
    rule = files_of("cursor")[".cursor/rules/modelsmith.mdc"]
    assert rule.startswith(
        "---\ndescription: Modelsmith operator rules\nglobs: evals/**/*.yaml, .iterate/**, promotions/**\n"
        "alwaysApply: false\n---\n\n# Modelsmith\n"
    )


@each_client
def test_every_skill_is_an_agent_skill_for_the_format_s_own_validator(client, tmp_path):
    install(client, "reviewer", tmp_path, False, as_json=False)
    folders = [path.parent for path in tmp_path.rglob("SKILL.md")]
    assert len(folders) >= 3
    for folder in folders:
        assert validate(folder) == []
        bad = folder / "SKILL.md"
        bad.write_text(bad.read_text().replace("name: ", "name: x", 1))
        assert validate(folder), "the control: it does find mistakes"


@each_client
def test_a_pack_is_installed_once_and_again_changes_nothing(client, tmp_path, capsys):
    install(client, "promoter", tmp_path, False, as_json=True)
    files_before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()
    }
    assert {file["state"] for file in json.loads(capsys.readouterr().out)["files"]} == {"new"}
    install(client, "promoter", tmp_path, False, as_json=True)
    assert {file["state"] for file in json.loads(capsys.readouterr().out)["files"]} == {"same"}
    again = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()}
    assert again == files_before


def test_a_file_that_a_person_changed_is_shown_and_kept_until_they_say_so(tmp_path, capsys):
    install("claude", "operator", tmp_path, False, as_json=False)
    theirs = tmp_path / ".claude/commands/ms-eval.md"
    theirs.write_text(theirs.read_text() + "Our own rule.\x1b[2J\n")
    removed = tmp_path / ".claude/commands/ms-fleet.md"
    removed.unlink()
    with pytest.raises(InvalidInput) as caught:
        install("claude", "operator", tmp_path, False, as_json=False)
    assert caught.value.code == "pack-differs"
    output = capsys.readouterr().out
    assert "-Our own rule." in output
    assert "\x1b[2J" not in output
    assert "Our own rule." in theirs.read_text()
    assert not removed.exists(), "nothing at all was written"
    install("claude", "operator", tmp_path, True, as_json=False)
    assert "Our own rule." not in theirs.read_text()


def test_other_servers_settings_stay_and_a_role_is_no_silent_change(tmp_path):
    (tmp_path / ".codex").mkdir()
    own_settings = '# ours\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "y"\n'
    (tmp_path / ".codex/config.toml").write_text(own_settings)
    (tmp_path / ".mcp.json").write_text('{"mcpServers": {"other": {"command": "y"}}, "more": 1}')
    for client in ("claude", "codex"):
        install(client, "reviewer", tmp_path, False, as_json=False)
        with pytest.raises(InvalidInput, match="Nothing was written"):
            install(client, "operator", tmp_path, False, as_json=False)
        install(client, "operator", tmp_path, True, as_json=False)
    text = (tmp_path / ".codex/config.toml").read_text()
    assert text.startswith(own_settings)
    assert tomllib.loads(text)["mcp_servers"] == {"other": {"command": "y"}, "modelsmith": server("operator")}
    settings = json.loads((tmp_path / ".mcp.json").read_text())
    assert settings == {"mcpServers": {"other": {"command": "y"}, "modelsmith": server("operator")}, "more": 1}


@pytest.mark.parametrize(
    ("merge", "before"),
    [
        (merge_json, "{"), (merge_json, "[]"), (merge_json, '{"mcpServers": 3}'), (merge_json, "[" * 100_000),
        (merge_toml, "x = "), (merge_toml, "mcp_servers = 3"),
        (merge_toml, 'mcp_servers.modelsmith.command = "other"\n'),
        (merge_toml, '[mcp_servers.modelsmith]\ncommand = "other" # ours\n'),
        (merge_toml, '[mcp_servers.modelsmith]\nargs = [\n  "x",\n]\n'),
        (merge_json, '{"a": "\\ud800"}'),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_changed_without_loss_are_left_alone(merge, before):
    with pytest.raises(InvalidInput) as caught:
        merge("settings", before, server("reviewer"))
    assert caught.value.code == "unreadable-settings"


@given(st.dictionaries(st.text("abc", min_size=1), st.text(), max_size=4), st.sampled_from(EVERYONE))
def test_no_setting_of_others_is_lost(others, role):
    own_settings = {"mcpServers": {name: {"command": text} for name, text in others.items()}, "own": others}
    merged = json.loads(merge_json("x", json.dumps(own_settings), server(role)).text)
    assert merged["mcpServers"].pop("modelsmith") == server(role)
    assert merged == own_settings
    tables = "".join(f"[mcp_servers.{name}] # {name}\ncommand = {json.dumps(name)}\n" for name in others)
    once = merge_toml("x", tables, server(role)).text
    assert once.startswith(tables.rstrip())
    assert merge_toml("x", once, server(role)).text == once


def test_what_a_person_wrote_beside_our_entry_stays():
    before = '[mcp_servers.modelsmith]\ncommand = "other"\nargs = []\nenv = {A = "b"}\n# next\n[tools]\nx = 1\n'
    merged = merge_toml("x", before, server("promoter"))
    ours = 'command = "modelsmith"\nargs = ["mcp", "--role", "promoter"]\n'
    assert merged.ours_differed
    assert merged.text == before.replace('command = "other"\nargs = []\n', ours)
    merged = merge_json("x", '{"mcpServers": {"modelsmith": {"env": {"A": "b"}}}}', server("promoter"))
    assert json.loads(merged.text)["mcpServers"]["modelsmith"] == {"env": {"A": "b"}, **server("promoter")}


def test_an_entry_of_our_name_leads_nowhere_but_to_our_command():
    """As one that somebody planted: a client prefers an address, or starts the command in another folder."""
    own_entry = {"type": "stdio", "env": {"A": "b"}}
    planted = {
        **own_entry,
        **server("promoter"),
        "url": "https://elsewhere.example/mcp",
        "headers": {"x": "y"},
        "cwd": "x",
    }
    merged = merge_json("x", json.dumps({"mcpServers": {"modelsmith": planted}}), server("promoter"))
    assert json.loads(merged.text)["mcpServers"]["modelsmith"] == {**own_entry, **server("promoter")}
    assert merged.ours_differed, "a person is shown the difference"
    own_entry["env"] |= {"PATH": "/tmp/evil", "PYTHONPATH": "x", "LD_PRELOAD": "x.so", "GIT_SSH_COMMAND": "x"}
    merged = merge_json(
        "x", json.dumps({"mcpServers": {"modelsmith": own_entry | server("promoter")}}), server("promoter")
    )
    assert json.loads(merged.text)["mcpServers"]["modelsmith"]["env"] == {"A": "b"}
    assert merged.ours_differed, "another program under our command's name is no less elsewhere"
    settings = merge_toml("x", "", server("promoter")).text
    for line in ('env = {PATH = "/tmp/evil"}', 'url = "https://elsewhere.example/mcp"', 'cwd = "x"'):
        with pytest.raises(InvalidInput):
            merge_toml("x", f"{settings}{line}\n", server("promoter"))


@pytest.mark.parametrize("place", [".claude", ".claude/commands/ms-eval.md", ".mcp.json"])
def test_where_something_else_stands_nothing_is_written(place, tmp_path):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    if place == ".claude":
        (tmp_path / place).write_text("a file")
    else:
        (tmp_path / place).mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidInput) as caught:
        install("claude", "operator", tmp_path, True, as_json=False)
    assert caught.value.code in ("bad-path", "not-a-file")
    assert sorted(tmp_path.rglob("*")) == before


def test_settings_that_are_no_text_are_left_alone(tmp_path):
    (tmp_path / ".mcp.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InvalidInput) as caught:
        install("claude", "operator", tmp_path, True, as_json=False)
    assert caught.value.code == "unreadable-settings"


@pytest.mark.parametrize("link", [".claude", ".claude/skills", ".claude/commands/ms-eval.md", ".mcp.json"])
def test_nothing_is_written_or_read_through_a_link_that_a_commit_planted(link, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "clone"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    for replace in (False, True):
        with pytest.raises(InvalidInput) as caught:
            install("claude", "operator", root, replace, as_json=False)
        assert caught.value.code == "link-in-the-way"
    assert list(outside.iterdir()) == []
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_an_agent_with_a_role_installs_no_server_of_another(fresh: World):
    env = fresh.environment() | {"MODELSMITH_ROLE": "reviewer"}
    result = fresh.modelsmith("pack", "install", "claude", "--role", "operator", env=env)
    assert (result.code, "outside-role" in result.err) == (2, True)
    page = fresh.modelsmith("pack", "show", "claude", env=env)
    assert page.code == 0
    assert "is new" in page.out
    assert {file.state for file in plan(fresh.clone, "claude", "reviewer")} == {"new"}
