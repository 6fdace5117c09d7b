"""Formats that a rubric's JSON Schema may ask of a text, each in linear time.

Names and meaning are those of JSON Schema 2020-12, section 7.3 (https://json-schema.org/draft/2020-12/json-schema-validation#section-7.3).
JSON Schema leaves it open whether ``format`` is checked at all; here it always is, and an unknown one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit
from uuid import UUID

from modelsmith.points.patterns import found

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,99})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_IN_URI = r"[!$&'()*+,;=:@/?A-Za-z0-9._~-]|%[0-9A-Fa-f]{2}"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}"
_HOST = rf"{_LABEL}(\.{_LABEL})*"


def _shaped(pattern: str, read: Callable[[str], object] = str) -> Callable[[str], bool]:
    """Whether a text has the whole pattern and can be read; the pattern comes first and bounds what is read."""

    def holds(text: str) -> bool:
        if not text.isascii() or not found(rf"^(?:{pattern})\z", text):
            return False
        try:
            read(text)
        except ValueError:
            return False
        return True

    return holds


def _without_fraction(text: str) -> str:
    """A time without the part of its second, of which Python reads six digits at most."""
    whole, dot, rest = text.upper().partition(".")
    return whole + rest.lstrip("0123456789") if dot else whole


def _uri(text: str) -> object:
    """Brackets stand round an address in the authority only, which the library checks."""
    parts = urlsplit(text)
    if "[" in text.replace(parts.netloc, "", 1) or "]" in text.replace(parts.netloc, "", 1):
        raise ValueError("a bracket outside the authority")
    return parts.port


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "date": _shaped(_DATE, date.fromisoformat),
    "time": _shaped(_TIME, lambda text: time.fromisoformat(_without_fraction(text))),
    "date-time": _shaped(rf"{_DATE}[Tt]{_TIME}", lambda text: datetime.fromisoformat(_without_fraction(text))),
    "email": _shaped(rf"{_ATOM}(\.{_ATOM})*@{_HOST}"),
    "hostname": lambda text: len(text) <= 253 and _shaped(_HOST)(text),
    "ipv4": _shaped(r"[0-9.]{7,15}", IPv4Address),
    "ipv6": _shaped(r"[0-9A-Fa-f:.]{2,45}", IPv6Address),
    "uri": _shaped(rf"[A-Za-z][A-Za-z0-9+.-]*:({_IN_URI}|[\[\]])+(#({_IN_URI})*)?", _uri),
    "uuid": _shaped(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", UUID),
}
"""Format name -> whether a text has it."""
