"""Attacks on approvals: who gave them, with which key, and what they speak of."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from attacker import (
    CODEOWNERS,
    HARNESS,
    MAIN,
    NOBODY,
    PEOPLE_FILE,
    POLICY,
    REVIEW_REF,
    ROUTING,
    event_with,
    merge_pull_request,
    refused,
    signed_by,
)

from modelsmith.forges.events import new_event
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, EVENT_NAMESPACE, PromotionRecord
from modelsmith.schema.pull import SignedApproval
from modelsmith.signing import ssh


def head_of(world, number=4):
    return world.head(number)


def test_an_honest_approval_opens_the_gate_and_verifies(waiting):
    """The control of this file: what every attack below differs from by one thing."""
    waiting.force(head_of(waiting), [signed_by(waiting, "maya")])
    assert waiting.holds().approvals == 1


ADDED = {
    "CODEOWNERS": {CODEOWNERS: b"* @platform\n"},
    "a workflow": {".github/workflows/ci.yaml": b"on: push\n"},
    "routing": {ROUTING: b"cluster: rtb-pricing\n"},
    "a scenario": {"evals/adtech/pending/one.yaml": b"id: one\n"},
    "a note": {"notes.md": b"harmless\n"},
}


@pytest.mark.parametrize("name", ADDED)
def test_a_file_added_after_the_approval_voids_it(waiting, name):
    """The subject of an approval is the whole change, so one more file is another change."""
    approval = signed_by(waiting, "maya")
    grown = waiting.commit(ADDED[name], head_of(waiting))
    number = waiting.open(grown, branch="grown")
    with refused("wrong-approval"):
        waiting.as_("maya").review(number, approval.proof)
    with refused("gate-closed", "approval-missing"):
        waiting.merge(number)
    merge = waiting.force(grown, [approval])
    waiting.detected(merge)


def test_the_harness_s_own_key_approves_nothing(waiting):
    """It is refused when offered, counts for nothing when put into the log, and is found when put into receipts."""
    with refused("harness-key"):
        waiting.approve(4, HARNESS)
    review = signed_by(waiting, HARNESS)
    waiting.as_(HARNESS).review(4, review.proof)
    with refused("approval-missing"):
        waiting.merge(4)
    waiting.detected(waiting.force(head_of(waiting), [review]), "approval of @head-of-trading is missing")


def test_the_requester_approves_nothing_of_their_own(fresh):
    """Petra owns the toolkit, and so does Paul: what Petra asks for needs Paul."""
    number = fresh.propose({"notes.md": b"by Petra\n"}, "petra")
    fresh.approve(number, "petra")
    with refused("approval-missing"):
        fresh.merge(number)
    own = signed_by(fresh, "petra", number)
    merge = fresh.force(head_of(fresh, number), [own], pull=number, requester="petra", preparer="petra")
    fresh.detected(merge, "approval of @platform is missing")


def test_the_requester_s_change_passes_with_another_owner_s_approval(fresh):
    """The control of the one above."""
    number = fresh.propose({"notes.md": b"by Petra\n"}, "petra")
    fresh.approve(number, "paul")
    fresh.merge(number)
    assert fresh.holds().approvals == 1


def test_naming_somebody_else_as_requester_does_not_free_the_opener(fresh):
    """Whoever opens a pull request is known by their key, whatever the request says."""
    head = fresh.commit({"notes.md": b"by Petra\n"})
    number = fresh.open(head, "petra", requester="dana")
    fresh.approve(number, "petra")
    with refused("approval-missing"):
        fresh.merge(number)
    fresh.approve(number, "paul")
    assert fresh.merge(number).status == "merged"


def with_person(world, person):
    document = yaml.safe_load(world.governed().tree.read(PEOPLE_FILE))
    document["people"].append(person)
    return {PEOPLE_FILE: yaml.safe_dump(document, sort_keys=False).encode()}


def test_a_key_that_the_pull_request_itself_adds_does_not_speak(fresh):
    """Keys are those that main had before."""
    person = {"id": "mallory", "name": "Mallory", "roles": ["platform"], "keys": [{"key": fresh.public("mallory")}]}
    number = fresh.propose(with_person(fresh, person), "petra")
    with refused("unknown-key"):
        fresh.approve(number, "mallory")
    with refused("unknown-key"):
        fresh.as_("mallory").review(number, signed_by(fresh, "mallory", number).proof)
    merge = fresh.force(head_of(fresh, number), [signed_by(fresh, "mallory", number)], pull=number, requester="petra")
    fresh.detected(merge, "key that nobody here holds")


def test_a_key_that_an_earlier_pull_request_added_does_speak(fresh):
    """The control of the one above: once an owner let the key in, it counts."""
    person = {"id": "mallory", "name": "Mallory", "roles": ["platform"], "keys": [{"key": fresh.public("mallory")}]}
    number = fresh.propose(with_person(fresh, person), "petra")
    fresh.approve(number, "paul")
    fresh.merge(number)
    number = fresh.propose({"notes.md": b"by Petra\n"}, "petra", "next")
    fresh.approve(number, "mallory")
    fresh.merge(number)
    assert fresh.holds().approvals == 2


def test_an_expired_key_does_not_approve(waiting):
    """Erin's key ended with the year."""
    with refused("unknown-key", "key-not-valid"):
        waiting.approve(4, "erin")
    merge = waiting.force(head_of(waiting), [signed_by(waiting, "erin")])
    waiting.detected(merge)


