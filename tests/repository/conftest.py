"""A small promotion repository that validates, to break in one place at a time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from modelsmith.repository.git import Ident

AUTHOR = Ident("Maya Tan", "maya@example.org", datetime(2026, 1, 31, 9, 0, tzinfo=timezone(timedelta(hours=5.5))))
"""Who commits."""

SCENARIO = """\
id: {id}
capability: {capability}
risk: low
operator_lens: trader
outcome_type: overpay
messages:
  - role: user
    content: {text}
reference:
  cause: {cause}
criteria:
  - point: cause
    pass: Names the cause.
    fail: Names the symptom.
variants:
  - {variant}
"""

FILES = {
    "evals/ads/diagnosis/evalset.yaml": """\
id: diagnosis
domain: ads
version: 1.0.0
owner: domain-lead
description: A tiny set.
rubric: rubrics/quality.yaml
prompt: {system: Answer with JSON.}
sampling: {max_new_tokens: 16}
composite: {core: 1, robustness: 1, micro: 0}
thresholds: {composite: 0.5, held_out: 0.5}
decision: {min_scenarios: 1}
""",
    "evals/ads/diagnosis/rubrics/quality.yaml": """\
id: quality
owner: domain-lead
description: What better means.
points:
  - id: cause
    text: The cause is right.
    weight: 1
    check:
      type: json_field
      path: cause
      expected: {reference: cause}
""",
    "evals/ads/diagnosis/scenarios/floors/floor-1.yaml": SCENARIO.format(
        id="floor-1", capability="floors", cause="floor",
        text="Publishers in Spain raised their minimum price and 41 percent of our answers came back as too cheap.",
        variant="Forty-one in a hundred answers are refused as too cheap since Spanish sites ask for more.",
    ),
    "evals/ads/diagnosis/micro/floors/floor-micro-1.yaml": SCENARIO.format(
        id="floor-micro-1", capability="floors", cause="floor",
        text="Every refused answer was below the seller's new minimum.",
        variant="The seller's new minimum was above each refused answer.",
    ),
    "evals/ads/diagnosis/held_out/floors/floor-held-1.yaml": SCENARIO.format(
        id="floor-held-1", capability="floors", cause="floor",
        text="A television exchange now rejects most morning offers because its deal asks for twelve dollars.",
        variant="Most offers before noon fail at one television exchange, whose deal starts at twelve dollars.",
    ),
    "evals/ads/diagnosis/generators/floors.yaml": """\
id: floors
capability: floors
points: [cause]
description: Teaches floors.
reference: {cause: floor}
slots:
  seller: [Magnite, OpenX]
templates:
  - id: raised
    user: "{seller} wants more per thousand than we offer."
""",
    "clusters/defaults.yaml": "hosts: [local]\ntraining:\n  steps: 12\n  lora: {rank: 8}\n",
    "clusters/pricing/cluster.yaml": """\
cluster: pricing
domain: ads
owner: head
description: Prices.
base_model:
  name: tiny
  uri: file://model
  digest: sha256:0000000000000000000000000000000000000000000000000000000000000000
  license: Apache-2.0
eval_set: ads/diagnosis
gate: {composite: 0.5, held_out: 0.5}
training:
  seed: 3
  lora: {alpha: 64}
rollback: {metric: win_rate, max_drop: 0.1, window_minutes: 5, manual_hours: 1}
""",
    ".github/governance/policy.yaml": """\
repository: example-repository
transitions:
  - {event: candidate, from: [], to: candidate, gate: harness}
  - {event: customer-deployed, from: [candidate], to: customer-deployed, gate: head}
harness_paths: [/promotions/*/*/*-candidate/]
""",
    ".github/governance/people.yaml": """\
roles:
  domain-lead: Owns the meaning.
  head: Decides deployments.
people:
  - {id: maya, name: Maya, roles: [head], logins: {github: maya-t}}
""",
    ".github/CODEOWNERS": """\
* @head
/evals/ @domain-lead
/promotions/*/*/*-candidate/
/promotions/*/*/*-customer-deployed/ @head
""",
}  # fmt: skip

Put = Callable[[str, str | bytes | None], None]


@pytest.fixture(scope="session")
def written() -> dict[str, str]:
    """The files of the repository, in memory."""
    return FILES


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A work tree with every kind of file that people write, all of it valid; a git repository without a commit."""
    root = tmp_path / "repo"
    for path, text in FILES.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    return root


@pytest.fixture
def put(repo: Path) -> Put:
    """Write a file of the repository; None removes it."""

    def write(path: str, content: str | bytes | None) -> None:
        target = repo / path
        if content is None:
            target.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


@pytest.fixture
def change(repo: Path, put: Put) -> Callable[[str, str, str], None]:
    """Replace a piece of text that stands once in a file."""

    def edit(path: str, old: str, new: str) -> None:
        text = (repo / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, (path, old)
        put(path, text.replace(old, new))

    return edit
