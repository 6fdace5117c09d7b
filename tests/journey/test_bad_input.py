"""Whatever people write wrongly: an exit code, a place, a mend; and nothing is lost."""

from __future__ import annotations

import json
import shutil

import pytest

SET = "evals/adtech/rtb-root-cause"
CORE = f"{SET}/scenarios"
MISTAKES = {
    f"{CORE}/auction-timeout/timeout-core-01.yaml": (
        ("risk: high", "risk: high\nriks: low"), 4, "riks", "there is no field 'riks'", "Did you mean 'risk'?",
    ),
    f"{CORE}/auction-timeout/timeout-core-02.yaml": (
        ("critical: false", "critical: perhaps"), 6, "critical", "true or false is expected", "Write true or false.",
    ),
    f"{CORE}/invalid-traffic/ivt-core-01.yaml": (
        ("outcome_type: ", "outcome_type: !!python/object/apply:os.system "), 5, "outcome_type",
        "the tag !!python/object/apply:os.system is not allowed", "Remove the tag",
    ),
    f"{CORE}/invalid-traffic/ivt-core-02.yaml": (
        ("risk: ", "risk: &level "), 3, "risk", "anchors (&level) are not allowed", "write the value out",
    ),
    f"{SET}/evalset.yaml": (
        ("rubric: rubrics/", "rubric: ../../../rubrics/"), 8, "rubric", "there is no rubric at", "under rubrics/",
    ),
}  # fmt: skip


def edit(world, path, old, new):
    file = world.clone / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_every_mistake_of_every_file_is_named_with_line_field_and_mend(fresh):
    for path, (change, *_) in MISTAKES.items():
        edit(fresh, path, *change)
    copy = fresh.clone / CORE / "invalid-traffic" / "ivt-core-09.yaml"
    shutil.copy(fresh.clone / SET / "held_out/invalid-traffic/ivt-held-01.yaml", copy)
    link = fresh.clone / CORE / "auction-timeout" / "timeout-core-08.yaml"
    link.symlink_to("/etc/hostname")

    checked = fresh.modelsmith("validate", "--json")
    assert (checked.code, checked.json["valid"]) == (2, False)
    by_file = {problem["file"]: problem for problem in checked.json["problems"]}
    text = fresh.modelsmith("validate")
    evaluated = fresh.modelsmith("eval", "--cluster", "rtb-pricing")
    assert (text.code, evaluated.code) == (2, 2)
    assert "eval:" not in evaluated.err, "no model was loaded"
    for path, (_, line, field, message, mend) in MISTAKES.items():
        problem = by_file[path]
        assert (problem["line"], problem["field"]) == (line, field)
        assert message in problem["message"]
        assert mend in problem["mend"]
        assert f"{path}:{line} {field} " in text.out
        assert f"{path}:{line}: {field}: " in evaluated.err
    assert by_file[f"{CORE}/invalid-traffic/ivt-core-09.yaml"]["field"] == "id"
    assert f"{CORE}/auction-timeout/timeout-core-08.yaml" in by_file
    envelope = fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--json")
    assert (envelope.code, envelope.json["code"]) == (2, "invalid-file")
    assert {problem["file"] for problem in envelope.json["details"]["problems"]} >= MISTAKES.keys()
    assert not (fresh.private / "ledger.db").exists()


def test_one_id_for_two_scenarios_is_refused(fresh):
    folder = fresh.clone / SET / "micro" / "invalid-traffic"
    shutil.copy(fresh.clone / CORE / "invalid-traffic" / "ivt-core-01.yaml", folder / "ivt-core-01.yaml")
    checked = fresh.modelsmith("validate", "--json")
    assert checked.code == 2
    sentences = [problem["message"] for problem in checked.json["problems"] if problem["field"] == "id"]
    assert any("ivt-core-01" in sentence for sentence in sentences), checked.out


def test_an_uncommitted_edit_stops_iterate_and_promote_and_survives(deployed):
    path = f"{CORE}/auction-timeout/timeout-core-01.yaml"
    edit(deployed, path, "risk: high", "risk: low")
    for command in ("iterate", "promote"):
        result = deployed.modelsmith(command, "rtb-pricing", "--json")
        assert (result.code, result.json["code"], result.json["details"]["paths"]) == (2, "dirty-tree", [path])
        assert "git stash" in result.json["mend"]
    assert deployed.modelsmith("verify", "--json").code == 0, "what is committed still verifies"
    assert "risk: low" in (deployed.clone / path).read_text()


