"""The review packet: what a reviewer with ten minutes reads, verdict first. A pure function; the pull request's body.

It holds figures, names and digests; no prompt, completion, path of a machine or host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelsmith.evaluation.tally import SECTIONS
from modelsmith.evidence.lineage_section import WITHHELD, lineage_section, training_section
from modelsmith.evidence.markdown import folded, money, safe, short
from modelsmith.evidence.markdown import table as _table
from modelsmith.evidence.measures import LABELS, baselines_section, critical_section, judge_section, repeats_section
from modelsmith.evidence.notices import shares
from modelsmith.evidence.risks import open_risks
from modelsmith.evidence.trail import NO_TRAIL, Trail, trail_section
from modelsmith.governance.states import folder_of
from modelsmith.governance.window import loss_text, watched
from modelsmith.schema.base import Actor, Event, Section, Slug
from modelsmith.schema.cluster import Cluster, OnDrift, Rollback, Routing
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence, RunEvidence
from modelsmith.schema.figures import counted, format_apart, format_beside
from modelsmith.schema.promotion import Preparer, RollbackContract
from modelsmith.schema.run import Estimate, Headline, SectionScore

CHART: Final = "chart.svg"
REGRESSIONS_SHOWN: Final = 20
"""Lines of the list of regressions; critical ones come first, and more are counted."""
_ENVELOPE: Final = 'import json, sys; print(json.dumps(json.load(sys.stdin)["dsseEnvelope"]))'
"""cosign 2 compares ``--type`` only with the envelope of a bundle; with the bundle itself it lets any type pass."""


@dataclass(frozen=True)
class PacketRequest:
    """The request of a pull request, besides the evidence."""

    event: Event
    requested_by: str
    prepared_by: Preparer
    required_approvers: tuple[Slug, ...]
    """Roles; empty when the harness's checks alone decide."""
    rollback: RollbackContract | None
    routing: tuple[Routing, Routing]
    """Routing before and after it."""
    on_call: tuple[tuple[Slug, tuple[Actor, ...]], ...]
    """Roles that decide about a rollback outside its contract, and who has them."""
    validators: tuple[Slug, ...]
    """Roles that decide whether production validates it; empty once that is what is asked for."""
    observers: str = ""
    """What second observers came to (`observers_section`); empty where nobody observed and nobody has to."""
    live: str = ""
    """What production showed (`live_section`); empty where nothing was counted by a rule."""
    pull: int | None = None
    """Number of the pull request, when it is known."""


