"""Second observers: which observations of a specialist main holds, which of them count, and whether they agree.

An observation was checked when it came onto main. Whether it counts is asked again at each gate, by the people and keys
that main has then: a key that is no longer listed speaks no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from modelsmith.evidence.second_look import compare_look
from modelsmith.governance.observed import ObservedFolder, observed_in, observed_path, parse_observed
from modelsmith.governance.person_gates import OBSERVED_EVENTS
from modelsmith.governance.shape import promotion_folder
from modelsmith.governance.states import SpecialistHistory, parse_folder, record_folder
from modelsmith.promotion.bases import export_of
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import PROMOTIONS
from modelsmith.repository.tree import Tree
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import parse_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE
from modelsmith.schema.observed import (
    OBSERVATION_FILE,
    OBSERVATION_SIGNATURE,
    OBSERVATION_TYPE,
    Agreement,
    SecondLook,
)
from modelsmith.schema.pull import Change
from modelsmith.signing.dsse import key_name, named_key, peek, unseal
from modelsmith.signing.wire import parse_statement


@dataclass(frozen=True)
class Backing:
    """What second observers say of one specialist's evidence, by the people and keys of one main."""

    agreeing: tuple[Agreement, ...]
    """The latest of each observer that counts and agrees, one for each key, by observer."""
    disagreeing: tuple[Agreement, ...]
    """The same of those that disagree."""
    retrained: tuple[str, ...]
    """Who of those that agree repeated the training, too, and came to the same; of an export, who did its parent's."""
    uncounted: tuple[str, ...]
    """Observations on main that do not count, in sentences that say why."""


def observed_folders(tree: Tree, history: SpecialistHistory) -> tuple[ObservedFolder, ...]:
    """Observations of a specialist that a tree holds, by observer and number."""
    inside = f"{PROMOTIONS}/{history.cluster}/{history.specialist}"
    folders = {path.rpartition("/")[0] for path in tree.paths(inside) if path.endswith(f"/{OBSERVATION_FILE}")}
    return tuple(sorted(observed for folder in folders if (observed := parse_observed(folder))))


def next_number(main: GovernedState, history: SpecialistHistory, observer: str) -> int:
    """Number of this observer's next observation of the specialist."""
    return 1 + max(
        (folder.number for folder in observed_folders(main.tree, history) if folder.observer == observer), default=0
    )


def read_look(tree: Tree, folder: ObservedFolder) -> SecondLook:
    """What an observation says. Raises IntegrityFailure (``bad-file``) for anything else than one in its place."""
    path = f"{observed_path(*folder)}/{OBSERVATION_FILE}"
    look = parse_canonical(path, tree.read(path), SecondLook)
    if (look.cluster, look.specialist, look.observer, look.number) != folder:
        raise IntegrityFailure("bad-file", f"{path} says that it belongs elsewhere", "Restore it.", path=path)
    return look


def unseal_look(main: GovernedState, tree: Tree, folder: ObservedFolder, look: SecondLook) -> str:
    """Who sealed an observation: the name of a key that main lists for this observer and for nothing else.

    Args:
        main: Whose people and keys count.
        tree: Where the observation lies.
        folder: Its folder.
        look: What it says.

    Raises:
        IntegrityFailure: ``no-observer`` when main lists no such observer, or it made what it observes; ``shared-key``
            when the key signs records or evidence too; as `dsse.unseal`, or ``bad-file`` when more is said.
    """
    where = observed_path(*folder)
    bundle, data = tree.read(f"{where}/{OBSERVATION_SIGNATURE}"), tree.read(f"{where}/{OBSERVATION_FILE}")
    seal = ObserverSeal(look.observer, OBSERVATION_FILE, OBSERVATION_TYPE, predicate_of(look))
    return unseal_observed(main, main.histories.find(look.specialist), bundle, data, seal)


class ObserverSeal(NamedTuple):
    """The statement that an observer signs."""

    observer: str
    name: str
    """Name of the file that it is about."""
    kind: str
    """Type of the statement."""
    predicate: Mapping[str, str]
    """All that it says beside its subject."""


def unseal_observed(
    main: GovernedState, history: SpecialistHistory, bundle: bytes, data: bytes, due: ObserverSeal
) -> str:
    """The observer that sealed an observation of a specialist. Raises as `unseal_look`."""
    keys = main.observers.get(due.observer, ())
    if not keys:
        raise _no_observer(f"people.yaml lists no observer {due.observer} with a key")
    predicate = unseal(bundle, keys, data, due.kind)
    named = parse_statement(peek(bundle)).subject[0].name
    if predicate != due.predicate or named != due.name:
        raise IntegrityFailure("bad-file", "The signature says something else than is due", "Observe again.")
    if any(due.observer in (record.prepared_by.id, record.requested_by) for record in history.records):
        raise _no_observer(f"{due.observer} prepared or asked for what it observes")
    key = named_key(bundle)
    accepted = next((record for record in history.records if EVIDENCE_SIGNATURE in record.evidence), None)
    producer = named_key(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_SIGNATURE}")) if accepted else ""
    if key == producer or key in map(key_name, main.trusted):
        raise IntegrityFailure(
            "shared-key",
            f"the key of {due.observer} also signs records and evidence, so it is no second observer's",
            "Give the observer a key of its own.",
        )
    return key


