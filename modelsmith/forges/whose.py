"""Whose pull request it is: how many one person may have open, and who closes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from modelsmith.forges.events import LoggedEvent, opened
from modelsmith.forges.governance_at import Governance
from modelsmith.forges.reader import Reader
from modelsmith.repository.git import Git
from modelsmith.repository.listing import REGULAR
from modelsmith.schema.catalog import POLICY
from modelsmith.schema.errors import GateNotCleared, InvalidInput, ModelsmithError
from modelsmith.schema.pull import Change, ChangedPath, PullEvent

_RULES = ChangedPath(path=POLICY, old_mode=REGULAR, new_mode=REGULAR, old_blob="0" * 40, new_blob="0" * 40)


def check_count(reader: Reader, event: PullEvent, main: str, tips: Mapping[int, str]) -> None:
    """Whoever lists the open pull requests pays for each: one person has a few. What cannot be read counts nobody's."""
    now = reader.governance(main)
    if any(event.actor == harness.id for harness in now.people.harness):
        return
    mine = 0
    for tip in tips.values():
        with suppress(ModelsmithError):
            mine += reader.outline(tip).actor == event.actor and reader.status(tip, main) == "open"
    require_room(now, event.actor, mine)


def require_room(now: Governance, actor: str, mine: int) -> None:
    """Refuse one more to who has so many open.

    Raises:
        GateNotCleared: ``too-many-open``; never for a harness.
    """
    most = now.limits.open_pulls
    if mine >= most and not any(actor == harness.id for harness in now.people.harness):
        raise GateNotCleared(
            "too-many-open",
            f"{actor} has {mine} open pull requests; the policy allows {most} (limits.open_pulls).",
            "Close one that is no longer needed (`modelsmith pr close`), or have it decided.",
            actor=actor,
        )


def check_closing(reader: Reader, opening: PullEvent, event: PullEvent, main: str) -> None:
    """Refuse a closing by a person who may neither withdraw the proposal nor decide about it."""
    git = reader.git
    if reader.merge_of(opening, main):
        raise InvalidInput("not-open", f"Pull request {event.pull} is merged.", "Open a new one.")
    if not reader.governance(main).may_close(event.actor, opening, _proposed(git, opening)):
        raise GateNotCleared(
            "not-yours-to-close",
            f"{event.actor} neither opened pull request {event.pull} nor decides about what it changes.",
            f"Ask {opening.actor}, or an owner of its paths, to close it.",
        )


def closed_at(reader: Reader, log: Sequence[LoggedEvent], main: str) -> datetime | None:
    """When one who may close a pull request did so, as they signed; None where nobody did.

    Where no hook asks who closes, closings of others stand in a log, too. Signatures are for the reader to check.
    """
    now, first = reader.governance(main), opened(log)
    closings = [event.event for event in log if event.event.kind == "closed"]
    change = _proposed(reader.git, first) if closings else Change(paths=())
    return next((event.at for event in closings if now.may_close(event.actor, first, change)), None)


def _proposed(git: Git, opening: PullEvent) -> Change:
    """What a pull request would change; where that cannot be told, the rules, so that their owners may close it."""
    try:
        return git.change(opening.base, git.merge_tree(opening.base, opening.head))
    except ModelsmithError:
        return Change(paths=(_RULES,))
