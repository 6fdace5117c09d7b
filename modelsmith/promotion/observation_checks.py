"""What the harness checks about an observation before anyone may merge it. The proposal is read as data.

Nobody needs to agree with an observation for it to come onto main: one that disagrees is what observers are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from modelsmith.evidence.sanitise import assert_clean
from modelsmith.evidence.second_look import compare_look, recompute_look, tries_again
from modelsmith.governance.audiences import for_reviewers
from modelsmith.governance.gate import CheckResult
from modelsmith.governance.observed import ObservedFolder, observed_in, observed_path
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.observers import next_number, read_look, unseal_look
from modelsmith.promotion.proposed import refuse
from modelsmith.repository.document import Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence
from modelsmith.schema.observed import OBSERVATION_FILE, OBSERVATION_SIGNATURE, SecondLook
from modelsmith.schema.plaintext import first_unwelcome
from modelsmith.schema.pull import Change
from modelsmith.schema.run import EngineFacts
from modelsmith.signing.dsse import peek


@dataclass(frozen=True)
class _Proposed:
    """An observation as proposed, beside the evidence that it repeats."""

    main: GovernedState
    tree: Revision
    change: Change
    folder: ObservedFolder
    look: SecondLook
    history: SpecialistHistory
    evidence: Evidence
    digest: str
    """Digest of the evidence's file."""


def observation_checks(main: GovernedState, tree: Revision, change: Change, merging: bool) -> tuple[CheckResult, ...]:
    """Every check, each with its sentence; the first line says what could not even be read.

    Args:
        main: What governs.
        tree: Tree that main would have after the merge.
        change: What the merge changes; it brings an observation.
        merging: Whether what history is not asked again is asked: leaks, and how people's readers read it.
    """
    try:
        proposed = _read(main, tree, change)
    except ModelsmithError as error:
        return (CheckResult("observation", False, error.message),)
    return tuple(_run(name, check, proposed) for name, check in _checks(merging, proposed.look.retraining is not None))


def _read(main: GovernedState, tree: Revision, change: Change) -> _Proposed:
    folder = observed_in(change)
    assert folder
    history = main.histories.find(folder.specialist)
    refuse(history.cluster != folder.cluster, "the specialist belongs to another cluster")
    evidence = evidence_of(main, history)
    accepted = next(record for record in history.records if record.event == "eval-accepted")
    digest = sha256(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_FILE}"))
    return _Proposed(main, tree, change, folder, read_look(tree, folder), history, evidence, digest)


def _checks(merging: bool, training: bool) -> Iterator[tuple[str, Callable[[_Proposed], str]]]:
    yield "observation", _place
    yield "observer", _observer
    yield "subject", _subject
    yield "engine", _engine
    if training:
        yield "retraining", _retraining
    yield "verdicts", _verdicts
    if merging:
        yield "plain", _plain
        yield "leaks", _leaks


def _run(name: str, check: Callable[[_Proposed], str], proposed: _Proposed) -> CheckResult:
    try:
        return CheckResult(name, True, check(proposed))
    except ModelsmithError as error:
        return CheckResult(name, False, error.message)


def _place(proposed: _Proposed) -> str:
    """Exactly its two files, and the observer's next number: an observation is handed in once."""
    where = observed_path(*proposed.folder)
    touched = {path.path for path in proposed.change.paths}
    due = {f"{where}/{name}" for name in (OBSERVATION_FILE, OBSERVATION_SIGNATURE)}
    refuse(touched != due, f"an observation is {OBSERVATION_FILE} and its signature, and nothing else")
    number = next_number(proposed.main, proposed.history, proposed.folder.observer)
    refuse(proposed.folder.number != number, f"the next observation of {proposed.folder.observer} has number {number}")
    size = sum(len(proposed.tree.read(path)) for path in due)
    refuse(size > proposed.main.policy.limits.evidence_bytes, "it is larger than policy allows for evidence")
    return f"{where} is canonical and named as it says"


def _observer(proposed: _Proposed) -> str:
    unseal_look(proposed.main, proposed.tree, proposed.folder, proposed.look)
    return f"signed by a key that main lists for {proposed.look.observer}, which signs nothing else"


