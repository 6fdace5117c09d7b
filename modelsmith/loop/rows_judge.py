"""The eval's judge, asked about answers that rows are made of: with an account, and a memory of its own, in a folder.

Rows of other sources and preference pairs pass or fail by points that no declared check decides. Of each question it is
noted before it is put that it was, so a stage asks no more often than its cluster file says, whatever kills it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelsmith.evaluation.cache import Cache
from modelsmith.evaluation.judges.metered import Account, AccountDamagedError, BudgetSpentError
from modelsmith.evaluation.judges.port import Judge
from modelsmith.evaluation.judges.remembering import RememberingJudge
from modelsmith.evaluation.reward import JudgedPoints, Sampled, judged_of, nothing_judged
from modelsmith.evaluation.scoring import judged_points
from modelsmith.loop.engines import open_metered_judge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.progress import Progress
from modelsmith.signing.files import write_atomically

FOLDER: Final = "judge-of-rows"
"""Of a stage's folder: what the judge was asked about its rows, and what it said."""
_AT_ONCE: Final = 32
"""Answers about which the judge is asked before the next are paid for."""


class Judged(Frozen):
    """The judge that decided judged points of a stage's rows."""

    identity: Digest
    """Identity of the judge, as `evaluation.judges.port.Judge` has it."""


@contextmanager
def rows_judge(workspace: Workspace, governed: GovernedSet, folder: Path, most: int | None) -> Iterator[JudgedPoints]:
    """What says whether answers pass the judged points; it loads no model before it is asked.

    Args:
        workspace: Where progress is told, and endpoints are allowed.
        governed: Whose judge and rubric.
        folder: The stage's, in which account and verdicts lie.
        most: Questions that it may be asked; None where nobody is to ask: then no point is judged.

    Raises:
        InvalidInput: as `open_metered_judge`; ``rows-judge-spent`` when the answers need more questions than are left.
        IntegrityFailure: ``rows-judge-lost`` when nobody knows how often it was asked.
        ModelsmithError: by what is given: what kept the judge from a verdict. No answer fails for want of one.
    """
    if most is None or not judged_points(governed.rubric):
        yield nothing_judged
        return
    try:
        account = Account(folder / FOLDER / "account.json", most)
    except AccountDamagedError:
        raise IntegrityFailure(
            "rows-judge-lost",
            f"How often the judge was asked about rows cannot be read in {folder / FOLDER}.",
            "Remove that folder: the questions are then paid for once more.",
            folder=str(folder / FOLDER),
        ) from None
    metered = open_metered_judge(workspace, governed, account)
    judge = RememberingJudge(metered, Cache(folder / FOLDER), one_run=True)

    def judged(sampled: Sequence[Sampled]) -> list[dict[str, bool]]:
        passes: list[dict[str, bool]] = []
        if sampled:
            write_atomically(folder / FOLDER / "judge.json", canonical_json(Judged(identity=judge.identity)))
        for begin in range(0, len(sampled), _AT_ONCE):
            passes += _ask(governed, judge, account, sampled[begin : begin + _AT_ONCE])
            text = f"the judge decided {len(passes)} of {len(sampled)} answers, {account.calls} of {most} calls"
            workspace.notify(Progress("judge", text, len(passes), len(sampled)))
        return passes

    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    try:
        yield judged
    finally:
        judge.close()


def judge_of(folder: Path) -> Digest | None:
    """Identity of the judge that was asked about rows in a stage's folder; None where none was."""
    with suppress(OSError, ValidationError):
        return Judged.model_validate_json(read_plain(folder / FOLDER / "judge.json")).identity
    return None


def _ask(governed: GovernedSet, judge: Judge, account: Account, sampled: Sequence[Sampled]) -> list[dict[str, bool]]:
    try:
        return judged_of(governed.rubric, sampled, judge)
    except BudgetSpentError as error:
        raise InvalidInput(
            "rows-judge-spent",
            f"The judge may be asked {account.most} times about these answers, and that does not suffice: {error}.",
            "Raise `judge_calls` of the stage, or of `loop` where seeds are chosen; or lower rows, shares or samples.",
            calls=account.calls,
            most=account.most,
        ) from None
