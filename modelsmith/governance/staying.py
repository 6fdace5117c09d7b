"""What stays in a team's environment, and what flows upstream. Pure.

Flows upstream: bugfixes, adapters, runbooks, interfaces, documentation, agent packs. Stays: private datasets, evidence,
weights, secrets, private settings, deployment state, rubrics. `modelsmith upstream` keeps to this table.
"""

from __future__ import annotations

import re

FOLDERS = {
    "evals": "scenarios, rubrics and datasets of a team's field",
    "clusters": "deployment state and private settings",
    "promotions": "evidence and promotion records",
    ".github/governance": "who decides, by which rules and keys",
    ".github/CODEOWNERS": "who decides",
}
"""Paths that are a team's own, whatever lies there upstream: a pull leaves them, a contribution holds none."""
_WEIGHTS = re.compile(r"\.(safetensors|gguf|ggml|bin|pt|pth|ckpt|onnx|npz|npy|h5|msgpack)$", re.IGNORECASE)
_DATASETS = re.compile(r"\.(jsonl|ndjson|parquet|arrow|csv|tsv|feather|sqlite|db|xlsx?|zip|gz|tar|7z)$", re.IGNORECASE)
_SECRETS = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|\.npmrc|\.pypirc|id_(rsa|ed25519|ecdsa)[^/]*|[^/]*\.(pem|key|p12|pfx|keystore|jks))$",
    re.IGNORECASE,
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NO_PUBLIC = "corp|home|internal|intranet|lan|local|localdomain|private"
_END = r"(?![\w-]|\.\w)"
_INTERNAL = (
    re.compile(rf"(?i)(?:://|@)(?:[^\s/@]*@)?(?:{_LABEL}\.)+(?:{_NO_PUBLIC}){_END}"),
    re.compile(rf"(?i)(?<![\w.-])(?:{_LABEL}\.)+(?:corp|intranet|lan|localdomain){_END}"),
    re.compile(rf"(?i)(?<![\w.-])(?:[a-z0-9.]*[a-z0-9]-{_LABEL}\.)(?:{_LABEL}\.)*(?:{_NO_PUBLIC}){_END}"),
    re.compile(rf"://(?!localhost\b|example\b){_LABEL}(?::\d+)?(?![\w.:@-])"),
    re.compile(
        r"(?<![\w.-])(?:10(?:\.\d{1,3}){3}|192\.168(?:\.\d{1,3}){2}|172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2}"
        r"|169\.254(?:\.\d{1,3}){2}|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])(?:\.\d{1,3}){2})(?![\w.-])"
    ),
)
"""Names that no public server has (RFC 6762, ICANN's ``internal``), in URLs, or where they cannot be an attribute of a
program (``threading.local``); URLs whose host has no dot; addresses of private networks (RFC 1918, 3927, 6598)."""


def is_teams(path: str) -> bool:
    """Whether the path is a team's own, and not the toolkit's."""
    return _folder(path) is not None


def why_it_stays(path: str, upstream_has_it: bool) -> str | None:
    """Why a contribution may not hold a path; None when it may.

    ``upstream_has_it``: the toolkit's own sample of such a kind is not a team's, and may be changed.
    """
    folder = _folder(path)
    if folder:
        return FOLDERS[folder]
    if _SECRETS.search(path):
        return "a file of the kind that keys are kept in"
    if upstream_has_it:
        return None
    if _WEIGHTS.search(path):
        return "weights of a model"
    return "a dataset or an archive, which nobody looks into" if _DATASETS.search(path) else None


def internal_host(text: str) -> str | None:
    """The first name or address of a network that is not public."""
    return next((match[0] for pattern in _INTERNAL if (match := pattern.search(text))), None)


def _folder(path: str) -> str | None:
    parts = path.lower().split("/")
    return next((name for name in FOLDERS if parts[: name.count("/") + 1] == name.lower().split("/")), None)
