"""Whatever lies in the work tree: every path that the commands open there is found by tracing, and planted.

The rule (docs/threat-model.md, planted paths): of the work tree the toolkit reads governed files, as data; it writes
what people look at, through no link, and reads none of that again; it runs and imports nothing. A path that somebody
adds to the toolkit shows in the trace by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from worlds import CLUSTER, COMMAND, Ran

from modelsmith.cli.webhooks import webhooks
from modelsmith.governance.shape import GOVERNED_FOLDERS
from modelsmith.operations.table import OPERATIONS

TRACED = Path(__file__).parents[1] / "traced"
GOVERNED = (*GOVERNED_FOLDERS, ".github")
PICTURE = "docs/history.svg"
ADD = ("webhooks", "add")
BASE, CANDIDATE = f"{CLUSTER}-iter-001-base", f"{CLUSTER}-iter-001-candidate"
TRAP = "open({!r}, 'w').close()\nraise SystemExit(0)\n"


def commands(world):
    """Every command, in an order in which each has something to do; it is this list that a new verb is added to."""
    answer = ("--answer", "cause=timeout", "--answer", "action=cut_latency")
    case = (*answer, "--pass", "a", "--fail", "b", "--risk", "low", "--lens", "sre", "--outcome", "lost-auctions")
    return [
        ("validate",), ("doctor",), ("schema", "export"), ("status",), ("iterate", CLUSTER),
        ("eval", "--cluster", CLUSTER, "--tag", "traced"), ("diagnose", "--tag", BASE),
        ("train", "--cluster", CLUSTER, "--eval-tag", BASE), ("results", "--tag", CANDIDATE),
        ("why", "auction-timeout.form"), ("review-synthetic", CLUSTER),
        ("strike", CLUSTER, "0" * 12, "--reason", "x"),
        ("compare", BASE, CANDIDATE), ("diff-rubric", CLUSTER), ("lineage", "iter-001"),
        ("composite-history", CLUSTER, "--svg", PICTURE), ("balance", CLUSTER, "--svg", PICTURE),
        ("export-inspect", str(world.folder / "log.json"), "--tag", BASE), ("pr", "list", "--all"), ("pr", "show", "4"),
        ("promote", CLUSTER), ("pr", "open", "notes", "--title", "Notes", "--key", world.key("dana")),
        ("check", "--pr", "8"),
        ("reject", "8", "--key", world.key("noor"), "--reason", "too early"),
        ("approve", "8", "--key", world.key("noor")), ("pr", "merge", "8"), ("pr", "receipts"),
        ("attest-reviews",),
        ("eval-changes", "--since", "HEAD", "--page", str(world.folder / "eval.md")),
        ("pr", "close", "9", "--reason", "Not now."), ("observe", world.state()["specialist"]),
        ("live", CLUSTER, "--svg", PICTURE), ("rollback", CLUSTER, "--reason", "win rate fell"),
        ("export", world.state()["specialist"], "--as", "merged"), ("upstream", "status"), ("upstream", "pull"),
        ("upstream", "contribute", "notes", "--title", "Notes", "--author", "Dana <dana@example.org>"), ("verify",),
        ("verify", "--full"),
        ("route", requests(world), "--against", "HEAD"), ("fleet",), ("events",),
        ("evidence", world.state()["specialist"]), ("approvers",), ("pr", "ask", "4"),
        ("jobs", "list"), ("jobs", "show", "0"), ("jobs", "tail", "0"), ("jobs", "cancel", "0"),
        ("jobs", "resume", "0"), ("runbook", "list"), ("runbook", "show", "nightly-iterate"),
        ("audit", "--from", "2026-01-01", "--to", "2026-01-02", "--out", str(world.folder / "audit")),
        ("runbook", "run", "failed-training-triage", "--param", f"cluster={CLUSTER}", "--param", f"tag={BASE}"),
        ("new", "capability", "late", "--note", "One.", "--held-out", "Of another kind.", *case),
        ("new", "scenario", "late", "--note", "Three.", *case), ("new", "scenarios", table(world)),
        ("new", "generator", "late", "--template", "Four.", *answer),
        ("new", "label", "late-core-01", "--answer", "x", "--verdict", "pass"),
        ("new", "cluster", "other", "--description", "x", "--metric", "loss"),
        ("agents-md",), ("capture", records(world)), ("run-pending", CLUSTER),
        ("accept-scenario", "case-0", "--capability", "late", *case),
        ("new", "set", "other", "--description", "x", "--field", "a=b|c"), (*ADD, "receiver"), ("webhooks", "list"),
        ("webhooks", "test", "receiver"), ("webhooks", "deliver"), ("webhooks", "redeliver", "receiver"),
        ("webhooks", "rotate", "receiver"), ("webhooks", "remove", "receiver"),
    ]  # fmt: skip


def requests(world):
    """A request to the front door, beside the clone."""
    path = world.folder / "requests.jsonl"
    path.write_text('{"model": "rtb-pricing", "messages": []}\n')
    return str(path)


def records(world):
    """A failure of production, beside the clone."""
    path = world.folder / "records.jsonl"
    path.write_text('{"prompt": "Six?", "answer": "x", "outcome": "y"}\n')
    return str(path)


def table(world):
    """A spreadsheet of one case, beside the clone."""
    path = world.folder / "cases.csv"
    path.write_text(
        "capability,note,cause,action,pass,fail,risk,lens,outcome\nlate,Five.,timeout,cut_latency,a,b,low,sre,lost-auctions\n"
    )
    return str(path)


def told_an_address(world, words, environment):
    """Run the one command that reads standard input; nobody listens there."""
    fields = {"cwd": world.clone, "env": environment, "input": "https://127.0.0.1:9/hook\n"}
    process = subprocess.run([COMMAND, *words], check=False, capture_output=True, text=True, **fields)
    return Ran(process.returncode, process.stdout, process.stderr)


def traced(world, words):
    """What the command, its worker and the forge's hook did below the work tree, as (what, path)."""
    log = world.folder / "trace"
    log.unlink(missing_ok=True)
    environment = {"TRACED": f"{log}{os.pathsep}{world.clone}", "PYTHONPATH": str(TRACED)}
    environment = world.environment() | environment
    result = (
        told_an_address(world, words, environment) if words[:2] == ADD else world.modelsmith(*words, env=environment)
    )
    assert result.code != 1, result.err
    assert "Usage:" not in result.err, result.err
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def journey(deployed_template, tmp_path_factory):
    """The world after every command has run, and what each of them did."""
    world = deployed_template.copied_to(tmp_path_factory.mktemp("traced") / "world")
    world.commit("notes", {"docs/notes.md": "Notes.\n"})
    world.must("remote", "add", "upstream", str(world.forge))
    events_by_command = {words: traced(world, words) for words in commands(world)}
    yield world, events_by_command
    shutil.rmtree(world.folder, ignore_errors=True)


