"""Every governed file of a repository, checked at once: each alone, and all of them together."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from modelsmith.governance.audiences import narrowing_problem
from modelsmith.governance.codeowners import Codeowners, parse
from modelsmith.governance.people import people_problems, unlisted_roles
from modelsmith.governance.person_gates import observers_problem, override_problem, transition_problem
from modelsmith.governance.reserved import why_local
from modelsmith.repository.copies import copies
from modelsmith.repository.document import (
    Location,
    Problem,
    Unreadable,
    decoded,
    dotted,
    first_of,
    hidden_problem,
    meant,
    nearest,
    sight_problems,
)
from modelsmith.repository.forbidden import reserved
from modelsmith.repository.load import find_cluster_problems
from modelsmith.repository.passable import passable
from modelsmith.repository.paths import folder
from modelsmith.repository.private import Scrubber
from modelsmith.repository.router_problems import router_problems
from modelsmith.repository.rubric_slips import MANY
from modelsmith.repository.runnable import not_runnable, odd_window
from modelsmith.repository.set_files import NearestPair, SetFiles, Source, Spent
from modelsmith.repository.sets import misnamed, read_lines, read_set, read_source, unreadable
from modelsmith.repository.tree import Revision, Tree, WorkTree, read_each
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import find_json_problems, find_problems, sort_key
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.catalog import CLUSTER_DEFAULTS, CODEOWNERS, PEOPLE, POLICY, TRUST, Kind, kind_of
from modelsmith.schema.cluster import Cluster, ClusterDefaults, Routing
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy, Private
from modelsmith.schema.pending import Pending
from modelsmith.schema.plaintext import first_hidden
from modelsmith.schema.promotion import PromotionRecord
from modelsmith.schema.router import Router
from modelsmith.schema.scenario import Scenario
from modelsmith.signing.ssh import check_key

T = TypeVar("T", bound=BaseModel)

LONGEST_PEM = 4096
"""Bytes of a trust key's file; a key has fewer than two hundred."""

_MOST_SOUND = 100_000
_sound: set[tuple[str, bytes]] = set()
"""Path and digest of JSON files that this process has found sound: who opens or approves judges main twice."""
_TOPS = ("evals", "clusters", "runbooks", "promotions", ".github")
_SHARED = (CLUSTER_DEFAULTS, PEOPLE, POLICY, CODEOWNERS)
"""Files that others refer to."""
_GOVERNING = (POLICY, PEOPLE, CODEOWNERS)
"""Files that every promotion repository has."""
_SET_FOLDER = re.compile(r"evals/[^/]+/(?!pending/)[^/]+/")
_STRAY = re.compile(r"(evals|clusters|runbooks)(/.+)?|promotions|\.github|\.github/governance/[^/]+\.(ya?ml|json)")
_WELCOME = re.compile(r"(.*/)?(\.gitkeep|\.gitignore|README\.md)|clusters/[^/]+/\.local/.*")
_TRUST = re.compile(rf"{re.escape(TRUST)}/[^/]+\.(pem|json)")


@dataclass(frozen=True)
class Report:
    """What was checked, and everything that is wrong."""

    problems: tuple[Problem, ...]
    """Sorted by file, line and field."""
    files: int
    """Governed files checked."""
    paths: tuple[str, ...]
    """Their paths, sorted."""
    kinds: dict[str, int]
    """How many of them, by kind."""
    nearest: dict[str, NearestPair]
    """By eval set (``<domain>/<set>``): how near its held-out texts come to its core texts."""
    warnings: tuple[Problem, ...] = ()
    """What is only odd, sorted; nothing is refused for it."""
    sets: Mapping[str, SetFiles] = field(default_factory=dict)
    """The eval sets that were read, by name."""


