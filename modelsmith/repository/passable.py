"""Whether anybody could pass a set. Pure: from its files to what no model can ever pass, and to what is only odd.

Loading asks none of this, so that an unfinished set can be looked at; `validate` and the gate do.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from modelsmith.points.reference import failed_points, needed, right_answers
from modelsmith.points.tokens import tokens
from modelsmith.repository import judge_rules
from modelsmith.repository.document import Location, Problem, first_of, named
from modelsmith.repository.drafts import declared_words
from modelsmith.repository.set_files import SetFiles, Source, Spent
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.generator import Generator
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Scenario

MAX_SCORED = 10**10
"""Letters of references times letters of their rubric that one check of a repository scores: about 20 seconds."""
LONG_PROMPT = 4096
"""Tokens of a prompt, as estimated, from which on a small model may have no room for it."""

_AT = re.compile(r"\$\.([A-Za-z0-9_-]+)")
_Failures = dict[int, list[tuple[Source[Any], str]]]
"""By position of the rubric point: whose reference fails it, and why."""


@dataclass
class Passable:
    """Problems of a set that no model could pass, and what is only odd."""

    never: list[Problem] = field(default_factory=list)
    """Problems with which no model can ever pass."""
    odd: list[Problem] = field(default_factory=list)
    """Somebody may mean it so."""


def passable(files: SetFiles, spent: Spent) -> Passable:
    """What no model can pass in a set whose files have all been read; broken files are skipped."""
    result = Passable()
    evalset, rubric = files.evalset, files.rubric
    if evalset is None:
        return result
    broken = {problem.file for problem in files.problems}
    scenarios = [source for part in files.scenarios.values() for source in part if source.path not in broken]
    if rubric is not None and rubric.path not in broken:
        generators = [generator for generator in files.generators if generator.path not in broken]
        _score(rubric, scenarios, generators, spent, result)
        short = _short_budgets(evalset, rubric.value, scenarios)
        result.never += short.never
        result.odd += short.odd
    result.never += [*_sizes(evalset, files, broken), *_floors(evalset, files, broken), *_one_sided(files)]
    result.odd += first_of(files.folder, _long(evalset.value, scenarios))
    result.odd += _untaught(evalset, files)
    if rubric is not None:
        result.odd += _unpractised(evalset, rubric.value, files)
    return result


def _score(
    rubric: Source[Rubric],
    scenarios: Sequence[Source[Scenario]],
    generators: Sequence[Source[Generator]],
    spent: Spent,
    result: Passable,
) -> None:
    """Every reference is a right answer, so it passes the rubric; a generator's is taught only when it does in full."""
    taught = [(generator, generator.value.first_values()) for generator in generators]
    references = [
        *(scenario.value.reference for scenario in scenarios),
        *(source.value.filled(values) for source, values in taught),
    ]
    spent.scored += len(rubric.value.model_dump_json()) * sum(len(json.dumps(reference)) for reference in references)
    if spent.scored > MAX_SCORED:
        words = "the references are too many, or too long, to be scored by the rubric"
        result.never.append(rubric.problem((), words, "Make either fewer or shorter."))
        return
    scoring = _Scoring(rubric.value)
    failed: _Failures = defaultdict(list)
    for scenario in scenarios:
        answers = right_answers(rubric.value, scenario.value.reference)
        for number, reason in scoring.failed(scenario.value.reference, answers):
            failed[number].append((scenario, reason))
    everywhere = {number for number, whose in failed.items() if len(whose) == len(scenarios) > 1}
    required = needed(rubric.value)
    for number, whose in failed.items():
        side = result.never if rubric.value.points[number].id in required else result.odd
        side += [_wrong_point(rubric, number, *whose[0])] if number in everywhere else _wrong(rubric, number, whose)
    for teacher, values in taught:
        for number, reason in scoring.failed(teacher.value.filled(values), (teacher.value.turn(values),)):
            if number not in everywhere:
                result.never += _wrong(rubric, number, [(teacher, reason)])


