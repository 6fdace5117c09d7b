"""The GitHub forge: GitHub's pull requests, and beside each the signed log that proves what was said of it.

What differs from a forge of one's own, and how it is kept honest:

- GitHub numbers pull requests, together with issues. The log takes GitHub's number when GitHub has given it.
- A pull request's head moves with its branch. The log names the commit that was opened, verdicts speak of that, and a
  branch that moved closes the gate (`PullRequest.moved`).
- A review in GitHub's pages carries no signature. It is shown (`PullRequest.heard`), and counts once a workflow that
  main's policy believes has attested it (`PullRequest.attested`, `modelsmith.promotion.attestation`).
- Anybody who may write there can close, reopen or push past us. Closed there is closed here; nothing that is open or
  merged there counts for more than main and the log say.
- There is no hook of ours. Who merges judges, and pushes merge and receipts to main as one; what others push to main
  or into a log is found when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from modelsmith.forges.events import check_plain
from modelsmith.forges.github.answers import Face
from modelsmith.forges.github.faces import EVAL_MARK, Faces
from modelsmith.forges.github.failures import archived, push_refusal
from modelsmith.forges.github.place import Place
from modelsmith.forges.github.queue import Queue
from modelsmith.forges.github.quoting import VERDICTS, paged, quoted
from modelsmith.forges.github.rest import Rest
from modelsmith.forges.github.rules import effective
from modelsmith.forges.github.settings import read_rules
from modelsmith.forges.github.token import Token
from modelsmith.forges.log_writer import ATTEMPTS, not_open, too_busy
from modelsmith.forges.logs import SignedLogs
from modelsmith.forges.mirror import Mirror
from modelsmith.forges.port import ForgeIdentity, Proposal, Standing, Status, Unreceipted
from modelsmith.governance.named_checks import NamedCheck
from modelsmith.repository.git import Git
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, ModelsmithError, WaitingForPerson
from modelsmith.schema.promotion import AttestedReview, ReviewsAttestation
from modelsmith.schema.pull import Heard, PullRequest, SignedApproval

_STATES = {"open": "success", "waiting": "pending", "closed": "failure"}
SETTLES = 3
"""How often one is asked for that was just opened."""
BRANCHES = "refs/heads/modelsmith/"
"""Branches of proposals, by who opened them: ``modelsmith/ACTOR/BRANCH``."""


class GitHubForge:
    """See `modelsmith.forges.port.Forge`.

    Args:
        place: Which repository.
        token: What lets us in there.
        memory: Folder of the mirror and of remembered answers, where no commit can put anything.
        clone: The clone that proposals and merges are made in.
        identity: Who acts, and with which key; None to read only.
    """

    def __init__(
        self,
        place: Place,
        token: Token,
        memory: Path,
        clone: Git,
        identity: ForgeIdentity | None,
    ) -> None:
        mirror = Mirror(place.url, memory / "forge.git", clone, lambda: token.for_git(place))
        self._logs = SignedLogs(mirror.path, clone, identity, mirror, push_refusal)
        self._faces = Faces(Rest(place, token, memory / "github"))
        self._place = place

    def main(self) -> str:
        """See `Forge`."""
        self._require()
        return self._logs.main()

    def fetch_into(self, clone: Git) -> str:
        """See `Forge`."""
        self._require()
        return self._logs.fetch_into(clone)

    def get(self, number: int) -> PullRequest:
        """See `Forge`. WaitingForPerson (``unsigned-opening``): it was only opened in GitHub's pages."""
        self._require()
        try:
            pull = self._logs.get(number)
        except ModelsmithError as error:
            face = self._faces.get(number) if error.code == "unknown-pull" else None
            if face is None:
                raise
            raise self._unsigned(face) from None
        if pull.status != "open" and not pull.unreceipted:
            return pull
        face = self._faces.get(number)
        if pull.unreceipted:
            until = face.merged_at if face else None
            return _as_merged(pull, face, self._logs.closed_at(number), self._faces.heard(number, until))
        open_faces = {number: face} if face and face.state == "open" else {}
        pull_seen = _as_seen(pull, open_faces)
        return (
            pull_seen
            if pull_seen.status != "open"
            else pull_seen.model_copy(update={"heard": self._faces.heard(number)})
        )

    def list(self, status: Status | None = None) -> tuple[PullRequest, ...]:
        """See `Forge`."""
        return self.survey(status)[0]

    def survey(self, status: Status | None = None) -> tuple[tuple[PullRequest, ...], dict[int, ModelsmithError]]:
        """See `Forge`. What was opened in GitHub's pages alone is among those that cannot be relied on."""
        self._require()
        faces = self._faces.open_ones()
        pulls, unreadable = self._logs.survey("open" if status == "open" else None)
        pulls_seen = tuple(_as_seen(pull, faces) for pull in pulls)
        if status in (None, "open"):
            alone = faces.keys() - self._logs.numbers()
            unreadable |= {number: self._unsigned(faces[number]) for number in sorted(alone)}
        return tuple(pull for pull in pulls_seen if status in (None, pull.status)), unreadable

    def open(self, proposal: Proposal) -> PullRequest:
        """See `Forge`. Its branch there is ``modelsmith/ACTOR/BRANCH``, which is its opener's to move.

        A pull request that somebody opened in GitHub's pages for the same branch and commit is signed for.

        Raises:
            GateNotCleared: ``odd-text``; ``number-spent`` when main has merged one of the number that GitHub gave;
                ``too-many-open``.
        """
        self._require(writing=True)
        check_plain(proposal.title, proposal.branch, proposal.body)
        for _ in range(ATTEMPTS):
            main, change = self._logs.examine(proposal)
            open_ones = self.list("open")
            adopted = self._logs.adopt(proposal, change, open_ones, self.close)
            if adopted:
                return self.get(adopted.number)
            self._logs.require_room(proposal, main, open_ones)
            try:
                face = self._face_of(proposal)
                self._refuse_spent(face, main)
                self._logs.begin(face.number, proposal, main, change)
            except InfrastructureFailure as error:
                if error.code != "ref-moved":
                    raise
                continue
            return self._get_opened(face.number)
        raise too_busy()

    def review(self, number: int, approval: SignedApproval) -> PullRequest:
        """See `Forge`. The signed verdict goes into the log: a ref of its own, which nothing at GitHub rewrites."""
        self._require(writing=True)
        pull = self.get(number)
        if pull.status != "open" and all(review.proof != approval for review in pull.reviews):
            raise not_open(number, pull.status)
        self._logs.add_review(number, approval, hooked=False)
        return self.get(number)

    def hosted(self) -> tuple[str, int]:
        """The repository's name in GitHub's spelling, and its number."""
        return self._faces.repository.full_name, self._faces.repository.id

    def reviews(self, number: int) -> tuple[AttestedReview, ...]:
        """Reviews as GitHub has them; none that was remembered."""
        return self._faces.reviews(number)

    def attest(self, attestation: ReviewsAttestation, bundle: bytes) -> None:
        """Keep what a workflow attested in the pull request's log, where it outlives GitHub."""
        self._require(writing=True)
        self._logs.attest(attestation, bundle)

    def close(self, number: int, reason: str) -> PullRequest:
        """See `Forge`."""
        self._require(writing=True)
        self._logs.require_may_close(number)
        closed = self._logs.close(number, reason)
        face = self._faces.get(number)
        if face and face.state == "open":
            self._faces.close(number)
        return closed

    def merge(self, number: int, merge_commit: str, expected_main: str) -> PullRequest:
        """See `Forge`. GitHub marks the pull request as merged by itself when main holds its head."""
        self._require(writing=True)
        pull = self.get(number)
        if pull.status == "closed":
            raise not_open(number, pull.status)
        if pull.moved:
            raise _moved(pull)
        self._logs.push_merge(number, merge_commit, expected_main)
        return self.get(number)

    def land(self, number: int, message: str) -> bool:
        """See `Forge`. By its merge button where main changes by pull requests alone; by its queue where it has one.

        A rule that lets nobody but a bypass list move main is ours to pass by a push. Classic protection is seen by a
        token with *Administration: read* only; without it, a push is tried.
        """
        self._require(writing=True)
        pull = self.get(number)
        if pull.status == "merged":
            return True
        if pull.moved:
            raise _moved(pull)
        now = effective(*read_rules(self._faces.rest))
        if now.queue:
            raise Queue(self._faces.rest).enter(number, pull.head)
        if now.only_bypassers or not now.pull_requests:
            return False
        try:
            self._faces.merge(number, pull.head, message)
        except ModelsmithError:
            if self._logs.get(number).status != "merged":
                raise
        return True

    def unreceipted(self) -> tuple[Unreceipted, ...]:
        """See `Forge`."""
        self._require()
        return self._logs.unreceipted()

    def add_receipts(self, number: int, receipts: str, expected_main: str) -> PullRequest:
        """See `Forge`. It is a push to main, which a rule that wants pull requests lets its bypass list make alone."""
        self._require(writing=True)
        self._logs.push_receipts(number, receipts, expected_main)
        return self.get(number)

    def announce(self, number: int, standing: Callable[[], Standing]) -> None:
        """See `Forge`. One comment that is edited, labels, a commit's status, and the owners as reviewers."""
        with suppress(ModelsmithError):
            self._require(writing=True)
            face = self._faces.get(number)
            if face is None or face.state != "open":
                return
            now = standing()
            logins = {reviewer["github"] for reviewer in now.reviewers if "github" in reviewer}
            if now.page:
                self._faces.describe(face, paged(now.page, now.words, self._place, face.head.sha))
            mine = face.user.login.lower() if face.user else ""
            with suppress(ModelsmithError):
                self._faces.label(face, now.labels)
            if not self._faces.say(number, _comment(now, number)):
                return
            self._faces.ask_for(number, tuple(sorted(login for login in logins if login.lower() != mine)))
            self._faces.show_status(face.head.sha, _STATES[now.gate], now.line)

    def report(self, commit: str, checks: Sequence[NamedCheck]) -> None:
        """See `Forge`. Check runs where the token is a GitHub App's, as in a workflow; else commit statuses."""
        self._require(writing=True)
        self._faces.show_checks(commit, checks)

    def tell(self, number: int, page: str) -> None:
        """See `Forge`. A comment beside the one that says how the gate stands."""
        with suppress(ModelsmithError):
            self._require(writing=True)
            self._faces.say(number, page, EVAL_MARK)

    def _require(self, writing: bool = False) -> None:
        """Ask GitHub once what the repository is; refuse what cannot be worked with before git says it in its words."""
        if self._faces.repository.archived and writing:
            raise archived(self._place)

    def _face_of(self, proposal: Proposal) -> Face:
        """GitHub's pull request for a proposal, which no log has yet.

        Whoever may push can take a number before GitHub gives it. One whose log is not this proposal's is left, closed.

        Raises:
            InfrastructureFailure: ``ref-moved`` when somebody else was at it; the caller begins again.
        """
        theirs = self._faces.find(proposal.branch)
        if theirs and theirs.head.sha == proposal.head and not self._logs.is_taken(theirs.number):
            return theirs
        ref = f"{BRANCHES}{self._logs.identity.actor}/{proposal.branch}"
        self._logs.publish(proposal.head, ref)
        branch = ref.removeprefix("refs/heads/")
        face = self._faces.open(branch, proposal.title, _described(proposal))
        is_taken = self._logs.is_taken(face.number)
        if is_taken and not self._logs.is_open_of(face.number, proposal):
            self._faces.close(face.number)
        if is_taken or face.head.sha != proposal.head:
            raise too_busy()
        return face

    def _get_opened(self, number: int) -> PullRequest:
        """What was just opened. By bug reports of others, GitHub may say for some seconds that there is no such one."""
        for attempt in range(SETTLES):
            pull = self.get(number)
            if pull.status != "closed":
                break
            self._faces.rest.pause(2.0**attempt)
        return pull

    def _refuse_spent(self, face: Face, main: str) -> None:
        spent = self._logs.merged_numbers(main)
        if face.number not in spent:
            return
        self._faces.close(face.number)
        raise GateNotCleared(
            "number-spent",
            f"GitHub numbered it {face.number}, and main has merged a pull request {face.number} before",
            f"Numbers up to {max(spent)} are used up by the forge before this one: open and close issues at GitHub "
            "until it counts beyond, then run this again.",
            number=face.number,
            last=max(spent),
        )

    def _unsigned(self, face: Face) -> WaitingForPerson:
        login = face.user.login if face.user else "somebody"
        if not self._faces.is_ours(face):
            return WaitingForPerson(
                "unsigned-opening",
                f"{login} opened it from a fork, where no log can be kept; nobody has signed for it",
                f"Whoever may write to {self._place.full_name} takes its commits into a branch (`git fetch origin "
                f"refs/pull/{face.number}/head:BRANCH`), reads them, and proposes that: "
                "`modelsmith pr open BRANCH --title ... --key KEY`.",
                number=face.number,
                login=login,
                head=face.head.sha,
            )
        return WaitingForPerson(
            "unsigned-opening",
            f"{login} opened it in GitHub's pages from {face.head.ref}, and nobody has signed for it",
            "Its opener signs for it from a clone that holds the branch: "
            "`modelsmith pr open BRANCH --title ... --key KEY`.",
            number=face.number,
            login=login,
            branch=face.head.ref,
            head=face.head.sha,
        )


