"""The decision of a local forge's ``pre-receive`` hook. Runs the toolkit that is installed there; the push is data."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from modelsmith.forges.pre_receive import check_push, parse_updates
from modelsmith.forges.refusal import refusal_lines
from modelsmith.promotion.attestation import adopt, attestation
from modelsmith.promotion.judge import Judgement, judge
from modelsmith.promotion.merges import adopt_merge
from modelsmith.promotion.pulls import refuse_unless_open
from modelsmith.promotion.receipts import receipt_files, receipts_folder
from modelsmith.repository.git import Git
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.pull import PullRequest, Review
from modelsmith.schema.system import known_failures


def run(stdin: str) -> int:
    """Judge every update that git announces on stdin; returns the hook's exit status, the reason is on stderr."""
    try:
        with known_failures():
            _check(stdin)
    except ModelsmithError as error:
        sys.stderr.write(refusal_lines(error))
        return 1
    return 0


def _check(stdin: str) -> None:
    git = Git(Path(os.environ.get("GIT_DIR", ".")).resolve())
    now = datetime.now(UTC)

    def decide(pull: PullRequest, main: str, head: str) -> Judgement:
        if pull.head != head:
            raise IntegrityFailure("head-moved", f"Pull request {pull.number} has another head", "Merge its own head.")
        return judged(pull, main, now)

    def judged(pull: PullRequest, main: str, at: datetime) -> Judgement:
        judgement = judge(git, pull, main, at)
        refuse_unless_open(pull, judgement)
        return judgement

    def receipts(pull: PullRequest, judgement: Judgement, merge: str, pushed: Mapping[str, bytes]) -> dict[str, bytes]:
        main = judgement.main
        merged, signature = adopt_merge(main, receipts_folder(judgement.change, pull.number), merge, pushed, now)
        if merged.at > now:
            # The merger's clock is ahead, and a key may end between the two: verify judges at the time that was signed.
            judgement = judged(pull, main.tree.commit, merged.at)

        def adopted(path: str, review: Review) -> bytes:
            return adopt(path, attestation(review, main.policy.repository, pull.number), pushed, main)

        return receipt_files(pull, judgement.change, judgement.decision, merged, adopted, lambda _: signature)

    check_push(git, parse_updates(stdin), decide, receipts)
