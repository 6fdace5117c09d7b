"""What is fuzzed: every parser that reads what others wrote, each as one function of bytes."""

from __future__ import annotations

from fuzz import governed, history, machine, proofs

TARGETS = {target.name: target for target in (*governed.TARGETS, *proofs.TARGETS, *history.TARGETS, *machine.TARGETS)}
"""By name."""