def packet(
    evidence: Evidence,
    cluster: Cluster,
    request: PacketRequest | None = None,
    trail: Trail = NO_TRAIL,
    override: str = "",
) -> str:
    """The packet as Markdown; without ``request`` it speaks of the evidence only, as beside ``evidence.json``.

    An ``override`` (`override_notice`) stands above everything else.
    """
    parts = [
        override,
        _outcome_section(evidence, request),
        f"![Scores of {safe(evidence.specialist)} with intervals and thresholds, and each capability]({CHART})",
        _scores(evidence),
        _checks(evidence.candidate.headline),
        request.live if request else "",
        request.observers if request else "",
        trail_section(evidence, trail),
        _regressions(evidence),
        critical_section(evidence),
        _risks(evidence, cluster),
        _approval(cluster, request, override),
        _rollback(evidence, cluster, request),
        *([_next(evidence, cluster, request)] if request else []),
        _capabilities(evidence),
        _points(evidence),
        baselines_section(evidence),
        judge_section(evidence),
        repeats_section(evidence),
        _operations(evidence, cluster),
        _coverage(evidence),
        training_section(evidence),
        lineage_section(evidence, cluster),
        _check_yourself(evidence, request),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _outcome_section(evidence: Evidence, request: PacketRequest | None) -> str:
    headline = evidence.candidate.headline
    blockers = [check.sentence for check in headline.checks if check.outcome != "PASS"]
    if blockers:
        reason = "; ".join(blockers)
    else:
        limits = evidence.rule.thresholds
        composite_text, _ = format_apart(headline.composite.value, limits.composite)
        held_out_text, _ = format_apart(headline.held_out.value, limits.held_out)
        reason = (
            f"composite {composite_text} and held-out {held_out_text} reach their thresholds, and {_lost(headline)}"
        )
    export = f" ({safe(evidence.export.description)})" if evidence.export else ""
    line = f"**{headline.verdict}**: {safe(evidence.specialist)}{export} for {safe(evidence.cluster)}: {safe(reason)}."
    if request is None:
        return line
    request_line = f"Asked for: **{request.event}**, by {safe(request.requested_by)}"
    if request.prepared_by.id != request.requested_by:
        request_line += f", prepared by {safe(request.prepared_by.id)} ({request.prepared_by.kind})"
    return f"{line}\n\n{request_line}."


def _lost(headline: Headline) -> str:
    if not headline.compared:
        return "the incumbent passes nothing that could be lost"
    return f"{len(headline.regressions)} of {headline.compared} results that the incumbent passes are lost"


def _scores(evidence: Evidence) -> str:
    base = next((run for run in evidence.baselines if run.model == "base"), None)
    others = [("incumbent", evidence.incumbent.headline)] + ([("base", base.headline)] if base else [])
    name = f"incumbent ({safe(evidence.incumbent.model)})"
    head = ["score", "candidate", f"{evidence.rule.decision.confidence * 100:g}% interval", "threshold", ""]
    rows = [[*head, name, *(["base"] if base else [])]]
    limits = evidence.rule.thresholds
    mine = evidence.candidate.headline
    rows.append(_row("**Composite**", mine.composite, limits.composite, [other.composite for _, other in others]))
    for section in SECTIONS[:3]:
        score = _section(mine, section)
        if score:
            theirs = [_section(other, section) for _, other in others]
            rows.append(_row(LABELS[section], score.score, None, [other.score if other else None for other in theirs]))
    rows.append(_row("**Held-out** passed", mine.held_out, limits.held_out, [other.held_out for _, other in others]))
    return _table(rows, "lrrrlrr"[: len(rows[0])])


def _row(label: str, score: Estimate, threshold: float | None, others: Sequence[Estimate | None]) -> list[str]:
    value, limit = format_beside(score.value, threshold)
    result = "" if threshold is None or not score.n else "PASS" if score.value >= threshold else "**FAIL**"
    return [
        label,
        value if score.n else "-",
        f"{score.low:.3f} to {score.high:.3f}" if score.n else "-",
        limit,
        result,
        *(_value(other) for other in others),
    ]


def _value(score: Estimate | None) -> str:
    return f"{score.value:.3f}" if score and score.n else "-"


def _section(headline: Headline, section: Section) -> SectionScore | None:
    return next((score for score in headline.sections if score.section == section), None)


def _checks(headline: Headline) -> str:
    lines = [f"- {_mark(check.outcome)} {safe(check.sentence)}" for check in headline.checks]
    return "\n".join(["### The registered rule", "", *lines])


def _mark(outcome: str) -> str:
    return "PASS" if outcome == "PASS" else f"**{outcome}**"


def _regressions(evidence: Evidence) -> str:
    losses = sorted(
        evidence.candidate.headline.regressions,
        key=lambda loss: (not loss.critical, loss.section, loss.id),
    )
    lines = ["### Regressions", ""]
    lines += [
        f"- `{loss.id}` ({LABELS[loss.section].lower()}, {loss.capability}){' **critical**' if loss.critical else ''}"
        for loss in losses[:REGRESSIONS_SHOWN]
    ]
    if len(losses) > REGRESSIONS_SHOWN:
        lines.append(f"- and {len(losses) - REGRESSIONS_SHOWN} more, all in `{EVIDENCE_FILE}`")
    if not losses:
        lines.append("None.")
    return "\n".join(lines)


def _capabilities(evidence: Evidence) -> str:
    mine, before = _by_capability(evidence.candidate), _by_capability(evidence.incumbent)
    sections = [section for section in SECTIONS if any(section in counts for counts in mine.values())]
    rows = [["capability, weakest first", *(LABELS[section] for section in sections), "incumbent"]]
    for name in sorted(mine, key=lambda name: (_share(mine[name]), name)):
        counts = [f"{c[0]} / {c[1]}" if (c := mine[name].get(section)) else "-" for section in sections]
        rows.append([name, *counts, f"{_share(before.get(name, {})):.0%}"])
    return "### Cases passed by capability\n\n" + _table(rows, "l" + "r" * (len(sections) + 1))


def _by_capability(run: RunEvidence) -> dict[str, dict[Section, tuple[int, int]]]:
    by_capability: dict[str, dict[Section, tuple[int, int]]] = {}
    for rate in run.headline.per_capability:
        by_capability.setdefault(rate.capability, {})[rate.section] = (rate.passed, rate.total)
    return by_capability


def _share(counts: Mapping[Section, tuple[int, int]]) -> float:
    total = sum(n for _, n in counts.values())
    return sum(passed for passed, _ in counts.values()) / total if total else 0.0


def _points(evidence: Evidence) -> str:
    before = {rate.point: rate for rate in evidence.incumbent.headline.per_rubric}
    required = {point.id: point.required for point in evidence.rule.points}
    rows = [["rubric point, weakest first", "passed", "share", "incumbent"]]
    for rate in sorted(
        evidence.candidate.headline.per_rubric, key=lambda point: (point.passed / point.total, point.point)
    ):
        prior = before.get(rate.point)
        name = rate.point if required[rate.point] else f"{rate.point} (not required)"
        share = f"{prior.passed / prior.total:.1%}" if prior else "-"
        rows.append([name, f"{rate.passed} / {rate.total}", f"{rate.passed / rate.total:.1%}", share])
    return "### Answers passed by rubric point\n\n" + _table(rows, "lrrr")


def _operations(evidence: Evidence, cluster: Cluster) -> str:
    engine = evidence.engine
    measured = f"Measured with {engine.substrate} ({safe(engine.version)}) in {engine.dtype} on {engine.device}"
    mine, theirs = evidence.candidate.cost, evidence.incumbent.cost
    if mine is None or theirs is None:
        return f"### Speed and cost\n\n{WITHHELD}. {measured}."
    rows = [
        ["", "candidate", f"incumbent ({safe(evidence.incumbent.model)})"],
        *_latency_rows(evidence),
        ["throughput, tokens per second", f"{mine.tokens_per_second:.1f}", f"{theirs.tokens_per_second:.1f}"],
        ["cost per decision", *(money(cost.cost_per_decision, cost.currency) for cost in (mine, theirs))],
    ]
    price = f"compute priced at {cluster.prices.compute_per_hour:g} {cluster.prices.currency} an hour"
    return f"### Speed and cost\n\n{_table(rows, 'lrr')}\n\n{_conditions(evidence)}{measured}; {price}."


def _latency_rows(evidence: Evidence) -> list[list[str]]:
    """Of single requests, or none: times of an eval's batches would compare nothing."""
    latency = evidence.latency
    if latency is None:
        return []
    return [
        ["one request, p50", *(f"{timing.p50_seconds:.3f} s" for timing in (latency.candidate, latency.incumbent))],
        ["one request, p95", *(f"{timing.p95_seconds:.3f} s" for timing in (latency.candidate, latency.incumbent))],
    ]


def _conditions(evidence: Evidence) -> str:
    latency = evidence.latency
    if latency is None:
        return ""
    return (
        f"One request: {latency.requests} to each model, one at a time, the two models in turn, after "
        f"{latency.warm_up} to warm up. Throughput: the eval's answers, in batches. "
    )


def _risks(evidence: Evidence, cluster: Cluster) -> str:
    return "\n".join(["### Open risk", "", *(f"- {safe(risk)}" for risk in open_risks(evidence, cluster))])


def _approval(cluster: Cluster, request: PacketRequest | None, override: str) -> str:
    if request is None and override:
        line = "The role that is named at the top. Whoever asked for this, prepared it or wrote its commits cannot."
    elif request is None:
        line = f"None here: the harness's checks decide this step. {cluster.owner} answers for the cluster."
    elif request.required_approvers:
        roles = " and ".join(f"**{role}**" for role in request.required_approvers)
        line = f"{roles}. Whoever asked for this, prepared it or wrote its commits cannot approve it."
    else:
        line = "None: the harness's checks alone decide this step."
    return f"### Required approvers\n\n{line}"


def _rollback(evidence: Evidence, cluster: Cluster, request: PacketRequest | None) -> str:
    contract = request.rollback if request else None
    terms = contract.terms if contract else cluster.rollback
    prior = contract.prior_specialist if contract else evidence.incumbent.model
    back = f"to {safe(prior)}" + (
        f" (artifact {short(contract.prior_artifact)})" if contract and contract.prior_artifact else ""
    )
    approves = "Approving this approves it" if contract else "Approving a deployment will approve this"
    text = (
        f"### Rollback\n\n{approves}: {terms.metric} must not drop by more than {terms.max_drop:.1%} of the "
        f"incumbent's. For {counted(terms.window_minutes, 'minute')} after your approval `modelsmith rollback` sends "
        f"traffic back {back}, to exactly the routing before this, without asking anyone again; later it asks. For "
        f"{counted(terms.manual_hours, 'hour')} that model is kept ready. After a rollback nothing is deployed until a "
        "person clears the hold. So merge soon after you approve: the minutes count from the approval."
    )
    return f"{text}\n\n{_rule(terms)}" if terms.rule else text


_ON_DRIFT: Mapping[OnDrift, str] = {
    "tell": "",
    "roll-back": " When it leaves what it was validated at, the front door proposes its rollback to you.",
    "iterate": " When it leaves what it was validated at, the front door starts an iteration.",
}


def _rule(terms: Rollback) -> str:
    """The rule by which the front door rolls back by itself, in words."""
    rule = terms.rule
    assert rule
    limits = ", ".join(f"{metric.name} {loss_text(metric.allowed, metric.relative)} worse" for metric in watched(terms))
    return (
        f"In those minutes the front door takes it back by itself when it is worse than this: {limits}; with at least "
        f"{rule.least_decisions} decisions on each side, and an error probability of {rule.error_probability:g} over "
        "the whole window, however often it looks. Production can validate it only by what the door counts."
        f"{_ON_DRIFT[terms.on_drift]}"
    )


def _next(evidence: Evidence, cluster: Cluster, request: PacketRequest) -> str:
    """What the merge does to live traffic, who is there when it goes wrong, and which decision comes after."""
    before, after = request.routing
    lines = [
        f"- Serves now: {shares(before)}",
        f"- Serves after the merge: {shares(after)}, on {cluster.deployment.target}"
        + ("" if before != after else " (unchanged)"),
        *(
            f"- On call: **{role}** ({', '.join(safe(name) for name in names) or '**nobody has this role**'}), who "
            "decides about a rollback outside the terms above"
            for role, names in request.on_call
        ),
    ]
    if request.validators:
        roles = " or ".join(f"**{role}**" for role in request.validators)
        lines.append(
            f"- Then: watch {cluster.rollback.metric}; `modelsmith promote {cluster.cluster}` asks {roles} whether "
            f"production validates it, which gives {safe(evidence.specialist)} all of the traffic"
        )
    else:
        lines.append("- Then: nothing follows by itself; the next candidate is measured against this one")
    return "\n".join(["### What happens next", "", *lines])


def _coverage(evidence: Evidence) -> str:
    counts: dict[tuple[str, str], dict[Section, int]] = {}
    for part in evidence.coverage:
        for name, count in part.counts.items():
            counts.setdefault((part.dimension, name), {})[part.section] = count
    sections = [section for section in SECTIONS if any(part.section == section for part in evidence.coverage)]
    rows = [["scenarios by", "", *(LABELS[section] for section in sections)]]
    printed = ""
    for (dimension, name), by_section in sorted(counts.items()):
        label = dimension.replace("_", " ") if dimension != printed else ""
        rows.append([label, safe(name), *(str(by_section.get(section, 0)) for section in sections)])
        printed = dimension
    title = f"Coverage of {safe(evidence.eval_set)} {evidence.eval_set_version}"
    return folded(title, _table(rows, "ll" + "r" * len(sections)))


def _check_yourself(evidence: Evidence, request: PacketRequest | None) -> str:
    folder = folder_of(evidence.cluster, evidence.specialist, 2, "eval-accepted")
    show = [f"modelsmith pr show {request.pull}"] if request and request.pull else []
    commands = [
        *show,
        f"modelsmith verify promotions/{evidence.cluster}/{evidence.specialist}",
        f"modelsmith lineage {evidence.specialist}",
        "key=.github/governance/trust/harness.pem      # the key that signed it; people.yaml names those that count",
        f"accepted={folder}",
        "envelope=$(mktemp)",
        f"python3 -c '{_ENVELOPE}' < $accepted/{EVIDENCE_SIGNATURE} > $envelope",
        "cosign verify-blob-attestation --key $key --insecure-ignore-tlog=true --signature $envelope \\",
        f"  --type {EVIDENCE_TYPE} $accepted/{EVIDENCE_FILE}",
        "sha256sum -c SHA256SUMS      # inside the artifact's folder",
        f"sha256sum SHA256SUMS         # is {evidence.artifact.removeprefix('sha256:')}",
    ]
    verdicts = len(evidence.candidate.rows)
    text = f"`{EVIDENCE_FILE}` holds {verdicts} verdicts without text; every score above follows from them."
    return "\n".join(["### Check it yourself", "", text, "", "```sh", *commands, "```"])
