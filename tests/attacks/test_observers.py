"""Attacks on second observers: whose word counts, about what, and what a disagreement does."""

from __future__ import annotations

import pytest
import yaml
from attacker import CLUSTER, HARNESS, PEOPLE_FILE, POLICY, refused

from modelsmith.evidence.bundle import Run
from modelsmith.evidence.second_look import TrainedAgain, second_look
from modelsmith.governance.observed import observed_path
from modelsmith.governance.states import record_folder
from modelsmith.loop.promotions import promote_next
from modelsmith.operations import pr_show
from modelsmith.promotion.observers import all_backing, next_number, predicate_of
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.observed import OBSERVATION_FILE, OBSERVATION_SIGNATURE, OBSERVATION_TYPE, SecondLook
from modelsmith.schema.run import RunResult
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.keys import create_signing_key

OTHER = "sha256:" + "1" * 64
BFLOAT = {"dtype": "bfloat16"}


def listed(world, needed=1, observers=("ci", "lab"), retrained=0):
    """The owners list observers, each with a key of its own, and require some of them of a deployment."""
    document = yaml.safe_load(world.governed().tree.read(PEOPLE_FILE))
    files = {}
    for name in observers:
        path = world.folder / "observers" / f"{name}.pem"
        pem = create_signing_key(path)
        files[f".github/governance/trust/{name}.pem"] = pem
        document["harness"].append({"id": name, "trust": [f"{name}.pem"], "observer": True})
    files[PEOPLE_FILE] = yaml.safe_dump(document, sort_keys=False).encode()
    policy = yaml.safe_load(world.governed().tree.read(POLICY))
    for transition in policy["transitions"]:
        if transition["event"] == "customer-deployed":
            transition |= {"observers": needed, "retrained": retrained}
    files[POLICY] = yaml.safe_dump(policy, sort_keys=False).encode()
    world.force_honestly(files, "petra")
    return world


def looked(world, observer="ci", *, turn=0, engine=None, number=None, again=None, again_turn=0):
    """What an observer saw: the evidence's own verdicts, with the first ``turn`` scenarios of the candidate turned.

    ``again`` is the artifact that it trained, whose verdicts turn on ``again_turn`` scenarios.
    """
    evidence = world.stated_evidence()
    history = world.governed().histories.find(evidence.specialist)
    accepted = next(record for record in history.records if record.event == "eval-accepted")
    digest = sha256(world.governed().tree.read(f"{record_folder(accepted)}/evidence.json"))
    facts = evidence.engine.model_copy(update=engine or {})

    def run(stated, rows, weights=None):
        result = RunResult.model_construct(
            run_id=sha256(f"{observer} {stated.model} {weights} {turn}".encode()), weights=weights or stated.weights,
            base=stated.base, engine=facts, judge=None, question=evidence.question,
        )  # fmt: skip
        return Run(result, rows)

    def turned(count):
        names = list(dict.fromkeys((row.section, row.id) for row in evidence.candidate.rows))[:count]
        wrong = {"points": dict.fromkeys(evidence.candidate.rows[0].points, False)}
        return tuple(
            row.model_copy(update=wrong) if (row.section, row.id) in names else row for row in evidence.candidate.rows
        )

    number = number or next_number(world.governed(), history, observer)
    mine, theirs = run(evidence.candidate, turned(turn)), run(evidence.incumbent, evidence.incumbent.rows)
    retrained = None
    if again is not None:
        own = None if again == history.artifact else run(evidence.candidate, turned(again_turn), again)
        retrained = TrainedAgain(evidence.training.rows_digest, again, own)
    return second_look(observer, number, evidence, digest, mine, theirs, retrained)


