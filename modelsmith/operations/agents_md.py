"""``modelsmith agents-md``: the contract that agents read when they begin."""

from __future__ import annotations

from modelsmith.governance.shape import AGENT_CONTRACT
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.agent_contract import with_contract
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.signing.files import write_atomically


class AgentsMdRequest(Request):
    """Writes AGENTS.md: what agents may do alone, what a person must approve and who, and when traffic goes back.

    It is rendered from policy, CODEOWNERS and cluster files. `validate` refuses one that is not what they say, so it
    changes in the same pull request as they. What you write around its two marks stays as it is.
    """


class AgentsMdResult(Result):
    """The file of the agents' contract, and whether it changed."""

    file: str
    changed: bool
    """Whether it was not there, or said something else."""


def run(workspace: Workspace, request: AgentsMdRequest) -> AgentsMdResult:
    """Write the file of the work tree from the work tree."""
    refuse_links(workspace.root, workspace.root / AGENT_CONTRACT)
    data = with_contract(workspace.files)
    changed = not workspace.files.exists(AGENT_CONTRACT) or workspace.files.read(AGENT_CONTRACT) != data
    if changed:
        write_atomically(workspace.root / AGENT_CONTRACT, data)
    return AgentsMdResult(file=AGENT_CONTRACT, changed=changed)
