"""What goes wrong at GitHub, and what the toolkit makes of it. The server's behaviour names GitHub's documentation."""

import subprocess
import time
from datetime import UTC, datetime
from email.utils import formatdate

import github_graphql
import pytest
from github_openapi import FILE, description

from modelsmith.forges.github.forge import GitHubForge
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.token import Token, find_token
from modelsmith.forges.port import ForgeIdentity, Standing
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.merge_decision import decide_merge
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
    WaitingForPerson,
)


@pytest.fixture
def hub(world, github):
    return world.at_github(github)


def forge(hub, token=None, actor="smith", private="private", naps=None, name="acme/promotions"):
    place = parse_place(f"github:{hub.github.web}/{name}")
    identity = ForgeIdentity(actor, hub.keys / actor)
    github_forge = GitHubForge(place, Token(token or hub.tokens[actor]), hub.folder / private, hub.git, identity)
    if naps is not None:
        github_forge._faces.rest._sleep = naps.append
    return github_forge


def code_of(call, kind=ModelsmithError):
    with pytest.raises(kind) as caught:
        call()
    assert not any(word in str(caught.value.envelope()) for word in ("github_pat_", "Basic "))
    return caught.value.code


def pushed(hub, branch, files=None, base=None):
    """A branch that somebody pushed with plain git."""
    head = hub.commit(files or {"evals/b.yaml": "two\n"}, base)
    hub.git.run("push", "-q", "--force", str(hub.bare), f"{head}:refs/heads/{branch}")
    return head


def test_the_servers_answers_are_held_against_githubs_description():
    if description() is None:
        pytest.skip(f"{FILE} is missing; `make openapi` fetches it where npm can")
    wrong = description().problems("GET", "/repos/a/b", 200, {"full_name": "a/b"}, None)
    assert any("'archived' is a required property" in problem for problem in wrong)


def test_what_is_asked_of_githubs_graphql_is_in_its_schema():
    schema = github_graphql.schema()
    if schema is None:
        pytest.skip(f"{github_graphql.FILE} is missing; `make openapi` fetches it where npm can")
    assert [github_graphql.wrong_with_query(schema, query) for query in github_graphql.queries()] == [[], []]
    assert github_graphql.wrong_with_query(schema, "{ repository(owner: 1) { pulls } }")
    entry = {"position": "first", "state": "QUEUED"}
    answer = {"data": {"enqueuePullRequest": {"mergeQueueEntry": entry}}}
    facts = {"id": "PR_1", "head": "0" * 40}
    assert github_graphql.wrong_with_answer(schema, github_graphql.queries()[1], facts, answer)
    entry["position"] = 1
    assert github_graphql.wrong_with_answer(schema, github_graphql.queries()[1], facts, answer) == []
    assert github_graphql.wrong_with_answer(schema, github_graphql.queries()[1], {"head": "0" * 40}, answer)


def test_without_a_token_the_error_says_which_one_to_make():
    with pytest.raises(InvalidInput, match="no token is given") as caught:
        find_token({})
    assert "Contents and Pull requests: read and write" in caught.value.mend
    assert find_token({"GITHUB_TOKEN": "one", "MODELSMITH_GITHUB_TOKEN": "two"}).reveal() == "two"
    assert "two" not in repr(find_token({"MODELSMITH_GITHUB_TOKEN": "two"}))


def test_a_token_that_has_ended_is_refused_in_words(hub):
    hub.github.tokens.pop(hub.tokens["smith"])
    assert code_of(hub.propose) == "token-refused"


def test_a_token_that_is_too_weak_names_the_permission_to_grant(hub):
    reads = hub.github.token("smith-gh", "contents")
    with pytest.raises(InvalidInput, match="pull_requests=write") as caught:
        forge(hub, reads).open(hub.proposal())
    assert (caught.value.code, "grant it pull_requests=write" in caught.value.mend) == ("token-too-weak", True)
    no_push = hub.github.token("smith-gh", "pull_requests")
    with pytest.raises(InvalidInput, match="Contents: read and write") as caught:
        forge(hub, no_push).open(hub.proposal())
    assert caught.value.code == "token-too-weak"


