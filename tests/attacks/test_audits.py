"""The audit of a time: what somebody who holds the harness's key could leave out of it, or pass off as one."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta, timezone

import pytest
from attacker import HARNESS, plain_git, refused

from modelsmith.operations import audit
from modelsmith.schema.audit import AUDIT_TYPE
from modelsmith.schema.canonical import canonical_json
from modelsmith.signing.dsse import seal, statement

BEGIN = "2026-01-01"
_EAST = timezone(timedelta(hours=9))


def make_audit(world, until, folder, since=BEGIN):
    return audit.run(world.workspace, audit.AuditRequest(since=since, until=until, out=folder))


@pytest.fixture
def bundle(deployed, tmp_path, monkeypatch):
    """An honest audit of everything so far, and the world that it is of."""
    monkeypatch.setenv("MODELSMITH_HOME", str(deployed.home))
    deployed.git.run("merge", "--quiet", "--ff-only", deployed.main())
    last = deployed.governed().signed.latest
    monkeypatch.setattr(audit, "datetime", _Later)
    folder = tmp_path / "bundle"
    make_audit(deployed, (last + timedelta(seconds=1)).isoformat(), folder)
    return deployed, folder


class _Later(datetime):
    """A clock by which what has just been merged is over."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz or UTC) + timedelta(hours=1)


def holds(world, folder):
    return world.verify(world.clone, audit=folder).audit


def signed_again(world, folder, **changed):
    """What the holder of the harness's key can make of it."""
    document = json.loads((folder / "audit.json").read_bytes()) | changed
    data = canonical_json(document)
    predicate = {name: document[name] for name in ("repository", "root", "since", "until")}
    (folder / "audit.json").write_bytes(data)
    key = world.harness_keys / "harness.pem"
    (folder / "audit.sigstore.json").write_bytes(seal(statement("audit.json", data, AUDIT_TYPE, predicate), key))


def changes(folder):
    return json.loads((folder / "audit.json").read_bytes())["changes"]


def test_an_honest_audit_holds(bundle):
    """The control."""
    world, folder = bundle
    assert holds(world, folder).approvals == 1


@pytest.mark.parametrize("what", ["approval", "approver", "change", "key", "evidence", "range"])
@pytest.mark.parametrize("signer", ["nobody", HARNESS])
def test_an_audit_from_which_something_was_left_out_does_not_hold(bundle, what, signer):
    """Without the key the seal breaks; with it, verify makes the audit again from main and finds what differs."""
    world, folder = bundle
    audited = changes(folder)
    approved = next(change for change in audited if change["approvals"])
    more = {}
    if what == "approval":
        approved["approvals"] = []
    elif what == "approver":
        approved["approvals"][0]["actor"] = "noor"
    elif what == "change":
        audited.remove(approved)
    elif what == "key":
        more = {"keys_after": json.loads((folder / "audit.json").read_bytes())["keys_after"][1:]}
    elif what == "evidence":
        approved["promotion"]["files"] = {}
    else:
        more = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}
    if signer == HARNESS:
        signed_again(world, folder, changes=audited, **more)
        with refused("audit-does-not-hold"):
            holds(world, folder)
        return
    document = json.loads((folder / "audit.json").read_bytes()) | {"changes": audited} | more
    (folder / "audit.json").write_bytes(canonical_json(document))
    with refused("wrong-subject"):
        holds(world, folder)


def test_an_audit_of_another_repository_does_not_hold(bundle):
    """It names its repository and root; one of a main that is no part of this one is refused whoever signed it."""
    world, folder = bundle
    signed_again(world, folder, repository="another-0001")
    with refused("audit-does-not-hold"):
        holds(world, folder)
    signed_again(world, folder, repository=world.governed().policy.repository, root="sha256:" + "0" * 64)
    with refused("audit-does-not-hold"):
        holds(world, folder)


def test_page_and_clone_s_part_cannot_be_exchanged(bundle, tmp_path):
    """The page is made again from the JSON, the clone's part names its audit, and nothing else lies beside them."""
    world, folder = bundle
    (folder / "approvals.json").write_text("[]")
    with refused("audit-does-not-hold"):
        holds(world, folder)
    (folder / "approvals.json").unlink()
    assert holds(world, folder)
    other = tmp_path / "other"
    make_audit(world, "2026-01-02", other)
    page = (folder / "audit.md").read_bytes()
    (folder / "audit.md").write_bytes(page.replace(b"maya", b"noor"))
    with refused("audit-does-not-hold"):
        holds(world, folder)
    (folder / "audit.md").write_bytes(page)
    for name in ("clone.json", "clone.sigstore.json"):
        shutil.copy(other / name, folder / name)
    with refused("audit-does-not-hold"):
        holds(world, folder)


def test_no_change_falls_between_two_ranges_or_into_both(bundle, tmp_path):
    """Ranges are half-open, and of the same time whatever the offset that names it."""
    world, folder = bundle
    moments = [datetime.fromisoformat(change["at"]) for change in changes(folder)]
    end = (moments[-1] + timedelta(seconds=1)).isoformat()
    for cut in {*moments[1:], *(moment.astimezone(_EAST) for moment in moments[1:])}:
        parts = [
            audit.run(world.workspace, audit.AuditRequest(since=since, until=until)).audit.changes
            for since, until in ((BEGIN, cut.isoformat()), (cut.isoformat(), end))
        ]
        assert [change.pull for part in parts for change in part] == [change["pull"] for change in changes(folder)]


def test_a_main_that_nobody_let_through_is_not_audited(bundle, tmp_path):
    """An audit begins with verify: what does not hold is told by nobody."""
    world, _ = bundle
    plain_git("commit", "--quiet", "--allow-empty", "--message", "By nobody", folder=world.clone)
    with refused("history-does-not-hold"):
        make_audit(world, "2026-01-02", tmp_path / "none")
    assert not (tmp_path / "none").exists()
