"""Records that a job signed: who may is main's policy, for each cluster; without any, nothing needs the extra."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import yaml
from sigstore_server import private_sigstore, workflow_claims

from modelsmith.promotion.checks import promotion_checks
from modelsmith.promotion.records import next_record
from modelsmith.repository.validate import validate
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.signing import keyless
from modelsmith.signing.keyless import Ambient

POLICY, ROOT = ".github/governance/policy.yaml", ".github/governance/trust/sigstore.json"
FILE = ".github/workflows/modelsmith-iterate.yml"
WORKFLOW = {
    "issuer": "https://token.actions.githubusercontent.com",
    "repository": "acme/promotions",
    "repository_id": 4711,
    "owner_id": 42,
    "workflow": FILE,
    "events": ["schedule"],
    "trust": "sigstore.json",
}


@pytest.fixture(scope="module")
def sigstore():
    with private_sigstore() as instance:
        yield instance


@pytest.fixture
def job(sigstore, monkeypatch, tmp_path):
    config = tmp_path / "trust-config.json"
    config.write_bytes(sigstore.trust_config())
    for name, value in sigstore.actions(workflow_claims(workflow=FILE, event_name="schedule")).items():
        monkeypatch.setenv(name, value)
    return Ambient(config)


def with_policy(repository, sigstore, **other):
    document = yaml.safe_load(repository.main.tree.read(POLICY)) | {"keyless": [WORKFLOW | other]}
    return repository.commit({POLICY: yaml.safe_dump(document).encode(), ROOT: sigstore.trusted_root()})


def record_check(repository, signer):
    record = next_record(repository.main, "candidate", repository.draft(), {})
    files = replace(repository, key=signer).files_of(record)
    proposed, change = repository.proposed(files)
    return next(c for c in promotion_checks(repository.main, proposed, change, None, None) if c.name == "signature")


def test_a_record_counts_that_the_workflow_of_policy_signed(repository, sigstore, job):
    changed = with_policy(repository, sigstore)
    assert not validate(changed.main.tree).problems
    assert record_check(changed, job).passed
    assert record_check(changed, repository.key).passed


def test_not_of_a_cluster_that_policy_does_not_name_for_it(repository, sigstore, job):
    assert record_check(with_policy(repository, sigstore, clusters=["rtb-pricing"]), job).passed
    check = record_check(with_policy(repository, sigstore, clusters=["another"]), job)
    assert not check.passed
    assert "believes none" in check.sentence


def test_not_of_another_workflow_nor_where_policy_names_none(repository, sigstore, job):
    for world in (repository, with_policy(repository, sigstore, events=["push"])):
        assert not record_check(world, job).passed


def test_a_pinned_root_that_is_none_is_named_by_validate(repository, sigstore):
    for data, words in ((None, "there is no"), (b"{}", "mediaType"), (b"x", "no JSON")):
        changed = with_policy(repository, sigstore)
        changed = changed.commit({ROOT: data})
        problems = validate(changed.proposed({})[0]).problems
        assert [(p.field, words in p.message) for p in problems] == [("keyless[0].trust", True)]


def test_only_keyless_signatures_need_the_extra(line, repository, sigstore, job, monkeypatch):
    changed = with_policy(repository, sigstore)
    record = next_record(changed.main, "candidate", changed.draft(), {})
    proposed, change = changed.proposed(replace(changed, key=job).files_of(record))
    monkeypatch.setitem(sys.modules, "sigstore.verify", None)
    assert record_check(changed, repository.key).passed
    line.land(line.approved(line.pull(), "petra"))
    assert line.verify().approvals == 1
    keyless._verifier.cache_clear()
    with pytest.raises(InfrastructureFailure, match="need sigstore"):
        promotion_checks(changed.main, proposed, change, None, None)
