"""Every governed file of a repository, checked at once: each alone, and all of them together."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from modelsmith.governance.reserved import why_local
from modelsmith.points.format_points import format_points
from modelsmith.repository.bounded import Recent
from modelsmith.repository.copies import copies
from modelsmith.repository.document import (
    Problem,
    first_of,
    nearest_mend,
)
from modelsmith.repository.forbidden import reserved
from modelsmith.repository.governing_files import (
    by_role,
    codeowners_problems,
    owner_problems,
    parsed,
    people_file_problems,
    policy_problems,
    shared_key_problems,
)
from modelsmith.repository.load import find_cluster_problems
from modelsmith.repository.passable import passable
from modelsmith.repository.paths import folder
from modelsmith.repository.router_problems import odd_rules, router_problems
from modelsmith.repository.runnable import not_runnable, odd_gate, odd_window
from modelsmith.repository.set_files import Apart, NearestPair, SetFiles, Source, Spent
from modelsmith.repository.set_rules import misnamed
from modelsmith.repository.sets import read_lines, read_set, read_source, unreadable
from modelsmith.repository.tree import Revision, Tree, WorkTree, read_each
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import find_json_problems, sort_key
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.catalog import CLUSTER_DEFAULTS, CODEOWNERS, PEOPLE, POLICY, TRUST, Kind, kind_of
from modelsmith.schema.cluster import Cluster, ClusterDefaults, Routing
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.pending import Pending
from modelsmith.schema.promotion import PromotionRecord
from modelsmith.schema.router import Router
from modelsmith.schema.scenario import Scenario

T = TypeVar("T", bound=BaseModel)

_sound = Recent[tuple[str, bytes]](100_000)
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
    """Files that were checked, and every problem of them."""

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
    evals: str = ""
    """SHA-256 of all files of eval sets that were read, with their paths."""


def validate(tree: Tree, paths: Sequence[str] = (), apart: Mapping[str, Apart] | None = None) -> Report:
    """Check every governed file, or only those at or below ``paths``.

    A file is judged together with what it refers to, so a path below an eval set reads the whole set. ``apart`` is what
    an earlier check found of eval sets, by their folders; it spares time only, and must come from whom we trust.

    Raises:
        InvalidInput: ``outside-repository``, or ``missing-file`` for a path at which nothing stands.
    """
    below = [_inside(tree, path) for path in paths]
    for path in below:
        if not tree.paths(path):
            raise InvalidInput("missing-file", f"There is nothing at {path}", "Correct the path.", path=path)
    present = [path for top in _TOPS for path in tree.paths(top)]
    units = {_unit(path) for path in present if not below or any(_below(path, place) for place in below)}
    governed = {path: kind for path in present if (kind := kind_of(path)) and (_unit(path) in units or path in _SHARED)}
    contents, refused = read_each(tree, [*governed, *(path for path in present if _TRUST.fullmatch(path))])
    problems = [*unreadable(refused.items()), *(_stray(path) for path in present if _is_stray(path))]
    if isinstance(tree, Revision):
        problems += reserved(path for path in (*present, *tree.names("")) if why_local(path))
    everything = set(present)
    if not below:
        problems += [_missing(path) for path in _GOVERNING if path not in everything]
    sets: dict[str, SetFiles] = {}
    odd: list[Problem] = []
    spent = Spent()
    for set_folder in sorted(unit for unit in units - everything if _SET_FOLDER.fullmatch(f"{unit}/")):
        files = read_set(set_folder, contents, refused, spent, (apart or {}).get(set_folder))
        wrong, odd_here = _about_set(files, contents, spent)
        problems += wrong
        odd += odd_here
        sets[set_folder.removeprefix("evals/")] = files
    for path, kind in governed.items():
        if path in contents and not _SET_FOLDER.match(path):
            problems += first_of(path, _file_problems(path, kind, contents, everything))
            odd += _odd_cluster(path, kind, contents, sets)
            odd += _odd_rules(path, kind, contents)
    problems = by_role(problems, contents)
    odd += shared_key_problems(contents)
    checked = {path: kind for path, kind in governed.items() if not below or any(_below(path, w) for w in below)}
    kinds = Counter(kind.name for kind in checked.values())
    return Report(
        problems=_below_paths(problems, below),
        files=len(checked),
        paths=tuple(sorted(checked)),
        kinds=dict(sorted(kinds.items())),
        nearest={name: files.nearest for name, files in sets.items() if files.nearest},
        warnings=_below_paths(odd, below),
        sets=sets,
        evals=_digest_below("evals/", contents),
    )


def _about_set(files: SetFiles, contents: Mapping[str, bytes], spent: Spent) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with an eval set that was read, and what is only odd."""
    result = passable(files, spent)
    wrong = [*files.problems, *first_of(files.folder, [*result.never, *copies(files)])]
    owned: list[Source[Any]] = [*filter(None, [files.evalset]), *files.rubrics.values(), *files.datasets]
    for source in owned:
        wrong += owner_problems(source, contents)
    return wrong, result.odd


