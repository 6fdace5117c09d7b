"""Capture of 10,000 records of production: private data taken out, nearest scenarios found. Its peer only parses them.

The records are words of this repository's README in a random order, each with an e-mail address and a phone number. The
set is the kit's. Measured is everything up to the pending cases as JSONL in memory; proposing them is one git commit.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from common import RESULTS, ROOT, alternate, machine, ratio, save, summary, table, timed

from modelsmith.loop.staging import Refused, read_records, stage
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.private import Scrubber
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.governance import Private

RECORDS: Final = 10_000
GOAL_SECONDS: Final = 30.0


def write_records(path: Path) -> None:
    """Invented records."""
    chance = random.Random(3)
    words = [word for word in (ROOT / "README.md").read_text(encoding="utf-8").split() if word.isalpha()]
    with path.open("w", encoding="utf-8") as file:
        for number in range(RECORDS):
            text = " ".join(chance.choices(words, k=40))
            prompt = f"{text} write to user{number}@example.com or +44 20 7946 {number:04d}"
            record = {"prompt": prompt, "answer": " ".join(chance.choices(words, k=20)), "outcome": "wrong"}
            file.write(json.dumps(record) + "\n")


def ours(path: Path) -> None:
    """Stage them."""
    governed = load_eval_set(WorkTree(ROOT), "adtech/rtb-root-cause")
    records = read_records(path, lambda _: Refused("these records name no decision"))
    staged = stage(records, Scrubber(Private()), governed, ())
    data = b"".join(canonical_json(case) for case in staged.cases)
    if b"@" in data or staged.removed["phone"] != RECORDS:
        raise RuntimeError("private data was left in")


def parse(path: Path) -> None:
    """The peer."""
    for line in path.read_bytes().splitlines():
        json.loads(line)


def main() -> None:
    """Measure both in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    repeats = parser.parse_args().repeats
    facts = machine("google-re2", "rapidfuzz", "pydantic")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.jsonl")
        write_records(path)
        subjects = {
            "capture and stage": partial(timed, partial(ours, path)),
            "parse": partial(timed, partial(parse, path)),
        }
        runs = alternate(subjects, repeats)
    figures = {name: summary(each) for name, each in runs.items()}
    goal = {"least_seconds_at_most": GOAL_SECONDS, "met": figures["capture and stage"]["least"] <= GOAL_SECONDS}
    save(RESULTS / "capture.json", {"machine": facts, "records": RECORDS, "seconds": figures, "goal": goal})
    rows = [(name, f["median"], f["least"], f["most"], f["median_cpu"]) for name, f in figures.items()]
    print(table(("seconds for 10,000 records", "median", "least", "most", "cpu"), rows))
    print(f"\nratio to parsing: {ratio(runs['capture and stage'], runs['parse'])['cpu']} of processor time")


if __name__ == "__main__":
    main()