def paths(events_by_command, *kinds):
    return {path for events in events_by_command.values() for action, path in events if action in kinds}


COMPARING = ("verify", "audit", "iterate", "export", "promote")
"""Commands that hold every file that main has against its content there, and take nothing else from it."""


def compared(journey):
    world, events_by_command = journey
    others = {
        path
        for words, events in events_by_command.items()
        if words[0] not in COMPARING
        for action, path in events
        if action != "modules"
    }
    return set(world.git.list_tree(world.main())) - others


def test_every_verb_is_traced(journey):
    _, events_by_command = journey
    verbs = {operation.name for operation in OPERATIONS} - {"init"} | {f"webhooks {name}" for name in webhooks.commands}
    assert {verb for verb in verbs if not any(" ".join(words).startswith(verb) for words in events_by_command)} == set()


def test_the_trace_sees_what_commands_do(journey):
    """The control: it is known to read governed files and to write picture, schemas and the copy of the state."""
    _, events_by_command = journey
    assert ".github/governance/policy.yaml" in paths(events_by_command, "looks", "reads")
    assert f"clusters/{CLUSTER}/cluster.yaml" in paths(events_by_command, "reads")
    assert {".iterate/state.json", ".iterate/schemas/scenario.schema.json", PICTURE} <= paths(
        events_by_command, "writes"
    )


def test_of_the_work_tree_only_governed_files_are_read_and_nothing_runs(journey):
    """A path that is new here is to move under the git directory, unless it is a governed file.

    A folder in which something was written is opened once more, to sync it.
    """
    _, events_by_command = journey
    assert paths(events_by_command, "runs", "imports") == set()
    synced = {str(Path(path).parent) for path in paths(events_by_command, "writes")}
    files_read = paths(events_by_command, "reads") - synced - compared(journey) | paths(events_by_command, "lists")
    assert {path for path in files_read if path.split("/")[0] not in GOVERNED} == set()


