import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith import governance
from modelsmith.governance.codeowners import MAX_BYTES, parse
from modelsmith.governance.gate import CheckResult, Contract, decide, why_uncounted
from modelsmith.governance.person_gates import PERSON_EVENTS
from modelsmith.schema.governance import Harness, Limits, People, Person, SshKey
from modelsmith.schema.pull import Change, ChangedPath, Elsewhere, Review

AT = datetime(2026, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ZERO, ONE, TWO = "0" * 40, "1" * 40, "2" * 40
OWNERS = """\
*                                        @platform
/evals/                                  @domain-lead
/clusters/                               @head-of-trading @platform
/clusters/*/routing.yaml
/promotions/                             @platform
/promotions/*/*/*-candidate/
/promotions/*/*/*-eval-accepted/
/promotions/*/*/*-artifact-exported/
/promotions/*/*/*-customer-deployed/     @head-of-trading
/promotions/*/*/*-production-validated/  @head-of-trading
/promotions/*/*/*-rolled-back/           @oncall-sre
/.github/                                @platform
/free/
"""


def person(name, *roles):
    return Person(id=name, name=name.title(), roles=roles, keys=(SshKey(key=key_of(name)),))


def key_of(name):
    return f"ssh-ed25519 {name}"


PEOPLE = People(
    roles={"platform": "", "domain-lead": "", "head-of-trading": "", "oncall-sre": ""},
    people=(
        person("maya", "head-of-trading"),
        person("noor", "head-of-trading", "oncall-sre"),
        person("pat", "platform"),
        person("dana", "domain-lead"),
        person("zoe"),
        person("smith", "head-of-trading", "platform", "domain-lead"),
    ),
    harness=(Harness(id="smith"),),
)
ACTORS = ["maya", "noor", "pat", "dana", "zoe", "smith", "ghost"]
FOLDER = "promotions/rtb/iter-001-00000001"
GREEN = (CheckResult("evidence", True, "All figures recompute."),)


def added(path, mode="100644", blob=ONE):
    return ChangedPath(path=path, old_mode="000000", new_mode=mode, old_blob=ZERO, new_blob=blob)


def modified(path):
    return ChangedPath(path=path, old_mode="100644", new_mode="100644", old_blob=ONE, new_blob=TWO)


def removed(path):
    return ChangedPath(path=path, old_mode="100644", new_mode="000000", old_blob=ONE, new_blob=ZERO)


def change(*paths):
    return Change(paths=tuple(added(path) if isinstance(path, str) else path for path in paths))


def review(actor, subject, verdict="approve", **other):
    facts = {"actor": actor, "verdict": verdict, "change": subject.digest(), "at": AT, "key": key_of(actor)}
    return Review(**(facts | other))


def promotion(event, number=4, *more):
    return change(f"{FOLDER}/{number:02d}-{event}/record.json", f"{FOLDER}/{number:02d}-{event}/x.sig", *more)


DEPLOYMENT = promotion("customer-deployed", 4, modified("clusters/rtb/routing.yaml"))


@pytest.fixture
def gate(policy):
    def run(subject, *reviews, **other):
        facts = {
            "policy": policy,
            "people": PEOPLE,
            "codeowners": parse(OWNERS),
            "change": subject,
            "reviews": reviews,
            "requester": "zoe",
            "preparer": "smith",
            "authors": (),
            "claims": (),
            "checks": GREEN,
            "now": AT,
        }
        return decide(**(facts | other))

    return run


def codes(decision):
    return {refusal.code for refusal in decision.refusals}


def test_a_candidate_is_decided_by_the_checks_alone(gate):
    decision = gate(promotion("candidate", 1))
    assert (decision.open, decision.gate, decision.needs, decision.waiting_for) == (True, "harness", (), ())


@pytest.mark.parametrize(
    ("actor", "verdict", "other", "because"),
    [
        ("maya", "approve", {}, None),
        ("maya", "reject", {}, None),
        ("dana", "approve", {}, "dana is none of its owners, which are @head-of-trading"),
        ("dana", "reject", {}, "dana is none of its owners, which are @head-of-trading"),
        ("maya", "approve", {"preparer": "maya"}, "maya opened it"),
        ("maya", "approve", {"authors": ("maya",)}, "maya signed a commit of it"),
        ("maya", "approve", {"requester": "maya"}, "maya is said to have asked for it"),
        ("maya", "reject", {"preparer": "maya"}, None),
        ("maya", "approve", {"now": AT - timedelta(hours=1)}, "it is dated"),
    ],
)
def test_whoever_gives_a_verdict_learns_whether_it_counts(gate, actor, verdict, other, because):
    decision = gate(DEPLOYMENT, review(actor, DEPLOYMENT, verdict), **other)
    reason = why_uncounted(decision, PEOPLE, actor, verdict)
    assert reason == because or (because and reason and reason.startswith(because))


def test_a_verdict_on_what_checks_alone_decide_counts_for_nothing(gate):
    subject = promotion("candidate", 1)
    decision = gate(subject, review("maya", subject))
    assert why_uncounted(decision, PEOPLE, "maya", "approve") == "the harness's checks alone decide about it"


def test_where_two_owners_are_needed_neither_is_enough(gate):
    subject = change("evals/a.yaml", "clusters/rtb/cluster.yaml")
    assert gate(subject).decides == "@domain-lead and (@head-of-trading or @platform)"
    assert gate(subject, review("dana", subject)).decides == "@head-of-trading or @platform"
    assert gate(subject, review("dana", subject), review("pat", subject)).decides == ""


def test_a_deployment_waits_for_the_head_of_trading(gate):
    decision = gate(DEPLOYMENT)
    assert not decision.open
    assert decision.gate == "people"
    assert decision.waiting_for == ("@head-of-trading",)
    assert [(need.satisfied_by, need.eligible) for need in decision.needs] == [(None, ("maya", "noor"))]


def test_the_owners_approval_opens_the_gate_and_is_named(gate):
    decision = gate(DEPLOYMENT, review("maya", DEPLOYMENT))
    assert decision.open
    assert decision.approvers == ("maya",)
    assert decision.needs[0].satisfied_by == "maya"


@pytest.mark.parametrize("actor", ["pat", "dana", "zoe", "ghost"])
def test_somebody_elses_approval_counts_for_nothing(gate, actor):
    decision = gate(DEPLOYMENT, review(actor, DEPLOYMENT))
    assert not decision.open
    assert decision.approvers == ()


def test_the_harness_never_approves_even_as_a_person_with_every_role(gate):
    decision = gate(DEPLOYMENT, review("smith", DEPLOYMENT), preparer="zoe")
    assert not decision.open
    assert decision.waiting_for == ("@head-of-trading",)


@pytest.mark.parametrize("role", ["requester", "preparer"])
def test_who_asked_for_or_prepared_a_change_does_not_approve_it(gate, role):
    for name in ("maya", "MAYA"):
        assert not gate(DEPLOYMENT, review("maya", DEPLOYMENT), **{role: name}).open
    assert gate(DEPLOYMENT, review("maya", DEPLOYMENT), review("noor", DEPLOYMENT), **{role: "maya"}).approvers == (
        "noor",
    )


@pytest.mark.parametrize("author", ["maya", "MAYA"])
def test_an_author_does_not_approve_their_own_change(gate, author):
    assert not gate(DEPLOYMENT, review("maya", DEPLOYMENT), authors=[author]).open
    assert gate(DEPLOYMENT, review("noor", DEPLOYMENT), authors=[author]).open


@pytest.mark.parametrize("claim", ["maya", "Maya", "maya@example.org", "MAYA"])
def test_a_name_that_a_commit_claims_is_noted_and_takes_nothing(gate, claim):
    decision = gate(DEPLOYMENT, review("maya", DEPLOYMENT), claims=[claim, "someone@example.org"])
    assert decision.open
    assert decision.notes == ("A commit claims maya as author, unauthenticated; that takes no approval away.",)
    assert gate(DEPLOYMENT, claims=[claim]).notes == decision.notes, "before she approves, too"


def test_a_claim_about_someone_who_may_not_approve_anyway_is_no_news(gate):
    assert gate(DEPLOYMENT, review("noor", DEPLOYMENT), claims=["maya", "dana"], requester="maya").notes == ()


def test_an_approval_of_another_change_counts_for_nothing(gate):
    stale = review("maya", promotion("customer-deployed", 5))
    assert not gate(DEPLOYMENT, stale).open


def test_one_more_file_voids_an_approval(gate):
    more = change(*DEPLOYMENT.paths, f"{FOLDER}/04-customer-deployed/extra.json")
    assert not gate(more, review("maya", DEPLOYMENT)).open


def test_a_reject_by_any_owner_blocks(gate):
    decision = gate(DEPLOYMENT, review("maya", DEPLOYMENT), review("noor", DEPLOYMENT, "reject"))
    assert not decision.open
    assert codes(decision) == {"rejected"}


def test_a_reject_by_someone_who_owns_nothing_here_does_not_block(gate):
    assert gate(DEPLOYMENT, review("maya", DEPLOYMENT), review("dana", DEPLOYMENT, "reject")).open


def test_a_reject_of_another_change_does_not_block(gate):
    old = review("noor", promotion("customer-deployed", 5), "reject")
    assert gate(DEPLOYMENT, old, review("maya", DEPLOYMENT)).open


def test_only_the_latest_verdict_of_each_person_stands(gate):
    yes, no, back = (review("maya", DEPLOYMENT, verdict) for verdict in ("approve", "reject", "withdraw"))
    assert not gate(DEPLOYMENT, yes, no).open
    assert gate(DEPLOYMENT, no, yes).open
    assert not gate(DEPLOYMENT, yes, back).open
    assert not gate(DEPLOYMENT, no, back).open
    assert codes(gate(DEPLOYMENT, no, back)) == set()


def test_a_later_verdict_on_another_change_leaves_an_earlier_one_standing(gate):
    other = promotion("customer-deployed", 5)
    assert gate(DEPLOYMENT, review("maya", DEPLOYMENT), review("maya", other, "reject")).open


def test_a_failed_check_cannot_be_approved_away(gate):
    bad = (*GREEN, CheckResult("verdict", False, "The verdict is FAIL."))
    decision = gate(DEPLOYMENT, review("maya", DEPLOYMENT), checks=bad)
    assert not decision.open
    assert decision.refusals[0].sentence == "verdict: The verdict is FAIL."


def test_checks_that_never_ran_decide_nothing(gate):
    decision = gate(promotion("candidate", 1), checks=())
    assert not decision.open
    assert codes(decision) == {"no-checks"}


def test_every_touched_line_needs_its_own_approval(gate):
    subject = change("README.md", modified("docs/a.md"), "free.md")
    both = change(modified("clusters/rtb/cluster.yaml"), modified("evals/a/b/c.yaml"))
    assert gate(subject, review("pat", subject)).open
    assert gate(both, review("dana", both)).waiting_for == ("@head-of-trading", "@platform")
    assert gate(both, review("dana", both), review("pat", both)).open


def test_the_policys_role_is_asked_even_when_codeowners_forgot_it(gate):
    lines = OWNERS.replace("customer-deployed/     @head-of-trading", "customer-deployed/ @platform")
    decision = gate(DEPLOYMENT, review("pat", DEPLOYMENT), codeowners=parse(lines))
    assert not decision.open
    assert decision.waiting_for == ("@head-of-trading",)
    assert gate(DEPLOYMENT, review("pat", DEPLOYMENT), review("maya", DEPLOYMENT), codeowners=parse(lines)).open


def test_no_configuration_of_paths_turns_a_persons_gate_into_the_harnesss(gate, policy):
    lines = OWNERS.replace("customer-deployed/     @head-of-trading", "customer-deployed/")
    generous = policy.model_copy(update={"harness_paths": ("*",)})
    decision = gate(DEPLOYMENT, codeowners=parse(lines), policy=generous)
    assert not decision.open
    assert decision.waiting_for == ("@head-of-trading",)


@pytest.mark.parametrize("path", ["clusters/rtb/routing.yaml", "clusters/rtb/routing.yaml/README.md"])
def test_what_is_left_to_the_checks_is_left_to_them_in_a_promotion_only(gate, path):
    """Else whoever is listed puts there what nobody approved and no check derives."""
    assert "unowned-path" in codes(gate(change(path)))


def test_no_folder_stands_where_a_governed_file_lies(gate):
    for path in ("clusters/rtb/routing.yaml/README.md", "clusters/rtb/cluster.yaml/x/y", "evals/a/b/evalset.yaml/x"):
        assert "folder-in-place" in codes(gate(change(path)))


def test_a_path_that_nobody_owns_is_refused_unless_policy_names_it(gate, policy):
    subject = change("free/x")
    assert codes(gate(subject)) == {"unowned-path"}
    assert codes(gate(subject, codeowners=parse(""))) == {"unowned-path"}
    named = policy.model_copy(update={"harness_paths": ("/free/",)})
    assert gate(subject, policy=named).open
    assert gate(subject, policy=named, codeowners=parse("")).open


def test_owners_win_over_the_harnesss_paths(gate, policy):
    named = policy.model_copy(update={"harness_paths": ("/evals/",)})
    assert gate(change("evals/a"), policy=named).waiting_for == ("@domain-lead",)


def test_a_codeowners_file_that_cannot_be_read_closes_every_gate(gate):
    decision = gate(promotion("candidate", 1), codeowners=parse("#" * (MAX_BYTES + 1)))
    assert "codeowners-not-loaded" in codes(decision)


def test_an_empty_change_is_refused(gate):
    assert codes(gate(change())) >= {"empty-change"}
    assert not gate(change()).open


@pytest.mark.parametrize("governed", ["evals/a", "clusters/a/cluster.yaml", "runbooks/a.json", "EVALS/a"])
@pytest.mark.parametrize(
    "other", [".github/CODEOWNERS", "agents.md", "modelsmith/x.py", "pyproject.toml", ".GitHub/x", "docs/CODEOWNERS"]
)
def test_governance_and_toolkit_are_never_mixed_with_what_is_governed(gate, governed, other):
    subject = change(governed, other)
    everyone = [review(actor, subject) for actor in ACTORS]
    decision = gate(subject, *everyone)
    assert "mixed-change" in codes(decision)
    assert not decision.open


def test_toolkit_and_governance_may_change_together(gate):
    subject = change(modified("modelsmith/x.py"), modified("AGENTS.md"))
    assert gate(subject, review("pat", subject)).open


@pytest.mark.parametrize("touch", [modified, removed])
def test_nothing_under_promotions_is_changed_or_removed(gate, touch):
    path = f"{FOLDER}/01-candidate/record.json"
    subject = change(touch(path))
    decision = gate(subject, *(review(actor, subject) for actor in ACTORS))
    assert "append-only" in codes(decision)


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (f"{FOLDER}/05-rolled-back/record.json", "several-promotions"),
        ("promotions/rtb/iter-002-00000002/01-candidate/record.json", "several-promotions"),
        ("promotions/README.md", "bad-record-folder"),
        ("clusters/other/routing.yaml", "promotion-mixed"),
        ("clusters/rtb/cluster.yaml", "promotion-mixed"),
        ("evals/a/b.yaml", "promotion-mixed"),
        ("README.md", "promotion-mixed"),
        (f"{FOLDER}/04-customer-deployed/receipts/merge.json", "receipts-are-not-proposed"),
        (f"{FOLDER}/04-customer-deployed/receipts", "receipts-are-not-proposed"),
    ],
)
def test_a_promotion_touches_its_new_folder_and_its_routing_and_no_more(gate, extra, code):
    subject = change(*DEPLOYMENT.paths, extra)
    decision = gate(subject, *(review(actor, subject) for actor in ACTORS))
    assert code in codes(decision)
    assert not decision.open