def _below_paths(problems: Iterable[Problem], below: Sequence[str]) -> tuple[Problem, ...]:
    """Those at or below the paths that were asked for, each once, sorted."""
    selected = {problem for problem in problems if not below or any(_below(problem.file, path) for path in below)}
    return tuple(sorted(selected, key=sort_key))


def _digest_below(top: str, contents: Mapping[str, bytes]) -> str:
    hashed = hashlib.sha256()
    for path in sorted(path for path in contents if path.startswith(top)):
        hashed.update(f"{path}\0{hashlib.sha256(contents[path]).hexdigest()}\0".encode())
    return hashed.hexdigest()


def _inside(tree: Tree, path: str) -> str:
    if isinstance(tree, WorkTree) and Path(path).is_absolute():
        path = posixpath.relpath(path, tree.root.as_posix())
    plain = posixpath.normpath(path)
    return "" if plain == "." else folder(plain)


def _below(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(f"{top}/")


def _unit(path: str) -> str:
    """The unit that is judged together: an eval set, or the file alone."""
    match = _SET_FOLDER.match(path)
    return match.group().rstrip("/") if match else path


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


def _file_problems(path: str, kind: Kind, contents: Mapping[str, bytes], present: Set[str]) -> Iterator[Problem]:
    """Problems of one file outside the eval sets, and of what it refers to."""
    data = contents[path]
    if kind.model is Cluster:
        yield from _cluster(path, contents, present)
    elif kind.model is Policy:
        yield from policy_problems(path, contents)
    elif kind.model is People:
        yield from people_file_problems(path, contents)
    elif kind.format == "codeowners":
        yield from codeowners_problems(path, contents)
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
    if not problems:
        _sound.add(this)
    yield from problems


def _cluster(path: str, contents: Mapping[str, bytes], present: Set[str]) -> Iterator[Problem]:
    defaults = contents.get(CLUSTER_DEFAULTS)
    if defaults is not None and parsed(CLUSTER_DEFAULTS, defaults, ClusterDefaults) is None:
        defaults = None
    cluster, problems = find_cluster_problems(path, contents[path], defaults)
    yield from problems
    if cluster is None:
        return
    source = Source(cluster, read_yaml(path, contents[path]))
    if f"evals/{cluster.eval_set}/evalset.yaml" not in present:
        yield source.problem(
            ("eval_set",), f"there is no eval set '{cluster.eval_set}'", nearest_mend(cluster.eval_set, _sets(present))
        )
    yield from owner_problems(source, contents)
    files = [source.document, *([read_yaml(CLUSTER_DEFAULTS, defaults)] if defaults is not None else [])]
    yield from not_runnable(cluster, files)


def _odd_cluster(
    path: str, kind: Kind, contents: Mapping[str, bytes], sets: Mapping[str, SetFiles]
) -> Iterator[Problem]:
    if kind.name != "cluster":
        return
    defaults = contents.get(CLUSTER_DEFAULTS)
    cluster, problems = find_cluster_problems(path, contents[path], defaults)
    if cluster and not problems:
        below = [read_yaml(CLUSTER_DEFAULTS, defaults)] if defaults is not None else []
        files = sets.get(cluster.eval_set)
        rubric = files.rubric.value if files and files.rubric else None
        formats = rubric is None or bool(format_points(rubric.points))
        documents = [read_yaml(path, contents[path]), *below]
        yield from odd_window(cluster, documents, formats)
        if files and files.evalset:
            yield from odd_gate(cluster, documents, files.evalset.value.thresholds)


def _odd_rules(path: str, kind: Kind, contents: Mapping[str, bytes]) -> Iterator[Problem]:
    if kind.model is Router:
        source, problems = read_source(path, contents[path], Router)
        if source and not problems:
            yield from odd_rules(Source(source.value, source.document))


def _clusters(present: Set[str]) -> set[str]:
    return {path.split("/")[1] for path in present if re.fullmatch("clusters/[^/]+/cluster.yaml", path)}


def _sets(present: Set[str]) -> list[str]:
    return [
        path[len("evals/") : -len("/evalset.yaml")]
        for path in present
        if re.fullmatch("evals/[^/]+/[^/]+/evalset.yaml", path)
    ]


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
