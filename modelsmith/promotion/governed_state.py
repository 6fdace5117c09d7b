"""Everything that governs, read from one commit of main."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

from modelsmith.governance.codeowners import Codeowners
from modelsmith.promotion.clock import Signed, read_signed
from modelsmith.promotion.histories import Histories, histories_after, read_histories
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.repository.first_parents import FirstParents
from modelsmith.repository.git import Git
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.load import load_codeowners, load_people, load_policy
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.workflows import SigningWorkflow, Workflow
from modelsmith.signing.dsse import Trusted
from modelsmith.signing.keyless import Believed


@dataclass(frozen=True)
class GovernedState:
    """Policy, people, owners, trust roots and histories at one commit: what a proposal is judged by."""

    tree: Revision
    policy: Policy
    people: People
    codeowners: Codeowners
    trusted: tuple[bytes, ...]
    """PEM public keys that may sign records, evidence and artifacts."""
    workflows: tuple[Believed, ...]
    """Workflows that may sign them, for the clusters that each names."""
    observers: Mapping[str, tuple[bytes, ...]]
    """PEM public keys that may sign observations and nothing else, by id of the observer."""
    histories: Histories
    facts: KeptFacts | None = field(default=None, compare=False, repr=False)
    """What is known of folders that were read before."""

    def signers(self, cluster: str) -> tuple[Trusted, ...]:
        """Keys that may sign a cluster's records, evidence and artifacts."""
        return *self.trusted, *(workflow for workflow in self.workflows if _may_sign(workflow.workflow, cluster))

    @property
    def policy_digest(self) -> str:
        """Digest that records carry of the policy they were prepared under."""
        return content_digest(self.policy)

    @cached_property
    def signed(self) -> Signed:
        """Summary of all merges so far, by its receipts. Raises as `read_signed`."""
        return read_signed(self.tree, self.facts)

    @cached_property
    def line(self) -> Set[str]:
        """Ids of this commit and of its first parents, down to the first."""
        return FirstParents(self.tree.git, self.tree.commit)


def read_governed_state(git: Git, commit: str, facts: KeptFacts | None = None) -> GovernedState:
    """Read it all from the object database; the work tree plays no part.

    With ``facts``, and where git is an `ObjectReader`, folders of promotions that were read before are not read again
    until somebody asks for their records.

    Raises:
        InvalidInput: a governed file does not parse.
        IntegrityFailure: the promotions do not fold.
    """
    tree = Revision(git, commit)
    policy = load_policy(tree)
    return _governed(tree, policy, read_histories(tree, policy, facts), facts)


def governed_state_after(before: GovernedState, commit: str) -> GovernedState:
    """`read_governed_state` at ``commit``, from main as it was before; it costs what changed in between.

    Raises:
        ModelsmithError: as `read_governed_state`.
    """
    git = before.tree.git
    tree = Revision(git, commit)
    policy = load_policy(tree)
    change = git.change(before.tree.commit, commit)
    return _governed(tree, policy, histories_after(before.histories, change, tree, policy, policy == before.policy))


def _may_sign(workflow: Workflow, cluster: str) -> bool:
    return isinstance(workflow, SigningWorkflow) and (not workflow.clusters or cluster in workflow.clusters)


def _governed(tree: Revision, policy: Policy, histories: Histories, facts: KeptFacts | None = None) -> GovernedState:
    people = load_people(tree)
    trust = {name for harness in people.harness if not harness.observer for name in harness.trust}
    return GovernedState(
        tree=tree,
        policy=policy,
        people=people,
        codeowners=load_codeowners(tree),
        trusted=tuple(tree.read(f"{GOVERNANCE}/trust/{name}") for name in sorted(trust)),
        workflows=tuple(
            Believed(workflow, tree.read(f"{GOVERNANCE}/trust/{workflow.trust}")) for workflow in policy.keyless
        ),
        observers={
            harness.id: tuple(tree.read(f"{GOVERNANCE}/trust/{name}") for name in harness.trust)
            for harness in people.harness
            if harness.observer
        },
        histories=histories,
        facts=facts,
    )
