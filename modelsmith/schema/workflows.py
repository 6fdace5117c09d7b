"""Workflows at GitHub as signers: whom policy believes, and what a certificate of Sigstore's says of who signed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Frozen, Moment, Slug


class Workflow(Frozen):
    """One workflow file on one ref of one repository, as policy names it. Each field is compared exactly.

    The ids are GitHub's numbers: a name can be given up and taken by somebody else, a number cannot.
    """

    issuer: Annotated[str, Field(pattern=r"^https://[a-z0-9.-]+(/[A-Za-z0-9._/-]*)?$")]
    """The issuer that vouches for the job: ``https://token.actions.githubusercontent.com``."""
    server: Annotated[str, Field(pattern=r"^https://[a-z0-9.-]+$")] = "https://github.com"
    """Where the repository is."""
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$")]
    """``OWNER/NAME``, in GitHub's own spelling."""
    repository_id: Annotated[int, Field(ge=1, lt=10**15)]
    owner_id: Annotated[int, Field(ge=1, lt=10**15)]
    workflow: Annotated[str, Field(pattern=r"^\.github/workflows/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.ya?ml$")]
    """Path of the workflow's file. Neither a file that it calls nor one that calls it is meant."""
    ref: Annotated[str, Field(pattern=r"^refs/heads/[A-Za-z0-9._/-]{1,200}$")] = "refs/heads/main"
    events: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=16)]
    """Events that may have started it: ``schedule``, ``workflow_run``."""
    runner: Literal["github-hosted", "self-hosted"] = "github-hosted"
    """Whose machine it ran on."""
    trust: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.json$")]
    """File under ``.github/governance/trust/``: the trusted root of the Sigstore instance, as Sigstore gives it out."""


class SigningWorkflow(Workflow):
    """A workflow that may sign records, evidence and artifacts in place of a key."""

    clusters: Annotated[tuple[Slug, ...], Field(max_length=256)] = ()
    """The only clusters for which it may; none named: all."""


class AttestingWorkflow(Workflow):
    """A workflow that is believed about reviews at a forge."""

    forge: Slug
    """The forge, as people.yaml names logins there: ``github``."""
    hours: Annotated[int, Field(ge=1, le=720)] = 24
    """How long an approval that it read counts: the merge must come before. Then it reads again."""


class SignedBy(Frozen):
    """What a certificate says of the job that signed, under Fulcio's object identifiers (``docs/oid-info.md`` there).

    None where the certificate does not say it.
    """

    name: str | None
    """Subject alternative name."""
    issuer: str | None
    """...1.8."""
    signer: str | None
    """...1.9: file and ref of the workflow whose job it was."""
    signer_digest: str | None
    """...1.10: commit of that file."""
    runner: str | None
    """...1.11."""
    repository: str | None
    """...1.12: its URL."""
    commit: str | None
    """...1.13: the commit that the run was started for."""
    ref: str | None
    """...1.14: and the ref."""
    repository_id: str | None
    """...1.15."""
    owner: str | None
    """...1.16: URL of the owner."""
    owner_id: str | None
    """...1.17."""
    config: str | None
    """...1.18: file and ref of the workflow that was started; another one than ``signer`` when that was called."""
    config_digest: str | None
    """...1.19: commit of that file."""
    event: str | None
    """...1.20: what started it."""
    run: str | None
    """...1.21: URL of the run and its attempt."""
    not_before: Moment
    """From when the certificate was valid; Fulcio's last ten minutes, and the log saw the signature while it was."""
    not_after: Moment
