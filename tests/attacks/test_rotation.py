"""The harness's trust key was replaced while an artifact was sealed, signed and not yet exported."""

from __future__ import annotations

import shutil

import pytest
import yaml
from attacker import CLUSTER, HARNESS, PEOPLE_FILE, refused

from modelsmith.artifacts.seal import verify_signed
from modelsmith.loop.context import open_context
from modelsmith.loop.iteration import ToPromote
from modelsmith.loop.promotions import promote_exported
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.run import RunResult
from modelsmith.signing.keys import create_signing_key


@pytest.fixture
def rotated(accepted):
    """The platform has the new key on main; the store holds the signature of the old one."""
    verify_signed(accepted.stored(), accepted.artifact(), accepted.governed().trusted)
    pem = create_signing_key(accepted.folder / "harness-2.pem")
    people = yaml.safe_load(accepted.governed().tree.read(PEOPLE_FILE))
    people["harness"][0].update(trust=["harness-2.pem"])
    text = yaml.safe_dump(people, sort_keys=False).encode()
    number = accepted.propose(
        {PEOPLE_FILE: text, ".github/governance/trust/harness-2.pem": pem}, "petra", branch="rotate"
    )
    accepted.approve(number, "paul")
    accepted.merge(number)
    assert accepted.governed().trusted == (pem,)
    with pytest.raises(IntegrityFailure) as caught:
        verify_signed(accepted.stored(), accepted.artifact(), accepted.governed().trusted)
    assert caught.value.code == "untrusted-key"
    return accepted


def export(world):
    """What `modelsmith iterate` does at this point of an iteration."""
    draft = world.draft_for("artifact-exported")
    iteration = ToPromote(
        cluster=CLUSTER, number=1, commit=world.main(), reference="base", outcome="PASS",
        specialist=draft.specialist, artifact=draft.artifact,
    )  # fmt: skip
    context = open_context(world.harness(), iteration)
    working = context.folder(iteration) / "artifact"
    if not working.exists():
        shutil.copytree(world.folder / "artifacts" / "1", working)
    headline = world.stated_evidence().candidate.headline
    promote_exported(
        context, iteration, RunResult.model_construct(run_id=draft.eval_run, tag=draft.eval_tag, headline=headline)
    )


def new_key(world):
    """The harness gets it."""
    (world.folder / "harness-2.pem").replace(world.harness_keys / "harness.pem")


def test_the_loop_signs_an_artifact_anew_after_its_trust_key_was_replaced(rotated):
    """Control: the same artifact, another signature, exported; the store's copy verifies under the new key."""
    old = (rotated.stored() / "model.sig").read_bytes()
    new_key(rotated)
    export(rotated)
    signed = (rotated.stored() / "model.sig").read_bytes()
    assert signed != old
    verify_signed(rotated.stored(), rotated.artifact(), rotated.governed().trusted)
    folder = f"promotions/{CLUSTER}/{rotated.draft().specialist}/03-artifact-exported"
    assert rotated.governed().tree.read(f"{folder}/model.sig") == signed
    assert rotated.holds().promotions == 3
    export(rotated)
    assert (rotated.stored() / "model.sig").read_bytes() == signed, "run again it does nothing more"


def test_a_signature_of_the_replaced_key_exports_nothing(rotated):
    """Whoever kept the old key signs artifact and record with it: neither the loop nor main takes it."""
    with refused("untrusted-key"):
        export(rotated)
    number = rotated.promote("artifact-exported")
    with refused("gate-closed") as errors:
        rotated.merge(number)
    assert "artifact: " in errors[0].message
    assert "signature: " in errors[0].message
    rotated.detected(rotated.force(rotated.head(number), pull=number, requester=HARNESS), "not in the trust root")
