"""What the pictures are drawn with: lines, dots and texts of an SVG file, in one set of colours.

SVG 1.1, no script, no font file, no reference to anything outside; a background of its own, so that it reads on light
and dark pages. Texts are cut to their room by estimated width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from modelsmith.schema.plaintext import visible

WIDTH: Final = 880
MARGIN: Final = 32

INK, MUTED, FAINT, RULE, TRACK = "#1f2328", "#59636e", "#d1d9e0", "#e6eaef", "#eef1f4"
BLUE, GREY, RED, AMBER, GREEN = "#0969da", "#6e7781", "#cf222e", "#bc4c00", "#1a7f37"
FONT: Final = "-apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans','Liberation Sans',Helvetica,Arial,sans-serif"


def picture(height: int, title: str, description: str, body: Sequence[str]) -> str:
    """The whole file: a white card of `WIDTH` times ``height``, named and described for who cannot see it."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-labelledby="title desc" font-family="{FONT}" font-size="13" fill="{INK}">',
        f'<title id="title">{plain(title)}</title>',
        f'<desc id="desc">{plain(description)}</desc>',
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="#ffffff" stroke="{FAINT}"/>',
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dashed: bool = False) -> str:
    """A straight line, as an SVG element."""
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" stroke="{colour}" '
        f'stroke-width="{number(width)}"{dash}/>'
    )


def path(places: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    """An SVG path through these places."""
    points = " ".join(f"{number(x)},{number(y)}" for x, y in places)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{number(width)}"/>'


def text(
    x: float, y: float, content: str, colour: str = INK, size: float = 13, bold: bool = False, anchor: str = "start"
) -> str:
    """A line of text on the baseline ``y``; ``size`` in pixels."""
    style = "".join(
        [
            f' fill="{colour}"' if colour != INK else "",
            f' font-size="{number(size)}"' if size != 13 else "",
            ' font-weight="600"' if bold else "",
            f' text-anchor="{anchor}"' if anchor != "start" else "",
        ]
    )
    return f'<text x="{number(x)}" y="{number(y)}"{style}>{plain(content)}</text>'


def dot(x: float, y: float, radius: float, fill: str, stroke: str, width: float) -> str:
    """A filled circle with an outline."""
    return (
        f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="{number(width)}"/>'
    )


def bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    """A filled rectangle with slightly rounded corners."""
    size = f'width="{number(width)}" height="{number(height)}"'
    return f'<rect x="{number(x)}" y="{number(y)}" {size} rx="2" fill="{fill}"/>'


def group(title: str, marks: Iterable[str]) -> str:
    """Marks that belong together, with what they say in words: a tool tip, and read out by screen readers."""
    return "\n".join(["<g>", f"<title>{plain(title)}</title>", *marks, "</g>"])


def number(value: float) -> str:
    """A coordinate: two decimals at most, so that every machine writes the same bytes."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def plain(content: str) -> str:
    """The text, escaped; what is not seen as itself is spelled out."""
    return escape(visible(content), quote=False)


_NARROW, _WIDE = "fijlrtI.,:;|'!()[]/- ", "mwMW@%"


def measure(content: str, size: float, bold: bool = False) -> float:
    """A generous estimate of a text's width in pixels, for sans-serif fonts of any system."""
    units = sum(0.36 if c in _NARROW else 0.9 if c in _WIDE else 0.7 if c.isupper() else 0.6 for c in content)
    return units * size * (1.06 if bold else 1.0)


def fit(content: str, size: float, room: float, bold: bool = False) -> str:
    """The text, cut and ended by an ellipsis when it is wider than the room."""
    if measure(content, size, bold) <= room:
        return content
    while content and measure(content + "…", size, bold) > room:
        content = content[:-1]
    return content.rstrip() + "…"


def fit_name(content: str, size: float, room: float) -> str:
    """The name, shortened in its middle: names that begin alike often differ at their end."""
    if measure(content, size) <= room:
        return content
    head, tail = content[: len(content) // 2], content[len(content) // 2 :]
    while measure(f"{head}…{tail}", size) > room and tail:
        head, tail = (head[:-1], tail) if len(head) > len(tail) else (head, tail[1:])
    return f"{head}…{tail}"
