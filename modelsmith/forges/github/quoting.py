"""Words of others in GitHub's pages, so that they are only words there. Pure."""

from __future__ import annotations

import re
from typing import Final

from modelsmith.forges.github.place import Place

_PICTURE: Final = re.compile(r"\]\(/([a-z][A-Za-z0-9/._-]*\.svg)\)")
MOST: Final = 65_536
"""Letters of a description."""
VERDICTS: Final = "Verdicts count by signature: `modelsmith approve N --key KEY` with this pull request's number."


def quoted(words: str) -> str:
    """Words as they are, in a block of text: nothing in them is markup or calls anybody."""
    longest = max((len(run) for run in re.findall(r"`+", words)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{words}\n{fence}\n\n"


def paged(page: str, words: str, place: Place, head: str) -> str:
    """A page of the toolkit's as a description: its pictures where GitHub has them, and its opener's own words below.

    A picture is named at the proposal's commit in the repository itself, so whoever may read that sees it, and nobody
    else: a private repository's is not fetched by GitHub's proxy for pictures, but by the reader's own session.
    """
    at = f"{place.web}/{place.full_name}/blob/{head}"
    text = _PICTURE.sub(rf"]({at}/\1?raw=true)", page)
    theirs = f"\n**In the words of who opened it:**\n\n{quoted(words)}" if words else ""
    room = MOST - len(text) - len(VERDICTS) - 2
    if len(theirs) > room:
        theirs = "\nWhat its opener wrote is too long for here; `modelsmith pr show` has it.\n"
    return f"{text}{theirs}\n{VERDICTS}"
