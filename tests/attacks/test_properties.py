"""Attacks in any order: random lies in random sequences, judged by an oracle that shares no code with the product."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from transitions import SHIPPED

from modelsmith.governance.codeowners import parse
from modelsmith.governance.gate import CheckResult, decide
from modelsmith.governance.routing import incumbent, last_routing_record, render_routing
from modelsmith.governance.routing_chain import is_link
from modelsmith.governance.states import fold
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import Harness, People, Person, Policy, Transition
from modelsmith.schema.promotion import Preparer, PromotionRecord
from modelsmith.schema.pull import Change, ChangedPath, Review

CLUSTER = "rtb"
STATES = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed", "production-validated", "deprecated")
EVENTS = (*STATES, "rolled-back", "hold-cleared")
SERVING = {"customer-deployed", "production-validated"}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def artifact(iteration):
    return f"sha256:{iteration:08x}{'0' * 56}"


class Promotions(RuleBasedStateMachine):
    """Anybody proposes any record; what the product accepts must be what the policy's table allows, and no more."""

    @initialize(dropped=st.sets(st.sampled_from(range(len(SHIPPED))), max_size=2))
    def policy_of_some_team(self, dropped):
        transitions = tuple(t for number, t in enumerate(SHIPPED) if number not in dropped)
        self.policy = Policy(repository="a-repository", transitions=transitions or SHIPPED, harness_paths=())
        self.table = {(t.event, source, t.target) for t in self.policy.transitions for source in (t.sources or (None,))}
        self.records = {}
        self.traffic = None
        self.held = None

    def histories(self):
        return tuple(fold(records, self.policy) for records in self.records.values())

    def due(self, iteration, event):
        """What an honest harness would write down."""
        records = self.records.get(iteration, [])
        state = records[-1].to_state if records else None
        target = next((t.target for t in self.policy.transitions if t.event == event), event)
        routed = state in SERVING or target in SERVING or event == "hold-cleared"
        return {
            "cluster": CLUSTER, "specialist": f"iter-{iteration:03d}-{iteration:08x}", "sequence": len(records) + 1,
            "event": event, "from_state": state, "to_state": target if target in STATES else "candidate",
            "artifact": artifact(iteration), "iteration": iteration, "eval_run": None, "eval_tag": None,
            "composite": None, "policy": digest("policy"), "evidence": {}, "requested_by": "maya",
            "prepared_by": Preparer(id="smith", kind="harness").model_dump(), "required_approvers": [],
            "expected_previous": self.traffic if routed else None, "rollback": None,
            "previous_record": digest(records[-1]) if records else None, "previous_receipts": {},
        }  # fmt: skip

    def submit(self, iteration, facts):
        record = PromotionRecord.model_validate_json(json.dumps(facts))
        before = self.records.get(iteration, [])
        others = [fold(records, self.policy) for number, records in self.records.items() if number != iteration]
        try:
            histories = (*others, fold([*before, record], self.policy))
            render_routing(CLUSTER, histories, 0.1)
            accepted = not is_link(record) or last_routing_record(histories) == digest(record)
        except IntegrityFailure:
            accepted = False
        assert accepted == self.allowed(record, before)
        if accepted:
            self.records.setdefault(iteration, []).append(record)
            if {record.from_state, record.to_state} & SERVING or record.event == "hold-cleared":
                self.traffic = digest(record)
            if record.event in ("rolled-back", "hold-cleared"):
                self.held = iteration if record.event == "rolled-back" else None

    def allowed(self, record, before):
        state = before[-1].to_state if before else None
        due = self.due(record.iteration, record.event)
        routed = bool({record.from_state, record.to_state} & SERVING) or record.event == "hold-cleared"
        return (
            (record.event, state, record.to_state) in self.table
            and record.from_state == state
            and record.sequence == len(before) + 1
            and (record.specialist, record.artifact) == (due["specialist"], due["artifact"])
            and record.cluster == CLUSTER
            and record.previous_record == due["previous_record"]
            and (not routed or record.expected_previous == self.traffic)
            and (record.event != "customer-deployed" or self.held is None)
            and (record.event != "hold-cleared" or self.held == record.iteration)
        )

    @rule(iteration=st.integers(1, 3), event=st.sampled_from(EVENTS))
    def somebody_proposes_an_event(self, iteration, event):
        self.submit(iteration, self.due(iteration, event))

    @rule(iteration=st.integers(1, 3))
    def the_loop_takes_the_next_step(self, iteration):
        records = self.records.get(iteration, [])
        state = records[-1].to_state if records else None
        able = [t.event for t in self.policy.transitions if (state in t.sources if state else not t.sources)]
        if able:
            self.submit(iteration, self.due(iteration, able[0]))

    @rule(
        iteration=st.integers(1, 3),
        event=st.sampled_from(EVENTS),
        lie=st.fixed_dictionaries(
            {},
            optional={
                "from_state": st.sampled_from([None, *STATES]),
                "to_state": st.sampled_from(STATES),
                "sequence": st.integers(1, 6),
                "artifact": st.sampled_from([artifact(1), artifact(2), digest("other")]),
                "previous_record": st.sampled_from([None, digest("other")]),
                "expected_previous": st.sampled_from([None, digest("other")]),
                "cluster": st.sampled_from([CLUSTER, "other"]),
            },
        ),
    )
    def somebody_lies(self, iteration, event, lie):
        self.submit(iteration, {**self.due(iteration, event), **lie})

    @rule(iteration=st.integers(1, 3), number=st.integers(0, 5))
    def somebody_replays_an_old_record(self, iteration, number):
        records = self.records.get(iteration, [])
        if records:
            self.submit(iteration, records[number % len(records)].model_dump(mode="json"))

    @invariant()
    def what_serves_was_deployed(self):
        if not hasattr(self, "records"):
            return
        histories = self.histories()
        serving = render_routing(CLUSTER, histories, 0.1).serving
        states = {history.specialist: history.state for history in histories}
        assert abs(sum(entry.share for entry in serving) - 1) < 1e-9
        assert all(entry.specialist == "base" or states[entry.specialist] in SERVING for entry in serving)
        assert len(serving) <= 2
        prior = incumbent(CLUSTER, histories).specialist
        assert prior == "base" or states[prior] == "production-validated"


