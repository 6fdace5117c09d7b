"""Names that belong to one machine, or steer git: no commit holds them, in whatever spelling a file system takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelsmith.governance.reserved import KEPT_LOCALLY, why_local, why_reserved, why_unportable

SPELLINGS = {
    "as it is": "{}",
    "in capitals": "{upper}",
    "with a space at the end": "{} ",
    "with dots at the end": "{}..",
    "with an NTFS stream": "{}::$INDEX_ALLOCATION",
    "with a character that HFS+ ignores": "{first}\u200c{rest}",
    "with a byte order mark": "\ufeff{}",
    "in full-width letters": "{wide}",
}


def spelled(name: str, spelling: str) -> str:
    wide = name.translate({code: code + 0xFEE0 for code in range(ord("a"), ord("z") + 1)})
    return spelling.format(name, upper=name.upper(), first=name[:2], rest=name[2:], wide=wide)


@pytest.mark.parametrize("name", [*KEPT_LOCALLY, ".gitattributes", ".gitmodules", ".lfsconfig"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["{}", "{}/x", "docs/{}", "evals/a/{}/x", "docs\\{}\\x"])
def test_a_reserved_name_is_refused_at_any_depth_in_any_spelling(name: str, spelling: str, place: str) -> None:
    assert why_reserved(place.format(spelled(name, SPELLINGS[spelling])))


@pytest.mark.parametrize(
    "path", ["GIT~1/config", "git~12", "ITERAT~1/verified.json", "VENV~1/bin/python", "__pyca~1/x.pyc", "GITATT~1",
             "gi7eba~1", "GI7D29~4", "clusters/rtb/.local/x", "Clusters/rtb/.LOCAL/x", "docs/tool.git/HEAD"],
)  # fmt: skip
def test_short_names_and_a_cluster_s_local_folder_are_refused(path: str) -> None:
    assert why_reserved(path)


@pytest.mark.parametrize(
    "path", [".gitignore", ".github/CODEOWNERS", ".gitkeep", "iterate/x", "docs/git", "docs/git~", "docs/~1",
             "docs/.iterates", "evals/a/.local/x", "clusters/.local", "docs/head/x.md", "docs/HEAD.md",
             "notes~1.md", "C: what else"],
)  # fmt: skip
def test_other_names_are_welcome(path: str) -> None:
    assert why_reserved(path) is None


@pytest.mark.parametrize(
    "spelling", [".git", ".GIT", ".git ", "git~1", ".git.", ".g\u200cit", ".git::$INDEX_ALLOCATION"]
)
def test_what_git_refuses_as_its_own_is_refused_here(spelling: str, tmp_path: Path) -> None:
    """Git is the oracle: with its protections for every file system on, it adds no such path."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=tmp_path, input=b"x", capture_output=True, check=True
    ).stdout.decode().strip()  # fmt: skip
    protect = ["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true"]
    added = ["update-index", "--add", "--cacheinfo", f"100644,{blob},{spelling}/config"]
    assert subprocess.run(["git", *protect, *added], cwd=tmp_path, capture_output=True, check=False).returncode
    assert why_local(f"{spelling}/config")


@pytest.mark.parametrize(
    "path", ["aux.md", "docs/CON", "docs/nul.tar.gz", "com1/x", "docs/LPT9.txt", "docs/COM\u00b9", "aux .md", "conin$",
             "docs/a:b", "docs/a?b", "docs/a*", "docs/<b>", 'docs/"b"', "a|b", "a\\b", "docs/end. ",
             "docs/end.", "dir /x"],
)  # fmt: skip
def test_a_name_that_windows_cannot_hold_is_refused(path: str) -> None:
    assert why_unportable(path)


@pytest.mark.parametrize(
    "path", ["auxiliary.md", "docs/console", "com", "com10", "a.aux", "docs/a.con", ".gitignore", "a b", "notes~1.md",
             "docs/\u5c71\u7530.md", "docs/[a] (b) {c}; d, e='f' & g!", ".github/CODEOWNERS"],
)  # fmt: skip
def test_a_name_that_every_disk_holds_is_welcome(path: str) -> None:
    assert why_unportable(path) is None
