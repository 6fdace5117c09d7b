"""One eval set's files as typed values, each checked alone and then all together. Pure: from contents to values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, cast

from pydantic import BaseModel

from modelsmith.repository.document import MAX_BYTES, MAX_PROBLEMS, MORE_PROBLEMS, Problem, Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.set_files import Apart, Part, SetFiles, Source, Spent
from modelsmith.repository.set_rules import across
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import validate_document, with_model_problems
from modelsmith.schema.catalog import kind_of
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.generator import Generator
from modelsmith.schema.labels import Labels
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Scenario

T = TypeVar("T", bound=BaseModel)


def read_set(
    folder: str,
    contents: Mapping[str, bytes],
    refused: Mapping[str, ModelsmithError],
    spent: Spent | None = None,
    apart: Apart | None = None,
) -> SetFiles:
    """Read the governed files among ``contents`` that lie below ``folder``, and check each and all of them together.

    ``refused`` are the files that could not be read, and why; ``spent`` is what reading the sets before this one took,
    where many are read at once; ``apart`` is what an earlier reading of this set found, and spares comparing its texts.
    """
    files = SetFiles(folder, apart=apart)
    files.problems += unreadable(path for path in refused.items() if path[0].startswith(f"{folder}/"))
    for path in sorted(contents):
        kind = kind_of(path)
        if kind is None or not path.startswith(f"{folder}/"):
            continue
        if kind.model is EvalSet:
            files.evalset = _read(path, contents[path], EvalSet, files.problems)
        elif kind.model is Rubric and (rubric := _read(path, contents[path], Rubric, files.problems)):
            files.rubrics[path] = rubric
        elif kind.model is Generator and (generator := _read(path, contents[path], Generator, files.problems)):
            files.generators.append(generator)
        elif kind.model is Dataset and (dataset := _read(path, contents[path], Dataset, files.problems)):
            files.datasets.append(dataset)
        elif kind.model is Labels and (labels := _read(path, contents[path], Labels, files.problems)):
            files.labels[path] = labels
        elif kind.model is Scenario:
            part = cast(Part, path.removeprefix(f"{folder}/").split("/")[0])
            if kind.format == "jsonl":
                files.scenarios[part] += read_lines(path, contents[path], Scenario, files.problems)
            elif scenario := _read(path, contents[path], Scenario, files.problems):
                files.scenarios[part].append(scenario)
    files.problems += across(files, spent or Spent())
    return files


def unreadable(refused: Iterable[tuple[str, ModelsmithError]]) -> Iterator[Problem]:
    """Files that could not be read, as problems."""
    return (Problem(path, None, "", error.message, error.mend) for path, error in refused)


def read_source(path: str, data: bytes, model: type[T]) -> tuple[Source[T] | None, list[Problem]]:
    """A YAML file's typed value with its document, or None and what is wrong with it."""
    try:
        document = read_yaml(path, data)
    except Unreadable as error:
        return None, with_model_problems(error, model)
    value, problems = validate_document(document, model)
    return (None if value is None else Source(value, document)), problems


def _read(path: str, data: bytes, model: type[T], problems: list[Problem]) -> Source[T] | None:
    source, errors = read_source(path, data, model)
    problems += errors
    return source


def read_lines(path: str, data: bytes, model: type[T], problems: list[Problem]) -> Iterator[Source[T]]:
    """Values of a JSONL file, one a line; empty lines are skipped."""
    most = len(problems) + MAX_PROBLEMS
    for number, line in enumerate(data.split(b"\n"), start=1):
        if len(problems) > most:
            problems.append(Problem(path, number, "", MORE_PROBLEMS, "Mend those before it first."))
            return
        if len(line) > MAX_BYTES:
            problems.append(Problem(path, number, "", "the line has more than 1 MiB", "Split the scenario."))
        elif line.strip(b" \t\r"):
            try:
                document = read_json(path, line.removesuffix(b"\r"), number)
            except Unreadable as error:
                problems += error.problems
                continue
            value, errors = validate_document(document, model)
            problems += errors
            if value is not None:
                yield Source(value, document)
