"""Texts compared before need not be compared again: whatever changed since, exactly the same is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from modelsmith.operations import validate
from modelsmith.operations.validate import ValidateRequest, ValidateResult
from modelsmith.repository import separation
from modelsmith.repository.bounded import Bounded
from modelsmith.repository.set_files import Apart, SetFiles
from modelsmith.repository.sets import read_set
from modelsmith.repository.workspace import Workspace

Edit = Callable[[str, str, str], None]
FOLDER = "evals/ads/diagnosis"
WORDS = [f"{first}{last}" for first in ("bar", "del", "fon", "gim", "lur") for last in ("ta", "no", "ke", "shi", "po")]
Texts = dict[str, list[str]]
"""By part and name of the scenario: its own wording, and a variant."""


def text(chance: random.Random) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(chance.choice((8, 12, 16))))


SCENARIO = """\
id: {id}
capability: floors
risk: low
operator_lens: trader
outcome_type: overpay
messages: [{{role: user, content: {own}}}]
reference: {{cause: floor}}
criteria: [{{point: cause, pass: Names the cause., fail: Names the symptom.}}]
variants: [{variant}]
"""


def read_files(files: dict[str, str], texts: Texts, apart: Apart | None = None) -> SetFiles:
    contents = {
        path: data.encode() for path, data in files.items() if path.startswith(FOLDER) and "/floors/" not in path
    }
    for place, (own, variant) in texts.items():
        yaml_text = SCENARIO.format(id=place.rpartition("/")[2], own=own, variant=variant)
        contents[f"{FOLDER}/{place.replace('/', '/floors/')}.yaml"] = yaml_text.encode()
    return read_set(FOLDER, contents, {}, None, apart)


def changed(texts: Texts, chance: random.Random) -> Texts:
    """Something that an author does: reword, add, remove, rename, or copy from the other part."""
    edited = {place: [*pair] for place, pair in texts.items()}
    place = chance.choice(sorted(edited))
    edit = chance.choice(("reword", "reword", "add", "remove", "rename", "swap", "copy"))
    if edit == "reword":
        edited[place][chance.randrange(2)] = text(chance)
    elif edit == "add":
        edited[f"{chance.choice(('scenarios', 'held_out', 'micro'))}/n{chance.randrange(10**6)}"] = [
            text(chance),
            text(chance),
        ]
    elif edit == "rename":
        edited[f"{place.partition('/')[0]}/r{chance.randrange(10**6)}"] = edited.pop(place)
    elif edit == "remove":
        del edited[place]
    elif edit == "swap":
        edited[place].reverse()
    else:
        edited[place][1] = edited[chance.choice(sorted(edited))][0]
    return edited


@pytest.mark.parametrize("seed", range(6))
def test_a_set_read_after_another_gives_what_it_gives_alone(
    written: dict[str, str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    texts = {
        f"{part}/s{number}": [text(chance), text(chance)]
        for part in ("scenarios", "held_out", "micro")
        for number in range(5)
    }
    apart_before, spared, refused = read_files(written, texts).apart, 0, 0
    for _ in range(40):
        texts = changed(texts, chance)
        by_memory = read_files(written, texts), read_files(written, texts)
        with monkeypatch.context() as patch:
            patch.setattr(separation, "_compared_before", Bounded(1))  # as in a process that has compared nothing yet
            alone, after = read_files(written, texts), read_files(written, texts, apart_before)
        for files in (after, *by_memory):
            assert (files.problems, files.nearest, files.apart) == (alone.problems, alone.nearest, alone.apart)
        spared += apart_before is not None and after.apart is not None
        refused += any("too near" in problem.message for problem in after.problems)
        if refused and chance.random() < 0.5:
            texts = {place: [text(chance), pair[1]] for place, pair in texts.items()}
        apart_before = after.apart or apart_before
    assert spared
    assert refused


def test_what_is_kept_lets_no_mistake_pass(repo: Path, change: Edit, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After each edit `validate` says what it says where nothing is kept."""
    home = tmp_path_factory.mktemp("home")

    def validated(home: Path) -> ValidateResult:
        return validate.run(Workspace(repo, home), ValidateRequest())

    change("clusters/pricing/cluster.yaml", "  seed: 3", "  seed: 3\n  rows: 2")
    assert validated(home).problems == ()
    own = "every refused answer was below the new minimum of the seller"
    for number, (path, old, new) in enumerate(
        (
            ("scenarios/floors/floor-1.yaml", "risk: low", "risk: high"),
            ("scenarios/floors/floor-1.yaml", "Forty-one in a hundred", "41 of a hundred"),
            ("held_out/floors/floor-held-1.yaml", "Most offers before noon fail", f"Again {own}. Offers fail"),
            ("scenarios/floors/floor-1.yaml", "risk: high", "risk: huge"),
            ("generators/floors.yaml", "wants more per thousand than we offer.", f"says: {own}."),
            ("generators/floors.yaml", f"says: {own}.", "asks for more."),
            ("held_out/floors/floor-held-1.yaml", f"Again {own}. Offers", "Offers"),
            ("scenarios/floors/floor-1.yaml", "risk: huge", "risk: low"),
        )
    ):
        change(f"{FOLDER}/{path}", old, new)
        after, alone = validated(home), validated(tmp_path_factory.mktemp(f"nothing-{number}"))
        assert after == alone, path
    assert after.valid
