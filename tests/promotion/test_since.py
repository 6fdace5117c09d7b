"""What main tells of the time since an incumbent: who changed the rule, and which candidates were never accepted."""

from __future__ import annotations

from types import SimpleNamespace

from modelsmith.promotion.since import candidates_since, since, trail
from modelsmith.repository.load import load_cluster
from modelsmith.schema.canonical import canonical_json

EVALSET = "evals/adtech/rtb-root-cause/evalset.yaml"
BASE = SimpleNamespace(earlier=(), specialist="iter-009-00000000", incumbent=SimpleNamespace(model="base"))


def with_composite(line, value):
    """Dana has the threshold changed; Petra asks for it."""

    def change(document):
        document["thresholds"]["composite"] = value

    pull = line.pull(line.edited(EVALSET, change), preparer="petra")
    return line.land(line.approved(pull, "dana"))


def test_a_gate_that_was_lowered_is_told_with_who_asked_and_who_approved(line):
    first = since(line.main(), load_cluster(line.main().tree, "rtb-pricing"), "base")
    for value in (0.95, 0.3, 0.95):
        line = with_composite(line, value)
    line.land(line.approved(line.pull(preparer="petra"), "piet"))
    main = line.main()
    cluster = load_cluster(main.tree, "rtb-pricing")
    assert since(main, cluster, "base") == first
    merges = trail(main, cluster, BASE).merges
    assert [(merge.pull, merge.asked_by, merge.approved_by) for merge in merges] == [
        (n, "petra", ("dana",)) for n in (1, 2, 3)
    ]
    assert merges[1].sentences == ("composite to reach 0.95 -> 0.7 (**easier**)",), (
        "the cluster's own limit is the stricter one"
    )
    assert merges[2].sentences == ("composite to reach 0.7 -> 0.95",)
    line.verify()


def test_candidates_that_nobody_accepted_are_named_unless_evidence_tells(repository):
    with_candidate = repository.after("candidate", number=1, evidence={"training.json": canonical_json({})})
    with_candidate = with_candidate.after("candidate", number=2)
    main = with_candidate.main
    histories = [history.specialist for history in candidates_since(main, "rtb-pricing", "base")]
    assert [history[:8] for history in histories] == ["iter-001", "iter-002"]
    cluster = load_cluster(main.tree, "rtb-pricing")
    assert trail(main, cluster, BASE).untold == tuple(histories)
    second = SimpleNamespace(**{**vars(BASE), "specialist": histories[1]})
    assert trail(main, cluster, second).untold == (histories[0],), (
        "a later candidate changes no packet that is proposed"
    )
    namespace = SimpleNamespace(**{**vars(BASE), "earlier": (SimpleNamespace(model=histories[0]),)})
    assert trail(main, cluster, namespace).untold == (histories[1],)
