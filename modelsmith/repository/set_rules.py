"""The rules that hold between the files of one eval set: names, references, rubric points, generators. Pure."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from pydantic import JsonValue

from modelsmith.points.answers import look_up
from modelsmith.points.check import cost, require_comparable, require_usable
from modelsmith.points.patterns import MAX_SIZE
from modelsmith.repository import judge_rules
from modelsmith.repository.document import Location, Problem, first_of, nearest, nearest_mend
from modelsmith.repository.rubric_slips import MANY, RubricSlips, rubric_slips
from modelsmith.repository.separation import MAX_WORDINGS, is_comparable, too_near
from modelsmith.repository.set_files import SetFiles, Source, Spent
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.generator import Generator
from modelsmith.schema.rubric import JudgeCheck, Rubric, RubricPoint
from modelsmith.schema.scenario import Scenario

_BRACED = re.compile(r"\{([^{}\n]*)\}")
"""What an author may have meant as a slot, also where it is not a name; `schema.generator.SLOT` is what gets filled."""


def misnamed(source: Source[Any]) -> Iterator[Problem]:
    """The id of a file must be the file's name."""
    name = posixpath.basename(source.path)
    if name.endswith(".yaml") and name != f"{source.value.id}.yaml":
        yield source.problem(
            ("id",),
            f"the id '{source.value.id}' is not the file's name",
            f"Write id: {name.removesuffix('.yaml')}, or rename the file to {source.value.id}.yaml.",
        )


def across(files: SetFiles, spent: Spent) -> Iterator[Problem]:
    """Every mistake in how the files of a set that was read fit each other; `SetFiles.nearest` is set on the way."""
    scenarios = list(chain.from_iterable(files.scenarios.values()))
    rubric = files.rubric
    if files.evalset:
        yield from _evalset(files.evalset, files)
    else:
        path = f"{files.folder}/evalset.yaml"
        if not any(problem.file == path for problem in files.problems):
            yield Problem(path, None, "", "the eval set has no evalset.yaml", "Add it, or remove the folder.")
    for source in files.rubrics.values():
        yield from first_of(source.path, _rubric(source, spent))
    slips = rubric_slips(rubric, scenarios, files.generators) if rubric else RubricSlips()
    yield from slips.problems
    moved = list(_moved(scenarios))
    yield from (problem for problem, _ in moved)
    folders = {folder for _, folder in moved}
    for scenario in scenarios:
        problems_here = _scenario(scenario, rubric.value if rubric else None, slips)
        implied = posixpath.dirname(scenario.path) in folders
        yield from first_of(
            scenario.path, (problem for problem in problems_here if not (implied and problem.field == "capability"))
        )
    yield from _repeated_ids(scenarios)
    capabilities = {scenario.value.capability for scenario in scenarios}
    for generator in files.generators:
        problems_here = _generator(generator, rubric.value if rubric else None, capabilities, slips)
        yield from first_of(generator.path, problems_here)
    for dataset in files.datasets:
        yield from misnamed(dataset)
        about = dataset.value.capability
        if about is not None and about not in capabilities:
            words = f"no scenario has the capability '{about}'"
            yield dataset.problem(("capability",), words, nearest_mend(about, capabilities))
    yield from first_of(files.folder, judge_rules.problems(files))
    if files.evalset:
        yield from too_near(files, files.evalset.value.separation.held_out_to_core, spent)


def _evalset(evalset: Source[EvalSet], files: SetFiles) -> Iterator[Problem]:
    domain, name = files.folder.split("/")[-2:]
    if evalset.value.id != name:
        yield evalset.problem(("id",), f"the id is not the folder's name '{name}'", f"Write id: {name}.")
    if evalset.value.domain != domain:
        yield evalset.problem(
            ("domain",), f"the domain is not the folder's name '{domain}'", f"Write domain: {domain}."
        )
    path = posixpath.normpath(f"{files.folder}/{evalset.value.rubric}")
    if files.rubric is None and not any(problem.file == path for problem in files.problems):
        yield evalset.problem(
            ("rubric",),
            f"there is no rubric at {path}",
            "Name a file under rubrics/, for example rubrics/quality.yaml.",
        )
    if not files.scenarios["scenarios"] and not any("/scenarios/" in problem.file for problem in files.problems):
        yield evalset.problem(
            (), "the set has no core scenario", "`modelsmith new capability NAME` writes a skill's first two cases."
        )
    yield from _weights(evalset, files)