TestPromotions = Promotions.TestCase
TestPromotions.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


ROLES = ("platform", "domain-lead", "head-of-trading", "oncall-sre")
ACTORS = ("maya", "noor", "dana", "petra", "oli", "smith", "ghost")
PEOPLE = People(
    roles=dict.fromkeys(ROLES, ""),
    people=(
        Person(id="maya", name="Maya", roles=("head-of-trading",)),
        Person(id="noor", name="Noor", roles=("head-of-trading", "oncall-sre")),
        Person(id="dana", name="Dana", roles=("domain-lead",)),
        Person(id="petra", name="Petra", roles=("platform",)),
        Person(id="oli", name="Oli", roles=("oncall-sre", "platform")),
        Person(id="smith", name="Smith", roles=ROLES),
    ),
    harness=(Harness(id="smith"),),
)
HOLDERS = {role: {p.id for p in PEOPLE.people if role in p.roles and p.id != "smith"} for role in ROLES}
FOLDER = "promotions/rtb/iter-001-00000001"
PATHS = (
    "README.md", "docs/a.md", "evals/a/one.yaml", "evals/a/b/two.yaml", "clusters/rtb/cluster.yaml",
    "clusters/rtb/routing.yaml", "modelsmith/a.py", ".github/CODEOWNERS", ".github/governance/people.yaml",
    f"{FOLDER}/01-candidate/record.json", f"{FOLDER}/01-candidate/training.json",
    f"{FOLDER}/04-customer-deployed/record.json", f"{FOLDER}/04-customer-deployed/packet.md",
    f"{FOLDER}/05-rolled-back/record.json", f"{FOLDER}/nonsense", "Evals/a/one.yaml", "evals/a/ONE.yaml",
)  # fmt: skip
PATTERNS = ("*", "/evals/", "/clusters/", "/promotions/", "/promotions/*/*/*-customer-deployed/", "/.github/", "*.md")
OWNERS = st.lists(st.tuples(st.sampled_from(PATTERNS), st.sets(st.sampled_from(ROLES), max_size=2)), max_size=7)
GATES = st.fixed_dictionaries({"customer-deployed": st.sampled_from(("harness", *ROLES))})
CHANGES = st.lists(
    st.tuples(st.sampled_from(PATHS), st.sampled_from(("100644", "100755", "120000", "000000"))),
    min_size=1, max_size=5, unique_by=lambda entry: entry[0],
)  # fmt: skip
REVIEWS = st.lists(st.tuples(st.sampled_from(ACTORS), st.sampled_from(("approve", "reject", "withdraw"))), max_size=6)
INVOLVED = st.tuples(st.sampled_from(ACTORS), st.sampled_from(ACTORS), st.sets(st.sampled_from(ACTORS), max_size=2))


def change_of(entries):
    return Change(
        paths=tuple(
            ChangedPath(
                path=path, old_mode="100644" if mode == "000000" else "000000", new_mode=mode,
                old_blob=("1" if mode == "000000" else "0") * 40, new_blob=("0" if mode == "000000" else "2") * 40,
            )
            for path, mode in entries
        )
    )  # fmt: skip


