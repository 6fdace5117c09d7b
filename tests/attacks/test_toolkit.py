"""Attacks on the toolkit that judges: a proposal is data, and what governs it was there before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacker import HARNESS, MAIN, NOBODY, SET, refused

import modelsmith

TRAP = b"import pathlib; pathlib.Path(%r).touch()\nraise SystemExit(0)\n"
IMPORTED = ("modelsmith/__init__.py", "modelsmith/__main__.py", "sitecustomize.py", "usercustomize.py", "yaml.py",
            "json.py", "pydantic.py", "click.py", "conftest.py", "evals/conftest.py")  # fmt: skip


def trapped(world, names=IMPORTED):
    """A head whose modules leave a trace when anything imports them, and the place of the trace."""
    sprung = world.folder / "sprung"
    return world.commit({name: TRAP % str(sprung) for name in names}), sprung


def run(world, *words, cwd):
    """The toolkit as it is installed, in some folder."""
    script = "import sys; from modelsmith.cli.main import main; sys.argv[0] = 'modelsmith'; main()"
    environment = {
        **os.environ, "MODELSMITH_HOME": str(world.home), "PYTHONPATH": str(Path(modelsmith.__file__).parents[1])
    }  # fmt: skip
    command = [sys.executable, "-P", "-c", script, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_trap_springs_when_it_is_imported(fresh):
    """The control of the ones below: the proposal's modules do run where somebody runs them."""
    head, sprung = trapped(fresh)
    fresh.git.run("checkout", "--quiet", "--detach", head)
    subprocess.run([sys.executable, "-m", "modelsmith"], cwd=fresh.clone, check=False, capture_output=True)
    assert sprung.exists()


def test_a_proposal_that_changes_the_toolkit_is_judged_by_the_old_one(fresh):
    """Opened, shown, pushed and verified with the proposal checked out: nothing of it runs."""
    head, sprung = trapped(fresh, [name for name in IMPORTED if not name.startswith("evals/")])
    fresh.hook(True)
    number = fresh.open(head, "petra")
    with refused("approval-missing"):
        fresh.merge(number)
    main = fresh.main()
    merge = fresh.git.commit_tree(fresh.git.merge_tree(main, head), [main, head], "Merge\n", NOBODY)
    assert fresh.push(f"{merge}:{MAIN}").returncode
    fresh.git.run("checkout", "--quiet", "--detach", head)
    process = run(fresh, "pr", "show", str(number), "--json", cwd=fresh.clone)
    assert process.returncode in (0, 4), process.stdout + process.stderr
    verified = run(fresh, "verify", "--revision", "main", "--json", cwd=fresh.clone)
    assert verified.returncode == 0, verified.stdout
    assert not sprung.exists()


def test_a_toolkit_on_main_is_not_what_judges_the_next_change(fresh):
    """Even approved and merged it does not run at the hook or at verify: those run what is installed there."""
    head, sprung = trapped(fresh, ["modelsmith/__init__.py", "modelsmith/__main__.py", "sitecustomize.py"])
    number = fresh.open(head, "petra")
    fresh.approve(number, "paul")
    fresh.merge(number)
    result = fresh.push(f"{fresh.commit({'notes.md': b'x'})}:{MAIN}")
    assert result.returncode
    assert "protected-main" in result.stderr
    assert fresh.holds().changes == 1
    assert not sprung.exists()


@pytest.mark.parametrize("path", ["modelsmith/evaluation/scoring.py", "pyproject.toml", "tests/x.py", "Makefile"])
def test_a_toolkit_change_mixed_with_what_it_judges_is_refused(fresh, path):
    """Whoever approves: the scenario and the code that scores it are proposed apart."""
    head = fresh.commit({path: b"# x\n", f"{SET}/README.md": b"x\n"})
    fresh.closed_to_everybody(head, "mixed-change", requester="oli")
    apart = fresh.propose({path: b"# x\n"}, "oli", "apart")
    fresh.approve(apart, "paul")
    assert fresh.merge(apart).status == "merged"


