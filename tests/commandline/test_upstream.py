"""The toolkit's own repository: its changes come in and leave a team's files, and nothing private goes out."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime

import pytest
from worlds import CLUSTER

from modelsmith.governance.staying import internal_host, why_it_stays
from modelsmith.operations import upstream_contribute, upstream_pull, upstream_status
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import GateNotCleared, InvalidInput, ModelsmithError

WHO = Ident("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))
TOOLKIT = {
    "modelsmith/a.py": b"a = 1\n",
    "docs/page.md": b"One\n\nTwo\n\nThree\n",
    "evals/sample/set.yaml": b"theirs\n",
}


class Pair:
    """A team's clone that was mirrored from upstream, and upstream."""

    def __init__(self, world, folder):
        self.git, self.workspace = world.git, Workspace(world.clone)
        self.clone = world.clone
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder], check=True)
        self.upstream = Git(folder)
        start = self.upstream.commit_files(None, TOOLKIT, "Toolkit\n", WHO)
        self.upstream.update_ref("refs/heads/main", start, None)
        self.git.run("fetch", "-q", str(folder), "main")
        ours = {path: None for path in TOOLKIT if path.startswith("evals/")}
        mine = self.git.rev("main")
        files = {p: self.git.read_blob(oid) for p, (_, oid) in self.git.list_tree(mine).items()}
        joined = self.git.commit_files(start, files | ours, "Ours\n", WHO, extra_parents=[mine])
        self.git.run("reset", "--quiet", "--hard", joined)
        self.git.run("remote", "add", "upstream", str(folder))

    def there(self, files):
        tip = self.upstream.commit_files(self.upstream.rev("main"), files, "A change there\n", WHO)
        self.upstream.update_ref("refs/heads/main", tip, self.upstream.rev("main"))
        return tip

    def here(self, files, branch="main"):
        commit = self.git.commit_files(self.git.rev("main"), files, f"Maya of {CLUSTER} did it\n", WHO)
        self.git.update_ref(f"refs/heads/{branch}", commit, self.git.rev(f"refs/heads/{branch}"))
        return commit

    def contribute(self, files, **words):
        self.git.run("branch", "--quiet", "-D", "fix") if self.git.rev("refs/heads/fix") else None
        self.here(files, "fix")
        fields = {"branch": "fix", "title": "Mend it", "author": "Ann Other <ann@example.org>"} | words
        return upstream_contribute.run(self.workspace, upstream_contribute.UpstreamContributeRequest(**fields))

    def pull(self):
        return upstream_pull.run(self.workspace, upstream_pull.UpstreamPullRequest())

    def status(self):
        return upstream_status.run(self.workspace, upstream_status.UpstreamStatusRequest())


@pytest.fixture
def pair(fresh, tmp_path):
    return Pair(fresh, tmp_path / "upstream.git")


def test_a_pull_brings_the_toolkit_and_leaves_a_teams_files(pair):
    before = pair.git.rev("main")
    assert pair.pull().branch is None
    pair.there(
        {"modelsmith/a.py": b"a = 2\n", "evals/sample/set.yaml": b"other\n", f"clusters/{CLUSTER}/x.yaml": b"y\n"}
    )
    assert pair.status().incoming == ("modelsmith/a.py",)
    pulled = pair.pull()
    assert pulled.paths == ("modelsmith/a.py",)
    assert pulled.left == (f"clusters/{CLUSTER}/x.yaml", "evals/sample/set.yaml")
    assert pair.git.text("rev-parse", f"{pulled.commit}^@") == before == pair.git.rev("main"), "one commit on main"
    assert pair.pull() == pulled


def test_a_second_pull_begins_where_the_first_ended(pair):
    pair.there({"docs/page.md": b"One!\n\nTwo\n\nThree\n"})
    pair.git.run("reset", "--quiet", "--hard", pair.pull().commit)
    pair.here({"docs/page.md": b"Our own\n\nTwo\n\nThree\n"})
    pair.there({"docs/page.md": b"One!\n\nTwo\n\nThree!\n"})
    pulled = pair.pull()
    assert pair.git.text("show", f"{pulled.commit}:docs/page.md") == "Our own\n\nTwo\n\nThree!"


def test_a_commit_that_only_says_that_it_pulled_withholds_nothing(pair):
    """A proposal's message is anybody's: it names upstream's mend as pulled, and brings something else, or nothing."""
    mended = pair.there({"modelsmith/a.py": b"a = 2\n"})
    other = pair.git.commit_files(pair.git.rev("main"), {"notes.md": b"x\n"}, f"Notes\n\nUpstream: {mended}\n", WHO)
    pair.git.update_ref("refs/heads/main", other, pair.git.rev("main"))
    assert pair.status().incoming == ("modelsmith/a.py",)
    assert pair.pull().paths == ("modelsmith/a.py",)


@pytest.mark.parametrize("name", ["GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"])
def test_a_variable_that_has_git_fetch_elsewhere_is_named(pair, monkeypatch, tmp_path, name):
    """One that a calling git left there; of another folder's objects the clone would have names and nothing else."""
    mended = pair.there({"modelsmith/a.py": b"a = 2\n"})
    for value in (str(tmp_path), "/nonexistent"):
        monkeypatch.setenv(name, value)
        with pytest.raises(InvalidInput, match=f"{name} would have git fetch") as caught:
            pair.status()
        assert f"env -u {name} modelsmith upstream" in caught.value.mend
    assert pair.git.rev("refs/remotes/upstream/main") is None
    monkeypatch.delenv(name)
    assert pair.status().incoming == ("modelsmith/a.py",)
    assert pair.git.rev("refs/remotes/upstream/main") == mended