def predicate_of(look: SecondLook) -> dict[str, str]:
    """All that the signed statement of an observation says beside its subject."""
    return {
        "observer": look.observer,
        "cluster": look.cluster,
        "specialist": look.specialist,
        "run": look.candidate.run_id,
    }


def backing(main: GovernedState, history: SpecialistHistory) -> Backing:
    """Observations of the specialist's evidence: who agrees, who disagrees.

    Of each observer the latest observation that counts stands, and each key counts once, whoever holds it.

    Raises:
        InvalidInput: ``no-evidence``.
        IntegrityFailure: main holds evidence that cannot be read.
    """
    evidence = evidence_of(main, history)
    accepted = next(record for record in history.records if record.event == "eval-accepted")
    digest = sha256(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_FILE}"))
    latest: dict[str, tuple[str, SecondLook]] = {}
    uncounted: list[str] = []
    for folder in observed_folders(main.tree, history):
        try:
            look = read_look(main.tree, folder)
            key = unseal_look(main, main.tree, folder, look)
            if (look.artifact, look.evidence) != (history.artifact, digest):
                raise IntegrityFailure("bad-file", "it is about other evidence", "Observe again.")
            latest[folder.observer] = key, look
        except ModelsmithError as error:
            uncounted.append(f"observation {folder.number} of {folder.observer} does not count: {error.message}")
    agreeing: list[Agreement] = []
    disagreeing: list[Agreement] = []
    spoken: dict[str, str] = {}
    for observer, (key, look) in sorted(latest.items()):
        if key in spoken:
            uncounted.append(f"{observer} does not count: it has the key of {spoken[key]}")
            continue
        spoken[key] = observer
        comparison = compare_look(look, evidence, main.policy.observer_flips)
        (agreeing if comparison.agrees else disagreeing).append(comparison)
    return Backing(tuple(agreeing), tuple(disagreeing), _retrained(main, history, agreeing), tuple(uncounted))


def _retrained(main: GovernedState, history: SpecialistHistory, agreeing: Sequence[Agreement]) -> tuple[str, ...]:
    export = export_of(main, history)
    if export is None:
        return tuple(agreement.observer for agreement in agreeing if agreement.retrained)
    of_parent = backing(main, main.histories.find(export.parent)).retrained
    return tuple(agreement.observer for agreement in agreeing if agreement.observer in of_parent)


def all_backing(main: GovernedState) -> dict[str, Backing]:
    """Observations of every specialist that somebody observed, by id.

    Raises:
        IntegrityFailure: as `backing`.
    """
    return {
        name: backing(main, history)
        for name, history in main.histories.by_specialist.items()
        if observed_folders(main.tree, history)
    }


def observations_on(main: GovernedState, tree: Tree, change: Change) -> tuple[Agreement, ...]:
    """What observers say about a change: of a deployment those whom main holds, of an observation itself.

    Nothing of a change that cannot be read: its checks say why.
    """
    folders = {folder for path in change.paths if (folder := promotion_folder(path.path))}
    observed = observed_in(change)
    with suppress(ModelsmithError):
        if observed:
            evidence = evidence_of(main, main.histories.find(observed.specialist))
            return (compare_look(read_look(tree, observed), evidence, main.policy.observer_flips),)
        for folder in folders:
            named = parse_folder(folder)
            if named.event in OBSERVED_EVENTS:
                observations = backing(main, main.histories.find(named.specialist))
                return (*observations.agreeing, *observations.disagreeing)
    return ()


class Required(NamedTuple):
    """Observers that the policy requires for an event."""

    observers: int
    """How many must agree; 0: nobody is asked."""
    retrained: int
    """How many of these must have repeated the training."""

    def is_met(self, support: Backing) -> bool:
        """Whether enough agree, and enough of them trained again."""
        return len(support.agreeing) >= self.observers and len(support.retrained) >= self.retrained


def required(main: GovernedState, event: Event) -> Required:
    """Observers that the policy requires for an event."""
    transitions = [transition for transition in main.policy.transitions if transition.event == event]
    return Required(
        max((transition.observers for transition in transitions), default=0),
        max((transition.retrained for transition in transitions), default=0),
    )


def count_sentence(support: Backing, needed: Required) -> str:
    """How many of the required observers agree, and trained again, and why others do not count."""
    names = f": {', '.join(agreement.observer for agreement in support.agreeing)}" if support.agreeing else ""
    words = [f"{len(support.agreeing)} of {needed.observers} required observers agree{names}"]
    if needed.retrained:
        again = f": {', '.join(support.retrained)}" if support.retrained else ""
        words.append(f"{len(support.retrained)} of {needed.retrained} who must repeat the training did{again}")
    return "; ".join([*words, *support.uncounted])


def disagreements(support: Backing) -> Iterator[str]:
    """Sentences about the observers that disagree, one for each."""
    return (agreement.sentence for agreement in support.disagreeing)


def _no_observer(problem: str) -> IntegrityFailure:
    return IntegrityFailure("no-observer", problem, "Have its owners list it in people.yaml with `observer: true`.")
