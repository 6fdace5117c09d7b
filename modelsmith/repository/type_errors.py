"""One of pydantic's errors in a user's words: what stands there, and what to write instead. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from annotated_types import Le
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from modelsmith.normal_form import normalized
from modelsmith.repository.document import named, nearest, nearest_mend
from modelsmith.repository.slips import OPENING, print_quotes
from modelsmith.schema.base import SLUG
from modelsmith.schema.cluster import STORE
from modelsmith.schema.dataset import DATASET_URI
from modelsmith.schema.governance import SshKey
from modelsmith.schema.plaintext import described
from modelsmith.schema.source import MODEL_URI

_SSH_KEY = SshKey.model_fields["key"].metadata[0].pattern
_PATTERNS = {
    r"^https?://[^/?#\s@]+(/[^?#\s]*)?$": "Write https://host/v1, without user, password or query.",
    MODEL_URI: "Write package://<python package>/<file>, file://<path> or hf://<org>/<name>@<revision>.",
    STORE: "Write an absolute folder, or ~/<folder>.",
    r"^[A-Z][A-Z0-9_]*$": "Write the name of an environment variable, in capitals; never a key itself.",
    r"^sha256:[0-9a-f]{64}$": "Write 'sha256:' and 64 hex digits.",
    r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$": (
        "Use lower-case letters a to z, digits, dot, hyphen or underscore, at most 64 characters, beginning and ending "
        "with a letter or digit."
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "Use letters, digits, dot, hyphen or underscore, at most 63 characters.",
    r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$": "Write three numbers like 1.2.0.",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{7,127}$": "Use 8 to 128 letters, digits, dots, hyphens or underscores.",
    r"^[a-z0-9._-]{1,64}/[a-z0-9._-]{1,64}$": "Write <domain>/<set>, as the folders under evals/ are named.",
    r"^[A-Z]{3}$": "Write three capital letters, such as EUR.",
    DATASET_URI: (
        "Write file:<path> below a folder that the machine names, or file:///<path> in one; what lies elsewhere is "
        "copied there first."
    ),
    r"^[^\x00-\x1f]{1,200}$": "Write 1 to 200 characters, none of them a control character.",
    r"^[a-z][a-z0-9_]{0,63}$": "Use lower-case letters, digits and underscores, beginning with a letter.",
    r"^[a-z][a-z0-9_]{0,31}$": "Use lower-case letters, digits and underscores, beginning with a letter; at most 32.",
    r"^[a-z][a-z0-9-]{0,31}$": "Use lower-case letters, digits and hyphens, beginning with a letter; at most 32.",
    r"^[a-z0-9][a-z0-9-]{0,63}$": "Use lower-case letters, digits and hyphens, at most 64.",
    r"^[A-Za-z][A-Za-z0-9_]{0,63}$": "Use letters, digits and underscores, beginning with a letter: PER, not B-PER.",
    r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$": "Use letters, digits and . _ : / @ + -, at most 128.",
    r"^(/([^/~]|~[01]){1,128}){1,16}$": "Write a JSON pointer, such as /user/tier.",
    r"^[A-Za-z][A-Za-z0-9_-]*(\.([A-Za-z][A-Za-z0-9_-]*|0|[1-9][0-9]*))*$": (
        "Write names and places with dots between, such as run.points.0."
    ),
    r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$": "Write a path of letters, digits, dots, hyphens and underscores.",
    r"^[a-z]+(-[a-z]+)*( [a-z]+(-[a-z]+)*)?$": "Write it as the command line has it, such as pr show.",
    r"^https://[a-z0-9.-]+(/[A-Za-z0-9._/-]*)?$": "Write https://host or https://host/path.",
    r"^https://[a-z0-9.-]+$": "Write https://host.",
    r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$": "Write <owner>/<repository>, as the forge has it.",
    r"^\.github/workflows/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.ya?ml$": "Write .github/workflows/<file>.yml.",
    r"^refs/heads/[A-Za-z0-9._/-]{1,200}$": "Write refs/heads/<branch>.",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.json$": "Write the name of a file that ends in .json.",
    r"^[A-Za-z0-9._-]+\.pem$": "Write the name of a file that ends in .pem.",
}

_EXPECTED = {
    "string_type": ("text is expected", "Put the value in quotes."),
    "bool_type": ("true or false is expected", "Write true or false."),
    "int_type": ("a whole number is expected", "Write a whole number."),
    "int_from_float": ("a whole number is expected", "Write a whole number."),
    "float_type": ("a number is expected", "Write a number."),
    "tuple_type": ("a list is expected", "Write one '- ' line for each item, or [a, b]."),
    "list_type": ("a list is expected", "Write one '- ' line for each item, or [a, b]."),
    "dict_type": ("a mapping is expected", "Write 'name: value' lines below it, indented."),
    "model_type": ("a mapping is expected", "Write 'field: value' lines below it, indented."),
    "model_attributes_type": ("a mapping is expected", "Write 'field: value' lines below it, indented."),
    "datetime_type": ("a time is expected", "Write it as 2026-01-31T09:00:00Z."),
    "datetime_parsing": ("a time is expected", "Write it as 2026-01-31T09:00:00Z."),
    "datetime_from_date_parsing": ("a time is expected", "Write it as 2026-01-31T09:00:00Z."),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        ("a day is expected", "Write it as 2026-01-31."),
    ),
    "timezone_aware": ("a time with zone is expected", "Write it as 2026-01-31T09:00:00Z."),
}

_BOUNDS: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "greater_than": lambda c: (f"must be greater than {c['gt']}", f"Write a number above {c['gt']}."),
    "greater_than_equal": lambda c: (f"must be at least {c['ge']}", f"Write {c['ge']} or more."),
    "less_than": lambda c: (f"must be less than {c['lt']}", f"Write a number below {c['lt']}."),
    "less_than_equal": lambda c: (f"must be at most {c['le']}", f"Write {c['le']} or less."),
    "too_short": lambda c: (
        f"needs {c['min_length']} or more items", "Add to the list; commas or lines separate its items."
    ),
    "string_too_short": lambda c: (
        f"needs {c['min_length']} or more characters", f"Write {c['min_length']} or more characters."
    ),
    "string_too_long": lambda c: (f"has more than {c['max_length']} characters", "Shorten it."),
    "literal_error": lambda c: (f"must be {c['expected']}", f"Write {c['expected']}."),
    "union_tag_not_found": lambda c: (f"{c['discriminator']} is missing", f"Add {c['discriminator']}: see the schema."),
    "union_tag_invalid": lambda c: (
        f"there is no {c['discriminator'].strip(chr(39))} '{c['tag']}'",
        nearest_mend(str(c["tag"]), re.findall("'([^']*)'", c["expected_tags"])),
    ),
    "string_pattern_mismatch": lambda c: (
        "is not written as required", _PATTERNS.get(c["pattern"], f"Make it match {c['pattern']}.")
    ),
}  # fmt: skip


def explain(
    details: ErrorDetails, field: FieldInfo | None, documentation: str | None, inner: Sequence[str]
) -> tuple[str, str]:
    """Message and mend for what a type refuses.

    Args:
        details: The error.
        field: The field that it is about, when it is one.
        documentation: What the field is.
        inner: Fields that the value may have, when it is to be a mapping.
    """
    kind, value, facts = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "too_short" and isinstance(value, str):
        kind = "string_too_short"
    if explanation := _closer(kind, value, facts, field):
        return explanation
    if kind in _EXPECTED:
        expected, mend = _EXPECTED[kind]
        if inner and kind.startswith("model"):
            mend = f"{mend.removesuffix('.')}; fields here: {named(inner)}."
        return f"{expected}, not {value_text(value)}", mend
    if kind in _BOUNDS:
        message, mend = _BOUNDS[kind](facts)
        return f"{value_text(value)} {message}" if not kind.startswith("union_tag") else message, mend
    if kind == "value_error":
        return str(facts["error"]), with_doc("Correct it", documentation)
    return details["msg"][:1].lower() + details["msg"][1:], with_doc("Correct it", documentation)


def _closer(kind: str, value: Any, facts: dict[str, Any], field: FieldInfo | None) -> tuple[str, str] | None:
    """A closer explanation of the value, where there is one."""
    if isinstance(value, str) and value[:1] in OPENING and value and kind not in ("tuple_type", "list_type"):
        message, mend = print_quotes(value)
        return message, "Write the value without quotes." if kind in _NUMBERS else mend
    if kind in _NUMBERS and (number := _number(kind, value, field)):
        return number
    if kind == "less_than_equal" and facts["le"] == 1 and isinstance(value, int | float):
        percent = f"Write {value / 100:g} for {value:g} percent; 1 would be all."
        return f"{value:g} is more than all", percent if value <= 100 else "Write a share between 0 and 1."
    if kind == "literal_error" and isinstance(value, str):
        options = re.findall("'([^']*)'", facts["expected"])
        near = nearest(value, options)
        mend = f"Did you mean '{near}'?" if near else f"Write {facts['expected']}."
        return f"{value_text(value)} must be {facts['expected']}", mend
    if kind == "bool_type" and isinstance(value, str):
        word = value.strip().lower()
        truth = "true" if word in ("yes", "on", "true", "y") else "false" if word in ("no", "off", "false", "n") else ""
        return (
            (f"true or false is expected, not {value_text(value)}", f"Write {truth}, without quotes.")
            if truth
            else None
        )
    if kind == "string_type":
        return _text(value, field)
    if kind in ("tuple_type", "list_type") and isinstance(value, str):
        short = f"Write [{value}], or a '- '" if re.fullmatch(r"[\w .,-]{1,40}", value) else "Write a '- '"
        return f"a list is expected, not {value_text(value)}", f"{short} line for each item."
    if kind in ("dict_type", "model_type", "model_attributes_type") and isinstance(value, list):
        return "a mapping is expected, not a list", "Remove the '- '."
    if kind == "string_pattern_mismatch" and isinstance(value, str):
        return _pattern(value, facts["pattern"])
    return None


_NUMBERS = ("int_type", "float_type", "int_from_float", "bool_type")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")
_COMMA = re.compile(r"([0-9]+),([0-9]+)")
_GROUPED = re.compile(r"[0-9]{1,3}(?:[,_' ][0-9]{3})+")
_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([^0-9 .,][^0-9]*)")


def _number(kind: str, value: Any, field: FieldInfo | None) -> tuple[str, str] | None:
    """Message and mend where a number is wanted and the value is not one."""
    if kind == "bool_type":
        return None
    if isinstance(value, float):
        return f"a whole number is expected, not {value:g}", f"Write {int(value)} or {int(value) + 1}."
    if not isinstance(value, str):
        return None
    text = value.strip()
    share = field is not None and any(isinstance(limit, Le) and limit.le == 1 for limit in _metadata(field))
    if match := _PERCENT.fullmatch(text):
        amount = f"{float(match[1]) / 100:g}" if share else match[1]
        return f"{text} has a % sign", f"Write {amount}."
    if _GROUPED.fullmatch(text) and kind == "int_type":
        return f"{text} has a mark between its digits", f"Write {re.sub('[^0-9]', '', text)}."
    if match := _COMMA.fullmatch(text):
        return f"{text} has a comma", f"Write {match[1]}.{match[2]}, with a dot."
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return f"the number {text} stands in quotes", f"Write {text} without quotes."
    if match := _UNIT.fullmatch(text):
        return f"'{match[2]}' stands behind the number", f"Write {match[1]} alone."
    return None


def _metadata(field: FieldInfo) -> list[Any]:
    return [*field.metadata, *getattr(field.annotation, "__metadata__", ())]


def _text(value: Any, field: FieldInfo | None) -> tuple[str, str] | None:
    """Why something is not text, where text was meant."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), str):
        return f"a colon stands in the text after '{next(iter(value))[-30:]}'", "Put the text in quotes."
    if isinstance(value, list | dict):
        mark = "[" if isinstance(value, list) else "{"
        return f"the text begins with {mark}, which means something else in YAML", "Put the text in quotes."
    pattern = (
        next((constraint.pattern for constraint in _metadata(field) if getattr(constraint, "pattern", None)), "")
        if field
        else ""
    )
    if value is None:
        return "nothing stands here", "Write a text."
    mend = _PATTERNS.get(pattern, "") if pattern != SLUG else ""
    return f"text is expected, not {value_text(value)}", mend or "Put the value in quotes."


