"""What `modelsmith doctor` finds about GitHub's own rules of main, and what it sets. GitHub's pages are named there."""

import pytest
from github_settings import ADMIN, owners_error

from modelsmith.forges.github.answers import Rule
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.rest import Rest
from modelsmith.forges.github.rules import CHECKS, effective, findings
from modelsmith.forges.github.ruleset import difference, wanted_ruleset
from modelsmith.forges.github.settings import ACTIONS, read_settings, write_ruleset
from modelsmith.forges.github.token import Token
from modelsmith.operations.doctor_github import apply_settings, github_findings, reported_checks
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput


@pytest.fixture
def hub(world, github):
    return world.at_github(github)


def rest(hub, *more):
    secret = hub.github.token("petra-gh", "contents", "pull_requests", *more)
    place = parse_place(f"github:{hub.github.web}/acme/promotions")
    return Rest(place, Token(secret))


def findings_of(hub, *more, reported=()):
    return list(findings(read_settings(rest(hub, *more)), reported))


def bad(results):
    return [f"{finding.subject}: {finding.sentence}" for finding in results if finding.level == "bad"]


def apply(hub, reported=(), merger=None):
    client = rest(hub, ADMIN)
    settings = read_settings(client)
    write_ruleset(client, settings.own, wanted_ruleset(settings.own, reported, settings.actions, merger))


MERGER = {"actor_type": "User", "actor_id": 7, "bypass_mode": "always"}


def test_without_rules_every_hole_is_named_with_why_and_how(hub):
    results = findings_of(hub, ADMIN)
    assert bad(results) == [
        "GitHub main: whoever may push moves it, without pull request or check",
        "GitHub main: nothing stops its force pushes",
        "GitHub main: nothing stops its deletion",
        "GitHub merging: rebase and squash is allowed",
        "GitHub workflows: their token may write where they do not say otherwise",
        "GitHub workflows: they may approve pull requests",
    ]
    assert all(finding.why and finding.mend for finding in results if finding.level == "bad")


def test_what_the_token_may_not_see_counts_as_missing_by_its_permission(hub):
    hub.github.rules(hub.repo, "petra-gh", rules=[{"type": "deletion"}, {"type": "non_fast_forward"}])
    unread = [finding for finding in findings_of(hub) if "may not see" in finding.sentence]
    assert {finding.subject for finding in unread} == {
        "GitHub bypass", "GitHub classic protection", "GitHub merging", "GitHub workflows",
    }  # fmt: skip
    assert all(finding.level == "bad" and "Administration" in finding.mend for finding in unread)


def test_our_ruleset_closes_what_it_can_and_writing_it_twice_is_once(hub):
    hub.repo.workflows = {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": False}
    hub.repo.methods |= {"allow_squash_merge": False, "allow_rebase_merge": False}
    for _ in range(2):
        apply(hub, CHECKS, MERGER)
    assert [ruleset["name"] for ruleset in hub.repo.rulesets] == ["modelsmith"]
    assert hub.github.rest_asked("POST", r"/rulesets$") == [201]
    results = findings_of(hub, ADMIN, reported=CHECKS)
    assert bad(results) == []
    assert [finding.sentence for finding in results if finding.subject == "GitHub bypass"] == [
        "the account 7 passes ruleset 'modelsmith', always"
    ]


def test_what_others_put_into_our_ruleset_stays(hub):
    apply(hub, (), MERGER)
    own = hub.repo.rulesets[0]
    own["rules"].append({"type": "creation"})
    pulls = next(rule["parameters"] for rule in own["rules"] if rule["type"] == "pull_request")
    pulls |= {"required_approving_review_count": 2, "require_code_owner_review": False}
    own["bypass_actors"].append({"actor_type": "Team", "actor_id": 3, "bypass_mode": "pull_request"})
    apply(hub, (), MERGER)
    now = hub.repo.rulesets[0]
    assert "creation" in {rule["type"] for rule in now["rules"]}
    pulls = next(rule["parameters"] for rule in now["rules"] if rule["type"] == "pull_request")
    assert (pulls["required_approving_review_count"], pulls["require_code_owner_review"]) == (2, True)
    assert [actor["actor_type"] for actor in now["bypass_actors"]] == ["User", "Team"]


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        ({"context": CHECKS[0]}, "anybody who may write statuses can report"),
        ({"context": CHECKS[0], "integration_id": 7}, "another app than GitHub Actions must report"),
        ({"context": "build", "integration_id": ACTIONS}, "not required"),
    ],
)
def test_a_required_check_must_come_from_the_workflow(hub, check, sentence):
    parameters = {"strict_required_status_checks_policy": False, "required_status_checks": [check]}
    hub.github.rules(hub.repo, rules=[{"type": "required_status_checks", "parameters": parameters}])
    assert any(
        text.startswith(f"GitHub checks: {sentence}") for text in bad(findings_of(hub, ADMIN, reported=CHECKS[:1]))
    )


def test_a_bypass_for_everybody_who_writes_is_no_rule(hub):
    hub.github.rules(hub.repo)
    hub.repo.rulesets[0]["bypass_actors"] = [{"actor_type": "RepositoryRole", "actor_id": 4, "bypass_mode": "always"}]
    assert "GitHub bypass: everybody with the role write passes ruleset 'main', always" in bad(findings_of(hub, ADMIN))