def test_the_token_is_no_argument_of_any_process(hub, monkeypatch):
    recorded, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda args, **more: (recorded.append(args), run(args, **more))[1])
    hub.propose()
    words = [str(word) for args in recorded for word in args]
    assert any("/acme/promotions.git" in word for word in words)
    assert not any("github_pat_" in word or "Authorization" in word for word in words)


def test_a_header_that_a_workflows_checkout_left_in_the_clone_is_not_sent(hub):
    hub.git.run("config", f"http.{hub.github.web}/.extraheader", "AUTHORIZATION: basic bm9ib2R5Om5vdGhpbmc=")
    assert hub.propose().status == "open"


@pytest.mark.parametrize(
    "named", ["github:acme", "github:http://github.example/a/b", "github:https://me:x@h/a/b", "github:a/b/c", "github:"]
)
def test_a_setting_that_names_no_repository_is_refused(named):
    assert code_of(lambda: parse_place(named)) == "bad-forge"


def test_enterprise_and_github_com_are_reached_where_they_are_documented():
    place = parse_place("github:acme/promotions")
    assert (place.url, place.api) == ("https://github.com/acme/promotions.git", "https://api.github.com")
    place = parse_place("github:https://github.example/acme/promotions")
    assert place.url == "https://github.example/acme/promotions.git"
    assert place.api == "https://github.example/api/v3"


def test_a_renamed_repository_is_named_and_not_followed(hub):
    hub.github.rename("acme/promotions", "acme/models")
    with pytest.raises(InvalidInput, match="acme/models") as caught:
        forge(hub).open(hub.proposal())
    assert caught.value.code == "moved-repository"
    assert not any(path.startswith("/acme/promotions.git") for _, path, _ in hub.github.asked), "git was not tried"


def test_an_archived_repository_can_be_read(hub):
    pull = hub.propose()
    hub.repo.archived = True
    assert hub.forge().get(pull.number) == pull
    assert code_of(lambda: hub.propose({"evals/c.yaml": "3\n"})) == "archived-repository"


def test_an_unknown_or_hidden_repository_is_named(hub):
    assert code_of(lambda: forge(hub, name="acme/other").main()) == "unknown-repository"


def test_an_empty_repository_has_no_main(hub):
    hub.forge_git.run("update-ref", "-d", "refs/heads/main")
    assert code_of(lambda: hub.forge().main()) == "no-main"


def test_a_default_branch_that_is_not_main_is_refused(hub):
    hub.repo.default_branch = "trunk"
    with pytest.raises(InvalidInput, match="'trunk'") as caught:
        hub.forge().main()
    assert caught.value.code == "other-default"


def test_what_was_opened_in_the_pages_waits_for_its_openers_signature(hub):
    head = pushed(hub, "fix")
    number = hub.github.opened(hub.repo, "dana-gh", "fix", "A fix").number
    pulls, waiting = hub.forge().survey("open")
    assert pulls == ()
    assert waiting[number].code == "unsigned-opening"
    assert code_of(lambda: hub.forge().get(number), WaitingForPerson) == "unsigned-opening"
    signed = hub.forge("dana").open(hub.proposal(head=head, branch="fix"))
    assert (signed.number, signed.preparer) == (number, "dana")
    assert len(hub.repo.pulls) == 1


def test_a_pull_request_from_a_fork_says_what_to_do(hub, tmp_path):
    fork = tmp_path / "fork.git"
    subprocess.run(["git", "clone", "-q", "--bare", hub.bare, fork], check=True)
    source = hub.github.add("eve/promotions", fork)
    head = hub.commit({"evals/b.yaml": "two\n"})
    hub.git.run("push", "-q", str(fork), f"{head}:refs/heads/fix")
    number = hub.github.opened(hub.repo, "eve", "fix", "A fix", source=source).number
    _, waiting = hub.forge().survey()
    assert "from a fork" in waiting[number].message
    assert f"refs/pull/{number}/head" in waiting[number].mend
    mine = hub.forge("dana").open(hub.proposal(head=head, branch="fix"))
    assert mine.number != number, "a fork's branch of that name is another's"