def sealed(world, look, key=None, predicate=None):
    """Files of an observation, sealed by a key that lies at the observer's, or another one."""
    folder = observed_path(look.cluster, look.specialist, look.observer, look.number)
    data = canonical_json(look)
    stated = statement(OBSERVATION_FILE, data, OBSERVATION_TYPE, predicate_of(look) if predicate is None else predicate)
    signed = seal(stated, key or world.folder / "observers" / f"{look.observer}.pem")
    return {f"{folder}/{OBSERVATION_FILE}": data, f"{folder}/{OBSERVATION_SIGNATURE}": signed}


def handed_in(world, look, **how):
    """The observation on main, through gate and merge."""
    number = world.open(world.commit(sealed(world, look, **how)), HARNESS, branch=f"observe-{look.observer}")
    assert world.merge(number).status == "merged"
    return world


def stopped(world, files, saying):
    """Gate and `verify` refuse it alike."""
    head = world.commit(files)
    number = world.open(head, HARNESS, branch=f"bad-{head[:8]}")
    with refused("gate-closed"):
        world.merge(number)
    assert saying in world.refusals(number), world.refusals(number)
    main = world.main()
    world.detected(world.force(head, pull=number), saying)
    world.rewrite_on_disk("refs/heads/main", main)


def deployment(world):
    """Refusals of the deployment as it would be proposed now, with Maya's approval."""
    number = world.promote("customer-deployed")
    world.approve(number, "maya")
    return number, world.refusals(number)


@pytest.fixture
def exported(waiting):
    """Exported; two observers are listed, and the policy requires one for a deployment."""
    return listed(waiting)


def test_an_honest_observer_opens_the_gate_and_verifies(exported):
    """The control: without it the deployment is refused, with it everything merges, and a plain clone verifies."""
    _, words = deployment(exported)
    assert "0 of 1 required observers agree" in words
    handed_in(exported, looked(exported))
    number, words = deployment(exported)
    assert words == ""
    view = pr_show.run(exported.workspace, pr_show.PrShowRequest(number=number))
    assert "ci agrees on the same engine" in view.proposal.packet.text
    assert view.proposal.packet.rendering
    assert [observation.observer for observation in view.pull.observations] == ["ci"]
    assert exported.merge(number).status == "merged"
    result = exported.holds()
    assert [observation.agrees for observation in result.observations[exported.draft().specialist]] == [True]


def test_invented_verdicts_are_named_by_scenario_and_close_the_gate(exported):
    """Whoever evaluates invents verdicts; an observer repeats the eval, and says on which scenarios it differs."""
    look = looked(exported, turn=3)
    handed_in(exported, look)
    number, words = deployment(exported)
    turned = exported.gate(number).decision
    assert not turned.open
    first = exported.stated_evidence().candidate.rows[0].id
    assert f"{exported.draft().specialist} core {first} (lost)" in words
    view = pr_show.run(exported.workspace, pr_show.PrShowRequest(number=number))
    assert "DISAGREES" in view.proposal.packet.text
    assert len(view.pull.observations[0].turned) == 3
    main = exported.governed()
    history = main.histories.find(look.specialist)
    with refused("observers-disagree") as errors:
        promote_next(exported.harness(), exported.cluster(), history, main)
    assert len(errors[0].details["observations"][0]["turned"]) == 3
    exported.detected(exported.force(exported.head(number), pull=number), "disagrees")


def test_one_honest_observer_is_heard_beside_one_that_agrees(exported):
    """A second observer that agrees does not outvote the one that disagrees."""
    handed_in(exported, looked(exported, "ci"))
    handed_in(exported, looked(exported, "lab", turn=1))
    _, words = deployment(exported)
    assert "lab disagrees" in words


def test_whoever_made_the_evidence_is_no_second_observer(exported):
    """The harness signs an observation itself, in its own name or an observer's, with its own key."""
    key = exported.harness_keys / "harness.pem"
    own = looked(exported).model_copy(update={"observer": HARNESS})
    stopped(exported, sealed(exported, own, key=key), "lists no observer")
    stopped(exported, sealed(exported, looked(exported), key=key), "not in the trust root")


