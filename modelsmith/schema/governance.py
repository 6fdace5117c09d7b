"""Policy and people: who decides what."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from modelsmith.schema.base import Actor, Event, Frozen, Moment, Slug, State
from modelsmith.schema.embedding import EmbeddingModel, MostCosine
from modelsmith.schema.naming import NameModel
from modelsmith.schema.workflows import AttestingWorkflow, SigningWorkflow

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
    observers: Annotated[int, Field(ge=0, le=9)] = 0
    """How many observers with keys of their own must have repeated the eval and agree before the event may be merged.
    Only of ``customer-deployed`` and ``production-validated``: what comes before is what they observe."""
    retrained: Annotated[int, Field(ge=0, le=9)] = 0
    """How many of these observers must have repeated the training, too, and come to the same."""
    shadow: bool = False
    """Whether the front door must have seen the specialist hold on copies of live requests first. Only of
    ``customer-deployed``."""
    shadow_hours: Annotated[int, Field(ge=1, le=8760)] = 168
    """How old the oldest copy that was counted in the shadow may be when the deployment is merged."""
    override: Slug | None = None
    """Role that may let an eval count although it came out INCONCLUSIVE; None: nobody may. Only of ``eval-accepted``.
    """


MOST_PATHS = 50_000
"""Paths in which two commits may differ at most; more are never listed."""
DEEPEST_PATH, LONGEST_PATH = 64, 2048
"""Parts, and bytes, of a path at most. No folder that is new is ever looked into below that."""
LARGEST_FILE = 1 << 28
"""Largest object that is ever read into memory (256 MiB)."""

LEAST_BYTES = 1 << 20
"""Largest governed YAML file that is read (1 MiB). No limit is below it: one that the policy's own file is too large
for could never be raised again."""


class Limits(Frozen):
    """Budgets of a proposal: those of main count, for gate, hook and ``verify`` alike.

    A policy may set them within bounds that the toolkit itself keeps, so that whatever the gate lets in can be read
    for ever.
    """

    record_bytes: Annotated[int, Field(ge=1, le=LARGEST_FILE)] = 262_144
    """Largest size of a promotion's ``record.json``."""
    evidence_bytes: Annotated[int, Field(ge=1, le=LARGEST_FILE)] = 16_777_216
    """Largest size of all files of a promotion's folder together."""
    changed_paths: Annotated[int, Field(ge=1, le=MOST_PATHS)] = 3000
    """Paths that change."""
    file_bytes: Annotated[int, Field(ge=LEAST_BYTES, le=LARGEST_FILE)] = 33_554_432
    """Largest size of one file that is added or changed."""
    change_bytes: Annotated[int, Field(ge=LEAST_BYTES, le=1 << 30)] = 134_217_728
    """Largest size of all files together that are added or changed."""
    path_bytes: Annotated[int, Field(ge=64, le=LONGEST_PATH)] = 512
    """Longest path, in bytes of UTF-8."""
    name_bytes: Annotated[int, Field(ge=64, le=240)] = 200
    """Of one part of a path; file systems take 255."""
    path_depth: Annotated[int, Field(ge=8, le=DEEPEST_PATH)] = 24
    """Parts of a path."""
    commits: Annotated[int, Field(ge=1, le=5000)] = 500
    """Commits of a proposal."""
    commits_bytes: Annotated[int, Field(ge=4096, le=1 << 26)] = 4_194_304
    """Largest size of all its commit objects: messages, names, signatures."""
    open_pulls: Annotated[int, Field(ge=1, le=1000)] = 20
    """Pull requests that one person may have open at a time. A harness, which opens for everybody, has no limit."""


PrivateKind = Literal["card", "email", "iban", "ip", "national-id", "phone", "url"]


class Private(Frozen):
    """What must not be written into this repository from records of production; see ``modelsmith capture``."""

    kinds: tuple[PrivateKind, ...] = get_args(PrivateKind)
    """Forms that the toolkit knows. Secrets (keys, tokens, passwords) are taken out whatever is said here."""
    patterns: Annotated[dict[Slug, Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=64)] = {}
    """Forms of your own, by name, as RE2 patterns: ``customer: CUST-[0-9]+``."""
    names: NameModel | None = None
    """Model that finds names of people, which have no form. Where it is missing, nothing is captured."""


