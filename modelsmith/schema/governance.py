"""Policy and people: who decides what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Actor, Event, Frozen, Moment, Slug, State

Audience = Literal["public", "reviewer", "operator"]
"""``public``: anybody. ``reviewer``: who may read the promotion repository. ``operator``: who may use the machine."""


class Transition(Frozen):
    """One edge of the promotion state machine."""

    event: Event
    sources: tuple[State, ...] = Field(alias="from")
    """States in which the event may happen; empty: only as a specialist's first event."""
    target: State = Field(alias="to")
    """State after the event."""
    gate: Literal["harness"] | Slug
    """``harness`` when checks alone decide, else the role whose approval is needed."""


class Limits(Frozen):
    """Sizes that a proposal may not exceed."""

    record_bytes: Annotated[int, Field(ge=1)] = 262_144
    evidence_bytes: Annotated[int, Field(ge=1)] = 16_777_216
    changed_paths: Annotated[int, Field(ge=1)] = 3000


class Policy(Frozen):
    """``.github/governance/policy.yaml``."""

    repository: Annotated[str, Field(min_length=8)]
    """Identity of this promotion repository; approvals name it, so none can be replayed elsewhere."""
    transitions: Annotated[tuple[Transition, ...], Field(min_length=1)]
    harness_paths: tuple[str, ...]
    """CODEOWNERS-style patterns of paths that no person owns because the harness's checks decide them."""
    limits: Limits = Limits()
    attested_forges: tuple[Slug, ...] = ()
    """Forges whose reviews count when the harness attests them at the merge; with none, only SSH approvals count.
    Whoever has the harness's key can then attest what no forge said."""
    audiences: dict[str, Literal["reviewer", "operator"]] = {}
    """``<Type>.<field>`` of a machine-written record, and who alone may see it: ``reviewer`` (who may read this
    repository) or ``operator`` (who may use the machine). Only ever narrower than the toolkit's own list. What is kept
    for operators is left empty in what is committed; what `verify` needs cannot be."""
    people_open: bool = False
    """A change that is no promotion is refused when a harness opened its pull request: then whoever wrote it opens it,
    and cannot approve it, or another person vouches for it by their key."""
    require_weights: bool = False
    """``verify`` fails, rather than reports, when an artifact's weights are not at hand."""


class SshKey(Frozen):
    """A public key with its time of validity."""

    key: Annotated[str, Field(pattern=r"^(ssh-ed25519|ecdsa-sha2-\S+|sk-\S+|ssh-rsa) [A-Za-z0-9+/=]+$")]
    """Key type and base64 body, without comment."""
    valid_after: Moment | None = None
    """First moment of validity."""
    valid_before: Moment | None = None
    """First moment at which it is no longer valid: an approval must be given, and merged, before."""
    revoked_at: Moment | None = None
    """When it was lost. From the merge that lists it on, nothing signed with this key counts any more, whatever time
    it claims; what was merged before stays valid, because it is judged by the people of its time."""


class Person(Frozen):
    """Someone who may own paths and approve."""

    id: Actor
    name: str
    roles: tuple[Slug, ...]
    logins: dict[Slug, str] = {}
    """Login at each forge (``github: maya-t``)."""
    keys: tuple[SshKey, ...] = ()


class Harness(Frozen):
    """A machine identity: opens pull requests, signs evidence, never approves on a person's gate."""

    id: Actor
    logins: dict[Slug, str] = {}
    keys: tuple[SshKey, ...] = ()
    """SSH keys that sign its pull request events."""
    trust: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+\.pem$")], ...] = ()
    """Files under ``.github/governance/trust/``: EC P-256 public keys that sign records, evidence and artifacts."""


class People(Frozen):
    """``.github/governance/people.yaml``."""

    roles: dict[Slug, str]
    """Role id and what it answers for."""
    people: tuple[Person, ...] = ()
    harness: tuple[Harness, ...] = ()
