"""`modelsmith check` as CI runs it: a fresh clone of main, a workflow's token and event, and nothing else."""

import pytest
from markdown_it import MarkdownIt
from runners import check_conclusions, opened_event

from modelsmith.forges.github.faces import _summary
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.quoting import MOST, paged
from modelsmith.forges.port import Standing
from modelsmith.governance.named_checks import NAMES, NamedCheck

SEVEN = [f"modelsmith/{name}" for name in NAMES]


def states(answer):
    return {check["name"]: check["state"] for check in answer["checks"]}


def test_the_event_of_a_pull_request_names_it_and_seven_checks_are_shown(valid_hub, runner):
    pull = valid_hub.propose({"clusters/a.yaml": "one\n"})
    code, answer = runner.check("--event", "--report", name="pull_request_target", event=opened_event(pull.number))
    assert code == 3, "what stands there is no cluster"
    assert states(answer) == {
        "schema": "failure", "append-only": "success", "subject": "success", "evidence": "neutral",
        "policy": "success", "approvals": "action_required", "rollback": "neutral",
    }  # fmt: skip
    assert check_conclusions(valid_hub, pull.head) == {
        f"modelsmith/{name}": state for name, state in states(answer).items()
    }
    run = next(run for run in valid_hub.repo.runs if run["name"] == "modelsmith/schema")
    assert "clusters/a.yaml" in run["output"]["title"]


