"""How the review packet shows what a candidate was made from, and how its training went. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modelsmith.evidence.markdown import folded, safe, short, table
from modelsmith.evidence.training_curve import StageShown, training_curve
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.curve import Measure, StageCurve
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.figures import format_apart
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.tries import best_of

CURVE: Final = "training.svg"
WITHHELD: Final = "kept for operators by policy"
_SAID: Final[tuple[tuple[Measure, str], ...]] = (
    ("loss", "loss"), ("reward", "sampled reward"), ("held_in", "greedy score held in"), ("kl", "KL"),
)  # fmt: skip


def training_picture(evidence: Evidence) -> str | None:
    """The curve of every stage as SVG text; None where the evidence has none."""
    if not evidence.training.curves:
        return None
    return training_curve(list(_stages(evidence)), f"Training of {_trained(evidence)}")


def training_section(evidence: Evidence) -> str:
    """The curve and what it says, in words; empty where the evidence has none."""
    if not evidence.training.curves:
        return ""
    lines = [f"- {stage.name or evidence.training.method}: {_words(stage.curve)}" for stage in _stages(evidence)]
    curves = "loss, and where answers are rewarded reward, score held in and KL, by step"
    picture = f"![Training of {safe(_trained(evidence))}: {curves}]({CURVE})"
    return "\n\n".join(["### How it was trained", picture, "\n".join(lines)])


def _trained(evidence: Evidence) -> str:
    return evidence.export.parent if evidence.export else evidence.specialist


def _stages(evidence: Evidence) -> Iterator[StageShown]:
    facts = evidence.training
    for curve in facts.curves:
        if not facts.stages:
            yield StageShown("", facts.steps, curve)
        elif curve.stage <= len(facts.stages):
            stage = facts.stages[curve.stage - 1]
            yield StageShown(f"stage {curve.stage} of {len(facts.stages)}, {stage.method}", stage.steps, curve)


def _words(curve: StageCurve) -> str:
    points = {line.measure: line.points for line in curve.lines}
    facts = [
        f"{name} {points[measure][0][1]:.3f} to {points[measure][-1][1]:.3f}"
        for measure, name in _SAID
        if measure in points
    ]
    return ", ".join(facts)


def lineage_section(evidence: Evidence, cluster: Cluster) -> str:
    """From the base model to the candidate, by digests."""
    facts = evidence.training
    generators = ", ".join(f"{name} {short(value)}" for name, value in sorted(facts.generators.items()))
    loss = WITHHELD if facts.final_loss is None else f"{facts.final_loss:.4f}"
    rows = [
        ["", ""],
        *_export_rows(evidence),
        ["base model", f"{facts.base_model}, {safe(cluster.base_model.license)}, {short(facts.base_digest)}"],
        ["trained from", safe(facts.parent)],
        ["method", f"{facts.method}, {facts.steps} steps, seed {facts.seed}, final loss {loss}"],
        *_try_rows(evidence),
        *_quantised_rows(evidence),
        *([["devices", ", ".join(map(str, facts.devices))]] if facts.devices else []),
        ["rows", f"{facts.rows} generated, {short(facts.rows_digest)}"],
        ["generators", generators],
        *_firewall_rows(evidence),
        *_recovery_rows(evidence),
        ["aimed at failures of", f"run {short(facts.diagnosed_run)}"],
        ["reward and eval rubric", f"{short(facts.reward)} and {short(evidence.rubric)}"],
        *_judge_rows(facts),
        ["toolkit", WITHHELD if facts.toolkit is None else safe(facts.toolkit)],
        ["artifact", short(evidence.artifact)],
        ["eval run", f"{short(evidence.candidate.run_id)}, attempt {evidence.attempts}"],
        ["held-out set", f"consulted {evidence.held_out_consulted} times up to this run"],
        ["question", f"core {short(evidence.question.core)}, held-out {short(evidence.question.held_out)}"],
    ]
    return folded("Lineage from base model to candidate", table(rows, "ll"))


def _try_rows(evidence: Evidence) -> list[list[str]]:
    """The trainings that the candidate was chosen from."""
    tries = evidence.training.tries
    if tries is None:
        return []
    best = best_of(tries)
    tried = [
        f"seed {seed_try.seed}: {seed_try.ended if seed_try.held_in is None else f'{seed_try.held_in:.3f}'}"
        + (" (chosen)" if number == best else "")
        for number, seed_try in enumerate(tries.each, start=1)
    ]
    how = f"score held in, on {tries.asked} training prompts set aside, {short(tries.asked_digest)}"
    how += f"; judge {short(tries.judge)}" if tries.judge else ""
    return [["seeds tried", f"{len(tries.each)}; {'; '.join(tried)}"], ["chosen by", how]]


def _firewall_rows(evidence: Evidence) -> Iterator[list[str]]:
    """The firewall's certificate: how near the rows come to each part of what is scored."""
    if evidence.firewall is None:
        return
    for part in evidence.firewall.parts:
        yield [
            f"firewall, {part.part.replace('_', ' ')}",
            f"{part.texts} texts; nearest pair {part.similarity:.2f} alike; "
            f"at most {part.overlap:.1%} of a text's words stand in the rows",
        ]
    for ancestor in evidence.firewall.ancestors:
        alike, words = max(part.similarity for part in ancestor.parts), max(part.overlap for part in ancestor.parts)
        yield [
            f"firewall, rows of {ancestor.specialist}",
            f"which it goes on from: nearest pair {alike:.2f} alike; at most {words:.1%} of a text's words in the rows",
        ]
    if meaning := evidence.firewall.meaning:
        for near in meaning.parts:
            cosine, most = format_apart(near.cosine, near.most_cosine, 4)
            yield [
                f"firewall by meaning, {near.part.replace('_', ' ')}",
                f"nearest pair has cosine {cosine}, and must be below {most}; embedding model {short(meaning.model)}",
            ]


