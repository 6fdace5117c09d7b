"""The one way to the terminal. Every string is data: no markup is read in it, and what is not seen is spelled out.

A view builds lines from parts; a style is an argument beside the text, never something inside it. So nothing that
somebody else wrote can colour, move, hide or end a line of ours. Words of others stand at the end of a line, or in a
block whose every line begins with ``|``; where a terminal is too narrow, what goes on is indented further than any
line of ours begins, and `cli.wrap` ends each line before a terminal would.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from modelsmith.cli.wrap import breaks
from modelsmith.schema.plaintext import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

INDENT: Final = "  "
_HANG: Final = 8
"""How much further than its own beginning a line goes on where the terminal ends; no view begins a line there."""
_BAR: Final = "| "
"""Mark at the beginning of every line of somebody else's words."""
_NARROWEST: Final = 4
"""Columns that a line has at least; of a terminal narrower than that beside its indent nothing can be said."""
_PADDED: Final = 40
"""Widest cell that other rows are padded to."""
_SHOWN: Final = 1000
"""Lines of somebody's words that are shown; the rest is counted."""
_FRAME: Final = frozenset(" ─━")
"""What rules are drawn of, which say nothing wherever they wrap."""
_NOT_ASCII: Final = re.compile("[^\x20-\x7e]")


class Styled(NamedTuple):
    """Text in a style of rich's, such as ``red`` or ``bold``."""

    text: str
    style: str


Part = str | Styled
Parts = Part | Sequence[Part]
"""A piece of a line, or several."""


class Page:
    """Lines on a stream: coloured and wrapped on a terminal, one text line each elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to ``stream``; to standard output when none is given."""
        self._stream = stream or sys.stdout
        self._console = console_on(self._stream) if self._stream.isatty() else None

    @classmethod
    def above(cls, console: Console) -> Page:
        """Write where bars of progress are drawn, above them."""
        page = cls(io.StringIO())
        page._console = console
        return page

    def gap(self) -> None:
        """Write an empty line."""
        self._stream.write("\n")

    def line(self, *parts: Part, indent: int = 1) -> None:
        """One line of these parts, ``indent`` steps from the left."""
        start = INDENT * indent
        self._write(start, " " * (len(start) + _HANG), parts)

    def rows(self, pairs: Sequence[tuple[str, Parts]]) -> None:
        """Labels and their values, one a line."""
        width = max(len(label) for label, _ in pairs) + 3
        for label, value in pairs:
            start = f"{INDENT}{visible(label):<{width}}"
            self._write(start, " " * max(len(start), len(INDENT) + _HANG), _parts(value))

    def table(self, columns: Sequence[str], body: Iterable[Sequence[Parts]]) -> None:
        """Columns under bold names, one line a row; a name that ends in ``>`` is set flush right."""
        names = [name.removesuffix(">") for name in columns]
        right = [name.endswith(">") for name in columns]
        head: list[list[Part]] = [[Styled(name, "bold")] for name in names]
        lines = [head, *([list(_parts(cell)) for cell in row] for row in body)]
        widths = [max(min(_width(line[i]), _PADDED) for line in lines) for i in range(len(names))]
        for line in lines:
            parts: list[Part] = []
            for cell, width, flush, last in zip(line, widths, right, _last(len(names)), strict=True):
                room = " " * max(0, width - _width(cell))
                parts += [room, *cell] if flush else [*cell, "" if last else room]
                parts += [] if last else [INDENT]
            self._write(INDENT, " " * (len(INDENT) + _HANG), parts)

    def words(
        self, text: str, indent: int = 1, style: Callable[[str], str] = lambda line: "", most: int = _SHOWN
    ) -> None:
        """What somebody wrote, in a block of its own; a line feed is the only thing that ends a line of it.

        Args:
            text: Their words.
            indent: Steps from the left.
            style: Style of a line, by what it says.
            most: Lines that are shown; the rest is counted.
        """
        start = INDENT * indent + _BAR
        lines = text.removesuffix("\n").split("\n")
        for line in lines[:most]:
            self._write(start, start, (Styled(line, style(line)),))
        if len(lines) > most:
            self.line(f"{len(lines) - most} more lines are left out; --json has all", indent=indent)

    def markdown(self, text: str) -> None:
        """A rendering of ours in Markdown: set on a terminal, behind a bar; as it is elsewhere."""
        visible_text = "\n".join(visible(line) for line in text.split("\n"))
        if self._console is None:
            self._stream.write("\n".join(map(_no_command, visible_text.split("\n"))) + "\n")
            return
        from rich.markdown import Markdown
        from rich.text import Text

        start = INDENT + _BAR
        options = self._console.options.update_width(max(self._console.width - len(start), _NARROWEST))
        for segments in self._console.render_lines(Markdown(visible_text, hyperlinks=False), options, pad=False):
            line = Text.assemble(*((part.text, part.style or "") for part in segments if not part.control))
            line.rstrip()
            self._wrap(start, start, line)

    def _write(self, start: str, hang: str, parts: Iterable[Part]) -> None:
        pieces = [
            (visible(part), None) if isinstance(part, str) else (visible(part.text), part.style) for part in parts
        ]
        if self._console is None:
            self._stream.write(_no_command(f"{start}{''.join(text for text, _ in pieces)}") + "\n")
            return
        from rich.text import Text

        self._wrap(start, hang, Text.assemble(*((text, style or "") for text, style in pieces)))

    def _wrap(self, start: str, hang: str, line: Text) -> None:
        from rich.text import Text

        assert self._console is not None
        room = max(self._console.width - max(len(start), len(hang)), _NARROWEST)
        ends = [] if _FRAME.issuperset(line.plain) else breaks(line.plain, room)
        for number, piece in enumerate(line.divide(ends)):
            piece.rstrip()
            self._console.print(Text(hang if number else start).append_text(piece), soft_wrap=True)


def console_on(stream: TextIO) -> Console:
    """A console of rich's that reads no markup in strings."""
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)


def write_json(value: Any, stream: TextIO | None = None) -> None:
    r"""One JSON object on a line of a stream (standard output unless another is named), exact.

    What is not plain ASCII stands as ``\uXXXX``.

    So a terminal shows it as it is, whatever its encoding, and every parser reads the same strings back.
    """
    line = json.dumps(value, ensure_ascii=True, default=str).replace("##[", "##\\u005b") + "\n"
    if stream is None:
        sys.stdout.write(line)
    else:
        stream.write(line)


def _no_command(line: str) -> str:
    r"""The line as the log of a workflow shows it, and obeys nothing in it.

    GitHub's runner takes commands from what a step prints: ``::name`` where a line begins, and ``##[name]`` anywhere
    (actions/runner, ``ActionCommand``). They hide words from the log, or put up errors of somebody's choice.

    >>> print(_no_command("  A title ##[add-mask]e"), _no_command("::error::No."))
      A title ##\u005badd-mask]e \u003a:error::No.
    """
    line = line.replace("##[", "##\\u005b")
    begin = len(line) - len(line.lstrip())
    return f"{line[:begin]}\\u003a{line[begin + 1 :]}" if line.startswith("::", begin) else line


def _parts(value: Parts) -> Sequence[Part]:
    return (value,) if isinstance(value, str | Styled) else value


def _width(cell: Sequence[Part]) -> int:
    """Columns as most terminals count them: it sets cells below each other and ends no line."""
    text = "".join(visible(part if isinstance(part, str) else part.text) for part in cell)
    if not _NOT_ASCII.search(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _last(count: int) -> list[bool]:
    return [number == count - 1 for number in range(count)]
