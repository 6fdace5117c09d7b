"""GitHub merges by itself, where its rules want that, and receipts follow: what holds in between, and afterwards."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from github_openapi import description
from github_settings import SettingsServer
from github_world import make_world
from worlds import World

from modelsmith.forges.github.forge import GitHubForge
from modelsmith.forges.github.rest import Rest
from modelsmith.operations import approve, pr_merge, pr_open, pr_receipts, verify
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, WaitingForPerson

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "modelsmith-receipts.yml"


@pytest.fixture(scope="module")
def template(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("github-world")
    with SettingsServer(folder / "github", description()) as server:
        make_world(folder / "world", server, tiny_model)
    return World(folder / "world")


@pytest.fixture
def github(tmp_path):
    with SettingsServer(tmp_path / "github", description()) as server:
        yield server
    assert server.wrong == []


@pytest.fixture
def context(template, tmp_path, github, monkeypatch):
    world = template.copied_to(tmp_path / "world")
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    github.add("acme/promotions", world.forge)
    world.git.run("config", "modelsmith.forge", f"github:{github.web}/acme/promotions")
    return IterationContext(world, github, monkeypatch)


class IterationContext:
    def __init__(self, world, github, monkeypatch):
        self.world, self.github, self.patch = world, github, monkeypatch
        self.repo = github.repos["acme/promotions"]
        self.workspace = Workspace(world.clone)
        self.tokens = {name: github.token(f"{name}-gh") for name in ("harness", "petra", "maya")}

    def as_(self, name):
        self.patch.setenv("MODELSMITH_GITHUB_TOKEN", self.tokens[name])
        return self.workspace

    def key(self, name):
        return self.world.folder / "people" / name

    def proposed(self, branch="docs", approved=True):
        """A page that Maya proposes and Petra decides about."""
        self.world.commit(branch, {f"{branch}.md": "A page.\n"})
        workspace = self.as_("maya")
        request = pr_open.PrOpenRequest(branch=branch, title="A page", key=self.key("maya"))
        number = pr_open.run(workspace, request).pull.number
        if approved:
            approve.run(self.as_("petra"), approve.ApproveRequest(number=number, key=self.key("petra")))
        return number

    def merge(self, number, name="harness"):
        return pr_merge.run(self.as_(name), pr_merge.PrMergeRequest(number=number))

    def receipts(self):
        return pr_receipts.run(self.as_("harness"), pr_receipts.PrReceiptsRequest()).pulls

    def verified(self):
        return verify.run(self.workspace, verify.VerifyRequest(revision="refs/modelsmith/main"))

    def not_verified(self):
        self.fetched()
        with pytest.raises(IntegrityFailure) as caught:
            self.verified()
        return caught.value

    def fetched(self):
        self.world.git.run("fetch", "-q", str(self.world.forge), "+refs/heads/main:refs/modelsmith/main")


def test_where_main_wants_pull_requests_github_merges_and_receipts_follow(context):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh")
    merged = context.merge(number)
    assert context.github.rest_asked("PUT", rf"/pulls/{number}/merge$") == [200]
    assert context.world.git.text("log", "-1", "--format=%cn", merged.merge) == "GitHub", "the merge is GitHub's own"
    assert context.verified().changes == 1
    assert context.merge(number) == merged


def test_who_is_on_no_bypass_list_merges_and_another_adds_the_receipts(context):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh")
    with pytest.raises(WaitingForPerson, match="may not push its receipts") as caught:
        context.merge(number, "petra")
    assert (caught.value.code, caught.value.next.arguments) == ("receipts-missing", {"number": number})
    assert "`modelsmith pr receipts` adds them" in context.not_verified().message
    context.merge(number)
    assert context.verified().changes == 1


def test_githubs_button_and_receipts_that_follow_are_a_merge(context):
    number = context.proposed()
    context.github.merged(context.repo, context.repo.pulls[number])
    context.merge(number)
    assert context.verified().approvals == 1


def test_the_receipts_workflow_adds_those_of_what_buttons_merged(context):
    numbers = [context.proposed("one"), context.proposed("two")]
    for number in numbers:
        context.github.merged(context.repo, context.repo.pulls[number])
    context.as_("harness")
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    (step,) = job["steps"]
    assert "env" not in step, "nothing of the event is read"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    rows = [context.world.run("bash", "-e", "-c", step["run"], env=environment) for _ in range(2)]
    assert [row.code for row in rows] == [0, 0], rows
    assert re.findall(r"receipts of (\d+), merged as", rows[0].out) == [str(number) for number in numbers]
    assert rows[1].out.strip() == "no merge waits for receipts"
    assert context.verified().approvals == 2


def test_it_stops_at_a_merge_past_the_gate_and_says_so(context):
    number = context.proposed(approved=False)
    context.github.merged(context.repo, context.repo.pulls[number])
    with pytest.raises(IntegrityFailure, match="waits for") as caught:
        context.receipts()
    assert caught.value.code == "merged-past-gate"


def test_a_button_pressed_past_the_gate_gets_no_receipts(context):
    number = context.proposed(approved=False)
    context.github.reviewed(context.repo, context.repo.pulls[number], "petra-gh", "APPROVE")
    context.github.merged(context.repo, context.repo.pulls[number])
    before = context.world.main()
    with pytest.raises(IntegrityFailure, match="waits for") as caught:
        context.merge(number)
    assert (caught.value.code, context.world.main()) == ("merged-past-gate", before)


def test_ended_between_merge_and_receipts_a_rerun_adds_them(context, monkeypatch):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh")
    with monkeypatch.context() as patch:
        patch.setattr(GitHubForge, "add_receipts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            context.merge(number)
    context.not_verified()
    context.merge(number)
    assert context.verified().changes == 1
    assert context.github.rest_asked("PUT", "merge$") == [200], "it was merged once"


@pytest.mark.parametrize("how", ["502 before", "502 after"])
def test_no_answer_to_the_merge_is_looked_at_and_merges_once(context, how):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh")
    context.github.fail("PUT", "merge$", how)
    if how == "502 before":
        with pytest.raises(Exception, match="did not say whether it could merge"):
            context.merge(number)
    context.merge(number)
    assert context.verified().changes == 1


@pytest.mark.parametrize("how", ["main moved", "not known yet"])
def test_a_no_of_github_that_passes_by_itself_is_no_end(context, monkeypatch, how):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh")
    monkeypatch.setattr(Rest, "pause", lambda *_: None)
    context.github.fail("PUT", "merge$", how, times=2)
    context.merge(number)
    assert context.github.rest_asked("PUT", "merge$") == [405, 405, 200]
    assert context.verified().changes == 1


@pytest.mark.parametrize("method", ["land", "merge"])
def test_two_harnesses_that_merge_the_same_at_once_merge_it_once(context, monkeypatch, method):
    """``land``: GitHub merges; ``merge``: we push. The other one is done between our judgement and our merge."""
    number = context.proposed()
    if method == "land":
        context.github.rules(context.repo, "harness-gh")
    other = Workspace(shutil.copytree(context.world.clone, context.world.folder / "other", symlinks=True))
    original = getattr(GitHubForge, method)

    def slower(forge, *words):
        monkeypatch.setattr(GitHubForge, method, original)
        pr_merge.run(other, pr_merge.PrMergeRequest(number=number))
        return original(forge, *words)

    monkeypatch.setattr(GitHubForge, method, slower)
    merged = context.merge(number)
    assert merged == pr_merge.run(other, pr_merge.PrMergeRequest(number=number))
    context.fetched()
    assert context.verified().changes == 1


def test_receipts_of_what_was_merged_before_come_first(context):
    first, second = context.proposed(), context.proposed("other")
    context.github.rules(context.repo, "harness-gh")
    context.github.merged(context.repo, context.repo.pulls[first])
    context.merge(second)
    assert context.verified().changes == 2


def test_main_that_moves_while_github_merges_is_judged_as_it_became(context, monkeypatch):
    first, second = context.proposed(), context.proposed("other")
    context.github.rules(context.repo, "harness-gh")
    land = GitHubForge.land

    def slower(forge, number, message):
        monkeypatch.setattr(GitHubForge, "land", land)
        context.github.merged(context.repo, context.repo.pulls[second])
        return land(forge, number, message)

    monkeypatch.setattr(GitHubForge, "land", slower)
    context.merge(first)
    assert context.verified().changes == 2


def test_queued_is_not_merged_and_receipts_come_when_the_queue_has_merged(context):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh", rules=[QUEUE])
    context.repo.queue = []
    for _ in range(2):
        with pytest.raises(WaitingForPerson, match=r"at place 1 .* not merged") as caught:
            context.merge(number)
        assert caught.value.code == "queued"
    assert context.repo.queue == [number], "it is queued once"
    context.github.run_queue(context.repo)
    context.merge(number)
    assert context.verified().changes == 1


def test_what_the_queue_took_out_is_said_and_queued_again(context):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh", rules=[QUEUE])
    context.repo.queue = []
    with pytest.raises(WaitingForPerson):
        context.merge(number)
    context.github.run_queue(context.repo, refuse="failed checks")
    with pytest.raises(WaitingForPerson, match="had taken it out before, because: failed checks"):
        context.merge(number)


def test_githubs_own_no_is_told_and_nothing_is_merged(context):
    number = context.proposed()
    context.github.rules(context.repo, "harness-gh")
    context.repo.needs_approval = True
    with pytest.raises(GateNotCleared, match="At least 1 approving review is required") as caught:
        context.merge(number)
    assert caught.value.code == "branch-rules"
    context.github.reviewed(context.repo, context.repo.pulls[number], "petra-gh", "APPROVE")
    context.merge(number)
    assert context.verified().changes == 1


QUEUE = {
    "type": "merge_queue",
    "parameters": {
        "merge_method": "MERGE", "grouping_strategy": "ALLGREEN", "max_entries_to_build": 5, "max_entries_to_merge": 5,
        "min_entries_to_merge": 1, "min_entries_to_merge_wait_minutes": 0, "check_response_timeout_minutes": 60,
    },
}  # fmt: skip