def _subject(proposed: _Proposed) -> str:
    """It repeats this very evidence: same artifact, same question, same incumbent, bit for bit."""
    look, evidence = proposed.look, proposed.evidence
    refuse(look.artifact != proposed.history.artifact, "it observed another artifact")
    refuse(look.evidence != proposed.digest, "it repeats other evidence than main's")
    refuse(look.question != evidence.question, "it answered another question than the evidence")
    for name, mine, stated in (
        ("specialist", look.candidate, evidence.candidate),
        ("incumbent", look.incumbent, evidence.incumbent),
    ):
        same = (mine.model, mine.weights, mine.base) == (stated.model, stated.weights, stated.base)
        refuse(not same, f"it asked other weights than the evidence's {name}")
    return f"the evidence of {look.specialist}, its artifact and its question"


def _engine(proposed: _Proposed) -> str:
    """Pinned weights on a machine: a server's word about its own model is not an observation of the artifact."""
    look = proposed.look
    again = look.retraining.run.engine if look.retraining and look.retraining.run else None
    for facts in (look.engine, look.candidate.engine or look.engine, look.incumbent.engine or look.engine):
        refuse(not _pinned(facts), "the engine's facts are not those of pinned weights")
    refuse(look.candidate.engine is not None or again is not None, "the specialist's engine is told twice")
    return f"{look.engine.substrate} in {look.engine.dtype} on {look.engine.device}"


def _retraining(proposed: _Proposed) -> str:
    """The very rows that the training statement names, and verdicts of what came of them unless it is the artifact."""
    look, evidence = proposed.look, proposed.evidence
    again = look.retraining
    assert again
    refuse(proposed.history.is_export, "an export is not trained; its training is its parent's")
    refuse(again.rows != evidence.training.rows_digest, "it trained on other rows than the specialist's")
    same = again.artifact == proposed.history.artifact
    refuse(same != (again.run is None), "verdicts are due of what it trained exactly where that is another artifact")
    how = tries_again(evidence.training)
    if again.run is None:
        return f"trained again {how}, the same artifact came of it"
    facts = (again.run.model, again.run.weights, again.run.base)
    due = (evidence.candidate.model, again.artifact, evidence.candidate.base)
    refuse(facts != due, "its verdicts are not of what it trained")
    return f"trained again {how}, another artifact came of it: {again.artifact}"


def _pinned(facts: EngineFacts) -> bool:
    named = " " in facts.version and not facts.omitted
    return named and facts.weights == "pinned" and facts.device != "remote" and facts.dtype != "unknown"


def _verdicts(proposed: _Proposed) -> str:
    """Every figure recomputes; the sentence says what it comes to beside the evidence, whichever way."""
    look, evidence, main = proposed.look, proposed.evidence, proposed.main
    refuse(
        for_reviewers(look, main.policy.audiences) != look, f"{OBSERVATION_FILE} shows what policy keeps for operators"
    )
    stated, observed = evidence.judge, look.judge
    labels = [
        sorted((verdict.label, verdict.point, verdict.person) for verdict in j.verdicts) if j else None
        for j in (stated, observed)
    ]
    refuse(labels[0] != labels[1], "its judge was measured on other labels than the evidence's")
    refuse(
        (stated.judge if stated else None) != (observed.judge if observed else None),
        "another judge decided its verdicts",
    )
    recompute_look(look, evidence)
    return compare_look(look, evidence, main.policy.observer_flips).sentence


def _plain(proposed: _Proposed) -> str:
    """It can be read as `validate` reads it: what once lies under promotions/ can never be mended."""
    path = f"{observed_path(*proposed.folder)}/{OBSERVATION_FILE}"
    try:
        read_json(path, proposed.tree.read(path), hidden=first_unwelcome)
    except Unreadable as error:
        refuse(True, f"{OBSERVATION_FILE}: {error.problems[0].message}")
    return "it can be read by those who read files of people, too"


def _leaks(proposed: _Proposed) -> str:
    """Neither file holds a secret, a host, a path of a machine, a prompt or an answer."""
    where = observed_path(*proposed.folder)
    files = {name: proposed.tree.read(f"{where}/{name}") for name in (OBSERVATION_FILE, OBSERVATION_SIGNATURE)}
    for name, data in files.items():
        try:
            searched = peek(data) if name == OBSERVATION_SIGNATURE else data
            assert_clean(searched, ids=partial(known_ids, proposed.main, proposed.look.cluster))
        except IntegrityFailure as error:
            refuse(True, f"{name}: {error.message} ({error.details.get('place', 'file')})")
    return "nothing in it looks like a secret, a place of a machine, a prompt or an answer"