def validate(tree: Tree, paths: Sequence[str] = ()) -> Report:
    """Check every governed file, or only those at or below ``paths``.

    A file is judged together with what it refers to, so a path below an eval set reads the whole set.

    Raises:
        InvalidInput: ``outside-repository``, or ``missing-file`` for a path at which nothing stands.
    """
    wanted = [_inside(tree, path) for path in paths]
    for path in wanted:
        if not tree.paths(path):
            raise InvalidInput("missing-file", f"There is nothing at {path}", "Correct the path.", path=path)
    present = [path for top in _TOPS for path in tree.paths(top)]
    units = {_unit(path) for path in present if not wanted or any(_below(path, one) for one in wanted)}
    governed = {path: kind for path in present if (kind := kind_of(path)) and (_unit(path) in units or path in _SHARED)}
    contents, refused = read_each(tree, [*governed, *(path for path in present if _TRUST.fullmatch(path))])
    problems = [*unreadable(refused.items()), *(_stray(path) for path in present if _is_stray(path))]
    if isinstance(tree, Revision):
        problems += reserved(path for path in (*present, *tree.names("")) if why_local(path))
    everything = set(present)
    if not wanted:
        problems += [_missing(path) for path in _GOVERNING if path not in everything]
    nearest: dict[str, NearestPair] = {}
    sets: dict[str, SetFiles] = {}
    odd: list[Problem] = []
    spent = Spent()
    for set_folder in sorted(unit for unit in units - everything if _SET_FOLDER.fullmatch(f"{unit}/")):
        files = read_set(set_folder, contents, refused, spent)
        found = passable(files, spent)
        problems += [*files.problems, *first_of(set_folder, [*found.never, *copies(files)])]
        sets[set_folder.removeprefix("evals/")] = files
        odd += found.odd
        owned: list[Source[Any]] = [*filter(None, [files.evalset]), *files.rubrics.values(), *files.datasets]
        for source in owned:
            problems += _owners(source, contents)
        if files.nearest:
            nearest[set_folder.removeprefix("evals/")] = files.nearest
    for path, kind in governed.items():
        if path in contents and not _SET_FOLDER.match(path):
            problems += first_of(path, _alone(path, kind, contents, everything))
            odd += _odd_window(path, kind, contents)
    problems = _by_role(problems, contents)
    odd += _shared_keys(contents)
    checked = {path: kind for path, kind in governed.items() if not wanted or any(_below(path, w) for w in wanted)}
    kept, kept_odd = (
        tuple(sorted({one for one in all_ if not wanted or any(_below(one.file, w) for w in wanted)}, key=sort_key))
        for all_ in (problems, odd)
    )
    kinds = Counter(kind.name for kind in checked.values())
    return Report(kept, len(checked), tuple(sorted(checked)), dict(sorted(kinds.items())), nearest, kept_odd, sets)


def _inside(tree: Tree, path: str) -> str:
    if isinstance(tree, WorkTree) and Path(path).is_absolute():
        path = posixpath.relpath(path, tree.root.as_posix())
    plain = posixpath.normpath(path)
    return "" if plain == "." else folder(plain)


