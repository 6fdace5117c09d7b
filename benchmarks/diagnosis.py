"""Diagnosis of 10,000 failed scenarios, beside its peer: scikit-learn grouping the same prompts and answers bare.

Two rubrics. One declares JSON fields, so that wrong values are causes; the other is plain text, where only what cases
speak of tells failures apart, and topics are made. Each measurement is a process of its own, imports included, but not
the making of the invented observations. The peer is TF-IDF and k-means over the failed texts.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from common import RESULTS, ROOT, Spent, alternate, machine, ratio, save, summary, table

from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import Expected, RubricPoint, TextCheck
from modelsmith.schema.run import Observation, VerdictRow
from modelsmith.schema.scenario import Message

FAILURES: Final = 10_000
GOAL_SECONDS: Final = 5.0
DIGEST: Final = "sha256:" + "0" * 64


def invented(plain: bool) -> tuple[GovernedSet, list[Observation]]:
    """The kit's set with 10,000 core scenarios, all of which fail, or half of which do by what they speak of."""
    governed = load_eval_set(WorkTree(ROOT), "adtech/rtb-root-cause")
    chance = random.Random(17)
    words = ["".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(3000)]
    themes = [chance.sample(words, 40) for _ in range(8)]
    capabilities = sorted({scenario.capability for scenario in governed.core})
    if plain:
        check = TextCheck(type="text", match="contains", expected=Expected(reference="cause"))
        points = (RubricPoint(id="cause", text="Names the cause.", weight=1.0, check=check),)
        governed = replace(governed, rubric=governed.rubric.model_copy(update={"points": points}))
    scenarios, answers = [], []
    for number in range(2 * FAILURES if plain else FAILURES):
        theme = number % len(themes)
        text = " ".join(chance.choices(themes[theme], k=30) + chance.choices(words, k=10))
        source = governed.core[number % len(governed.core)]
        update = {"id": f"case-{number}", "capability": capabilities[number // 8 % len(capabilities)]}
        message = Message(role="user", content=text)
        scenarios.append(source.model_copy(update=update | {"messages": (message,), "variants": ()}))
        wrong = json.dumps({"cause": chance.choice(governed.core).reference["cause"], "action": "none"})
        fails = not plain or theme % 2 == 0
        answers.append(_observation(governed, scenarios[-1].id, f"I think it is {theme}." if plain else wrong, fails))
    return replace(governed, core=tuple(scenarios), micro=()), answers


def _observation(governed: GovernedSet, name: str, completion: str, fails: bool) -> Observation:
    points = {point.id: not fails or point.id == "answer-format" for point in governed.rubric.points}
    row = VerdictRow(
        section="core", scenario=DIGEST, id=name, capability="x", critical=False, wording=0, repeat=0, points=points
    )
    return Observation(
        row=row, section="core", id=name, wording=0, repeat=0, completion=completion, finish="stop", reasons={},
        prompt_tokens=1, completion_tokens=1, seconds=0.1,
    )  # fmt: skip


def ours(plain: bool) -> Iterator[str]:
    """Diagnose; the seconds that it took, imports of its libraries included."""
    governed, observations = invented(plain)
    begin, cpu = time.perf_counter(), time.process_time()
    from modelsmith.diagnosis.failures import failure_clusters

    clusters = failure_clusters(governed, observations)
    spent = f"{time.perf_counter() - begin} {time.process_time() - cpu}"
    yield f"{spent} {len(clusters)} {sum(cluster.failed_cases for cluster in clusters)}"


def bare() -> Iterator[str]:
    """The peer."""
    governed, observations = invented(plain=True)
    failed = {
        observation.id for observation in observations if observation.row and not all(observation.row.points.values())
    }
    texts = [scenario.user_texts()[0] for scenario in governed.core if scenario.id in failed]
    begin, cpu = time.perf_counter(), time.process_time()
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    KMeans(8, n_init=2, random_state=0).fit(TfidfVectorizer(min_df=2, max_features=5_000).fit_transform(texts))
    yield f"{time.perf_counter() - begin} {time.process_time() - cpu} 8 {len(texts)}"


SUBJECTS: Final = {"declared fields": lambda: ours(False), "plain text": lambda: ours(True), "bare scikit-learn": bare}


def main() -> None:
    """Measure each in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=SUBJECTS)
    arguments = parser.parse_args()
    if arguments.only:
        print(*SUBJECTS[arguments.only]())
        return
    facts = machine("scikit-learn", "pydantic")
    answers: dict[str, dict[str, int]] = {}

    def measure(name: str) -> Spent:
        process = subprocess.run([sys.executable, __file__, "--only", name], capture_output=True, text=True, check=True)
        seconds, cpu, clusters, failed = process.stdout.split()
        answers[name] = {"failed": int(failed), "clusters": int(clusters)}
        return Spent(float(seconds), float(cpu))

    runs = alternate({name: partial(measure, name) for name in SUBJECTS}, arguments.repeats)
    figures = {name: summary(each) for name, each in runs.items()}
    met = all(figures[name]["least"] <= GOAL_SECONDS for name in SUBJECTS if name != "bare scikit-learn")
    goal = {"least_seconds_at_most": GOAL_SECONDS, "met": met}
    save(RESULTS / "diagnosis.json", {"machine": facts, "seconds": figures, "found": answers, "goal": goal})
    rows = [
        (name, f["median"], f["least"], f["most"], f["median_cpu"], answers[name]["clusters"])
        for name, f in figures.items()
    ]
    print(table(("seconds for 10,000 failures", "median", "least", "most", "cpu", "clusters"), rows))
    print(
        f"\nratio to bare scikit-learn: {ratio(runs['plain text'], runs['bare scikit-learn'])['cpu']} of processor time"
    )


if __name__ == "__main__":
    main()
