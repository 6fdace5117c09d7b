"""The pre-receive entry of the tests: the real gate, a receipt for every merge of evals/."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from modelsmith.forges.pre_receive import check_push, parse_updates
from modelsmith.forges.refusal import refusal_lines
from modelsmith.governance.gate import CheckResult, decide
from modelsmith.repository.git import Git
from modelsmith.repository.load import load_codeowners, load_people, load_policy
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import GateNotCleared, ModelsmithError


def judge(git):
    def run(pull, base, head):
        tree = Revision(git, base)
        decision = decide(
            policy=load_policy(tree),
            people=load_people(tree),
            codeowners=load_codeowners(tree),
            change=git.change(base, git.merge_tree(base, head)),
            reviews=pull.reviews,
            requester=pull.requester,
            preparer=pull.preparer,
            authors=(),
            claims=(),
            checks=(CheckResult("always", True, "Fine."),),
            now=datetime.now(UTC),
        )
        if not decision.open:
            raise GateNotCleared("gate-closed", f"Waiting for {decision.waiting_for}.", "Have it approved.")
        return decision

    return run


def receipts(pull, decision, merge, pushed):
    text = ",".join(decision.approvers).encode()
    return {f"receipts/{pull.number}.txt": text} if decision.approvers else {}


if __name__ == "__main__":
    git = Git(Path.cwd())
    try:
        check_push(git, parse_updates(sys.stdin.read()), judge(git), receipts)
    except ModelsmithError as error:
        sys.stderr.write(refusal_lines(error))
        sys.exit(1)
