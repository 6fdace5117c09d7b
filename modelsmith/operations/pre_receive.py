"""The decision of a local forge's ``pre-receive`` hook. Runs the toolkit that is installed there; the push is data."""

from __future__ import annotations

import os
from pathlib import Path

from modelsmith.forges.pre_receive import check_push, parse_updates
from modelsmith.promotion.judge import Judgement, judge
from modelsmith.promotion.pulls import refuse_unless_open
from modelsmith.promotion.receipts import receipt_files
from modelsmith.repository.git import Git
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.pull import PullRequest


def run(stdin: str) -> None:
    """Judge every update that git announces on stdin; returning means that all of them are allowed.

    Raises:
        ModelsmithError: the push is refused, and why.
    """
    git = Git(Path(os.environ.get("GIT_DIR", ".")).resolve())

    def decide(pull: PullRequest, main: str, head: str) -> Judgement:
        if pull.head != head:
            raise IntegrityFailure("head-moved", f"Pull request {pull.number} has another head", "Merge its own head.")
        judgement = judge(git, pull, main)
        refuse_unless_open(pull, judgement)
        return judgement

    def receipts(pull: PullRequest, judgement: Judgement) -> dict[str, bytes]:
        return receipt_files(pull, judgement.change, judgement.decision)

    check_push(git, parse_updates(stdin), decide, receipts)