def test_an_expired_key_with_a_backdated_statement_does_not_approve(waiting):
    """The clock of a stolen key is the thief's: a time in a statement proves nothing about when it was signed."""
    backdated = signed_by(waiting, "erin", at=datetime(2025, 12, 31, tzinfo=UTC))
    merge = waiting.force(head_of(waiting), [backdated])
    waiting.detected(merge)


@pytest.mark.parametrize("year", [2025, 2099])
def test_a_clock_set_back_or_ahead_is_refused_by_the_hook(waiting, year):
    """Neither the event nor the approval inside it may carry another time than the forge's clock shows."""
    honest = signed_by(waiting, "maya").proof
    odd = signed_by(waiting, "maya", at=datetime(year, 12, 31, tzinfo=UTC)).proof
    for commit in (
        event_with(waiting, "maya", honest, at=datetime.now(UTC).replace(microsecond=0, year=year)),
        event_with(waiting, "maya", odd),
    ):
        result = waiting.push(f"{commit}:{REVIEW_REF}")
        assert result.returncode
        assert "wrong-time" in result.stderr
    assert waiting.push(f"{event_with(waiting, 'maya', honest)}:{REVIEW_REF}").returncode == 0
    assert waiting.merge(4).status == "merged"


@pytest.mark.parametrize("signer", ["noor", "dana", HARNESS, "mallory"])
def test_one_person_s_key_under_another_s_name_is_refused(waiting, signer):
    """The signer follows from the key, never from the name; not even another owner may sign as Maya."""
    forged = waiting.sign_with(signer, waiting.statement("maya", 4))
    with refused("forged-event", "unknown-key"):
        waiting.as_("maya", signer).review(4, forged)
    with refused("forged-event", "unknown-key"):
        waiting.as_("maya").review(4, forged)
    waiting.detected(waiting.force(head_of(waiting), [waiting.review("maya", forged)]))


def test_a_receipt_under_another_name_than_its_signer_s_is_detected(waiting):
    """Noor's approval is good; filed as Maya's it is a lie about who decided."""
    honest = waiting.sign_with("noor", waiting.statement("noor", 4))
    waiting.detected(waiting.force(head_of(waiting), [waiting.review("maya", honest)]), "signed")


