"""Mutations of valid inputs, for where atheris is not at hand, and the words that both ways of fuzzing put in."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

WORDS = (
    b"null", b"true", b"[]", b"{}", b'""', b"-0", b"1e999", b"-1", b"9007199254740993", b"1" * 400, b"NaN", b"1.5",
    b'"\\ud800"', b'"\\u0000"', b"\x00", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\r\n", b"\n", b" ",
    b'"a":1,"a":2', b"[" * 3000, b'{"a":' * 3000, b"- " * 200, b"&a *a", b"!!python/object:os.system", b"<<: *x", b"'",
    b"%s", b"../..", b"~", b"0o17", b"2026-01-31T09:00:00Z", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59",
    b"sha256:", b"=", b"\\", b"#", b"**/", b"[", b"(", b"A" * 5000, b"0 ", b"100644 a\x00",
)  # fmt: skip
"""What parsers stumble over."""


_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|(?<=: )[^\n]+')
"""A value in JSON or YAML: a word in its place leaves the rest well formed."""


def mutated(seeds: Sequence[bytes], number: int) -> bytes:
    """A seed with a few places cut out, doubled, or replaced by a word: the same for the same number."""
    draw = random.Random(number)
    data = draw.choice(seeds)
    for _ in range(draw.randint(1, 4)):
        values = list(_VALUE.finditer(data)) if draw.random() < 0.5 else []
        if values:
            at, end = draw.choice(values).span()
        else:
            at = draw.randint(0, len(data))
            end = min(len(data), at + draw.choice((0, 0, 1, 2, 4, 8, 32, 10_000)))
        new = draw.choice(
            (draw.choice(WORDS), draw.choice(WORDS), draw.randbytes(draw.randint(0, 8)), data[at:end] * 2)
        )
        data = data[:at] + new + data[end:]
    return data