def test_what_is_written_in_the_work_tree_is_for_people(journey):
    """The copy of the state, the schemas, and the picture where its asker wants it: none of it is ever read.

    `new` writes governed files and `agents-md` the contract of agents, which is what they are for.
    """
    _, events_by_command = journey
    new = paths(
        {words: events for words, events in events_by_command.items() if words[0] in ("new", "agents-md")}, "writes"
    )
    assert {path.split("/")[0] for path in new} <= {"evals", "clusters", "AGENTS.md", ".AGENTS.md.partial"}
    files_written = {
        path for path in paths(events_by_command, "writes") if not path.startswith(".iterate/schemas/")
    } - new
    state = {".iterate", ".iterate/state.json", ".iterate/.state.json.partial"}
    assert files_written - state <= {".iterate/schemas", PICTURE, "docs", "docs/.history.svg.partial"}
    assert {path for path in paths(events_by_command, "looks") if path.split("/")[0] not in GOVERNED} <= {
        place for path in paths(events_by_command, "writes") for place in (path, *map(str, Path(path).parents))
    } | compared(journey)


def planted(world, journey, sprung):
    """Everything that could be taken for the toolkit's or Python's own: what another clone keeps, traps for imports."""
    other, events_by_command = journey
    shutil.copytree(other.private, world.clone / ".iterate", dirs_exist_ok=True)
    modules = {
        name
        for events in events_by_command.values()
        for action, names in events
        if action == "modules"
        for name in names
    }
    assert {"json", "click", "modelsmith", "torch"} <= modules, "the training worker is traced too"
    places = [world.clone, world.clone / ".iterate" / CLUSTER / "iterations" / "002" / "job"]
    for name in (modules | {"sitecustomize", "usercustomize"}) - {"__main__"}:
        for place in places:
            (place / f"{name}.py").write_text(TRAP.format(str(sprung)))


READING = [
    ("status",), ("verify",), ("results", "--tag", CANDIDATE), ("results", "--tag", "traced"),
    ("composite-history", CLUSTER), ("pr", "list", "--all"), ("lineage", "iter-001"), ("validate",),
]  # fmt: skip


def answers(world, words):
    result = world.modelsmith(*words, "--json")
    return result.code, result.out.replace(str(world.folder), "")


def test_what_another_clone_keeps_is_not_believed_in_the_work_tree(deployed_template, copies, journey):
    """Later runs, ledger, state, memory and answers, and a trap for every import: the answers stay what they were."""
    clean, hostile = copies(deployed_template), copies(deployed_template)
    sprung = hostile.folder / "sprung"
    planted(hostile, journey, sprung)
    exclude = hostile.clone / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("/*.py\n")
    for words in READING:
        assert answers(hostile, words) == answers(clean, words), words
    command = ("eval", "--cluster", CLUSTER, "--tag", "traced", "--json")
    answer, other = hostile.modelsmith(*command).json["run"], clean.modelsmith(*command).json["run"]
    assert (answer["executed"], answer["run_id"]) == (other["executed"], other["run_id"])
    assert hostile.private.is_dir()
    assert not sprung.exists()


def test_a_clone_in_which_all_of_it_is_committed_says_so(deployed_template, copies, journey):
    """The same as a commit that is checked out: exit 5 by every command, and nothing runs."""
    world = copies(deployed_template)
    sprung = world.folder / "sprung"
    planted(world, journey, sprung)
    world.must("checkout", "--quiet", "-b", "hostile")
    world.must("add", "--all", "--force")
    world.must("commit", "--quiet", "--message", "Everything")
    for words in commands(world):
        result = world.modelsmith(*words, "--json")
        assert (result.code, result.json.get("code")) == (5, "reserved-path") or words[0] == "schema", (
            words,
            result.out,
        )
    assert not sprung.exists()


def test_links_wherever_something_is_written_lead_nowhere(deployed_template, copies, journey):
    """At the files, at the temporary ones beside them, and at every folder on the way."""
    _, events_by_command = journey
    writers = [words for words, events in events_by_command.items() if any(action == "writes" for action, _ in events)]
    files_written = paths(events_by_command, "writes")
    folders = {str(above) for path in files_written for above in Path(path).parents} - {"."}
    world = copies(deployed_template)
    elsewhere = world.folder / "elsewhere"
    for links in ({path for path in files_written if path not in folders}, *({folder} for folder in sorted(folders))):
        shutil.rmtree(elsewhere, ignore_errors=True)
        elsewhere.mkdir()
        for number, path in enumerate(sorted(links)):
            place = world.clone / path
            shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(elsewhere / str(number) if len(links) > 1 else elsewhere)
        for words in writers:
            if words[0] != "iterate":
                world.modelsmith(*words)
        assert list(elsewhere.iterdir()) == [], links
        for path in links:
            (world.clone / path).unlink(missing_ok=True)
