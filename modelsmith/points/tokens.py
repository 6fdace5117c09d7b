"""How many tokens a text takes, without any model's tokenizer: a bound that holds for all, and what is likely. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_LETTERS, _DIGITS = 5, 1
"""Of a longer run of letters or digits, how many one token is likely to hold."""
_RUN = re.compile(r"(?P<letters>(?:[^\W\d_]|[^\x00-\x7f])+)|(?P<digits>\d+)|(?:[^\w\s]|_)+")


class Tokens(NamedTuple):
    """How many tokens a text takes."""

    least: int
    """Every tokenizer in use begins a new token where letters, digits and signs meet."""
    likely: int
    """For a text in a language that the tokenizer knows well."""


def tokens(text: str) -> Tokens:
    """How many tokens a text takes, at least and likely.

    >>> tokens("The price floor is 0.35.")
    Tokens(least=8, likely=9)
    """
    least = likely = 0
    for run in _RUN.finditer(text):
        size = {"letters": _LETTERS, "digits": _DIGITS}.get(run.lastgroup or "", len(run.group()))
        least += 1
        likely += -(-len(run.group()) // size)
    return Tokens(least, likely)