def test_a_sealed_folder_takes_no_more_files(gate):
    assert codes(gate(change(f"{FOLDER}/01-candidate/more.json"))) == {"sealed-folder"}


def test_receipts_of_governance_changes_are_not_proposed_either(gate):
    subject = change(".github/governance/receipts/abc/merge.json")
    assert codes(gate(subject, review("pat", subject))) == {"receipts-are-not-proposed"}


@pytest.mark.parametrize("name", ["04-customer_deployed", "4-customer-deployed", "x", "04-liked"])
def test_a_folder_that_names_no_event_is_refused(gate, name):
    subject = change(f"{FOLDER}/{name}/record.json")
    assert "bad-record-folder" in codes(gate(subject, review("pat", subject)))


def test_an_event_that_the_policy_does_not_know_is_refused(gate, policy):
    fewer = policy.model_copy(update={"transitions": policy.transitions[:3]})
    assert "unknown-event" in codes(gate(DEPLOYMENT, review("maya", DEPLOYMENT), policy=fewer))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (added("evals/a", "120000"), "not-a-file"),
        (added("evals", "120000"), "not-a-file"),
        (added("clusters/a", "160000"), "not-a-file"),
        (added(".github/workflows", "120000"), "not-a-file"),
        (added("runbooks/a.json", "100755"), "executable"),
        (added("evals/a\nb"), "odd-name"),
        (added("evals/caf\u00e9"), "odd-name"),
        (added("evals/\u0430"), "odd-name"),
        (added("Promotions/a"), "case-alias"),
        (added("agents.md"), "case-alias"),
        (added("evals/aux.yaml"), "unportable-name"),
        (added(".github/governance/Receipts/9/merge.json"), "receipts-are-not-proposed"),
    ],
)
def test_governed_files_are_plain_files_with_plain_names(gate, path, code):
    subject = change(path)
    decision = gate(subject, *(review(actor, subject) for actor in ACTORS))
    assert code in codes(decision)
    assert not decision.open


