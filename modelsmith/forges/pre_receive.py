"""The rules of the local forge's ``pre-receive`` hook: which pushes are accepted.

It binds honest pushes. Whoever can write to the repository's disk can go round it; reading the forge and
``modelsmith verify`` then detect what was done.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from modelsmith.forges.chains import MOST_EVENTS
from modelsmith.forges.events import LoggedEvent, check_lengths, check_plain, fold_pull, opened
from modelsmith.forges.reader import MAIN, Reader, pull_number
from modelsmith.forges.whose import check_closing, check_count
from modelsmith.governance.keys import CLOCK_TOLERANCE, key_doubt
from modelsmith.repository.budgets import require_openable, require_small_merge, require_small_receipts
from modelsmith.repository.git import Git
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.listing import REGULAR
from modelsmith.repository.secrets import first_secret
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
)
from modelsmith.schema.pull import PullRequest
from modelsmith.signing.ssh import signing_key

Decision = TypeVar("Decision")
Receipts = Callable[[PullRequest, Decision, str, Mapping[str, bytes]], Mapping[str, bytes]]
"""Files that are due after a merge, from the pull request, the decision, the merge commit and what was pushed."""

_FREE = ("refs/heads/", "refs/tags/")
_MISTAKABLE = re.compile(r"HEAD|[0-9a-f]{7,64}")
"""Names of branches and tags that read as a commit."""
_PLACES = ("refs", "heads", "tags", "remotes")
"""What the name of a branch or tag may not begin with, as git would look for it elsewhere, too: with a branch
``refs/heads/refs/heads/main`` no push to main would have one meaning. No part may be ``refs``: lists of refs are
matched by their tails."""
_SETTINGS = {
    "receive.denyDeletes": "true",
    "receive.denyNonFastForwards": "true",
    "receive.fsckObjects": "true",
    "core.hooksPath": "hooks",
}


class RefUpdate(NamedTuple):
    """One line of what a push asks for; an id of zeros stands for no commit."""

    old: str
    new: str
    ref: str

    @property
    def creates(self) -> bool:
        """Whether the ref did not exist."""
        return not self.old.strip("0")

    @property
    def deletes(self) -> bool:
        """Whether the push deletes the ref."""
        return not self.new.strip("0")


def parse_updates(text: str) -> list[RefUpdate]:
    """What git gives a ``pre-receive`` hook on standard input. Only a line feed ends a line: a ref may hold others.

    Raises InfrastructureFailure (``bad-updates``) for anything else.
    """
    updates = [line.split(" ", 2) for line in text.removesuffix("\n").split("\n")] if text else []
    if any(len(update) != 3 for update in updates):
        raise InfrastructureFailure("bad-updates", "This is not what git gives a hook.", "Let git call the hook.")
    return [RefUpdate(*update) for update in updates]


def check_push(
    forge: Git,
    updates: Sequence[RefUpdate],
    decide: Callable[[PullRequest, str, str], Decision],
    receipts: Receipts[Decision],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    facts: tuple[KeptFacts, KeptFacts] | None = None,
) -> None:
    """Refuse the push unless every update is one that the gate allows.

    Args:
        forge: The bare repository, as the hook sees it: new objects in quarantine, refs as before the push.
        updates: What is pushed.
        decide: Decides the gate again for (pull request, main, head), with the toolkit of the base; raises to refuse.
        receipts: Path and content of the files that must be committed on top of the merge; none, no commit. It is given
            those that were pushed, for what can be checked but not made again.
        clock: The forge's time.
        facts: What is known of logs that lay there before, and of main's receipts.

    Raises:
        ModelsmithError: the first refusal.
    """
    reader = Reader(forge, *(facts or ()))
    if forge.symbolic_ref(MAIN):
        raise _protected("Main is a link to another branch.")
    refs = [update.ref for update in updates]
    if MAIN in refs and any(pull_number(ref) for ref in refs):
        problem = "Each is judged by what stood before, so main and a pull request do not move in one push."
        raise _refused("one-at-a-time", problem, "Push main, then the pull request.")
    for update in updates:
        number = pull_number(update.ref)
        if update.ref == MAIN:
            _check_main(reader, update, decide, receipts)
        elif number is not None:
            _check_pull(reader, update, number, clock())
        elif not _is_free(update.ref):
            raise _refused("reserved-ref", f"{update.ref} is not for pushing.", "Push a branch, and propose it.")


def _is_free(ref: str) -> bool:
    """Whether a ref has no meaning of its own and cannot be mistaken for main or a commit where names are looked up."""
    kind = next((kind for kind in _FREE if ref.startswith(kind)), None)
    if kind is None or ref.lower() == MAIN:
        return False
    parts = ref.removeprefix(kind).lower().split("/")
    if parts[0] in _PLACES or "refs" in parts:
        return False
    first, _, last = ref.removeprefix(kind).rpartition("/")
    if kind == "refs/tags/" and last.lower() == "main":
        return False
    return not _MISTAKABLE.fullmatch(last) or bool(first)


def install_hook(bare: Path, python: str) -> None:
    """Make a bare repository a forge: its ``pre-receive`` hook runs the toolkit with this Python interpreter.

    ``core.hooksPath`` is set to the repository's own ``hooks`` folder, so that no user's setting leads elsewhere. It is
    written as ``hooks``, and so still leads there when the forge is moved: git reads it from a bare repository's own
    folder, but from the top of a work tree, where any commit can put hooks; so nothing with a work tree is made one.

    Raises:
        InvalidInput: ``not-bare`` for a folder that is not a bare repository, or one with work trees.
        InfrastructureFailure: ``git-failed``, ``not-writable``.
    """
    git = Git(bare)
    _require_bare(git)
    for name, value in _SETTINGS.items():
        git.run("config", "--local", "--replace-all", name, value)
    hook = bare / "hooks" / "pre-receive"
    part = hook.with_name(".pre-receive.partial")
    try:
        hook.parent.mkdir(exist_ok=True)
        part.write_text(
            "#!/bin/sh\n# Refuses what the gate does not allow.\n"
            f"exec {shlex.quote(python)} -P -m modelsmith hook pre-receive\n",
            encoding="utf-8",
        )
        part.chmod(0o755)
        part.replace(hook)
    except OSError as error:
        raise InfrastructureFailure(
            "not-writable",
            f"{hook}: {error.strerror}.",
            "Make the forge writable for this user.",
            hook=str(hook),
            reason=error.strerror,
        ) from None


def _require_bare(git: Git) -> None:
    problem = "is no bare repository"
    if (git.path / "HEAD").is_file():
        is_bare, folder = git.text("rev-parse", "--is-bare-repository", "--absolute-git-dir").splitlines()
        trees = git.text("worktree", "list", "--porcelain", "-z").split("\0\0")
        if is_bare == "true" and Path(folder).resolve() == git.path.resolve():
            if len([tree for tree in trees if tree]) == 1:
                return
            problem = "has work trees, in which git would take a commit's files for hooks"
    raise InvalidInput(
        "not-bare",
        f"{git.path} {problem}",
        "Make one for the forge (`git init --bare forge.git`), and let clones name it (`git config modelsmith.forge`).",
        path=str(git.path),
    )


def _check_pull(reader: Reader, update: RefUpdate, number: int, now: datetime) -> None:
    if update.deletes:
        raise _refused("append-only", f"{update.ref} may only grow.", "Close the pull request instead.")
    main, tips = reader.main(), reader.tips()
    log = reader.log(update.new)
    commits = [logged.commit for logged in log]
    if not update.creates and update.old not in commits:
        raise _refused("append-only", f"{update.ref} may only grow.", "Fetch the pull request and add to it.")
    new = log if update.creates else log[commits.index(update.old) + 1 :]
    if len(log) > MOST_EVENTS and any(logged.event.kind not in ("closed", "merged") for logged in new):
        raise _refused("over-limits", f"{update.ref} has {MOST_EVENTS} events, which is all it may.", "Open a new one.")
    if opened(log).pull != number:
        raise IntegrityFailure(
            "bad-event", f"The events of {update.ref} are about another pull request.", "Use its own ref."
        )
    if update.creates and number > 1 + max(tips, default=0):
        raise _refused("skipped-number", f"{number} is not the next number.", "Fetch, and take the next number.")
    fold_pull(log, reader.merge_of(opened(log), main))
    reader.check_repository(log, main)
    renamed = opened(log).repository != reader.governance(main).repository
    if renamed and any(logged.event.kind not in ("closed", "commented", "merged") for logged in new):
        raise InvalidInput(
            "renamed-repository",
            f"{update.ref} is about {opened(log).repository}, as main no longer calls itself.",
            "Close it and propose the change again.",
        )
    for logged in new:
        if logged.attestation is not None:
            raise _refused(
                "not-attested-here",
                "A forge of one's own has no reviews but those that people sign, so there is nothing to attest.",
                "Sign: `modelsmith approve N --key KEY`.",
            )
        merge = reader.merge_of(opened(log), main) if logged.event.kind == "merged" else None
        people_at = reader.git.text("rev-parse", f"{merge}^1") if merge else main
        reader.verify(logged, people_at)
        _check_event(reader, logged, main, now)
        _check_base(reader, logged)
        if logged.event.kind == "opened":
            check_count(reader, logged.event, main, tips)
        if logged.event.kind == "closed":
            check_closing(reader, opened(log), logged.event, main)
        _check_keys(reader, logged, people_at)


def _check_keys(reader: Reader, logged: LoggedEvent, people_at: str) -> None:
    """Keys that have ended, are revoked or are not valid yet say nothing new. ``people_at``: whose keys count."""
    people, event = reader.governance(people_at).people, logged.event
    signed = [(logged.signature, event.at)]
    if logged.approval and logged.proof:
        signed.append((logged.proof.signature, logged.approval.at))
    for signature, at in signed:
        doubt = key_doubt(people, event.actor, str(signing_key(signature)), at, event.at)
        if doubt:
            raise IntegrityFailure(
                "key-not-valid",
                f"{event.actor} cannot sign this: {doubt}.",
                "Use a key that is valid.",
                actor=event.actor,
                doubt=doubt,
            )


def _check_base(reader: Reader, logged: LoggedEvent) -> None:
    """Once a key is taken out of people.yaml, what it signed is read by the main that the event names.

    So what was not authentic there when it came would make the whole log unreadable for everybody, later.
    """
    event = logged.event
    try:
        reader.verify(logged, event.base)
        is_known = event.kind != "opened" or reader.governance(event.base).repository == event.repository
    except ModelsmithError:
        is_known = False
    if not is_known:
        raise InvalidInput(
            "unrelated-base",
            f"The event names a main that did not list this key under {event.actor}, or not as {event.repository}.",
            "Fetch main and try again, so that the event names main as it is now.",
        )


def _check_event(reader: Reader, logged: LoggedEvent, main: str, now: datetime) -> None:
    """Check an event when it arrives, besides its signatures."""
    event, git = logged.event, reader.git
    times = [event.at, *([logged.approval.at] if logged.approval else [])]
    if any(abs(at - now) > CLOCK_TOLERANCE for at in times):
        raise _refused(
            "wrong-time", "The event's or approval's time is not the present.", "Set the clock and try again."
        )
    reason = logged.approval.reason if logged.approval else ""
    check_plain(event.title or "", event.branch or "", event.body, reason)
    check_lengths(event, logged.approval)
    bases = {event.base, *([logged.approval.base] if logged.approval else [])}
    line = reader.line(main)
    if not all(base in line for base in bases):
        raise InvalidInput("unrelated-base", "The event names a main that never was.", "Fetch main and try again.")
    words = (event.title or "", event.branch or "", event.body, logged.approval.reason if logged.approval else "")
    if any(first_secret(text) for text in words):
        raise InvalidInput("secret", "What was said holds what looks like a secret.", "Say it without that.")
    if event.kind == "opened":
        require_openable(git, event.base, event.head, reader.governance(main).limits)
        change = git.change(event.base, git.merge_tree(event.base, event.head))
        if change.digest() != event.change:
            raise _refused("wrong-change", "The event's change is not that of its head.", "Open the proposal again.")


def _check_main(
    reader: Reader,
    update: RefUpdate,
    decide: Callable[[PullRequest, str, str], Decision],
    receipts: Receipts[Decision],
) -> None:
    if update.creates and reader.git.rev(MAIN) is None:
        return
    if update.creates or update.deletes:
        raise _protected("Main cannot be removed or made anew.")
    git, base = reader.git, update.old
    above = _parents(git, update.new)
    merge = above[0] if len(above) == 1 else update.new
    parents = above if merge == update.new else _parents(git, merge)
    if len(parents) != 2 or parents[0] != base:
        raise _protected("Main moves only by merging a pull request.")
    head = parents[1]
    _check_merge_commits(git, {merge, update.new})
    if git.text("rev-parse", f"{merge}^{{tree}}") != git.merge_tree(base, head):
        raise _refused("evil-merge", "The merge changes more than its pull request.", "Build the merge again.")
    refusals: list[ModelsmithError] = []
    tips = reader.tips()
    for number in _open_pulls(reader, tips, head, base):
        try:
            pull = reader.pull(number, tips, base)
            decision = decide(pull, base, head)
            _check_receipts(git, merge, update.new, partial(receipts, pull, decision, merge))
        except ModelsmithError as error:
            refusals.append(error)
        else:
            return
    raise refusals[0] if refusals else _protected("No open pull request has this head.")


def _check_merge_commits(git: Git, commits: Set[str]) -> None:
    """The commits that a merge itself adds to main are asked what a proposal's are."""
    require_small_merge(git, commits)
    for commit in git.read_commits(list(commits)).values():
        message = commit.partition(b"\n\n")[2].decode("utf-8", "replace")
        if first_secret(message):
            raise InvalidInput(
                "secret", "The merge says what looks like a secret.", "Merge with `modelsmith pr merge`."
            )