def _weights(evalset: Source[EvalSet], files: SetFiles) -> Iterator[Problem]:
    """A weight on a section that asks nothing would keep every model from ever clearing the gate."""
    core, weights = files.scenarios["scenarios"], evalset.value.composite
    if not (weights.core or weights.robustness or weights.micro):
        yield evalset.problem(("composite",), "no part of the composite has a weight", "Give core a weight.")
    unreadable_parts = {problem.file.removeprefix(f"{files.folder}/").split("/")[0] for problem in files.problems}
    if (
        weights.robustness
        and core
        and not any(source.value.variants for source in core)
        and "scenarios" not in unreadable_parts
    ):
        yield evalset.problem(
            ("composite", "robustness"),
            "robustness has a weight, and no core scenario has variants",
            "Write variants, or weigh it 0.",
        )
    if weights.micro and not files.scenarios["micro"] and "micro" not in unreadable_parts:
        yield evalset.problem(
            ("composite", "micro"),
            "micro has a weight, and the set has no micro-benchmark",
            "Add one under micro/<capability>/, or weigh it 0.",
        )


def _rubric(rubric: Source[Rubric], spent: Spent) -> Iterator[Problem]:
    yield from misnamed(rubric)
    yield from _twice(rubric, ("points",), [point.id for point in rubric.value.points], "point")
    for number, point in enumerate(rubric.value.points):
        at: Location = ("points", number, "check")
        expected = getattr(point.check, "expected", None)
        if expected is not None and not expected.model_fields_set:
            yield rubric.problem(
                (*at, "expected"), "nothing is expected", "Add reference: <field>, or value: <literal>."
            )
        if spent.steps > MAX_SIZE:
            yield rubric.problem(at, "the patterns of the rubrics take too long to compile", "Shorten or remove some.")
            return
        if reason := _useless(point, spent):
            part = {"bad-pattern": ("pattern",), "bad-schema": ("schema",)}.get(reason.code, ("expected",))
            yield rubric.problem((*at, *part), reason.message, reason.mend)


def _useless(point: RubricPoint, spent: Spent) -> ModelsmithError | None:
    """Why scoring could not use the point, whatever the scenario; a judge is found elsewhere."""
    expected = getattr(point.check, "expected", None)
    try:
        if not isinstance(point.check, JudgeCheck):
            require_usable(point)
            spent.steps += cost(point)
        if expected is not None and expected.reference is None and expected.model_fields_set:
            require_comparable(point, {})
    except ModelsmithError as error:
        return error
    return None


def _moved(scenarios: Sequence[Source[Scenario]]) -> Iterator[tuple[Problem, str]]:
    """A folder that was renamed, or its scenarios' capability: one mistake, with the folder."""
    by_folder: dict[str, list[Source[Scenario]]] = defaultdict(list)
    for scenario in scenarios:
        by_folder[posixpath.dirname(scenario.path)].append(scenario)
    for folder, inside in by_folder.items():
        name, capabilities = posixpath.basename(folder), {source.value.capability for source in inside}
        if len(inside) >= MANY and len(capabilities) == 1 and name not in capabilities:
            words = f"all {len(inside)} scenarios of this folder have the capability '{min(capabilities)}'"
            mend = f"Rename the folder to {min(capabilities)}/, or write capability: {name} in each."
            yield inside[0].problem(("capability",), words, mend), folder


def _scenario(scenario: Source[Scenario], rubric: Rubric | None, slips: RubricSlips) -> Iterator[Problem]:
    value = scenario.value
    folder = posixpath.basename(posixpath.dirname(scenario.path))
    yield from misnamed(scenario)
    if value.capability != folder:
        yield scenario.problem(
            ("capability",),
            f"the capability '{value.capability}' is not the folder's name",
            f"Write capability: {folder}, or move the file to {value.capability}/.",
        )
    if value.messages[-1].role != "user":
        last = len(value.messages) - 1
        yield scenario.problem(
            ("messages", last, "role"),
            "the last message is not the user's",
            "End the conversation with a role: user message.",
        )
    if not is_comparable(value):
        yield scenario.problem(
            ("variants",),
            f"the wordings together, each with the messages before it, have more than {MAX_WORDINGS} letters",
            "Shorten the earlier messages, or write fewer variants.",
        )
    yield from _twice(scenario, ("criteria",), [criterion.point for criterion in value.criteria], "criterion for")
    if rubric is None:
        return
    points = {point.id for point in rubric.points}
    for number, criterion in enumerate(value.criteria):
        if criterion.point not in points | slips.points:
            yield _unknown_point(scenario, ("criteria", number, "point"), criterion.point, points)
    yield from _references(scenario, value.reference, rubric, slips)


