"""Words and digests as Markdown that cannot be mistaken for anything else."""

from __future__ import annotations


def short(digest: str) -> str:
    """The first digits of a digest."""
    return f"`{digest.removeprefix('sha256:')[:12]}`"


def safe(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for mark, shown in (("\\", "\\\\"), ("|", "\\|"), ("*", "\\*"), ("`", "'"), ("](", "] ("), ("@", " at ")):
        flat = flat.replace(mark, shown)
    return flat.replace("<", "&lt;").replace(">", "&gt;")
