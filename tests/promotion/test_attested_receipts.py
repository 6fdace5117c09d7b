"""Approvals that a forge authenticated by login: they count where policy says so, as attested by the harness."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from modelsmith.promotion.attestation import adopt, attestation
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, WaitingForPerson
from modelsmith.schema.promotion import ATTESTATION_TYPE
from modelsmith.signing.dsse import peek, seal, statement, unseal
from modelsmith.signing.keys import create_signing_key

PEOPLE, POLICY = ".github/governance/people.yaml", ".github/governance/policy.yaml"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def hosted(line):
    """Policy takes reviews of GitHub; Petra and Piet have logins there, and Piet one elsewhere."""
    allow = line.edited(POLICY, lambda document: document.update(attested_forges=["github"]))

    def logins(document):
        line.person(document, "petra")["logins"] = {"github": "Petra-P"}
        line.person(document, "piet")["logins"] = {"github": "piet-p", "gitlab": "pp"}

    files = allow | line.edited(PEOPLE, logins)
    return line.land(line.approved(line.pull(files), "petra"))


def name_of(files):
    return next(path for path in files if "attested-" in path)


def test_an_attested_approval_opens_the_gate_and_verifies(hosted):
    pull = hosted.reviewed_at_forge(hosted.pull(), "petra", "petra-p", review="R_7")
    hosted.land(pull)
    assert hosted.verify().approvals == 2
    folder = hosted.git.list_tree(hosted.tip, ".github/governance/receipts")
    path = next(path for path in folder if path.endswith("/attested-petra.sigstore.json"))
    main = hosted.main()
    said = unseal(main.tree.read(path), main.trusted, pull.reviews[0].change, ATTESTATION_TYPE)
    assert said == {
        "repository": main.policy.repository, "pull": pull.number, "change": pull.reviews[0].change,
        "verdict": "approve", "forge": "github", "login": "petra-p", "review": "R_7", "at": "2026-05-01T12:00:00Z",
    }  # fmt: skip


def test_signed_and_attested_approvals_may_stand_together(hosted):
    pull = hosted.approved(hosted.pull({"notes.md": b"x", "evals/adtech/README.md": b"y"}), "dana")
    hosted.land(hosted.reviewed_at_forge(pull, "piet", "PIET-P"))
    assert hosted.verify().approvals == 3


def test_no_forge_is_believed_unless_policy_lists_it(line, hosted):
    for forge, login, actor in (("gitlab", "pp", "piet"), ("github", "piet-p", "petra"), ("github", "ghost", "piet")):
        pull = hosted.reviewed_at_forge(hosted.pull(), actor, login, forge=forge)
        decision = hosted.decide(pull).decision
        assert not decision.open
        assert decision.notes[0].startswith(f"The approval of {actor} does not count: ")
        with pytest.raises(WaitingForPerson):
            hosted.land(pull)


def swapped(hosted, said=None, key=None, **changes):
    """Lands an attested approval by Petra with another attestation in its place."""

    def edit(files):
        path = name_of(files)
        sealed = json.loads(peek(files[path]))
        predicate = said or sealed["predicate"] | changes
        digest = f"sha256:{sealed['subject'][0]['digest']['sha256']}"
        files[path] = seal(statement("change", digest, ATTESTATION_TYPE, predicate), key or hosted.harness)
        return files

    hosted.land(hosted.reviewed_at_forge(hosted.pull(), "petra", "petra-p"), edit=edit)
    with pytest.raises(IntegrityFailure) as caught:
        hosted.verify()
    return caught.value.message


def test_an_attestation_by_an_untrusted_key_is_found_by_verify(hosted, tmp_path):
    create_signing_key(tmp_path / "mallory.pem")
    assert "not in the trust root" in swapped(hosted, key=tmp_path / "mallory.pem")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"pull": 77}, "another pull request or repository"),
        ({"repository": "elsewhere-1234"}, "another pull request or repository"),
        ({"change": "sha256:" + "1" * 64}, "another pull request or repository"),
        ({"login": "piet-p"}, "a receipt of petra that is of piet"),
        ({"login": "ghost"}, "nobody in people.yaml"),
        ({"forge": "gitlab", "login": "pp"}, "a receipt of petra that is of piet"),
        ({"verdict": "reject"}, "cannot be read"),
        ({"more": "x"}, "cannot be read"),
    ],
)
def test_an_attestation_of_something_else_is_found_by_verify(hosted, changes, found):
    assert found in swapped(hosted, **changes)


def test_an_attestation_of_a_forge_that_policy_does_not_list_is_found_by_verify(hosted):
    pull = hosted.reviewed_at_forge(hosted.pull(), "piet", "pp", forge="gitlab")
    hosted.land(pull, edit=dict)
    with pytest.raises(IntegrityFailure, match="takes no attested reviews of gitlab"):
        hosted.verify()


def test_an_attestation_of_another_change_is_found_by_verify(hosted):
    first = hosted.reviewed_at_forge(hosted.pull({"a.md": b"a"}), "petra", "petra-p")
    hosted.land(first)
    old = next(p for p in hosted.git.list_tree(hosted.tip, ".github/governance/receipts") if "attested-petra" in p)
    kept = hosted.main().tree.read(old)

    def replayed(files):
        return files | {name_of(files): kept}

    hosted.land(hosted.reviewed_at_forge(hosted.pull({"b.md": b"b"}), "petra", "petra-p"), edit=replayed)
    with pytest.raises(IntegrityFailure, match="signature is for another"):
        hosted.verify()


def test_a_receipt_under_another_name_is_found_by_verify(hosted):
    def renamed(files):
        path = name_of(files)
        other = path.replace("attested-petra", "attested-Petra")
        receipt = next(name for name in files if name.endswith("/merge.json"))
        said = json.loads(files[receipt]) | {"approvals": {"petra": other.rpartition("/")[2]}}
        return {other: files[path], receipt: canonical_json(said)}

    hosted.land(hosted.reviewed_at_forge(hosted.pull(), "petra", "petra-p"), edit=renamed)
    with pytest.raises(IntegrityFailure):
        hosted.verify()


def test_the_hook_checks_the_attestation_that_was_made_and_makes_none(hosted, tmp_path):
    pull = hosted.reviewed_at_forge(hosted.pull(), "petra", "petra-p")
    main = hosted.main()
    said = attestation(pull.reviews[0], main.policy.repository, pull.number)
    bundle = seal(said, hosted.harness)
    assert adopt("a", said, {"a": bundle}, main) == bundle
    create_signing_key(tmp_path / "mallory.pem")
    other = attestation(pull.reviews[0], main.policy.repository, pull.number + 1)
    for pushed in ({}, {"b": bundle}, {"a": seal(said, tmp_path / "mallory.pem")}, {"a": seal(other, hosted.harness)}):
        with pytest.raises(GateNotCleared) as caught:
            adopt("a", said, pushed, main)
        assert caught.value.code == "wrong-receipts"
