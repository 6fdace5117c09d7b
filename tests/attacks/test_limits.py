"""What a proposal may cost everybody who looks at it, and that what was let in can be verified for ever."""

from __future__ import annotations

import os
import sys
import time
from itertools import count
from pathlib import Path
from unittest.mock import patch

import pytest
from attacker import NOBODY, POLICY, World, refused
from bombs import billion_files, deep_folders, deep_folders_that_go, many_parents, opened_by_hand, wide_folders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.governance import shape
from modelsmith.loop.engines import Target, open_substrate
from modelsmith.operations import doctor, pr_list, validate
from modelsmith.promotion.authors import MOST_BROKEN
from modelsmith.promotion.pulls import merge_pull
from modelsmith.schema.errors import GateNotCleared, InvalidInput, ModelsmithError, WaitingForPerson
from modelsmith.schema.governance import Limits
from modelsmith.schema.source import Endpoint
from modelsmith.signing import ssh

CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"
DEFAULTS = "clusters/defaults.yaml"


def text(world: World, path: str) -> str:
    return world.bare.text("show", f"{world.main()}:{path}") + "\n"


def land(world: World, files: dict[str, bytes | None], branch: str = "change") -> int:
    """Through gate, hook and receipts, as honest people do it."""
    number = world.propose(files, branch=branch)
    for actor in ("paul", "dana"):
        world.approve(number, actor)
    assert world.merge(number).status == "merged"
    return number


def chained(world: World, number: int, message: str) -> str:
    """So many commits over main, each with this message and nothing changed but the last."""
    world.fetch()
    head = world.main()
    tree = world.git.text("rev-parse", f"{world.commit({'docs/x.md': b'x'})}^{{tree}}")
    for _ in range(number):
        head = world.git.commit_tree(tree, [head], message, NOBODY)
    return head


def closed(world: World, files: dict[str, bytes | None], *saying: str) -> None:
    """Nobody's approval opens the gate, and whoever lists pull requests reads why; main verifies as before."""
    try:
        number = world.propose(files)
    except GateNotCleared as error:
        sentence = f"{error.code}: {error.message}"
    else:
        world.approve(number, "paul")
        sentence = world.refusals(number)
        with pytest.raises(ModelsmithError):
            world.merge(number)
    for words in saying:
        assert words in sentence
    world.holds()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("docs/" + "n" * 300 + ".md", "has a name longer than"),
        ("docs/" + "d/" * 40 + "x.md", "levels deep"),
        ("docs/" + "/".join(["d" * 100] * 8) + "/x.md", "is longer than"),
    ],
)
def test_a_path_that_not_every_clone_can_hold_is_refused(fresh, path, words):
    """A longer path passes git and stops every work tree, or whatever walks it."""
    closed(fresh, {path: b"x"}, words)


def test_a_file_that_nobody_could_read_again_is_refused_before_it_is_read(fresh):
    """260 kB on the wire, a gigabyte of zeros for whoever judges it."""
    closed(fresh, {".github/governance/trust/old.pem": b"\0" * (33 << 20)}, "over-limits", "bytes; the policy allows")


def test_folders_that_name_one_another_a_billion_times_are_refused(fresh):
    """Thirty objects that list 2^30 files."""
    fresh.fetch()
    head = billion_files(fresh)
    begin = time.monotonic()
    with refused("over-limits"):
        fresh.open(head, "petra")
    assert time.monotonic() - begin < 300
    with pytest.raises(GateNotCleared, match="more files"):
        fresh.git.change(fresh.main(), head)


@pytest.mark.parametrize("made", [deep_folders, deep_folders_that_go, wide_folders, many_parents])
def test_objects_made_to_keep_every_reader_busy_are_refused_when_opened(fresh, made):
    """Kilobytes that are minutes of everybody's time: sizes, depths and numbers are asked before they are read."""
    fresh.fetch()
    head = made(fresh)
    with refused("over-limits"):
        fresh.open(head, "petra")


def test_thousands_of_promotions_at_once_are_not_held_against_each_other(fresh):
    """Every path was held against every folder, and whoever listed pull requests waited for minutes."""
    folders = [f"promotions/rtb-pricing/iter-001-{number:08x}/01-candidate" for number in range(300)]
    with patch.object(shape, "fold_name", wraps=shape.fold_name) as folded:
        closed(fresh, {f"{folder}/x.md": b"x" for folder in folders}, f"this change touches {len(folders)}")
        pr_list.run(fresh.workspace, pr_list.PrListRequest())
    assert 0 < folded.call_count < 100 * len(folders)


