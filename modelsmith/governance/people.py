"""From the names in CODEOWNERS and in signatures to the people they stand for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from modelsmith.schema.governance import Harness, People, Person, SshKey


class ActorKey(NamedTuple):
    """A public SSH key, whose it is and when it may sign; the bounds are open when None."""

    actor: str
    key: str
    valid_after: datetime | None
    valid_before: datetime | None


def principals(owner: str, people: People) -> frozenset[str]:
    """Ids of the people whom one owner of a CODEOWNERS line stands for.

    ``@role`` is everyone with the role and ``@organisation/role`` the same (a GitHub team named like the role);
    else ``@person-id``; else ``@login`` at any forge, in any case. The first of these that exists decides. Harnesses,
    e-mail addresses, unknown names and a login that two people share stand for nobody.
    """
    if not owner.startswith("@"):
        return frozenset()
    name = owner[1:]
    role = name.rpartition("/")[2]
    if role in people.roles:
        return _without_harnesses({p.id for p in people.people if role in p.roles}, people)
    if any(p.id == name for p in people.people):
        return _without_harnesses({name}, people)
    holders = {p.id for p in people.people if any(login.lower() == name.lower() for login in p.logins.values())}
    return _without_harnesses(holders, people) if len(holders) == 1 else frozenset()


def is_harness(actor: str, people: People) -> bool:
    """Whether the id is a machine identity, in any case of letters; an id listed as both person and harness is one."""
    return any(harness.id.lower() == actor.lower() for harness in people.harness)


def claimed_actors(names: Iterable[str], people: People) -> frozenset[str]:
    """People whom unauthenticated names (of a commit's author or committer) may mean.

    A claim is enough to keep someone from approving, never to let them: it matches an id, a full name, a login, or an
    e-mail address whose local part is an id or login, in any case of letters.
    """
    claims = {claim for name in names for claim in (name.strip().lower(), name.strip().lower().partition("@")[0])}
    return frozenset(
        person.id
        for person in people.people
        if claims & {person.id.lower(), person.name.lower(), *(login.lower() for login in person.logins.values())}
    )


def allowed_keys(people: People, at: datetime) -> tuple[ActorKey, ...]:
    """Keys of people and harnesses that may sign at this time: what a signature is verified against."""
    return tuple(
        ActorKey(actor, key.key, key.valid_after, key.valid_before)
        for actor, key in _all_keys(people)
        if (key.valid_after is None or key.valid_after <= at) and (key.valid_before is None or at < key.valid_before)
    )


def people_problems(people: People) -> tuple[str, ...]:
    """What makes people.yaml ambiguous, in sentences: an id, login or key that two share, a role that is not listed."""
    everyone: tuple[Person | Harness, ...] = (*people.people, *people.harness)
    ids = [actor.id.lower() for actor in everyone]
    logins = [f"{login.lower()} at {forge}" for actor in everyone for forge, login in actor.logins.items()]
    holders: dict[str, set[str]] = defaultdict(set)
    for actor_id, key in _all_keys(people):
        holders[key.key].add(actor_id)
    return (
        *(f"The id '{name}' stands for more than one person or harness." for name in _repeated(ids)),
        *(f"The login '{name}' stands for more than one person or harness." for name in _repeated(logins)),
        *(f"The same SSH key stands under {' and '.join(sorted(a))}." for a in holders.values() if len(a) > 1),
        *(
            f"{person.id} has the role '{role}', which is not listed under roles."
            for person in people.people
            for role in person.roles
            if role not in people.roles
        ),
        *(f"'{name}' is both a role and an id." for name in sorted(set(ids) & set(people.roles))),
    )


def _all_keys(people: People) -> Iterable[tuple[str, SshKey]]:
    everyone: tuple[Person | Harness, ...] = (*people.people, *people.harness)
    for actor in everyone:
        for key in actor.keys:
            yield actor.id, key


def _without_harnesses(actors: Collection[str], people: People) -> frozenset[str]:
    return frozenset(actor for actor in actors if not is_harness(actor, people))


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for name in names:
        (twice if name in seen else seen).add(name)
    return sorted(twice)
