"""What every ``modelsmith new`` shares: the set that it adds to, and how a file comes into being."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, Field

from modelsmith.governance.codeowners import parse
from modelsmith.operations.contract import Cli, Result
from modelsmith.operations.validate import ProblemView
from modelsmith.repository.drafts import yaml_bytes
from modelsmith.repository.forbidden import reserved, unportable
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.set_files import SetFiles, Source
from modelsmith.repository.sets import read_set
from modelsmith.repository.tree import OverlaidTree, Tree, read_each
from modelsmith.repository.validate import validate
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import find_problems, invalid, parse_yaml
from modelsmith.schema.catalog import CODEOWNERS, PEOPLE
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.governance import People
from modelsmith.schema.progress import Progress
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.steps import step
from modelsmith.signing.files import write_atomically

SetOption = Annotated[
    str | None, Field(description="Eval set, DOMAIN/SET; needed where there are several."), Cli(option="--set")
]
Answer = Annotated[
    tuple[str, ...],
    Field(min_length=1, description="The right answer, FIELD=VALUE. Repeat for each field."),
    Cli(ask=True),
]


class NewResult(Result):
    """Files that were written, and what the set still lacks."""

    files: tuple[str, ...]
    remaining: tuple[ProblemView, ...]
    """What `validate` still says about what the files belong to."""


class OpenSet:
    """An eval set that is being written: whatever else it lacks, it has its rule and its rubric."""

    def __init__(self, workspace: Workspace, set_name: str | None, tree: Tree | None = None) -> None:
        """Read it, from the work tree when no other is given.

        Raises:
            InvalidInput: ``no-set``, ``which-set``, ``unknown-set``; ``invalid-file`` when rule or rubric has mistakes.
        """
        tree = tree or workspace.files
        self.name = named_set(set_names(tree), set_name)
        folder = f"evals/{self.name}"
        contents, refused = read_each(tree, tree.paths(folder))
        self.files: SetFiles = read_set(folder, contents, refused)
        wrong = [p for p in self.files.problems if p.file.endswith("/evalset.yaml") or "/rubrics/" in p.file]
        if self.files.evalset is None or self.files.rubric is None:
            raise invalid(wrong)
        self.evalset: Source[EvalSet] = self.files.evalset
        self.rubric: Rubric = self.files.rubric.value

    @property
    def folder(self) -> str:
        """Its folder in the repository."""
        return self.files.folder

    def scenario_ids(self) -> set[str]:
        """Ids of scenarios that are in use."""
        return {source.value.id for part in self.files.scenarios.values() for source in part}

    def capabilities(self) -> list[str]:
        """Capabilities that its scenarios have."""
        return sorted({source.value.capability for part in self.files.scenarios.values() for source in part})

    def require_capability(self, name: str) -> None:
        """Refuse a skill that no case has: a slip of the pen would begin another.

        Raises:
            InvalidInput: ``unknown-capability``.
        """
        capabilities = self.capabilities()
        if name not in capabilities:
            near = get_close_matches(name, capabilities, n=1)
            begin = step("new capability", {"name": name})
            mend = f"Did you mean '{near[0]}'? Or begin" if near else "Begin"
            raise InvalidInput(
                "unknown-capability",
                f"No scenario has the capability '{name}'",
                f"{mend} it: `{{next}}`.",
                known=capabilities,
            ).then(begin)


def set_names(tree: Tree) -> list[str]:
    """Eval sets of the work tree, as ``<domain>/<set>``."""
    split_paths = (path.split("/") for path in tree.paths("evals"))
    return sorted(f"{parts[1]}/{parts[2]}" for parts in split_paths if len(parts) == 4 and parts[3] == "evalset.yaml")


def named_set(names: list[str], set_name: str | None) -> str:
    """The eval set that is meant: the one given, else the only one.

    Raises:
        InvalidInput: ``no-set``, ``which-set``, ``unknown-set``.
    """
    if not names:
        first = step("new set", {"name": "NAME"})
        raise InvalidInput("no-set", "There is no eval set yet", "Write one first: `{next}`.").then(first)
    if set_name is None and len(names) > 1:
        raise InvalidInput("which-set", "There are several eval sets", f"Add --set, one of: {', '.join(names)}.")
    if set_name is not None and set_name not in names:
        raise InvalidInput(
            "unknown-set",
            f"There is no eval set '{set_name}'",
            f"Write one of: {', '.join(names)}.",
            given=str(set_name),
        )
    return set_name or names[0]


def refuse_draft(model: type[BaseModel], draft: Mapping[str, Any]) -> bytes:
    """Refuse values that no file of this kind could hold, in a draft that still lacks fields.

    Returns:
        The draft as a file.

    Raises:
        InvalidInput: ``invalid-file``, with the first mistake of a field that is there.
    """
    data = yaml_bytes(draft)
    problems = find_problems("draft", data, model)[1]
    wrong = next((p for p in problems if not p.field or p.field.split(".")[0].split("[")[0] in draft), None)
    if wrong:
        raise InvalidInput("invalid-file", wrong.message, wrong.mend, field=wrong.field)
    return data


def owner_of(tree: Tree, path: str, owner_given: str | None) -> str:
    """The role that owns a file to be written: the one given, else the first that CODEOWNERS asks about it.

    Raises:
        InvalidInput: ``unknown-role``.
    """
    roles = parse_yaml(PEOPLE, tree.read(PEOPLE), People).roles
    owners = parse(tree.read(CODEOWNERS).decode("utf-8", "replace")).owners(path)
    owner = owner_given or next((name for login in owners if (name := login.removeprefix("@")) in roles), None)
    if owner not in roles:
        problem = f"There is no role '{owner}'" if owner else f"CODEOWNERS gives {path} to no role"
        raise InvalidInput("unknown-role", problem, f"Add --owner, one of: {', '.join(roles)}.")
    return owner


def write_new(workspace: Workspace, files: Mapping[str, bytes], scope: str) -> NewResult:
    """Write files that are not there yet, or none of them.

    ``scope`` is the folder that they belong to. What it lacks as a whole (`evalset.yaml` says so) is left to do; every
    other mistake that the files would bring is refused.

    Raises:
        InvalidInput: ``exists``; ``invalid-file``; ``link-in-the-way``.
    """
    for path in files:
        if workspace.files.exists(path):
            raise InvalidInput(
                "exists", f"{path} is there already", "Choose another name, or edit the file.", path=path
            )
    names = [*reserved(files), *unportable(files)]
    if names:
        raise invalid(names)
    return _write(workspace, files, scope)


def write_longer(workspace: Workspace, path: str, data: bytes, scope: str) -> NewResult:
    """Write a file over its own beginning; otherwise as `write_new`."""
    return _write(workspace, {path: data}, scope)


def _write(workspace: Workspace, files: Mapping[str, bytes], scope: str) -> NewResult:
    tree = workspace.files
    workspace.notify(Progress("new", f"holds {len(files)} new files against the rest of {scope}"))
    before = {(p.file, p.field, p.message) for p in validate(tree, [scope]).problems} if tree.paths(scope) else set()
    after = validate(OverlaidTree(tree, files), [scope]).problems
    rule = f"{scope}/evalset.yaml"
    caused = [p for p in after if (p.file, p.field, p.message) not in before and p.file != rule]
    if caused:
        raise invalid(caused)
    for number, (path, data) in enumerate(files.items(), start=1):
        workspace.notify(Progress("new", f"writes {path}", number, len(files)))
        target = workspace.root / path
        refuse_links(workspace.root, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)
    return NewResult(files=tuple(files), remaining=tuple(ProblemView(**vars(problem)) for problem in after))
