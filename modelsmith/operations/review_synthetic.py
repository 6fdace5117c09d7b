"""``modelsmith review-synthetic``: the rows that an iteration trains on, as a person wants to see them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from modelsmith.diagnosis.firewall import ScoredText, most_alike, nearest_rows, scored_texts
from modelsmith.diagnosis.meaning import nearest_in_meaning
from modelsmith.loop.diagnoses import read_diagnoses
from modelsmith.loop.embedding import MISSING, embedder_of, policy_in
from modelsmith.loop.iterate import last_number
from modelsmith.loop.striking import read_strikes
from modelsmith.loop.training import ROWS_FILE, training_begun
from modelsmith.operations.contract import ARGUMENT, ClusterName, Request, Result
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.diagnosis import Diagnosis, Offered, Struck
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.scenario import Message
from modelsmith.schema.steps import step
from modelsmith.schema.training_row import Lineage, TrainingRow
from modelsmith.training.rows import read_rows, row_id, rows_digest

NEAREST = 5


class ReviewSyntheticRequest(Request):
    """Shows the training rows of an iteration: samples, balance, what was dropped, and the nearest scored texts.

    Changes nothing. `strike` takes rows out before training; `iterate --review-rows` stops in time for it.
    """

    cluster: Annotated[ClusterName, ARGUMENT]
    iteration: Annotated[int | None, Field(ge=1, le=10**9, description="Its number; the latest when not given.")] = None
    samples: Annotated[int, Field(ge=0, le=10_000, description="Rows of each generator that are shown.")] = 2


class RowView(Frozen):
    """One training row, as a reviewer reads it."""

    row: str
    """Its name, for `strike`."""
    generator: str
    template: str
    messages: tuple[Message, ...]
    answer: str
    lineage: Lineage | None
    """Where it comes from, if its generator did not write it."""


class BalanceView(Frozen):
    """Share of a batch that a capability gets."""

    capability: str
    rows: int
    share: float
    failed_cases: int
    """Failed cases of the diagnosis that called for them."""
    total_cases: int
    """Cases that were asked; 0 where none failed."""


class NearView(Frozen):
    """A row and the scored text that it comes nearest to."""

    row: str
    generator: str
    template: str
    similarity: float
    scenario: str
    """Its id, or ``held-out``."""


class MeaningView(Frozen):
    """A row and the scored text that it comes nearest to in meaning."""

    row: str
    generator: str
    template: str
    cosine: float
    most_cosine: float | None
    """Cosine from which on the firewall drops a row of that text's part; None where policy sets none."""
    scenario: str
    """Its id, or ``held-out``."""


class ReviewSyntheticResult(Result):
    """The batch of training rows, as a reviewer reads it."""

    cluster: str
    iteration: int
    waits: bool
    """Whether training has not begun, so that rows can still be struck."""
    rows: int
    rows_digest: str
    dropped: int | None
    """Rows that the firewall kept out, being too near to a scored text; None where that was not noted."""
    sources: tuple[Offered, ...]
    """What other sources than the generators gave, and why the rest of it was not taken."""
    struck: tuple[Struck, ...]
    limit: float
    """Similarity from which on the firewall drops a row."""
    balance: tuple[BalanceView, ...]
    patterns: dict[str, int]
    """Rows aimed at each failure cluster, by its id."""
    nearest: tuple[NearView, ...]
    """Nearest first, by words."""
    in_meaning: tuple[MeaningView, ...]
    """Nearest first, by the embedding model that policy names; none where it names none."""
    meaning_unknown: str | None
    """Why nothing is said of meaning though policy names a model; None where it is, or policy names none."""
    samples: tuple[RowView, ...]