def test_an_observer_that_shares_the_harness_s_key_does_not_count(waiting):
    """Owners list the harness's own key file under an observer's name, too."""
    listed(waiting)
    document = yaml.safe_load(waiting.governed().tree.read(PEOPLE_FILE))
    next(harness_entry for harness_entry in document["harness"] if harness_entry["id"] == "ci")["trust"] = ["twin.pem"]
    pem = waiting.governed().tree.read(".github/governance/trust/harness.pem")
    files = {PEOPLE_FILE: yaml.safe_dump(document).encode(), ".github/governance/trust/twin.pem": pem}
    waiting.force_honestly(files, "petra")
    stopped(waiting, sealed(waiting, looked(waiting), key=waiting.harness_keys / "harness.pem"), "no second observer's")


def test_an_observer_s_key_signs_no_record(exported):
    """The observer's key prepares a promotion: it is trusted for observations and for nothing else."""
    number = exported.promote("customer-deployed")
    exported.approve(number, "maya")
    record = exported.next_files("customer-deployed")
    folder = next(iter(record)).rpartition("/")[0]
    data = record[f"{folder}/record.json"]
    kind = "https://modelsmith.dev/promotion-record/v1"
    forged = seal(statement("record.json", data, kind, {}), exported.folder / "observers" / "ci.pem")
    head = exported.commit(record | {f"{folder}/record.sigstore.json": forged})
    exported.closed_to_everybody(head, saying="signature: ", requester=HARNESS)


LIES = {
    "another artifact": ({"artifact": OTHER}, "another artifact"),
    "other evidence": ({"evidence": OTHER}, "other evidence"),
    "another question": ({"question": {"core": OTHER, "held_out": OTHER}}, "another question"),
    "weights that nobody pins": ({"engine": {"weights": "unknown"}}, "pinned weights"),
    "a better figure": ({"candidate": {"headline": {"composite": {"value": 0.5}}}}, "does not follow"),
    "verdicts left out": ({"candidate": {"rows": ()}}, "candidate.rows does not follow"),
    "other weights of the incumbent": ({"incumbent": {"weights": OTHER}}, "other weights"),
}


def changed(value, lie):
    """A JSON value with parts of it replaced."""
    if not isinstance(lie, dict) or not isinstance(value, dict):
        return list(lie) if isinstance(lie, tuple) else lie
    return value | {name: changed(value.get(name), part) for name, part in lie.items()}


@pytest.mark.parametrize("name", LIES)
def test_an_observation_of_something_else_is_refused(exported, name):
    """Signed by the observer's own key, but about another artifact, question, engine or with figures of its own."""
    lie, saying = LIES[name]
    document = changed(looked(exported).model_dump(mode="json"), lie)
    look = SecondLook.model_validate_json(canonical_json(document))
    number = exported.open(exported.commit(sealed(exported, look)), HARNESS, branch="lie")
    with refused("gate-closed"):
        exported.merge(number)
    assert saying in exported.refusals(number), exported.refusals(number)
    view = pr_show.run(exported.workspace, pr_show.PrShowRequest(number=number))
    assert view.pull.gate == "closed"


@pytest.mark.parametrize("model", ["candidate", "incumbent"])
@pytest.mark.parametrize("how", ["left out", "called otherwise"])
def test_an_observation_about_other_scenarios_is_refused_and_shown(exported, model, how):
    """One scenario's verdicts are left out, or stand under another id. Who shows the pull request meets them first."""
    document = looked(exported).model_dump(mode="json")
    rows = document[model]["rows"]
    last = rows[-1]["id"]
    document[model]["rows"] = [
        row if row["id"] != last else row | {"id": "elsewhere-1"}
        for row in rows
        if how == "called otherwise" or row["id"] != last
    ]
    look = SecondLook.model_validate_json(canonical_json(document))
    number = exported.open(exported.commit(sealed(exported, look)), HARNESS, branch="lie")
    assert f"{model}.rows does not follow" in exported.refusals(number), exported.refusals(number)
    view = pr_show.run(exported.workspace, pr_show.PrShowRequest(number=number))
    assert (view.pull.gate, view.pull.observations) == ("closed", ())


