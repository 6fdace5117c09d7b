"""What is fuzzed: every parser that reads what others wrote, each as one function of bytes."""

from __future__ import annotations

from fuzz import commandline, governed, history, machine, proofs, readers, runbooks, unkeyed

PARSERS = {
    target.name: target
    for target in (
        *governed.TARGETS,
        *readers.TARGETS,
        *proofs.TARGETS,
        *unkeyed.TARGETS,
        *history.TARGETS,
        *machine.TARGETS,
        *runbooks.TARGETS,
    )
}
"""By name."""
TARGETS = PARSERS | {target.name: target for target in commandline.TARGETS}
"""The parsers, and the command line."""
