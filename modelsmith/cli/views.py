"""Results for people: one view for each operation; what has no view of its own prints as fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from modelsmith.cli import views_corpus
from modelsmith.cli.tables import INDENT
from modelsmith.cli.tables import interval as _interval
from modelsmith.cli.tables import rows as _rows
from modelsmith.cli.tables import table as _table
from modelsmith.cli.views_change import diff_rubric_view
from modelsmith.cli.views_eval import eval_view, results_view, run_view

View = Callable[[Any, Console], None]


def render(name: str, result: Any, console: Console) -> None:
    """Print the result of the operation of that name."""
    VIEWS.get(name, _fields)(result, console)


def _fields(result: Any, console: Console) -> None:
    _rows(console, [(name, str(value)) for name, value in result.model_dump(mode="json").items()])


def _validate(result: Any, console: Console) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items()))
    console.print(f"{INDENT}{result.files} governed files: {kinds}")
    for name, pair in result.nearest.items():
        console.print(
            f"{INDENT}{name}: nearest held-out and core texts are {pair.similarity:.2f} alike "
            f"({pair.first} ~ {pair.second}; limit {pair.limit:.2f})"
        )
    for problem in result.problems:
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        console.print(f"{INDENT}[red]{where}[/] {problem.field}", end=" ")
        console.print(f"{problem.message}  -> {problem.mend}", markup=False)
    count = f"{len(result.problems)} problem{'s' if len(result.problems) > 1 else ''}"
    console.print(f"{INDENT}{'[green]valid[/]' if result.valid else f'[red]{count}[/]'}")


def _init(result: Any, console: Console) -> None:
    people = "; ".join(f"{person} ({', '.join(roles)})" for person, roles in result.people.items()) or "nobody yet"
    _rows(
        console,
        [
            ("repository", result.directory),
            ("forge", result.forge),
            ("clusters", ", ".join(result.clusters)),
            ("people", people),
            ("root", result.root),
        ],
    )
    if result.unheld_roles:
        console.print(
            f"{INDENT}[yellow]Nobody holds {', '.join(result.unheld_roles)}[/]: their gates stay shut until "
            "people.yaml lists someone with a key."
        )
    console.print(f"\n{INDENT}Next: cd {result.directory} && modelsmith iterate {result.clusters[0]}")


def _pull_rows(pull: Any) -> list[tuple[str, str]]:
    rows = [
        ("pull request", f"{pull.number}  {pull.title}"),
        ("status", pull.status if pull.status != "open" else f"open, gate {pull.gate}"),
        ("requested by", f"{pull.requester} (opened by {pull.preparer})"),
    ]
    if pull.approvers:
        rows.append(("approved by", ", ".join(pull.approvers)))
    if pull.waiting_for:
        rows.append(("waits for", ", ".join(pull.waiting_for)))
    if pull.change:
        rows.append(("change", pull.change))
    return rows


def _pr_list(result: Any, console: Console) -> None:
    if not result.pulls:
        console.print(f"{INDENT}no pull requests")
        return
    table = _table("no.", "status", "gate", "waits for", "title")
    for pull in result.pulls:
        table.add_row(f"{INDENT}{pull.number}", pull.status, pull.gate, ", ".join(pull.waiting_for), pull.title)
    console.print(table)


def _pr_show(result: Any, console: Console) -> None:
    pull = result.pull
    console.print()
    _rows(console, _pull_rows(pull))
    console.print()
    for check in pull.checks:
        mark = "[green]ok[/]" if check.passed else "[red]no[/]"
        console.print(f"{INDENT}{mark}  {check.name}: ", end="")
        console.print(check.sentence, markup=False)
    for refusal in pull.refusals:
        console.print(f"{INDENT}[red]refused[/]  ", end="")
        console.print(refusal, markup=False)
    for note in pull.notes:
        console.print(f"{INDENT}[yellow]note[/]  ", end="")
        console.print(note, markup=False)
    for review in result.reviews:
        stale = "" if review.current else " (stale: the change was edited since)"
        console.print(f"{INDENT}{review.verdict} by {review.actor} at {review.at}{stale} {review.reason}", markup=False)
    if result.body:
        console.print()
        console.print(Markdown(result.body) if console.is_terminal else result.body, markup=False)


def _verdict_given(result: Any, console: Console) -> None:
    console.print(f"{INDENT}{result.verdict} by {result.actor} on {result.change}")
    _rows(console, _pull_rows(result.pull))
    if result.pull.gate == "open":
        console.print(f"\n{INDENT}Next: modelsmith pr merge {result.pull.number}")


def _pr_merge(result: Any, console: Console) -> None:
    console.print(f"{INDENT}merged {result.number} ({result.title}) as {result.merge[:12]}")


def _pr_open(result: Any, console: Console) -> None:
    _rows(console, _pull_rows(result.pull))


def _verify(result: Any, console: Console) -> None:
    pinned = f"pinned by {result.pin}" if result.pin else "not pinned: pass --root FINGERPRINT from a source you trust"
    rows = [
        ("verified", f"[green]yes[/], up to {result.tip[:12]}"),
        ("root", f"{result.root} ({pinned})"),
        ("changes", f"{result.changes}, of which {result.promotions} promotions"),
        ("judged now", f"{result.changes - result.remembered}; {result.remembered} were verified here before"),
        ("approvals", f"{result.approvals} signatures by people"),
    ]
    if result.rewound_from:
        rows.insert(1, ("warning", f"[red]main was rewound[/]: {result.rewound_from[:12]} is no longer on it"))
    rows += [("weights", f"{name}: {state}") for name, state in result.weights.items()]
    for one in result.stale:
        rows.append(("stale", f"{one.specialist}: {'; '.join(one.reasons)}"))
        rows.append(("renew", one.renewal))
    _rows(console, rows)


def _compare(result: Any, console: Console) -> None:
    comparison = result.comparison
    _rows(
        console,
        [
            ("first", f"{result.first}  composite {_interval(comparison.composite[0])}"),
            ("second", f"{result.second}  composite {_interval(comparison.composite[1])}"),
            ("difference", _interval(comparison.difference)),
            ("gained, lost", f"{comparison.gained}, {comparison.lost} (McNemar p = {comparison.mcnemar_p:.3g})"),
            ("outcome", comparison.outcome),
        ],
    )
    console.print(f"{INDENT}{comparison.sentence}", markup=False)
    table = _table("scenario", "section", "flip")
    for flip in comparison.flips:
        table.add_row(f"{INDENT}{flip.id}", flip.section, flip.direction)
    console.print(table)


def _diagnose(result: Any, console: Console) -> None:
    for cluster in result.failure_clusters:
        console.print()
        _rows(
            console,
            [
                ("Capability", cluster.capability),
                ("Pattern", cluster.pattern),
                ("Failed cases", f"{cluster.failed_cases} of {cluster.total_cases}"),
                ("Severity", cluster.severity),
                ("Reviewer action", cluster.reviewer_action),
                ("Next target", cluster.next_target),
            ],
        )


def _lineage(result: Any, console: Console) -> None:
    for ancestor in result.ancestors:
        facts = ancestor.training
        _rows(
            console,
            [
                ("specialist", f"{ancestor.specialist} ({ancestor.state})"),
                ("artifact", ancestor.artifact),
                ("eval run", ancestor.eval_run or "none"),
                ("training", f"{facts.method}, {facts.rows} rows, {facts.steps} steps, seed {facts.seed}"),
                ("rows", facts.rows_digest),
            ],
        )
        for event in ancestor.events:
            who = f", approved by {', '.join(event.approvers)}" if event.approvers else ""
            console.print(f"{INDENT}{INDENT}{event.sequence:02d}  {event.event} (pull request {event.pull}{who})")
    console.print(f"{INDENT}base model   {result.base_model}  {result.base_digest}")


def _iterate(result: Any, console: Console) -> None:
    console.print()
    rows = [
        ("cluster", result.cluster),
        ("iteration", str(result.iteration)),
        ("specialist", result.specialist or "none"),
        ("phase", result.phase),
        ("reason", result.reason),
    ]
    _rows(console, [(label, text.replace("[", r"\[")) for label, text in rows])
    for run in (result.reference, result.candidate):
        if run:
            run_view(run, console)
    if result.waiting_for:
        what = f"Pull request {result.pull}" if result.pull else "The hold of the cluster"
        console.print(f"\n{INDENT}{what} waits for {', '.join(result.waiting_for)}.\n")
    for label, command in result.next.items():
        console.print(f"{INDENT}{label:<9}{command}", markup=False)


def _promote(result: Any, console: Console) -> None:
    console.print("\n  Promotion request")
    for label, text in (
        ("Cluster", result.cluster),
        ("Model", result.model),
        ("Specialist", result.specialist),
        ("Iteration", str(result.iteration)),
        ("Composite", f"{result.composite:.1%}" if result.composite is not None else "not evaluated"),
        ("Eval tag", result.eval_tag or "none"),
        ("Adapter", result.artifact),
    ):
        console.print(f"    {label + ':':<12}{text}")
    console.print(f"\n  Promotion record written.\n    Directory: {result.directory}")
    console.print(f"    Pull request {result.pull} to {result.event}: {result.status}")
    if result.waiting_for:
        console.print(f"    Waits for:  {', '.join(result.waiting_for)}")


def _rollback(result: Any, console: Console) -> None:
    serving = ", ".join(f"{one.specialist} {one.share:.0%}" for one in result.serving)
    rows = [
        ("cluster", result.cluster),
        ("serves now", serving),
        (result.event, result.specialist),
        ("pull request", f"{result.pull}  {result.status}"),
        ("decision", result.decision),
    ]
    if result.readiness:
        rows.append(("ready", result.readiness))
    if result.waiting_for:
        rows.append(("waits for", ", ".join(result.waiting_for)))
    _rows(console, [*rows, ("next", result.next)])


def _status(result: Any, console: Console) -> None:
    for cluster in result.clusters:
        console.print()
        serving = ", ".join(f"{one.specialist} {one.share:.0%}" for one in cluster.serving)
        rows = [
            ("cluster", cluster.cluster),
            ("base model", cluster.base_model),
            ("serving", serving),
            ("iteration", f"{cluster.iteration or 'none yet'}  {cluster.phase or ''}".strip()),
        ]
        if cluster.reason:
            rows.append(("latest", cluster.reason.replace("[", r"\[")))
        if cluster.composite is not None:
            rows.append(("composite", f"{cluster.composite:.3f}  (threshold {cluster.threshold:.3f})"))
        for one in cluster.specialists:
            rows.append(("specialist", f"{one.specialist}  {one.state}"))
            rows += [("", f"[yellow]stale evidence[/]: {reason}") for reason in one.stale]
        if cluster.renewal:
            rows.append(("renew", cluster.renewal))
        rows += [
            ("waiting", f"pull request {w.number} ({w.title}) for {', '.join(w.waiting_for)}") for w in cluster.waiting
        ]
        if cluster.hold:
            rows.append(
                (
                    "on hold",
                    f"{cluster.hold.specialist} was rolled back; {', '.join(cluster.hold.waiting_for)} clears it",
                )
            )
        rows.append(("next", cluster.next))
        _rows(console, rows)


def _doctor(result: Any, console: Console) -> None:
    for finding in result.findings:
        mark = {"ok": "[green]ok[/]  ", "note": "[yellow]note[/]", "bad": "[red]bad[/] "}[finding.level]
        console.print(f"{INDENT}{mark}  {finding.subject}: ", end="")
        console.print(finding.sentence + (f"  -> {finding.mend}" if finding.mend else ""), markup=False)


VIEWS: dict[str, View] = {
    "init": _init,
    "validate": _validate,
    "doctor": _doctor,
    "iterate": _iterate,
    "eval": eval_view,
    "diagnose": _diagnose,
    "diff-rubric": diff_rubric_view,
    "promote": _promote,
    "rollback": _rollback,
    "status": _status,
    "results": results_view,
    "compare": _compare,
    "lineage": _lineage,
    "balance": views_corpus.balance,
    "composite-history": views_corpus.composite_history,
    "pr list": _pr_list,
    "pr show": _pr_show,
    "pr open": _pr_open,
    "pr merge": _pr_merge,
    "approve": _verdict_given,
    "reject": _verdict_given,
    "verify": _verify,
}