def test_a_proposal_merged_crosswise_is_refused_before_git_merges_it(fresh):
    """One that was approved brings the crossings in empty commits; the next forks below, and git merged for hours."""
    fresh.fetch()
    main = fresh.main()
    tree = str(fresh.git.tree(main))
    chains = [fresh.git.commit_tree(tree, [main], f"{number}\n", NOBODY) for number in range(3)]
    for level in range(3):
        chains = [fresh.git.commit_tree(tree, chains, f"{level} {number}\n", NOBODY) for number in range(3)]
    ours, theirs = (
        fresh.git.commit_tree(str(fresh.git.tree(fresh.commit({f"docs/{name}.md": b"x"}))), chains, "x\n", NOBODY)
        for name in ("ours", "theirs")
    )
    first, waiting = fresh.open(ours, "petra"), fresh.open(theirs, "oli")
    fresh.approve(first, "paul")
    assert fresh.merge(first).status == "merged"
    with refused("several-bases"):
        fresh.gate(waiting)
    with refused("several-bases"):
        fresh.merge(waiting)
    fresh.git.run("fetch", "--quiet", "--no-tags", str(fresh.forge), "refs/heads/main")
    tip = opened_by_hand(fresh, 3, fresh.main(), theirs, "sha256:" + "0" * 64, waiting)
    assert "several-bases" in fresh.push(f"{tip}:refs/modelsmith/pulls/3").stderr
    listing = pr_list.run(fresh.workspace, pr_list.PrListRequest())
    assert [(pull.number, pull.gate) for pull in listing.pulls] == [(waiting, "conflict")]
    fresh.holds()


def test_more_commits_than_anybody_reads_are_refused(fresh):
    """Each one costs every reader."""
    limits = fresh.governed().policy.limits
    with refused("over-limits") as errors:
        fresh.open(chained(fresh, limits.commits + 1, "x\n"), "petra")
    assert f"more than {limits.commits} commits" in errors[0].message


def test_commits_with_a_copied_signature_are_refused_and_cost_little(fresh):
    """Each copy would cost everybody a process; the signature is somebody's, of something else."""
    copied = ssh.sign(b"anything", fresh.key("paul"), "git").rstrip("\n").replace("\n", "\n ")
    head = fresh.main()
    tree = fresh.git.text("rev-parse", f"{fresh.commit({'docs/x.md': b'x'})}^{{tree}}")
    for number in range(MOST_BROKEN + 1):
        raw = f"tree {tree}\nparent {head}\nauthor a <a@x> {number} +0000\ncommitter a <a@x> {number} +0000\n"
        data = f"{raw}gpgsig {copied}\n\nx\n".encode()
        head = fresh.git.text("hash-object", "-t", "commit", "-w", "--stdin", input=data)
    number = fresh.open(head, "petra")
    with pytest.raises(GateNotCleared, match="signatures that their keys did not make"):
        fresh.gate(number)
    with refused("over-limits"):
        fresh.merge(number)


def test_a_description_of_megabytes_is_refused_and_hides_no_other(fresh):
    """Everybody would read it at every list, for good."""
    other = fresh.propose({"docs/other.md": b"x"}, branch="other")
    main, head = fresh.main(), fresh.commit({"docs/x.md": b"x"})
    change = fresh.git.change(main, head).digest()
    tip = opened_by_hand(fresh, 2, main, head, change, other, body="A" * 5_000_000)
    result = fresh.push(f"{tip}:refs/modelsmith/pulls/2")
    assert result.returncode
    assert "bad-event" in result.stderr
    fresh.push_without_hooks(f"{tip}:refs/modelsmith/pulls/2")
    listing = pr_list.run(fresh.workspace, pr_list.PrListRequest())
    assert [pull.number for pull in listing.pulls] == [other]
    assert [broken.number for broken in listing.unreadable] == [2]
    assert int(listing.exit_code()) == 5


def test_a_pull_request_of_a_repository_renamed_since_decides_nothing(fresh):
    """Its approvals speak of another repository, so that no receipt of them would verify."""
    waiting = fresh.propose({"docs/x.md": b"x"}, branch="waiting")
    fresh.approve(waiting, "paul")
    old = fresh.governed().policy.repository
    land(fresh, {POLICY: text(fresh, POLICY).replace(old, "another-name-0001").encode()})
    assert "it was opened for" in fresh.refusals(waiting)
    fresh.hook(True)
    with refused("gate-closed"):
        merge_pull(fresh.harness(), waiting)
    with refused("renamed-repository"):
        fresh.approve(waiting, "oli")
    assert [pull.gate for pull in pr_list.run(fresh.workspace, pr_list.PrListRequest()).pulls] == ["closed"]
    assert fresh.as_("petra").close(waiting, "propose again").status == "closed"
    fresh.holds()