class _Scoring:
    """Scores each reference once, however many scenarios share it."""

    def __init__(self, rubric: Rubric) -> None:
        self._rubric = rubric
        self._known: dict[tuple[str, ...], tuple[tuple[int, str], ...]] = {}

    def failed(self, reference: Mapping[str, JsonValue], answers: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
        key = (json.dumps(reference), *answers)
        if key not in self._known:
            try:
                self._known[key] = tuple(failed_points(self._rubric, reference, answers))
            except ModelsmithError:
                self._known[key] = ()  # reference and rubric do not fit, which the set's own check says
        return self._known[key]


def _wrong_point(rubric: Source[Rubric], number: int, first: Source[Any], reason: str) -> Problem:
    name = rubric.value.points[number].id
    return rubric.problem(
        ("points", number, "check"),
        f"no scenario's reference, given as the answer, passes the point '{name}': {reason} (first in {first.path})",
        "Correct the check, or the references: each is a right answer, field by field.",
    )


def _wrong(rubric: Source[Rubric], number: int, whose: Sequence[tuple[Source[Any], str]]) -> list[Problem]:
    name = rubric.value.points[number].id
    return [
        source.problem(
            _place(source, reason),
            f"given as the answer, this reference fails the rubric point '{name}': {reason}",
            "Correct the reference, or the point's check in the rubric.",
        )
        for source, reason in whose
    ]


def _place(source: Source[Any], reason: str) -> Location:
    """The field that a JSON Schema's reason begins with, where it is one of the reference's."""
    at = _AT.match(reason)
    return ("reference", at[1]) if at and at[1] in source.value.reference else ("reference",)


def _short_budgets(evalset: Source[EvalSet], rubric: Rubric, scenarios: Sequence[Source[Scenario]]) -> Passable:
    """Whether the longest right answers fit ``max_new_tokens``: one line about all of them."""
    budget = evalset.value.sampling.max_new_tokens
    answers = [(scenario, right_answers(rubric, scenario.value.reference)[:1]) for scenario in scenarios]
    counted = [(scenario, tokens(answer)) for scenario, texts in answers for answer in texts]
    at: Location = ("sampling", "max_new_tokens")
    cut = [(source, size) for source, size in counted if size.least > budget]
    if cut:
        source, size = max(cut, key=lambda pair: pair[1].least)
        words = f"{_count(len(cut), 'right answer')} of {len(counted)} cannot end within {budget} tokens"
        mend = f"Write {max(size.likely for _, size in counted) * 2} or more."
        return Passable(never=[evalset.problem(at, f"{words}: {source.value.id} takes at least {size.least}", mend)])
    tight = [(source, size) for source, size in counted if size.likely > budget]
    if not tight:
        return Passable()
    source, size = max(tight, key=lambda pair: pair[1].likely)
    words = f"{_count(len(tight), 'right answer')} of {len(counted)} may be cut off at {budget} tokens"
    mend = f"Write {size.likely * 2} or more, unless you know the model's tokenizer to need fewer."
    return Passable(odd=[evalset.problem(at, f"{words}: {source.value.id} takes about {size.likely}", mend)])


def _sizes(evalset: Source[EvalSet], files: SetFiles, broken: set[str]) -> Iterator[Problem]:
    """The rule's least number of scenarios; a file that cannot be read may hold what is missing."""
    if any(path.startswith((f"{files.folder}/scenarios/", f"{files.folder}/held_out/")) for path in broken):
        return
    core, held_out = len(files.scenarios["scenarios"]), len(files.scenarios["held_out"])
    least = evalset.value.decision.min_scenarios
    if core and not held_out:
        words = "the set has no held-out scenario, and without one every verdict is INCONCLUSIVE"
        yield evalset.problem((), words, "Add some under held_out/<capability>/.")
    elif core and min(core, held_out) < least:
        yield evalset.problem(
            ("decision", "min_scenarios"),
            f"{least} core and {least} held-out scenarios are asked for, and there are {core} and {held_out}, so every "
            "verdict is INCONCLUSIVE",
            f"Write more, or lower decision.min_scenarios to {min(core, held_out)} for a first try.",
        )


def _floors(evalset: Source[EvalSet], files: SetFiles, broken: set[str]) -> Iterator[Problem]:
    """A floor of a capability that nobody asks about holds nothing."""
    if any(path.startswith(tuple(f"{files.folder}/{part}/" for part in files.scenarios)) for path in broken):
        return
    capabilities = {source.value.capability for part in files.scenarios.values() for source in part}
    for name in sorted(evalset.value.decision.capability_floors.keys() - capabilities):
        yield evalset.problem(
            ("decision", "capability_floors", name),
            f"no scenario has the capability '{name}'",
            f"Write one of: {named(capabilities)}.",
        )


def _one_sided(files: SetFiles) -> Iterator[Problem]:
    """Kappa cannot rise above 0 where people say one and the same of everything."""
    labels = judge_rules.labels(files)
    if files.evalset is None or (judge := files.evalset.value.judge) is None or labels is None:
        return
    if judge.min_kappa is None or judge.min_kappa <= 0:
        return
    verdicts = {label.verdict for label in labels.value.root}
    if len(verdicts) == 1:
        yield files.evalset.problem(
            ("judge", "min_kappa"),
            f"every answer in {labels.path} is labelled {verdicts.pop()}, so the judge can never reach min_kappa",
            "Label answers of the other kind too: `modelsmith new label`.",
        )


def _long(evalset: EvalSet, scenarios: Sequence[Source[Scenario]]) -> Iterator[Problem]:
    system = tokens(evalset.prompt.system).likely
    for scenario in scenarios:
        value = scenario.value
        *before, last = value.messages
        longest = max((last.content, *value.variants), key=len)
        texts = [*(passage.text for passage in value.context), *(message.content for message in before), longest]
        if sum(map(len, texts)) > LONG_PROMPT and (size := system + sum(tokens(text).likely for text in texts)) > (
            LONG_PROMPT
        ):
            yield scenario.problem(
                ("messages",),
                f"the prompt takes about {size} tokens; a model without room for it ends the eval here",
                "Shorten it, or be sure that every model that is asked has the room.",
            )


def _untaught(evalset: Source[EvalSet], files: SetFiles) -> Iterator[Problem]:
    if any("/generators/" in problem.file for problem in files.problems):
        return
    taught = {generator.value.capability for generator in files.generators}
    capabilities = Counter(source.value.capability for part in files.scenarios.values() for source in part)
    for capability in sorted(capabilities.keys() - taught):
        yield evalset.problem(
            (),
            f"no generator teaches {capability} ({_count(capabilities[capability], 'scenario')}), "
            "so training cannot mend it",
            f"`modelsmith new generator {capability}` writes one.",
        )


def _unpractised(evalset: Source[EvalSet], rubric: Rubric, files: SetFiles) -> Iterator[Problem]:
    """Words that cases have for an answer and that no generator ever answers: a model does not choose such a word."""
    if not files.generators or any("/generators/" in problem.file for problem in files.problems):
        return
    sources = [source.value for part in files.scenarios.values() for source in part]
    for name, words in declared_words(rubric).items():
        answers = Counter(right for scenario in sources if isinstance(right := scenario.reference.get(name), str))
        practised = [source.value.reference[name] for source in files.generators if name in source.value.reference]
        if any(word not in words for word in practised):
            continue  # a slot may come to any of them
        if missing := [word for word in words if answers[word] and word not in practised]:
            right_in = _count(sum(answers[word] for word in missing), "scenario")
            yield evalset.problem(
                (),
                f"no generator answers {name}={'|'.join(missing)} (right in {right_in}), "
                "and a model answers what it has practised",
                f"Write a generator for each: `modelsmith new generator SKILL --answer {name}={missing[0]}`.",
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