def test_it_waits_for_a_person_with_4_and_is_green_once_they_have_signed(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    code, answer = runner.check("--pr", str(pull.number), "--report")
    assert (code, answer["gate"], states(answer)["approvals"]) == (4, "waiting", "action_required")
    valid_hub.review("maya", pull)
    code, answer = runner.check("--pr", str(pull.number), "--report")
    assert (code, answer["gate"]) == (0, "open")
    assert check_conclusions(valid_hub, pull.head)["modelsmith/approvals"] == "success"


def test_an_event_that_is_replayed_says_what_holds_now(valid_hub, runner):
    """A delivery of long ago that somebody sends again, or a run of it that is started again."""
    pull = valid_hub.propose({"README.md": "Two.\n"})
    event = {"name": "pull_request_target", "event": opened_event(pull.number)}
    assert runner.check("--event", "--report", **event)[0] == 4
    valid_hub.review("maya", pull, "reject")
    assert runner.check("--event", "--report", **event)[0] == 3
    assert check_conclusions(valid_hub, pull.head)["modelsmith/approvals"] == "failure"
    valid_hub.repo.pulls[pull.number].state = "closed"
    before = len(valid_hub.repo.runs)
    code, answer = runner.check("--event", "--report", **event)
    assert (code != 0, len(valid_hub.repo.runs)) == (True, before), answer


def test_what_stands_there_already_is_not_shown_again(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    for _ in range(2):
        runner.check("--pr", str(pull.number), "--report")
    assert [run["name"] for run in valid_hub.repo.runs] == SEVEN


def test_a_check_that_somebody_else_wrote_over_ours_is_answered(valid_hub, runner):
    """By "Create a check run", whoever holds a workflow's token of the repository can write one of any name."""
    pull = valid_hub.propose({"README.md": "Two.\n"})
    runner.check("--pr", str(pull.number), "--report")
    forged = next(run for run in valid_hub.repo.runs if run["name"] == "modelsmith/approvals")
    valid_hub.repo.runs.append(forged | {"conclusion": "success", "id": 1})
    runner.check("--pr", str(pull.number), "--report")
    assert check_conclusions(valid_hub, pull.head)["modelsmith/approvals"] == "action_required"


def test_a_check_of_another_app_keeps_no_older_one_of_ours_standing(valid_hub, runner):
    """A workflow on the proposal's branch says first what is true now, so that the green that GitHub asks for stays."""
    pull = valid_hub.propose({"README.md": "Two.\n"})
    runner.check("--pr", str(pull.number), "--report")
    valid_hub.review("maya", pull, "reject")
    runner.check("--pr", str(pull.number), "--report")
    theirs = next(run for run in reversed(valid_hub.repo.runs) if run["name"] == "modelsmith/approvals")
    theirs["app"] = theirs["app"] | {"id": 99, "slug": "another"}
    runner.check("--pr", str(pull.number), "--report")
    ours = [run for run in valid_hub.repo.runs if run["name"] == theirs["name"] and run["app"] != theirs["app"]]
    assert ours[-1]["conclusion"] == "failure"


def test_with_a_persons_token_they_are_statuses(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    runner.token = valid_hub.tokens["maya"]
    assert runner.check("--pr", str(pull.number), "--report")[0] == 4
    assert valid_hub.repo.runs == []
    mine = {status["context"]: status["state"] for status in valid_hub.repo.statuses if status["sha"] == pull.head}
    assert [mine[name] for name in SEVEN] == ["success"] * 5 + ["pending", "success"]


def test_without_the_permission_it_says_which_one_and_fails(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    runner.token = valid_hub.github.workflow_token("contents", "pull_requests")
    code, answer = runner.check("--pr", str(pull.number), "--report")
    assert (code, answer["code"]) == (2, "token-too-weak")
    assert "checks=write" in answer["message"]


def test_one_that_was_only_opened_in_the_pages_waits_for_a_signature(valid_hub, runner):
    head = valid_hub.commit({"README.md": "Two.\n"})
    valid_hub.git.run("push", "-q", str(valid_hub.bare), f"{head}:refs/heads/theirs")
    pull = valid_hub.github.opened(valid_hub.repo, "erin-gh", "theirs", "A change")
    event = opened_event(pull.number)
    code, answer = runner.check("--event", "--report", name="pull_request_target", event=event)
    assert (code, set(states(answer).values())) == (4, {"action_required"})
    assert set(check_conclusions(valid_hub, head)) == set(SEVEN)


def test_a_branch_that_moved_is_refused_at_its_new_commit(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    moved = valid_hub.commit({"README.md": "Three.\n"}, pull.head)
    branch = valid_hub.repo.pulls[pull.number].head_ref
    valid_hub.git.run("push", "-q", "--force", str(valid_hub.bare), f"{moved}:refs/heads/{branch}")
    code, answer = runner.check("--pr", str(pull.number), "--report")
    assert (code, answer["commit"], states(answer)["subject"]) == (3, moved, "failure")
    assert check_conclusions(valid_hub, moved)["modelsmith/subject"] == "failure"


def queued(valid_hub, *heads, files=None):
    """What a merge queue makes, on a branch of its own: a merge of each head, one on the other."""
    base = tip = valid_hub.main()
    for head in heads:
        tree = valid_hub.forge_git.merge_tree(tip, head)
        tip = valid_hub.forge_git.commit_tree(tree, [tip, head], "Merge pull request\n", valid_hub.who)
    if files:
        tip = valid_hub.forge_git.commit_files(tip, files, "And more\n", valid_hub.who)
    valid_hub.forge_git.update_ref("refs/heads/gh-readonly-queue/main/pr-9-x", tip, None)
    return base, tip


def group(base, head):
    return {"action": "checks_requested", "merge_group": {"base_sha": base, "head_sha": head, "head_ref": "pr-99"}}


def test_a_merge_queues_commit_is_judged_as_the_pull_request_it_merges(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    valid_hub.review("maya", pull)
    base, tip = queued(valid_hub, pull.head)
    code, answer = runner.check("--event", "--report", name="merge_group", event=group(base, tip))
    assert (code, answer["number"], answer["commit"]) == (0, pull.number, tip)
    assert set(check_conclusions(valid_hub, tip)) == set(SEVEN)


def test_a_merge_queues_commit_that_holds_more_than_the_merge_is_refused(valid_hub, runner):
    pull = valid_hub.propose({"README.md": "Two.\n"})
    valid_hub.review("maya", pull)
    base, tip = queued(valid_hub, pull.head, files={"evals/x.yaml": b"more\n"})
    code, answer = runner.check("--event", name="merge_group", event=group(base, tip))
    assert (code, states(answer)["subject"]) == (3, "failure")


def test_a_merge_queue_takes_one_at_a_time(valid_hub, runner):
    pulls = [valid_hub.propose({f"notes/{name}": "One.\n"}, branch=name) for name in ("a", "b")]
    base, tip = queued(valid_hub, *(pull.head for pull in pulls))
    code, answer = runner.check("--event", name="merge_group", event=group(base, tip))
    assert (code, answer["code"]) == (3, "not-one-proposal")
    first = valid_hub.forge_git.text("rev-parse", f"{tip}^1")
    code, answer = runner.check("--range", f"{first}..{tip}")
    assert (code, states(answer)["subject"]) == (3, "failure"), "it was not made on main"


@pytest.mark.parametrize(
    ("name", "event", "code"),
    [
        ("push", {"ref": "refs/heads/main"}, "no-event"),
        ("pull_request_target", {"pull_request": {"number": "4; id"}}, "no-event"),
        ("merge_group", {"merge_group": {"base_sha": "main", "head_sha": "--output=x"}}, "no-event"),
        ("workflow_dispatch", {"inputs": {"number": "x"}}, "no-event"),
        ("pull_request_target", {"pull_request": {"number": 77}}, "unknown-pull"),
    ],
)
def test_an_event_that_names_no_proposal_is_refused(valid_hub, runner, name, event, code):
    ended, answer = runner.check("--event", name=name, event=event)
    assert (ended, answer["code"]) == (2, code)


def test_requests_do_not_grow_with_the_number_of_pull_requests(valid_hub, runner):
    first = valid_hub.propose({"notes/0": "x\n"}, branch="b0")

    def count_requests():
        before = len(valid_hub.github.asked)
        runner.check("--pr", str(first.number), "--report")
        return len(valid_hub.github.asked) - before

    count_requests()
    few = count_requests()
    for at in range(1, 4):
        valid_hub.propose({f"notes/{at}": "x\n"}, branch=f"b{at}")
    count_requests()
    assert count_requests() == few


HOSTILE = "``` \n# Big\n@maya <img src=x onerror=y> [x](https://evil.example) ![x](//e.example) #1 ```js </details>"


def test_what_a_proposal_says_is_only_words_in_a_check():
    """Read by a CommonMark parser: one block of text holds it all, and nothing else is there but our question."""
    text = _summary(NamedCheck("schema", "failure", HOSTILE, (HOSTILE, "plain")))
    tokens = MarkdownIt("commonmark").parse(text)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close", "fence"]
    assert tokens[-1].content.count("evil.example") == 2
    assert HOSTILE not in tokens[1].content
    long = _summary(NamedCheck("schema", "failure", "x", ("y" * 70_000,)))
    assert len(long) < 65_535
    assert "cut here" in long


def test_a_description_shows_the_page_and_its_openers_words_as_words(valid_hub):
    """Pictures are named in the repository itself, which a private one shows to whoever may read it."""
    pull = valid_hub.propose({"README.md": "Two.\n"})
    page = "**PASS**\n\n![Scores](/promotions/a/chart.svg)\n"
    forge = valid_hub.forge("smith")
    for _ in range(2):
        forge.announce(pull.number, lambda: Standing("waiting", "It waits.", (), (), page=page, words=HOSTILE))
    face = valid_hub.repo.pulls[pull.number]
    place = f"{valid_hub.github.web}/acme/promotions/blob/{pull.head}/promotions/a/chart.svg?raw=true"
    tokens = MarkdownIt("commonmark", {"html": True}).parse(face.body)
    inline = [child for token in tokens for child in token.children or []]
    assert [child.attrs["src"] for child in inline if child.type == "image"] == [place]
    assert not any(child.type in ("link_open", "html_inline") for child in inline)
    assert [token.content.strip() for token in tokens if token.type == "fence"] == [HOSTILE.strip()]
    assert len(valid_hub.github.rest_asked("PATCH", r"pulls/\d+$")) == 1, "it was written once"
    assert len(paged("x" * 60_000, "y" * 65_000, parse_place("github:a/b"), pull.head)) <= MOST
