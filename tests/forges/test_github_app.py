"""A GitHub App lets the toolkit in: its tokens are renewed, and neither they nor its key are found anywhere."""

import subprocess
import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modelsmith.forges.github.app import APP_ID, APP_KEY, APP_KEY_FILE, find_access
from modelsmith.forges.github.forge import GitHubForge
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.port import ForgeIdentity
from modelsmith.schema.errors import InvalidInput, ModelsmithError


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key):
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def hub(world, github, key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    github.apps = {"5": public}
    return world.at_github(github)


def access(hub, **variables):
    place = parse_place(f"github:{hub.github.web}/acme/promotions")
    return find_access(place, hub.git.path, variables)


def forge(hub, token, actor="smith"):
    place = parse_place(f"github:{hub.github.web}/acme/promotions")
    identity = ForgeIdentity(actor, hub.keys / actor)
    return GitHubForge(place, token, hub.folder / "private", hub.git, identity)


def refused(call):
    with pytest.raises(ModelsmithError) as caught:
        call()
    text = str(caught.value.envelope())
    assert not any(secret in text for secret in ("PRIVATE KEY-----\n", "ghs_", "eyJ"))
    return caught.value


def test_an_app_proposes_and_merges_and_its_secrets_are_nowhere(hub, key, monkeypatch, tmp_path):
    recorded, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda args, **more: (recorded.append(args), run(args, **more))[1])
    file = tmp_path / "app.pem"
    file.write_text(pem(key))
    app = forge(hub, access(hub, **{APP_ID: "5", APP_KEY_FILE: str(file), "GITHUB_TOKEN": "a-workflow-s"}))
    main = hub.main()
    pull = app.open(hub.proposal({"notes/a.txt": "x"}, requester="maya"))
    assert app.merge(pull.number, hub.merge_commit(pull, main), main).status == "merged"
    assert hub.repo.pulls[pull.number].login == "smith[bot]"
    secrets = [secret for secret in hub.github.tokens if secret.startswith("ghs_")] + pem(key).splitlines()[1:-1]
    assert len(secrets) > 10
    contents = [path.read_bytes() for path in hub.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    texts = [str(word).encode() for args in recorded for word in args] + [
        path.encode() for _, path, _ in hub.github.asked
    ]
    assert not [secret for secret in secrets if any(secret.encode() in content for content in (*contents, *texts))]
    assert "ghs_" not in repr(app._faces.rest._token)


def test_a_token_is_renewed_before_it_ends(hub, key, monkeypatch):
    app = forge(hub, access(hub, **{APP_ID: "5", APP_KEY: pem(key)}))
    app.main()
    app.main()
    assert len([secret for secret in hub.github.tokens if secret.startswith("ghs_")]) == 1, "it serves until it ends"
    for account in hub.github.tokens.values():
        account.ends = 0 if account.login == "smith[bot]" else account.ends
    monkeypatch.setattr("modelsmith.forges.github.app.RENEW_BEFORE", timedelta(hours=2))
    assert app.open(hub.proposal()).status == "open"


def test_an_apps_key_that_is_none_or_lies_in_the_clone_is_refused(hub, key):
    inside = hub.git.path / "app.pem"
    inside.write_text(pem(key))
    link = hub.folder / "link.pem"
    link.symlink_to(inside)
    cases = [
        ({APP_ID: "5"}, "bad-app-key"),
        ({APP_ID: "../x", APP_KEY: pem(key)}, "bad-app"),
        ({APP_ID: "5", APP_KEY: "ssh-ed25519 AAAA"}, "bad-app-key"),
        ({APP_ID: "5", APP_KEY_FILE: str(hub.folder / "none")}, "bad-app-key"),
        ({APP_ID: "5", APP_KEY_FILE: str(inside)}, "key-in-clone"),
        ({APP_ID: "5", APP_KEY_FILE: str(link)}, "key-in-clone"),
    ]
    for variables, code in cases:
        assert refused(lambda values=variables: access(hub, **values)).code == code
    torn = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n"
    assert refused(lambda: forge(hub, access(hub, **{APP_ID: "5", APP_KEY: torn})).main()).code == "bad-app-key"


def test_another_key_a_wrong_clock_and_no_installation_are_told_apart(hub, key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert refused(lambda: forge(hub, access(hub, **{APP_ID: "5", APP_KEY: pem(other)})).main()).code == "app-refused"
    hub.github.installed = False
    ours = {APP_ID: "5", APP_KEY: pem(key)}
    assert refused(lambda: forge(hub, access(hub, **ours)).main()).code == "app-not-installed"
    hub.github.installed = True
    hub.github.clock = lambda: time.time() - 3600
    error = refused(lambda: access(hub, **ours).reveal())
    assert error.code == "app-refused"
    assert "set this machine's clock" in error.mend


def test_a_token_that_is_given_goes_before_the_app(hub, key):
    fields = {"MODELSMITH_GITHUB_TOKEN": "mine", APP_ID: "5", APP_KEY: pem(key)}
    assert access(hub, **fields).reveal() == "mine"
    with pytest.raises(InvalidInput):
        access(hub)
