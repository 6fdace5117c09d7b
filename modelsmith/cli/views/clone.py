"""Views of a clone: laid down, written to, checked, verified, and how it stands."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Parts, Styled
from modelsmith.cli.tables import styled_outcome
from modelsmith.cli.views import pull
from modelsmith.cli.views.runs import duration
from modelsmith.schema.figures import format_apart
from modelsmith.schema.steps import shell_line

if TYPE_CHECKING:
    from modelsmith.operations.agents_md import AgentsMdResult
    from modelsmith.operations.authoring import NewResult
    from modelsmith.operations.doctor import DoctorResult
    from modelsmith.operations.init import InitResult
    from modelsmith.operations.status import RunningView, StatusResult
    from modelsmith.operations.validate import ValidateResult
    from modelsmith.operations.verify import VerifyResult


def init(result: InitResult, page: Page) -> None:
    """Page of what ``modelsmith init`` gives."""
    from modelsmith.operations.init import first_step

    people = "; ".join(f"{person} ({', '.join(roles)})" for person, roles in result.people.items()) or "nobody yet"
    page.rows(
        [
            ("repository", result.directory),
            ("forge", result.forge),
            ("clusters", ", ".join(result.clusters) or "none yet"),
            ("people", people),
            ("root", result.root),
        ],
    )
    if result.unheld_roles:
        page.line(
            Styled(f"Nobody holds {', '.join(result.unheld_roles)}", "yellow"),
            ": their gates stay shut until people.yaml lists someone with a key.",
        )
    page.gap()
    first = first_step(result.clusters, result.sets)
    page.line(f"Next: cd {shlex.quote(result.directory)} && modelsmith {first}")


def new(result: NewResult, page: Page) -> None:
    """Page of what ``modelsmith new WHAT`` gives."""
    for path in result.files:
        page.line(Styled("wrote", "green"), f" {path}")
    for problem in result.remaining:
        page.line(Styled("still to do", "yellow"), f" {problem.file}: {problem.message}  -> {problem.mend}")


def agents_md(result: AgentsMdResult, page: Page) -> None:
    """Page of what ``modelsmith agents-md`` gives."""
    page.line(Styled("wrote" if result.changed else "unchanged", "green"), f" {result.file}")


def validate(result: ValidateResult, page: Page) -> None:
    """Page of what ``modelsmith validate`` gives."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items()))
    page.line(f"{result.files} governed files: {kinds}")
    for name, pair in result.nearest.items():
        page.line(
            f"{name}: nearest held-out and core texts are {pair.similarity:.2f} alike "
            f"({pair.first} ~ {pair.second}; limit {pair.limit:.2f})"
        )
    for name, tried in result.firewall.items():
        page.line(
            f"{name}: {tried.dropped} of {tried.rows} rows of its generators are too near to scored texts "
            f"(nearest of the others {tried.nearest:.2f}; limit {tried.limit:.2f})"
        )
        for loss in tried.losses:
            page.line(loss, indent=2)
        if tried.not_checked:
            page.line(tried.not_checked, indent=2)
    for style, kind, problems in (("yellow", "odd ", result.warnings), ("red", "", result.problems)):
        for problem in problems:
            where = f"{problem.file}:{problem.line}" if problem.line else problem.file
            page.line(kind, Styled(where, style), f" {problem.field} {problem.message}  -> {problem.mend}")
    count = f"{len(result.problems)} problem{'s' if len(result.problems) > 1 else ''}"
    page.line(Styled("valid", "green") if result.valid else Styled(count, "red"))


_SEEN = {
    "same": "the same main",
    "older": "an older main",
    "newer": "a newer main, which was not verified: fetch it, and run this again",
}


def _checked_out(result: VerifyResult) -> Parts:
    if not result.checked_out:
        return (Styled("no", "yellow"), ": the files here are of another commit")
    return f"yes, and {result.edited} paths differ from it" if result.edited else "yes"


