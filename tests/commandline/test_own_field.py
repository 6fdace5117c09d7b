"""A field of one's own, from an empty folder to a repository that validates, without a file copied from elsewhere."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from worlds import World, modelsmith, snapshot

from modelsmith.operations.new_scenarios import REQUIRED, _require_columns
from modelsmith.repository.drafts import json_instruction
from modelsmith.schema.errors import InvalidInput
from modelsmith.signing.keys import create_ssh_key

RIGHT = ("--answer", "urgency=red", "--answer", "route=ambulance")
CASE = (
    *RIGHT,
    "--pass",
    "Sees it.",
    "--fail",
    "A slot: he asked.",
    "--risk",
    "high",
    "--lens",
    "nurse",
    "--outcome",
    "delay",
)
NOTE = "Man of 61: crushing pain in the chest, ticket #4; he asks for a slot on Friday."
HELD = "Her jaw and left arm ache since lunch and she is short of breath."


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An empty repository for triage, and then the least set of files, each by `modelsmith new`."""
    folder = tmp_path_factory.mktemp("field")
    create_ssh_key(folder / "ada", "ada@example.org")
    roles = ("--role", "domain-lead=clinical-lead", "--role", "release-owner=medical-director")
    result = modelsmith(
        folder, "init", "clone", "--kit", "empty", "--domain", "triage", *roles,
        "--person", "clinical-lead=ada.pub", "--json",
    )  # fmt: skip
    assert result.code == 0, result.out
    world = World(folder)
    steps = [
        ("set", "notes", "--description", "How urgent, and where to.", "--field", "urgency=red|amber|green",
         "--field", "route=ambulance|clinic|home"),
        ("capability", "chest-pain", "--note", NOTE, "--held-out", HELD, *CASE),
        ("scenario", "chest-pain", "--note", "Stitch while turning, gone at once.", *CASE),
        ("generator", "chest-pain", *RIGHT, "--template", "{who}: pressure for {long}", "--slot", "who=A man|A woman",
         "--slot", "long=an hour|a day"),
        ("cluster", "triage", "--description", "Sorts notes.", "--metric", "missed_red"),
    ]  # fmt: skip
    for step in steps:
        step_result = world.modelsmith("new", *step, "--json")
        assert step_result.code == 0, step_result.out
        assert all((world.clone / path).is_file() for path in step_result.json["files"])
    rule = world.clone / "evals/triage/notes/evalset.yaml"
    rule.write_text(rule.read_text().replace("min_scenarios: 20", "min_scenarios: 1"))
    return world


def test_it_speaks_the_teams_words_and_is_named_after_the_field(field):
    governance = field.clone / ".github/governance"
    assert yaml.safe_load((governance / "policy.yaml").read_text())["repository"].startswith("triage-")
    everything = b"".join(data for data in snapshot(field.clone).values() if data)
    assert b"@clinical-lead" in everything
    assert b"gate: medical-director" in everything
    assert not any(word in everything for word in (b"head-of-trading", b"domain-lead", b"adtech", b"rtb"))


