"""Targets: signatures by the identity of a job, and the trusted roots by which they are checked.

The examples in `fuzz/keyless` were made once by the private Sigstore of the tests (`tests/sigstore_server.py`), with a
log of each version. They verify for ever: what counts is the time that their log entry or timestamp says.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fuzz.target import Target, each
from modelsmith.schema.workflows import Workflow
from modelsmith.signing import dsse, keyless, wire

EXAMPLES = Path(__file__).parent / "keyless"
SUBJECT, TYPE = b"subject", "https://example.org/type"
WORKFLOW = {
    "issuer": "https://token.actions.githubusercontent.com",
    "repository": "acme/promotions",
    "repository_id": 4711,
    "owner_id": 42,
    "workflow": ".github/workflows/modelsmith-reviews.yml",
    "events": ("workflow_run",),
    "trust": "sigstore.json",
}


def examples(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob(f"{kind}-*.json"))]


@cache
def believed() -> tuple[keyless.Believed, ...]:
    """The workflow that signed the examples, by the root of each."""
    return tuple(keyless.Believed(Workflow.model_validate(WORKFLOW), root) for root in examples("root"))


def read_bundle(data: bytes) -> object:
    def read_statement(spelling: bytes) -> object:
        wire.parse_statement(dsse.peek(spelling))
        return dsse.unseal(spelling, believed(), SUBJECT, TYPE)

    return each(data, read_statement)


def read_root(data: bytes) -> object:
    """A root that somebody proposes to pin, and a genuine bundle checked by it."""
    bundle = examples("bundle")[0]

    def read(root: bytes) -> object:
        keyless.check_root(root)
        return dsse.unseal(bundle, [keyless.Believed(believed()[0].workflow, root)], SUBJECT, TYPE)

    return each(data, read)


TARGETS = (
    Target("keyless-bundle", read_bundle, lambda: examples("bundle")),
    Target("trusted-root", read_root, lambda: examples("root")[:1]),
)