def verify(result: VerifyResult, page: Page) -> None:
    """Page of what ``modelsmith verify`` gives."""
    pinned = f"pinned by {result.pin}" if result.pin else "not pinned: pass --root FINGERPRINT from a source you trust"
    rows: list[tuple[str, Parts]] = [
        ("verified", (Styled("yes", "green"), f", {result.revision} up to {result.tip}")),
        ("checked out", _checked_out(result)),
        ("root", f"{result.root} ({pinned})"),
        ("changes", f"{result.changes}, of which {result.promotions} promotions"),
        ("judged now", f"{result.changes - result.remembered}; {result.remembered} were verified here before"),
        ("approvals", f"{result.approvals} signatures by people"),
    ]
    rows += [("compared", f"{where} has {_SEEN[age]}") for where, age in result.compared.items()]
    if result.rewound_from:
        warning = (Styled("main was rewound", "red"), f": {result.rewound_from[:12]} is no longer on it")
        rows.insert(1, ("warning", warning))
    rows += [("weights", f"{name}: {state}") for name, state in result.weights.items()]
    rows += [("firewall", f"{name}: {state}") for name, state in result.firewall.items()]
    for name, agreements in result.observations.items():
        for agreement in agreements:
            word = Styled("agrees", "green") if agreement.agrees else Styled("disagrees", "red")
            rows.append(("observed", (word, f", {name}: {agreement.sentence}")))
    rows += [("observed", (Styled("not counted", "yellow"), f": {words}")) for words in result.uncounted]
    if result.audit:
        audit = result.audit
        counts = f"{audit.changes} changes and {audit.approvals} approvals from {audit.since} to {audit.until}"
        rows.append(("audit", (Styled("is what main says", "green"), f": {counts}")))
    for stale in result.stale:
        rows.append(("stale", f"{stale.specialist}: {'; '.join(stale.reasons)}"))
        rows.append(("renew", stale.renewal))
    page.rows(rows)


def status(result: StatusResult, page: Page) -> None:
    """Page of what ``modelsmith status`` gives."""
    pull.unreadable(result, page)
    if not result.clusters:
        page.line("no cluster on main yet; `modelsmith new cluster NAME` writes one")
    for cluster in result.clusters:
        page.gap()
        serving = ", ".join(f"{route.specialist} {route.share:.0%}" for route in cluster.serving)
        rows: list[tuple[str, Parts]] = [
            ("cluster", cluster.cluster),
            ("base model", cluster.base_model),
            ("serving", serving),
            ("iteration", f"{cluster.iteration or 'none yet'}  {cluster.phase or ''}".strip()),
            ("state", f"{cluster.state}{f' by {cluster.blocked_by}' if cluster.blocked_by else ''}"),
        ]
        if cluster.running:
            rows.append(("running", _work(cluster.running)))
        if cluster.reason:
            rows.append(("latest", cluster.reason))
        if cluster.recommended and cluster.recommended.change:
            rows.append(("recommended", f"in {cluster.recommended.file}: {cluster.recommended.change}"))
        if cluster.error:
            rows.append(("stopped", (Styled(cluster.error.code, "red"), f": {cluster.error.message}")))
        if cluster.composite is not None:
            value, limit = format_apart(cluster.composite, cluster.threshold)
            rows.append(("composite", f"{value}  (threshold {limit})"))
        for specialist in cluster.specialists:
            line: Parts = f"{specialist.specialist}  {specialist.state}"
            if specialist.state == "candidate" and specialist.verdict:
                line = (
                    f"{line}  ",
                    styled_outcome(specialist.verdict),
                    f"  composite {specialist.composite:.3f}, by the rule of its day",
                )
            rows.append(("specialist", line))
            if specialist.export:
                rows.append(("", specialist.export))
            if specialist.overridden:
                rows.append(("", (Styled("overridden", "yellow"), f": {specialist.overridden}")))
            if specialist.observers:
                rows.append(("", f"observers: {specialist.observers}"))
            rows += [("", (Styled("stale evidence", "yellow"), f": {reason}")) for reason in specialist.stale]
        if cluster.renewal:
            rows.append(("renew", cluster.renewal))
        rows += [
            ("waiting", f"pull request {w.number} {f'for {names}' if names else f'(gate {w.gate})'}: {w.title}")
            for w in cluster.waiting
            for names in (", ".join(w.waiting_for),)
        ]
        if cluster.hold:
            clearers = ", ".join(cluster.hold.waiting_for)
            rows.append(("on hold", f"{cluster.hold.specialist} was rolled back; {clearers} clears it"))
        rows.append(("next", shell_line(cluster.next)))
        if cluster.why:
            rows.append(("", cluster.why))
        page.rows(rows)


def _work(running: RunningView) -> str:
    counted = f" {running.done} of {running.total}" if running.total else ""
    remaining = f", about {duration(running.seconds_left)} left" if running.seconds_left is not None else ""
    return f"{running.phase}{counted}{remaining}: {running.message}"


def doctor(result: DoctorResult, page: Page) -> None:
    """Page of what ``modelsmith doctor`` gives."""
    styles = {"ok": "green", "note": "yellow", "bad": "red"}
    for finding in result.findings:
        why = f": {finding.why}" if finding.why else ""
        mend = f"  -> {finding.mend}" if finding.mend else ""
        mark = Styled(f"{finding.level:<4}", styles[finding.level])
        page.line(mark, f"  {finding.subject}: {finding.sentence}{why}{mend}")
    for change in result.changes:
        page.gap()
        page.line(f"{'set' if change.done else 'to set'} at GitHub: {change.what}")
        for line in change.lines:
            page.line(f"  {line}")