def _below(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(f"{top}/")


def _unit(path: str) -> str:
    """What is judged together: an eval set, or the file alone."""
    found = _SET_FOLDER.match(path)
    return found.group().rstrip("/") if found else path


def _is_stray(path: str) -> bool:
    return kind_of(path) is None and bool(_STRAY.fullmatch(path)) and not _WELCOME.fullmatch(path)


def _missing(path: str) -> Problem:
    return Problem(path, None, "", "the file is missing; without it nothing can be decided", "Restore it from git.")


def _stray(path: str) -> Problem:
    mend = (
        "Put scenarios into scenarios/, held_out/ or micro/<capability>/*.yaml, rubrics into rubrics/*.yaml, "
        "generators into generators/*.yaml, data sets into datasets/*.yaml, labelled answers into labels/*.yaml."
    )
    return Problem(
        path,
        None,
        "",
        "no governed file belongs at this path, so nothing would read it",
        mend if path.startswith("evals/") else "Correct its name, or remove it.",
    )


def _alone(path: str, kind: Kind, contents: Mapping[str, bytes], present: Set[str]) -> Iterator[Problem]:
    """Problems of one file outside the eval sets, and of what it refers to."""
    data = contents[path]
    if kind.model is Cluster:
        yield from _cluster(path, contents, present)
    elif kind.model is Policy:
        yield from _policy(path, contents)
    elif kind.model is People:
        yield from _people(path, contents)
    elif kind.format == "codeowners":
        yield from _codeowners(path, contents)
    elif kind.format == "json" and kind.model is not None:
        yield from _json(path, data, kind.model)
    elif kind.model is Pending:
        problems: list[Problem] = []
        for line in read_lines(path, data, Pending, problems):
            if not path.startswith(f"evals/{line.value.set.split('/')[0]}/"):
                yield line.problem(("set",), "the set belongs to another domain", "Move the case there.")
        yield from problems
    elif kind.model is not None:
        source, problems = read_source(path, data, kind.model)
        yield from problems
        if source and isinstance(source.value, Scenario):
            yield from misnamed(source)
        if source and isinstance(source.value, Routing):
            yield from _routing(path, source.value)
        if source and isinstance(source.value, Router):
            yield from router_problems(Source(source.value, source.document), _clusters(present))


def _json(path: str, data: bytes, model: type[BaseModel]) -> Iterator[Problem]:
    """Problems of what a machine wrote: they depend on its path and bytes alone, so a sound file is read once."""
    this = path, hashlib.sha256(data).digest()
    if this in _sound:
        return
    value, problems = find_json_problems(path, data, model)
    if isinstance(value, PromotionRecord):
        problems += _record(path, data, value)
    if not problems and len(_sound) < _MOST_SOUND:
        _sound.add(this)
    yield from problems


def _cluster(path: str, contents: Mapping[str, bytes], present: Set[str]) -> Iterator[Problem]:
    defaults = contents.get(CLUSTER_DEFAULTS)
    if defaults is not None and _parsed(CLUSTER_DEFAULTS, defaults, ClusterDefaults) is None:
        defaults = None
    cluster, problems = find_cluster_problems(path, contents[path], defaults)
    yield from problems
    if cluster is None:
        return
    source = Source(cluster, read_yaml(path, contents[path]))
    if f"evals/{cluster.eval_set}/evalset.yaml" not in present:
        yield source.problem(
            ("eval_set",), f"there is no eval set '{cluster.eval_set}'", meant(cluster.eval_set, _sets(present))
        )
    yield from _owners(source, contents)
    files = [source.document, *([read_yaml(CLUSTER_DEFAULTS, defaults)] if defaults is not None else [])]
    yield from not_runnable(cluster, files)


def _odd_window(path: str, kind: Kind, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    if kind.name != "cluster":
        return
    defaults = contents.get(CLUSTER_DEFAULTS)
    cluster, problems = find_cluster_problems(path, contents[path], defaults)
    if cluster and not problems:
        below = [read_yaml(CLUSTER_DEFAULTS, defaults)] if defaults is not None else []
        yield from odd_window(cluster, [read_yaml(path, contents[path]), *below])


def _clusters(present: Set[str]) -> set[str]:
    return {path.split("/")[1] for path in present if re.fullmatch("clusters/[^/]+/cluster.yaml", path)}


def _sets(present: Set[str]) -> list[str]:
    return [
        path[len("evals/") : -len("/evalset.yaml")]
        for path in present
        if re.fullmatch("evals/[^/]+/[^/]+/evalset.yaml", path)
    ]


def _owners(source: Source[Any], contents: Mapping[str, bytes]) -> Iterator[Problem]:
    """The role that owns a file must be a role of people.yaml."""
    people = _value(PEOPLE, contents, People)
    owner = source.value.owner
    if people and owner not in people.roles:
        yield Unlisted(**vars(source.problem(("owner",), *_no_role(owner, people.roles))), role=owner)


def _routing(path: str, routing: Routing) -> Iterator[Problem]:
    mend = "Restore it from git; promotions write it, never people."
    if routing.cluster != path.split("/")[1]:
        yield Problem(path, None, "cluster", "the cluster is not the folder's name", mend)
    if abs(sum(serving.share for serving in routing.serving) - 1) > 1e-9:
        yield Problem(path, None, "serving", "the shares do not add up to 1", mend)


def _record(path: str, data: bytes, record: PromotionRecord) -> Iterator[Problem]:
    mend = "Restore the file from git; records are written by Modelsmith and never edited."
    if canonical_json(record) != data:
        yield Problem(path, None, "", "the record is not RFC 8785 canonical JSON", mend)
    stated = f"promotions/{record.cluster}/{record.specialist}/{record.sequence:02d}-{record.event}/record.json"
    if stated != path:
        yield Problem(path, None, "", f"the record belongs at {stated}", mend)


def _policy(path: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    policy, problems = read_source(path, contents[path], Policy)
    yield from problems
    people = _value(PEOPLE, contents, People)
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
    seen: set[str] = set()
    for number, transition in enumerate(policy.value.transitions):
        at: Location = ("transitions", number)
        if transition.event in seen:
            yield policy.problem((*at, "event"), f"a second transition for '{transition.event}'", "Keep one of them.")
        seen.add(transition.event)
        problem = transition_problem(transition)
        if problem:
            yield policy.problem(at, problem, "Write the gate's role, and the state that the event is named after.")
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
        elif CODEOWNERS in contents and transition.gate not in _asked(owners, transition.event):
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


def _asked(owners: Codeowners, event: str) -> set[str]:
    """Names that CODEOWNERS asks about an event's folder, without their organisation."""
    asked = owners.owners(f"promotions/cluster/iter-001-00000000/01-{event}/record.json")
    return {owner.removeprefix("@").rpartition("/")[2] for owner in asked}


def _people(path: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    people, problems = read_source(path, contents[path], People)
    yield from problems
    if people is None:
        return
    listed = people.value
    for number, at_role in unlisted_roles(listed):
        role = listed.people[number].roles[at_role]
        place: Location = ("people", number, "roles", at_role)
        yield Unlisted(**vars(people.problem(place, *_no_role(role, listed.roles))), role=role)
    told = {f"has the role '{role}', which is not listed under roles." for one in listed.people for role in one.roles}
    for words in people_problems(listed):
        if words.partition(" ")[2] not in told:
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


def _shared_keys(contents: Mapping[str, bytes]) -> Iterator[Problem]:
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
            held = holders[contents.get(f"{TRUST}/{name}", name.encode())]
            others = sorted({one for one in held if one != harness.id})
            if others:
                signs = any(one.id in others and not one.observer for one in people.value.harness)
                what = "which signs evidence: no observation by it counts" if signs else "so it counts once for both"
                words = f"the key {name} of the observer {harness.id} is also that of {' and '.join(others)}, {what}"
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


def _codeowners(path: str, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    try:
        text = decoded(path, contents[path])
    except Unreadable as error:
        yield from error.problems
        return
    people = _value(PEOPLE, contents, People)
    owners = parse(text)
    broken = {line for line, _ in owners.errors}
    yield from sight_problems(path, text)
    for number, written in enumerate(text.split("\n") if first_hidden(text) else (), start=1):
        if number not in broken and (odd := first_hidden(f"{written}\n")):
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
    known = {person.id for person in people.people} | people.roles.keys()
    logins = {login.lower() for person in people.people for login in person.logins.values()}
    for rule in owners.rules:
        for owner in rule.owners:
            name = owner.removeprefix("@")
            if not owner.startswith("@") or not (name.rpartition("/")[2] in known or name.lower() in logins):
                words = f"{owner} is no role, person or login of people.yaml"
                yield Unlisted(path, rule.line, "", words, meant(name, people.roles, "@"), role=name)


def _value(path: str, contents: Mapping[str, bytes], model: type[T]) -> T | None:
    return _parsed(path, contents[path], model) if path in contents else None


@lru_cache(maxsize=4)
def _parsed(path: str, data: bytes, model: type[T]) -> T | None:
    """A file that many others refer to, read once."""
    return find_problems(path, data, model)[0]


def _no_role(role: str, roles: Mapping[str, str]) -> tuple[str, str]:
    """Message and mend for a role that people.yaml does not list."""
    return f"people.yaml has no role '{role}'", meant(role, roles) if roles else "Add the role there first."


@dataclass(frozen=True)
class Unlisted(Problem):
    """A place that names a role which people.yaml does not list."""

    role: str


def _by_role(problems: Sequence[Problem], contents: Mapping[str, bytes]) -> list[Problem]:
    """Many places that name one unlisted role are one mistake, in people.yaml."""
    named: dict[str, list[Unlisted]] = defaultdict(list)
    for problem in problems:
        if isinstance(problem, Unlisted):
            named[problem.role].append(problem)
    found = [problem for problem in problems if not isinstance(problem, Unlisted)]
    people = read_source(PEOPLE, contents[PEOPLE], People)[0] if named else None
    for role, places in named.items():
        plain = [Problem(one.file, one.line, one.field, one.message, one.mend) for one in places]
        if people is None or len({one.file for one in places}) < MANY:
            found += plain
            continue
        near = nearest(role, people.value.roles)
        where = ", ".join(sorted({f"{one.file}:{one.line}" for one in places})[:3])
        words = f"{len(places)} places name the role '{role}', which is not listed here: {where}, ..."
        at: Location = ("roles", near) if near else ("roles",)
        mend = f"Did you mean '{role}' instead of '{near}'?" if near else f"Add it: {role}: what it decides."
        found.append(Problem(*people.document.key_place(at), dotted(at), words, mend))
    return found
