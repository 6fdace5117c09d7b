"""Keys are rotated by pull requests of their owners: old records stay valid, new ones need the new key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from trained import trained
from warm_gate import stand_in

from modelsmith.operations import approve, doctor, pr_list, pr_merge, pr_open, pr_show, verify
from modelsmith.operations.init import InitRequest
from modelsmith.operations.init import run as init
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import ident, open_harness
from modelsmith.promotion.pulls import merge_pull, open_promotion
from modelsmith.promotion.records import RecordDraft
from modelsmith.promotion.syncing import sync
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, ModelsmithError
from modelsmith.schema.promotion import Preparer
from modelsmith.signing.keys import create_signing_key, create_ssh_key

PEOPLE = ".github/governance/people.yaml"
TRUST = ".github/governance/trust"
DIGEST = "sha256:" + "a" * 64


class Place:
    """A repository made by `modelsmith init`, its forge with the hook, and everyone's keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        roles = {"petra": "platform", "piet": "platform", "maya": "head-of-trading"}
        for name in roles:
            create_ssh_key(folder / name, f"{name}@example.org")
        enrolled = tuple(f"{role}={name}.pub" for name, role in roles.items())
        initialised = init(
            Workspace(folder, home=folder / "home"), InitRequest(directory=Path("clone"), people=enrolled)
        )
        stand_in(folder / "clone.git")
        self.root = initialised.root
        self.workspace = Workspace(folder / "clone", home=folder / "home")
        self.keys = next((folder / "home" / "keys").iterdir())

    def main(self):
        return read_governed_state(self.workspace.git, self.workspace.git.rev("refs/heads/main"))

    def propose(self, opener: str, files: dict[str, bytes]) -> int:
        """A pull request of these files, opened with that key."""
        git = self.workspace.git
        base = self.main().tree.commit

        head = git.commit_files(base, files, "A change\n", ident(open_harness(self.workspace)))
        branch = f"change-{head[:12]}"
        git.run("update-ref", f"refs/heads/{branch}", head)
        request = pr_open.PrOpenRequest(branch=branch, title="A change", key=self.folder / opener)
        return pr_open.run(self.workspace, request).pull.number

    def approve(self, number: int, key: str):
        return approve.run(self.workspace, approve.ApproveRequest(number=number, key=self.folder / key)).pull

    def merge(self, number: int) -> None:
        pr_merge.run(self.workspace, pr_merge.PrMergeRequest(number=number))

    def people(self, change) -> dict[str, bytes]:
        document = yaml.safe_load(self.main().tree.read(PEOPLE))
        change(document)
        return {PEOPLE: yaml.safe_dump(document, sort_keys=False).encode()}

    def candidate(self, number: int):
        """The harness's own promotion of a new specialist, opened or adopted."""
        harness = open_harness(self.workspace)
        main = read_governed_state(self.workspace.git, sync(harness))
        cluster = load_cluster(main.tree, "rtb-pricing")
        artifact = sha256(b"artifact %d" % number)
        training = trained(main.tree, number)
        facts = RecordDraft(
            cluster=cluster, specialist=f"iter-{number:03d}-{artifact[7:15]}", artifact=artifact, iteration=number,
            eval_run=None, eval_tag=None, composite=None, requested_by=harness.actor,
            prepared_by=Preparer(id=harness.actor, kind="harness"),
        )  # fmt: skip
        files = {"training.json": canonical_json(training)}
        return open_promotion(harness, "candidate", facts, files, f"Candidate {number}", "A candidate.")

    def verify(self):
        return verify.run(self.workspace, verify.VerifyRequest(root=self.root))

    def shown(self, number: int):
        return pr_show.run(self.workspace, pr_show.PrShowRequest(number=number)).pull

    def gates(self) -> dict[int, str]:
        return {pull.number: pull.gate for pull in pr_list.run(self.workspace, pr_list.PrListRequest()).pulls}


@pytest.fixture
def place(warm_gate, tmp_path) -> Place:
    return Place(tmp_path)


def test_a_persons_key_is_rotated_and_a_lost_one_revoked(place):
    waiting = place.propose("petra", {"notes.md": b"x"})
    assert place.approve(waiting, "piet").gate == "open"

    new = create_ssh_key(place.folder / "piet-new", "piet@example.org")

    def rotate(document):
        piet = next(person for person in document["people"] if person["id"] == "piet")
        piet["keys"][0]["revoked_at"] = "2026-01-01T00:00:00Z"
        piet["keys"].append({"key": new})

    rotation = place.propose("piet", place.people(rotate))
    assert place.approve(rotation, "petra").gate == "open"
    place.merge(rotation)

    view = place.shown(waiting)
    assert (view.gate, view.waiting_for) == ("waiting", ("@platform",))
    assert view.notes == ("The approval of piet does not count: its key was revoked on 2026-01-01 00:00 UTC.",)
    with pytest.raises(IntegrityFailure) as caught:
        place.approve(waiting, "piet")
    assert caught.value.code == "key-not-valid"
    assert place.approve(waiting, "piet-new").gate == "open"
    place.merge(waiting)
    assert place.verify().approvals == 2
    sentences = [
        f.sentence for f in doctor.run(place.workspace, doctor.DoctorRequest()).findings if "piet" in f.subject
    ]
    assert len(sentences) == 1
    assert "revoked on 2026-01-01" in sentences[0]


def test_the_harnesss_keys_are_rotated_and_what_was_open_is_signed_anew(place):
    merge_pull(open_harness(place.workspace), place.candidate(1).number)
    old = place.candidate(2)
    assert place.candidate(2) == old, "adopted while its signature holds"

    pem = create_signing_key(place.folder / "new" / "harness.pem")
    ssh = create_ssh_key(place.folder / "new" / "harness-ssh", "modelsmith-harness")

    def rotate(document):
        document["harness"][0].update(keys=[{"key": ssh}], trust=["harness-2.pem"])

    rotation = place.propose("petra", place.people(rotate) | {f"{TRUST}/harness-2.pem": pem})
    assert place.approve(rotation, "piet").gate == "open"
    place.merge(rotation)

    assert place.gates() == {old.number: "closed"}, "the list stays readable"
    refusals = " ".join(place.shown(old.number).refusals)
    assert "not listed under modelsmith-harness any more" in refusals
    assert "not in the trust root" in refusals
    with pytest.raises(ModelsmithError) as caught:
        place.candidate(2)
    assert caught.value.code in ("unknown-key", "key-not-valid"), "the old SSH key opens nothing"

    for name in ("harness-ssh", "harness-ssh.pub"):
        (place.folder / "new" / name).replace(place.keys / name)
    again = place.candidate(2)
    with pytest.raises(GateNotCleared, match="not in the trust root"):
        merge_pull(open_harness(place.workspace), again.number)

    (place.folder / "new" / "harness.pem").replace(place.keys / "harness.pem")
    anew = place.candidate(2)
    assert anew.number > again.number > old.number
    merge_pull(open_harness(place.workspace), anew.number)
    result = place.verify()
    assert (result.promotions, result.approvals, result.pinned) == (2, 1, True)
    assert place.gates() == {}