def run(workspace: Workspace, request: ReviewSyntheticRequest) -> ReviewSyntheticResult:
    """Read the batch of training rows."""
    governed = load_eval_set(workspace.files, load_cluster(workspace.files, request.cluster).eval_set)
    number = request.iteration or last_number(workspace, request.cluster)
    folder = workspace.cluster_folder(request.cluster) / "iterations" / f"{number:03d}"
    if not (folder / ROWS_FILE).is_file():
        raise InvalidInput(
            "unknown-iteration",
            f"{request.cluster} has no training rows{f' of iteration {number}' if number else ''} on this machine",
            "Make some: `{next}`.",
            iteration=number,
        ).then(step("iterate", {"cluster": request.cluster}, review_rows=True))
    rows = read_rows(folder / ROWS_FILE, TrainingRow)
    diagnosis = next(
        (past for past in read_diagnoses(workspace, request.cluster) if past.iteration == number),
        None,
    )
    capability = {generator.id: generator.capability for generator in governed.generators}
    near = nearest_rows(rows, scored_texts(governed), NEAREST)
    in_meaning, meaning_unknown = _in_meaning(workspace, rows, scored_texts(governed))
    return ReviewSyntheticResult(
        cluster=request.cluster,
        iteration=number,
        waits=not training_begun(folder),
        rows=len(rows),
        rows_digest=rows_digest(rows),
        dropped=diagnosis.dropped if diagnosis else None,
        sources=diagnosis.sources if diagnosis else (),
        struck=read_strikes(folder).strikes,
        limit=most_alike(governed, policy_in(workspace.files)),
        balance=_balance(Counter(_capability(row, capability) for row in rows), diagnosis),
        patterns=diagnosis.rows if diagnosis else {},
        nearest=tuple(
            NearView(
                row=row_id(rows[near_row.row]),
                generator=rows[near_row.row].generator,
                template=rows[near_row.row].template,
                similarity=round(near_row.similarity, 4),
                scenario=near_row.scenario,
            )
            for near_row in near
        ),
        in_meaning=in_meaning,
        meaning_unknown=meaning_unknown,
        samples=tuple(_samples(rows, request.samples)),
    )


def _in_meaning(
    workspace: Workspace, rows: Sequence[TrainingRow], texts: Sequence[ScoredText]
) -> tuple[tuple[MeaningView, ...], str | None]:
    """The rows nearest in meaning; or why that cannot be told here, where policy names a model."""
    policy = policy_in(workspace.files)
    embedder = embedder_of(workspace, policy)
    if policy is None or embedder is None:
        return (), None
    most = policy.firewall.most_cosine if policy.firewall else {}
    try:
        nearest = nearest_in_meaning(rows, texts, embedder, NEAREST)
    except InfrastructureFailure as error:
        if error.code != MISSING:
            raise
        return (), error.message
    return tuple(
        MeaningView(
            row=row_id(rows[place]),
            generator=rows[place].generator,
            template=rows[place].template,
            cosine=near.cosine,
            most_cosine=most.get(near.text.part),
            scenario=near.text.scenario,
        )
        for place, near in nearest
    ), None


def _capability(row: TrainingRow, of_generator: Mapping[str, str]) -> str:
    return row.lineage.capability if row.lineage else of_generator.get(row.generator, row.generator)


def _balance(rows: Counter[str], diagnosis: Diagnosis | None) -> tuple[BalanceView, ...]:
    failed, totals = Counter[str](), dict[str, int]()
    for cluster in diagnosis.clusters if diagnosis else ():
        failed[cluster.capability] += cluster.failed_cases
        totals[cluster.capability] = cluster.total_cases
    return tuple(
        BalanceView(
            capability=name,
            rows=rows[name],
            share=rows[name] / rows.total(),
            failed_cases=failed[name],
            total_cases=totals.get(name, 0),
        )
        for name in sorted({*rows, *failed}, key=lambda name: (-rows[name], name))
    )


def _samples(rows: tuple[TrainingRow, ...], most: int) -> list[RowView]:
    """Of each generator and source, ``most`` rows by chance; the same ones each time."""
    by_generator: dict[tuple[str, str], list[TrainingRow]] = {}
    for row in rows:
        by_generator.setdefault((row.generator, row.lineage.source if row.lineage else ""), []).append(row)
    drawn = [
        row
        for _, each in sorted(by_generator.items())
        for row in random.Random(0).sample(each, min(most, len(each)))  # noqa: S311
    ]
    return [
        RowView(
            row=row_id(row),
            generator=row.generator,
            template=row.template,
            messages=row.messages,
            answer=row.answer,
            lineage=row.lineage,
        )
        for row in drawn
    ]
