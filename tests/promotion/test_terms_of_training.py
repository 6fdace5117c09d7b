"""An iteration that cannot end well is left behind: main has overtaken it, or has mended what stopped it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from worlds import CLUSTER

from modelsmith.loop.iterate import Loop
from modelsmith.loop.iteration import Fault
from modelsmith.loop.state import Pointer
from modelsmith.loop.terms import changed_terms
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import GateNotCleared, ModelsmithError

PATH = f"clusters/{CLUSTER}/cluster.yaml"
GENERATOR = "evals/adtech/rtb-root-cause/generators/auction-timeout.yaml"
SCENARIO = "evals/adtech/rtb-root-cause/scenarios/auction-timeout/timeout-core-01.yaml"
STOPPED = {"message": "It does not go on.", "mend": "Mend it."}


def edited(repository, change, path=PATH):
    document = yaml.safe_load(repository.main.tree.read(path))
    change(document)
    return repository.commit({path: yaml.safe_dump(document, sort_keys=False).encode()})


def longer(document):
    document.setdefault("training", {})["steps"] = 49


def slower(document):
    document.setdefault("training", {})["learning_rate"] = 1e-5


def by_another_method(document):
    document.setdefault("training", {})["method"] = "dpo"


def retold(document):
    document["description"] = "Other words."


def stricter(document):
    document["gate"] = {"composite": 0.99, "held_out": 0.99}


def shorter(document):
    document["variants"] = document["variants"][:1]


class Closed(list):
    """Pull requests of a forge, of which those that were closed are noted."""

    def __init__(self, *branches):
        self.open = [SimpleNamespace(number=n, branch=b, preparer="h") for n, b in enumerate(branches, 1)]

    def list(self, _status):
        return self.open

    def close(self, number, _reason):
        self.append(number)


def loop_of(repository, forge=None):
    harness = Harness.__new__(Harness)
    object.__setattr__(harness, "workspace", Workspace(repository.git.path, repository.people / "home"))
    object.__setattr__(harness, "forge", Closed() if forge is None else forge)
    object.__setattr__(harness, "actor", "h")
    return Loop(harness, CLUSTER, MainReader(harness))


def iteration_at(repository, phase, **more):
    candidate = {"specialist": "iter-001-aaaaaaaa", "artifact": "sha256:" + "0" * 64, "outcome": "PASS"}
    fields = {"cluster": CLUSTER, "number": 1, "commit": repository.tip, "reference": "base"}
    return Pointer(**{**fields, **candidate, "phase": phase, **more}).iteration()


@pytest.mark.parametrize(("change", "number"), [(longer, 2), (retold, 1)])
def test_a_training_by_other_terms_than_main_s_is_begun_again(repository, change, number):
    """Terms are the base model, the settings, the rubric and the generators; words are none."""
    now = edited(repository, change)
    assert loop_of(repository)._resume(iteration_at(repository, "seal"), now.main).number == number


MENDS = [
    ("eval", "prompt-too-long", 2, SCENARIO, shorter),
    ("eval", "endpoint-down", 6, PATH, retold),
    ("diagnose", "no-rows", 2, GENERATOR, retold),
    ("diagnose", "generator-answer", 2, GENERATOR, retold),
    ("train", "method-not-available", 2, PATH, by_another_method),
    ("train", "training-oom", 6, PATH, longer),
    ("train", "training-nan-loss", 2, PATH, slower),
    ("assess", "judge-unclear", 2, SCENARIO, shorter),
    ("promote", "gate-closed", 3, SCENARIO, shorter),
]


@pytest.mark.parametrize(("phase", "code", "exit_code", "path", "mend"), MENDS)
def test_after_a_phase_failed_the_mend_on_main_begins_a_new_iteration(repository, phase, code, exit_code, path, mend):
    stopped = iteration_at(repository, phase, error=Fault(code=code, exit=exit_code, **STOPPED))
    loop = loop_of(repository)
    assert loop._resume(stopped, repository.main) == stopped, "nothing was mended there: the same is tried again"
    again = loop._resume(stopped, edited(repository, mend, path).main)
    assert (again.number, again.phase, again.error) == (2, "eval", None)


def test_a_candidate_that_passed_is_not_given_up_for_an_absent_forge(repository):
    away = iteration_at(repository, "promote", error=Fault(code="unreachable", exit=6, **STOPPED))
    assert loop_of(repository)._resume(away, edited(repository, retold).main) == away


class Kept:
    """The state, in memory: the repository is other tests', too."""

    def __init__(self, iteration):
        self.last = iteration

    def get(self, _cluster):
        return self.last

    def put(self, iteration):
        self.last = iteration
        return iteration