@pytest.mark.parametrize(
    ("field", "value"),
    [("pull", 3), ("repository", "another-repository"), ("change", "sha256:" + "2" * 64), ("verdict", "reject")],
)
def test_an_approval_of_something_else_is_not_replayed(waiting, field, value):
    """Repository, number, change and verdict are inside what is signed."""
    other = signed_by(waiting, "maya", **{field: value})
    if field in ("pull", "repository"):
        with refused("wrong-approval"):
            waiting.as_("maya").review(4, other.proof)
    else:
        waiting.as_("maya").review(4, other.proof)
        assert not waiting.gate(4).decision.open
    waiting.detected(waiting.force(head_of(waiting), [other]))


def test_the_same_change_under_another_number_needs_its_own_approval(waiting):
    """An approval names its pull request, so closing and opening again does not carry it over."""
    approval = signed_by(waiting, "maya")
    waiting.as_("maya").review(4, approval.proof)
    again = waiting.open(head_of(waiting), branch="again")
    assert again == 5
    with refused("approval-missing"):
        waiting.merge(again)
    assert waiting.gate(4).decision.open
    waiting.detected(waiting.force(head_of(waiting), [approval], pull=5), "another pull request")


def test_an_approval_does_not_follow_a_forced_push_to_another_head(waiting):
    """A pull request is bound to its head: a log that changes it is refused, and another head is another change."""
    approval = signed_by(waiting, "maya")
    waiting.as_("maya").review(4, approval.proof)
    grown = waiting.commit({"promotions/note.md": b"x"}, head_of(waiting))
    forge = waiting.as_(HARNESS)
    first = forge._reader.log(waiting.pull_tip(4))[0].event
    moved = forge._commit(first.model_copy(update={"head": grown}), None, (forge._root(), grown))
    result = waiting.push(f"{moved}:{REVIEW_REF}")
    assert result.returncode
    assert "append-only" in result.stderr
    waiting.detected(waiting.force(grown, [approval]))


def statement_bytes(world, edit):
    return edit(canonical_json(world.statement("maya", 4)))


