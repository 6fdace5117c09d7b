"""What GitHub's refusals mean, in our words: from REST answers and from what ``git push`` printed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from modelsmith.forges.github.place import SCHEME, Place
from modelsmith.forges.github.token import PERMISSIONS, VARIABLES
from modelsmith.forges.refusal import find_refusal
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput, ModelsmithError

UNSURE = "github-unsure"
"""The request may have been done or not: whoever made it looks before it is made again."""
_SECONDARY_WAIT = 60.0
"""Seconds to wait at a secondary limit that names no time, by GitHub's "Rate limits for the REST API"."""
_LIMITED = re.compile("rate limit|abuse detection|temporarily blocked from content creation", re.I)
_TOO_QUICKLY = "was submitted too quickly"
_RULES = re.compile(r"GH006|GH013|protected branch hook declined|repository rule violations")
_TOO_WEAK = re.compile(r"Permission to \S+ denied|error: 403|[Ww]rite access to repository not granted")
_REFUSED = re.compile(r"Authentication failed|error: 401|could not read Username|Invalid username")
_PLACE = "Mend it where it was made (Settings, Developer settings, Fine-grained tokens)"
_WHERE = f"{_PLACE}: it needs {PERMISSIONS}."


def wait_for(status: int, headers: Mapping[str, str], message: str, now: datetime) -> float | None:
    """Seconds until GitHub answers again, when it refused because of a rate limit; None when it was something else.

    By GitHub's "Rate limits for the REST API": ``retry-after`` first; with nothing remaining, ``x-ratelimit-reset``;
    else a minute. By bug reports of others, who makes many things at a time is told so in other words, too.
    """
    limited = bool(_LIMITED.search(message)) or "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    if (status not in (403, 429) or not limited) and not (status == 422 and _TOO_QUICKLY in message):
        return None
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(0.0, float(reset) - now.timestamp()) + 1
    return _SECONDARY_WAIT


def rate_limited(seconds: float, now: datetime) -> InfrastructureFailure:
    """The failure when GitHub would let one wait longer than a command should."""
    at = datetime.fromtimestamp(now.timestamp() + seconds, UTC)
    return InfrastructureFailure(
        "rate-limit",
        f"GitHub answers this token no more until {at:%H:%M} UTC",
        "Run the command again then; nothing was done twice, and nothing is lost.",
        seconds=round(seconds),
    )


def failure(status: int, headers: Mapping[str, str], message: str, action: str, place: Place) -> ModelsmithError:
    """The error behind an answer that is none of a rate limit.

    Args:
        status: Of HTTP.
        headers: With names in small letters.
        message: GitHub's words.
        action: What was asked for: ``read the pull requests``.
        place: Where.
    """
    facts = {"status": status, "repository": place.full_name}
    if status == 401:
        return token_refused(**facts)
    if status == 403 and "archived" in message.lower():
        return archived(place)
    if status == 403:
        needed = headers.get("x-accepted-github-permissions", "")
        named = needed if re.fullmatch(r"[a-z_=;, ]{1,200}", needed) else ""
        refusal = f"GitHub does not let this token {action}." + (f" It takes one with {named}." if named else "")
        mend = f"{_PLACE}: grant it {named}, or use another token for this command." if named else _WHERE
        return InvalidInput("token-too-weak", refusal, mend, needed=needed, **facts)
    if status in (404, 410):
        return unknown_repository(place, status=status, said=message)
    if status in (405, 409) and "Base branch was modified" in message:
        return InfrastructureFailure(
            "ref-moved", f"Main moved at GitHub while it was to {action}", "Run it again: it judges anew.", **facts
        )
    if status in (405, 409) and action.startswith("merge "):
        return GateNotCleared(
            "branch-moved" if "Head branch" in message else "branch-rules",
            f"GitHub would not {action}: {message or status}",
            "Do what it says, then run it again; the gate here was open.",
            **facts,
        )
    if status >= 500 or status == 0:
        return InfrastructureFailure(
            "github-unsure",
            f"GitHub did not say whether it could {action} ({status or 'no answer'})",
            "Run the command again: it looks first, and does nothing twice.",
            **facts,
        )
    return InfrastructureFailure(
        "github-failed",
        f"GitHub would not {action}: {message or status}",
        "Do what it says, then run it again.",
        **facts,
    )


def token_refused(**facts: object) -> InvalidInput:
    """The token has ended, was taken back, or was not copied whole."""
    return InvalidInput(
        "token-refused",
        "GitHub does not know this token: it has ended, was revoked, or is not whole",
        f"Make a new one with {PERMISSIONS}, and set {VARIABLES[0]} to it.",
        **facts,
    )


def archived(place: Place) -> InvalidInput:
    """Error: the repository is archived, so nothing can be written to it."""
    return InvalidInput(
        "archived-repository",
        f"{place.full_name} is archived at GitHub: it can be read, and nothing can be proposed or merged",
        "Unarchive it in its settings, or let the clone name another forge.",
    )


def unknown_repository(place: Place, **facts: object) -> InvalidInput:
    """GitHub says 404 for what is not there and for what this token may not see."""
    return InvalidInput(
        "unknown-repository",
        f"GitHub shows this token no repository {place.full_name}",
        "Mend the name (`git config modelsmith.forge`), or give the token that repository under Repository access.",
        repository=place.full_name,
        **facts,
    )


def moved_repository(place: Place, full_name: str) -> InvalidInput:
    """The error for a repository that GitHub answers under another name: the old name may go to somebody else."""
    return InvalidInput(
        "moved-repository",
        f"{place.full_name} is called {full_name} at GitHub now",
        f"If that is right: git config modelsmith.forge {SCHEME}{'' if 'github.com' in place.web else place.web + '/'}"
        f"{full_name}",
        repository=place.full_name,
        found=full_name,
    )


def push_refusal(stderr: str) -> ModelsmithError | None:
    """The error behind a push that GitHub refused, from what git printed; None when it was not refused."""
    words = [line.removeprefix("remote: ").strip() for line in stderr.splitlines() if line.startswith("remote: ")]
    problem = " ".join(word for word in words if word and not word.startswith(("Resolving", "Review all")))[:600]
    if "archived" in problem:
        return InvalidInput(
            "archived-repository", "The repository is archived at GitHub: nothing can be pushed", "Unarchive it."
        )
    if _RULES.search(stderr):
        return GateNotCleared(
            "branch-rules",
            f"The rules of this branch at GitHub refuse the push: {problem}",
            "Let the ruleset's bypass list hold the account that merges (docs/github.md); the gate here was open.",
        )
    if _TOO_WEAK.search(stderr):
        return InvalidInput(
            "token-too-weak", "GitHub does not let this token push. It takes one with Contents: read and write", _WHERE
        )
    if _REFUSED.search(stderr):
        return token_refused()
    return find_refusal(stderr)
