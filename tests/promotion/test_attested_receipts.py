"""A review in GitHub's pages counts because a workflow of main attested it: at the gate, and offline afterwards."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from attesting import WORKFLOW, Job, governing, review
from sigstore_server import private_sigstore

from modelsmith.promotion.attestation import attestation, claimed
from modelsmith.repository.git import Ident
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, WaitingForPerson
from modelsmith.schema.promotion import ReviewsAttestation
from modelsmith.schema.pull import Heard
from modelsmith.signing.dsse import seal

WHO = Ident("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))
ACCOUNTS = {"petra": ("Petra-P", 1001), "piet": ("piet-p", 1002), "dana": ("dana-d", 1003)}


def now():
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    with private_sigstore() as sigstore:
        yield Job(sigstore, tmp_path_factory.mktemp("job"))


@pytest.fixture
def hosted(line, job):
    """Main believes the workflow about GitHub, where Petra, Piet and Dana have accounts."""
    pull = line.pull(governing(line.main().tree, job.sigstore, ACCOUNTS), opened_at=now())
    return line.land(line.approved(pull, "petra", at=now()), now())


def proposal(hosted, files=None):
    return hosted.pull(*([files] if files else []), opened_at=now())


def predicate_of(hosted, pull, /, *reviews, **other):
    """What an honest job says, unless told otherwise."""
    at = text(now())
    stated = [{"commit": pull.head, "at": at, "review": number} | stated for number, stated in enumerate(reviews, 1)]
    return {
        "repository": hosted.main().policy.repository, "forge": "github", "hosted": "acme/promotions",
        "hosted_id": 4711, "pull": pull.number, "head": pull.head, "base": hosted.tip, "change": hosted.change(pull),
        "reviews": stated, "read_at": at,
    } | other  # fmt: skip


def review_fields(login="petra-p", number=1001, state="APPROVED", **other):
    fields = review(login, number, state, **other)
    return {name: value for name, value in fields.items() if name in other or name not in ("commit", "at", "review")}


def attested(pull, *bundles):
    return pull.model_copy(update={"attested": (*pull.attested, *(bundle.decode() for bundle in bundles))})


def decided(hosted, pull, at=None):
    return hosted.decide(pull, at or now()).decision


def test_an_attested_review_opens_the_gate_and_verifies_offline(hosted, job, monkeypatch):
    pull = proposal(hosted)
    assert not decided(hosted, pull).open
    pull = attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))
    hosted.land(pull, now())
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was made"))
    assert hosted.verify().approvals == 2
    folder = hosted.git.list_tree(hosted.tip, ".github/governance/receipts")
    (path,) = [path for path in folder if path.endswith("/attested-petra.sigstore.json")]
    claim = claimed(hosted.main().tree.read(path))
    assert (claim.reviews[0].account, claim.head) == (1001, pull.head)


def test_signed_and_attested_approvals_may_stand_together(hosted, job):
    pull = proposal(hosted, {"notes.md": b"x", "evals/adtech/README.md": b"y"})
    pull = hosted.approved(pull, "piet", at=now())
    pull = attested(pull, job.sign(predicate_of(hosted, pull, review_fields("DANA-D", 1003))))
    hosted.land(pull, now())
    assert hosted.verify().approvals == 3


NO_APPROVAL = {
    "a login that was taken over": (review_fields(number=9), "gives this account and login together to nobody"),
    "a login that was renamed": (review_fields("petra-new"), "gives this account and login together to nobody"),
    "two people's halves": (review_fields("petra-p", 1002), "gives this account and login together to nobody"),
    "nobody of people.yaml": (review_fields("ghost", 5), "to nobody"),
    "a bot": (review_fields(kind="Bot"), "it is a Bot"),
    "an older commit": (review_fields(commit="1" * 40), "approves another commit"),
    "no commit": (review_fields(commit=None), "approves another commit"),
    "a dismissed review": (review_fields(state="DISMISSED"), None),
    "a date to come": (review_fields(at="9998-01-01T00:00:00Z"), "dated after it was read"),
}


@pytest.mark.parametrize(("one", "note"), NO_APPROVAL.values(), ids=NO_APPROVAL)
def test_what_is_no_approval_of_a_person_opens_nothing(hosted, job, one, note):
    pull = proposal(hosted)
    decision = decided(hosted, attested(pull, job.sign(predicate_of(hosted, pull, one))))
    assert not decision.open
    assert note is None or any(note in line for line in decision.notes), decision.notes


def test_the_last_opinion_of_an_account_is_its_opinion(hosted, job):
    pull = proposal(hosted)
    for later in ("CHANGES_REQUESTED", "DISMISSED"):
        decision = decided(
            hosted, attested(pull, job.sign(predicate_of(hosted, pull, review_fields(), review_fields(state=later))))
        )
        assert not decision.open
    assert [refusal.code for refusal in decided(hosted, attested(pull, job.sign(
        predicate_of(hosted, pull, review_fields(), review_fields("piet-p", 1002, "CHANGES_REQUESTED", commit="1" * 40))
    ))).refusals] == ["rejected"], "asking for changes holds, whatever commit it was about"  # fmt: skip
    again = predicate_of(hosted, pull, review_fields(state="CHANGES_REQUESTED"), review_fields())
    assert decided(hosted, attested(pull, job.sign(again))).open


def test_the_author_of_a_change_approves_nothing_of_it(hosted, job):
    pull = hosted.pull(preparer="petra", requester="petra", opened_at=now())
    assert not decided(hosted, attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))).open
    assert decided(hosted, attested(pull, job.sign(predicate_of(hosted, pull, review_fields("piet-p", 1002))))).open


def test_what_was_read_later_supersedes_what_was_read_before(hosted, job):
    pull = proposal(hosted)
    first = text(now() - timedelta(minutes=5))
    before = job.sign(predicate_of(hosted, pull, review_fields(at=first), read_at=first))
    after = job.sign(predicate_of(hosted, pull, review_fields(state="DISMISSED")))
    assert decided(hosted, attested(pull, before)).open
    for order in ((before, after), (after, before)):
        assert not decided(hosted, attested(pull, *order)).open


@pytest.mark.parametrize("no", ["CHANGES_REQUESTED", "DISMISSED"])
def test_of_two_readings_in_one_second_the_one_that_objects_counts(hosted, job, no):
    """As when two reviews start two jobs at once: which of them read later cannot be told."""
    pull, at = proposal(hosted), text(now())
    yes, less = review_fields(at=at), review_fields(state=no, at=at)
    readings = [
        job.sign(predicate_of(hosted, pull, *reviews_given, read_at=at))
        for reviews_given in ((yes,), (less,), (yes, less))
    ]
    for first, other in itertools.permutations(readings, 2):
        assert not decided(hosted, attested(pull, first, other)).open


def test_what_was_read_long_ago_is_read_again(hosted, job):
    pull = proposal(hosted)
    pull = attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))
    decision = decided(hosted, pull, now() + timedelta(hours=25))
    assert not decision.open
    assert any("read it again" in note for note in decision.notes)


def test_an_approval_that_the_forge_shows_no_more_is_none(hosted, job):
    pull = proposal(hosted)
    pull = attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))
    decision = decided(hosted, pull.model_copy(update={"heard": ()}))
    assert not decision.open
    assert any("does not show it any more" in note for note in decision.notes)


def test_what_somebody_signs_later_stands_in_place_of_the_button(hosted, job):
    pull = proposal(hosted)
    bundle = job.sign(predicate_of(hosted, pull, review_fields()))
    rejected = hosted.approved(attested(pull, bundle), "petra", at=now() + timedelta(minutes=1), verdict="reject")
    assert not decided(hosted, rejected, now() + timedelta(minutes=2)).open
    no = job.sign(predicate_of(hosted, pull, review_fields(state="CHANGES_REQUESTED"), review_fields("piet-p", 1002)))
    withdrawn = hosted.approved(attested(pull, no), "petra", at=now() + timedelta(minutes=1), verdict="withdraw")
    assert not decided(hosted, withdrawn, now() + timedelta(minutes=2)).open, "a withdrawal leaves no receipt"
    both = hosted.approved(attested(pull, no), "petra", at=now() + timedelta(minutes=1))
    assert decided(hosted, both, now() + timedelta(minutes=2)).open
    for taken_back in ("withdraw", "reject"):
        again = hosted.approved(both, "petra", at=now() + timedelta(minutes=2), verdict=taken_back)
        assert not decided(hosted, again, now() + timedelta(minutes=3)).open, "verify would see the rejection alone"


def test_within_one_second_a_rejection_is_later_than_an_approval(hosted, job):
    """Times are whole seconds. Which of the two came first cannot be told, wherever either was said."""
    pull, at = proposal(hosted), now()
    no, yes = review_fields(state="CHANGES_REQUESTED", at=text(at)), review_fields("piet-p", 1002, at=text(at))
    with_attestation = attested(pull, job.sign(predicate_of(hosted, pull, no, yes)))
    comment = Heard(login="petra-p", account=1001, verdict="reject", head=pull.head, at=at)
    with_comment = hosted.approved(pull, "piet", at=at).model_copy(update={"heard": (comment,)})
    for after, attested_proposal in (
        (0, with_attestation),
        (1, with_attestation),
        (0, with_comment),
        (1, with_comment),
    ):
        signed = hosted.approved(attested_proposal, "petra", at=at + timedelta(seconds=after))
        assert decided(hosted, signed, at + timedelta(minutes=1)).open == (after == 1)
    bundle = job.sign(predicate_of(hosted, pull, review_fields(at=text(at))))
    for verdict in ("reject", "withdraw"):
        signed = hosted.approved(attested(pull, bundle), "petra", at=at, verdict=verdict)
        assert not decided(hosted, signed, at + timedelta(minutes=1)).open


def text(moment):
    return moment.isoformat().replace("+00:00", "Z")


FORGERIES = {
    "a workflow changed on a branch": {"ref": "refs/heads/evil"},
    "a workflow of a pull request": {"ref": "refs/pull/9/merge", "event_name": "pull_request_review"},
    "a merge queue": {"ref": "refs/heads/gh-readonly-queue/main/pr-9", "event_name": "merge_group"},
    "a fork": {"repository": "evil/promotions", "repository_id": "66", "repository_owner_id": "67"},
    "another file on main": {"workflow": ".github/workflows/evil.yml"},
    "a caller with inputs of its own": {
        "workflow_ref": "acme/promotions/.github/workflows/evil.yml@refs/heads/main", "event_name": "workflow_dispatch"
    },
    "an event that is not believed": {"event_name": "pull_request_target"},
    "a runner of one's own": {"runner_environment": "self-hosted"},
    "a name taken over": {"repository_id": "12"},
}  # fmt: skip


@pytest.mark.parametrize("claims", FORGERIES.values(), ids=FORGERIES)
def test_no_other_job_is_believed_at_the_gate_or_by_verify(hosted, job, claims):
    pull = proposal(hosted)
    forged = attested(pull, job.sign(predicate_of(hosted, pull, review_fields()), **claims))
    with pytest.raises(WaitingForPerson):
        hosted.land(forged, now())
    refused_by_verify(
        hosted, job, pull, job.sign(predicate_of(hosted, pull, review_fields()), **claims), "is not by acme"
    )


def refused_by_verify(hosted, job, pull, bundle, words, merged_at=None):
    """The bundle in place of the honest one, with the receipt signed again: whoever holds the harness's key can."""

    def edit(files):
        path = next(path for path in files if "attested-" in path)
        return files | {path: bundle}

    honest = attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))
    hosted.land(honest, merged_at or now(), edit=edit)
    with pytest.raises(IntegrityFailure) as caught:
        hosted.verify()
    assert words in caught.value.message, caught.value.message


