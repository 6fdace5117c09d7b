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
}


def epilog(name: str) -> str | None:
    """The examples of a command, as click prints them below its options; None where there are none."""
    lines = EXAMPLES.get(name)
    return "\b\nExamples:\n" + "\n".join(indent(line, "  ") for line in lines) if lines else None