def test_a_link_that_is_removed_is_no_obstacle(gate):
    subject = change(
        ChangedPath(path="evals/a", old_mode="120000", new_mode="000000", old_blob=ONE, new_blob=ZERO), "evals/b"
    )
    assert gate(subject, review("dana", subject)).open


def test_names_that_differ_only_by_case_are_refused_but_renaming_is_not(gate):
    for pair in (("evals/a/X", "evals/a/x"), ("evals/A/x", "evals/a/y")):
        subject = change(*pair)
        assert codes(gate(subject, review("dana", subject))) == {"case-twins"}
    renamed = change(removed("evals/a/X"), "evals/a/x")
    assert gate(renamed, review("dana", renamed)).open


def test_the_number_of_changed_paths_has_a_limit(gate, policy):
    subject = change(*(f"evals/{n}" for n in range(4)))
    small = policy.model_copy(update={"limits": Limits(changed_paths=3)})
    assert codes(gate(subject, review("dana", subject), policy=small)) == {"too-many-paths"}


def test_three_thousand_paths_can_be_approved_at_once(gate):
    subject = change(*(f"evals/set/{n}.yaml" for n in range(3000)))
    assert gate(subject, review("dana", subject)).open


def test_governance_imports_nothing_that_reaches_clock_disk_or_network():
    allowed = {
        "__future__",
        "bisect",
        "re",
        "json",
        "collections",
        "unicodedata",
        "dataclasses",
        "decimal",
        "fractions",
        "functools",
        "itertools",
        "operator",
        "hashlib",
        "math",
        "statistics",
        "types",
        "typing",
        "datetime",
        "modelsmith",
    }
    for module in Path(governance.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, module.name
            ours = {name.split(".")[1] for name in names if name.startswith("modelsmith.")}
            assert ours <= {"governance", "normal_form", "points", "schema"}, module.name
            assert not (isinstance(node, ast.Attribute) and node.attr in ("now", "today", "utcnow")), module.name


PATHS = [
    "evals/a/one.yaml",
    "clusters/rtb/cluster.yaml",
    "clusters/rtb/routing.yaml",
    "README.md",
    "free/x",
    "modelsmith/a.py",
    ".github/CODEOWNERS",
    f"{FOLDER}/01-candidate/record.json",
    f"{FOLDER}/01-candidate/training.json",
    f"{FOLDER}/04-customer-deployed/record.json",
    f"{FOLDER}/04-customer-deployed/evidence.json",
    f"{FOLDER}/05-rolled-back/record.json",
]


def test_a_rejection_elsewhere_of_the_same_stands_until_taken_back(gate):
    """Whatever number the same is opened under again, and whoever opens it."""

    def decision(*reviews, verdict="reject", by="maya", at=AT, pull=4, **other):
        objection = Elsewhere(pull=pull, review=review(by, DEPLOYMENT, verdict, at=at))
        return gate(DEPLOYMENT, *reviews, elsewhere=(objection, *other.pop("more", ())), now=AT + 4 * MINUTE, **other)

    approved = review("noor", DEPLOYMENT)
    closed = decision(approved)
    assert codes(closed) == {"rejected"}
    assert "pull request 4" in closed.refusals[0].sentence
    assert decision(approved, verdict="withdraw").open
    assert decision(approved, by="dana").open, "who owns nothing of it"
    back = Elsewhere(pull=5, review=review("maya", DEPLOYMENT, "withdraw", at=AT + MINUTE))
    assert decision(approved, more=(back,)).open
    assert not decision(approved, at=AT + 2 * MINUTE, more=(back,)).open
    for verdict in ("approve", "withdraw"):
        assert decision(approved, review("maya", DEPLOYMENT, verdict, at=AT + MINUTE)).open
        assert not decision(approved, review("maya", DEPLOYMENT, verdict, at=AT - MINUTE)).open
        assert not decision(approved, review("maya", DEPLOYMENT, verdict, at=AT)).open, "doubt keeps the rejection"


def test_of_one_second_in_two_pull_requests_the_rejection_is_later(gate):
    """Within one pull request its log tells the order; between two there are whole seconds alone."""

    def objection(verdict, pull):
        return Elsewhere(pull=pull, review=review("maya", DEPLOYMENT, verdict))

    def is_open(*elsewhere):
        return gate(DEPLOYMENT, review("noor", DEPLOYMENT), elsewhere=elsewhere).open

    assert not is_open(objection("reject", 4), objection("withdraw", 5))
    assert not is_open(objection("withdraw", 4), objection("reject", 5))
    assert is_open(objection("reject", 4), objection("withdraw", 4))
    assert not is_open(objection("withdraw", 4), objection("reject", 4))


def test_what_no_person_approves_is_opened_by_who_prepared_its_record(gate):
    subject = promotion("candidate", 1)
    assert gate(subject).open
    assert codes(gate(subject, preparer="pat")) == {"opened-by-another"}
    assert gate(subject, preparer="pat", recorders=("pat",)).open
    by_another = gate(ROLLBACK, contract=CONTRACT, preparer="pat")
    assert by_another.waiting_for == ("@oncall-sre",)
    assert "did not prepare its record" in by_another.notes[0]
    assert codes(gate(DEPLOYMENT, preparer="pat")) == set(), "a person decides about this one"


CHANGE = st.lists(st.sampled_from(PATHS), min_size=1, max_size=4, unique=True).map(lambda paths: change(*paths))
VERDICTS = st.lists(
    st.tuples(st.sampled_from(ACTORS), st.sampled_from(["approve", "reject", "withdraw"]), st.booleans()), max_size=5
)
INVOLVED = st.tuples(st.sampled_from(ACTORS), st.sampled_from(ACTORS), st.lists(st.sampled_from(ACTORS), max_size=2))


def reviews_of(subject, verdicts):
    other = change("somewhere/else")
    return [review(actor, subject if fresh else other, verdict) for actor, verdict, fresh in verdicts]


def judged(policy, subject, reviews, involved):
    requester, preparer, authors = involved
    return decide(
        policy=policy,
        people=PEOPLE,
        codeowners=parse(OWNERS),
        change=subject,
        reviews=reviews,
        requester=requester,
        preparer=preparer,
        authors=authors,
        claims=(),
        checks=GREEN,
        now=AT,
    )


@given(CHANGE, VERDICTS, INVOLVED, st.sampled_from(PATHS))
def test_adding_a_file_never_opens_a_closed_gate(policy, subject, verdicts, involved, path):
    if path.endswith("record.json") or any(p.path == path for p in subject.paths):
        return
    reviews = reviews_of(subject, verdicts)
    if not judged(policy, subject, reviews, involved).open:
        assert not judged(policy, change(*subject.paths, path), reviews, involved).open


@given(CHANGE, VERDICTS, INVOLVED, st.sampled_from(ACTORS), st.sampled_from(["approve", "reject", "withdraw"]))
def test_only_a_counting_approval_or_one_s_own_reject_taken_back_opens(
    policy, subject, verdicts, involved, actor, verdict
):
    reviews = reviews_of(subject, verdicts)
    before = judged(policy, subject, reviews, involved)
    after = judged(policy, subject, [*reviews, review(actor, subject, verdict)], involved)
    if after.open and not before.open:
        mine = [
            given_review.verdict
            for given_review in reviews
            if given_review.actor == actor and given_review.change == subject.digest()
        ]
        took_back = mine[-1:] == ["reject"] and verdict != "reject"
        assert took_back or (verdict == "approve" and actor in after.approvers)


@given(CHANGE, VERDICTS, INVOLVED)
def test_whoever_is_involved_and_every_harness_counts_for_nothing(policy, subject, verdicts, involved):
    requester, preparer, authors = involved
    reviews = reviews_of(subject, verdicts)
    decision = judged(policy, subject, reviews, involved)
    asker = {requester} if preparer == "smith" else set()  # nobody but the harness may say who asked
    assert not {*asker, preparer, *authors, "smith", "ghost", "zoe"} & set(decision.approvers)
    silent = [given_review for given_review in reviews if given_review.actor != "smith"]
    assert judged(policy, subject, silent, involved) == decision


@given(CHANGE, VERDICTS, INVOLVED)
def test_stale_verdicts_change_nothing(policy, subject, verdicts, involved):
    reviews = reviews_of(subject, verdicts)
    fresh = [given_review for given_review in reviews if given_review.change == subject.digest()]
    assert judged(policy, subject, reviews, involved) == judged(policy, subject, fresh, involved)


@given(CHANGE, VERDICTS, INVOLVED)
def test_a_persons_path_never_opens_without_a_person(policy, subject, verdicts, involved):
    decision = judged(policy, subject, reviews_of(subject, verdicts), involved)
    personal = [p for p in subject.paths if "candidate" not in p.path and "routing" not in p.path]
    if decision.open and personal:
        assert decision.approvers
    assert decision.open == (not decision.refusals and not decision.waiting_for)


ROLLBACK = promotion("rolled-back", 5, modified("clusters/rtb/routing.yaml"))
CONTRACT = Contract(f"{FOLDER}/05-rolled-back", "04-customer-deployed")


def test_a_rollback_asks_oncall(gate):
    decision = gate(ROLLBACK)
    assert (decision.open, decision.gate, decision.waiting_for) == (False, "people", ("@oncall-sre",))
    assert gate(ROLLBACK, review("noor", ROLLBACK)).open


def test_a_contract_approved_with_the_deployment_asks_nobody_again(gate):
    decision = gate(ROLLBACK, contract=CONTRACT)
    assert (decision.open, decision.gate, decision.approvers) == (True, "contract", ())
    assert [need.satisfied_by for need in decision.needs] == ["contract of 04-customer-deployed"]


def test_who_approves_a_rollback_decides_it_whatever_the_contract_says(gate):
    decision = gate(ROLLBACK, review("noor", ROLLBACK), contract=CONTRACT)
    assert (decision.open, decision.gate, decision.approvers) == (True, "people", ("noor",))


def test_an_owner_s_rejection_stops_a_rollback_within_its_contract(gate):
    decision = gate(ROLLBACK, review("noor", ROLLBACK, "reject"), contract=CONTRACT)
    assert not decision.open
    assert codes(decision) == {"rejected"}


@pytest.mark.parametrize("more", ["evals/a/one.yaml", ".github/CODEOWNERS", "clusters/rtb/cluster.yaml"])
def test_a_contract_speaks_for_its_own_folder_only(gate, more):
    decision = gate(promotion("rolled-back", 5, modified(more)), contract=CONTRACT)
    assert not decision.open
    assert not gate(promotion("customer-deployed", 4), contract=CONTRACT).open


@pytest.mark.parametrize("event", sorted(PERSON_EVENTS))
def test_no_policy_gives_a_person_s_step_to_the_harness(gate, policy, event):
    moved = tuple(t.model_copy(update={"gate": "harness"}) if t.event == event else t for t in policy.transitions)
    paths = (*policy.harness_paths, f"/promotions/*/*/*-{event}/")
    lax = policy.model_copy(update={"transitions": moved, "harness_paths": paths})
    subject = promotion(event, 4)
    decision = gate(subject, policy=lax, codeowners=parse(f"{OWNERS}/promotions/*/*/*-{event}/\n"))
    assert not decision.open
    assert {"harness-gate", "unowned-gate"} <= codes(decision)
    assert not gate(subject, *(review(actor, subject) for actor in ACTORS), policy=lax).open


@pytest.mark.parametrize("event", sorted(PERSON_EVENTS))
def test_a_person_s_step_needs_an_owner_even_where_policy_names_a_role(gate, policy, event):
    lax = policy.model_copy(update={"harness_paths": ("/promotions/",)})
    subject = promotion(event, 4)
    reviews = [review(actor, subject) for actor in ("maya", "noor", "pat")]
    decision = gate(subject, *reviews, policy=lax, codeowners=parse(f"{OWNERS}/promotions/*/*/*-{event}/\n"))
    assert "unowned-gate" in codes(decision)


@pytest.mark.parametrize(
    ("event", "changed", "words"),
    [
        ("eval-accepted", {"target": "customer-deployed"}, "leads to eval-accepted"),
        ("candidate", {"target": "production-validated", "gate": "platform"}, "leads to candidate"),
        ("artifact-exported", {"sources": ("customer-deployed",)}, "take a specialist out of customer-deployed"),
        ("eval-accepted", {"sources": ("candidate", "deprecated")}, "out of deprecated"),
    ],
)
def test_no_policy_reaches_or_leaves_a_serving_state_by_the_harness(gate, policy, event, changed, words):
    moved = tuple(t.model_copy(update=changed) if t.event == event else t for t in policy.transitions)
    decision = gate(promotion(event, 4), policy=policy.model_copy(update={"transitions": moved}))
    assert not decision.open
    assert [refusal.sentence for refusal in decision.refusals if words in refusal.sentence]


def contracted(policy, subject, reviews, involved, contract):
    requester, preparer, authors = involved
    return decide(
        policy=policy, people=PEOPLE, codeowners=parse(OWNERS), change=subject, reviews=reviews, requester=requester,
        preparer=preparer, authors=authors, claims=[], checks=GREEN, contract=contract, now=AT,
    )  # fmt: skip


@given(CHANGE, VERDICTS, INVOLVED)
def test_a_contract_opens_nothing_but_what_lies_in_its_folder(policy, subject, verdicts, involved):
    reviews = reviews_of(subject, verdicts)
    without = contracted(policy, subject, reviews, involved, None)
    decision = contracted(policy, subject, reviews, involved, CONTRACT)
    assert decision.approvers == without.approvers
    assert decision.refusals == without.refusals
    if decision.open and not without.open:
        assert decision.gate == "contract"
        assert {path.path for path in subject.paths} <= {
            f"{FOLDER}/05-rolled-back/record.json",
            "clusters/rtb/routing.yaml",
        }


def test_where_people_open_a_harness_proposes_promotions_only(gate, policy):
    changed_policy = policy.model_copy(update={"people_open": True})
    rubric = change(modified("evals/ads/set/rubrics/r.yaml"))
    yes = review("dana", rubric)
    assert gate(rubric, yes).open, "by default the harness may open what people decide"
    assert codes(gate(rubric, yes, policy=changed_policy)) == {"opened-by-harness"}
    assert codes(gate(rubric, yes, policy=changed_policy, preparer="SMITH")) == {"opened-by-harness"}
    assert gate(rubric, yes, policy=changed_policy, preparer="pat", requester="smith").open
    assert gate(promotion("candidate", 1), policy=changed_policy).open
    assert gate(DEPLOYMENT, review("maya", DEPLOYMENT), policy=changed_policy).open
    mixed = change(*promotion("candidate", 1).paths, modified("evals/ads/set/rubrics/r.yaml"))
    assert "promotion-mixed" in codes(gate(mixed, review("dana", mixed), policy=changed_policy))
