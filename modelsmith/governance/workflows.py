"""Whether a certificate is of a workflow that policy believes. Pure."""

from __future__ import annotations

from modelsmith.schema.workflows import SignedBy, Workflow


def workflow_doubt(workflow: Workflow, by: SignedBy) -> str | None:
    """Why the job that signed is not of this workflow; None when it is.

    Every claim is compared exactly, the name in the certificate among them. A workflow that was called by another, or
    calls one, signs under two names that differ, and is refused: then the caller's inputs said what it does.
    """
    page = f"{workflow.server}/{workflow.repository}"
    file = f"{page}/{workflow.workflow}@{workflow.ref}"
    owner = f"{workflow.server}/{workflow.repository.partition('/')[0]}"
    for part, due, stated in (
        ("issuer", workflow.issuer, by.issuer),
        ("repository", page, by.repository),
        ("repository_id", str(workflow.repository_id), by.repository_id),
        ("owner", owner, by.owner),
        ("owner_id", str(workflow.owner_id), by.owner_id),
        ("ref", workflow.ref, by.ref),
        ("workflow", file, by.signer),
        ("workflow that was started", file, by.config),
        ("name", file, by.name),
        ("runner", workflow.runner, by.runner),
    ):
        if due != stated:
            return f"its {part} is {_in_ascii(stated)}, not {due}"
    if by.event not in workflow.events:
        return f"it was started by {_in_ascii(by.event)}, not by {' or '.join(workflow.events)}"
    if by.commit is None or not by.commit == by.signer_digest == by.config_digest:
        return "it does not say of one commit that it ran for that and by its file"
    return None


def _in_ascii(value: str | None) -> str:
    return "not said" if value is None else ascii(value[:200])[1:-1]