def _open_pulls(reader: Reader, tips: Mapping[int, str], head: str, main: str) -> Iterator[int]:
    """Two people may have proposed the same commit; the receipts say whose pull request it is that was merged.

    A log that cannot be read is nobody's proposal, and stops the merge of no other.
    """
    for number in reader.perhaps_of(head, tips):
        tip = tips[number]
        with suppress(ModelsmithError):
            if reader.outline(tip).head == head and reader.status(tip, main) == "open":
                yield number


def _check_receipts(git: Git, merge: str, tip: str, due: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
    added = git.change(merge, tip).paths if tip != merge else ()
    require_small_receipts(git, added)
    names = {path.path for path in added}
    contents = git.read_blobs([path.new_blob for path in added if path.new_mode == REGULAR])
    due_files = due({path.path: contents[path.new_blob] for path in added if path.new_blob in contents})
    if names != set(due_files) or (not due_files and tip != merge):
        raise _wrong_receipts(f"{len(names)} files follow the merge where {len(due_files)} are due")
    for path in added:
        if path.old_mode.strip("0") or path.new_mode != REGULAR or contents[path.new_blob] != due_files[path.path]:
            raise _wrong_receipts(f"{path.path} is not what the merge attests")


def _parents(git: Git, commit: str) -> tuple[str, ...]:
    return tuple(git.text("rev-list", "--parents", "-n1", commit).split()[1:])


def _refused(code: str, message: str, mend: str, **facts: str) -> ModelsmithError:
    return GateNotCleared(code, message, mend, **facts)


def _protected(message: str) -> ModelsmithError:
    return _refused("protected-main", message, "Propose the change: `modelsmith pr open`, then `modelsmith pr merge`.")


def _wrong_receipts(problem: str) -> ModelsmithError:
    mend = "Merge with `modelsmith pr merge`."
    return _refused("wrong-receipts", f"The receipts do not fit: {problem}.", mend, problem=problem)