def _as_seen(pull: PullRequest, faces: dict[int, Face]) -> PullRequest:
    """A pull request of the log, with what GitHub shows of it; ``faces`` are the open ones there."""
    if pull.status != "open":
        return pull
    face = faces.get(pull.number)
    if face is None:
        return pull.model_copy(update={"status": "closed", "elsewhere": ()})
    face_facts = {"draft": face.draft, "numbered_at": face.created_at}
    return pull.model_copy(update={**face_facts, "moved": None if face.head.sha == pull.head else face.head.sha})


def _as_merged(
    pull: PullRequest, face: Face | None, closed: datetime | None, heard_events: tuple[Heard, ...]
) -> PullRequest:
    """A pull request whose commit main holds without receipts, with what GitHub shows of it.

    Its commit may have come onto main by another pull request of the same commit: GitHub marks an open one as merged
    then, too, draft or not, and leaves a closed one closed ("About pull request merges", indirect merges). Both clocks
    tell whole seconds: a closing within the second of the merge counts as before it, so that doubt gives no receipts.
    """
    if face is None:
        return pull.model_copy(update={"withdrawn": True, "heard": heard_events})
    left_open = face.state == "closed" and face.merged_at is None
    before = closed is not None and (face.merged_at is None or closed <= face.merged_at)
    moved = face.head.sha if face.state == "open" and face.head.sha != pull.head else None
    face_facts = {"draft": face.draft, "numbered_at": face.created_at, "moved": moved, "heard": heard_events}
    return pull.model_copy(update=face_facts | {"withdrawn": left_open or before})


def _moved(pull: PullRequest) -> GateNotCleared:
    return GateNotCleared(
        "branch-moved",
        f"The branch of pull request {pull.number} moved to {str(pull.moved)[:12]} since it was opened with "
        f"{pull.head[:12]}",
        "Have the change proposed again; approvals speak of what was opened.",
        number=pull.number,
        head=pull.head,
        moved=pull.moved,
    )


def _comment(standing: Standing, number: int) -> str:
    details = quoted("\n".join(standing.details)) if standing.details else ""
    return (
        f"**Gate: {standing.gate}.**\n\n{quoted(standing.line)}{details}"
        f"See all of it: `modelsmith pr show {number}`. Decide: `modelsmith approve {number} --key KEY`. What is "
        "said in these pages counts once a workflow of main has attested it, if policy believes one.\n"
    )


def _described(proposal: Proposal) -> str:
    """An opener's words as GitHub shows them."""
    words = quoted(proposal.body) if proposal.body else ""
    return f"{words}{VERDICTS}"
