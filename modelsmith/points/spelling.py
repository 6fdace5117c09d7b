"""A text with numbers as it is seen: LaTeX, Markdown and HTML round a number say nothing about it. Pure."""

from __future__ import annotations

import html
import re
import unicodedata

from modelsmith.schema.assigned import EMPTY

SPACES = "\u00a0\u2002-\u200a\u202f\u205f"
"""Spaces other than the plain one, for a class of characters."""
DASHES = r"\-\u02d7\u2043\u207b\u208b\u2010-\u2015\u2212\u2796\ufe58\ufe63\uff0d"
"""What is written for a minus, for a class of characters."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
)
"""Letters of scripts that put no space between words, for a class: a number or a word may begin directly after one."""

INVISIBLE = dict.fromkeys(EMPTY)
"""Characters that show nothing: those that governed files refuse for it."""
_MARKS = {
    ord(character): like
    for like, spellings in {
        ".": "\u066b\uff0e",
        ",": "\u066c\u060c\uff0c",
        ":": "\uff1a\u2236",
        "/": "\uff0f\u2044\u2215\u00f7",
        "%": "\u066a\uff05\ufe6a",
        "+": "\uff0b\ufe62",
        "<": "\uff1c",
        ">": "\uff1e",
        "=": "\uff1d",
        "(": "\uff08\u207d",
        ")": "\uff09\u207e",
        "^": "\uff3e",
        "*": "\uff0a\u2217",
        "~": "\u223c",
        "?": "\uff1f",
        "'": "\u2019\uff07",
    }.items()
    for character in spellings
}
_SEEN = INVISIBLE | _MARKS
_LONG_SOUND = re.compile(r"(?<![\u3041-\u30ff])\u30fc(?=[0-9])")
"""The katakana mark of a long sound, which looks like a dash and is typed for one."""

_LATEX = re.compile(
    r"\\(?P<struck>sout|st|[bx]?cancel)(?![a-zA-Z])"
    r"|\\(?:text|textbf|textit|mathbf|mathrm|mathit|bf|mbox)\s*\{(?P<inner>[^{}]{0,80})\}"
    r"|(?P<degrees>\^\s*(?:\{\s*\\circ\s*\}|\\circ\b))"
    r"|\\(?P<word>leq?|geq?|lt|gt|neq?|approx|sim|pm|mp|times|cdot|div|sqrt|left|right|displaystyle|quad|qquad)"
    r"(?![a-zA-Z])"
    r"|\\(?P<sign>[%$#&_])|(?P<comma>\{,\})|(?P<space>\\[,;:! ])|(?P<maths>\\[()\[\]])"
)
_WORDS = {
    "le": "\u2264", "leq": "\u2264", "ge": "\u2265", "geq": "\u2265", "lt": "<", "gt": ">", "ne": "\u2260",
    "neq": "\u2260", "pm": "\u00b1", "mp": "\u00b1", "times": "\u00d7", "cdot": "\u00d7", "div": "/", "sqrt": "\u221a",
}  # fmt: skip
_THOUGHT = "think|thinking|thought|reasoning|reflection"
_HIDDEN = re.compile(
    rf"<!--.*?(?:-->|\Z)|<({_THOUGHT}|script|style|template)(?:\s[^<>]{{0,200}})?>.*?(?:</\1\s?>|\Z)", re.DOTALL | re.I
)
"""What no reader is shown as the answer: comments, and what a model thinks before it answers."""
_THOUGHT_ENDS = re.compile(rf"</(?:{_THOUGHT})\s?>", re.I)
"""Where thinking ends that the prompt has begun."""
STRUCK = "~~"
"""Stands where something is struck out, as in Markdown."""
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,15})(?:\s[^<>\n]{0,200})?\s?/?>")
_INLINE = frozenset("b i u em strong span code mark small big font tt kbd var q".split())  # noqa: SIM905
_MARKUP = re.compile(r"\*+(?![0-9(])|(?<![0-9)])\*+|`+(?![0-9])|(?<![0-9])`+|(?<!_)_++(?!\w)|(?<!\w)_+")
"""Emphasis and code, unless it stands between two numbers."""


def as_displayed(text: str) -> str:
    """Digits and marks of other scripts in ASCII, LaTeX and entities in characters, no markup, nothing hidden."""
    if "<" in text:
        text = _HIDDEN.sub("\n", text)
        text = text[max((match.end() for match in _THOUGHT_ENDS.finditer(text)), default=0) :]
    if "&" in text:
        text = html.unescape(text)
    text = text.translate(_SEEN)
    if not text.isascii():
        text = _LONG_SOUND.sub("-", text)
        text = "".join(str(unicodedata.decimal(c)) if c > "\x7f" and c.isdecimal() else c for c in text)
    if "\\" in text or "{,}" in text:
        text = _LATEX.sub(_latex, _LATEX.sub(_latex, text))
    if "<" in text:
        text = _TAG.sub(_tag, text)
    return _MARKUP.sub("", text)


def _latex(match: re.Match[str]) -> str:
    match match.lastgroup:
        case "inner":
            return match["inner"]
        case "struck":
            return STRUCK
        case "degrees":
            return "\u00b0"
        case "word":
            return _WORDS.get(match["word"], "~" if match["word"] in ("approx", "sim") else "")
        case "sign":
            return match["sign"]
        case "comma":
            return ","
        case "maths":
            return ""
        case _:
            return "\u2009"


def _tag(match: re.Match[str]) -> str:
    """Nothing for a tag inside a line, unless it would join what stands apart; a power for a raised number."""
    name = match[2].lower()
    if name in ("del", "s", "strike"):
        return STRUCK
    if name in ("sup", "sub"):
        return "" if match[1] else "^" if name == "sup" else "_"
    text, start, end = match.string, match.start(), match.end()
    joins = text[max(0, start - 1) : start].isalnum() and text[end : end + 1].isalnum()
    return "" if name in _INLINE and not joins else "\n"
