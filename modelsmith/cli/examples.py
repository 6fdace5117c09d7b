"""What ``modelsmith COMMAND --help`` shows as examples: lines to copy, by the command's name."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": (
        "modelsmith init desk --kit adtech --person head-of-trading=maya.pub",
        "modelsmith init draft --kit empty --domain claims",
    ),
    "validate": ("modelsmith validate", "modelsmith validate evals/adtech/rtb-root-cause/scenarios/auction-timeout"),
    "new set": ("modelsmith new set letters --description 'Says what a claim is about.' --field 'kind=water|fire'",),
    "new capability": ("modelsmith new capability water-damage",),
    "new scenario": ("modelsmith new scenario water-damage --part held-out",),
    "new scenarios": ("modelsmith new scenarios cases.csv",),
    "new generator": (
        "modelsmith new generator water-damage --answer kind=water --template 'Water ran from the {place}.' \\\n"
        "    --slot 'place=bath|boiler'",
    ),
    "new label": ("modelsmith new label water-damage-core-01 --answer 'It was water.' --verdict pass --by ada",),
    "new cluster": ("modelsmith new cluster claims --metric right_desk",),
    "capture": ("modelsmith capture failures.jsonl",),
    "accept-scenario": (
        "modelsmith accept-scenario CASE --capability auction-timeout --part held-out --answer cause=timeout \\\n"
        "    --answer action=cut_latency --risk high --lens trader --outcome lost-auctions \\\n"
        "    --pass 'Sees the deadline.' --fail 'Blames the bids.'",
    ),
    "iterate": ("modelsmith iterate rtb-pricing", "modelsmith iterate rtb-pricing --every 6h --between 22:00-06:00"),
    "eval": (
        "modelsmith eval --cluster rtb-pricing --quick",
        "modelsmith eval --cluster rtb-pricing --model iter-001-c82c9078 --changed-since origin/main",
    ),
    "eval-changes": ("modelsmith eval-changes --since origin/main --page eval.md",),
    "diagnose": ("modelsmith diagnose --tag rtb-pricing-iter-001-base",),
    "review-synthetic": ("modelsmith review-synthetic rtb-pricing --samples 5",),
    "strike": ("modelsmith strike rtb-pricing ROW --reason 'The sum in this row is wrong.'",),
    "train": ("modelsmith train --cluster rtb-pricing --eval-tag rtb-pricing-iter-001-base",),
    "promote": ("modelsmith promote rtb-pricing", "modelsmith promote rtb-pricing iter-001-c82c9078 --to deprecated"),
    "rollback": (
        "modelsmith rollback rtb-pricing --reason 'The auction win rate fell.'",
        "modelsmith rollback rtb-pricing --clear-hold --reason 'A feed was broken, not the model.'",
    ),
    "why": ("modelsmith why timeout-core-01", "modelsmith why bid-shading.cause.pacing"),
    "results": ("modelsmith results --tag rtb-pricing-iter-001-base --failures",),
    "compare": ("modelsmith compare rtb-pricing-iter-001-base rtb-pricing-iter-001-candidate",),
    "diff-rubric": ("modelsmith diff-rubric rtb-pricing --since main",),
    "live": ("modelsmith live rtb-pricing --svg window.svg",),
    "route": ("modelsmith route requests.jsonl --against main",),
    "pr show": ("modelsmith pr show 4", "modelsmith pr show 4 --diff"),
    "pr open": ("modelsmith pr open BRANCH --title 'A timeout caused by certificates' --key ~/.ssh/id_ed25519",),
    "pr merge": ("modelsmith pr merge 4",),
    "approve": ("modelsmith approve 4 --key ~/.ssh/id_ed25519 --reason 'Agreed with finance.'",),
    "reject": ("modelsmith reject 4 --key ~/.ssh/id_ed25519 --reason 'Two floor cases are lost.'",),
    "check": ("modelsmith check --pr 4",),
    "verify": ("modelsmith verify --root FINGERPRINT",),
    "doctor": ("modelsmith doctor     # on a new machine, and when something does not work",),
    "schema export": (
        "modelsmith schema export                        # an editor then checks YAML files as you type",
        "modelsmith schema export --results --operations # to write a program that reads --json",
    ),
    "agents-md": ("modelsmith agents-md  # after an edit of policy, CODEOWNERS or a cluster file",),
    "run-pending": ("modelsmith run-pending rtb-pricing --model iter-001-c82c9078",),
    "export": (
        "modelsmith export iter-001-c82c9078 --as merged",
        "modelsmith export iter-001-c82c9078 --as gguf --file model.gguf",
    ),
    "observe": ("modelsmith observe iter-001-c82c9078 --artifact ./fetched/iter-001",),
    "status": ("modelsmith status     # the first thing to ask, in any clone",),
    "export-inspect": ("modelsmith export-inspect run.eval --tag rtb-pricing-iter-001-base",),
    "lineage": ("modelsmith lineage iter-001-c82c9078",),
    "composite-history": ("modelsmith composite-history rtb-pricing --svg history.svg",),
    "balance": (
        "modelsmith balance rtb-pricing                 # a cluster, or an eval set:",
        "modelsmith balance adtech/rtb-root-cause --svg balance.svg",
    ),
    "fleet": ("modelsmith fleet",),
    "events": ("modelsmith events --limit 10", "modelsmith events --since 12-9f2c41d07be3a655"),
    "evidence": ("modelsmith evidence iter-001-c82c9078",),
    "jobs list": ("modelsmith jobs list --all",),
    "jobs show": ("modelsmith jobs show 70b2547a",),
    "jobs tail": ("modelsmith jobs tail 70b2547a --lines 50",),
    "jobs cancel": ("modelsmith jobs cancel 70b2547a",),
    "jobs resume": ("modelsmith jobs resume 70b2547a",),
    "pr list": ("modelsmith pr list",),
    "pr ask": ("modelsmith pr ask 4",),
    "pr receipts": ("modelsmith pr receipts    # after somebody merged by GitHub's button",),
    "pr close": ("modelsmith pr close 4 --reason 'Superseded by 6.' --key ~/.ssh/id_ed25519",),
    "approvers": ("modelsmith approvers", "modelsmith approvers --pr 4"),
    "attest-reviews": ("modelsmith attest-reviews --pr 4",),
    "runbook list": ("modelsmith runbook list",),
    "runbook show": ("modelsmith runbook show nightly-iterate --param cluster=rtb-pricing",),
    "runbook run": ("modelsmith runbook run nightly-iterate --param cluster=rtb-pricing --dry-run",),
    "upstream status": ("git remote add upstream URL && modelsmith upstream status",),
    "upstream pull": ("modelsmith upstream pull",),
    "upstream contribute": (
        "modelsmith upstream contribute fix --title 'Mend a message' --author 'Ada Noor <ada@example.org>'",
    ),
    "audit": ("modelsmith audit --from 2026-01-01 --to 2026-04-01 --out q1",),
    "mcp": (
        "modelsmith mcp --role operator          # agents' clients start it so; `pack install` writes it for them",
        "modelsmith mcp --http                   # for agents that bring a token",
        "modelsmith mcp --specialist rtb-pricing # its one tool asks this cluster's specialist",
    ),
    "pack show": ("modelsmith pack show claude --role operator",),
    "pack install": ("modelsmith pack install claude --role operator",),
    "mcp-token issue": ("modelsmith mcp-token issue --role reviewer --days 7",),
    "mcp-token list": ("modelsmith mcp-token list",),
    "mcp-token revoke": ("modelsmith mcp-token revoke ID    # `mcp-token list` shows ids",),
    "serve": (
        "modelsmith serve --no-keys    # this machine only, to try it",
        "modelsmith serve --host 0.0.0.0 --name door.example.org --tls-cert cert.pem --tls-key key.pem",
    ),
    "serve-dashboard": ("modelsmith serve-dashboard > dashboard.json    # then import it in Grafana",),
    "serve-key issue": ("modelsmith serve-key issue --cluster rtb-pricing --days 90",),
    "serve-key list": ("modelsmith serve-key list",),
    "serve-key revoke": ("modelsmith serve-key revoke ID    # `serve-key list` shows ids",),
    "webhooks add": (
        "echo https://ops.example.org/hook | modelsmith webhooks add ops --event promotion.pending_approval",
    ),
    "webhooks list": ("modelsmith webhooks list",),
    "webhooks test": ("modelsmith webhooks test ops",),
    "webhooks deliver": (
        "modelsmith webhooks deliver             # what is due now, as from cron",
        "modelsmith webhooks deliver --follow    # and on, as a service",
    ),
    "webhooks redeliver": ("modelsmith webhooks redeliver ops",),
    "webhooks rotate": ("modelsmith webhooks rotate ops", "modelsmith webhooks rotate ops --end"),
    "webhooks remove": ("modelsmith webhooks remove ops",),
    "hook install": ("modelsmith hook install promotions.git",),
}


def epilog(name: str) -> str | None:
    """The examples of a command, as click prints them below its options; None where there are none."""
    lines = EXAMPLES.get(name)
    return "\b\nExamples:\n" + "\n".join(indent(line, "  ") for line in lines) if lines else None