def worked(repository, monkeypatch, phases):
    """What a call ends with, whose phases are these; each may change main, fail, and says which phase comes next."""
    mains, steps_left = [repository.main], list(phases)

    def do_phase(_context, iteration):
        change, error, phase = steps_left.pop(0)
        if change:
            mains.append(edited(repository, change).main)
        if error:
            raise error
        return iteration_at(repository, phase, number=iteration.number, commit=iteration.commit, outcome="FAIL")

    monkeypatch.setattr("modelsmith.loop.iterate.open_context", lambda *_: None)
    monkeypatch.setattr("modelsmith.loop.phases.do_phase", do_phase)
    monkeypatch.setattr(Loop, "_main", lambda _: mains[-1])
    monkeypatch.setattr(Loop, "stop", lambda _: None)
    monkeypatch.setattr(Workspace, "require_clean", lambda _: None)
    states = Kept(iteration_at(repository, "diagnose"))
    monkeypatch.setattr("modelsmith.loop.iterate.StateFile", lambda _: states)
    try:
        return loop_of(repository).run(1, restart=False), steps_left
    except ModelsmithError as error:
        return error, steps_left


REFUSED = GateNotCleared("gate-closed", "Trained by other settings than main's.", "Look.")


@pytest.mark.parametrize(
    "phases",
    [
        [(longer, None, "train")],
        [(None, None, "train"), (longer, None, "seal")],
        [(None, None, "train"), (None, None, "seal"), (longer, REFUSED, None)],
        [(None, None, "train"), (longer, REFUSED, None)],
    ],
)
def test_main_that_changes_the_recipe_meanwhile_does_not_end_the_call(repository, monkeypatch, phases):
    """An unattended night ended here, and its pull request waited to be closed; no number of passes is lost by it."""
    ended, steps_left = worked(repository, monkeypatch, [*phases, (None, None, "done")])
    assert (ended.number, ended.phase, ended.outcome, steps_left) == (2, "done", "FAIL", [])


def test_a_failure_under_an_unchanged_main_still_ends_the_call(repository, monkeypatch):
    ended, _ = worked(repository, monkeypatch, [(None, REFUSED, None), (None, None, "done")])
    assert ended is REFUSED
    again, _ = worked(repository, monkeypatch, [(longer, REFUSED, None), (None, REFUSED, None)])
    assert again is REFUSED, "also in the iteration that begins in its place"


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [(PATH, longer, "training"), (GENERATOR, retold, "generators"), (PATH, retold, ""), (SCENARIO, shorter, "")],
)
def test_what_of_its_terms_main_has_changed_is_named(repository, path, change, said):
    now = edited(repository, change, path).main.tree
    expected = f"main has changed {said} since it began" if said else ""
    assert changed_terms(repository.main.tree, now, CLUSTER) == expected


@pytest.mark.parametrize("phase", ["assess", "promote"])
@pytest.mark.parametrize(
    ("path", "change", "number"),
    [(SCENARIO, shorter, 2), (PATH, stricter, 2), (PATH, longer, 1), (GENERATOR, retold, 1)],
)
def test_a_candidate_whose_evidence_main_would_refuse_is_left_at_once(repository, phase, path, change, number):
    """Without a failed call before it: the gate would say that the eval answered an older question, for ever."""
    forge = Closed(f"promote/{CLUSTER}/iter-001-aaaaaaaa/02-eval-accepted")
    now = edited(repository, change, path)
    again = loop_of(repository, forge)._resume(iteration_at(repository, phase), now.main)
    assert (again.number, forge) == (number, [1] if number == 2 else [])


def test_what_already_serves_is_not_left_behind_and_nothing_is_closed(repository, monkeypatch):
    monkeypatch.setattr(Loop, "_routed", lambda *_: True)
    forge = Closed(f"promote/{CLUSTER}/iter-001-aaaaaaaa/05-production-validated")
    now = edited(repository, shorter, SCENARIO)
    serving = iteration_at(repository, "promote")
    assert (loop_of(repository, forge)._resume(serving, now.main), forge) == (serving, [])


def test_restart_leaves_the_iteration_behind_and_closes_what_it_had_open(repository):
    branches = ("iter-001-aaaaaaaa/02-eval-accepted", "iter-002-bbbbbbbb/04-customer-deployed")
    forge = Closed(*(f"promote/{CLUSTER}/{name}" for name in branches))
    abandoned = iteration_at(repository, "assess", lesson="the-failed-one")
    again = loop_of(repository, forge)._abandon(abandoned, repository.main)
    assert (again.number, again.phase, again.lesson) == (2, "eval", "the-failed-one")
    assert forge == [1], "the other iteration's stays"


@pytest.mark.parametrize("lesson", [None, "the-failed-one"])
def test_after_an_iteration_without_a_candidate_no_run_of_one_is_asked(repository, lesson):
    """Nothing was to be learnt, or trained: there is no candidate's run that the next one could diagnose."""
    bare = iteration_at(repository, "done", outcome="FAIL", specialist=None, artifact=None, lesson=lesson)
    again = loop_of(repository)._resume(bare, repository.main)
    assert (again.number, again.lesson) == (2, lesson)


def test_a_number_that_left_anything_here_is_not_used_again_without_state(repository):
    loop = loop_of(repository)
    runs = loop.harness.workspace.cluster_folder(CLUSTER) / "runs"
    for tag in (f"{CLUSTER}-iter-004-base", "2031-by-hand"):
        (runs / tag).mkdir(parents=True)
    assert loop._resume(None, repository.main).number == 5
    (runs / f"{CLUSTER}-iter-004-base").rmdir()
    assert loop._resume(None, repository.main).number == 1