def test_rules_by_which_main_could_not_be_read_are_refused(candidate):
    """A transition that a history has taken is no longer allowed: every command would end there, for everybody."""
    policy = text(candidate, POLICY)
    first = policy.index("- event: candidate") if "- event: candidate" in policy else policy.index("event: candidate")
    line = policy.rindex("\n", 0, first) + 1
    without = policy[:line] + policy[policy.index("\n", line) + 1 :]
    closed(candidate, {POLICY: without.encode()}, "could not be read")


@pytest.mark.parametrize("store", ["~svc/store", "relative/store", '"/srv/a\\0b"', "/srv/" + "x" * 300])
def test_a_store_that_is_not_there_on_every_machine_is_refused(fresh, store):
    """Another user's home ended verify in every clone without that user."""
    closed(fresh, {DEFAULTS: (text(fresh, DEFAULTS) + f"store: {store}\n").encode()}, "store")


def test_a_work_tree_too_deep_to_walk_is_said_in_words(fresh):
    """A folder whose path is longer than the system takes."""
    name = "y" * 90
    handle = os.open(fresh.clone / "evals", os.O_RDONLY)
    for _ in range(60):
        os.mkdir(name, dir_fd=handle)
        deeper = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    with pytest.raises(InvalidInput, match="cannot be read"):
        validate.run(fresh.workspace, validate.ValidateRequest())


def test_validate_says_beforehand_what_the_gate_would_refuse(fresh):
    """The limits of main, asked of the files on disk; what main holds as it is was let in and is not asked again."""
    short = text(fresh, POLICY).replace("limits:\n", "limits:\n  path_bytes: 64\n  file_bytes: 1048576\n")
    land(fresh, {POLICY: short.encode()})
    fresh.git.run("fetch", "--quiet", "--no-tags", str(fresh.forge), "refs/heads/main")
    fresh.git.run("reset", "--quiet", "--hard", fresh.main())
    scenarios = next(fresh.clone.glob("evals/*/*/scenarios/**/*.yaml")).parent
    long, large = scenarios / f"{'n' * 60}.yaml", scenarios / "large.yaml"
    assert validate.run(fresh.workspace, validate.ValidateRequest()).valid, "receipts of main have longer paths"
    long.write_text("id: x\n")
    large.write_bytes(b"# " + b"x" * (1 << 20) + b"\n")
    result = validate.run(fresh.workspace, validate.ValidateRequest())
    assert int(result.exit_code()) == 2
    problems = {(Path(problem.file).name, problem.message) for problem in result.problems}
    assert (long.name, "the path is longer than the 64 bytes that a path may have") in problems
    assert any(name == large.name and "limits.file_bytes" in message for name, message in problems)


