"""What is fuzzed: every parser that reads what others wrote, each as one function of bytes."""

from __future__ import annotations

from fuzz import governed, history, machine, proofs, readers

TARGETS = {
    target.name: target
    for target in (
        *governed.TARGETS,
        *readers.TARGETS,
        *proofs.TARGETS,
        *history.TARGETS,
        *machine.TARGETS,
    )
}
"""By name."""
