"""The rules that hold between an eval set's judge, its rubric and the answers that people labelled. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from modelsmith.repository.document import Problem, named
from modelsmith.repository.set_files import SetFiles, Source
from modelsmith.schema.catalog import kind_of
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.labels import Labels
from modelsmith.schema.rubric import JudgeCheck, Rubric


def labels(files: SetFiles) -> Source[Labels] | None:
    """The labelled answers that ``evalset.yaml`` names."""
    path = _named(files)
    return files.labels.get(path) if path else None


def problems(files: SetFiles) -> Iterator[Problem]:
    """Contradictions between judge, rubric and labels."""
    evalset, rubric = files.evalset, files.rubric
    if evalset is None:
        return
    if evalset.value.judge is None and rubric is not None:
        for number, point in enumerate(rubric.value.points):
            if isinstance(point.check, JudgeCheck):
                yield rubric.problem(
                    ("points", number, "check", "type"),
                    f"a judge decides the point '{point.id}', and evalset.yaml names none",
                    "Add judge: to evalset.yaml, or choose another check.",
                )
    elif evalset.value.judge is not None:
        yield from _judge(files, evalset)
    for path in files.labels.keys() - {_named(files)}:
        yield Problem(
            path, None, "", "evalset.yaml does not name these labels, so nothing would read them",
            "Name the file as judge.labels, or remove it.",
        )  # fmt: skip


def _judge(files: SetFiles, evalset: Source[EvalSet]) -> Iterator[Problem]:
    judge = evalset.value.judge
    assert judge is not None
    sources = [name for name in ("base_model", "endpoint") if getattr(judge, name) is not None]
    if len(sources) != 1:
        message = "the judge has a base model and an endpoint" if sources else "nothing says where the judge comes from"
        mend = "Keep one of them." if sources else "Add base_model: (pinned weights) or endpoint: (a server)."
        yield evalset.problem(("judge",), message, mend)
    if files.rubric is not None and not _judged(files.rubric.value):
        yield evalset.problem(
            ("judge",), "no point of the rubric is judged", "Give a point the check type judge, or remove the judge."
        )
    path = _named(files)
    if path is None:
        if judge.min_kappa is not None:
            yield evalset.problem(
                ("judge", "min_kappa"),
                "agreement is asked for, and nothing says what people decide",
                "Add labels: labels/<name>.yaml, or remove min_kappa.",
            )
        return
    kind = kind_of(path)
    if kind is None or kind.model is not Labels or not path.startswith(f"{files.folder}/"):
        yield evalset.problem(
            ("judge", "labels"),
            "the path is no labels file of this set",
            "Name a file under labels/, for example labels/judge.yaml.",
        )
    elif path in files.labels:
        yield from _labels(files, files.labels[path])
    elif not any(problem.file == path for problem in files.problems):
        mend = "Write its first label with `modelsmith new label SCENARIO`, or correct the name."
        yield evalset.problem(("judge", "labels"), f"there is no file {path}", mend)


def _labels(files: SetFiles, source: Source[Labels]) -> Iterator[Problem]:
    scenarios = {case.value.id for part in files.scenarios.values() for case in part}
    complete = not any(
        problem.file.startswith(tuple(f"{files.folder}/{part}/" for part in files.scenarios))
        for problem in files.problems
    )
    judged = _judged(files.rubric.value) if files.rubric else None
    first_lines: dict[tuple[str, str, str], int] = {}
    for number, label in enumerate(source.value.root):
        if complete and label.scenario not in scenarios:
            yield source.problem(
                (number, "scenario"),
                f"the set has no scenario '{label.scenario}'",
                "Write the id of one of its scenarios.",
            )
        if judged is not None and label.point not in judged:
            mend = f"Write one of: {named(judged)}." if judged else "Give the point the check type judge."
            yield source.problem((number, "point"), f"no judge decides a point '{label.point}'", mend)
        first = first_lines.setdefault((label.scenario, label.point, label.answer.strip()), number)
        if first != number:
            line = source.document.place((first,)).line
            yield source.problem(
                (number,), f"this answer is labelled twice (first on line {line})", "Keep one of them."
            )


def _named(files: SetFiles) -> str | None:
    judge = files.evalset.value.judge if files.evalset else None
    return (
        posixpath.normpath(posixpath.join(files.folder, judge.labels)) if judge and judge.labels is not None else None
    )


def _judged(rubric: Rubric) -> list[str]:
    return [point.id for point in rubric.points if isinstance(point.check, JudgeCheck)]