SPELLINGS = {
    "trailing newline": lambda data: data + b"\n",
    "trailing bytes": lambda data: data + b"{}",
    "space": lambda data: data.replace(b":", b": ", 1),
    "duplicate key": lambda data: data.replace(b'"actor":"maya"', b'"actor":"maya","actor":"maya"'),
    "duplicate verdict": lambda data: data.replace(b'"verdict"', b'"verdict":"reject","verdict"'),
    "unknown key": lambda data: data.replace(b'"verdict"', b'"until":"2099","verdict"'),
    "escaped text": lambda data: data.replace(b'"maya"', b'"\\u006daya"'),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_statement_in_another_spelling_is_refused_although_maya_signed(waiting, name):
    """Only canonical JSON is an approval, so no two readers can read it differently."""
    signed = waiting.sign_with("maya", statement_bytes(waiting, SPELLINGS[name]))
    with refused("wrong-approval"):
        waiting.as_("maya").review(4, signed)
    review = signed_by(waiting, "maya").model_copy(update={"proof": signed})
    if name == "byte order mark":
        with refused("odd-receipt"):
            waiting.force(head_of(waiting), [review])
        return
    waiting.detected(waiting.force(head_of(waiting), [review]))


@pytest.mark.parametrize("namespace", ["git", "file", EVENT_NAMESPACE])
def test_a_signature_for_another_purpose_is_no_approval(waiting, namespace):
    """A signed commit or file of Maya's with the right words in it stays what it is."""
    signed = waiting.sign_with("maya", waiting.statement("maya", 4), namespace)
    with refused("bad-signature"):
        waiting.as_("maya").review(4, signed)
    waiting.detected(waiting.force(head_of(waiting), [waiting.review("maya", signed)]), "does not fit")


def test_a_signed_git_commit_is_no_approval(waiting):
    """The commit's message is the statement, signed by Maya with git's own signing: another namespace and payload."""
    statement = canonical_json(waiting.statement("maya", 4)).decode()
    options = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={waiting.key('maya')}")
    subprocess.run(
        ["git", "-C", waiting.clone, "-c", "user.name=Maya", "-c", "user.email=maya@example.org", *options,
         "commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", statement],
        check=True, capture_output=True,
    )  # fmt: skip
    raw = waiting.git.run("cat-file", "commit", "HEAD").decode()
    lines = raw.split("gpgsig ", 1)[1].split("\n\n", 1)[0].split("\n")
    armored = "\n".join(line.removeprefix(" ") for line in lines) + "\n"
    assert armored.startswith("-----BEGIN SSH SIGNATURE-----")
    with refused("bad-signature"):
        waiting.as_("maya").review(4, SignedApproval(statement=statement, signature=armored))


def test_a_withdrawn_approval_counts_no_more(waiting):
    """The last verdict stands; the earlier approval cannot be handed in again to outdo it."""
    approval = signed_by(waiting, "maya")
    waiting.as_("maya").review(4, approval.proof)
    assert waiting.gate(4).decision.open
    withdrawn = waiting.sign_with("maya", waiting.statement("maya", 4, verdict="withdraw"))
    waiting.as_("maya").review(4, withdrawn)
    with refused("approval-missing"):
        waiting.merge(4)
    replayed = event_with(waiting, "maya", approval.proof, key=HARNESS)
    result = waiting.push(f"{replayed}:{REVIEW_REF}")
    assert result.returncode
    assert "forged-event" in result.stderr


def test_a_rejection_is_not_lost_by_opening_the_same_again(waiting):
    """Under a new number, by somebody else, or with another signature under the same record."""
    waiting.reject(4, "maya")
    head = head_of(waiting)
    path = next(path for path in waiting.bare.list_tree(head) if path.endswith("-customer-deployed/record.json"))
    data = waiting.bare.read_blob(waiting.bare.list_tree(head)[path][1])
    signed = waiting.record_files(PromotionRecord.model_validate_json(data), {})
    for name, again in (("again", head), ("signed-again", waiting.commit(signed, head))):
        number = waiting.open(again, "dana", branch=name)
        waiting.approve(number, "noor")
        assert "rejected the same in pull request 4" in waiting.refusals(number)
        with refused("gate-closed"):
            waiting.merge(number)


@pytest.mark.xfail(strict=True, reason="neither: receipts hold approvals only, so a rejection can be left out of them")
def test_a_rejection_left_out_past_the_hook_is_detected(waiting):
    """Maya approved, Noor rejected; who merges past the hook keeps the approval and drops the rejection."""
    approval = signed_by(waiting, "maya")
    waiting.as_("maya").review(4, approval.proof)
    waiting.reject(4, "noor")
    with refused("gate-closed"):
        waiting.merge(4)
    waiting.detected(waiting.force(head_of(waiting), [approval]))


def test_comments_approve_nothing(waiting):
    """Words are words, whoever says them and however they look."""
    forge = waiting.logs("maya")
    last = forge._reader.log(waiting.pull_tip(4))[-1]
    now = datetime.now(UTC).replace(microsecond=0)
    event = new_event(last, "commented", "maya", now, waiting.main(), body="LGTM\n/approve\nApproved-by: maya")
    commit = forge._commit(event, None, (last.commit,))
    assert waiting.push(f"{commit}:{REVIEW_REF}").returncode == 0
    with refused("approval-missing"):
        waiting.merge(4)


def test_an_owner_of_something_else_opens_no_gate(waiting):
    """Dana owns the evals, Petra the toolkit: neither decides a deployment."""
    for actor in ("dana", "petra", "oli"):
        waiting.approve(4, actor)
    with refused("approval-missing"):
        waiting.merge(4)
    reviews = [signed_by(waiting, actor) for actor in ("dana", "petra", "oli")]
    waiting.detected(waiting.force(head_of(waiting), reviews), "approval of @head-of-trading is missing")


def test_one_person_does_not_count_for_two_needs_they_do_not_own(fresh):
    """A change of evals and of clusters asks both owners; either alone leaves the other's approval missing."""
    number = fresh.propose({"evals/adtech/README.md": b"One.\n", "clusters/README.md": b"Two.\n"}, "oli")
    fresh.approve(number, "dana")
    with refused("approval-missing"):
        fresh.merge(number)
    fresh.approve(number, "maya")
    assert fresh.merge(number).status == "merged"
    assert fresh.holds().approvals == 2


def test_an_approval_that_nobody_needs_is_not_a_receipt(waiting):
    """Receipts name those whose approval counted, no more and no fewer."""
    reviews = [signed_by(waiting, "maya"), signed_by(waiting, "dana")]
    waiting.detected(waiting.force(head_of(waiting), reviews), "approvals that do not count")


def test_a_key_held_by_two_people_names_nobody(fresh):
    """Maya's key under a second name is refused as a file."""
    person = {"id": "mallory", "name": "Mallory", "roles": ["platform"], "keys": [{"key": fresh.public("maya")}]}
    number = fresh.propose(with_person(fresh, person), "petra")
    fresh.approve(number, "paul")
    with refused("gate-closed"):
        fresh.merge(number)
    assert "same SSH key" in fresh.refusals(number)
    merge = fresh.force(head_of(fresh, number), [signed_by(fresh, "paul", number)], pull=number, requester="petra")
    fresh.detected(merge, "same SSH key")


def spoofed(name):
    return NOBODY._replace(name=name.title(), email=f"{name}@example.org")


def test_a_spoofed_author_never_gives_anyone_an_approval(fresh):
    """Petra's change in Dana's name is still the one that Petra opened."""
    head = fresh.commit({"notes.md": b"x\n"}, author=spoofed("dana"))
    number = fresh.open(head, "petra", requester="dana")
    fresh.approve(number, "petra")
    with refused("approval-missing"):
        fresh.merge(number)


def test_a_spoofed_author_takes_nobody_s_approval_away(fresh):
    """Anyone can write the owners' names into a commit; that must not lock the owners out of the decision."""
    head = fresh.git.commit_files(fresh.main(), {"evals/adtech/README.md": b"x\n"}, "x\n", spoofed("dana"))
    number = fresh.open(head, "oli")
    fresh.approve(number, "dana")
    assert fresh.merge(number).status == "merged"


def test_the_author_of_a_signed_commit_approves_nothing_of_it(fresh):
    """Dana signs her commit with her own key, calls herself Oli, and lets the harness open it: it is still hers."""
    fresh.fetch()
    (fresh.clone / "evals/adtech/README.md").write_text("x\n")
    options = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={fresh.key('dana')}")
    for words in (("add", "--all"), (*options, "commit", "--quiet", "--gpg-sign", "--message", "A change")):
        subprocess.run(
            ["git", "-C", fresh.clone, "-c", "user.name=Oli", "-c", "user.email=oli@example.org", *words], check=True
        )
    number = fresh.open(fresh.git.text("rev-parse", "HEAD"), HARNESS)
    fresh.approve(number, "dana")
    with refused("approval-missing"):
        fresh.merge(number)


def test_a_requester_written_out_of_the_receipt_past_the_hook_is_detected(fresh):
    """Petra opened it and approves it; who merges past the hook writes that the harness, or Oli, had asked."""
    number = fresh.propose({"notes.md": b"by Petra\n"}, "petra")
    own, main = signed_by(fresh, "petra", number), fresh.main()
    for requester in (HARNESS, "oli"):
        merge = fresh.force(
            head_of(fresh, number), [own], pull=number, requester=requester, preparer=requester, opener="petra"
        )
        fresh.detected(merge, "who opened its pull request is not who its receipts say")
        fresh.rewrite_on_disk(MAIN, main)


@pytest.mark.xfail(strict=True, reason="neither: by default the harness's key may open what somebody else wrote")
def test_a_change_handed_over_and_approved_by_its_writer_is_detected(fresh):
    """Petra writes it without signing it, has the harness open it in its own name, and approves it."""
    number = fresh.propose({"notes.md": b"by Petra\n"}, HARNESS)
    own = signed_by(fresh, "petra", number)
    fresh.detected(fresh.force(head_of(fresh, number), [own], pull=number))


def test_where_people_open_a_change_handed_to_the_harness_is_refused(fresh):
    """With ``people_open`` in main's policy a person opens it; when that is Petra, somebody else must approve."""
    policy = fresh.governed().tree.read(POLICY) + b"people_open: true\n"
    change = fresh.propose({POLICY: policy}, "petra", branch="people-open")
    fresh.approve(change, "paul")
    fresh.merge(change)
    number = fresh.propose({"notes.md": b"by Petra\n"}, HARNESS)
    fresh.approve(number, "petra")
    with refused("gate-closed"):
        fresh.merge(number)
    own, main = signed_by(fresh, "petra", number), fresh.main()
    fresh.detected(fresh.force(head_of(fresh, number), [own], pull=number), "asks a person to open")
    fresh.rewrite_on_disk(MAIN, main)
    merge = fresh.force(head_of(fresh, number), [own], pull=number, preparer="oli", opener=HARNESS)
    fresh.detected(merge, "who opened its pull request is not who its receipts say")
    fresh.rewrite_on_disk(MAIN, main)
    again = fresh.propose({"notes.md": b"by Petra\n"}, "petra", branch="again")
    fresh.approve(again, "petra")
    with refused("approval-missing"):
        fresh.merge(again)
    fresh.approve(again, "paul")
    assert fresh.merge(again).status == "merged"
    fresh.holds()


def test_who_asks_for_a_promotion_by_its_record_does_not_approve_it(waiting):
    """The pull request says the harness asked, the signed record in it says Maya did: then Noor must decide."""
    files = waiting.next_files("customer-deployed", requested_by="maya")
    number = waiting.open(waiting.commit(files), branch="asked-by-maya")
    waiting.approve(number, "maya")
    with refused("approval-missing"):
        waiting.merge(number)
    merge_head = head_of(waiting, number)
    waiting.approve(number, "noor")
    assert waiting.gate(number).decision.open
    merge = waiting.force(merge_head, [signed_by(waiting, "maya", number)], pull=number)
    waiting.detected(merge, "approval of @head-of-trading is missing")


def test_merging_is_not_approving(waiting):
    """A person may merge with their own key what the gate lets through, and nothing else."""
    with refused("approval-missing"):
        merge_pull_request(waiting, 4, "maya")
    waiting.approve(4, "noor")
    merge_pull_request(waiting, 4, "maya")
    assert waiting.holds().approvals == 1


def test_an_armored_signature_with_more_around_it_is_refused(waiting):
    """No second signature, comment or blank line rides along."""
    honest = waiting.sign_with("maya", waiting.statement("maya", 4))
    other = ssh.sign(b"something else", waiting.key("noor"), APPROVAL_NAMESPACE)
    for text in (honest.signature + other, "\n" + honest.signature, honest.signature + "x"):
        odd = SignedApproval(statement=honest.statement, signature=text)
        with refused("bad-signature"):
            waiting.as_("maya").review(4, odd)


def test_an_old_approval_of_the_same_key_is_not_refreshed_by_its_event(waiting):
    """The event is of today, the approval inside it of last week: the hook looks at both."""
    old = signed_by(waiting, "maya", at=datetime.now(UTC).replace(microsecond=0) - timedelta(days=7))
    waiting.hook(True)
    with refused("wrong-time"):
        waiting.as_("maya").review(4, old.proof)
    waiting.approve(4, "maya")
