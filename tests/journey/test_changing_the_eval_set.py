"""A scenario or rubric changes: what it costs to ask again, and what the change does to who was promoted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "substrates"))
from stub_server import Seen, StubServer, chat, refusal
from tiny import commit_to_root
from worlds import COMMAND

SET = "evals/adtech/rtb-root-cause"
SCENARIO = f"{SET}/scenarios/auction-timeout/timeout-core-01.yaml"
RUBRIC = f"{SET}/rubrics/root-cause.yaml"
CLUSTER = "clusters/rtb-pricing/cluster.yaml"
WORKFLOW = yaml.safe_load((Path(__file__).parents[2] / ".github/workflows/modelsmith-eval.yml").read_text())


def edit(world, path, old, new):
    text = (world.clone / path).read_text()
    assert old in text
    (world.clone / path).write_text(text.replace(old, new, 1))


def evaluate(world, *words, code=0):
    result = world.modelsmith("eval", "--cluster", "rtb-pricing", *words, "--json")
    assert result.code == code, result.out + result.err
    return result.json


def specialist_of(world):
    return world.state()["specialist"]


def forget(world):
    """Leave the clone nothing of what was ever answered in it."""
    for path in (world.private / "cache", world.private / "rtb-pricing" / "runs"):
        shutil.rmtree(path)
    for file in world.private.glob("ledger.db*"):
        file.unlink()


class TestEvalAgain:
    def test_an_unchanged_eval_loads_no_model_under_any_tag(self, deployed):
        first = evaluate(deployed, "--tag", "once")["run"]
        assert first["executed"] == 0, "iterate had asked the base model the same"
        edit(deployed, CLUSTER, "uri: file://", "uri: file:///not-here")
        again = evaluate(deployed, "--tag", "again")["run"]
        assert (again["executed"], again["completions"]) == (0, first["completions"])
        assert again["run_id"] == first["run_id"]

    def test_the_run_says_how_many_were_executed_and_why(self, deployed):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        output = deployed.modelsmith("eval", "--cluster", "rtb-pricing").out
        assert "executed" in output
        assert "1 of 16 (scenario-changed 1)" in output

    def test_a_damaged_cache_costs_time_and_changes_nothing(self, deployed):
        before = evaluate(deployed, "--tag", "before")["run"]
        (deployed.private / "cache" / "answers.db").write_bytes(b"\x00" * 100)
        for file in (deployed.private / "cache" / "sets").iterdir():
            file.write_bytes(file.read_bytes()[:-20])
        after = evaluate(deployed, "--tag", "after")["run"]
        assert (after["executed"], after["because"]) == (16, {"not-cached": 16})
        assert after["run_id"] == before["run_id"]

    def test_a_cluster_may_have_a_long_name(self, fresh):
        name = "root-causes-of-real-time-bidding-for-the-european-desk"
        fresh.must("mv", "clusters/rtb-pricing", f"clusters/{name}")
        edit(fresh, f"clusters/{name}/cluster.yaml", "cluster: rtb-pricing", f"cluster: {name}")
        for words in ((), ("--changed-since", "HEAD")):
            result = fresh.modelsmith("eval", "--cluster", name, *words, "--json")
            assert result.code == 0, result.out + result.err


class TestChangedSince:
    def test_nothing_scored_changed_nothing_is_asked(self, deployed):
        edit(deployed, SCENARIO, "operator_lens: ", "operator_lens: chief-")
        answer = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")
        assert answer["run"] is None
        assert answer["change"]["scenarios"][0]["fields"] == ["operator_lens"]
        assert answer["whole"]["verdict"] == "PASS"

    def test_only_what_changed_is_asked_and_the_whole_set_is_judged(self, deployed):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        name = specialist_of(deployed)
        answer = evaluate(deployed, "--model", name, "--changed-since", "HEAD")
        assert answer["run"]["only"] == ["timeout-core-01"]
        assert answer["run"]["because"] == {"scenario-changed": 1}
        evaluate(deployed, "--tag", "base-now")
        full = evaluate(deployed, "--model", name, "--against", "base-now", "--tag", "full")["run"]
        assert full["executed"] == 0
        assert answer["whole"] == full["headline"]

    def test_without_cache_or_ledger_evidence_on_main_stands_for_the_rest(self, deployed):
        """What CI has: a clone, and nothing that another one kept."""
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        forget(deployed)
        answer = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")
        assert answer["run"]["executed"] == 2, "one scenario in its own wording and one rephrased"
        assert answer["whole"]["verdict"] == "PASS"
        assert {section["section"]: section["score"]["n"] for section in answer["whole"]["sections"]} == dict.fromkeys(
            ("core", "robustness", "micro", "held_out"), 4
        )

    def test_what_changed_on_main_since_the_evidence_is_asked_too(self, deployed):
        """Main has moved on from the set that the specialist was accepted on, and CI has no cache."""
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        deployed.must("commit", "--quiet", "--all", "--message", "one")
        edit(deployed, SCENARIO.replace("-01", "-02"), "content: ", "content: So, ")
        forget(deployed)
        name = specialist_of(deployed)
        answer = evaluate(deployed, "--model", name, "--changed-since", "HEAD")
        assert [scenario["id"] for scenario in answer["change"]["scenarios"]] == ["timeout-core-02"]
        assert answer["run"]["only"] == ["timeout-core-01", "timeout-core-02"]
        assert "1 of 12 scenarios changed, and 1 more had no known verdict" in answer["sentence"]
        evaluate(deployed, "--tag", "base-now")
        full = evaluate(deployed, "--model", name, "--against", "base-now", "--tag", "full")["run"]
        assert answer["whole"] == full["headline"]

    def test_a_clone_that_lacks_the_evidence_s_set_gives_no_whole_verdict(self, deployed, monkeypatch):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        deployed.must("commit", "--quiet", "--all", "--message", "one")
        edit(deployed, SCENARIO.replace("-01", "-02"), "content: ", "content: So, ")
        forget(deployed)
        tree = deployed.must("rev-parse", f"HEAD~1:{SET}").strip()
        unpack(deployed.clone / ".git" / "objects", deployed.private)
        (deployed.clone / ".git" / "objects" / tree[:2] / tree[2:]).rename(deployed.private / "gone")
        answer = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")
        assert answer["run"]["only"] == ["timeout-core-02"]
        assert answer["whole"] is None

    def test_a_change_that_breaks_the_gate_ends_with_three(self, deployed):
        edit(deployed, f"{SET}/evalset.yaml", "min_scenarios: 1", "min_scenarios: 50")
        answer = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD", code=3)
        assert answer["whole"]["verdict"] == "INCONCLUSIVE"

    def test_new_weights_in_the_rubric_are_judged_without_a_model(self, deployed):
        edit(deployed, RUBRIC, "weight: ", "weight: 1")
        answer = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")
        assert (answer["run"], answer["whole"]["verdict"]) == (None, "PASS")
        assert answer["sentence"] == "0 of 12 scenarios changed, and every verdict is known"

    @pytest.mark.parametrize("remembered", [True, False], ids=["with-cache", "without"])
    def test_a_new_check_in_the_rubric_needs_the_answers(self, deployed, remembered):
        rubric = yaml.safe_load((deployed.clone / RUBRIC).read_text())
        rubric["points"][-1]["check"] = {"type": "regex", "pattern": "[a-z]"}
        (deployed.clone / RUBRIC).write_text(yaml.safe_dump(rubric, sort_keys=False))
        if not remembered:
            forget(deployed)
        name = specialist_of(deployed)
        answer = evaluate(deployed, "--model", name, "--changed-since", "HEAD")
        assert (answer["run"] is None) is remembered
        text = "rubric, judge, prompt or sampling changed, so all was asked"
        assert answer["sentence"] == ("0 of 12 scenarios changed, and every verdict is known" if remembered else text)
        evaluate(deployed, "--tag", "base-now")
        full = evaluate(deployed, "--model", name, "--against", "base-now", "--tag", "full")["run"]
        assert answer["whole"] == full["headline"]

    def test_an_edited_rubric_is_judged_against_the_incumbent_as_in_full(self, deployed):
        edit(deployed, RUBRIC, "weight: ", "weight: 1")
        name = specialist_of(deployed)
        answer = evaluate(deployed, "--model", name, "--changed-since", "HEAD")
        evaluate(deployed, "--tag", "base-now")
        full = evaluate(deployed, "--model", name, "--against", "base-now", "--tag", "full")["run"]
        assert "non-inferiority" in {check["name"] for check in answer["whole"]["checks"]}
        assert answer["whole"] == full["headline"]

    def test_the_same_files_seen_from_two_revisions_are_two_runs(self, deployed):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        deployed.must("commit", "--quiet", "--all", "--message", "one")
        edit(deployed, SCENARIO.replace("-01", "-02"), "content: ", "content: So, ")
        both = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD~1")
        assert both["run"]["only"] == ["timeout-core-01", "timeout-core-02"]
        first = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")
        assert first["run"]["only"] == ["timeout-core-02"]

    def test_a_held_out_set_that_is_not_asked_is_not_consulted(self, deployed):
        before = evaluate(deployed, "--tag", "before")["run"]["held_out_consulted"]
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        run = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")["run"]
        assert run["sections"] == ["core", "robustness"]
        assert run["held_out_consulted"] == before

    def test_in_a_revision_without_the_cluster_everything_is_new_and_asked(self, fresh):
        """What CI sees on the pull request that adds a cluster."""
        tree = fresh.must("hash-object", "-w", "-t", "tree", "/dev/null").strip()
        empty = fresh.must("commit-tree", tree, "-m", "before anything").strip()
        answer = evaluate(fresh, "--changed-since", empty)
        assert (answer["run"]["completions"], answer["whole"]["verdict"]) == (16, "PASS")
        assert "the eval set is new" in answer["sentence"]

    def test_a_set_under_another_name_is_compared_with_what_was_asked_before(self, deployed):
        deployed.must("mv", SET, "evals/adtech/causes")
        for path in (CLUSTER, "evals/adtech/causes/evalset.yaml"):
            edit(deployed, path, "rtb-root-cause", "causes")
        answer = evaluate(deployed, "--model", specialist_of(deployed), "--changed-since", "HEAD")
        assert (answer["run"], answer["whole"]["verdict"]) == (None, "PASS")

    def test_the_view_gives_one_verdict_that_of_the_whole_set(self, deployed):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        name = specialist_of(deployed)
        output = deployed.modelsmith("eval", "--cluster", "rtb-pricing", "--model", name, "--changed-since", "HEAD").out
        assert "INCONCLUSIVE" not in output
        assert re.findall(r"verdict +(\w+)", output) == ["PASS"]
        assert re.search(r"per decision +0\.0*[1-9]", output)

    @pytest.mark.parametrize("words", [("--quick",), ("--type", "core"), ("--against", "x")])
    def test_what_it_chooses_itself_cannot_be_given(self, deployed, words):
        result = deployed.modelsmith("eval", "--cluster", "rtb-pricing", "--changed-since", "HEAD", *words, "--json")
        assert (result.code, result.json["code"]) == (2, "usage")

    def test_an_unknown_revision_is_named(self, deployed):
        result = deployed.modelsmith("eval", "--cluster", "rtb-pricing", "--changed-since", "nowhere", "--json")
        assert (result.code, result.json["code"]) == (2, "bad-revision")


class TestWhatAChangeIsAboutInCI:
    """`eval-changes`: CI names a commit of main and nothing else."""

    def ask(self, world, *words, code=0):
        result = world.modelsmith("eval-changes", *words, "--json")
        assert result.code == code, result.out + result.err
        return result.json

    def workflow(self, world, folder):
        """What the workflow's own step ends with, run as a runner does after a push to main, and its page."""
        (step,) = (candidate for candidate in WORKFLOW["jobs"]["eval"]["steps"] if candidate.get("name") == "Eval")
        path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
        variables = {"SINCE": "HEAD^1", "COMMENT": "", "RUNNER_TEMP": str(folder), "PATH": path}
        process = subprocess.run(
            ["bash", "-e", "-c", step["run"]], cwd=world.clone, env=world.environment() | variables,
            capture_output=True, text=True,
        )  # fmt: skip
        return process.returncode, (folder / "eval.md").read_text()

    def test_who_serves_is_asked_what_changed_and_the_verdict_comes_first(self, deployed, tmp_path):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        deployed.must("commit", "--quiet", "--all", "--message", "Reword")
        forget(deployed)
        answer = self.ask(deployed, "--since", "HEAD^1", "--page", "eval.md")
        (evaluated,) = answer["evals"]
        assert (evaluated["model"], evaluated["executed"], evaluated["whole"]["verdict"]) == (
            specialist_of(deployed),
            2,
            "PASS",
        )
        assert [change["id"] for change in answer["changes"][0]["change"]["scenarios"]] == ["timeout-core-01"]
        page = (deployed.clone / "eval.md").read_text()
        assert page.index("| PASS |") < page.index("timeout-core-01")
        code, comment = self.workflow(deployed, tmp_path)
        assert (code, comment.splitlines()[:5]) == (0, page.splitlines()[:5])
        assert specialist_of(deployed) in page

    def test_a_change_that_breaks_the_gate_ends_with_3_and_no_weights_say_so(self, deployed, tmp_path):
        edit(deployed, f"{SET}/evalset.yaml", "thresholds:\n  composite: 0", "thresholds:\n  composite: 1")
        deployed.must("commit", "--quiet", "--all", "--message", "Ask for more")
        answer = self.ask(deployed, "--page", "eval.md", code=3)
        assert answer["evals"][0]["whole"]["verdict"] == "FAIL"
        page = (deployed.clone / "eval.md").read_text()
        assert "**FAIL**" in page
        code, comment = self.workflow(deployed, tmp_path)
        assert (code, comment.splitlines()[:5]) == (3, page.splitlines()[:5])
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        deployed.must("commit", "--quiet", "--all", "--message", "Reword")
        forget(deployed)
        (deployed.home / "store").rename(deployed.home / "elsewhere")
        lost = self.ask(deployed, "--page", "eval.md", code=2)["evals"][0]
        assert (lost["error"]["code"], lost["whole"]) == ("weights-missing", None)
        assert "**not known**" in (deployed.clone / "eval.md").read_text()

    def test_what_all_clusters_share_is_a_change_of_each(self, deployed):
        shared = deployed.clone / "clusters/defaults.yaml"
        shared.write_text(shared.read_text() + "# Reviewed.\n")
        deployed.must("commit", "--quiet", "--all", "--message", "Shared")
        assert [evaluated["cluster"] for evaluated in self.ask(deployed)["evals"]] == ["rtb-pricing"]
        (deployed.clone / CLUSTER).write_text("cluster: [\n")
        deployed.must("commit", "--quiet", "--all", "--message", "Broken")
        (evaluated,) = self.ask(deployed, code=2)["evals"]
        assert (evaluated["cluster"], evaluated["whole"]) == ("rtb-pricing", None)

    def test_a_change_of_anything_else_asks_nothing(self, deployed):
        (deployed.clone / "notes.md").write_text("x\n")
        deployed.must("add", "notes.md")
        deployed.must("commit", "--quiet", "--message", "Notes")
        assert self.ask(deployed, "--since", "HEAD^1")["evals"] == []

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("--page", "eval.txt"), "not-markdown"), (("--since", "nowhere"), "bad-revision"),
            (("--comment",), "no-event"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_done_is_named(self, deployed, words, code):
        assert self.ask(deployed, "--since", "HEAD", *words, code=2)["code"] == code


class TestDiffRubric:
    def diff(self, world, *words):
        result = world.modelsmith("diff-rubric", "rtb-pricing", *words, "--json")
        assert result.code == 0, result.out + result.err
        return result.json

    def test_nothing_changed(self, deployed):
        answer = self.diff(deployed)
        assert answer["change"] == {"points": [], "scenarios": [], "settings": [], "labels": [], "gate": []}
        (effect,) = answer["effects"]
        assert (effect["before"], effect["after"], effect["flips"]) == ("PASS", "PASS", [])

    def test_a_point_that_every_answer_meets_flips_verdicts_without_a_model(self, deployed):
        """The tiny model answers nothing right; a point that anything satisfies is seen to turn what it decides."""
        rubric = yaml.safe_load((deployed.clone / RUBRIC).read_text())
        for point in rubric["points"]:
            point["check"] = {"type": "regex", "pattern": "(?s).*"}
        (deployed.clone / RUBRIC).write_text(yaml.safe_dump(rubric, sort_keys=False))
        answer = self.diff(deployed)
        assert {point["point"] for point in answer["change"]["points"]} == {entry["id"] for entry in rubric["points"]}
        (effect,) = answer["effects"]
        assert effect["unknown"] == 0
        assert len(effect["flips"]) == 16
        assert {flip["direction"] for flip in effect["flips"]} == {"gained"}
        assert effect["composite"][1]["value"] == 1.0
        assert all(flip["gained"] == 16 and not flip["lost"] for flip in effect["point_flips"])
        assert "->" in deployed.modelsmith("diff-rubric", "rtb-pricing").out

    def test_a_threshold_out_of_reach_names_who_would_lose_its_gate(self, deployed):
        edit(deployed, f"{SET}/evalset.yaml", "held_out: 0.0", "held_out: 0.9")
        answer = self.diff(deployed)
        assert answer["change"]["settings"] == ["thresholds.held_out: 0.0 -> 0.9"]
        assert answer["lost_gates"] == [specialist_of(deployed)]
        assert "would no longer clear its gate" in answer["effects"][0]["sentence"]

    def test_an_edited_scenario_says_that_only_a_model_can_tell(self, deployed):
        edit(deployed, SCENARIO, "content: ", "content: Well, ")
        (effect,) = self.diff(deployed)["effects"]
        assert effect["after"] is None
        assert effect["unknown"] == 2, "one answer of the specialist and one of its incumbent"
        assert "--changed-since HEAD`" in effect["sentence"]

    def test_a_judge_behind_an_endpoint_is_not_asked_and_needs_no_key(self, deployed):
        rubric = yaml.safe_load((deployed.clone / RUBRIC).read_text())
        rubric["points"].append(
            {
                "id": "polite",
                "text": "The answer is polite.",
                "weight": 1,
                "check": {"type": "judge", "instruction": "x"},
            }
        )
        (deployed.clone / RUBRIC).write_text(yaml.safe_dump(rubric, sort_keys=False))
        evalset = yaml.safe_load((deployed.clone / SET / "evalset.yaml").read_text())
        endpoint = {"url": "http://127.0.0.1:9/v1", "model": "wise-1", "key_env": "NOBODY_SET_THIS"}
        evalset["judge"] = {"name": "wise", "endpoint": endpoint}
        (deployed.clone / SET / "evalset.yaml").write_text(yaml.safe_dump(evalset, sort_keys=False))
        (effect,) = self.diff(deployed)["effects"]
        assert (effect["after"], effect["unknown"]) == (None, 32)
        assert "cannot be told without a model" in effect["sentence"]

    def test_two_revisions_can_be_compared(self, deployed):
        edit(deployed, RUBRIC, "weight: ", "weight: 1")
        deployed.commit("change", {RUBRIC: (deployed.clone / RUBRIC).read_text()})
        answer = self.diff(deployed, "--since", "main", "--to", "change")
        assert answer["change"]["points"]

    @pytest.mark.parametrize("option", ["--since", "--to"])
    def test_an_empty_revision_is_a_mistake_in_the_pipeline(self, deployed, option):
        result = deployed.modelsmith("diff-rubric", "rtb-pricing", option, "", "--json")
        assert (result.code, result.json["code"]) == (2, "usage")


def unpack(objects, aside):
    """Give each object a file of its own."""
    for pack in (objects / "pack").glob("*.pack"):
        moved = pack.rename(aside / pack.name)
        pack.with_suffix(".idx").rename(moved.with_suffix(".idx"))
        with moved.open("rb") as content:
            subprocess.run(["git", "-C", objects.parent, "unpack-objects", "-q"], stdin=content, check=True)


def count_answers(world):
    """How many answers have been written down."""
    files = world.private.glob("rtb-pricing/runs/*/observations.jsonl")
    return sum(len(file.read_bytes().splitlines()) for file in files)


class TestABaseline:
    @pytest.fixture
    def stub(self):
        with StubServer() as server:
            yield server

    def configure(self, world, stub, **changes):
        cluster = yaml.safe_load((world.clone / CLUSTER).read_text())
        endpoint = {
            "url": stub.url,
            "model": "frontier-1",
            "prices": {"prompt_per_million": 1000.0, "completion_per_million": 2000.0},
        }
        cluster["baselines"] = [{"name": "frontier", "endpoint": endpoint | changes}]
        (world.clone / CLUSTER).write_text(yaml.safe_dump(cluster, sort_keys=False))

    def test_it_answers_the_same_set_and_costs_what_its_tokens_cost(self, fresh, stub):
        stub.script = lambda request: chat(answer_of(request))
        self.configure(fresh, stub)
        run = evaluate(fresh, "--model", "frontier")["run"]
        assert run["headline"]["composite"]["value"] > 0
        assert (run["engine"]["device"], run["engine"]["weights"]) == ("remote", "unknown")
        assert run["cost"]["cost_per_decision"] == pytest.approx((7 * 1000 + 3 * 2000) / 1_000_000)
        assert run["because"] == {"weights-unknown": 16}

    def test_its_address_stands_in_no_record(self, fresh, stub):
        self.configure(fresh, stub)
        evaluate(fresh, "--model", "frontier", code=0)
        files = [path for path in (fresh.private / "rtb-pricing").rglob("*") if path.is_file()]
        assert len(files) >= 3
        assert not any(stub.url.split("//")[1].split("/")[0].encode() in path.read_bytes() for path in files)

    def test_its_answers_are_kept_within_their_run_only(self, fresh, stub):
        self.configure(fresh, stub)
        evaluate(fresh, "--model", "frontier", "--tag", "one")
        assert evaluate(fresh, "--model", "frontier", "--tag", "one")["run"]["executed"] == 0
        assert evaluate(fresh, "--model", "frontier", "--tag", "two")["run"]["executed"] == 16

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "Ctrl-C"])
    def test_stopped_midway_it_goes_on_where_it_was(self, fresh, stub, how):
        stub.script = lambda request: replace(chat(answer_of(request)), after=600 if request.number >= 5 else 0)
        self.configure(fresh, stub, max_connections=2)
        words = ("eval", "--cluster", "rtb-pricing", "--model", "frontier", "--json")
        running = fresh.start(COMMAND, *words, preexec_fn=hears_ctrl_c)
        while (len(stub.seen), count_answers(fresh)) != (7, 5) and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(how)
        out, _ = running.communicate(timeout=60)
        assert running.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL), out
        stub.script = lambda request: chat(answer_of(request))
        run = evaluate(fresh, "--model", "frontier")["run"]
        assert (run["completions"], run["executed"]) == (16, 11)
        assert len(stub.seen) == 7 + 11, "only the two that were under way are asked again"

    def test_a_wrong_key_is_said_once_and_never_shown(self, fresh, stub, monkeypatch):
        stub.script = lambda _: refusal(401)
        self.configure(fresh, stub, key_env="FRONTIER_KEY")
        monkeypatch.setenv("FRONTIER_KEY", "very-secret-key")
        result = fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--model", "frontier", "--json")
        assert (result.code, result.json["code"], stub.seen) == (2, "endpoint-not-allowed", [])
        fresh.git_command("config", "--add", "modelsmith.endpoint", f"{stub.url} FRONTIER_KEY")
        result = fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--model", "frontier", "--json")
        assert (result.code, result.json["code"]) == (2, "endpoint-key")
        assert "very-secret-key" not in result.out + result.err
        for path in (fresh.private / "rtb-pricing").rglob("*"):
            assert not path.is_file() or b"very-secret-key" not in path.read_bytes()

    def test_an_endpoint_that_is_down_is_an_infrastructure_failure(self, fresh, stub):
        self.configure(fresh, stub, url="http://127.0.0.1:9/v1", max_attempts=1)
        result = fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--model", "frontier", "--json")
        assert (result.code, result.json["code"]) == (6, "endpoint-down")

    def test_it_stands_in_evidence_and_packet_beside_candidate_and_incumbent(self, fresh, stub):
        self.configure(fresh, stub)
        commit_to_root(fresh.clone, fresh.forge)
        result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
        assert result.code == 4, result.out + result.err
        output = fresh.modelsmith("pr", "show", "4").out
        assert "Baselines" in output
        assert "frontier" in output
        folder = next((fresh.clone / "promotions").glob("*/*/02-eval-accepted"), None)
        text = fresh.git_command("show", "origin/main:" + evidence_path(fresh)).out if folder is None else ""
        evidence = json.loads(text or (folder / "evidence.json").read_text())
        assert [(run["model"], run["engine"]["weights"]) for run in evidence["baselines"]] == [("frontier", "unknown")]


def hears_ctrl_c():
    """As under a terminal, though whoever started the tests in the background may have had it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def answer_of(request: Seen) -> str:
    """Always the same cause, in the form that the prompt asks for."""
    return json.dumps({"cause": "auction_timeout", "action": "raise_timeout"})


def evidence_path(world):
    listed = world.git_command("ls-tree", "-r", "--name-only", "origin/main").out.split()
    return next(path for path in listed if path.endswith("02-eval-accepted/evidence.json"))