def _pattern(value: str, pattern: str) -> tuple[str, str] | None:
    """Explanation of a text that does not have its form."""
    if pattern == _SSH_KEY:
        return _ssh_key(value)
    if pattern == SLUG:
        return _slug(value)
    if pattern == MODEL_URI and value.startswith("hf://") and "@" not in value:
        return f"{value_text(value)} names no revision", f"Write {value}@<commit>."
    return None


def _slug(value: str) -> tuple[str, str] | None:
    """The first character that a name may not have, and the name without it."""
    odd = next((character for character in value if not re.match(r"[a-z0-9._-]", character)), None)
    if odd is None:
        return None
    letters = normalized("NFKD", value).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9._-]+", "-", letters.lower()).strip("-._")
    oddity = "a space" if odd == " " else f"the capital {odd}" if odd.isascii() and odd.isupper() else described(odd)
    mend = f"Write {plain}." if re.fullmatch(SLUG, plain) else _PATTERNS[SLUG]
    return f"the name {value_text(value)} has {oddity}", mend


def _ssh_key(value: str) -> tuple[str, str]:
    """Never shown: it may be a private one."""
    words = value.split()
    if "PRIVATE KEY" in value or value.startswith("PuTTY-User-Key-File"):
        mend = "Make a new one, for this one has been seen; write the line of its .pub file, without the comment."
        return "this is a private key", mend
    if value.startswith("-----BEGIN"):
        return "this is a PEM key, and an SSH key is expected", "Write the line of the .pub file, without the comment."
    complete = len(words) > 2 and re.fullmatch(_SSH_KEY, " ".join(words[:2]))
    if complete and not re.fullmatch("[A-Za-z0-9+/=]{30,}", words[2]):
        return f"the key is followed by its comment, {' '.join(words[2:])[:40]}", "Leave the comment out."
    if len(words) > 1 and words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return "blanks stand inside the key", "Write it on one line, as in its .pub file."
    if len(words) == 1 and value.startswith("AAAA"):
        return "the key's type is missing before it", "Write the line of the .pub file: ssh-ed25519 AAAA..."
    return "this is no SSH public key", "Write the line of the .pub file, without the comment."


def value_text(value: Any) -> str:
    """A value as a short word or two."""
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}...{text[-1]}"


def with_doc(mend: str, documentation: str | None) -> str:
    """The mend, with what the field is."""
    return f"{mend}: {documentation}" if documentation else f"{mend}."
