"""Attacks on reviews at GitHub that a workflow of main attested, and on merges that GitHub makes by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attacker import NOBODY, ZERO, World
from attesting import ROOT, Job, governing, review
from github_server import GitHubServer, Pull
from sigstore_server import private_sigstore
from worlds import MAIN

from modelsmith.forges.github.faces import Faces
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.rest import Rest
from modelsmith.forges.github.token import Token
from modelsmith.forges.local import LocalForge
from modelsmith.forges.port import Proposal
from modelsmith.operations import check, pr_receipts
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.promotion.rollbacks import deployment_of
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.pull import PullRequest
from modelsmith.signing.keyless import verify as verify_bundle

ACCOUNTS = {"maya": ("maya-t", 1001), "petra": ("petra-p", 1002), "paul": ("paul-p", 1003)}
NOTES = {"notes.md": b"A note.\n"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """The workflow of main that reads reviews."""
    with private_sigstore() as sigstore:
        yield Job(sigstore, tmp_path_factory.mktemp("job"))


@pytest.fixture
def hosted(fresh: World, job: Job) -> World:
    """Main believes that workflow, since three hours."""
    then = now() - timedelta(hours=3)
    head = fresh.commit(governing(fresh.governed().tree, job.sigstore, ACCOUNTS))
    approval = fresh.sign_with("petra", fresh.statement("petra", 99, head, at=then))
    fresh.force(head, [fresh.review("petra", approval)], pull=99, at=then)
    return fresh


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def predicate(
    world: World, job: Job, number: int, *reviews: dict[str, Any], at: datetime | None = None, **other: Any
) -> str:
    """What an honest job signs of a pull request, having read these reviews."""
    moment = at or now()
    head = world.head(number)
    reviews_stated = [
        {"commit": head, "review": place, "at": text(moment)} | fields for place, fields in enumerate(reviews, 1)
    ]
    main = world.main()
    return job.sign(
        {
            "repository": world.governed().policy.repository, "forge": "github", "hosted": "acme/promotions",
            "hosted_id": 4711, "pull": number, "head": head, "base": main,
            "change": world.git.change(main, world.git.merge_tree(main, head)).digest(), "reviews": reviews_stated,
            "read_at": text(moment),
        } | other
    ).decode()  # fmt: skip


def review_fields(login: str, number: int, **other: Any) -> dict[str, Any]:
    fields = review(login, number, **other)
    return {name: value for name, value in fields.items() if name in other or name not in ("commit", "at", "review")}


def gate(world: World, number: int, *bundles: str) -> MergeDecision:
    """The gate's decision, with these attestations in the log, as anybody can put them there."""
    pull: PullRequest = world.as_("petra").get(number).model_copy(update={"attested": bundles})
    return decide_merge(read_governed_state(world.bare, world.main()), pull, datetime.now(UTC))


def test_an_attested_review_opens_the_gate(hosted: World, job: Job) -> None:
    """The control: one honest reading of one honest review."""
    number = hosted.propose(NOTES, actor="maya")
    assert not gate(hosted, number).decision.open
    assert gate(hosted, number, predicate(hosted, job, number, review_fields("petra-p", 1002))).decision.open


def test_a_bundle_made_to_break_its_reader_is_none(hosted: World, job: Job) -> None:
    """What lies in a log unsigned is anybody's: it ends no command, and stands in no honest reading's way."""
    number = hosted.propose(NOTES, actor="maya")
    honest = predicate(hosted, job, number, review_fields("petra-p", 1002))
    root = job.sigstore.trusted_root()
    for path in list(leaves(json.loads(honest))):
        for value in (str(10**18), str(-(10**18)), 10**15, "", None, [], {}, "A" * 8):
            hostile = json.loads(honest)
            place: Any = hostile
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
            with suppress(IntegrityFailure):
                verify_bundle(canonical_json(hostile), root)
    hostile = json.loads(honest)
    hostile["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = str(10**18)
    assert gate(hosted, number, canonical_json(hostile).decode(), honest).decision.open


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if not isinstance(value, (dict, list)):
        yield path
        return
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*path, name))


def test_a_reading_of_another_pull_request_supersedes_nothing(hosted: World, job: Job) -> None:
    """A genuine bundle, newer, copied from the log of another proposal by whoever may push."""
    number = hosted.propose(NOTES, actor="maya")
    other = hosted.propose({"more.md": b"More.\n"}, actor="maya", branch="other")
    honest = predicate(hosted, job, number, review_fields("petra-p", 1002))
    theirs = predicate(hosted, job, other, at=now() + timedelta(seconds=5))
    assert gate(hosted, number, honest, theirs).decision.open


