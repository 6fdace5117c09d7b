"""Who wrote a proposal: a signed commit keeps its author from approving; a name in a commit keeps nobody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from modelsmith.promotion.authors import MOST_BROKEN, Commits, authorship
from modelsmith.repository.git import Ident
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, WaitingForPerson
from modelsmith.schema.governance import Limits
from modelsmith.signing.ssh import sign

PEOPLE = ".github/governance/people.yaml"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FILES = {"notes.md": b"By somebody.\n"}


def proposal(line, head):
    return line.pull(head=head)


def test_who_signed_a_commit_of_the_proposal_does_not_approve_it(line):
    head = line.signed_commit(FILES, "petra", author="Mallory <mallory@example.org>")
    own = line.approved(proposal(line, head), "petra")
    with pytest.raises(WaitingForPerson):
        line.land(own)
    line.land(line.approved(own, "piet"))
    assert line.verify().approvals == 1


def test_a_signed_commit_below_the_head_makes_an_author_too(line):
    first = line.signed_commit(FILES, "petra")
    head = line.git.commit_files(first, {"more.md": b"x"}, "More\n", _somebody())
    decision = line.decide(line.approved(proposal(line, head), "petra")).decision
    assert (decision.open, decision.approvers) == (False, ())


def test_verify_finds_an_authors_own_approval(line):
    head = line.signed_commit(FILES, "petra")
    line.land(line.approved(proposal(line, head), "petra"), edit=dict)
    with pytest.raises(IntegrityFailure, match="the approval of @platform is missing"):
        line.verify()


@pytest.mark.parametrize("author", ["petra <petra@example.org>", "Petra <x@example.org>", "x <PETRA@example.org>"])
def test_claiming_somebody_as_author_takes_nothing_from_them_and_is_said(line, author):
    head = line.signed_commit(FILES, "stranger", author=author)
    pull = line.approved(proposal(line, head), "petra")
    decision = line.decide(pull).decision
    assert decision.open
    assert decision.notes == ("A commit claims petra as author, unauthenticated; that takes no approval away.",)
    line.land(pull)
    assert line.verify().approvals == 1


def test_an_unsigned_claim_takes_nothing_either(line):
    head = line.git.commit_files(line.tip, FILES, "x\n", _somebody("petra", "petra@example.org"))
    assert line.decide(line.approved(proposal(line, head), "petra")).decision.open


def test_a_key_that_is_revoked_still_says_who_wrote_a_commit(line):
    def revoke(document):
        petra = line.person(document, "petra")
        petra["keys"][0]["revoked_at"] = NOON.isoformat()
        petra["keys"].append({"key": line.public("petra-new")})

    line.land(line.approved(line.pull(line.edited(PEOPLE, revoke)), "piet"))
    head = line.signed_commit(FILES, "petra")
    assert not line.decide(line.approved(proposal(line, head), "petra", key="petra-new")).decision.open


def spoiled(line, edit):
    """A commit object like one that Petra signed, edited."""
    raw = line.git.run("cat-file", "commit", line.signed_commit(FILES, "petra"))
    commit = line.git.text("hash-object", "-t", "commit", "-w", "--stdin", input=edit(raw))
    return line.approved(proposal(line, commit), "petra")


@pytest.mark.parametrize(
    "edit",
    [
        lambda raw: raw.replace(b"A signed change", b"Another message"),
        lambda raw: raw.replace(b"Somebody", b"Petra"),
        lambda raw: raw.replace(b"gpgsig -----BEGIN SSH", b"gpgsig -----BEGIN PGP"),
        lambda raw: raw[: raw.index(b"gpgsig")] + raw[raw.index(b"gpgsig") : raw.index(b"\n\n")] + b"\n" + raw[
            raw.index(b"gpgsig") : raw.index(b"\n\n")
        ] + raw[raw.index(b"\n\n") :],
    ],
    ids=["message", "author", "kind", "two signatures"],
)  # fmt: skip
def test_a_signature_that_does_not_verify_proves_nothing(line, edit):
    assert line.decide(spoiled(line, edit)).decision.open


def test_a_signature_for_another_purpose_is_none_of_a_commit(line):
    """An approval or event cannot be turned into authorship: their namespace differs."""
    raw = line.git.run("cat-file", "commit", line.signed_commit(FILES, "petra"))
    start, end = raw.index(b"gpgsig"), raw.index(b"\n\n")
    payload = raw[:start] + raw[end + 1 :]
    moved = sign(payload, line.keys / "petra", "modelsmith-event").strip().replace("\n", "\n ").encode()
    people = line.main().people
    assert authorship([raw], people).authors == {"petra"}
    assert authorship([raw[:start] + b"gpgsig " + moved + raw[end:]], people).authors == frozenset()


def test_each_commit_of_history_is_looked_at_for_one_proposal_only(line):
    first = line.signed_commit({"a.md": b"a"}, "petra")
    line.land(line.approved(proposal(line, first), "piet"))
    after = line.tip
    second = line.signed_commit({"b.md": b"b"}, "dana")
    line.land(line.approved(proposal(line, second), "petra"))
    commits = Commits(line.git, f"{after}~2", line.tip)
    assert authorship(commits.take(first, Limits()), line.main().people).authors == {"petra"}
    commits.take(after, Limits())
    assert authorship(commits.take(second, Limits()), line.main().people).authors == {"dana"}
    assert line.verify().approvals == 2


@pytest.mark.parametrize("number", [MOST_BROKEN, MOST_BROKEN + 1])
def test_in_whatever_order_commits_come_the_answer_is_one(line, number):
    """Else the gate could merge what verify refuses for ever."""
    sound = line.git.run("cat-file", "commit", line.signed_commit(FILES, "petra"))
    copies = [sound.replace(b"A signed change", b"Copy %d" % copy) for copy in range(number)]
    people = line.main().people

    def answer(commits):
        try:
            return authorship(commits, people)
        except GateNotCleared as error:
            return error.code

    first = answer([sound, *copies])
    assert all(answer([*copies[:at], sound, *copies[at:]]) == first for at in (1, number // 2, number))


def _somebody(name="Somebody", mail="somebody@example.org"):
    return Ident(name, mail, NOON)