def test_an_observation_is_handed_in_once(exported):
    """The same signed observation again, under its own or the next number, or as somebody else's."""
    look = looked(exported)
    files = sealed(exported, look)
    handed_in(exported, look)
    with refused("gate-closed", "empty-change", "conflict"):
        exported.merge(exported.open(exported.commit(files), HARNESS, branch="again"))
    for other in ("ci-02", "lab-01"):
        moved = {path.replace("observed-ci-01", f"observed-{other}"): data for path, data in files.items()}
        stopped(exported, moved, "belongs elsewhere")


def test_two_observations_by_one_key_count_once(exported):
    """An observer looks twice, or lists its key under a second name, where two observers are required."""
    policy = yaml.safe_load(exported.governed().tree.read(POLICY))
    next(transition for transition in policy["transitions"] if transition["event"] == "customer-deployed")[
        "observers"
    ] = 2
    document = yaml.safe_load(exported.governed().tree.read(PEOPLE_FILE))
    next(harness_entry for harness_entry in document["harness"] if harness_entry["id"] == "lab")["trust"] = ["ci.pem"]
    edited = {POLICY: yaml.safe_dump(policy).encode(), PEOPLE_FILE: yaml.safe_dump(document).encode()}
    exported.force_honestly(edited, "petra")
    handed_in(exported, looked(exported))
    handed_in(exported, looked(exported))
    handed_in(exported, looked(exported, "lab"), key=exported.folder / "observers" / "ci.pem")
    _, words = deployment(exported)
    assert "1 of 2 required observers agree: ci" in words
    assert "it has the key of ci" in words


def test_an_observation_by_a_key_that_was_taken_away_counts_no_more(exported):
    """The observer's key is lost; its owners take it off the list, and what it signed opens no gate from then on."""
    handed_in(exported, looked(exported))
    document = yaml.safe_load(exported.governed().tree.read(PEOPLE_FILE))
    next(harness_entry for harness_entry in document["harness"] if harness_entry["id"] == "ci")["trust"] = []
    exported.force_honestly({PEOPLE_FILE: yaml.safe_dump(document).encode()}, "petra")
    _, words = deployment(exported)
    assert "0 of 1 required observers agree" in words
    assert "lists no observer ci with a key" in words
    assert exported.holds().observations == {exported.draft().specialist: ()}


def test_on_another_engine_only_the_registered_share_may_differ(exported):
    """An observer with another precision agrees within the policy's share, and not beyond it."""
    scenarios = len({(row.section, row.id) for row in exported.stated_evidence().candidate.rows})
    listed_share = 1.5 / scenarios
    policy = yaml.safe_load(exported.governed().tree.read(POLICY)) | {"observer_flips": listed_share}
    exported.force_honestly({POLICY: yaml.safe_dump(policy).encode()}, "petra")
    handed_in(exported, looked(exported, "ci", turn=1, engine=BFLOAT))
    handed_in(exported, looked(exported, "lab", turn=2, engine=BFLOAT))
    support = all_backing(exported.governed())[exported.draft().specialist]
    assert [agreement.observer for agreement in support.agreeing] == ["ci"]
    assert [(agreement.observer, len(agreement.turned)) for agreement in support.disagreeing] == [("lab", 2)]


def test_a_disagreement_cannot_be_kept_off_main_by_the_checks(exported):
    """The gate of an observation asks whether it is genuine, never whether it agrees; a later look replaces it."""
    handed_in(exported, looked(exported, turn=2))
    handed_in(exported, looked(exported))
    number, words = deployment(exported)
    assert words == ""
    assert exported.merge(number).status == "merged"
    assert exported.holds().promotions >= 4


