"""Words, digests and tables as Markdown that cannot be mistaken for anything else."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from modelsmith.schema.plaintext import visible

_SHOWN: Final = (
    ("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("*", "\\*"), ("~~", "\\~\\~"),
    ("](", "] ("), ("]:", "] :"), ("`", "'"), ("@", " at "), ("://", ":\\//"), ("www.", "www\\."),
)  # fmt: skip
"""What Markdown reads as its own, and how it stands for itself; in this order."""
_REFERENCE: Final = re.compile(r"([#!]|\bGH-)(?=\d)", re.IGNORECASE)
"""What a forge turns into a link to an issue or a pull request, whatever is escaped."""
_EMOJI: Final = re.compile(r":(?=(?:\d*[a-z_+-][\w+-]*|100|1234):)", re.IGNORECASE)
"""The first colon of what a forge turns into a picture; not that of a time."""
_MATHS: Final = ("$", "&#36;")
"""What begins a formula, and how it stands for itself where formulas are found before or after marks are read."""
_LABEL: Final = re.compile(r"\[(?![-+\d])")
"""What may begin a link, a note or a box; not an interval of numbers."""
_STRESS: Final = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underline that is not inside a word."""
_BLOCK: Final = re.compile(r"^(#{0,5}|[-+=]*|\d{1,9})([-+=#.)])(?= |$)")
"""What would begin a heading, a list or a rule."""


def short(digest: str) -> str:
    """The first digits of a digest."""
    return f"`{digest.removeprefix('sha256:')[:12]}`"


def safe(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no mark-up, link, picture, entity or HTML, nothing hidden.

    Nor what forges add to Markdown: formulas, emoji, links to people and numbers.
    """
    flat = " ".join(visible(re.sub(r"[\r\n\t]", " ", text)).split())
    for mark, replacement in _SHOWN:
        flat = flat.replace(mark, replacement)
    flat = _EMOJI.sub(": ", _REFERENCE.sub(r"\1 ", flat)).replace(*_MATHS)
    return _BLOCK.sub(r"\1\\\2", _STRESS.sub(r"\\_", _LABEL.sub(r"\\[", flat)))


def table(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Rows of cells, the first being the head; ``alignment`` holds ``l`` or ``r`` for each column."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'|'.join('---:' if side == 'r' else '---' for side in alignment)}|", *body])


def folded(title: str, body: str) -> str:
    """Text that is folded until a reader opens it."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def money(amount: float, currency: str) -> str:
    """An amount with at least three digits that say something."""
    digits = 2 if amount <= 0 else max(2, 2 - math.floor(math.log10(amount)))
    return f"{amount:.{digits}f} {currency}"
