"""Pull requests as GitHub has them: opened, shown and closed there, found again rather than doubled."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from modelsmith.forges.github.answers import (
    CommentAnswer,
    EventAnswer,
    Face,
    RepositoryAnswer,
    ReviewAnswer,
    RunAnswer,
    StatusAnswer,
)
from modelsmith.forges.github.failures import moved_repository
from modelsmith.forges.github.quoting import quoted
from modelsmith.forges.github.rest import Rest, unsure
from modelsmith.forges.github.reviews import DECIDES, given_by, last_verdicts
from modelsmith.governance.named_checks import QUESTIONS, NamedCheck
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.promotion import AttestedReview
from modelsmith.schema.pull import Heard

A = TypeVar("A", bound=BaseModel)

MOST_REVIEWS = 500
"""Reviews of one pull request that can be attested together."""

MARK = "<!-- modelsmith -->"
"""How the one comment of the toolkit is found again; a reader does not see it."""
EVAL_MARK = "<!-- modelsmith eval -->"
"""The same for the comment about an eval of the proposal."""
STATUS = "modelsmith/gate"
"""Under which name a commit's status is shown; a fine-grained token may write one, and no check run."""
LABELS = "modelsmith: "
"""What our labels begin with; all others are somebody else's."""
MERGE_ATTEMPTS = 4
LONGEST_STATUS = 140
CHECKS = "modelsmith/"
"""What the names of the named checks begin with at GitHub."""
LONGEST_TITLE = 255
LONGEST_SUMMARY = 60_000
"""Letters of what a check run says; GitHub takes 65,535."""
_STATUSES = {"success": "success", "neutral": "success", "action_required": "pending", "failure": "failure"}
"""A commit's status that says what a check run would."""


