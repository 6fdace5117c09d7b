"""The people whom ``modelsmith init`` enrols, by the public half of their own keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modelsmith.governance.names import fold_name
from modelsmith.repository.paths import place
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.catalog import PEOPLE
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People
from modelsmith.schema.latin import latin
from modelsmith.signing.ssh import public_key

HARNESS = "modelsmith-harness"
"""Id of the machine's own signer in a new repository; no person is called so."""


def enrolled_people(root: Path, options: tuple[str, ...], files: dict[str, bytes]) -> list[dict[str, Any]]:
    """People as people.yaml lists them, from each ``ROLE=KEY.pub``.

    Raises:
        InvalidInput: ``bad-person``, or as `public_key`.
    """
    people: dict[str, dict[str, Any]] = {}
    roles = parse_yaml(PEOPLE, files[PEOPLE], People).roles
    for text in options:
        role, _, path = text.partition("=")
        if role not in roles:
            raise InvalidInput(
                "bad-person", f"--person {text}: no role '{role}'", f"Name one of {', '.join(roles)}.", given=text
            )
        name, key = _holder(role, place(Path(path), root), text)
        name = f"holder-of-{role}" if name in ("", *roles) else name
        taken_names = {
            fold_name(HARNESS),
            *(fold_name(listed["id"]) for other, listed in people.items() if other != key),
        }
        if fold_name(name) in taken_names:
            raise InvalidInput(
                "bad-person",
                f"--person {text}: somebody else is called {name!r} already, and a person is called as their key's "
                "comment says",
                f"Give the key another comment: ssh-keygen -c -C NAME -f KEY, or edit the last word of {path}.",
                given=text,
            )
        person = people.setdefault(key, {"id": name, "name": name, "roles": [], "keys": [{"key": key}]})
        if role not in person["roles"]:
            person["roles"].append(role)
    return list(people.values())


def _holder(role: str, path: Path, text: str) -> tuple[str, str]:
    """Person id and key of a public key file; the id is the key comment's name, and empty where it has none."""
    if not path.is_file():
        raise InvalidInput(
            "bad-person",
            f"--person {text}: expected ROLE=KEY.pub with an existing file",
            "Name an SSH public key. Its holder makes one by `ssh-keygen -t ed25519 -C NAME -f FILE`.",
            given=text,
        )
    key_text = path.read_text(encoding="utf-8", errors="replace").strip()
    if "PRIVATE KEY" in key_text or key_text.startswith("PuTTY-User-Key-File"):
        raise InvalidInput(
            "bad-person",
            f"--person {text}: this is a private key",
            f"Name its public half, often {path}.pub.",
            given=text,
        )
    key = public_key(path)
    comment = key_text.split(" ", 2)[2:]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", latin(comment[0].split("@")[0]))[:63].strip("-._") if comment else ""
    return name, key
