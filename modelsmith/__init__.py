"""Modelsmith: a promotion repository for domain-specialist language models."""

__version__ = "0.1.0"
