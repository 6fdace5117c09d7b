"""A forge that is reached over ssh: nothing of it is on this disk but what it showed."""

import pytest

from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, IntegrityFailure


@pytest.fixture
def remote(guarded):
    return guarded.elsewhere()


def test_the_hook_over_there_refuses_what_the_gate_does_not_allow(remote):
    pull = remote.propose()
    with pytest.raises(GateNotCleared) as caught:
        remote.merge(pull)
    assert caught.value.code != "git-failed", "the hook's own words arrive"
    assert remote.forge().get(pull.number).status == "open"


def test_a_pull_request_that_the_forge_took_back_is_missed(remote):
    pull = remote.review("noor", remote.propose(), "reject")
    remote.forge_git.run("update-ref", "-d", f"refs/modelsmith/pulls/{pull.number}")
    with pytest.raises(IntegrityFailure) as caught:
        remote.forge().list()
    assert caught.value.code == "rewound-forge"
    assert f"pulls/{pull.number}" in caught.value.message


def test_a_rejection_that_the_forge_cut_off_is_missed(remote):
    pull = remote.propose()
    before = remote.forge_git.rev(f"refs/modelsmith/pulls/{pull.number}")
    remote.review("noor", pull, "reject")
    remote.forge().get(pull.number)
    remote.forge_git.run("update-ref", f"refs/modelsmith/pulls/{pull.number}", before)
    with pytest.raises(IntegrityFailure) as caught:
        remote.forge().get(pull.number)
    assert caught.value.code == "rewound-forge"


@pytest.mark.parametrize("name", ["notes/b.txt", ".github/governance/receipts/9-b/merge.json"])
def test_a_main_that_the_forge_rewound_is_missed(remote, name):
    """Where receipts are lost with it. What never had any verified nowhere, and taking it back mends main."""
    pull = remote.propose()
    first = remote.main()
    remote.commit({"notes/a.txt": "a\n"})
    remote.forge_git.update_ref("refs/heads/main", remote.commit({name: "{}\n"}, git=remote.forge_git), first)
    remote.forge().main()
    remote.forge_git.update_ref("refs/heads/main", first, remote.main())
    if name == "notes/b.txt":
        assert remote.forge().get(pull.number).status == "open"
        assert remote.forge().main() == first
        return
    with pytest.raises(IntegrityFailure) as caught:
        remote.forge().get(pull.number)
    assert caught.value.code == "rewound-forge"


def test_a_forge_that_cannot_be_reached_is_an_infrastructure_failure(remote, monkeypatch):
    remote.propose()
    monkeypatch.setenv("GIT_SSH", "/bin/false")
    with pytest.raises(InfrastructureFailure):
        remote.forge().list()