LIES = {
    "another repository of ours": ({"repository": "elsewhere-1234"}, "is of repository"),
    "another repository there": ({"hosted_id": 12}, "is of acme/promotions (12)"),
    "another pull request": ({"pull": 77}, "of pull request 77"),
    "another commit": ({"head": "1" * 40}, "of another commit"),
    "another change": ({"change": "sha256:" + "1" * 64}, "of another change"),
    "another time": ({"read_at": "2026-01-01T00:00:00Z"}, "says another time"),
    "another forge": ({"forge": "gitlab"}, "believes no workflow"),
}


@pytest.mark.parametrize(("lie", "words"), LIES.values(), ids=LIES)
def test_an_attestation_of_something_else_says_nothing(hosted, job, lie, words):
    pull = proposal(hosted)
    bundle = job.sign(predicate_of(hosted, pull, review_fields(), **lie))
    assert not decided(hosted, attested(pull, bundle)).open
    refused_by_verify(hosted, job, pull, bundle, words)


def test_a_run_for_a_main_that_is_no_more_says_nothing(hosted, job):
    """Somebody moves main for a moment, to a workflow file of their own, starts it, and moves main back."""
    pull = proposal(hosted)
    moment = hosted.git.commit_files(hosted.tip, {WORKFLOW: b"name: evil\n"}, "Evil\n", WHO)
    bundle = job.sign(predicate_of(hosted, pull, review_fields(), base=moment))
    decision = decided(hosted, attested(pull, bundle))
    assert not decision.open
    assert any("a main that is no more" in note for note in decision.notes)
    refused_by_verify(hosted, job, pull, bundle, "a main that is no more")


