"""Names in the letters a to z, from names in any language that is written with Latin letters."""

from __future__ import annotations

import unicodedata
from typing import Final

from modelsmith.normal_form import normalized

_WHOLE: Final = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "\u0131": "i",
    }
)
"""Letters that Unicode does not take apart into a plain letter and a mark."""


def latin(text: str) -> str:
    """The text with ``ü`` as ``u``, ``ß`` as ``ss`` and so on; letters of other scripts stay as they are."""
    apart = normalized("NFKD", text.translate(_WHOLE))
    return normalized("NFC", "".join(character for character in apart if not unicodedata.combining(character)))