def test_a_toolkit_change_mixed_with_a_promotion_is_refused(waiting):
    """The owner's approval of the deployment does not bring new checks along."""
    head = waiting.commit({"modelsmith/__init__.py": b"# x\n"}, waiting.head(4))
    waiting.closed_to_everybody(head, "promotion-mixed", requester=HARNESS)


BOMBS = {
    "a tag that runs code": b"id: !!python/object/apply:os.system ['touch {sprung}']\n",
    "a tag of an object": b"id: !!python/name:os.system\n",
    "aliases of aliases": b"a: &a [x, x]\n" + b"".join(
        b"%c: &%c [*%c, *%c, *%c, *%c]\n" % (c, c, c - 1, c - 1, c - 1, c - 1) for c in range(ord("b"), ord("z"))
    ),
    "deep nesting": b"a: " + b"[" * 50_000,
    "many documents": b"---\na: 1\n" * 50_000,
    "a file of two megabytes": b"a: " + b"x" * 2_000_000 + b"\n",
    "a merge key": b"a: &a {b: 1}\nc:\n  <<: *a\n",
    "no text": b"\xff\xfe\x00a",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("path", [f"{SET}/scenarios/auction-timeout/bomb.yaml", ".github/governance/people.yaml"])
def test_a_file_made_to_harm_its_reader_is_refused_soon_and_in_words(fresh, name, path):
    """Plain values, one document, one megabyte: anything else is a problem of the file, never of the reader."""
    sprung = fresh.folder / "sprung"
    data = BOMBS[name].replace(b"{sprung}", str(sprung).encode())
    start = time.process_time()
    fresh.closed_to_everybody(fresh.commit({path: data}), "check-failed")
    assert time.process_time() - start < 30
    assert not sprung.exists()


def test_a_pattern_made_to_never_end_ends(fresh):
    """Rubric patterns are RE2: no backtracking, and what it cannot do is refused when it is proposed."""
    tree = fresh.governed().tree
    rubric = next(path for path in tree.paths(SET) if "/rubrics/" in path)
    text = tree.read(rubric).decode()
    for pattern, fine in (("(.+)+$", True), ("(?=a)b", False), ("(a)\\1", False)):
        point = f"  - {{id: trap, text: Trap., weight: 1, check: {{type: regex, pattern: '{pattern}'}}}}\n"
        number = fresh.propose({rubric: (text.rstrip("\n") + "\n" + point).encode()}, "petra", f"p{len(pattern)}{fine}")
        refusals = fresh.gate(number).decision.refusals
        assert (not refusals) == fine, refusals


@pytest.mark.parametrize(
    "schema",
    [
        "{$ref: '#/default', default: {pattern: '(a+)+$'}}",
        "{$ref: '#/const', const: {patternProperties: {'(a+)+$': {}}}}",
        "{properties: {a: {$schema: 'http://json-schema.org/draft-07/schema#', pattern: '(a+)+$'}}}",
        "{allOf: [{$ref: '#/allOf/1'}, {$ref: '#/allOf/0'}]}",
        "{$ref: '#/enum/0', enum: [{$ref: 'file:///etc/passwd'}]}",
    ],
)
def test_a_schema_that_would_hang_or_lead_elsewhere_is_refused(fresh, schema):
    """References lead to schemas of the rubric only, and back to themselves only by way of the answer."""
    tree = fresh.governed().tree
    rubric = next(path for path in tree.paths(SET) if "/rubrics/" in path)
    point = f"  - {{id: trap, text: Trap., weight: 1, check: {{type: json_schema, schema: {schema}}}}}\n"
    number = fresh.propose({rubric: (tree.read(rubric).decode().rstrip("\n") + "\n" + point).encode()}, "petra")
    assert "JSON Schema cannot be used" in str(fresh.gate(number).decision.refusals)
