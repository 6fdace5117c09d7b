"""How an eval shows its cost, its judge and its repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelsmith.cli.tables import interval

if TYPE_CHECKING:
    from modelsmith.cli.page import Page
    from modelsmith.schema.run import JudgeAgreement, SectionScore


def judge_line(judge: JudgeAgreement) -> str:
    """Line about the judge: its name, and how well it agrees with people."""
    if not judge.verdicts:
        return f"{judge.judge}, agreement with people not measured"
    kappa = f"kappa {interval(judge.kappa)}" if judge.kappa else "kappa not defined"
    open_ = f", {judge.unclear} without a clear verdict" if judge.unclear else ""
    return (
        f"{judge.judge}, {kappa}, {judge.agreed} of {len(judge.verdicts)} labelled answers judged as people do{open_}"
    )


def repeat_table(sections: Sequence[SectionScore], page: Page) -> None:
    """pass@k and pass^k of every section that was answered more than once."""
    body = [
        (section.section if rate.k == 1 else "", str(rate.k), interval(rate.at_least_one), interval(rate.every))
        for section in sections
        for rate in (section.repeats.rates if section.repeats else ())
    ]
    page.table(("section", "k>", "passes at least once in k>", "passes every time in k>"), body)