def test_what_new_writes_is_valid_and_is_a_kit_to_start_together_from(field, tmp_path):
    valid = field.modelsmith("validate", "--json")
    assert (valid.code, valid.json["problems"]) == (0, [])
    assert valid.json["kinds"] == {
        "cluster": 1, "cluster-defaults": 1, "codeowners": 1, "evalset": 1, "generator": 1, "people": 1, "policy": 1,
        "rubric": 1, "runbook": 6, "scenario": 3,
    }  # fmt: skip
    together = modelsmith(tmp_path, "init", "desk", "--kit", str(field.clone), "--json")
    assert together.code == 0, together.out
    assert (together.json["domain"], together.json["clusters"]) == ("triage", ["triage"])
    assert (together.json["people"], "clinical-lead" in together.json["unheld_roles"]) == ({}, True)
    scenario = yaml.safe_load(
        (tmp_path / "desk/evals/triage/notes/held_out/chest-pain/chest-pain-held-01.yaml").read_text()
    )
    assert scenario["messages"][0]["content"] == HELD


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "notes", "--description", "x", "--field", "a=b|c"), "exists", "notes/evalset.yaml"),
        (("set", "others", "--description", "x", "--field", "a=b|c", "--owner", "boss"), "unknown-role", "boss"),
        (("set", "Others", "--description", "x", "--field", "a=b|c"), "invalid-file", "id"),
        (("capability", "chest-pain", "--note", "a", "--held-out", "b", *CASE), "exists", "chest-pain"),
        (("scenario", "chest-pian", "--note", "a", *CASE), "unknown-capability", "chest-pian"),
        (("scenario", "chest-pain", "--note", "a", *CASE[2:]), "bad-answer", "urgency"),
        (("scenario", "chest-pain", "--note", "a", "--answer", "urgency=redd", *CASE[2:]), "bad-answer", "mean red?"),
        (("scenario", "chest-pain", "--note", f"{HELD}", *CASE), "invalid-file", "too near"),
        (("scenario", "chest-pain", "--id", "chest-pain-core-01", "--note", "a", *CASE), "exists", "core-01.yaml"),
        (("scenario", "chest-pain", "--note", "a", *RIGHT), "usage", "--pass, --fail, --risk, --lens, --outcome"),
        (("generator", "chest-pain", *RIGHT, "--template", "{who} waits"), "bad-slot", "{who}"),
        (("generator", "chest-pain", *RIGHT, "--template", "x", "--slot", "who=a|b"), "bad-slot", "place for who"),
        (("generator", "chest-pain", *RIGHT, "--template", "x", "--slot", "who=one"), "bad-slot", "who=one"),
        (("label", "chest-pain-core-01", "--answer", "x", "--verdict", "pass"), "no-labels", "evalset.yaml"),
        (("cluster", "triage", "--description", "x", "--metric", "y"), "exists", "cluster.yaml"),
        (("cluster", "../up", "--description", "x", "--metric", "y"), "outside-repository", "up"),
    ],
)  # fmt: skip
def test_new_writes_over_nothing_and_refuses_what_validate_would_refuse(field, words, code, said):
    before = snapshot(field.folder)
    result = field.modelsmith("new", *words, "--json")
    assert (result.code, result.json["code"]) == (2, code), result.out
    assert said in result.json["message"]
    assert result.json["mend"]
    assert snapshot(field.folder) == before