def test_a_force_push_after_the_approval_shuts_the_gate(hub):
    pull = hub.propose({"notes/a.txt": "seen"}, requester="maya")
    pushed(hub, "modelsmith/smith/change", {"notes/a.txt": "not seen"})
    moved = hub.forge().get(pull.number)
    assert (moved.head, moved.moved) == (pull.head, hub.repo.pulls[pull.number].sha)
    main = hub.forge().fetch_into(hub.git)
    refusals = [
        r.sentence for r in decide_merge(read_governed_state(hub.git, main), moved, datetime.now(UTC)).decision.refusals
    ]
    assert any("its branch moved on at the forge" in sentence for sentence in refusals)
    assert code_of(lambda: hub.merge(pull), GateNotCleared) == "branch-moved"
    again = hub.propose({"notes/a.txt": "seen"}, requester="maya")
    assert again.number > pull.number, "approvals of the old one do not speak of it"
    assert hub.forge().get(pull.number).status == "closed"


def test_reviews_in_the_pages_are_heard_with_their_commit_and_not_counted(hub):
    pull = hub.propose(requester="maya")
    old = pull.head
    face = hub.repo.pulls[pull.number]
    hub.github.reviewed(hub.repo, face, "dana-gh", "REQUEST_CHANGES", commit="1" * 40)
    hub.github.reviewed(hub.repo, face, "dana-gh", "APPROVE", commit=old)
    hub.github.reviewed(hub.repo, face, "noor-gh", "APPROVE", commit="2" * 40)
    pull_now = hub.forge().get(pull.number)
    assert [(entry.login, entry.verdict, entry.head) for entry in pull_now.heard] == [
        ("dana-gh", "approve", old),
        ("noor-gh", "approve", "2" * 40),
    ]
    main = hub.forge().fetch_into(hub.git)
    decision = decide_merge(read_governed_state(hub.git, main), pull_now, datetime.now(UTC)).decision
    assert decision.approvals == ()
    assert any("noor-gh approved at the forge, of another commit (222222222222)" in note for note in decision.notes)


def test_a_draft_waits_until_its_opener_calls_it_ready(hub):
    """GitHub refuses to merge drafts, and our own push must not be a way round that."""
    pull = hub.propose({"notes/a.txt": "x"}, requester="maya")
    for draft in (True, False):
        hub.repo.pulls[pull.number].draft = draft
        main = hub.forge().fetch_into(hub.git)
        pull_seen = hub.forge().get(pull.number)
        decision = decide_merge(read_governed_state(hub.git, main), pull_seen, datetime.now(UTC)).decision
        assert any("shows it as a draft" in refusal.sentence for refusal in decision.refusals) == draft


def test_what_github_has_just_made_and_does_not_know_is_asked_again(hub):
    """By bug reports of others: 404 for a pull request that was opened a second ago."""
    hub.github.fail("GET", r"/pulls/\d+$", "404", times=2)
    naps = []
    assert forge(hub, naps=naps).open(hub.proposal()).status == "open"
    assert naps == [1.0, 2.0]


def test_what_is_closed_in_the_pages_is_closed(hub):
    pull = hub.propose()
    hub.repo.pulls[pull.number].state = "closed"
    assert hub.forge().get(pull.number).status == "closed"
    assert [closed.number for closed in hub.forge().list("closed")] == [pull.number]
    assert hub.propose().number > pull.number


def test_github_s_word_that_one_is_merged_merges_nothing(hub):
    pull = hub.propose()
    face = hub.repo.pulls[pull.number]
    face.state, face.merge, face.merged_at = "closed", hub.main(), "2026-01-01T00:00:00Z"
    assert hub.forge().get(pull.number).status == "closed"
    assert hub.forge().list("merged") == ()


def test_a_log_that_was_taken_away_at_github_is_missed(hub):
    pull = hub.propose()
    hub.forge_git.run("update-ref", "-d", f"refs/modelsmith/pulls/{pull.number}")
    assert code_of(lambda: hub.forge().list(), IntegrityFailure) == "rewound-forge"