def test_what_both_sides_changed_is_a_conflict_with_its_path(pair):
    pair.here({"modelsmith/a.py": b"a = 3\n"})
    pair.there({"modelsmith/a.py": b"a = 2\n"})
    with pytest.raises(GateNotCleared, match=r"modelsmith/a\.py"):
        pair.pull()


def test_a_contribution_is_one_commit_on_upstreams_main_and_no_more(pair):
    tip = pair.there({"docs/other.md": b"Other\n"})
    result = pair.contribute({"modelsmith/a.py": b"a = 2\n"}, body="It was wrong.")
    assert result.paths == ("modelsmith/a.py",)
    assert pair.git.text("rev-list", f"{tip}..{result.branch}").split() == [result.commit]
    assert set(pair.git.list_tree(result.commit)) == {*TOOLKIT, "docs/other.md"}
    raw = pair.git.text("cat-file", "commit", result.commit)
    assert "Ann Other <ann@example.org>" in raw
    assert not any(private in raw for private in ("Somebody", "Maya", CLUSTER, "somebody@"))
    assert pair.contribute({"modelsmith/a.py": b"a = 2\n"}, body="It was wrong.") == result


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB\n" * 8
PRIVATE = {
    "a rubric": {f"evals/adtech/{CLUSTER}/rubric.yaml": b"x: 1\n"},
    "deployment state": {f"clusters/{CLUSTER}/routing.yaml": b"x: 1\n"},
    "a governed file in another spelling": {"Promotions/x/record.json": b"{}\n"},
    "evidence": {"promotions/a/b/02-eval-accepted/evidence.json": b"{}\n"},
    "who decides": {".github/governance/people.yaml": b"x: 1\n"},
    "owners": {".github/CODEOWNERS": b"* @petra\n"},
    "a dataset": {"docs/answers.jsonl": b"{}\n"},
    "weights": {"docs/adapter.safetensors": b"x"},
    "a key's file": {"docs/deploy.pem": b"x\n"},
    "a setting with secrets": {"docs/.env": b"X=1\n"},
    "a key in a page": {"docs/page.md": KEY + b"-----END OPENSSH PRIVATE KEY-----\n"},
    "a token": {"modelsmith/a.py": b"t = 'ghp_" + b"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8'\n"},
    "an internal host": {"modelsmith/a.py": b"url = 'https://vllm.gpu-7.corp/v1'\n"},
    "a host without a dot": {"docs/page.md": b"See http://gpu7:8000/v1\n"},
    "an address": {"docs/page.md": b"ssh 10.12.0.7\n"},
    "a person": {"docs/page.md": b"Ask petra about it.\n"},
    "a cluster": {"docs/page.md": f"As in {CLUSTER}.\n".encode()},
    "a cluster as programs write it": {"modelsmith/a.py": f"test_{CLUSTER.replace('-', '_')}_2 = 1\n".encode()},
    "a cluster as a class": {"modelsmith/a.py": f"class {CLUSTER.title().replace('-', '')}: ...\n".encode()},
    "a cluster in a name": {f"docs/{CLUSTER}.md": b"x\n"},
    "bytes": {"docs/picture.bmp": b"\xff\xfe\x00"},
}


@pytest.mark.parametrize("kind", PRIVATE)
def test_private_data_that_was_planted_does_not_leave(pair, kind):
    with pytest.raises(InvalidInput) as caught:
        pair.contribute({"modelsmith/a.py": b"a = 2\n"} | PRIVATE[kind])
    assert caught.value.code == "stays-here"
    assert pair.git.rev("refs/heads/contribute/fix") is None
    assert not any(word in str(caught.value.envelope()) for word in ("ghp_", "b3BlbnNz", "gpu-7", "10.12"))


@pytest.mark.parametrize(
    "words", [{"title": f"As {CLUSTER} wants"}, {"body": "See https://wiki.intranet/x"}, {"body": "petra said so"}]
)
def test_words_of_a_contribution_are_looked_at_too(pair, words):
    with pytest.raises(InvalidInput) as caught:
        pair.contribute({"modelsmith/a.py": b"a = 2\n"}, **words)
    assert caught.value.code == "stays-here"


def test_a_name_that_upstream_knows_is_no_secret(pair):
    pair.there({"docs/sample.md": f"The sample {CLUSTER}.\n".encode()})
    assert pair.contribute({"docs/page.md": f"One\n\n{CLUSTER}\n\nThree\n".encode()}).paths == ("docs/page.md",)


def test_without_an_upstream_the_error_says_how_to_name_one(pair):
    pair.git.run("remote", "remove", "upstream")
    with pytest.raises(InvalidInput, match="toolkit's own repository") as caught:
        pair.status()
    assert caught.value.code == "no-upstream"
    pair.git.run("remote", "add", "upstream", "ext::sh -c evil")
    with pytest.raises(ModelsmithError) as caught:
        pair.status()
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize(
    "text",
    ["threading.local()", "workspace.private", "https://github.com/x", "127.0.0.1", "http://localhost:8000/", "a.b"],
)
def test_what_programs_are_full_of_is_no_internal_host(text):
    assert internal_host(text) is None


@pytest.mark.parametrize("path", ["modelsmith/points/a.py", "docs/x.md", "runbooks/on-call.md", "tests/test_a.py"])
def test_what_flows_upstream_flows(path):
    assert why_it_stays(path, upstream_has_it=False) is None