def test_no_gate_opens_on_a_reading_that_verify_would_call_the_future(hosted: World, job: Job) -> None:
    """Where the clock of who merges is behind, main would never verify again: gate and verify say the same."""
    number = hosted.propose(NOTES, actor="maya")
    honest = predicate(hosted, job, number, review_fields("petra-p", 1002, at=text(now() - timedelta(hours=2))))
    behind = now() - timedelta(minutes=25)
    pull = hosted.as_("petra").get(number).model_copy(update={"attested": (honest,), "opened_at": behind})
    main = read_governed_state(hosted.bare, hosted.main())
    decision = decide_merge(main, pull, behind).decision
    assert not decision.open
    assert any("in the future" in note for note in decision.notes), decision.notes
    assert decide_merge(main, pull, now()).decision.open


def test_a_root_that_is_none_does_not_keep_its_owners_from_mending_it(fresh: World, job: Job) -> None:
    """Approved by mistake; whoever may push puts a bundle into the log of each proposal, the mending one too."""
    files = governing(fresh.governed().tree, job.sigstore, ACCOUNTS)
    broken = json.loads(files[ROOT]) | {
        "certificateAuthorities": [{"certChain": {"certificates": [{"rawBytes": "AA=="}]}}]
    }
    fresh.force_honestly(files | {ROOT: canonical_json(broken)}, "petra")
    number = fresh.propose({ROOT: files[ROOT]}, actor="maya")
    bundle = predicate(fresh, job, number, review_fields("petra-p", 1002))
    decided = gate(fresh, number, bundle).decision
    assert not decided.open
    assert any("is no trusted root" in note for note in decided.notes), decided.notes
    fresh.approve(number, "petra")
    assert gate(fresh, number, bundle).decision.open


def test_a_rejection_by_a_clock_that_is_behind_is_later_than_the_button(hosted: World, job: Job) -> None:
    """Petra's machine is four minutes behind GitHub: she pressed the button, thought again, and signed."""
    number = hosted.propose(NOTES, actor="maya")
    bundle = predicate(
        hosted,
        job,
        number,
        review_fields("petra-p", 1002, at=text(now() + timedelta(minutes=4))),
        at=now() + timedelta(minutes=4),
    )
    assert gate(hosted, number, bundle).decision.open
    hosted.reject(number, "petra")
    assert not gate(hosted, number, bundle).decision.open


def test_a_strangers_review_does_not_end_the_window_of_a_rollback(waiting: World, job: Job) -> None:
    """The contract counts from when its owner approved, not from when anybody with an account did."""
    waiting.force_honestly(governing(waiting.governed().tree, job.sigstore, ACCOUNTS), "petra")
    number = waiting.promote("customer-deployed")
    approved = now()
    long_ago = text(approved - timedelta(days=2))
    bundle = predicate(
        waiting, job, number,
        review_fields("somebody", 666, at=long_ago), review_fields("a-bot", 7, kind="Bot", at=long_ago),
        review_fields("maya-t", 1001, at=text(approved)),
    )  # fmt: skip
    decided = gate(waiting, number, bundle)
    assert decided.decision.open, decided.decision.refusals
    waiting.force(waiting.head(number), decided.decision.approvals, pull=number)
    waiting.holds()
    assert deployment_of(waiting.governed(), waiting.draft().specialist).approved_at == approved


def test_who_opens_again_what_the_forge_merged_holds_up_no_receipts(fresh: World) -> None:
    """The same commit under other numbers, by the harness and by nobody's key, before its merge has receipts."""
    number = fresh.propose(NOTES, actor="maya")
    fresh.approve(number, "petra")
    head, main = fresh.head(number), fresh.main()
    later = fresh.propose({"more.md": b"More.\n"}, actor="maya", branch="later")
    fresh.approve(later, "petra")
    fresh.open(head, branch="again")
    with suppress(ModelsmithError):
        fresh.as_("petra", "mallory").open(
            Proposal(branch="forged", title="A change", body="", head=head, base=main, requester="petra")
        )
    assert len(fresh.as_("petra").survey()[1]) == 1, "one that nobody has signed for"
    merge = fresh.git.commit_tree(fresh.git.merge_tree(main, head), [main, head], "Merge pull request #1\n", NOBODY)
    fresh.rewrite_on_disk(MAIN, merge)
    fresh.detected(saying="without receipts")
    assert fresh.merge(later).status == "merged"
    assert fresh.holds().changes == 2