def test_github_s_own_merge_of_an_open_gate_is_merged_and_has_no_receipts(hub):
    """The merge button: main moves past us. What replay says of such a main is in tests/promotion/test_replay.py."""
    pull = hub.propose({"notes/a.txt": "x"}, requester="maya")
    hub.github.merged(hub.repo, hub.repo.pulls[pull.number])
    merged = hub.forge().get(pull.number)
    assert (merged.status, merged.merge) == ("merged", hub.main())


@pytest.mark.parametrize("how", ["502 before", "502 after"])
def test_no_answer_while_opening_doubles_nothing(hub, how):
    hub.github.fail("POST", r"/pulls$", how)
    pull = hub.propose()
    assert [opened.number for opened in hub.forge().list()] == [pull.number]
    assert len(hub.repo.pulls) == 1


def test_ended_between_opening_and_signing_a_rerun_signs_the_same_one(hub, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("modelsmith.forges.logs.SignedLogs.begin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            hub.propose()
    assert hub.forge().list() == ()
    pull = hub.propose()
    assert list(hub.repo.pulls) == [pull.number]


def test_no_answer_to_the_push_of_a_merge_is_looked_at(hub):
    pull = hub.propose({"notes/a.txt": "x"}, requester="maya")
    hub.github.fail("POST", r"git-receive-pack$", "502 after")
    merged = hub.merge(pull)
    assert merged.status == "merged"
    assert hub.forge_git.is_ancestor(merged.merge, hub.main())
    assert hub.forge().merge(pull.number, merged.merge, hub.main()) == merged


@pytest.mark.parametrize(
    ("how", "status", "nap"),
    [("secondary", 403, 1.0), ("429", 429, 1.0), ("abuse", 403, 60.0), ("too quickly", 422, 60.0)],
)
def test_a_secondary_rate_limit_is_waited_for_as_long_as_github_says(hub, how, status, nap):
    """Also in the words of older servers, and of who has made many pull requests one after another."""
    naps = []
    hub.github.fail("POST", r"/pulls$", how)
    forge(hub, naps=naps).open(hub.proposal())
    assert naps == [nap]
    assert hub.github.rest_asked("POST", r"/pulls$") == [status, 201]


def test_a_used_up_rate_limit_ends_the_command_with_the_time_to_come_back(hub):
    naps = []
    hub.github.fail("GET", r"/pulls", "primary")
    with pytest.raises(InfrastructureFailure, match="UTC") as caught:
        forge(hub, naps=naps).list("open")
    assert (caught.value.code, naps) == ("rate-limit", [])


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_a_limit_ends_by_githubs_clock_whatever_this_machines_says(hub, skew):
    import github

    naps, server_time = [], time.time() + skew
    headers = {
        "date": formatdate(server_time, usegmt=True), "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int(server_time) + 20),
    }  # fmt: skip
    answers = iter([github.GithubException(403, {"message": "API rate limit exceeded"}, headers), None])

    def call():
        if error := next(answers):
            raise error
        return "done"

    rest = forge(hub, naps=naps)._faces.rest
    assert rest.do("look", call) == "done"
    assert naps == [pytest.approx(21, abs=2)]


def test_a_list_that_has_not_changed_costs_nothing(hub):
    hub.propose()
    hub.forge().list("open")
    before = len(hub.github.asked)
    hub.forge().list("open")
    again = [status for _, path, status in hub.github.asked[before:] if path.startswith("/repos/")]
    assert again
    assert set(again) == {304}


def test_a_long_list_is_read_to_its_end(hub):
    for at in range(101):
        hub.forge_git.run("update-ref", f"refs/heads/b{at}", pushed(hub, "one") if at == 0 else "refs/heads/b0")
        hub.github.opened(hub.repo, "dana-gh", f"b{at}", "One")
    assert len(hub.forge().survey("open")[1]) == 101


def test_two_harnesses_that_propose_the_same_open_one_pull_request(hub):
    proposal = hub.proposal()
    first = forge(hub, private="here").open(proposal)
    second = forge(hub, private="there").open(proposal)
    assert first == second
    other = hub.proposal({"evals/b.yaml": "changed\n"})
    third = forge(hub, private="there").open(other)
    assert forge(hub, private="here").get(first.number).status == "closed"
    assert [pull.number for pull in forge(hub, private="here").list("open")] == [third.number]
    assert [pull.number for pull in hub.repo.pulls.values() if pull.state == "open"] == [third.number]


def test_rules_of_main_that_refuse_the_merge_are_told(hub):
    pull = hub.propose({"notes/a.txt": "x"}, requester="maya")
    hub.github.rules(hub.repo, "petra-gh")
    with pytest.raises(GateNotCleared, match="Changes must be made through a pull request") as caught:
        hub.merge(pull)
    assert caught.value.code == "branch-rules"
    assert hub.forge().get(pull.number).status == "open"
    hub.github.rules(hub.repo, "petra-gh", "smith-gh")
    assert hub.merge(pull).status == "merged"


def test_what_somebody_else_opened_is_not_for_everybody_to_close(hub):
    pull = hub.propose(requester="dana")
    assert code_of(lambda: hub.forge("noor").close(pull.number, "no"), GateNotCleared) == "not-yours-to-close"
    assert hub.repo.pulls[pull.number].state == "open"


def test_an_openers_words_are_no_markup_at_github(hub):
    body = "@everyone ```` see #1\n```\n<img src=x>"
    pull = hub.propose(body=body)
    body_shown = hub.repo.pulls[pull.number].body
    fence = body_shown.splitlines()[0].removesuffix("text")
    assert set(fence) == {"`"}
    assert body_shown.split(fence)[1] == f"text\n{body}\n"
    assert hub.forge().get(pull.number).body == body


def standing(line, gate="waiting", details=(), reviewers=(), labels=()):
    return lambda: Standing(gate, line, details, tuple({"github": login} for login in reviewers), labels=labels)


def test_how_the_gate_stands_is_one_comment_a_status_and_reviewers(hub):
    pull = hub.propose()
    for line in ("It waits for @platform.", "It waits for @platform.", "It waits for @domain-lead."):
        hub.forge().announce(pull.number, standing(line, reviewers=("maya-gh", "smith-gh")))
    face = hub.repo.pulls[pull.number]
    (comment,) = face.comments
    assert "It waits for @domain-lead." in comment["body"]
    assert f"modelsmith approve {pull.number}" in comment["body"]
    assert face.requested == ["maya-gh"], "who opened it there cannot be asked"
    assert [(status["context"], status["state"], status["sha"]) for status in hub.repo.statuses] == [
        ("modelsmith/gate", "pending", pull.head)
    ] * 2
    assert len(hub.github.rest_asked("POST", r"comments$")) == 1


def test_a_stranger_s_comment_with_our_mark_is_not_taken_for_ours(hub):
    """In a public repository anybody may comment: they would write "Gate: open" over what we put into theirs."""
    hub.repo.private = False
    pull = hub.propose()
    face = hub.repo.pulls[pull.number]
    forge(hub)._faces.say(pull.number, "**Gate: open.**")
    theirs = face.comments[0] | {"author_association": "NONE", "user": hub.github._user("stranger-gh")}
    face.comments[0] = theirs
    for line in ("It waits for @platform.", "It waits for @domain-lead."):
        hub.forge().announce(pull.number, standing(line))
    first, second = face.comments
    assert first == theirs
    assert "It waits for @domain-lead." in second["body"]


def test_labels_follow_the_gate_and_nobody_elses_label_is_touched(hub):
    pull = hub.propose()
    face = hub.repo.pulls[pull.number]
    hub.forge().announce(pull.number, standing("It waits.", labels=("gate waiting", "candidate")))
    assert face.labels == ["modelsmith: candidate", "modelsmith: gate waiting"]
    face.labels += ["urgent", "modelsmith"]
    hub.forge().announce(pull.number, standing("It is open.", gate="open", labels=("gate open", "candidate")))
    assert sorted(face.labels) == ["modelsmith", "modelsmith: candidate", "modelsmith: gate open", "urgent"]
    before = len(hub.github.asked)
    hub.forge().announce(pull.number, standing("It is open.", gate="open", labels=("gate open", "candidate")))
    assert {method for method, _, _ in hub.github.asked[before:]} == {"GET"}, "what stands there is not written again"


def test_a_label_that_cannot_be_written_keeps_the_comment_from_nobody(hub):
    pull = hub.propose()
    hub.github.fail("POST", r"/labels$", "primary")
    hub.forge().announce(pull.number, standing("It waits.", labels=("gate waiting",)))
    assert len(hub.repo.pulls[pull.number].comments) == 1


@pytest.mark.parametrize("how", ["502 before", "502 after"])
def test_no_answer_to_a_comment_says_it_once(hub, how):
    pull = hub.propose()
    hub.github.fail("POST", r"comments$", how)
    hub.forge().announce(pull.number, standing("It waits."))
    assert len(hub.repo.pulls[pull.number].comments) == 1


def test_what_others_wrote_is_no_markup_in_the_comment(hub):
    pull = hub.propose()
    hub.forge().announce(pull.number, standing("a ``` b", gate="closed", details=("@everyone ```` <img src=x>",)))
    body = hub.repo.pulls[pull.number].comments[0]["body"]
    assert "````text\na ``` b\n````\n" in body
    assert "`````text\n@everyone ```` <img src=x>\n`````\n" in body


def test_what_cannot_be_announced_stops_nothing(hub):
    weak = hub.github.token("smith-gh", "contents", "pull_requests")
    pull = hub.propose()
    forge(hub, weak).announce(pull.number, standing("It waits.", reviewers=("nobody-there",)))
    assert len(hub.repo.pulls[pull.number].comments) == 1
    assert hub.repo.statuses == []


def test_the_server_refuses_as_github_documents(hub):
    """422 for authors, 409 for a moved head, 405 without approval: "REST API endpoints for pull requests"."""
    import github

    pull = hub.propose()
    hub.repo.needs_approval = True

    def as_(actor):
        login = github.Github(auth=github.Auth.Token(hub.tokens[actor]), base_url=hub.github.api, retry=None)
        return login.get_repo("acme/promotions").get_pull(pull.number)

    refusals = []
    for call in (
        lambda: as_("smith").create_review(event="APPROVE"),
        lambda: as_("maya").merge(sha="1" * 40),
        lambda: as_("maya").merge(sha=pull.head),
    ):
        with pytest.raises(github.GithubException) as caught:
            call()
        refusals.append(caught.value.status)
    assert refusals == [422, 409, 405]


def test_the_number_of_requests_does_not_grow_with_history(hub):
    def count_requests(call):
        before = len(hub.github.asked)
        call()
        return len(hub.github.asked) - before

    def costs(at):
        proposal = hub.proposal({"notes/a.txt": f"{at}"}, requester="maya", branch=f"counted-{at}")
        opened = []
        return (
            count_requests(lambda: hub.forge().list("open")),
            count_requests(lambda: opened.append(hub.forge().open(proposal))),
            count_requests(lambda: hub.merge(opened[0])),
        )

    costs(0)
    few = costs(1)
    for at in range(3):
        pull = hub.propose({f"evals/{at}.yaml": "x\n"}, branch=f"old-{at}")
        hub.repo.pulls[pull.number].state = "closed"
    assert costs(2) == few


def test_a_proposal_of_3001_files_is_judged_whole_or_not_at_all(hub):
    """GitHub's list of a pull request's files ends at 3,000; the gate reads git, and policy says how many it takes."""
    files = {f"evals/{at:04}.yaml": "x\n" for at in range(3001)}
    pull = hub.propose(files, requester="maya")
    main = hub.forge().fetch_into(hub.git)
    decided = decide_merge(read_governed_state(hub.git, main), hub.forge().get(pull.number), datetime.now(UTC))
    assert len(decided.change.paths) == 3001
    assert not hub.github.rest_asked("GET", r"/files")
