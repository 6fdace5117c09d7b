"""What is asked: which wordings of which scenarios, and how retrieved context is put before the conversation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from modelsmith.evaluation.quick import representative
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.schema.base import Digest, Section
from modelsmith.schema.canonical import digest
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import VerdictRow
from modelsmith.schema.scenario import Message, Passage, Scenario
from modelsmith.substrates.port import Prompt

CONTEXT_FORMAT = "Context ({source}):\n{text}\n\n"
"""One retrieved passage as the model sees it; all of them stand before the first message of the user."""


@dataclass(frozen=True)
class Sample:
    """One completion to be made."""

    section: Section
    scenario: Scenario
    wording: int
    repeat: int

    @property
    def key(self) -> str:
        """``<section>/<scenario>/<wording>/<repeat>``, unique in a run."""
        return f"{self.section}/{self.scenario.id}/{self.wording}/{self.repeat}"

    def prompt(self) -> Prompt:
        """The conversation that a substrate continues."""
        return Prompt(self.key, conversation(self.scenario, self.wording))

    def row(self, scenario: Digest, points: Mapping[str, bool], cut_off: bool) -> VerdictRow:
        """The verdicts on its answer; `scenario` is the digest of what was asked."""
        return VerdictRow(
            section=self.section,
            scenario=scenario,
            id=self.scenario.id,
            capability=self.scenario.capability,
            critical=self.scenario.critical,
            wording=self.wording,
            repeat=self.repeat,
            points=dict(points),
            cut_off=cut_off,
        )


def conversation(scenario: Scenario, wording: int) -> tuple[Message, ...]:
    """The messages of one wording, retrieved context in front.

    Each passage is written as `CONTEXT_FORMAT` says, in order, directly before the text of the first message; if that
    is not the user's, the passages become a user message of their own before it.
    """
    messages = scenario.wordings()[wording]
    context = "".join(map(_rendered, scenario.context))
    first, *rest = messages
    if not context:
        return messages
    if first.role == "user":
        return (Message(role="user", content=context + first.content), *rest)
    return (Message(role="user", content=context.rstrip()), *messages)


def plan(
    governed: GovernedSet, sections: Sequence[Section], quick: bool, only: Collection[str] | None = None
) -> list[Sample]:
    """Every completion of a run, in order; of the scenarios `only`, where they are named by id.

    Core asks each scenario's own wording, robustness the variants of the same scenarios, micro the own wording and all
    variants, held-out what the eval set registers. Quick mode takes a representative part of each section.
    """
    samples = []
    for section in SECTIONS:
        if section not in sections:
            continue
        scenarios = _scenarios(governed, section)
        if quick:
            scenarios = representative(scenarios, governed.evalset.quick.scenarios)
        for scenario in sorted(scenarios, key=lambda item: item.id):
            if only is not None and scenario.id not in only:
                continue
            samples += [
                Sample(section, scenario, wording, repeat)
                for wording in _wordings(governed, section, scenario)
                for repeat in range(governed.evalset.sampling.repeats)
            ]
    return samples


def generation_digest(governed: GovernedSet) -> str:
    """Digest of all that shapes a completion besides the scenario and the model: prompt, sampling, context format."""
    return digest(
        {
            "context": CONTEXT_FORMAT,
            "prompt": governed.evalset.prompt.model_dump(mode="json"),
            "sampling": governed.evalset.sampling.model_dump(mode="json"),
        }
    )


def _rendered(passage: Passage) -> str:
    return CONTEXT_FORMAT.replace("{text}", passage.text, 1).replace("{source}", passage.source, 1)


def _scenarios(governed: GovernedSet, section: Section) -> tuple[Scenario, ...]:
    if section == "held_out":
        return governed.held_out
    return governed.micro if section == "micro" else governed.core


def _wordings(governed: GovernedSet, section: Section, scenario: Scenario) -> range:
    last = len(scenario.variants) + 1
    if section == "core" or (section == "held_out" and governed.evalset.held_out_wordings == "own"):
        return range(1)
    return range(1, last) if section == "robustness" else range(last)
