"""The cache of completions and verdicts: what is asked again, what is not, and why.

Run as a script, this file is one of two processes that share a cache: ``python THIS ITERATE TAG CACHE``.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from parrot import TOTAL, Parrot, governed, judged, scenario

from modelsmith.evaluation.cache import Cache, CompletionKeys, KeptCompletion
from modelsmith.evaluation.causes import prior_run
from modelsmith.evaluation.engine import Executed, run_eval, run_request
from modelsmith.evaluation.judges.port import JudgeQuestion, JudgeVerdict
from modelsmith.evaluation.judges.remembering import RememberingJudge
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import EngineFacts, Observation
from modelsmith.schema.scenario import Message
from modelsmith.substrates.port import Prompt

CLUSTER = "rtb-pricing"


class Bench:
    """Evals that share one cache, as those of one clone do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = Cache(folder / "cache")
        self.last: RunFolder | None = None
        self.executed = Executed(())

    def eval(
        self,
        tag: str,
        subject: GovernedSet,
        substrate: Parrot | None = None,
        *,
        weights: str = "weights",
        judge: Judge | None = None,
    ) -> tuple[Parrot, list[Observation]]:
        substrate = substrate or Parrot()
        request = run_request(
            subject,
            substrate.facts,
            cluster=CLUSTER,
            model="base",
            weights=digest(weights),
            sections=SECTIONS,
            quick=False,
        )
        last = self.last
        self.judge = RememberingJudge(judge, self.cache) if judge else None
        with RunFolder(self.folder, CLUSTER, tag).opened(request) as run:
            self.executed = run_eval(
                subject,
                substrate,
                run,
                judge=self.judge,
                cache=self.cache,
                last=lambda: prior_run(last.request(), last.observations()) if last else None,
            )
            self.last = RunFolder(self.folder, CLUSTER, tag)
            return substrate, list(run.observations(self.executed.keys))


class Judge:
    """Says yes to answers that name a cause; counts what it is asked."""

    lasting = True

    def __init__(self, identity: str = "judge", broken: bool = False, down: bool = False) -> None:
        self.identity = digest(identity)
        self.broken, self.down = broken, down
        self.asked: list[str] = []

    def decide(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeVerdict]:
        if self.down:
            raise InfrastructureFailure("endpoint-down", "It is down.", "Start it.")
        for question in reversed(questions):
            self.asked.append(question.key)
            error = InvalidInput("judge-unclear", "It mumbles.", "Another judge.") if self.broken else None
            yield JudgeVerdict(question.key, "cause" in question.completion, "says so", error)

    def close(self) -> None:
        pass


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def edited(subject: GovernedSet, number: int, **changes: object) -> GovernedSet:
    core = tuple(scenario(f"core-{n}", n, **(changes if n == number else {})) for n in range(len(subject.core)))
    return replace(subject, core=core)