def test_who_took_many_numbers_for_a_commit_holds_up_no_receipts(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of thousands of logs takes some requests to the forge: the one that the merge names is asked about first."""
    head = fresh.commit(NOTES)
    pulls = [fresh.open(head, branch=f"mine-{number}") for number in range(3)]
    number = fresh.open(head, actor="maya", branch="notes")
    fresh.approve(number, "petra")
    main, sentence = fresh.main(), f"Merge pull request #{number} from x\n"
    merge = fresh.git.commit_tree(fresh.git.merge_tree(main, head), [main, head], sentence, NOBODY)
    fresh.rewrite_on_disk(MAIN, merge)
    numbers: list[int] = []
    get = LocalForge.get
    monkeypatch.setattr(LocalForge, "get", lambda forge, number: numbers.append(number) or get(forge, number))
    result = pr_receipts.run(fresh.workspace, pr_receipts.PrReceiptsRequest())
    assert [pull.number for pull in result.pulls] == [number]
    assert not {*pulls} & {*numbers}
    fresh.holds()


def test_a_review_counts_for_the_branch_that_its_giver_saw(tmp_path: Path) -> None:
    """Turned to main, or forced on to a rebase, after the approval; and a no that others dismissed, or nobody known."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "bare"], check=True)
    with GitHubServer(tmp_path / "github", None) as github:
        (tmp_path / "github").mkdir()
        repo = github.add("acme/promotions", tmp_path / "bare")
        pull = repo.pulls[1] = Pull(1, "A change", "", "harness-gh", "change", "acme/promotions", ZERO, apart=("", ""))
        place = parse_place(f"github:{github.web}/acme/promotions")
        faces = Faces(Rest(place, Token(github.token("harness-gh"))))
        pull.state = "closed"
        github.reviewed(repo, pull, "maya-gh", "APPROVE")["submitted_at"] = "2026-01-01T10:00:00Z"
        github.reviewed(repo, pull, "dana-gh", "REQUEST_CHANGES")["submitted_at"] = "2026-01-01T10:00:00Z"
        assert [entry.state for entry in faces.reviews(1)] == ["APPROVED", "CHANGES_REQUESTED"]
        pull.reviews[1]["commit_id"] = None
        assert ("dana-gh", "reject", None) in said_of(faces), "a no holds also where the forge has lost the commit"
        github.happened(pull, "base_ref_changed", "harness-gh", "2026-01-01T11:00:00Z")
        assert [entry.state for entry in faces.reviews(1)] == ["CHANGES_REQUESTED"], "a no holds whatever it was about"
        github.reviewed(repo, pull, "maya-gh", "APPROVE")["submitted_at"] = "2026-01-01T12:00:00Z"
        assert [entry.state for entry in faces.reviews(1)] == ["CHANGES_REQUESTED", "APPROVED"]
        github.dismissed(pull, pull.reviews[1], "harness-gh")
        github.dismissed(pull, pull.reviews[2], "harness-gh")
        assert [entry.state for entry in faces.reviews(1)] == ["CHANGES_REQUESTED", "DISMISSED"], "a no is its giver's"
        pull.events[-2]["actor"] = None
        assert next(entry.state for entry in faces.reviews(1)) == "CHANGES_REQUESTED", "nobody knows who dismissed it"
        pull.events.clear()
        pull.reviews[1]["state"] = "CHANGES_REQUESTED"
        github.dismissed(pull, pull.reviews[1], "dana-gh")
        assert [entry.state for entry in faces.reviews(1)][1] == "DISMISSED", "who gave it takes it back"
        pull.reviews[2]["state"] = "APPROVED"
        assert ("maya-gh", "approve", ZERO) in said_of(faces)
        github.happened(pull, "head_ref_force_pushed", "harness-gh", "2026-01-01T13:00:00Z")
        assert said_of(faces) == [], "GitHub moves an approval on to the commit of a rebase with the same patch"


def said_of(faces: Faces) -> list[tuple[str, str, str | None]]:
    return [(comment.login, comment.verdict, comment.head) for comment in faces.heard(1)]


def test_who_opens_what_lies_beneath_a_proposal_does_not_stop_the_queue(fresh: World) -> None:
    """The first of two commits, opened by somebody else; and the same commit under another number."""
    first = fresh.commit({"notes.md": b"A draft.\n"})
    second = fresh.commit(NOTES, parent=first)
    number = fresh.open(second, "maya", branch="notes")
    fresh.approve(number, "petra")
    fresh.open(first, "oli", branch="beneath")
    fresh.open(second, branch="again")
    main = fresh.main()
    merge = fresh.git.commit_tree(fresh.git.merge_tree(main, second), [main, second], "Merge pull request #1\n", NOBODY)
    result = check.run(fresh.workspace, check.CheckRequest(range=f"{main}..{merge}"))
    assert (result.number, result.gate, result.commit) == (number, "open", merge)
