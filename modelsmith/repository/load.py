"""Governed files of a repository as typed values. Every loader names all mistakes of its files at once.

The values are frozen and follow from the files' bytes alone, so the last ones are kept: who replays a history parses a
file again when it changed, not at every commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel

from modelsmith.governance.codeowners import Codeowners, parse
from modelsmith.repository import judge_rules
from modelsmith.repository.document import Document, Problem, Unreadable
from modelsmith.repository.listing import Entry
from modelsmith.repository.set_files import PARTS, SetFiles
from modelsmith.repository.tree import Revision, Tree, read_each
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import invalid, parse_yaml, sort_key, validate_document, with_model_problems
from modelsmith.schema.base import SLUG
from modelsmith.schema.canonical import parse_canonical
from modelsmith.schema.catalog import CLUSTER_DEFAULTS, CODEOWNERS, PEOPLE, POLICY, ROUTER, kind_of
from modelsmith.schema.cluster import Cluster, ClusterDefaults
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.governed_set import GovernedSet, label_digest
from modelsmith.schema.router import Router

T = TypeVar("T", bound=BaseModel)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")


def load_eval_set(tree: Tree, name: str) -> GovernedSet:
    """Read the eval set ``<domain>/<set>``.

    Raises:
        InvalidInput: ``unknown-set``; ``invalid-file`` with every problem of every file of the set.
    """
    folder = f"evals/{name}"
    if not re.fullmatch(rf"{_NAME.pattern}/{_NAME.pattern}", name) or not tree.exists(f"{folder}/evalset.yaml"):
        split_paths = [path.split("/") for path in tree.paths("evals") if path.endswith("/evalset.yaml")]
        raise _unknown("set", "eval set", name, (f"{parts[1]}/{parts[2]}" for parts in split_paths if len(parts) == 4))
    if isinstance(tree, Revision):
        return _load_set_once(_SetInGit(folder, tuple(tree.entries(folder)), tree))
    return _load_set(tree, folder)


@dataclass(frozen=True)
class _SetInGit:
    """An eval set's folder in some commit; equal to every other with the same content."""

    folder: str
    entries: tuple[tuple[str, Entry], ...]
    tree: Revision = field(compare=False)


@lru_cache(maxsize=16)
def _load_set_once(in_git: _SetInGit) -> GovernedSet:
    return _load_set(in_git.tree, in_git.folder)


def _load_set(tree: Tree, folder: str) -> GovernedSet:
    from modelsmith.repository.sets import read_set  # brings the code that decides points, and few commands read a set

    contents, refused = read_each(tree, [path for path in tree.paths(folder) if kind_of(path)])
    return governed_set(read_set(folder, contents, refused))


def governed_set(files: SetFiles) -> GovernedSet:
    """The eval set that was read.

    Raises:
        InvalidInput: ``invalid-file`` with every problem of every file of the set.
    """
    if files.problems or files.evalset is None or files.rubric is None:
        raise invalid(sorted(set(files.problems), key=sort_key))
    core, micro, held_out = (
        tuple(sorted((source.value for source in files.scenarios[part]), key=lambda item: item.id)) for part in PARTS
    )
    generators = tuple(sorted((source.value for source in files.generators), key=lambda item: item.id))
    named = judge_rules.labels(files)
    labels = tuple(sorted(named.value.root if named else (), key=label_digest))
    return GovernedSet(
        files.evalset.value, files.rubric.value, core, micro, held_out, generators, files.folder, labels,
        round(files.nearest.similarity, 4) if files.nearest else 0.0,
        tuple(sorted((source.value for source in files.datasets), key=lambda item: item.id)),
    )  # fmt: skip


def load_cluster(tree: Tree, name: str) -> Cluster:
    """Read a cluster: ``clusters/defaults.yaml`` with ``clusters/<name>/cluster.yaml`` laid over it, key by key.

    Raises:
        InvalidInput: ``unknown-cluster``; ``invalid-file`` with problems that name the file where the value stands.
    """
    path = f"clusters/{name}/cluster.yaml"
    require_name(tree, name)
    if not tree.exists(path):
        raise _unknown_cluster(tree, name)
    defaults = tree.read(CLUSTER_DEFAULTS) if tree.exists(CLUSTER_DEFAULTS) else None
    return _parse_cluster(path, tree.read(path), defaults)


def require_name(tree: Tree, name: str) -> None:
    """Refuse what cannot be a cluster's name, before anything is named after it.

    Raises:
        InvalidInput: ``unknown-cluster``.
    """
    if not re.fullmatch(SLUG, name):
        raise _unknown_cluster(tree, name)


def _unknown_cluster(tree: Tree, name: str) -> InvalidInput:
    split_paths = [other.split("/") for other in tree.paths("clusters") if other.endswith("/cluster.yaml")]
    return _unknown("cluster", "cluster", name, (parts[1] for parts in split_paths if len(parts) == 3))