class TestWhatIsAskedAgain:
    def test_nothing_changed_nothing_is_generated(self, bench):
        first = bench.eval("t1", governed())[1]
        parrot, second = bench.eval("t2", governed())
        assert parrot.asked == []
        assert bench.executed.because.total() == 0
        same = [observation.model_copy(update={"because": None}) for observation in first]
        assert second == same

    def test_one_scenario_edited_only_it_runs_and_the_run_says_why(self, bench):
        bench.eval("t1", governed())
        assert bench.executed.because == {"first-run": TOTAL}
        changed = edited(governed(), 4, messages=[{"role": "user", "content": "Other words"}])
        parrot, observations = bench.eval("t2", changed)
        assert sorted(parrot.asked) == ["core/core-4/0/0"]
        assert bench.executed.because == {"scenario-changed": 1}
        assert {observation.id for observation in observations if observation.because} == {"core-4"}

    def test_an_edit_that_changes_no_prompt_is_scored_again_and_not_asked(self, bench):
        bench.eval("t1", governed())
        parrot, observations = bench.eval("t2", edited(governed(), 4, reference={"cause": "another"}))
        assert parrot.asked == []
        assert not any(observation.row.points["cause"] for observation in observations if observation.id == "core-4")

    def test_a_new_scenario_a_new_variant_and_a_lost_entry_say_their_reason(self, bench):
        bench.eval("t1", governed())
        subject = governed()
        grown = replace(subject, core=(*subject.core, scenario("core-9", 9)))
        bench.eval("t2", grown)
        assert bench.executed.because == {"scenario-new": 3}
        bench.cache.path.unlink()
        bench.eval("t3", grown)
        assert bench.executed.because == {"not-cached": TOTAL + 3}

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda bench, subject: bench.eval("t2", subject, weights="others"), "weights-changed"),
            (lambda bench, subject: bench.eval("t2", subject, other_engine()), "engine-changed"),
            (lambda bench, subject: bench.eval("t2", prompted(subject)), "prompt-changed"),
        ],
    )
    def test_other_weights_engine_or_prompt_ask_everything(self, bench, change, reason):
        bench.eval("t1", governed())
        parrot, _ = change(bench, governed())
        assert len(parrot.asked) == TOTAL
        assert bench.executed.because == {reason: TOTAL}

    def test_more_repeats_ask_only_the_new_ones(self, bench):
        def repeated(times: int) -> GovernedSet:
            subject = governed()
            sampling = Sampling(max_new_tokens=16, temperature=0.7, repeats=times)
            return replace(subject, evalset=subject.evalset.model_copy(update={"sampling": sampling}))

        bench.eval("t1", repeated(2))
        parrot, observations = bench.eval("t2", repeated(3))
        assert len(parrot.asked) == TOTAL
        assert {key.rsplit("/")[-1] for key in parrot.asked} == {"2"}
        assert len(observations) == 3 * TOTAL

    def test_one_declarative_point_edited_only_the_point_is_scored_anew(self, bench):
        bench.eval("t1", governed())
        subject = governed()
        rubric = subject.rubric.model_copy(update={"points": subject.rubric.points[1:]})
        parrot, observations = bench.eval("t2", replace(subject, rubric=rubric))
        assert parrot.asked == []
        assert {tuple(observation.row.points) for observation in observations} == {("cause",)}

    def test_weights_that_nobody_can_pin_are_cached_within_their_run_only(self, bench):
        bench.eval("t1", governed(), other_engine(weights="unknown"))
        parrot, _ = bench.eval("t2", governed(), other_engine(weights="unknown"))
        assert len(parrot.asked) == TOTAL
        assert bench.executed.because == {"weights-unknown": TOTAL}
        assert bench.eval("t2", governed(), other_engine(weights="unknown"))[0].asked == []


def other_engine(**facts: str) -> Parrot:
    parrot = Parrot()
    parrot.facts = EngineFacts.model_validate(Parrot.facts.model_dump() | {"version": "2"} | facts)
    return parrot


def prompted(subject: GovernedSet) -> GovernedSet:
    prompt = subject.evalset.prompt.model_copy(update={"system": "Answer at length."})
    return replace(subject, evalset=subject.evalset.model_copy(update={"prompt": prompt}))


class TestJudgedPoints:
    def test_the_judge_is_asked_once_for_each_point_of_each_different_answer(self, bench):
        judge = Judge()
        observations = bench.eval("t1", judged(), judge=judge)[1]
        assert len(judge.asked) == TOTAL == bench.judge.asked
        assert all(
            observation.row.points["tone"] == ("cause" in observation.completion) for observation in observations
        )
        again = Judge()
        bench.eval("t2", judged(), judge=again)
        assert again.asked == []

    def test_an_edited_judged_point_is_judged_again_and_nothing_is_generated(self, bench):
        bench.eval("t1", judged(), judge=Judge())
        judge = Judge()
        parrot, _ = bench.eval("t2", judged(instruction="Is a cause named politely?"), judge=judge)
        assert parrot.asked == []
        assert len(judge.asked) == TOTAL

    def test_another_judge_judges_anew(self, bench):
        bench.eval("t1", judged(), judge=Judge())
        other = Judge("other judge")
        bench.eval("t2", judged(), judge=other)
        assert len(other.asked) == TOTAL

    def test_verdicts_of_a_judge_that_nobody_can_pin_are_not_kept(self, bench):
        judge = Judge()
        judge.lasting = False
        bench.eval("t1", judged(), judge=judge)
        bench.eval("t2", judged(), judge=judge)
        assert len(judge.asked) == 2 * TOTAL

    @pytest.mark.parametrize("facts", [{"weights": "pinned"}, {"weights": "unknown"}])
    def test_a_judge_that_fails_is_an_error_and_only_the_judge_is_asked_again(self, bench, facts):
        with pytest.raises(InvalidInput) as caught:
            bench.eval("t1", judged(), other_engine(**facts), judge=Judge(broken=True))
        assert (caught.value.code, caught.value.mend) == ("judge-unclear", "Another judge.")
        assert caught.value.details["failed"] == TOTAL
        stored = RunFolder(bench.folder, CLUSTER, "t1").observations()
        assert all(
            observation.row is None and observation.completion and observation.error["code"] == "judge-unclear"
            for observation in stored
        )
        parrot, observations = bench.eval("t1", judged(), other_engine(**facts), judge=Judge())
        assert parrot.asked == []
        assert all(observation.row for observation in observations)

    @pytest.mark.parametrize("facts", [{"weights": "pinned"}, {"weights": "unknown"}])
    def test_a_judge_that_is_down_loses_no_answer(self, bench, facts):
        with pytest.raises(InfrastructureFailure, match="down"):
            bench.eval("t1", judged(), other_engine(**facts), judge=Judge(down=True))
        first = RunFolder(bench.folder, CLUSTER, "t1").answered()
        assert len(first) > 0
        parrot, observations = bench.eval("t1", judged(), other_engine(**facts), judge=Judge())
        assert len(parrot.asked) == TOTAL - len(first)
        assert len(observations) == TOTAL

    def test_a_judged_rubric_without_a_judge_is_said_before_a_token_is_paid(self, bench):
        parrot = Parrot()
        with pytest.raises(InfrastructureFailure) as caught:
            bench.eval("t1", judged(), parrot)
        assert caught.value.code == "judge-unavailable"
        assert parrot.asked == []