def test_an_old_run_that_is_started_again_with_its_old_file_says_nothing(hosted, job):
    """A re-run takes the file of the commit that it first ran for, by GitHub's page "Re-running workflows and jobs"."""
    old = hosted.tip
    change = hosted.pull({WORKFLOW: b"name: mended\n"}, opened_at=now())
    hosted.land(hosted.approved(change, "petra", at=now()), now())
    pull = proposal(hosted)
    bundle = job.sign(predicate_of(hosted, pull, review_fields(), base=old))
    assert not decided(hosted, attested(pull, bundle)).open
    assert decided(hosted, attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))).open
    refused_by_verify(hosted, job, pull, bundle, "as main does not have it now")


def test_a_rejection_cannot_be_left_out_of_the_reading_that_is_kept(hosted, job):
    pull = proposal(hosted)
    bundle = job.sign(predicate_of(hosted, pull, review_fields(), review_fields("piet-p", 1002, "CHANGES_REQUESTED")))
    refused_by_verify(hosted, job, pull, bundle, "piet owns notes.md and rejects this change")


def test_the_harness_s_key_says_nothing_about_reviews(hosted, job):
    pull = proposal(hosted)
    reviews_attestation = ReviewsAttestation.model_validate_json(
        canonical_json(predicate_of(hosted, pull, review_fields()))
    )
    bundle = seal(attestation(reviews_attestation), hosted.harness)
    assert not decided(hosted, attested(pull, bundle)).open
    refused_by_verify(hosted, job, pull, bundle, "not a Sigstore bundle")


def test_no_review_counts_where_policy_believes_no_workflow(line, hosted, job):
    pull = proposal(hosted)
    pull = attested(pull, job.sign(predicate_of(hosted, pull, review_fields())))
    without = hosted.edited(".github/governance/policy.yaml", lambda document: document.update(attested_forges=[]))
    change = hosted.pull(without, opened_at=now())
    hosted.land(hosted.approved(change, "petra", at=now()), now())
    assert not decided(hosted, pull).open
