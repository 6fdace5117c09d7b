"""Artifacts at hand are held against main, which vouches for their signatures under the keys of their time."""

from __future__ import annotations

import shutil

import pytest

from modelsmith.artifacts.seal import seal
from modelsmith.artifacts.store import Store
from modelsmith.promotion.records import next_record
from modelsmith.promotion.weights import check_copy, check_weights
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE
from modelsmith.signing.keys import create_signing_key
from modelsmith.signing.oms import sign_directory

TRUST = ".github/governance/trust/harness.pem"


@pytest.fixture
def artifact(tmp_path, repository):
    """A sealed artifact, signed by the harness."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    seal(folder)
    sign_directory(folder, repository.key)
    return folder


@pytest.fixture
def history(repository, artifact):
    """Main with that artifact exported, and the specialist's name."""

    def after(*events):
        changed, sums = repository, (artifact / SUMS_FILE).read_bytes()
        facts = repository.draft(sums=sums)
        for event in events:
            names = (SUMS_FILE, SIGNATURE_FILE) if event == "artifact-exported" else ()
            evidence = {name: (artifact / name).read_bytes() for name in names}
            changed = changed.commit(changed.files_of(next_record(changed.main, event, facts, evidence), evidence))
        return changed, facts.specialist

    return after


def check(repository, specialist, folder):
    check_copy(repository.main, repository.main.histories.by_specialist[specialist], folder)


def refused(repository, specialist, folder):
    with pytest.raises(IntegrityFailure) as failure:
        check(repository, specialist, folder)
    return failure.value.code


def test_an_artifact_still_holds_after_the_key_that_signed_was_replaced(history, artifact, tmp_path):
    changed, specialist = history("candidate", "eval-accepted", "artifact-exported")
    check(changed, specialist, artifact)
    rotated = changed.commit({TRUST: create_signing_key(tmp_path / "new.pem")})
    assert rotated.main.trusted != changed.main.trusted
    check(rotated, specialist, artifact)
    Store(tmp_path / "store").put(artifact, rotated.main.histories.by_specialist[specialist].artifact)
    stores = {"rtb-pricing": tmp_path / "store"}
    assert check_weights(rotated.main, stores, frozenset({specialist})) == {specialist: "checked"}


def test_a_signature_by_today_s_key_does_not_replace_that_of_main(history, artifact, tmp_path):
    changed, specialist = history("candidate", "eval-accepted", "artifact-exported")
    rotated = changed.commit({TRUST: create_signing_key(tmp_path / "new.pem")})
    again = shutil.copytree(artifact, tmp_path / "again")
    seal(again)
    sign_directory(again, tmp_path / "new.pem")
    assert refused(rotated, specialist, again) == "signature-differs"
    (again / SIGNATURE_FILE).unlink()
    assert refused(rotated, specialist, again) == "signature-differs"


def test_main_s_signature_beside_other_weights_is_refused(history, artifact):
    changed, specialist = history("candidate", "eval-accepted", "artifact-exported")
    (artifact / "adapter_model.safetensors").write_bytes(b"Weights")
    assert refused(changed, specialist, artifact) == "file-changed"


def test_before_the_export_the_id_alone_speaks_for_the_files(history, artifact):
    changed, specialist = history("candidate")
    check(changed, specialist, artifact)
    (artifact / "more.json").write_text("{}")
    assert refused(changed, specialist, artifact) == "file-added"


def test_weights_that_are_elsewhere_are_checked_only_if_policy_wants_it(history, tmp_path):
    changed, specialist = history("candidate")
    stores = {"rtb-pricing": tmp_path / "empty"}
    assert check_weights(changed.main, stores, frozenset({specialist})) == {specialist: "not checked"}
    path = ".github/governance/policy.yaml"
    strict = changed.commit(
        {path: changed.main.tree.read(path).replace(b"require_weights: false", b"require_weights: true")}
    )
    with pytest.raises(IntegrityFailure) as missing:
        check_weights(strict.main, stores, frozenset({specialist}))
    assert missing.value.code == "lost-weights"