def test_something_rides_along_with_an_observation(exported):
    """A third file, a change of routing or a second observation in the same pull request."""
    files = sealed(exported, looked(exported))
    folder = next(iter(files)).rpartition("/")[0]
    for more in (f"{folder}/notes.md", f"clusters/{CLUSTER}/routing.yaml", "notes.md"):
        head = exported.commit(files | {more: b"more\n"})
        exported.closed_to_everybody(head, requester=HARNESS)


@pytest.fixture
def retrained(waiting):
    """Exported; the policy requires an observer that has repeated the training."""
    return listed(waiting, retrained=1)


def test_where_training_must_be_repeated_an_eval_alone_opens_no_gate(retrained):
    """The control beside it: who only asked the model is not counted, who trained it again is."""
    handed_in(retrained, looked(retrained, "lab"))
    number, words = deployment(retrained)
    assert "0 of 1 who must repeat the training did" in words
    retrained.detected(retrained.force(retrained.head(number), pull=number), "must repeat the training")


def test_an_observer_that_trained_the_very_same_opens_the_gate(retrained):
    """Whoever trains from the named rows and gets the same artifact is counted, and a plain clone verifies."""
    handed_in(retrained, looked(retrained, again=retrained.artifact()))
    number, words = deployment(retrained)
    assert words == ""
    assert retrained.merge(number).status == "merged"
    agreements = retrained.holds().observations[retrained.draft().specialist]
    assert [agreement.retrained.identical for agreement in agreements] == [True]


def test_an_adapter_trained_on_other_rows_is_found_out(retrained):
    """The harness names rows and trains on others: what comes of the named ones answers otherwise."""
    handed_in(retrained, looked(retrained, again=OTHER, again_turn=4))
    number, words = deployment(retrained)
    first = retrained.stated_evidence().candidate.rows[0].id
    assert f"it is another artifact, which disagrees: 4 verdicts differ: {retrained.draft().specialist} core" in words
    assert f"core {first} (lost)" in words
    retrained.detected(retrained.force(retrained.head(number), pull=number), "which disagrees")


RETRAININGS = {
    "from other rows": ({"rows": OTHER}, "trained on other rows"),
    "the same artifact, with verdicts": ({"artifact": "the artifact"}, "exactly where that is another artifact"),
    "another artifact, without verdicts": ({"run": None}, "exactly where that is another artifact"),
    "verdicts of something else": ({"run": {"weights": "sha256:" + "3" * 64}}, "not of what it trained"),
    "a better figure": ({"run": {"headline": {"composite": {"value": 0.5}}}}, "does not follow"),
}


@pytest.mark.parametrize("name", RETRAININGS)
def test_a_repeated_training_says_what_it_trained_and_on_which_rows(retrained, name):
    """Signed by the observer's own key, but of other rows, or with verdicts of something else."""
    lie, saying = RETRAININGS[name]
    lie = {key: retrained.artifact() if value == "the artifact" else value for key, value in lie.items()}
    document = changed(looked(retrained, again=OTHER).model_dump(mode="json"), {"retraining": lie})
    look = SecondLook.model_validate_json(canonical_json(document))
    number = retrained.open(retrained.commit(sealed(retrained, look)), HARNESS, branch="lie")
    with refused("gate-closed"):
        retrained.merge(number)
    assert saying in retrained.refusals(number), retrained.refusals(number)


@pytest.mark.xfail(strict=True, reason="a signature says who observed, not that they did")
def test_observers_that_agree_to_lie_are_believed(exported):
    """Everybody listed signs what the evidence says without having asked a model."""
    look = looked(exported)
    assert look.candidate.rows == exported.stated_evidence().candidate.rows
    handed_in(exported, look)
    _, words = deployment(exported)
    assert words != ""