def test_an_answer_may_be_a_plain_word_in_any_language(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    where = ("--set", "triage/rufe")
    wohin = "--answer", "wohin=Notruf"
    steps = [
        ("set", "rufe", "--description", "Wer gerufen wird.", "--plain", "--field", "wohin=Notruf|Hausarzt|Apotheke"),
        ("capability", "herz", *where, *wohin, "--note", "Druck auf der Brust, seit heute früh.", "--held-out",
         "Der Arm schmerzt, und ihm ist übel.", *CASE[4:]),
        ("generator", "herz", *where, *wohin, "--template", "{wer} klagt über Enge im Brustkorb.", "--slot",
         "wer=Sie|Er|Opa"),
    ]  # fmt: skip
    for step in steps:
        result = world.modelsmith("new", *step, "--json")
        assert result.code == 0, result.out
    rule = world.clone / "evals/triage/rufe/evalset.yaml"
    assert "JSON" not in rule.read_text()
    rule.write_text(rule.read_text().replace("min_scenarios: 20", "min_scenarios: 1"))
    assert world.modelsmith("validate", "--json").json["problems"] == []
    both = world.modelsmith(
        "new", "set", "x", "--description", "x", "--plain", "--field", "a", "--field", "b", "--json"
    )
    assert (both.code, both.json["code"]) == (2, "bad-field")


def test_fields_of_an_answer_are_named_in_any_language(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    fields = ("--field", "Gewerk=Sanitär|Elektro", "--field", "Größe=klein|groß", "--field", "größe", "--field", "緊急")
    result = world.modelsmith("new", "set", "meldungen", "--description", "Wer kommt.", *fields, "--json")
    assert result.code == 0, result.out
    folder = world.clone / "evals/triage/meldungen"
    points = yaml.safe_load((folder / "rubrics/meldungen.yaml").read_text())["points"]
    assert [point["id"] for point in points] == ["answer-format", "gewerk", "grosse", "grosse-01", "field"]
    assert 'JSON {"Gewerk": ..., "Größe": ..., "größe": ..., "緊急": ...}' in " ".join(
        yaml.safe_load((folder / "evalset.yaml").read_text())["prompt"]["system"].split()
    )
    (tmp_path / "cases.csv").write_text(
        "capability,part,note,Gewerk,Größe,größe,緊急,pass,fail,risk,lens,outcome\n"
        "rohr,,Der Hahn tropft.,Sanitär,klein,1,x,Sieht den Hahn.,Eine Lampe.,low,mieter,schaden\n"
        "rohr,held-out,Im Keller steht alles unter Wasser.,Sanitär,groß,2,y,Sieht es.,Nichts.,low,mieter,schaden\n"
    )
    result = world.modelsmith("new", "scenarios", "--set", "triage/meldungen", str(tmp_path / "cases.csv"), "--json")
    assert result.code == 0, result.out
    rule = folder / "evalset.yaml"
    rule.write_text(rule.read_text().replace("min_scenarios: 20", "min_scenarios: 1"))
    assert world.modelsmith("validate", "--json").json["problems"] == []


def test_a_label_is_added_and_those_before_it_stay_as_they_were(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    folder = world.clone / "evals/triage/notes"
    with (folder / "rubrics/notes.yaml").open("a") as rubric:
        rubric.write("  - {id: polite, text: Polite., weight: 1, check: {type: judge, instruction: Is it polite?}}\n")
    with (folder / "evalset.yaml").open("a") as rule:
        rule.write(
            "judge:\n  name: j\n  labels: labels/judge.yaml\n  min_kappa: 0.6\n  max_new_tokens: 64\n"
            f"  base_model: {{name: j, uri: file:///j, digest: 'sha256:{'0' * 64}', license: MIT}}\n"
        )
    for number, (answer, verdict) in enumerate((("Go: now # please", "pass"), ("Go.", "fail")), start=1):
        result = world.modelsmith(
            "new", "label", "chest-pain-core-01", "--answer", answer, "--verdict", verdict, "--json"
        )
        assert result.code == 0, result.out
        to_do = [entry for entry in result.json["remaining"] if entry["field"] == "judge.min_kappa"]
        assert len(to_do) == 2 - number, "the first label alone is of one kind; it is written all the same"
        labels = yaml.safe_load((folder / "labels/judge.yaml").read_text())
        assert [label["answer"] for label in labels] == ["Go: now # please", "Go."][:number]
    twice = world.modelsmith("new", "label", "no-such", "--answer", "x", "--verdict", "pass", "--json")
    assert (twice.code, twice.json["code"]) == (2, "invalid-file")
    assert len(yaml.safe_load((folder / "labels/judge.yaml").read_text())) == 2


def test_on_a_terminal_it_asks_and_says_what_may_be_answered(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    note = "A graze on the knee, clean: it bled a little."
    typed = [note, "urgency=green", "route=home", "", "Sees that it is harmless.", "Red: it sounds bad.", "huge", "low",
             "nurse", "delay", "", ""]  # fmt: skip
    screen = on_a_terminal(world, ("new", "scenario", "chest-pain"), typed)
    assert "urgency=red|amber|green" in screen
    assert "low, medium, high" in screen
    scenario = yaml.safe_load(
        (world.clone / "evals/triage/notes/scenarios/chest-pain/chest-pain-core-03.yaml").read_text()
    )
    assert scenario["reference"] == {"urgency": "green", "route": "home"}
    assert (scenario["risk"], scenario["messages"][0]["content"]) == ("low", note)


def test_a_slip_on_a_terminal_costs_one_line_and_not_all_of_them(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    typed = [
        HELD.replace("ache", "a\u200bche"), "Cut finger, small.", "red", "urgency=gren", "urgency=green", "",
        "route=home", "", "Harmless.", "Red.", "low", "The nurse", "nurse", "lost time", "time", "Torn nail, dry.",
    ]  # fmt: skip
    screen = on_a_terminal(world, ("new", "capability", "cuts"), typed)
    for expected in ("U+200B", "expected FIELD=VALUE", "mean green?", "with route too", "has a space"):
        assert expected in " ".join(screen.split())
    scenario = yaml.safe_load((world.clone / "evals/triage/notes/held_out/cuts/cuts-held-01.yaml").read_text())
    assert (scenario["operator_lens"], scenario["outcome_type"]) == ("nurse", "time")
    typed = ["urgency=green", "route=home", "", "{who} has a cut {where}", "", "who=A man|A boy", "where", "",
             "where=at home|outside", ""]  # fmt: skip
    screen = on_a_terminal(world, ("new", "generator", "cuts"), typed)
    assert "{where}, which has no values yet" in " ".join(screen.split())


def test_a_name_that_cannot_be_is_refused_before_anything_is_asked(field):
    for words, expected in (
        (("capability", "cut finger"), "has a space"),
        (("capability", "chest-pain"), "already"),
        (("generator", "chest-pian"), "chest-pian"),
    ):
        assert expected in " ".join(on_a_terminal(field, ("new", *words), [], code=2).split())


def test_a_new_cluster_is_trained_as_the_starter_kit_is(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    for file in world.clone.glob("evals/triage/notes/generators/*"):
        file.unlink()
    result = world.modelsmith("new", "cluster", "night", "--description", "x", "--metric", "y", "--json")
    assert result.code == 0, result.out
    training = yaml.safe_load((world.clone / "clusters/night/cluster.yaml").read_text())["training"]
    starter = yaml.safe_load((Path(__file__).parents[2] / "clusters/rtb-pricing/cluster.yaml").read_text())["training"]
    assert training == starter


def test_a_new_cluster_asks_no_generator_for_more_rows_than_it_can_make(field, tmp_path):
    world = field.copied_to(tmp_path / "world")
    more = ("generator", "chest-pain", *RIGHT, "--template", "It hurts {long}", "--slot", "long=for a day|since noon")
    for step in (more, ("cluster", "night", "--description", "Sorts notes.", "--metric", "missed_red")):
        result = world.modelsmith("new", *step, "--json")
        assert result.code == 0, result.out
    assert [problem["file"] for problem in world.modelsmith("validate", "--json").json["problems"]] == [
        "evals/triage/notes/generators/chest-pain-01.yaml"
    ]
    (world.clone / "clusters/triage/cluster.yaml").unlink()
    assert world.modelsmith("agents-md", "--json").code == 0
    assert world.modelsmith("validate", "--json").code == 0


def on_a_terminal(world: World, words: tuple[str, ...], typed: list[str], code: int = 0) -> str:
    """What the command shows a person who types these lines."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "modelsmith", *words], cwd=world.clone, env=world.environment(),
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, "".join(f"{line}\n" for line in typed).encode())
    screen = b""
    try:
        while piece := os.read(ours, 4096):
            screen += piece
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert process.wait(30) == code, screen.decode()
    return screen.decode()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--kit", "empty"), "bad-domain"), (("--kit", "empty", "--domain", "Tri age"), "bad-domain"),
        (("--domain", "triage"), "bad-domain"), (("--kit", "."), "unknown-kit"), (("--kit", "broken"), "invalid-kit"),
        (("--kit", "linked"), "not-a-file"), (("--role", "boss=me"), "bad-role"),
        (("--role", "platform=domain-lead"), "bad-role"), (("--role", "platform=The boss"), "bad-role"),
        (("--person", "platform=putty.ppk"), "bad-person"),
    ],
)  # fmt: skip
def test_an_init_that_cannot_begin_says_why_and_leaves_nothing(tmp_path, words, code):
    (tmp_path / "broken/clusters/x").mkdir(parents=True)
    (tmp_path / "broken/clusters/x/cluster.yaml").write_text("cluster: y\n")
    (tmp_path / "broken/evals/ads").mkdir(parents=True)
    (tmp_path / "broken/evals/ads/README.md").write_text("Ads.\n")
    (tmp_path / "linked/evals/ads").mkdir(parents=True)
    (tmp_path / "linked/evals/ads/README.md").symlink_to("/etc/passwd")
    (tmp_path / "putty.ppk").write_text("PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nAAAA\n")
    before = snapshot(tmp_path)
    result = modelsmith(tmp_path, "init", "made", *words, "--json")
    assert (result.code, result.json["code"]) == (2, code), result.out
    assert result.json["mend"]
    assert snapshot(tmp_path) == before


def hears():
    """As under a terminal, though whoever started the tests in the background may have had it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_init_that_is_told_to_end_takes_its_private_keys_back(tmp_path, number):
    tools = tmp_path / "tools"
    tools.mkdir()
    slow = tools / "ssh-keygen"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    world = World(tmp_path)
    environment = world.environment() | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    before = snapshot(tmp_path)
    process = world.start(
        sys.executable, "-P", "-m", "modelsmith", "init", "made", cwd=tmp_path, env=environment, preexec_fn=hears
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("home/keys/*/harness.pem")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert snapshot(tmp_path) == before


COLUMNS = "capability;part;note;urgency;route;pass;fail;risk;lens;outcome;critical;variant 1"
LINES = (
    'chest-pain;;"Druck hinter dem Brustbein; er schwitzt.";red;ambulance;Sieht es.;Ein Termin.;high;nurse;delay;yes;'
    '"Es dr\u00fcckt in der Brust; er schwitzt stark."',
    "rash;held-out;Ein juckender Ausschlag am Arm seit gestern.;amber;clinic;Sieht es.;Notfall.;low;nurse;delay;;",
)


@pytest.fixture
def table(field, tmp_path):
    """Hands in a table; the files that it made are gone afterwards."""
    path = tmp_path / "cases.csv"
    written_files = []

    def hand_in(*lines, encoding="utf-8-sig"):
        path.write_bytes("\r\n".join(lines).encode(encoding))
        result = field.modelsmith("new", "scenarios", str(path), "--json")
        written_files.extend(result.json.get("files", ()))
        return result

    yield hand_in
    for file in written_files:
        (field.clone / file).unlink()


def test_a_long_table_says_how_far_it_is(field, table):
    """Lines are counted while it reads, and files while it writes."""
    words = ("Brustbein", "stark")
    lines = [
        LINES[0].replace(words[0], f"{words[0]}, Fall {n}").replace(words[1], f"{words[1]}, Fall {n}")
        for n in range(12)
    ]
    result = table(COLUMNS, *lines)
    assert result.code == 0, result.out
    assert [path.rpartition("-")[2] for path in result.json["files"]] == [f"{n:02d}.yaml" for n in range(3, 15)]
    documents = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    assert {document["phase"] for document in documents} == {"new"}
    reading = [
        (document["done"], document["total"]) for document in documents if document["message"] == "reads the table"
    ]
    writing = [
        (document["done"], document["total"]) for document in documents if document["message"].startswith("writes ")
    ]
    assert (reading[0], reading[-1], writing[-1]) == ((2, 13), (13, 13), (12, 12)), "in between, as often as is of use"


def test_a_spreadsheet_becomes_cases_each_under_its_next_free_number(field, table):
    result = table(COLUMNS, *LINES)
    assert result.code == 0, result.out
    core, held_out = result.json["files"]
    assert core.endswith("/scenarios/chest-pain/chest-pain-core-03.yaml")
    assert held_out.endswith("/held_out/rash/rash-held-01.yaml")
    case = yaml.safe_load((field.clone / core).read_text())
    assert case["reference"] == {"urgency": "red", "route": "ambulance"}
    assert case["messages"][0]["content"] == "Druck hinter dem Brustbein; er schwitzt."
    assert (case["critical"], case["variants"]) == (True, ["Es dr\u00fcckt in der Brust; er schwitzt stark."])
    assert not [problem for problem in result.json["remaining"] if not problem["file"].endswith("evalset.yaml")]


@pytest.mark.parametrize(
    ("lines", "where", "words"),
    [
        ((COLUMNS.replace("lens", "lense"), *LINES), "cases.csv:1", "no column 'lense'"),
        ((COLUMNS.replace(";route", ""), *LINES), "cases.csv:1", "the columns route are missing"),
        ((COLUMNS, LINES[0], LINES[1].replace("amber", "orange")), "cases.csv:3", "urgency is one of red, amber"),
        ((COLUMNS, LINES[1].replace(";low;", ";small;")), "cases.csv:2", "'small' cannot stand in the column 'risk'"),
        ((COLUMNS, LINES[1].replace("Notfall.", "")), "cases.csv:2", "the column 'fail' is empty"),
        ((COLUMNS, LINES[1] + ";more"), "cases.csv:2", "the line has 13 cells"),
        ((COLUMNS, LINES[1].replace("rash;", "../../rash;")), "cases.csv:2", "../../rash"),
        ((COLUMNS, LINES[0].replace('t."', 't.')), "cases.csv:2", "cannot be read"),
        ((COLUMNS,), "cases.csv", "no line below its columns"),
    ],
)  # fmt: skip
def test_a_line_that_is_wrong_is_named_and_none_is_written(field, table, lines, where, words):
    before = snapshot(field.clone)
    result = table(*lines)
    assert (result.code, result.json["code"]) == (2, "bad-table"), result.out
    assert where in result.json["message"]
    assert words in result.json["message"] + str(result.json["details"])
    assert snapshot(field.clone) == before


def test_lines_that_are_wrong_together_are_told_by_their_numbers(field, table):
    """No file that a mistake could lie in was written."""
    result = table(COLUMNS, LINES[1].replace("held-out", ""), LINES[1].replace("gestern", "heute"))
    assert (result.code, result.json["code"]) == (2, "invalid-file"), result.out
    (problem,) = result.json["details"]["problems"]
    assert (problem["file"], problem["line"]) == ("cases.csv", 3)
    assert "too near to cases.csv:2 (" in problem["message"]
    assert result.json["message"].startswith("cases.csv:3: ")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (("part", "part"), ("'part' is there twice", "answer.part")),
        (("part",), ("the columns answer.part are missing", "first line")),
    ],
)
def test_a_field_of_the_answer_may_be_called_like_a_column(columns, words):
    others = [column for column in REQUIRED if column not in columns]
    with pytest.raises(InvalidInput) as refused:
        _require_columns("cases.csv:1", [*others, *columns], ["part"])
    error = refused.value
    assert words[0] in error.message
    assert words[1] in error.mend
    _require_columns("cases.csv:1", [*others, "part", "answer.part"], ["part"])


def test_a_table_of_another_encoding_is_refused_with_what_to_choose(table):
    result = table(COLUMNS, *LINES, encoding="cp1252")
    assert (result.code, result.json["code"]) == (2, "bad-table")
    assert "CSV UTF-8" in result.json["mend"]


def test_a_case_whose_name_no_windows_clone_could_hold_is_not_written(field, table):
    result = table(f"id;{COLUMNS}", f"aux;{LINES[0]}")
    assert result.code == 2
    assert "Windows takes 'aux.yaml' for a device" in result.json["message"]
    assert not list((field.clone / "evals").rglob("aux.yaml"))


@pytest.mark.parametrize(
    "lines",
    [
        ("sep=;", COLUMNS, LINES[0]),
        ("", COLUMNS, "", LINES[0], ";;"),
        (f"{COLUMNS};;;", f"{LINES[0]};;;"),
        (COLUMNS, LINES[0].replace(";high;", ";High;").replace(";yes;", ";Y;").replace("pain;;", "pain;Core;")),
    ],
)
def test_a_table_as_spreadsheets_save_it_is_read(table, lines):
    result = table(*lines)
    assert result.code == 0, result.out
    assert len(result.json["files"]) == 1


UNSEEN = (
    "Es dr\u00fcckt \u2764\ufe0f sehr",
    "12\u00a0mg nach dem Essen",
    "\u0645\u0646\u200c\u062e\u0648\u0627\u0647\u0645",
)


@pytest.mark.parametrize("note", UNSEEN)
def test_what_nobody_sees_in_a_cell_is_written_as_an_escape(field, table, note):
    result = table(COLUMNS, LINES[0].replace("Druck hinter dem Brustbein; er schwitzt.", note))
    assert result.code == 0, result.out
    case = yaml.safe_load((field.clone / result.json["files"][0]).read_text())
    assert case["messages"][0]["content"] == note


def test_the_written_prompt_shows_which_words_are_text_in_json():
    instruction = json_instruction({"level": ["1", "2"], "urgent": ["true", "no"], "route": ["clinic"]})
    assert instruction.endswith('level: "1", "2". urgent: "true", no. route: clinic.')