def decided(entries, owners, gates, reviews, involved):
    """The gate's decision when all these people spoke of exactly this change."""
    subject = change_of(entries)
    lines = "".join(f"{pattern} {' '.join('@' + role for role in sorted(roles))}\n" for pattern, roles in owners)
    transitions = tuple(
        Transition.model_validate({**t.model_dump(by_alias=True), "gate": gates.get(t.event, t.gate)}) for t in SHIPPED
    )
    requester, preparer, authors = involved
    return decide(
        policy=Policy(repository="a-repository", transitions=transitions, harness_paths=("/clusters/*/routing.yaml",)),
        people=PEOPLE,
        codeowners=parse(lines),
        change=subject,
        reviews=[Review(actor=actor, verdict=verdict, change=subject.digest(), at=AT) for actor, verdict in reviews],
        requester=requester,
        preparer=preparer,
        authors=sorted(authors),
        claims=(),
        now=AT,
        checks=(CheckResult("fine", True, "Fine."),),
    )


@settings(max_examples=150, deadline=None)
@given(CHANGES, OWNERS, GATES, REVIEWS, INVOLVED)
def test_an_open_gate_has_an_uninvolved_owner_for_every_owned_path(entries, owners, gates, reviews, involved):
    """An oracle that reads the owners' lines by itself: last match, plain folders, exact names."""
    decision = decided(entries, owners, gates, reviews, involved)
    if not decision.open:
        return
    requester, preparer, authors = involved
    last = dict(reviews)
    yes = {actor for actor, verdict in last.items() if verdict == "approve"} - {requester, preparer, *authors, "smith"}
    for path, mode in entries:
        owners_asked = last_match(owners, path)
        assert path == "clusters/rtb/routing.yaml" or owners_asked
        assert not owners_asked or any(yes & HOLDERS[role] for role in owners_asked)
        assert not any(last.get(actor) == "reject" for role in owners_asked for actor in HOLDERS[role])
        assert mode in ("100644", "000000") or path in ("README.md", "docs/a.md", "modelsmith/a.py")
        if "customer-deployed" in path and gates["customer-deployed"] != "harness":
            assert yes & HOLDERS[gates["customer-deployed"]]
    tops = {path.split("/")[0] for path, _ in entries}
    assert not ({".github", "modelsmith"} & tops and {"evals", "clusters", "promotions"} & tops)


def last_match(owners, path):
    owners_found = set()
    for pattern, roles in owners:
        plain = pattern == "*" or path.startswith(pattern.lstrip("/")) or (pattern == "*.md" and path.endswith(".md"))
        deployed = "customer-deployed" in pattern and f"{FOLDER}/04-customer-deployed/" in path
        if plain or deployed:
            owners_found = roles
    return owners_found


@settings(max_examples=150, deadline=None)
@given(CHANGES, OWNERS, GATES, REVIEWS, INVOLVED, st.sampled_from(PATHS))
def test_one_more_file_never_opens_a_gate_even_if_everybody_speaks_again(
    entries, owners, gates, reviews, involved, path
):
    """Only a promotion that lacked its record gains by one; everything else that is refused or waited for stays so."""
    before = decided(entries, owners, gates, reviews, involved)
    lacked_record = {refusal.code for refusal in before.refusals} == {"sealed-folder"} and path.endswith("record.json")
    if before.open or lacked_record or path in dict(entries):
        return
    assert not decided([*entries, (path, "100644")], owners, gates, reviews, involved).open


@settings(max_examples=150, deadline=None)
@given(CHANGES, OWNERS, GATES, REVIEWS, INVOLVED, st.sampled_from(ACTORS), st.sampled_from(("approve", "withdraw")))
def test_one_more_verdict_opens_a_gate_only_if_it_counts(entries, owners, gates, reviews, involved, actor, said):
    """An approval that counts, or a rejection taken back by whoever gave it; nobody else's word."""
    before = decided(entries, owners, gates, reviews, involved)
    after = decided(entries, owners, gates, [*reviews, (actor, said)], involved)
    if after.open and not before.open:
        took_back = dict(reviews).get(actor) == "reject"
        assert took_back or (said == "approve" and actor in after.approvers)
        assert actor not in ("smith", "ghost")


@settings(max_examples=100, deadline=None)
@given(CHANGES, OWNERS, GATES, INVOLVED)
def test_silence_opens_only_what_nobody_owns_and_policy_leaves_to_checks(entries, owners, gates, involved):
    """Without one approval a gate opens for the rendered routing of nobody's, and for nothing else."""
    if decided(entries, owners, gates, [], involved).open:
        assert {path for path, _ in entries} == {"clusters/rtb/routing.yaml"}
        assert not last_match(owners, "clusters/rtb/routing.yaml")
