"""From the names in CODEOWNERS and in signatures to the people they stand for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from modelsmith.governance.names import holders, name_problems
from modelsmith.schema.governance import People, SshKey


class ActorKey(NamedTuple):
    """A public SSH key and whose it is."""

    actor: str
    key: str


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
    matches = {p.id for p in people.people if any(login.lower() == name.lower() for login in p.logins.values())}
    return _without_harnesses(matches, people) if len(matches) == 1 else frozenset()


def is_harness(actor: str, people: People) -> bool:
    """Whether the id is a machine identity, in any case of letters; an id listed as both person and harness is one."""
    return any(harness.id.lower() == actor.lower() for harness in people.harness)


def claimed_actors(names: Iterable[str], people: People) -> frozenset[str]:
    """People whom unauthenticated names (of a commit's author or committer) may mean.

    A claim gives and takes nothing; it is shown to reviewers. It matches an id, a full name, a login, or an e-mail
    address whose local part is one of these, in any case of letters.
    """
    claims = {claim for name in names for claim in (name.strip().lower(), name.strip().lower().partition("@")[0])}
    return frozenset(
        person.id
        for person in people.people
        if claims & {person.id.lower(), person.name.lower(), *(login.lower() for login in person.logins.values())}
    )


def account_holder(people: People, forge: str, login: str, account: int) -> str | None:
    """The one person who has the account and the login at the forge, the login in any case of letters; else None.

    A login alone can be renamed, given up and taken by others; a number alone tells a reader of people.yaml nothing.
    """
    named = [p.id for p in people.people if p.logins.get(forge, "").lower() == login.lower()]
    numbered = [p.id for p in people.people if p.accounts.get(forge) == account]
    if len(named) != 1 or named != numbered or is_harness(named[0], people):
        return None
    return named[0]


def listed_keys(people: People) -> tuple[ActorKey, ...]:
    """Keys of people and harnesses, ended and revoked ones too: who signed is one question, whether it counts another.

    What it takes to count is in `modelsmith.governance.keys`.
    """
    return tuple(ActorKey(actor, key.key) for actor, key in _all_keys(people))


def unlisted_roles(people: People) -> tuple[tuple[int, int], ...]:
    """Roles that somebody has and that are not listed: number of the person, and of the role among theirs."""
    return tuple(
        (number, at)
        for number, person in enumerate(people.people)
        for at, role in enumerate(person.roles)
        if role not in people.roles
    )


def people_problems(people: People) -> tuple[str, ...]:
    """What makes people.yaml ambiguous, in sentences: names that look the same, a shared key, an unlisted role."""
    ids = {holder.id.lower() for holder in holders(people)}
    actors: dict[str, set[str]] = defaultdict(set)
    for actor_id, key in _all_keys(people):
        actors[key.key].add(actor_id)
    accounts: dict[tuple[str, int], set[str]] = defaultdict(set)
    for person in people.people:
        for forge, number in person.accounts.items():
            accounts[forge, number].add(person.id)
    return (
        *name_problems(people),
        *(f"The same SSH key stands under {' and '.join(sorted(a))}." for a in actors.values() if len(a) > 1),
        *(
            f"The same account at {forge} stands under {' and '.join(sorted(a))}."
            for (forge, _), a in accounts.items()
            if len(a) > 1
        ),
        *(
            f"{person.id} has the role '{person.roles[at]}', which is not listed under roles."
            for number, at in unlisted_roles(people)
            for person in (people.people[number],)
        ),
        *(f"'{name}' is both a role and an id." for name in sorted(ids & set(people.roles))),
    )


def _all_keys(people: People) -> Iterable[tuple[str, SshKey]]:
    for holder in holders(people):
        for key in holder.keys:
            yield holder.id, key


def _without_harnesses(actors: Collection[str], people: People) -> frozenset[str]:
    return frozenset(actor for actor in actors if not is_harness(actor, people))
