"""The governance root: what its fingerprint covers, and which commit of main it is."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from modelsmith.promotion.root import find_root, root_fingerprint
from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import IntegrityFailure

from .conftest import WHO

POLICY = ".github/governance/policy.yaml"


def fingerprint(git, commit):
    with ObjectReader(git.path) as reader:
        return root_fingerprint(reader, commit)


def root_of(git, tip, pinned=None):
    with ObjectReader(git.path) as reader:
        log = reader.first_parent_log(tip)
        index, root = find_root(reader, log, pinned)
        return log[index].id, root


@pytest.mark.parametrize(
    "path",
    [
        ".github/CODEOWNERS",
        POLICY,
        ".github/governance/trust/harness.pem",
        "evals/adtech/rtb-root-cause/rubrics/root-cause.yaml",
        "clusters/rtb-pricing/cluster.yaml",
        "promotions/rtb-pricing/iter-001-00000000/01-candidate/training.json",
        "README.md",
    ],
)
def test_every_file_of_the_root_counts(repository, path):
    text = repository.main.tree.read(path) if repository.main.tree.exists(path) else b""
    edited = repository.commit({path: text + b"\n"}).tip
    assert fingerprint(repository.git, edited) != fingerprint(repository.git, repository.tip)


def test_a_name_or_mode_counts_as_well(repository):
    git = repository.git
    moved = repository.commit({"README.md": None, "READ.md": repository.main.tree.read("README.md")})
    tree = git.text("ls-tree", repository.tip).replace("100644 blob", "100755 blob", 1)
    executable = git.commit_tree(git.text("mktree", input=f"{tree}\n".encode()), [], "m", WHO)
    roots = {fingerprint(git, commit) for commit in (repository.tip, moved.tip, executable)}
    assert len(roots) == 3


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_mirror_keeps_its_root_whatever_its_commits_and_hashes_are(tmp_path, algorithm):
    subprocess.run(["git", "init", "--quiet", f"--object-format={algorithm}", tmp_path / "g"], check=True)
    git = Git(tmp_path / "g")
    root = fingerprint(git, git.commit_files(None, {"a": b"1", "b/c": b"2"}, "Another author, time and message\n", WHO))
    files = [
        [name, "100644", f"sha256:{hashlib.sha256(data).hexdigest()}"] for name, data in (("a", b"1"), ("b/c", b"2"))
    ]
    assert root == f"sha256:{hashlib.sha256(json.dumps(files, separators=(',', ':')).encode()).hexdigest()}"


def test_a_fork_of_the_toolkit_is_governed_from_its_first_policy_on(repository):
    git = repository.git
    fork = git.commit_files(None, {"modelsmith/__init__.py": b""}, "The toolkit\n", WHO)
    fork = git.commit_files(fork, {"promotions/README.md": b"Nothing yet.\n"}, "More of it\n", WHO)
    governed = git.commit_tree(git.text("rev-parse", f"{repository.tip}^{{tree}}"), [fork], "Govern it\n", WHO)
    later = git.commit_files(governed, {"README.md": b"x"}, "m", WHO)
    assert root_of(git, later) == (governed, fingerprint(git, repository.tip))
    assert root_of(git, later, fingerprint(git, later))[0] == later, "a later one can be pinned"


def test_a_root_that_is_not_there_is_refused(repository):
    with pytest.raises(IntegrityFailure) as refused:
        root_of(repository.git, repository.tip, "sha256:" + "0" * 64)
    assert refused.value.code == "unknown-root"


def test_a_commit_that_holds_promotions_already_is_no_root(repository):
    git, with_candidate = repository.git, repository.after("candidate")
    tree = git.text("rev-parse", f"{with_candidate.tip}^{{tree}}")
    ready_made = git.commit_tree(tree, [], "Start\n", WHO)
    for pinned in (None, fingerprint(git, ready_made)):
        with pytest.raises(IntegrityFailure) as refused:
            root_of(git, ready_made, pinned)
        assert refused.value.code == "unknown-root"
    with pytest.raises(IntegrityFailure):
        root_of(git, with_candidate.tip, fingerprint(git, with_candidate.tip))


def test_a_repository_without_any_policy_is_refused(repository):
    with pytest.raises(IntegrityFailure) as refused:
        root_of(repository.git, repository.git.commit_files(None, {"a": b""}, "m", WHO))
    assert refused.value.code == "unknown-root"
