"""Overrides: a person lets an eval count that came out INCONCLUSIVE. Who, why, and which eval, as main has it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from modelsmith.evaluation.overridable import override_refusal
from modelsmith.governance.people import principals
from modelsmith.governance.person_gates import override_role
from modelsmith.governance.shape import promotion_folder
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import RECEIPTS
from modelsmith.promotion.proposed import Promotion, refuse
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.repository.load import load_machine_file, load_people, load_policy
from modelsmith.repository.tree import Revision, Tree
from modelsmith.schema.base import Actor, Slug
from modelsmith.schema.canonical import parse_canonical, sha256
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_FILE
from modelsmith.schema.promotion import OVERRIDE_FILE, Override, Receipt
from modelsmith.schema.pull import Change


class Overridden(NamedTuple):
    """An override as a reader sees it."""

    override: Override
    role: Slug | None
    """Role that decides about it; None where policy lets nobody, and for one that is on main."""
    approved_by: tuple[Actor, ...]
    """Who of that role approved it; empty while it is only asked for."""


def read_override(files: Mapping[str, bytes]) -> Override | None:
    """What the files of an eval-accepted event say about an override; None where none is asked for.

    Raises:
        IntegrityFailure: ``bad-file`` when it is malformed, not canonical or not plain text.
    """
    data = files.get(OVERRIDE_FILE)
    return None if data is None else parse_canonical(OVERRIDE_FILE, data, Override)


def asked_override(main: GovernedState, files: Mapping[str, bytes]) -> Overridden | None:
    """The override that is proposed with these files. Raises as `read_override`."""
    override = read_override(files)
    return Overridden(override, override_role(main.policy), ()) if override else None


def override_in(main: GovernedState, tree: Tree, change: Change) -> Overridden | None:
    """The override that a change brings; None of one that cannot be read: its checks say why."""
    for changed in change.paths:
        folder, _, name = changed.path.rpartition("/")
        if name == OVERRIDE_FILE and promotion_folder(folder) == folder:
            with suppress(ModelsmithError):
                return asked_override(main, {OVERRIDE_FILE: tree.read(changed.path)})
    return None


def override_of(main: GovernedState, history: SpecialistHistory) -> Overridden | None:
    """The override by which main accepted a specialist's eval; None for one that passed, or is not accepted yet.

    Raises:
        IntegrityFailure: main's file cannot be read.
    """
    if not history.overridden:
        return None
    accepted = next((record for record in history.records if record.event == "eval-accepted"), None)
    if accepted is None or OVERRIDE_FILE not in accepted.evidence:
        return None
    folder = record_folder(accepted)
    override = read_override({OVERRIDE_FILE: main.tree.read(f"{folder}/{OVERRIDE_FILE}")})
    receipt = load_machine_file(main.tree, f"{folder}/{RECEIPTS}/{MERGE_RECEIPT}", Receipt)
    return Overridden(override, None, _override_approvers(main, receipt)) if override else None


def _override_approvers(main: GovernedState, receipt: Receipt) -> tuple[Actor, ...]:
    """Whose approval let it count, by the role and people of the main that it was merged into.

    Others may have approved the same change for paths of theirs, and overrode nothing.
    """
    before = Revision(main.tree.git, f"{receipt.merge}^1")
    able = principals(f"@{override_role(load_policy(before))}", load_people(before))
    return tuple(sorted(able.intersection(receipt.approvals)))


def check_override(promotion: Promotion, override: Override) -> str:
    """It speaks of this very eval, which came out INCONCLUSIVE with too few data, in the name of who asks."""
    evidence, record = promotion.evidence, promotion.record
    role = override_role(promotion.main.policy)
    refuse(role is None, "the policy lets nobody override an INCONCLUSIVE")
    refuse(override.run != evidence.candidate.run_id, f"{OVERRIDE_FILE} speaks of another eval run")
    refuse(override.evidence != sha256(promotion.file(EVIDENCE_FILE)), f"{OVERRIDE_FILE} speaks of other evidence")
    refuse(override.asked_by != record.requested_by, f"{OVERRIDE_FILE} names another asker than the record")
    why = override_refusal(evidence.candidate.rows, evidence.candidate.headline, evidence.rule)
    refuse(why is not None, why or "")
    unclear = [check.sentence for check in evidence.candidate.headline.checks if check.outcome != "PASS"]
    return (
        f"INCONCLUSIVE: {'; '.join(unclear)}. {override.asked_by} asks a person of the role {role} to let it count, "
        f"because: {override.reason}"
    )