class Faces:
    """The pull requests of one repository, into its branch main."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest

    @cached_property
    def repository(self) -> RepositoryAnswer:
        """What GitHub says of the repository, once it is one that can be worked with.

        Raises:
            InvalidInput: ``moved-repository``, ``other-default``, ``unknown-repository``, ``token-refused``.
        """
        place = self.rest.place
        repository = read_answer(RepositoryAnswer, self.rest.ask("read the repository", ""))
        if repository.full_name.lower() != place.full_name.lower():
            raise moved_repository(place, repository.full_name)
        if repository.default_branch != "main":
            raise InvalidInput(
                "other-default",
                f"The default branch of {place.full_name} is {repository.default_branch!a}, "
                "and everything here is of main",
                "Make main its default branch, in its settings under Branches.",
                branch=repository.default_branch,
            )
        return repository

    def open_ones(self) -> dict[int, Face]:
        """The open pull requests by number; little is asked for when nothing has changed."""
        listed = self.rest.ask_all("list the pull requests", "/pulls?state=open&base=main&per_page=100")
        return {face.number: face for face in (read_answer(Face, entry) for entry in listed)}

    def get(self, number: int) -> Face | None:
        """One pull request into main; None when the number is an issue's, another branch's or nobody's."""
        try:
            face = read_answer(Face, self.rest.ask(f"read pull request {number}", f"/pulls/{number}"))
        except InvalidInput as error:
            if error.code == "unknown-repository":
                return None
            raise
        return face if face.base.ref == "main" else None

    def find(self, branch: str) -> Face | None:
        """The open pull request of a branch of this repository; GitHub has one at most."""
        head = quote(f"{self.rest.place.owner}:{branch}", safe="")
        listed = self.rest.ask_all("look for the pull request", f"/pulls?state=open&base=main&head={head}&per_page=100")
        faces = (read_answer(Face, entry) for entry in listed)
        return next((face for face in faces if face.head.ref == branch and self.is_ours(face)), None)

    def is_ours(self, face: Face) -> bool:
        """Whether its branch is one of this repository, not of a fork."""
        repo = face.head.repo
        return repo is not None and repo.full_name.lower() == self.rest.place.full_name.lower()

    def open(self, branch: str, title: str, body: str) -> Face:
        """The open pull request of a branch, opened when there is none.

        No answer, or that there is one already, is not the end: it is looked for, and found or tried once more.

        Raises:
            InfrastructureFailure: ``github-unsure``.
        """
        for attempt in range(3):
            face = self.find(branch)
            if face:
                return face
            try:
                created = self.rest.do(
                    "open the pull request",
                    lambda: self.rest.repository.create_pull(
                        base="main", head=branch, title=title, body=body, maintainer_can_modify=False
                    ),
                )
                return read_answer(Face, created.raw_data)
            except ModelsmithError as error:
                exists = error.details.get("status") == 422 and "already exists" in error.message
                if attempt == 2 or not (unsure(error) or exists):
                    raise
        raise AssertionError

    def close(self, number: int) -> None:
        """Close it; closed already is fine."""
        pull = self.rest.repository.get_pull(number)
        self.rest.do(f"close pull request {number}", lambda: pull.edit(state="closed"), again=True)

    def describe(self, face: Face, text: str) -> None:
        """Let its description be this text; nothing is written when it is."""
        if (face.body or "").replace("\r\n", "\n").strip() == text.strip():
            return
        pull = self.rest.repository.get_pull(face.number)
        self.rest.do(f"describe pull request {face.number}", lambda: pull.edit(body=text), again=True)

    def merge(self, number: int, head: str, message: str) -> None:
        """Merge it as its button does, by a merge commit of exactly this head.

        GitHub finds out in the background whether one can be merged, and says that it cannot until it knows ("Get a
        pull request", ``mergeable``); the caller knows that it can, so that is waited for.

        Raises:
            GateNotCleared: ``branch-rules``, ``branch-moved``.
            InfrastructureFailure: ``github-unsure``; it is not tried twice, since main is looked at. ``ref-moved``
                when main moved meanwhile.
        """
        pull = self.rest.repository.get_pull(number)
        title, _, text = message.partition("\n\n")
        for attempt in range(MERGE_ATTEMPTS):
            try:
                self.rest.do(
                    f"merge pull request {number}",
                    lambda: pull.merge(sha=head, merge_method="merge", commit_title=title, commit_message=text),
                )
                return
            except GateNotCleared as error:
                face = self.get(number) if "is not mergeable" in error.message else None
                if face is None or face.state != "open" or attempt == MERGE_ATTEMPTS - 1:
                    raise
                self.rest.pause(2.0**attempt)

    def heard(self, number: int, until: datetime | None = None) -> tuple[Heard, ...]:
        """The last verdict that each account gave in GitHub's pages, with the commit that it was about.

        ``until``: when GitHub merged it; see `given_by`.
        """
        return last_verdicts(self._given(number, until))

    def reviews(self, number: int) -> tuple[AttestedReview, ...]:
        """Reviews that a workflow attests: all that decide something.

        Raises:
            InfrastructureFailure: ``github-failed`` for an answer that cannot be read.
            GateNotCleared: ``over-limits``.
        """
        reviews = self._given(number)
        if len(reviews) > MOST_REVIEWS:
            raise GateNotCleared(
                "over-limits",
                f"Pull request {number} has {len(reviews)} reviews; {MOST_REVIEWS} can be attested",
                "Propose the change again: it gets a pull request of its own.",
                number=number,
            )
        return tuple(reviews)

    def _given(self, number: int, until: datetime | None = None) -> list[AttestedReview]:
        """Every review that decides something, in GitHub's order, as GitHub has it at this moment.

        What GitHub lets whoever may write do to a review is looked through (`given_by`): another base branch or a
        force push shows the reviewer another difference, and a no can be dismissed by others than its giver.
        """
        reviews = []
        for entry in self.rest.ask_all("read the reviews", f"/pulls/{number}/reviews?per_page=100"):
            review = read_answer(ReviewAnswer, entry)
            if review.user is None or review.state not in DECIDES:
                continue
            facts = {
                "review": review.id,
                "login": review.user.login,
                "account": review.user.id,
                "kind": review.user.type,
                "state": review.state,
                "commit": review.commit_id,
                "at": review.submitted_at,
            }
            reviews.append(read_answer(AttestedReview, json.dumps(facts)))
        if reviews:
            listed = self.rest.ask_all("read what happened to it", f"/issues/{number}/events?per_page=100")
            reviews = given_by(reviews, [read_answer(EventAnswer, entry) for entry in listed], until)
        return reviews

    def say(self, number: int, text: str, mark: str = MARK) -> bool:
        """Let the one comment with this mark hold this text: it is edited, not said again. False when it held it."""
        body = f"{mark}\n{text}"
        issue = self.rest.repository.get_issue(number)
        for attempt in range(3):
            ours = self._comment(number, mark)
            if ours and ours.body == body:
                return False
            try:
                if ours:
                    comment = issue.get_comment(ours.id)
                    self.rest.do("edit the comment", partial(comment.edit, body), again=True)
                else:
                    self.rest.do("comment", lambda: issue.create_comment(body))
                return True
            except ModelsmithError as error:
                if attempt == 2 or not unsure(error):
                    raise
        raise AssertionError

    def label(self, face: Face, words: Collection[str]) -> None:
        """Let the labels that are ours be these words; a label of somebody else's is never touched.

        A label that the repository does not know yet is made with it, by "Add labels to an issue".
        """
        labels = {f"{LABELS}{word}" for word in words}
        existing = {label.name for label in face.labels if label.name.startswith(LABELS)}
        issue = self.rest.repository.get_issue(face.number)
        if missing := sorted(labels - existing):
            self.rest.send("add labels", "POST", f"/issues/{face.number}/labels", {"labels": missing})
        for name in sorted(existing - labels):
            with suppress(InvalidInput):  # 404: somebody took it off meanwhile
                self.rest.do("take a label off", partial(issue.remove_from_labels, name), again=True)

    def show_status(self, head: str, state: str, line: str) -> None:
        """Show at a commit how the gate stands; twice is once, since the last one of a name counts."""
        self._show_status(head, STATUS, state, line)

    def show_checks(self, head: str, checks: Sequence[NamedCheck]) -> None:
        """Show at a commit how the named checks stand; those that stand so already are not shown again."""
        current = self._runs(head) if self.rest.writes_runs else self._shown_statuses(head)
        for check in checks:
            name = f"{CHECKS}{check.name}"
            if self.rest.writes_runs:
                expected = (check.state, _short(check.title, LONGEST_TITLE), _summary(check))
                if current.get(name) != {expected}:
                    self._show_run(head, name, *expected)
            else:
                face = (_STATUSES[check.state], _short(check.title, LONGEST_STATUS), "")
                if current.get(name) != {face}:
                    self._show_status(head, name, *face[:2])

    def _runs(self, head: str) -> dict[str, set[tuple[str, str, str]]]:
        """Check runs of a commit, by name; the last of each app.

        Whoever may push a workflow writes runs of these names, too. One that says what is true now must not keep an
        older one standing that says otherwise and is the one that GitHub requires.
        """
        path = f"/commits/{head}/check-runs?filter=latest&per_page=100"
        answer = self.rest.ask("read the checks", path)
        runs = [read_answer(RunAnswer, run) for run in answer.get("check_runs", ())] if isinstance(answer, dict) else []
        by_name: dict[str, set[tuple[str, str, str]]] = {}
        for check_run in runs:
            check_face = (check_run.conclusion or "", check_run.output.title or "", check_run.output.summary or "")
            by_name.setdefault(check_run.name, set()).add(check_face)
        return by_name

    def _shown_statuses(self, head: str) -> dict[str, set[tuple[str, str, str]]]:
        answer = self.rest.ask("read the statuses", f"/commits/{head}/status?per_page=100")
        statuses = (
            [read_answer(StatusAnswer, status) for status in answer.get("statuses", ())]
            if isinstance(answer, dict)
            else []
        )
        return {status.context: {(status.state, status.description or "", "")} for status in statuses}

    def _show_run(self, head: str, name: str, conclusion: str, title: str, summary: str) -> None:
        output: dict[str, Any] = {"title": title, "summary": summary}
        self.rest.do(
            f"show the check {name}",
            lambda: self.rest.repository.create_check_run(
                name=name, head_sha=head, status="completed", conclusion=conclusion, output=output
            ),
            again=True,
        )

    def _show_status(self, head: str, context: str, state: str, line: str) -> None:
        commit = self.rest.repository.get_commit(head)
        self.rest.do(
            f"show the status {context}",
            lambda: commit.create_status(state=state, description=_short(line, LONGEST_STATUS), context=context),
            again=True,
        )

    def ask_for(self, number: int, logins: tuple[str, ...]) -> bool:
        """Ask these logins for a review; False when GitHub would not (one of them is not a collaborator, say)."""
        if not logins:
            return True
        pull = self.rest.repository.get_pull(number)
        try:
            self.rest.do("ask for reviews", lambda: pull.create_review_request(reviewers=list(logins)), again=True)
        except ModelsmithError as error:
            if error.details.get("status") != 422:
                raise
            return False
        return True

    def _comment(self, number: int, mark: str) -> CommentAnswer | None:
        """Ours. Where everybody may comment, one that a stranger began with our mark is theirs to write over."""
        for entry in self.rest.ask_all("read the comments", f"/issues/{number}/comments?per_page=100"):
            comment = read_answer(CommentAnswer, entry)
            if comment.body.startswith(mark) and (self.repository.private or not comment.is_strangers):
                return comment
        return None


def _short(words: str, most: int) -> str:
    """One line, cut where a field takes no more."""
    flat = " ".join(words.split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."


def _summary(check: NamedCheck) -> str:
    """What a check run says below its title: its question, and what the answer rests on as plain text."""
    text = "\n".join((check.title, *check.lines))
    if len(text) > LONGEST_SUMMARY:
        text = f"{text[:LONGEST_SUMMARY]}\n(cut here; `modelsmith check` shows all of it)"
    return f"**{QUESTIONS[check.name]}**\n\n{quoted(text)}"


def read_answer(model: type[A], answer: Any) -> A:
    """An answer of GitHub.

    Raises:
        InfrastructureFailure: ``github-failed``.
    """
    try:
        return model.model_validate_json(answer) if isinstance(answer, str) else model.model_validate(answer)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InfrastructureFailure(
            "github-failed", f"GitHub's answer cannot be read (at {where or 'its top'})", "Try again later."
        ) from None
