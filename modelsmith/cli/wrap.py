"""Where lines of others end on a terminal: always by us, before the terminal would end them by itself.

Terminals do not agree how wide a character is (marks, emoji, what East Asian fonts draw wide), and their tables change
with every Unicode version. A line that is wider than we counted goes on at the very left, where it looks like one of
ours. So ASCII counts as one column and every other character as the widest that a terminal draws.
"""

from __future__ import annotations

from typing import Final

_WIDEST: Final = 2
_WIDER: Final = {"\u2e3b": 3}
"""THREE-EM DASH, for some."""


def widest(text: str) -> int:
    """The most columns that a terminal may take for the text."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def breaks(text: str, room: int) -> list[int]:
    """Where to end a line so that no piece, but for blanks at its end, is wider than ``room`` on any terminal.

    After a blank where there is one, else between two characters. A piece holds one character at least.
    """
    if widest(text) <= room:
        return []
    positions: list[int] = []
    begin = blank = used = 0
    for at, character in enumerate(text):
        if character == " ":
            blank, used = at + 1, used + 1
            continue
        width = _columns(character)
        while used + width > room and begin < at:
            begin = blank if blank > begin else at
            positions.append(begin)
            used = widest(text[begin:at])
        used += width
    return positions


def _columns(character: str) -> int:
    return 1 if character.isascii() else _WIDER.get(character, _WIDEST)
