"""The files that govern: policy, people and CODEOWNERS, each alone, and the roles that every other file names.

A role that people.yaml does not list is told once, at people.yaml, however many places name it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel

from modelsmith.governance.audiences import narrowing_problem
from modelsmith.governance.codeowners import Codeowners, parse
from modelsmith.governance.people import people_problems, unlisted_roles
from modelsmith.governance.person_gates import observers_problem, override_problem, shadow_problem, transition_problem
from modelsmith.repository.document import (
    Location,
    Problem,
    Unreadable,
    decoded,
    dotted,
    hidden_problem,
    nearest,
    nearest_mend,
    sight_problems,
)
from modelsmith.repository.private import Scrubber
from modelsmith.repository.rubric_slips import MANY
from modelsmith.repository.set_files import Source
from modelsmith.repository.sets import read_source
from modelsmith.repository.yamlfile import find_problems
from modelsmith.schema.catalog import CODEOWNERS, PEOPLE, TRUST
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy, Private
from modelsmith.schema.plaintext import first_hidden
from modelsmith.signing.ssh import check_key

T = TypeVar("T", bound=BaseModel)

LONGEST_PEM = 4096
"""Bytes of a trust key's file; a key has fewer than two hundred."""


def value_of(path: str, contents: Mapping[str, bytes], model: type[T]) -> T | None:
    """A file's value; None where the file is missing or unsound."""
    return parsed(path, contents[path], model) if path in contents else None


@lru_cache(maxsize=4)
def parsed(path: str, data: bytes, model: type[T]) -> T | None:
    """A file that many others refer to, read once."""
    return find_problems(path, data, model)[0]


