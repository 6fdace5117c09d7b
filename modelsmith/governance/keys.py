"""Whether what a key or a forge said still counts. Pure: the time of a merge is an argument.

An approval counts when its key, as people.yaml lists it on the main that is merged into, was valid at the approval's
own time, is still valid at the time of the merge, and is not revoked. That a signature is authentic is settled before.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from modelsmith.governance.names import holders
from modelsmith.governance.people import account_holder
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import People, Policy, SshKey
from modelsmith.schema.pull import PullRequest, Review

CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far someone else's clock may differ from the one that judges."""


def merge_time(now: datetime, reviews: Iterable[Review]) -> datetime:
    """The time that keys are judged at: ``now``, or the latest review where its clock was ahead within tolerance.

    Replay, which knows no clock, sees the times of the approvals that were merged and no later one. A merge must be
    judged at no earlier time than its replay, else replay would refuse what the merge let through.
    """
    return max([now, *(review.at for review in reviews if review.at <= now + CLOCK_TOLERANCE)])


def review_doubt(review: Review, policy: Policy, people: People, now: datetime) -> str | None:
    """Why an authentic verdict does not count at a merge at ``now``; None when it does.

    The end of a key's validity takes approvals back and nothing else: a rejection made in time stands until it is
    taken back.
    """
    if review.at > now + CLOCK_TOLERANCE:
        return f"it is dated {_words(review.at)}, in the future"
    if review.key is not None:
        return key_doubt(people, review.actor, review.key, review.at, now if review.verdict == "approve" else None)
    source = review.source
    if source is None:
        return "nothing proves it"
    if source.forge not in {workflow.forge for workflow in policy.attested_forges}:
        return f"the policy takes no attested reviews of {source.forge}"
    if account_holder(people, source.forge, source.login, source.account) != review.actor:
        return f"the account {source.account} ({source.login}) at {source.forge} is not {review.actor}'s"
    if source.read_at > now + CLOCK_TOLERANCE:
        return f"{source.forge} was read on {_words(source.read_at)}, in the future; set this machine's clock"
    if review.verdict == "approve" and now > source.read_at + timedelta(hours=source.hours):
        return f"{source.forge} was read on {_words(source.read_at)}, more than {source.hours} hours ago; read it again"
    return None


def opener_doubt(pull: PullRequest, people: People) -> str | None:
    """Why it is not certain who opened the pull request; None when it is.

    A key that has ended since does no harm here: it was valid when the pull request was opened.
    """
    if pull.key is None:
        return None
    return key_doubt(people, pull.preparer, pull.key, pull.opened_at, None)


def key_doubt(people: People, actor: str, key: str, at: datetime, now: datetime | None) -> str | None:
    """Why what the actor's key signed does not count; None when it does.

    Args:
        people: Who holds which key.
        actor: Whom the signature speaks for.
        key: The key that made it.
        at: The time that was signed.
        now: A time at which the key must be valid, too; None when it is enough that it was valid at ``at``.
    """
    listed = [entry for entry in keys_of(people, actor) if entry.key == key]
    if not listed:
        return f"its key is not listed under {actor} any more"
    for entry in listed:
        if entry.revoked_at is not None:
            return f"its key was revoked on {_words(entry.revoked_at)}"
    doubts = [_bounds_doubt(entry, at, now) for entry in listed]
    return None if None in doubts else doubts[0]


def keys_of(people: People, actor: str) -> tuple[SshKey, ...]:
    """Keys that people.yaml lists under an id, whether they are valid or not."""
    return tuple(key for holder in holders(people) if holder.id == actor for key in holder.keys)


def may_sign(key: SshKey, now: datetime) -> bool:
    """Whether what the key signs at this moment counts."""
    return key.revoked_at is None and _bounds_doubt(key, now, None) is None


def _bounds_doubt(key: SshKey, at: datetime, now: datetime | None) -> str | None:
    if key.valid_after is not None and at < key.valid_after:
        return f"its key is valid only from {_words(key.valid_after)} on"
    if key.valid_before is not None and at >= key.valid_before:
        return f"its key had ended on {_words(key.valid_before)}"
    if key.valid_before is not None and now is not None and now >= key.valid_before:
        return f"its key ended on {_words(key.valid_before)}"
    return None


def _words(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def key_holder(people: People, key: str, now: datetime) -> str:
    """Holder of the public key, who may sign with it now.

    Raises:
        IntegrityFailure: ``unknown-key``; ``key-not-valid`` for one that has ended, is revoked or not valid yet.
    """
    for holder in holders(people):
        if any(entry.key == key for entry in holder.keys):
            doubt = key_doubt(people, holder.id, key, now, now)
            if doubt is None:
                return holder.id
            raise IntegrityFailure(
                "key-not-valid",
                f"{holder.id} cannot sign with this key: {doubt}",
                "Use a key that is valid.",
                id=holder.id,
                doubt=doubt,
            )
    raise IntegrityFailure(
        "unknown-key",
        "This key is not listed in people.yaml on main",
        "Have its public half added to .github/governance/people.yaml by a pull request of its owners.",
    )
