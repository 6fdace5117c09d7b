"""Keys that the environment holds: a setting names the variable, and never the key."""

from __future__ import annotations

from collections.abc import Mapping

from modelsmith.schema.errors import InvalidInput


def key_named(variable: str, environment: Mapping[str, str]) -> str:
    """The key that the variable holds, without the line break that a file leaves at its end.

    Raises:
        InvalidInput: ``key-missing``; ``key-unusable`` for what no header can carry.
    """
    key = environment.get(variable, "").strip()
    if not key:
        raise InvalidInput(
            "key-missing",
            f"The environment variable {variable} is not set, and a key is read from it.",
            f"Put the key into {variable} and run again.",
            variable=variable,
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput(
            "key-unusable",
            f"The environment variable {variable} holds characters that no key has.",
            f"Put the key alone into {variable}: one word, without quotes or line breaks.",
            variable=variable,
        )
    return key