class TestSpoiltEntries:
    @pytest.mark.parametrize(
        "spoil",
        [
            "UPDATE answers SET value = substr(value, 1, length(value) / 2)",
            "UPDATE answers SET seal = zeroblob(32)",
            "UPDATE answers SET value = (SELECT value FROM answers ORDER BY key DESC LIMIT 1)",
            "UPDATE answers SET value = '{}'",
            "UPDATE answers SET value = CAST(replace(CAST(value AS TEXT), 'cause', 'house') AS BLOB)",
        ],
        ids=["torn", "unsealed", "foreign", "empty", "edited"],
    )
    def test_a_spoilt_entry_is_not_there_and_is_replaced(self, bench, spoil):
        clean = bench.eval("t1", governed())[1]
        with sqlite3.connect(bench.cache.path) as database:
            rows = "SELECT key, value, seal FROM answers"
            whole = set(database.execute(rows))
            database.execute(spoil)
            spoilt = len(set(database.execute(rows)) - whole)
        assert spoilt >= TOTAL // 2
        parrot, observations = bench.eval("t2", governed())
        assert len(parrot.asked) == spoilt
        assert [observation.completion for observation in observations] == [other.completion for other in clean]
        assert bench.eval("t3", governed())[0].asked == []

    @pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"\x07" * 5000])
    def test_a_damaged_file_is_begun_anew(self, bench, content):
        bench.eval("t1", governed())
        for companion in bench.cache.path.parent.iterdir():
            companion.unlink()
        bench.cache.path.write_bytes(content)
        assert len(bench.eval("t2", governed())[0].asked) == TOTAL
        bench.eval("t3", governed(), weights="others")
        assert bench.eval("t4", governed(), weights="others")[0].asked == []

    def test_a_verdict_under_the_address_of_a_completion_is_not_taken_for_one(self, bench):
        keys = CompletionKeys(digest("w"), None, Parrot.facts, "system", Sampling(max_new_tokens=1))
        key = keys.key(Prompt("k", (Message(role="user", content="hello"),)), 0)
        bench.cache.keep({key: governed().rubric})
        assert bench.cache.find(KeptCompletion, {key}) == {}

    def test_a_cache_that_cannot_be_written_costs_nothing_but_the_cache(self, bench):
        (bench.folder / "cache").write_text("a file where the folder should be")
        assert len(bench.eval("t1", governed())[1]) == TOTAL

    def test_a_full_disk_under_the_cache_stops_no_run(self, bench):
        before_ = resource.getrlimit(resource.RLIMIT_FSIZE)
        bench.cache.keep({})
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before_[1]))
        try:
            assert len(bench.eval("t1", governed())[1]) == TOTAL
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before_)


def test_processes_share_a_cache_safely(tmp_path):
    command = [sys.executable, __file__, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([*command, f"w{n}"], stdout=subprocess.PIPE, env=environment, text=True) for n in range(4)
    ]
    documents = [json.loads(worker.communicate(timeout=300)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert len({tuple(document["completions"]) for document in documents}) == 1
    bench = Bench(tmp_path)
    assert bench.eval("last", governed())[0].asked == []


if __name__ == "__main__":
    folder, tag = sys.argv[1:]
    completions = Bench(Path(folder)).eval(tag, governed(), Parrot(delay=0.002))[1]
    print(json.dumps({"completions": [completion.completion for completion in completions]}))
