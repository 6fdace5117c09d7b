"""Rows that no generator wrote: only what passes, is nobody's exam, and says something new, at the balance chosen."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from diagnosis.talker import MODEL, Talker
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.firewall import HELD_OUT
from modelsmith.diagnosis.generate import generate_rows, plain
from modelsmith.diagnosis.sources import Offer, joined
from modelsmith.loop import answers, datasets
from modelsmith.loop.datasets import offer_of
from modelsmith.loop.preparing import prepare
from modelsmith.loop.recipe import Recipe
from modelsmith.loop.sources import WRITE
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.dataset import Columns, Dataset
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Datasets, OwnSamples, Sft, Sources, Teacher
from modelsmith.schema.training_row import Lineage, TrainingRow
from modelsmith.training.rows import read_rows

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 5, 1)
TIMEOUT = '{"cause": "timeout", "action": "cut_latency"}'
OWN_NOTE = "Our replies to the Zagreb marketplace land {} late because the feature store there stalls before we speak."


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clone, folder = tmp_path / "clone", tmp_path / "ours"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", clone], check=True)
    subprocess.run(["git", "-C", clone, "config", "modelsmith.datasets", folder], check=True)
    return Workspace(clone, tmp_path / "home")


@pytest.fixture
def folder(workspace: Workspace) -> Path:
    return workspace.root.parent / "ours"


def manifest(data: bytes, uri: str = "file:tickets.jsonl", **other: Any) -> Dataset:
    fields = {
        "id": "tickets", "uri": uri, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "format": "jsonl",
        "license": "LicenseRef-ours", "owner": "domain-lead", "columns": {"prompt": "note", "answer": "right"},
        "capability": "auction-timeout", "retain_until": date(2027, 1, 1),
    }  # fmt: skip
    return Dataset.model_validate(fields | other)


def lines(*records: Any) -> bytes:
    return b"".join(record if isinstance(record, bytes) else json.dumps(record).encode() + b"\n" for record in records)


def note(number: int) -> dict[str, str]:
    return {"note": OWN_NOTE.format(f"{number} ms"), "right": TIMEOUT}


def test_a_data_set_s_rows_carry_manifest_and_line_and_name_bad_lines(governed, workspace, folder):
    wrong = note(1) | {"right": '{"cause": "creative_size", "action": "cut_latency"}'}
    data = lines(note(1), b"{not json\n", {"note": "x"}, b"\n", note(2), {"note": "n", "right": "prose"}, b"[1]\n")
    (folder / "tickets.jsonl").write_bytes(data)
    dataset = manifest(data)
    offer = offer_of(workspace, governed, dataset, 9, 1, TODAY)
    assert [row.lineage.line for row in offer.rows] == [1, 5]
    assert {row.lineage.manifest for row in offer.rows} == {content_digest(dataset)}
    assert (offer.offered, offer.rejected) == (6, Counter({"unreadable": 4}))
    assert [re.match(r"tickets, line (\d)", note_text)[1] for note_text in offer.notes] == ["2", "3", "6", "7"]
    data = lines({**wrong, "fields": {"cause": "timeout", "action": "cut_latency"}})
    (folder / "tickets.jsonl").write_bytes(data)
    two = manifest(data, columns={"prompt": "note", "answer": "right", "reference": "fields"})
    assert offer_of(workspace, governed, two, 9, 1, TODAY).rejected == Counter({"fails-rubric": 1})


@pytest.mark.parametrize("slip", ["column", "format", "every line"])
def test_a_data_set_of_which_no_row_can_be_read_is_refused(governed, workspace, folder, slip):
    """A training without any row that the cluster file asks for would be another training."""
    (folder / "tickets.jsonl").write_bytes(data := lines(note(1), note(2)))
    parquet(folder / "t.parquet", pa.Table.from_pylist([note(1)]))
    data_by_slip = {
        "column": lambda: manifest(data, columns={"prompt": "nota", "answer": "right"}),
        "format": lambda: manifest((folder / "t.parquet").read_bytes(), "file:t.parquet"),
        "every line": lambda: manifest((folder / "tickets.jsonl").read_bytes()),
    }
    if slip == "every line":
        (folder / "tickets.jsonl").write_bytes(b"prose\n[1]\n")
    with pytest.raises(InvalidInput, match=r"none of its \d+ rows? is one \(.+, line 1: ") as refused:
        offer_of(workspace, governed, data_by_slip[slip](), 9, 1, TODAY)
    assert refused.value.code == "dataset-unreadable"
    (folder / "tickets.jsonl").write_bytes(b"")
    assert offer_of(workspace, governed, manifest(b""), 9, 1, TODAY).offered == 0


def test_no_odd_line_ends_a_training_or_takes_a_neighbour_with_it(governed, workspace, folder):
    longest = b'{"note": "' + b"x" * (datasets.LONGEST_LINE - 12) + b'"}\n'
    halves = lines(note(2) | {"note": "\ud83d cut"}, note(3) | {"right": '{"cause": "\ud83d"}'})
    odd = (longest, b"x" + longest, longest * 2, longest[:-1] * 3 + b"\n", halves)
    assert len(longest) == datasets.LONGEST_LINE + 1
    for odd_line in odd:
        data = lines(note(1), odd_line, note(9))
        (folder / "tickets.jsonl").write_bytes(data)
        offer = offer_of(workspace, governed, manifest(data), 9, 1, TODAY)
        assert [row.lineage.line for row in offer.rows] == [1, data.count(b"\n")]
        assert offer.rejected == Counter({"unreadable": data.count(b"\n") - 2})


def test_retention_that_is_over_reads_nothing_and_says_so(governed, workspace):
    offer = offer_of(workspace, governed, manifest(b"", retain_until=date(2026, 4, 30)), 9, 1, TODAY)
    assert (offer.rows, offer.rejected) == ([], Counter({"retention-over": 1}))
    assert "2026-04-30" in offer.notes[0]


def test_a_large_data_set_is_sampled_evenly_and_the_same_each_time(governed, workspace, folder):
    data = lines(*map(note, range(400)))
    (folder / "tickets.jsonl").write_bytes(data)
    drawn = [offer_of(workspace, governed, manifest(data), 40, 5, TODAY) for _ in range(2)]
    assert drawn[0].rows == drawn[1].rows
    assert 120 < sum(row.lineage.line for row in drawn[0].rows) / 40 < 280, "not only its beginning or end"
    assert drawn[0].rejected == Counter({"no-room": 360})


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("file:///etc/passwd", "dataset-not-allowed"),
        ("file:link.jsonl", "dataset-not-allowed"),
        ("file:absent.jsonl", "dataset-missing"),
        ("file:other.jsonl", "dataset-changed"),
        ("file:folder", "dataset-not-allowed"),
    ],
)
def test_a_manifest_reads_no_file_that_this_machine_did_not_offer(governed, workspace, folder, uri, code):
    secret = folder.parent / "secret"
    secret.write_bytes(lines(note(1)))
    (folder / "link.jsonl").symlink_to(secret)
    (folder / "other.jsonl").write_text("PRIVATE KEY")
    (folder / "folder").mkdir()
    with pytest.raises(InvalidInput) as refused:
        offer_of(workspace, governed, manifest(secret.read_bytes(), uri), 9, 1, TODAY)
    assert refused.value.code == code
    assert "PRIVATE" not in str(refused.value.envelope())
    subprocess.run(["git", "-C", workspace.root, "config", "--unset", "modelsmith.datasets"], check=True)
    with pytest.raises(InvalidInput) as refused:
        offer_of(workspace, governed, manifest(b"", "file:other.jsonl"), 9, 1, TODAY)
    assert refused.value.code == "dataset-not-allowed"


@pytest.mark.parametrize(
    "uri", ["file:../x", "file:a/../x", "file:", "file://host/x", "https://h/x", "file:a\\b", "/x"]
)
def test_a_manifest_cannot_say_a_place_outside_of_a_folder(uri):
    with pytest.raises(ValueError, match="uri"):
        manifest(b"", uri)


def test_a_file_that_changes_while_it_is_read_gives_no_row(governed, workspace, folder, monkeypatch):
    data = lines(*map(note, range(3)))
    path = folder / "tickets.jsonl"
    path.write_bytes(data)
    real = datasets._copy

    def copy_then_change(dataset: Dataset, source: Path, copy: Any) -> None:
        real(dataset, source, copy)
        path.write_bytes(lines({"note": "planted", "right": TIMEOUT}))

    monkeypatch.setattr(datasets, "_copy", copy_then_change)
    rows = offer_of(workspace, governed, manifest(data), 9, 1, TODAY).rows
    assert len(rows) == 3
    assert "planted" not in str(rows)
    monkeypatch.undo()
    with pytest.raises(InvalidInput) as refused:
        offer_of(workspace, governed, manifest(data), 9, 1, TODAY)
    assert refused.value.code == "dataset-changed"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidInput):
        offer_of(workspace, governed, manifest(data), 9, 1, TODAY)


def parquet(path: Path, table: Any, **how: Any) -> Dataset:
    pq.write_table(table, path, **how)
    return manifest(path.read_bytes(), f"file:{path.name}", format="parquet")


def test_parquet_rows_are_the_same_rows_and_a_bomb_is_not_unpacked(governed, workspace, folder, monkeypatch):
    fields = {"cause": "timeout", "action": "cut_latency"}
    records = [record | {"fields": fields} for record in (*map(note, range(5)), {"note": None, "right": TIMEOUT})]
    dataset = parquet(folder / "t.parquet", pa.Table.from_pylist(records), row_group_size=2)
    dataset = dataset.model_copy(update={"columns": Columns(prompt="note", answer="right", reference="fields")})
    offer = offer_of(workspace, governed, dataset, 9, 1, TODAY)
    assert [row.lineage.line for row in offer.rows] == [1, 2, 3, 4, 5]
    assert offer.rejected == Counter({"unreadable": 1})
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["a" * 1_000_000]))
    alike = pa.table({"note": once, "right": [TIMEOUT] * 3000})
    dataset = parquet(folder / "many.parquet", alike, compression="zstd")
    assert (folder / "many.parquet").stat().st_size < 100_000
    with pytest.raises(InvalidInput, match="none of its 3000 rows is one"):
        offer_of(workspace, governed, dataset, 9, 1, TODAY)
    bomb = pa.table({"note": ["a" * 3_000_000], "right": [TIMEOUT]})
    dataset = parquet(folder / "bomb.parquet", bomb, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(datasets, "MOST_GROUP", 1 << 20)
    with pytest.raises(InvalidInput, match="unpacks to more than"):
        offer_of(workspace, governed, dataset, 9, 1, TODAY)
    (folder / "t.parquet").write_bytes(b"PAR1 and no more")
    dataset = manifest(b"PAR1 and no more", "file:t.parquet", format="parquet")
    with pytest.raises(InvalidInput) as refused:
        offer_of(workspace, governed, dataset, 9, 1, TODAY)
    assert refused.value.code == "dataset-unreadable"


@pytest.fixture
def recipe(governed, workspace) -> Recipe:
    return Recipe(workspace, load_cluster(WorkTree(ROOT), "rtb-pricing"), governed)


@pytest.fixture
def clusters(governed, observe):
    return failure_clusters(governed, observe(lambda *_: "no idea"))


def batch(recipe: Recipe, folder: Path, clusters: Any, sources: Sources) -> tuple[tuple[TrainingRow, ...], Any]:
    prepared = prepare(recipe, folder, Sft(rows=60, sources=sources), clusters, MODEL)
    rows = read_rows(folder / "rows.jsonl", TrainingRow)
    assert list(rows) == [plain(row) for row in prepared.rows]
    return rows, prepared


def capabilities(governed: Any, rows: Sequence[TrainingRow]) -> Counter[str]:
    capability_of = {generator.id: generator.capability for generator in governed.generators}
    return Counter(row.lineage.capability if row.lineage else capability_of[row.generator] for row in rows)


def test_the_model_s_own_passing_answers_are_taught_and_keep_the_balance(
    governed, recipe, clusters, tmp_path, monkeypatch
):
    right = {row.messages[-1].content: json.loads(row.answer) for row in generate_rows(governed, clusters, 60, 17)}
    talker = Talker(lambda _, text: json.dumps(dict(reversed(right[text].items()))))
    monkeypatch.setattr(answers, "open_substrate", lambda *_: talker)
    plain = prepare(recipe, tmp_path / "plain", Sft(rows=60), clusters, MODEL)
    own = Sources(own_samples=OwnSamples(share=0.5, samples=1))
    rows, prepared = batch(recipe, tmp_path / "own", clusters, own)
    (source,) = prepared.sources
    assert (source.source, source.kept) == ("own-sample", sum(row.lineage is not None for row in rows))
    assert 0.35 * len(rows) < source.kept <= 0.5 * len(rows)
    assert capabilities(governed, rows) == capabilities(governed, plain.rows)
    assert [row.messages for row in rows] == [row.messages for row in plain.rows], "the same prompts in the same order"
    row = next(row for row in rows if row.lineage)
    assert (row.lineage.writer, row.lineage.rubric) == (MODEL.weights, governed.rubric_digest)
    assert row.lineage.cluster in {cluster.id for cluster in clusters}
    scored = {text for scenario in (*governed.core, *governed.held_out) for text in scenario.user_texts()}
    assert not scored & set(talker.heard), "no scored text is ever asked"
    talker.say = lambda *_: '{"cause": "wrong"}'
    rows, prepared = batch(recipe, tmp_path / "fails", clusters, own)
    assert prepared.sources[0].kept == 0
    assert prepared.sources[0].rejected == {"fails-rubric": prepared.sources[0].offered}
    assert rows == tuple(read_rows(tmp_path / "plain" / "rows.jsonl", TrainingRow))


def test_a_teacher_that_fails_is_asked_again_and_its_failure_is_no_answer(recipe, clusters, tmp_path, monkeypatch):
    """A server that was down for a minute left an iteration without its rows, for good and without an error."""
    down = InfrastructureFailure("endpoint-error", "The endpoint failed by itself.", "Run it again later.")

    class Failing(Talker):
        def complete(self, prompts, system, sampling):
            for completion in super().complete(prompts, system, sampling):
                yield replace(completion, text="", finish="error", error=down)

    servers = [Failing(lambda *_: ""), Talker(lambda *_: "")]
    monkeypatch.setattr(answers, "open_substrate", lambda *_: servers.pop(0) if len(servers) > 1 else servers[0])
    teacher = Sources(teacher=Teacher.model_validate({"name": "mentor", "endpoint": ENDPOINT, "share": 0.5}))
    with pytest.raises(InfrastructureFailure) as failed:
        batch(recipe, tmp_path / "away", clusters, teacher)
    assert failed.value is down
    _, prepared = batch(recipe, tmp_path / "away", clusters, teacher)
    assert set(prepared.sources[0].rejected) == {"no-answer"}, "one that says nothing has answered"


def test_a_teacher_s_row_is_kept_only_if_it_passes_and_no_exam_comes_back(
    governed, recipe, clusters, tmp_path, monkeypatch
):
    texts = [text for scenario in governed.held_out for text in scenario.user_texts()]
    state = {"parrot": False, "number": 0}

    def say(system: str, text: str) -> str:
        if system != WRITE:
            return texts_by_prompt[text]
        state["number"] += 1
        right = re.search(r"^\{.*\}$", text, re.MULTILINE)[0]
        words = "".join(f"{chr(97 + state['number'] // 26 % 26)}{chr(97 + state['number'] % 26)}{w} " for w in TAIL)
        note = texts[state["number"] % len(texts)] if state["parrot"] else words
        texts_by_prompt[note.strip()] = right
        return note

    texts_by_prompt: dict[str, str] = {}
    monkeypatch.setattr(answers, "open_substrate", lambda *_: Talker(say))
    teacher = Sources(teacher=Teacher.model_validate({"name": "mentor", "endpoint": ENDPOINT, "share": 0.5}))
    rows, prepared = batch(recipe, tmp_path / "good", clusters, teacher)
    (source,) = prepared.sources
    assert source.kept == sum(row.lineage is not None for row in rows) > 10
    state["parrot"] = True
    rows, prepared = batch(recipe, tmp_path / "parrot", clusters, teacher)
    (source,) = prepared.sources
    assert (source.kept, source.rejected) == (0, {"near-scored": source.offered})
    assert not any(text in str(rows) for text in texts)
    state["parrot"] = False

    def telling(system: str, text: str) -> str:
        if system != WRITE:
            return json.dumps(dict(reversed(json.loads(re.search(r"\{.*\}", text)[0]).items())))
        return f"{say(system, text)}As we see, {re.search(r'^{.*}$', text, re.MULTILINE)[0].upper().lower()} holds."

    monkeypatch.setattr(answers, "open_substrate", lambda *_: Talker(telling))
    (source,) = batch(recipe, tmp_path / "tells", clusters, teacher)[1].sources
    assert (source.kept, source.rejected) == (0, {"tells-answer": source.offered})
    texts_by_prompt.update(dict.fromkeys(texts_by_prompt, "{}"))
    monkeypatch.setattr(answers, "open_substrate", lambda *_: Talker(lambda s, t: say(s, t) if s == WRITE else "{}"))
    assert batch(recipe, tmp_path / "wrong", clusters, teacher)[1].sources[0].kept == 0


TAIL = ("vorn", "quist", "drall", "pim", "sett", "grob", "welk", "huss", "lant", "mirv", "cobb", "zeld")
ENDPOINT = {"url": "http://127.0.0.1:1/v1", "model": "m"}


def test_rows_of_a_data_set_that_are_scored_texts_are_dropped_and_counted(
    governed, recipe, workspace, folder, clusters, tmp_path
):
    scenarios = [scenario for scenario in governed.held_out if scenario.capability == "auction-timeout"]
    planted = [{"note": scenario.user_texts()[0], "right": json.dumps(scenario.reference)} for scenario in scenarios]
    data = lines(*planted, note(1), note(2))
    (folder / "tickets.jsonl").write_bytes(data)
    recipe = Recipe(workspace, recipe.cluster, replace(governed, datasets=(manifest(data, retain_until=date.max),)))
    sources = Sources(datasets=Datasets(names=("tickets",), share=0.5))
    rows, prepared = batch(recipe, tmp_path / "s", clusters, sources)
    (source,) = prepared.sources
    assert source.rejected == {"near-scored": len(planted), "near-row": 1}, (
        "a second note with another number is no new one"
    )
    (row,) = [row for row in rows if row.lineage]
    assert (row.generator, row.lineage.line) == ("tickets", len(planted) + 1)
    absent = Sources(datasets=Datasets(names=("absent",)))
    with pytest.raises(InvalidInput) as refused:
        prepare(recipe, tmp_path / "t", Sft(rows=60, sources=absent), clusters, MODEL)
    assert refused.value.code == "unknown-dataset"
    assert HELD_OUT not in str(rows)


def row_for(number: int, capability: str, source: str | None) -> TrainingRow:
    lineage = source and Lineage(
        source="dataset", capability=capability, rubric=MODEL.weights, manifest=MODEL.weights, line=number + 1
    )
    return TrainingRow(
        messages=(Message(role="user", content=f"{source} {number}"),), answer="a", generator=capability,
        template="t", points=("p",), lineage=lineage or None,
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.sampled_from("abc"), max_size=30),
    offered=st.lists(st.sampled_from("abcd"), max_size=30),
    share=st.floats(0.01, 0.9),
)
def test_joining_keeps_size_and_balance_and_counts_every_row(rows, offered, share):
    generated = [row_for(n, name, None) for n, name in enumerate(rows)]
    offer = Offer("dataset", "d", len(offered), [row_for(n, name, "d") for n, name in enumerate(offered)])
    batch = joined(generated, [offer], {"dataset": share}, {name: name for name in "abcd"})
    assert Counter(row.generator for row in batch) == Counter(rows)
    for name in "abc":
        assert sum(row.lineage is not None for row in batch if row.generator == name) <= share * rows.count(name)
    assert len(offer.rows) + offer.rejected["no-room"] == len(offered)
    assert sum(row.lineage is not None for row in batch) == len(offer.rows)
