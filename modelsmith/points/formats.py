"""Formats that a rubric's JSON Schema may ask of a text, each in linear time.

Names and meaning are those of JSON Schema 2020-12, section 7.3 (https://json-schema.org/draft/2020-12/json-schema-validation#section-7.3).
JSON Schema leaves it open whether ``format`` is checked at all; here it always is, and an unknown one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit
from uuid import UUID

from modelsmith.points.patterns import matches

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:([0-5][0-9]|60)(\.[0-9]{{1,99}})?([Zz]|[+-]{_CLOCK})"
_DAY = 24 * 60
_IN_URI = r"[!$&'()*+,;=:@/?A-Za-z0-9._~-]|%[0-9A-Fa-f]{2}"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}"
_HOST = rf"{_LABEL}(\.{_LABEL})*"


def _shaped(pattern: str, parse: Callable[[str], object] = str) -> Callable[[str], bool]:
    """Whether a text has the whole pattern and can be read; the pattern comes first and bounds what is read."""

    def holds(text: str) -> bool:
        if not text.isascii() or not matches(rf"^(?:{pattern})\z", text):
            return False
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return holds


def _leap_second(text: str) -> None:
    """A second 60 ends a day in UTC (RFC 3339, section 5.7). Everything else about a time is in its pattern."""
    if text[6:8] != "60":
        return
    minutes, zone = _minutes(text[:5]), text[-6:]
    if text[-1] not in "Zz":
        minutes -= _minutes(zone[1:]) * (-1 if zone[0] == "-" else 1)
    if minutes % _DAY != _DAY - 1:
        raise ValueError("no day ends there")


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _date_time(text: str) -> None:
    date.fromisoformat(text[:10])
    _leap_second(text[11:])


def _uri(text: str) -> object:
    """Brackets stand round an address in the authority only, which the library checks."""
    parts = urlsplit(text)
    if "[" in text.replace(parts.netloc, "", 1) or "]" in text.replace(parts.netloc, "", 1):
        raise ValueError("a bracket outside the authority")
    return parts.port


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "date": _shaped(_DATE, date.fromisoformat),
    "time": _shaped(_TIME, _leap_second),
    "date-time": _shaped(rf"{_DATE}[Tt]{_TIME}", _date_time),
    "email": _shaped(rf"{_ATOM}(\.{_ATOM})*@{_HOST}"),
    "hostname": lambda text: len(text) <= 253 and _shaped(_HOST)(text),
    "ipv4": _shaped(r"[0-9.]{7,15}", IPv4Address),
    "ipv6": _shaped(r"[0-9A-Fa-f:.]{2,45}", IPv6Address),
    "uri": _shaped(rf"[A-Za-z][A-Za-z0-9+.-]*:({_IN_URI}|[\[\]])+(#({_IN_URI})*)?", _uri),
    "uuid": _shaped(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", UUID),
}
"""Format name -> whether a text has it."""
