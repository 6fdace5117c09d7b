"""Eval, diagnose, post-train, promote; resumable after every phase."""