class FirewallRule(Frozen):
    """How near training rows may come to what is scored, for every eval set of this repository."""

    most_overlap: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Largest share of a scored text's words that may stand in the batch, in n-grams of 13 words (less than 20 % is
    what Touvron et al., 2023, call clean)."""
    most_similarity: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Similarity of a row and a scored text that is not exceeded. An eval set's own limit holds besides."""
    most_cosine: MostCosine = {}
    """By part of what is scored, the cosine by `Policy.embedding` that no row may reach: rows that do are dropped
    before training. Parts that are not named have no such limit."""


class Policy(Frozen):
    """``.github/governance/policy.yaml``."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{7,127}$")]
    """Identity of this promotion repository; approvals name it, so none can be replayed elsewhere."""
    transitions: Annotated[tuple[Transition, ...], Field(min_length=1)]
    harness_paths: Annotated[tuple[str, ...], Field(max_length=256)]
    """CODEOWNERS-style patterns of paths that no person owns because the harness's checks decide them."""
    limits: Limits = Limits.defaults()
    keyless: Annotated[tuple[SigningWorkflow, ...], Field(max_length=32)] = ()
    """Workflows that may sign records, evidence and artifacts by their own identity, besides the keys of people.yaml.
    """
    attested_forges: Annotated[tuple[AttestingWorkflow, ...], Field(max_length=8)] = ()
    """Workflows that are believed about reviews at a forge; with none, only approvals that people signed count."""
    audiences: dict[str, Literal["reviewer", "operator"]] = {}
    """``<Type>.<field>`` of a machine-written record, and who alone may see it: ``reviewer`` (who may read this
    repository) or ``operator`` (who may use the machine). Only ever narrower than the toolkit's own list. What is kept
    for operators is left empty in what is committed; what `verify` needs cannot be."""
    observer_flips: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Largest share of scenarios on which an observer with another engine, library version, precision or device may
    find another verdict and still agree. On the same engine none may differ."""
    people_open: bool = False
    """A change that is not a promotion is refused when a harness opened its pull request: then whoever wrote it opens
    it, and cannot approve it, or another person vouches for it by their key."""
    private: Private = Private.defaults()
    """What `modelsmith capture` takes out of records before anything is written."""
    live_days: Annotated[int, Field(ge=1, le=3660)] = 90
    """How long a front door keeps what it counted of a deployment, from the last decision on."""
    firewall: FirewallRule | None = None
    """Evidence must hold the firewall's certificate within these limits; none is asked for when not set."""
    embedding: EmbeddingModel | None = None
    """Model by which `FirewallRule.most_cosine` is measured, failures are grouped by topic, and failures of production
    find their neighbours. None: all three go by words alone."""
    require_weights: bool = False
    """``verify`` fails, rather than reports, when an artifact's weights are not at hand."""

    @model_validator(mode="after")
    def _cosines_have_a_model(self) -> Self:
        if self.firewall and self.firewall.most_cosine and not self.embedding:
            raise ValueError("firewall.most_cosine needs embedding: without a model there is no cosine")
        return self


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
    accounts: dict[Slug, Annotated[int, Field(ge=1, lt=10**15)]] = {}
    """Number of the account at each forge (``github: 583231``), which stays when a login is renamed or given up."""
    keys: tuple[SshKey, ...] = ()


class Harness(Frozen):
    """A machine identity: opens pull requests, signs evidence, never approves on a person's gate."""

    id: Actor
    logins: dict[Slug, str] = {}
    keys: tuple[SshKey, ...] = ()
    """SSH keys that sign its pull request events."""
    trust: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+\.pem$")], ...] = ()
    """Files under ``.github/governance/trust/``: EC P-256 public keys that sign records, evidence and artifacts."""
    observer: bool = False
    """It repeats evals of others: its ``trust`` keys sign observations, and no record, evidence or artifact."""


class People(Frozen):
    """``.github/governance/people.yaml``."""

    roles: dict[Slug, str]
    """Role id and what it answers for."""
    people: tuple[Person, ...] = ()
    harness: tuple[Harness, ...] = ()
