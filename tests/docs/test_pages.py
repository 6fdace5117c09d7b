"""The pages: every link leads somewhere, every page is in the README or a page that it names, and none is endless."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("README.md")])
LOOKED_UP = {"architecture.md", "errors.md", "files.md"}
"""Pages in which one looks something up; nobody reads them from the top."""
LONGEST = 400
_CODE = re.compile(r"```.*?```", re.S)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEAD = re.compile(r"^#+ (.*)$", re.M)


def prose(page: Path) -> str:
    """The page without blocks of code."""
    return _CODE.sub("", page.read_text())


def anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(page: Path) -> list[tuple[Path, str]]:
    """Files of this repository that the page links, each with the anchor."""
    targets = (link.partition("#") for link in _LINK.findall(prose(page)) if not link.startswith(("http", "mailto")))
    return [((page.parent / path).resolve() if path else page, name) for path, _, name in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    lost = [(str(target), name) for target, name in links(page) if not target.exists() or not _has(target, name)]
    assert lost == []


def _has(page: Path, name: str) -> bool:
    return not name or page.suffix != ".md" or name in {anchor(heading) for heading in _HEAD.findall(prose(page))}


def test_every_page_is_found_from_the_readme():
    pages_seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in pages_seen and page.suffix == ".md" and page.is_file():
            pages_seen.add(page)
            waiting += [target for target, _ in links(page)]
    assert sorted(str(page) for page in (ROOT / "docs").rglob("*.md") if page not in pages_seen) == []


def test_no_page_that_is_read_from_the_top_is_endless():
    long = {
        page.name: count
        for page in PAGES
        if page.parent.name != "attacks" and (count := page.read_text().count("\n")) > LONGEST
    }
    assert long.keys() <= LOOKED_UP, long
