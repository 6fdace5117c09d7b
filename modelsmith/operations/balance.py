"""``modelsmith balance``: what an eval set asks about, and what its composite hangs on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.evaluation.corpus.balance import Balance, balance
from modelsmith.evidence.balance_chart import balance_chart
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pictures import Svg, write_picture
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace


class BalanceRequest(Request):
    """Coverage by capability, risk, operator lens and outcome type, and the part of the composite that each carries.

    It also compares held-out with core and names scenarios that tell nearly the same case. Read from the files as they
    are on disk. Ids and counts only: no text is shown, held-out or other.

    Flagged is a value that carries more than twice, or less than half, of what the dimension's other values carry on
    average; a value of core without a held-out scenario, and the other way round; a dimension in which more than a
    fifth of held-out would have to change; and near-duplicates. A flag is advice and fails nothing.
    """

    target: Annotated[str, Field(description="Cluster, or eval set as <domain>/<set>."), ARGUMENT]
    svg: Svg = None


class BalanceResult(Result):
    """The balance, and where its picture is."""

    balance: Balance
    svg: str | None


def run(workspace: Workspace, request: BalanceRequest) -> BalanceResult:
    """Reckon what an eval set asks about."""
    files = workspace.files
    name = request.target if "/" in request.target else load_cluster(files, request.target).eval_set
    result = balance(load_eval_set(files, name))
    return BalanceResult(
        balance=result, svg=write_picture(workspace, request.svg, balance_chart(result)) if request.svg else None
    )