def owner_problems(source: Source[Any], contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """The role that owns a file must be a role of people.yaml."""
    people = value_of(PEOPLE, contents, People)
    owner = source.value.owner
    if people and owner not in people.roles:
        yield Unlisted(**vars(source.problem(("owner",), *_no_role(owner, people.roles))), role=owner)


def policy_problems(path: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of the policy, and where it does not agree with people.yaml, CODEOWNERS and the trusted roots."""
    policy, problems = read_source(path, contents[path], Policy)
    yield from problems
    people = value_of(PEOPLE, contents, People)
    if policy is None:
        return
    for name, audience in policy.value.audiences.items():
        refused = narrowing_problem(name, audience)
        if refused:
            yield policy.problem(("audiences", name), *refused)
    for name, pattern in policy.value.private.patterns.items():
        try:
            Scrubber(Private(kinds=(), patterns={name: pattern}))
        except ValueError as error:
            yield policy.problem(("private", "patterns", name), str(error), "Write it in RE2's syntax.")
    for listed, workflows in (("keyless", policy.value.keyless), ("attested_forges", policy.value.attested_forges)):
        for number, workflow in enumerate(workflows):
            yield from _root(policy, (listed, number, "trust"), workflow.trust, contents)
    owners = parse(contents.get(CODEOWNERS, b"").decode("utf-8", "replace"))
    events: set[str] = set()
    for number, transition in enumerate(policy.value.transitions):
        at: Location = ("transitions", number)
        if transition.event in events:
            yield policy.problem((*at, "event"), f"a second transition for '{transition.event}'", "Keep one of them.")
        events.add(transition.event)
        problem = transition_problem(transition)
        if problem:
            yield policy.problem(at, problem, "Write the gate's role, and the state that the event is named after.")
        unshadowed = shadow_problem(transition)
        if unshadowed:
            yield policy.problem((*at, "shadow"), unshadowed, "Require it of the deployment instead.")
        unobserved = observers_problem(transition)
        if unobserved:
            yield policy.problem((*at, "observers"), unobserved, "Require them of the deployment instead.")
        unlawful = override_problem(transition)
        if unlawful:
            yield policy.problem((*at, "override"), unlawful, "Name a role in eval-accepted, or remove the line.")
        elif transition.override and people and transition.override not in people.roles:
            words = _no_role(transition.override, people.roles)
            yield Unlisted(**vars(policy.problem((*at, "override"), *words)), role=transition.override)
        if transition.gate == "harness":
            continue
        if people and transition.gate not in people.roles:
            words = _no_role(transition.gate, people.roles)
            yield Unlisted(**vars(policy.problem((*at, "gate"), *words)), role=transition.gate)
        elif CODEOWNERS in contents and transition.gate not in _required_names(owners, transition.event):
            yield policy.problem(
                (*at, "gate"),
                f"CODEOWNERS does not ask '{transition.gate}' about {transition.event}",
                f"Add to CODEOWNERS: /promotions/*/*/*-{transition.event}/ @{transition.gate}",
            )


def _root(policy: Source[Policy], at: Location, name: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """A trusted root that is missing, or is none, would let nobody verify what is signed from then on."""
    from modelsmith.signing.keyless import check_root

    data = contents.get(f"{TRUST}/{name}")
    reason = f"there is no {TRUST}/{name}" if data is None else check_root(data)
    if reason:
        yield policy.problem(at, reason, "Put the instance's trusted_root.json there, as its operators give it out.")


def _required_names(owners: Codeowners, event: str) -> set[str]:
    """Names that CODEOWNERS asks about an event's folder, without their organisation."""
    required = owners.owners(f"promotions/cluster/iter-001-00000000/01-{event}/record.json")
    return {owner.removeprefix("@").rpartition("/")[2] for owner in required}


def people_file_problems(path: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of people.yaml: roles, people and their keys, harnesses and the public keys that they name."""
    people, problems = read_source(path, contents[path], People)
    yield from problems
    if people is None:
        return
    listed = people.value
    for number, at_role in unlisted_roles(listed):
        role = listed.people[number].roles[at_role]
        place: Location = ("people", number, "roles", at_role)
        yield Unlisted(**vars(people.problem(place, *_no_role(role, listed.roles))), role=role)
    reported = {
        f"has the role '{role}', which is not listed under roles." for person in listed.people for role in person.roles
    }
    for words in people_problems(listed):
        if words.partition(" ")[2] not in reported:
            yield Problem(path, None, "", words, "Correct people.yaml.")
    for group in ("people", "harness"):
        for i, holder in enumerate(getattr(people.value, group)):
            for j, key in enumerate(holder.keys):
                try:
                    check_key(key.key)
                except InvalidInput as error:
                    yield people.problem((group, i, "keys", j, "key"), error.message, error.mend)
    for i, harness in enumerate(people.value.harness):
        for j, name in enumerate(harness.trust):
            at: Location = ("harness", i, "trust", j)
            data = contents.get(f"{TRUST}/{name}")
            reason = f"there is no {TRUST}/{name}" if data is None else _key_problem(name, data)
            if reason:
                yield people.problem(at, reason, "Put the public key there as PEM, or remove the name.")


def shared_key_problems(contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """An observer's key that another harness has, too, by name or content: what it signs counts as nobody else's."""
    if PEOPLE not in contents:
        return
    people, _ = read_source(PEOPLE, contents[PEOPLE], People)
    if people is None:
        return
    holders: dict[bytes, list[str]] = {}
    for harness in people.value.harness:
        for name in dict.fromkeys(harness.trust):
            holders.setdefault(contents.get(f"{TRUST}/{name}", name.encode()), []).append(harness.id)
    for i, harness in enumerate(people.value.harness):
        for j, name in enumerate(harness.trust if harness.observer else ()):
            key_holders = holders[contents.get(f"{TRUST}/{name}", name.encode())]
            others = sorted({holder for holder in key_holders if holder != harness.id})
            if others:
                signs = any(holder.id in others and not holder.observer for holder in people.value.harness)
                effect = "which signs evidence: no observation by it counts" if signs else "so it counts once for both"
                words = f"the key {name} of the observer {harness.id} is also that of {' and '.join(others)}, {effect}"
                yield people.problem(("harness", i, "trust", j), words, "Give the observer a key of its own.")


def _key_problem(name: str, data: bytes) -> str:
    """Why the bytes are not one EC P-256 public key and nothing else; empty when they are.

    A reader of the diff takes all of the file for the key; the loader takes the first block and skips the rest.
    """
    from modelsmith.signing.keys import load_public_key, to_pem

    if len(data) > LONGEST_PEM:
        return f"{name} has more than {LONGEST_PEM} bytes"
    try:
        key = load_public_key(data)
    except InvalidInput:
        return f"{name} holds no EC P-256 public key in PEM"
    plain = to_pem(key) == data.replace(b"\r\n", b"\n")
    return "" if plain else f"{name} holds something besides one key, or writes it in another way than OpenSSL does"


def codeowners_problems(path: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of CODEOWNERS: lines that GitHub skips, hidden characters, owners whom people.yaml does not know."""
    try:
        text = decoded(path, contents[path])
    except Unreadable as error:
        yield from error.problems
        return
    people = value_of(PEOPLE, contents, People)
    owners = parse(text)
    broken = {line for line, _ in owners.errors}
    yield from sight_problems(path, text)
    for number, text_line in enumerate(text.split("\n") if first_hidden(text) else (), start=1):
        if number not in broken and (odd := first_hidden(f"{text_line}\n")):
            yield hidden_problem(path, number, "", odd)
    for line, words in owners.errors:
        skipped = owners.loaded or line != owners.errors[-1][0]
        mend = (
            "Correct the line; GitHub skips it as it is." if skipped else "Shorten it; as it is, nobody owns anything."
        )
        if people and (word := re.match("'([^']+)' is not an owner", words)) and word[1] in people.roles:
            mend = f"Write @{word[1]}."
        yield Problem(path, line or None, "", words, mend)
    if people is None:
        return
    names = {person.id for person in people.people} | people.roles.keys()
    logins = {login.lower() for person in people.people for login in person.logins.values()}
    for rule in owners.rules:
        for owner in rule.owners:
            name = owner.removeprefix("@")
            if not owner.startswith("@") or not (name.rpartition("/")[2] in names or name.lower() in logins):
                words = f"{owner} is no role, person or login of people.yaml"
                yield Unlisted(path, rule.line, "", words, nearest_mend(name, people.roles, "@"), role=name)


def _no_role(role: str, roles: Mapping[str, str]) -> tuple[str, str]:
    """Message and mend for a role that people.yaml does not list."""
    return f"people.yaml has no role '{role}'", nearest_mend(role, roles) if roles else "Add the role there first."


@dataclass(frozen=True)
class Unlisted(Problem):
    """A place that names a role which people.yaml does not list."""

    role: str


def by_role(problems: Sequence[Problem], contents: Mapping[str, bytes]) -> list[Problem]:
    """Many places that name one unlisted role are one mistake, in people.yaml."""
    named: dict[str, list[Unlisted]] = defaultdict(list)
    for problem in problems:
        if isinstance(problem, Unlisted):
            named[problem.role].append(problem)
    listed_problems = [problem for problem in problems if not isinstance(problem, Unlisted)]
    people = read_source(PEOPLE, contents[PEOPLE], People)[0] if named else None
    for role, places in named.items():
        plain = [Problem(place.file, place.line, place.field, place.message, place.mend) for place in places]
        if people is None or len({place.file for place in places}) < MANY:
            listed_problems += plain
            continue
        near = nearest(role, people.value.roles)
        where = ", ".join(sorted({f"{place.file}:{place.line}" for place in places})[:3])
        words = f"{len(places)} places name the role '{role}', which is not listed here: {where}, ..."
        at: Location = ("roles", near) if near else ("roles",)
        mend = f"Did you mean '{role}' instead of '{near}'?" if near else f"Add it: {role}: what it decides."
        listed_problems.append(Problem(*people.document.key_place(at), dotted(at), words, mend))
    return listed_problems