def _quantised_rows(evidence: Evidence) -> list[list[str]]:
    """In which stages the base model was held in 4 bits, where in any."""
    stages = evidence.training.loaded_in_4bit
    if not stages:
        return []
    which = f" in stage {', '.join(map(str, stages))}" if evidence.training.stages else ""
    return [["quantised in training", f"the base model, to 4 bits (NF4){which}; the eval's base model is whole"]]


def _judge_rows(facts: TrainingFacts) -> Iterator[list[str]]:
    """Who decided judged points of rewards and of rows: in all stages one, or each stage's own."""
    for name, first, of_stage in (
        ("judge of the reward", facts.trained_judge, [stage.trained_judge for stage in facts.stages]),
        ("judge of rows", facts.rows_judge, [stage.rows_judge for stage in facts.stages]),
    ):
        if len({*of_stage} - {None}) < 2:
            yield from [[name, short(first)]] if first else []
            continue
        yield from ([f"{name}, stage {at}", short(judge)] for at, judge in enumerate(of_stage, start=1) if judge)


def _recovery_rows(evidence: Evidence) -> list[list[str]]:
    """Failures during its training, and how each was mended."""
    return [
        [
            f"mended in stage {recovery.stage}",
            f"{recovery.failure}: {recovery.action}, {recovery.rows_at_once} rows at once",
        ]
        for recovery in evidence.training.recoveries or ()
    ]


def _export_rows(evidence: Evidence) -> list[list[str]]:
    """What an export is and what it was made from; the training that follows is its parent's."""
    if evidence.export is None:
        return []
    facts = evidence.export
    description = f"{safe(facts.description)}, {facts.export.dtype or 'types of its own'}"
    return [
        ["export", f"{description}: weights that stand alone, evaluated as they are"],
        ["made from", f"artifact {short(facts.export.parent)}, whose training follows"],
        ["made with", WITHHELD if facts.toolkit is None else safe(facts.toolkit)],
    ]