def test_commits_that_the_forge_does_not_have_stop_iterate(fresh):
    (fresh.clone / "notes.md").write_text("mine\n")
    fresh.must("add", "--all")
    fresh.must("commit", "--quiet", "--message", "Mine")
    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert (result.code, result.json["code"]) == (2, "diverged-main")
    assert "pr open" in result.json["mend"]
    assert (fresh.clone / "notes.md").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (lambda digest: "sha256:" + "0" * 64, 5, "base-model-digest"),
        (lambda digest: "latest", 2, "invalid-file"),
        (lambda digest: None, 2, "invalid-file"),
    ],
    ids=["wrong", "malformed", "missing"],
)
def test_a_base_model_without_its_pinned_digest_is_not_run(fresh, change, code, word):
    path = fresh.clone / "clusters" / "rtb-pricing" / "cluster.yaml"
    line = next(line for line in path.read_text().splitlines() if line.strip().startswith("digest: sha256:"))
    indent, digest = line.split("digest: ")
    new = change(digest)
    path.write_text(path.read_text().replace(line + "\n", f"{indent}digest: {new}\n" if new else ""))
    result = fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--quick", "--json")
    assert (result.code, result.json["code"]) == (code, word), result.out
    assert result.json["mend"]
    if code == 2:
        assert [problem["field"] for problem in result.json["details"]["problems"]] == ["base_model.digest"]


def test_a_repository_without_a_first_commit_says_so(fresh):
    shutil.rmtree(fresh.clone / ".git")
    fresh.must("init", "--quiet", "--initial-branch", "main")
    looked = fresh.modelsmith("status", "--json")
    assert (looked.code, looked.json["code"]) == (2, "no-commit")
    assert "git commit" in looked.json["mend"]
    assert fresh.modelsmith("validate", "--json").code == 0, "files can be checked before the first commit"
    assert fresh.modelsmith("iterate", "rtb-pricing", "--json").code == 2
    verified = fresh.modelsmith("verify", "--json")
    assert (verified.code, verified.json["code"]) == (2, "no-commit")


def test_a_folder_that_is_no_promotion_repository_says_so(fresh, tmp_path):
    result = fresh.modelsmith("status", "--json", cwd=tmp_path)
    assert (result.code, result.json["code"]) == (2, "not-a-repository")
    assert "modelsmith init" in result.json["mend"]


def test_names_that_do_not_exist_are_answered_with_those_that_do(waiting):
    wrong = {
        ("iterate", "nope"): ("unknown-cluster", "rtb-pricing"),
        ("eval", "--cluster", "nope"): ("unknown-cluster", "rtb-pricing"),
        ("results", "--tag", "nope"): ("unknown-tag", "rtb-pricing-iter-001-candidate"),
        ("compare", "nope", "rtb-pricing-iter-001-base"): ("unknown-tag", "rtb-pricing-iter-001-base"),
        ("pr", "show", "99"): ("unknown-pull", "modelsmith pr list"),
        ("lineage", "iter-999"): ("unknown-id", "modelsmith status"),
        ("promote", "rtb-pricing", "iter-999-00000000"): ("unknown-specialist", "iter-001-"),
        ("approve", "4", "--key", "/nowhere/key"): ("missing-key", "key"),
        ("validate", "../outside"): ("outside-repository", "repository"),
    }
    for words, (code, hint) in wrong.items():
        result = waiting.modelsmith(*words, "--json")
        assert (words, result.code, result.json["code"]) == (words, 2, code)
        assert hint in json.dumps(result.json), result.out
    text = waiting.modelsmith("pr", "show", "99")
    assert (text.code, text.out) == (2, "")
    assert text.err.startswith("error (unknown-pull): ")
    assert "mend: " in text.err


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",), ("iterate",), ("eval",), ("status", "--bogus"), ("pr", "show", "four"), ("pr", "merge", "0"),
        ("iterate", "rtb-pricing", "--max-iterations", "0"), ("eval", "--cluster", "rtb-pricing", "--type", "all-of"),
        ("reject", "4", "--key", "k", "--reason", ""), ("pr",), ("schema",), ("hook", "install"), ("--version",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_usage_error_is_invalid_input_and_never_a_bug(fresh_template, words):
    result = fresh_template.modelsmith(*words, "--json")
    assert (result.code, result.json["code"]) == (2, "usage"), result.out
    assert result.json["mend"]


def test_init_refuses_a_folder_in_use_and_a_key_that_is_none(fresh):
    result = fresh.modelsmith("init", "clone", "--json", cwd=fresh.folder)
    assert (result.code, result.json["code"]) == (2, "not-empty")
    assert (fresh.clone / "evals").is_dir()
    person = fresh.modelsmith("init", "other", "--person", "platform=nobody.pub", "--json", cwd=fresh.folder)
    assert (person.code, person.json["code"]) == (2, "bad-person")
    assert not (fresh.folder / "other").exists()


def test_a_proposal_that_does_not_validate_is_never_merged(waiting):
    path = f"{CORE}/auction-timeout/timeout-core-01.yaml"
    text = (waiting.clone / path).read_text().replace("risk: high", "risk: high\nriks: low")
    waiting.commit("bad-scenario", {path: text})
    opened = waiting.modelsmith(
        "pr", "open", "bad-scenario", "--title", "A scenario", "--key", waiting.key("petra"), "--json"
    )
    assert opened.code == 0, opened.out
    number = str(opened.json["pull"]["number"])
    assert (
        waiting.modelsmith("approve", number, "--key", waiting.key("dana"), "--json").json["pull"]["gate"] == "closed"
    )
    merged = waiting.modelsmith("pr", "merge", number, "--json")
    assert (merged.code, merged.json["details"]["refusals"]) == (3, ["check-failed"])
    assert f"{path}:4" in merged.json["message"]
