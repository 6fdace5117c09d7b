"""A second observer's verdicts: built from runs, recomputed from their rows, and held against the evidence. Pure.

On the evidence's own engine greedy answers repeat, so every verdict must be the same. Elsewhere rounding turns a few
of them, so the policy registers the share that may differ; each model is held to it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evaluation.rows import sorted_rows
from modelsmith.evaluation.tally import tally
from modelsmith.evidence.bundle import Run, keys_of, require_recomputed, require_same_keys
from modelsmith.evidence.markdown import safe
from modelsmith.schema.evidence import Evidence, RunEvidence
from modelsmith.schema.observed import Agreement, Retrained, Retraining, SecondLook, Turned
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.run import EngineFacts, GateRule
from modelsmith.schema.source import Chat

NAMED = 10
"""Scenarios that a sentence names; more are counted, and all are in the data."""


@dataclass(frozen=True)
class TrainedAgain:
    """A second training from the same rows, by an observer."""

    rows: str
    """Digest of the rows."""
    artifact: str
    """Artifact id of what came of it."""
    run: Run | None
    """Its own run; None where it is the very artifact that is observed."""


def second_look(
    observer: str,
    number: int,
    evidence: Evidence,
    digest: str,
    candidate: Run,
    incumbent: Run,
    again: TrainedAgain | None = None,
) -> SecondLook:
    """What the observer signs: its own runs of the evidence's two models, on the evidence's question and rule.

    Args:
        observer: Id of the harness that observed.
        number: Position among its observations of the specialist.
        evidence: What is repeated.
        digest: Digest of its file.
        candidate: The observer's run of the specialist.
        incumbent: The observer's run of the model that regressions are counted against.
        again: The training repeated, where it was.

    Raises:
        IntegrityFailure: ``evidence-does-not-recompute`` when the runs did not ask what the evidence did.
    """
    rule, judge = evidence.rule, candidate.result.judge
    mine, theirs = sorted_rows(candidate.rows), sorted_rows(incumbent.rows)
    engine = candidate.result.engine

    def of(run: Run, facts: RunEvidence) -> RunEvidence:
        against = None if run is incumbent else theirs
        rows = mine if run is candidate else theirs if run is incumbent else sorted_rows(run.rows)
        return RunEvidence(
            run_id=run.result.run_id,
            model=facts.model,
            weights=run.result.weights,
            base=run.result.base,
            rows=rows,
            headline=headline(rows, against, rule, judge),
            engine=None if run.result.engine == engine else run.result.engine,
        )

    look = SecondLook(
        observer=observer,
        number=number,
        cluster=evidence.cluster,
        specialist=evidence.specialist,
        artifact=evidence.artifact,
        evidence=digest,
        question=candidate.result.question,
        engine=engine,
        candidate=of(candidate, evidence.candidate),
        incumbent=of(incumbent, evidence.incumbent),
        judge=judge,
        retraining=Retraining(
            rows=again.rows, artifact=again.artifact, run=of(again.run, evidence.candidate) if again.run else None
        )
        if again
        else None,
    )
    recompute_look(look, evidence)
    return look


def recompute_look(look: SecondLook, evidence: Evidence) -> None:
    """Both models answered exactly what the evidence asked, and every figure follows from the rows by its rule.

    Raises:
        IntegrityFailure: ``evidence-does-not-recompute``, ``rows-disagree`` or ``points-differ``.
    """
    keys = keys_of(evidence.candidate.rows)
    retrained = look.retraining.run if look.retraining else None
    extra = (("retraining", retrained),) if retrained else ()
    for name, run in (("candidate", look.candidate), ("incumbent", look.incumbent), *extra):
        again = keys_of(run.rows)
        require_recomputed(f"{name}.rows", len(run.rows), len(again))
        require_recomputed(f"{name}.rows", again == keys, True)
    judge, rule = look.judge, evidence.rule
    if judge is not None:
        confidence = rule.decision.confidence
        recomputed = agreement(judge.judge, judge.identity, judge.verdicts, confidence, rule.min_kappa)
        require_recomputed("judge", judge, recomputed)
    mine, theirs = look.candidate, look.incumbent
    require_recomputed("candidate.headline", mine.headline, headline(mine.rows, theirs.rows, rule, judge))
    require_recomputed("incumbent.headline", theirs.headline, headline(theirs.rows, None, rule, judge))
    if retrained:
        due = headline(retrained.rows, theirs.rows, rule, judge)
        require_recomputed("retraining.headline", retrained.headline, due)


def compare_look(look: SecondLook, evidence: Evidence, share: float) -> Agreement:
    """Hold an observation against its evidence; whether its figures follow from its rows is for `recompute_look`.

    It disagrees when a model differs on more scenarios than may differ, and when the observer's own verdicts FAIL.
    Where the training was repeated and gave another artifact, that one's verdicts are asked the same, as those of
    another engine are.

    Args:
        look: The observation.
        evidence: What it repeats.
        share: Largest share of a model's scenarios that may differ on another engine.

    Raises:
        IntegrityFailure: ``evidence-does-not-recompute`` for verdicts about other scenarios; ``rows-disagree`` or
            ``points-differ``.
    """
    same = _same_engine(look, evidence)
    limit = 0.0 if same else share
    pairs = ((evidence.candidate, look.candidate), (evidence.incumbent, look.incumbent))
    turned = [tuple(_turned(stated, observed, evidence.rule, exact=same)) for stated, observed in pairs]
    compared = len(tally(evidence.candidate.rows, evidence.rule))
    verdict = look.candidate.headline.verdict
    within = all(len(flips) <= limit * compared for flips in turned)
    retrained = _retrained(look, evidence, share * compared)
    agrees = within and verdict != "FAIL" and (retrained is None or retrained.agrees)
    every = tuple(flip for flips in turned for flip in flips)
    return Agreement(
        observer=look.observer,
        number=look.number,
        agrees=agrees,
        same_engine=same,
        verdict=verdict,
        compared=compared,
        limit=limit,
        turned=every,
        retrained=retrained,
        sentence=_sentence(look, agrees, within, same, compared, limit, every)
        + _of_training(retrained, tries_again(evidence.training)),
    )


def _retrained(look: SecondLook, evidence: Evidence, most: float) -> Retrained | None:
    """``most`` is how many scenarios may differ where the training gave another artifact."""
    if look.retraining is None:
        return None
    if look.retraining.run is None:
        return Retrained(identical=True, agrees=True, turned=())
    turned = tuple(_turned(evidence.candidate, look.retraining.run, evidence.rule, exact=False))
    fails = look.retraining.run.headline.verdict == "FAIL"
    return Retrained(identical=False, agrees=len(turned) <= most and not fails, turned=turned)


def tries_again(training: TrainingFacts) -> str:
    """From what a training was repeated, and how much of it: of several seeds, the chosen one alone."""
    tries = training.tries
    return "from the same rows" + (f", of {len(tries.each)} seeds tried the chosen one alone" if tries else "")


def _of_training(retrained: Retrained | None, how: str) -> str:
    if retrained is None:
        return ""
    if retrained.identical:
        return f"; trained again {how}, it is the very same artifact"
    verb = "agrees" if retrained.agrees else "disagrees"
    text = f"; trained again {how}, it is another artifact, which {verb}: {len(retrained.turned)} verdicts differ"
    return f"{text}{_named(retrained.turned)}"


def observers_section(
    required: int, retrained: int, agreements: Sequence[Agreement], again: Sequence[str], uncounted: Sequence[str]
) -> str:
    """The packet's section on second observers; empty where none is required and none has spoken.

    Args:
        required: Observers that the policy requires.
        retrained: How many of them must have repeated the training.
        agreements: What each came to.
        again: Who repeated the training and came to the same.
        uncounted: What does not count, in sentences.
    """
    if not (required or agreements or uncounted):
        return ""
    agreeing = sum(observed.agrees for observed in agreements)
    requirement = f"the policy requires {required} for this" if required else "the policy requires none"
    lines = ["### Second observers", "", f"{agreeing} agree with the evidence; {requirement}.", ""]
    if retrained or again:
        names = f" ({', '.join(safe(name) for name in again)})" if again else ""
        retrain_requirement = f"the policy requires {retrained}" if retrained else "the policy requires none"
        lines[2:3] = [f"{lines[2]} {len(again)} trained it again from its rows{names}; {retrain_requirement}."]
    lines += [
        f"- {'AGREES' if observed.agrees else '**DISAGREES**'} {safe(observed.sentence)}" for observed in agreements
    ]
    lines += [f"- not counted: {safe(words)}" for words in uncounted]
    return "\n".join(lines).rstrip()


def _sentence(
    look: SecondLook,
    agrees: bool,
    within: bool,
    same: bool,
    compared: int,
    limit: float,
    turned: tuple[Turned, ...],
) -> str:
    where = "on the same engine" if same else f"on another engine ({_engine(look.engine)})"
    verb = "agrees" if agrees else "disagrees"
    count = f"{len(turned)} verdicts differ" if turned else "no verdict differs"
    text = f"{look.observer} {verb} {where}: {count} over {compared} scenarios of each of two models"
    if not same:
        text += f", where {limit:.3f} of them may"
    if within and not agrees:
        text += f"; its own verdicts come to {look.candidate.headline.verdict}"
    return f"{text}{_named(turned)}"


def _named(turned: Sequence[Turned]) -> str:
    if not turned:
        return ""
    names = [f"{flip.model} {flip.section} {flip.id} ({flip.direction})" for flip in turned[:NAMED]]
    rest = f" and {len(turned) - NAMED} more" if len(turned) > NAMED else ""
    return f": {', '.join(names)}{rest}"


def _engine(facts: EngineFacts) -> str:
    return f"{facts.substrate}, {facts.version}, {facts.dtype}, {facts.device}"


def _same_engine(look: SecondLook, evidence: Evidence) -> bool:
    """Whether nothing that can turn a verdict differs, as far as it is recorded."""
    judges = (look.judge.identity if look.judge else None) == (evidence.judge.identity if evidence.judge else None)
    runs = ((look.candidate, evidence.candidate), (look.incumbent, evidence.incumbent))
    return judges and all(
        _with_chat(mine.engine or look.engine) == _with_chat(stated.engine or evidence.engine) for mine, stated in runs
    )


def _with_chat(facts: EngineFacts) -> EngineFacts:
    """Older evidence does not say how the model was spoken to: as everybody was, then."""
    return facts.model_copy(update={"chat": facts.chat or Chat()})


def _turned(stated: RunEvidence, observed: RunEvidence, rule: GateRule, exact: bool) -> Iterator[Turned]:
    """Scenarios that differ; where verdicts must be identical, also those that come to the same by other points.

    Whoever shows a proposal holds an observation against its evidence before anybody has checked it.
    """
    require_same_keys("rows", observed.rows, keys_of(stated.rows))
    theirs = tally(observed.rows, rule)
    for key, entry in tally(stated.rows, rule).items():
        other = theirs[key]
        if entry.passed != other.passed:
            yield Turned(
                model=stated.model, section=entry.section, id=entry.id, direction="lost" if entry.passed else "gained"
            )
        elif exact and entry.points != other.points:
            yield Turned(model=stated.model, section=entry.section, id=entry.id, direction="points")
