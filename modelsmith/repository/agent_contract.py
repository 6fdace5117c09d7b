"""``AGENTS.md`` of a tree, held against what it is rendered from."""

from __future__ import annotations

from modelsmith.governance.agent_contract import BEGIN, found_in, placed, render
from modelsmith.governance.shape import AGENT_CONTRACT
from modelsmith.repository.document import Problem
from modelsmith.repository.load import load_cluster, load_codeowners, load_policy
from modelsmith.repository.tree import Tree
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.plaintext import first_unwelcome

LARGEST = 1 << 20
"""Bytes of an ``AGENTS.md`` at most: an agent reads all of it."""


def rendered(tree: Tree) -> str:
    """Text that the agents' contract of a repository must have.

    Raises:
        InvalidInput: ``invalid-file`` for what it is rendered from.
    """
    names = sorted(path.split("/")[1] for path in tree.paths("clusters") if path.endswith("/cluster.yaml"))
    clusters = {name: load_cluster(tree, name) for name in names}
    return render(load_policy(tree), load_codeowners(tree), clusters)


def with_contract(tree: Tree) -> bytes:
    """The file as it should be: what a team wrote around the contract stays.

    Raises:
        InvalidInput: as `rendered`.
    """
    text = tree.read(AGENT_CONTRACT).decode("utf-8", "replace") if tree.exists(AGENT_CONTRACT) else None
    return placed(text, rendered(tree)).encode()


def contract_problem(tree: Tree) -> Problem | None:
    """What is wrong with it. None where there is none to be wrong: no file, none with a contract, or broken sources.

    Whoever has a repository from before the contract, or wants none, is not made to have it. What nobody sees may stand
    in none: every agent reads the file, and whoever approves it reads the diff.
    """
    if not tree.exists(AGENT_CONTRACT):
        return None
    try:
        data = tree.read(AGENT_CONTRACT)
    except InvalidInput as error:
        return Problem(AGENT_CONTRACT, None, "", error.message, error.mend)
    mend = "Run `modelsmith agents-md`, and propose the file with the same change."
    if len(data) > LARGEST:
        return Problem(
            AGENT_CONTRACT, None, "", f"it is larger than {LARGEST} bytes, and an agent reads all of it", "Shorten it."
        )
    text = data.decode("utf-8", "replace")
    if hidden := first_unwelcome(text):
        return Problem(
            AGENT_CONTRACT,
            text[: hidden.at].count("\n") + 1,
            "",
            f"it holds {hidden.name}: an agent reads what a person does not see",
            "Remove it.",
        )
    if BEGIN not in text:
        return None
    line = text[: text.index(BEGIN)].count("\n") + 1
    try:
        right = rendered(tree)
    except ModelsmithError:
        return None
    if found_in(text) == right and text.count(BEGIN) == 1:
        return None
    return Problem(AGENT_CONTRACT, line, "", "the contract of agents is not what policy, owners and clusters say", mend)
