"""Pull requests as the gate sees them, whichever forge holds them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Actor, Digest, Frozen, GitHash, Moment, Slug
from modelsmith.schema.canonical import digest
from modelsmith.schema.plaintext import first_break, first_unwelcome


class ChangedPath(Frozen):
    """One path of a change; renames are a removal and an addition."""

    path: str
    old_mode: str
    """Git file mode before, ``000000`` when added."""
    new_mode: str
    """Git file mode after, ``000000`` when removed."""
    old_blob: GitHash
    new_blob: GitHash


class Change(Frozen):
    """A set of changed paths: the subject of an approval."""

    paths: tuple[ChangedPath, ...]

    def digest(self) -> str:
        """SHA-256 over the sorted (path, modes, blobs): it survives squash and rebase and dies with any other edit."""
        return digest(sorted([p.path, p.old_mode, p.new_mode, p.old_blob, p.new_blob] for p in self.paths))


class SignedApproval(Frozen):
    """A verdict with what proves it."""

    statement: str
    """Canonical JSON of the `Approval`, exactly as signed."""
    signature: str
    """Armored ``ssh-keygen -Y`` signature in the namespace ``modelsmith-approval``."""


class ForgeReview(Frozen):
    """A review at a forge, which knows its giver by an account and not by a signature."""

    forge: Slug
    login: str
    account: int
    """The forge's number of the account."""
    review: int
    """The forge's number of the review."""
    read_at: Moment
    """When a workflow of main read it."""
    hours: int
    """How long from then on an approval counts."""


class SignedEvent(Frozen):
    """An act of somebody at the local forge, with what proves it."""

    statement: str
    """Canonical JSON of the `PullEvent`, exactly as signed."""
    signature: str
    """Armored ``ssh-keygen -Y`` signature in the namespace ``modelsmith-event``."""


class Review(Frozen):
    """A verdict that is authentic; whether it counts is for the gate.

    It has a key with the proof that it made, or a source: with neither it counts for nothing.
    """

    actor: Actor
    verdict: Literal["approve", "reject", "withdraw"]
    change: Digest
    """Change that the verdict speaks of."""
    at: Moment
    base: GitHash | None = None
    """Main as its giver saw it; of a review at a forge, as the workflow saw it that read it."""
    reason: str = ""
    proof: SignedApproval | None = None
    """The signature, where the forge keeps one."""
    key: str | None = None
    """Public SSH key that made the proof: type and base64."""
    source: ForgeReview | None = None
    """The review at a forge, where it is one."""
    attestation: str | None = None
    """The signed bundle of the workflow that read it."""


class Heard(Frozen):
    """What somebody said at a forge under a login, without signing it: it opens no gate. A no of a person closes it."""

    login: str
    account: Annotated[int, Field(ge=1)]
    """The forge's number of the account."""
    verdict: Literal["approve", "reject"]
    head: GitHash | None
    """The proposal's commit that they spoke of; None where the forge does not know it any more."""
    at: Moment


class Elsewhere(Frozen):
    """A verdict that somebody gave about the same in another pull request."""

    pull: int
    review: Review


class PullRequest(Frozen):
    """One proposal and what was said about it."""

    number: Annotated[int, Field(ge=1)]
    title: str
    body: str
    status: Literal["open", "merged", "closed"]
    branch: str
    """Name of the proposal's branch; an identical proposal on the same branch is adopted, not opened again."""
    base: GitHash
    """Commit of main that the proposal was made on."""
    head: GitHash
    requester: Actor
    """The person who asked for it."""
    preparer: Actor
    """The person who opened it, authenticated by the forge."""
    opened_at: Moment
    key: str | None = None
    """Public SSH key that signed the opening; none where the forge authenticates by login."""
    opening: SignedEvent | None = None
    """The signed opening; none where the forge authenticates by login."""
    reviews: tuple[Review, ...] = ()
    """Oldest first."""
    elsewhere: tuple[Elsewhere, ...] = ()
    """Of an open one: rejections of the same, and withdrawals, that other pull requests hold. By number, oldest first.

    The same is what has the same change, or, of a promotion, the same record: its signature may be another.
    """
    merge: GitHash | None = None
    """Merge commit, once merged."""
    unreceipted: bool = False
    """Merged, and main holds no receipts of it yet: the forge merged it by itself, and they follow."""
    withdrawn: bool = False
    """Of an unreceipted one: it was closed, at the forge or by who may, and its commit came onto main without it."""
    moved: GitHash | None = None
    """Of one that the forge shows as open: where its branch is now, at a forge where it may move on; none while it is
    at ``head``.

    What was opened, and what verdicts speak of, is ``head`` all the same.
    """
    draft: bool = False
    """Of one without receipts: whether the forge shows it as a draft, which its opener does not want merged yet."""
    numbered_at: Moment | None = None
    """When the forge gave it its number, where it says so: nobody has signed for opening it before."""
    heard: tuple[Heard, ...] | None = None
    """What each account last said at the forge without signing it; None where the forge was not asked. By itself it
    opens no gate; readers should know. See `modelsmith.promotion.attestation.find_objectors`."""
    attested: tuple[str, ...] = ()
    """What workflows attested of its reviews at the forge, oldest first, as signed: nobody has verified it yet."""


class PullEvent(Frozen):
    """``event.json`` of the local forge: one thing that happened to a pull request, signed by whoever did it."""

    repository: str
    """Identity of the promotion repository, as policy has it."""
    pull: Annotated[int, Field(ge=1)]
    kind: Literal["opened", "reviewed", "commented", "closed", "merged", "attested"]
    """``attested``: what a workflow read of the reviews at a forge. That is signed by the workflow, not by an actor."""
    actor: Actor
    at: Moment
    head: GitHash
    """The proposal's commit; the same in every event of a pull request."""
    base: GitHash
    """Commit of main when the event was made; of ``merged``, the one that was merged into."""
    change: Digest
    """Of ``opened``, what the merge into ``base`` would change; of ``reviewed``, what the verdict speaks of."""
    previous: GitHash | None
    """Commit of the event before; none for ``opened``."""
    branch: str | None = None
    """Name of the proposal's branch, in ``opened``."""
    title: str | None = None
    """Title, in ``opened``."""
    requester: Actor | None = None
    """The person who asked for the change, in ``opened``."""
    body: str = ""
    """Of ``opened``, the description; of ``commented``, the comment; of ``closed``, the reason."""
    verdict: Literal["approve", "reject", "withdraw"] | None = None
    """Verdict, in ``reviewed``; equals the signed approval's."""
    merge: GitHash | None = None
    """The merge commit, in ``merged``."""


def odd_words(title: str, branch: str, body: str, reason: str = "") -> str | None:
    """Which of the words that somebody wrote about a proposal are not plain text; None when all are.

    Logs from before this rule, and of clients that do not keep it, are read all the same.
    """
    for name, text in (("title", title), ("branch", branch), ("reason", reason)):
        odd = first_unwelcome(text) or first_break(text)
        if odd:
            return f"The {name} holds {odd.name}."
    odd = first_unwelcome(body)
    return f"The description holds {odd.name}." if odd else None