def test_a_key_goes_to_no_server_that_nobody_on_this_machine_allowed(fresh, monkeypatch):
    """A proposal names any variable and any URL; eval reads the files on disk, before anybody has approved them."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    local = Endpoint(url="http://127.0.0.1:9/v1", model="m", key_env="AWS_SECRET_ACCESS_KEY")
    far = Endpoint(url="https://evil.example/v1", model="m")
    plain = Endpoint(url="http://evil.example/v1", model="m")
    for endpoint, code in (
        (local, "endpoint-not-allowed"),
        (far, "endpoint-not-allowed"),
        (plain, "endpoint-not-encrypted"),
    ):
        with refused(code):
            open_substrate(fresh.workspace, fresh.cluster(), Target("frontier", "w", endpoint=endpoint), None)


def test_doctor_imports_nothing_that_a_governed_file_names(fresh, monkeypatch):
    """A dotted package name made Python import the package before the dot."""
    folder = fresh.folder / "importable"
    (folder / "planted").mkdir(parents=True)
    (folder / "planted" / "__init__.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(folder)
    for uri in ("package://planted.x/f", "package://planted/f", "package://__main__/f", "package://..x/f"):
        lines = text(fresh, CLUSTER_FILE).splitlines()
        named = [f"{line.split('uri:')[0]}uri: {uri}" if "uri:" in line else line for line in lines]
        head = fresh.commit({CLUSTER_FILE: ("\n".join(named) + "\n").encode()})
        fresh.git.run("update-ref", "HEAD", head)
        doctor.run(fresh.workspace, doctor.DoctorRequest())
        assert not (folder / "ran").exists()
        assert "planted" not in sys.modules


LEAST = {name: field.metadata[0].ge for name, field in Limits.model_fields.items()}
"""The smallest that a policy may say."""
NAMES = st.text(st.sampled_from("abn-._"), min_size=1, max_size=260).filter(lambda n: n not in (".", ".."))
FOLDERS = st.one_of(st.integers(0, 30).map(lambda deep: "d/" * deep), st.just("n" * 199 + "/"))
CHANGES = st.one_of(
    st.builds(
        lambda below, name, size: ("file", f"docs/{below}{name}.md", size), FOLDERS, NAMES, st.sampled_from([0, 9])
    ),
    st.tuples(st.just("file"), st.just("docs/large.bin"), st.sampled_from([1 << 20, 33 << 20])),
    st.tuples(st.just("policy"), st.sampled_from(["path_depth: 8", "path_depth: 65", "commits: 1", "file_bytes: 10"])),
    st.tuples(st.just("people"), st.sampled_from(["9999-12-31T23:59:59-01:00", "2999-01-01T00:00:00Z"])),
    st.tuples(st.just("store"), st.sampled_from(["~svc", "/srv/models", "~/models"])),
    st.just(("again",)),
    st.just(("rename",)),
)


class Proposals:
    """Honest proposals of odd but lawful kinds, on one main that keeps growing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.numbers = count(1)

    def files(self, kind: str, *arguments: object) -> dict[str, bytes | None]:
        world = self.world
        if kind == "file":
            path, size = arguments
            assert isinstance(size, int)
            return {str(path): b"\0" * size or f"{next(self.numbers)}\n".encode()}
        if kind == "policy":
            name, value = str(arguments[0]).split(": ")
            lines = [line for line in text(world, POLICY).splitlines() if not line.startswith(f"  {name}:")]
            at = next(i for i, line in enumerate(lines) if line.startswith("limits:")) + 1
            return {POLICY: "\n".join([*lines[:at], f"  {name}: {value}", *lines[at:]]).encode() + b"\n"}
        if kind == "rename":
            old = world.governed().policy.repository
            return {POLICY: text(world, POLICY).replace(old, f"repository-{next(self.numbers):04}").encode()}
        if kind == "people":
            people = text(world, ".github/governance/people.yaml")
            return {
                ".github/governance/people.yaml": people.replace("2026-01-01T00:00:00Z", str(arguments[0])).encode()
            }
        if kind == "store":
            kept_lines = [line for line in text(world, DEFAULTS).splitlines() if not line.startswith("store:")]
            return {DEFAULTS: "\n".join([*kept_lines, f"store: {arguments[0]}"]).encode() + b"\n"}
        is_present = world.bare.rev(f"{world.main()}^0") and "docs/again.md" in world.bare.list_tree(
            world.main(), "docs"
        )
        return {"docs/again.md": None if is_present else b"the same\n"}


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(CHANGES, min_size=2, max_size=4))
def test_what_is_let_in_verifies_and_what_is_refused_is_refused_in_words(fresh, changes):
    """Generated proposals, through the real gate, hook and merge; verify reads main after every one that got in."""
    proposals, refused_in_words = Proposals(fresh), []
    fresh.hook(True)
    for change in changes:
        try:
            land(fresh, proposals.files(*change), branch=f"branch-{next(proposals.numbers)}")
        except (InvalidInput, GateNotCleared, WaitingForPerson) as error:
            refused_in_words.append(error.message)
        fresh.holds()
        assert not pr_list.run(fresh.workspace, pr_list.PrListRequest()).unreadable
    assert all(refused_in_words)


@pytest.mark.parametrize("limit", ["file_bytes: 1000", "change_bytes: 1000"])
def test_a_limit_that_could_never_be_raised_again_is_refused(fresh, limit):
    """The policy's own file would have been too large for it."""
    closed(fresh, {POLICY: text(fresh, POLICY).replace("limits:\n", f"limits:\n  {limit}\n").encode()}, "1048576")


def test_under_the_smallest_limits_what_merges_still_verifies(fresh):
    """A merge adds two commits and its receipts: with one commit allowed, main died at the next merge."""
    tight = "".join(
        f"  {name}: {LEAST[name]}\n" for name in ("commits", "commits_bytes", "changed_paths", "path_bytes")
    )
    whole = text(fresh, POLICY)
    policy = "".join(line + "\n" for line in whole.splitlines() if line.strip().split(":")[0] not in LEAST)
    land(fresh, {POLICY: policy.replace("limits:\n", f"limits:\n{tight}").encode()}, branch="tight")
    assert fresh.governed().policy.limits.commits == 1
    fresh.hook(True)
    land(fresh, {"docs/x.md": b"x"}, branch="after")
    assert fresh.holds().changes == 2


def test_a_change_merged_reverted_and_proposed_again_verifies(fresh):
    """Its receipts had one folder for both decisions, so that nobody could ever merge it again."""
    for content in (b"x", None, b"x", None):
        land(fresh, {"docs/x.md": content}, branch=f"branch-{content!r}-{fresh.main()[:6]}")
    assert fresh.holds().changes == 4
