"""Checks, scores, statistics, the headline, and the engine that asks the questions."""