def _generator(
    generator: Source[Generator], rubric: Rubric | None, capabilities: set[str], slips: RubricSlips
) -> Iterator[Problem]:
    value = generator.value
    yield from misnamed(generator)
    yield from _twice(generator, ("templates",), [template.id for template in value.templates], "template")
    if value.capability not in capabilities:
        yield generator.problem(
            ("capability",),
            f"no scenario has the capability '{value.capability}'",
            nearest_mend(value.capability, capabilities),
        )
    used: set[str] = set()
    misspelt: set[str] = set()
    for number, template in enumerate(value.templates):
        names = _BRACED.findall(template.user)
        used.update(names)
        for name in sorted(set(names) - value.slots.keys()):
            near = nearest(name, value.slots)
            misspelt |= {near} if near else set()
            yield generator.problem(
                ("templates", number, "user"),
                f"the slot {{{name}}} is not declared",
                f"Did you mean {{{near}}}?" if near else f"Add '{name}' under slots, or correct its name.",
            )
    for name in value.slots:
        if name not in used | misspelt:
            yield generator.problem(("slots", name), f"no template uses the slot '{name}'", "Use it, or remove it.")
    yield from _places_are_shown(generator)
    if rubric is None:
        return
    points = {point.id for point in rubric.points}
    for number, point in enumerate(value.points):
        if point not in points | slips.points:
            yield _unknown_point(generator, ("points", number), point, points)
    yield from _references(generator, value.filled(value.first_values()), rubric, slips)


def _places_are_shown(generator: Source[Generator]) -> Iterator[Problem]:
    """What the right answer says must stand in the note, or the model would learn to guess it."""
    value = generator.value
    at: Location = ("answer",) if value.answer is not None else ("reference",)
    for name in sorted(value.places()):
        if name not in value.slots:
            yield generator.problem(
                at, f"the right answer names a slot {{{name}}} that is not declared", f"Add '{name}' under slots."
            )
            continue
        for number, template in enumerate(value.templates):
            if f"{{{name}}}" not in template.user:
                yield generator.problem(
                    ("templates", number, "user"),
                    f"the right answer says {{{name}}}, which this text does not tell",
                    f"Write {{{name}}} into it, or leave it out of the answer.",
                )


def _references(
    source: Source[Any], reference: Mapping[str, JsonValue], rubric: Rubric, slips: RubricSlips
) -> Iterator[Problem]:
    """Reasons why a point cannot be compared with this reference."""
    compared = {getattr(getattr(point.check, "expected", None), "reference", None) for point in rubric.points}
    for point in rubric.points:
        path = getattr(getattr(point.check, "expected", None), "reference", None)
        if path is None or path in slips.paths:
            continue
        if not look_up(dict(reference), path)[1]:
            spare = [name for name in reference if name not in compared]
            near = nearest(path, spare)
            yield source.problem(
                ("reference", near) if near else ("reference",),
                f"the rubric point '{point.id}' looks for '{path}', which is not in the reference",
                f"Write {path} instead of {near}." if near else f"Add {path} to the reference.",
            )
            continue
        try:
            require_comparable(point, reference)
        except ModelsmithError as error:
            yield source.problem(("reference", *path.split(".")), error.message, error.mend)


def _unknown_point(source: Source[Any], at: Location, name: str, points: set[str]) -> Problem:
    return source.problem(at, f"the rubric has no point '{name}'", nearest_mend(name, points))


def _twice(source: Source[Any], at: Location, names: Sequence[str], kind: str) -> Iterator[Problem]:
    seen_names: set[str] = set()
    for number, name in enumerate(names):
        if name in seen_names:
            yield source.problem((*at, number), f"there is a second {kind} '{name}'", "Remove it, or rename one.")
        seen_names.add(name)


def _repeated_ids(scenarios: Iterable[Source[Scenario]]) -> Iterator[Problem]:
    by_id: dict[str, list[Source[Scenario]]] = defaultdict(list)
    for scenario in scenarios:
        if not any(misnamed(scenario)):
            by_id[scenario.value.id].append(scenario)
    for name, (first, *others) in by_id.items():
        for other in others:
            yield other.problem(
                ("id",), f"the id '{name}' is taken by {first.path}", "Give it an id that is unique in the eval set."
            )