@lru_cache(maxsize=64)
def _parse_cluster(path: str, data: bytes, defaults: bytes | None) -> Cluster:
    cluster, problems = find_cluster_problems(path, data, defaults)
    if cluster is None or problems:
        raise invalid(problems)
    return cluster


def find_cluster_problems(path: str, data: bytes, defaults: bytes | None) -> tuple[Cluster | None, list[Problem]]:
    """The merged cluster, or None, and what is wrong with it, defaults included."""
    problems: list[Problem] = []
    own = _document(path, data, Cluster, problems)
    lower = _document(CLUSTER_DEFAULTS, defaults, ClusterDefaults, problems) if defaults is not None else None
    if lower is not None:
        problems += validate_document(lower, ClusterDefaults)[1]
    if own is None or problems:
        return None, problems
    merged = own.over(lower) if lower is not None and isinstance(own.data, dict) else own
    cluster, errors = validate_document(merged, Cluster)
    folder = path.split("/")[-2]
    if cluster is not None and cluster.cluster != folder:
        errors = [
            Problem(
                *own.place(("cluster",)),
                "cluster",
                f"the name is not the folder's, '{folder}'",
                f"Write cluster: {folder}.",
            )
        ]
    if cluster is not None:
        names = [baseline.name for baseline in cluster.baselines]
        names_first = {name: index for index, name in reversed([*enumerate(names)])}
        errors += [
            Problem(
                *own.place(("baselines", index, "name")),
                f"baselines[{index}].name",
                f"'{name}' names an earlier baseline too",
                "Give each baseline a name of its own.",
            )
            for index, name in enumerate(names)
            if names_first[name] != index
        ]
    return cluster, errors


def load_router(tree: Tree) -> Router | None:
    """Read ``clusters/router.yaml``; None where there is none.

    Raises:
        InvalidInput: ``invalid-file``.
    """
    return _parse_router(tree.read(ROUTER)) if tree.exists(ROUTER) else None


@lru_cache(maxsize=8)
def _parse_router(data: bytes) -> Router:
    return parse_yaml(ROUTER, data, Router)


def cluster_names(tree: Tree) -> tuple[str, ...]:
    """Names of all clusters, sorted."""
    return tuple(p.split("/")[1] for p in tree.paths("clusters") if re.fullmatch("clusters/[^/]+/cluster.yaml", p))


def load_policy(tree: Tree) -> Policy:
    """The rules for promotions, from ``.github/governance/policy.yaml``.

    Raises:
        InvalidInput: ``missing-file`` or ``invalid-file``.
    """
    return _parse_policy(tree.read(POLICY))


@lru_cache(maxsize=8)
def _parse_policy(data: bytes) -> Policy:
    return parse_yaml(POLICY, data, Policy)


def load_people(tree: Tree) -> People:
    """People and harnesses, from ``.github/governance/people.yaml``.

    Raises:
        InvalidInput: ``missing-file`` or ``invalid-file``.
    """
    return _parse_people(tree.read(PEOPLE))


@lru_cache(maxsize=8)
def _parse_people(data: bytes) -> People:
    return parse_yaml(PEOPLE, data, People)


def load_codeowners(tree: Tree) -> Codeowners:
    """Read ``.github/CODEOWNERS``; mistakes in it are in ``errors``, as GitHub skips such lines.

    Raises:
        InvalidInput: ``missing-file``, or ``invalid-file`` when it is not UTF-8.
    """
    return _parse_codeowners(tree.read(CODEOWNERS))


@lru_cache(maxsize=8)
def _parse_codeowners(data: bytes) -> Codeowners:
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise invalid([Problem(CODEOWNERS, None, "", "not UTF-8 text", "Save the file as UTF-8.")]) from None


def load_machine_file(tree: Tree, path: str, model: type[T]) -> T:
    """Read a file that a machine wrote: a receipt, training facts, evidence.

    Raises:
        IntegrityFailure: ``bad-file`` unless it is the canonical JSON of a value of this type.
        InvalidInput: ``missing-file``.
    """
    return parse_canonical(path, tree.read(path), model)


def _document(path: str, data: bytes, model: type[T], problems: list[Problem]) -> Document | None:
    try:
        return read_yaml(path, data)
    except Unreadable as error:
        problems += with_model_problems(error, model)
        return None


def _unknown(code: str, kind: str, name: str, choices: Iterable[str]) -> InvalidInput:
    names = sorted(choices)
    return InvalidInput(
        f"unknown-{code}",
        f"There is no {kind} {name!r}",
        f"Choose one of: {', '.join(names)}." if names else f"Add the first {kind}.",
        known=names,
    )
