import pytest
from transitions import SHIPPED

from modelsmith.governance.states import SERVING_STATES, fold, transition_for
from modelsmith.schema.canonical import digest
from modelsmith.schema.governance import Policy
from modelsmith.schema.promotion import Preparer, PromotionRecord

POLICY = Policy(
    repository="test-repository",
    transitions=SHIPPED,
    harness_paths=(
        "/promotions/*/*/*-candidate/",
        "/promotions/*/*/*-eval-accepted/",
        "/promotions/*/*/*-artifact-exported/",
        "/clusters/*/routing.yaml",
    ),
)
EXPORTED = ("candidate", "eval-accepted", "artifact-exported")


def artifact(iteration):
    return f"sha256:{iteration:08x}{'0' * 56}"


class Cluster:
    """Writes promotion records of one cluster the way the harness does."""

    def __init__(self, name="rtb"):
        self.name = name
        self.records = {}
        self.last_routing = None

    def add(self, iteration, *events, **changes):
        for event in events:
            records = self.records.setdefault(iteration, [])
            state = records[-1].to_state if records else None
            target = transition_for(POLICY, event, state).target
            routing = event not in EXPORTED and (event != "deprecated" or state in SERVING_STATES)
            record = PromotionRecord(
                **{
                    "cluster": self.name,
                    "specialist": f"iter-{iteration:03d}-{iteration:08x}",
                    "sequence": len(records) + 1,
                    "event": event,
                    "from_state": state,
                    "to_state": target,
                    "artifact": artifact(iteration),
                    "iteration": iteration,
                    "eval_run": None,
                    "eval_tag": None,
                    "composite": None,
                    "policy": digest("policy"),
                    "evidence": {},
                    "requested_by": "maya",
                    "prepared_by": Preparer(id="smith", kind="harness"),
                    "expected_previous": self.last_routing if routing else None,
                    "required_approvers": (),
                    "rollback": None,
                    "previous_record": digest(records[-1]) if records else None,
                    "previous_receipts": {},
                    **changes,
                }
            )
            records.append(record)
            if routing:
                self.last_routing = digest(record)
        return self

    def histories(self):
        return tuple(fold(records, POLICY) for records in self.records.values())

    def name_of(self, iteration):
        return f"iter-{iteration:03d}-{iteration:08x}"


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture(scope="session")
def policy():
    return POLICY


@pytest.fixture(scope="session")
def cluster_factory():
    return Cluster