def test_classic_protection_counts_and_its_holes_are_named(hub):
    on, off = {"enabled": True}, {"enabled": False}
    hub.repo.protection = {
        "required_pull_request_reviews": {
            "dismiss_stale_reviews": True, "require_code_owner_reviews": True, "required_approving_review_count": 1,
        },
        "enforce_admins": {"url": "https://api.github.com/x", "enabled": False},
        "allow_force_pushes": off, "allow_deletions": off, "required_linear_history": on,
    }  # fmt: skip
    results = findings_of(hub, ADMIN)
    assert "GitHub main: it must be linear" in bad(results)
    assert not any("force" in text or "owners" in text for text in bad(results))
    notes = [finding.sentence for finding in results if finding.level == "note"]
    assert "administrators pass the classic protection of main" in notes
    assert "every pull request needs 1 approvals" in notes


def test_a_queue_that_squashes_and_rules_that_refuse_our_merges_are_named(hub):
    numbers = dict.fromkeys(
        ["max_entries_to_build", "max_entries_to_merge", "min_entries_to_merge",
         "min_entries_to_merge_wait_minutes", "check_response_timeout_minutes"], 1,
    )  # fmt: skip
    queue = {"type": "merge_queue", "parameters": numbers | {"merge_method": "SQUASH", "grouping_strategy": "ALLGREEN"}}
    hub.github.rules(hub.repo, rules=[queue, {"type": "required_signatures"}])
    problems = bad(findings_of(hub, ADMIN))
    assert "GitHub merging: the merge queue merges by squash" in problems
    assert "GitHub main: its commits must be signed in GitHub's way" in problems


def test_lines_of_codeowners_that_github_does_not_take_are_named(hub):
    hub.github.rules(hub.repo, parameters={"require_code_owner_review": True})
    hub.repo.owners_errors = [owners_error(3, "/evals/ @domain-lead")]
    assert "GitHub CODEOWNERS: line 3: Unknown owner: '/evals/ @domain-lead'" in bad(findings_of(hub, ADMIN))


def test_the_strictest_of_several_rulesets_counts():
    rule = Rule(type="pull_request", parameters={"allowed_merge_methods": ["merge", "squash"]})
    other = Rule(
        type="pull_request", parameters={"allowed_merge_methods": ["merge"], "required_approving_review_count": 2}
    )
    now = effective([rule, other], None)
    assert (now.methods, now.approvals) == ({"merge"}, 2)


def test_what_is_as_it_should_be_differs_in_nothing():
    assert difference({"a": [1]}, {"a": [1]}) == []
    assert difference({"a": 1}, {"a": 2}) == ["@@ -1,3 +1,3 @@", " {", '-  "a": 1', '+  "a": 2', " }"]


@pytest.fixture
def workspace(hub, monkeypatch):
    """A clone of which `doctor` is asked."""
    hub.git.run("update-ref", "refs/heads/main", hub.main())
    hub.git.run("config", "modelsmith.forge", f"github:{hub.github.web}/acme/promotions")
    return Workspace(hub.git.path)


def act(hub, monkeypatch, *permissions):
    monkeypatch.setenv("MODELSMITH_GITHUB_TOKEN", hub.github.token("petra-gh", "contents", *permissions))


def test_apply_shows_the_difference_and_sets_nothing_until_agreed_to(hub, workspace, monkeypatch):
    act(hub, monkeypatch, ADMIN)
    proposed_changes = apply_settings(workspace, "smith-gh", yes=False)
    assert [change.what for change in proposed_changes] == [
        "the ruleset modelsmith", "how pull requests are merged", "what workflows may do",
    ]  # fmt: skip
    assert any('"require_code_owner_review": true' in line for line in proposed_changes[0].lines)
    assert hub.repo.rulesets == []
    applied = apply_settings(workspace, "smith-gh", yes=True)
    assert [change.lines for change in applied] == [change.lines for change in proposed_changes]
    assert all(change.done for change in applied)
    assert apply_settings(workspace, "smith-gh", yes=True) == ()
    assert not [finding for finding in github_findings(workspace, workspace.setting("forge")) if finding.level == "bad"]


def test_apply_leaves_somebody_who_may_push_receipts(hub, workspace, monkeypatch):
    act(hub, monkeypatch, ADMIN)
    for merger, code in ((None, "no-merger"), ("nobody-there", "unknown-login")):
        with pytest.raises(InvalidInput) as caught:
            apply_settings(workspace, merger, yes=True)
        assert caught.value.code == code
    assert hub.repo.rulesets == []


def test_a_token_that_may_not_set_it_changes_nothing(hub, workspace, monkeypatch):
    act(hub, monkeypatch)
    with pytest.raises(InvalidInput, match="administration=write") as caught:
        apply_settings(workspace, "smith-gh", yes=True)
    assert caught.value.code == "token-too-weak"
    assert (hub.repo.rulesets, hub.repo.methods["allow_squash_merge"]) == ([], True)


def test_checks_are_required_only_where_a_workflow_reports_them(hub, workspace):
    assert reported_checks(workspace) == ()
    path = ".github/workflows/checks.yml"
    commit = hub.commit({path: "jobs:\n  checks:\n    steps:\n      - run: modelsmith check --pr 1\n"})
    hub.git.run("update-ref", "refs/heads/main", commit)
    assert reported_checks(workspace) == CHECKS
