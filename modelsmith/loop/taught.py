"""Whether a specialist was trained on a text that is to be scored: it would know the answer, and its figures would lie.

Rows lie on the machine that trained, and are believed where they give the digest that main has of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from modelsmith.diagnosis.firewall import ScoredText, nearest_rows
from modelsmith.diagnosis.meaning import Meaning
from modelsmith.loop.certificates import past_of, rows_at_hand
from modelsmith.promotion.bases import training_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.evidence import Ancestor, PartNearness
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.scenario import Scenario


class Taught(NamedTuple):
    """Whose training rows come near to a text."""

    near: dict[str, float]
    """Similarity of the nearest row, by specialist; only where it reaches the limit."""
    unknown: tuple[str, ...]
    """Specialists whose rows do not lie here."""


def taught(workspace: Workspace, main: GovernedState, set_name: str, texts: Sequence[str], limit: float) -> Taught:
    """Look at the rows of every specialist of the clusters that are scored by this set; nearest to any of the texts."""
    near, unknown = dict[str, float](), list[str]()
    scored = [ScoredText("", text) for text in texts]
    names = sorted({path.split("/")[1] for path in main.tree.paths("clusters") if path.endswith("/cluster.yaml")})
    for cluster in (name for name in names if load_cluster(main.tree, name).eval_set == set_name):
        for history in main.histories.of_cluster(cluster):
            facts = None if history.is_export else training_of(main, history)
            if facts is None:
                continue
            rows = rows_at_hand(workspace, main, history, facts)
            if rows is None:
                unknown.append(history.specialist)
                continue
            for nearest in nearest_rows(rows, scored, 1):
                if nearest.similarity >= limit:
                    near[history.specialist] = nearest.similarity
    return Taught(near, tuple(unknown))


def held_out_since(main: GovernedState, after: Revision) -> Iterator[tuple[str, GovernedSet, Scenario]]:
    """Name of the set, the set, and each scenario that is held out after a change and was not, or not in these words.

    A set that cannot be read after the change has none: the gate's checks say why.
    """
    for path in (path for path in after.paths("evals") if path.endswith("/evalset.yaml")):
        name = path.removeprefix("evals/").removesuffix("/evalset.yaml")
        if after.folder_id(f"evals/{name}") == main.tree.folder_id(f"evals/{name}"):
            continue
        try:
            then = load_eval_set(after, name)
        except ModelsmithError:
            continue
        texts_before = set[str]()
        with suppress(ModelsmithError):
            texts_before = {
                text for scenario in load_eval_set(main.tree, name).held_out for text in scenario.user_texts()
            }
        for scenario in then.held_out:
            if not texts_before.issuperset(scenario.user_texts()):
                yield name, then, scenario


def refuse_taught(
    workspace: Workspace, main: GovernedState, governed: GovernedSet, parent: str, meaning: Meaning | None
) -> None:
    """Refuse to go on from an adapter that was taught what is scored today, before anything is made or trained.

    Raises:
        InvalidInput: ``trained-on``; ``rows-missing`` where nobody here can tell.
    """
    limit, rule = float(governed.evalset.separation.training_to_scored), main.policy.firewall
    for ancestor in past_of(workspace, main, governed, parent, meaning):
        over = [
            f"{part.part}: {part.similarity:.2f} alike, overlap {part.overlap:.2f}"
            for part in ancestor.parts
            if part.similarity > min(limit, rule.most_similarity if rule else 1)
            or (rule and part.overlap > rule.most_overlap)
        ]
        over += [
            f"{part.part}: cosine {part.cosine:.2f}"
            for part in _by_meaning(ancestor)
            if part.cosine >= part.most_cosine
        ]
        if over:
            raise InvalidInput(
                "trained-on",
                f"{ancestor.specialist} was trained on rows that are too near to what is scored by now "
                f"({'; '.join(over)}), and training would go on from what it knows",
                f"Take these cases out of the eval set again, or deprecate {ancestor.specialist}: training then begins "
                "at the base model.",
                specialists=[ancestor.specialist],
            )


def _by_meaning(ancestor: Ancestor) -> tuple[PartNearness, ...]:
    return ancestor.meaning.parts if ancestor.meaning else ()
